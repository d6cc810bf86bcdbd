//! A guest's agent: a program in the guest that does what only it can do there.
//!
//! Nobody but those who ask it waits for it, and not even they when it goes. What it answers is what the guest likes to
//! say: [`ask`] takes no more than fits the shape that is expected.

mod files;
mod info;
mod network;
mod power;
mod time;
mod users;
mod vcpus;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::Channel as Port;
use virtwire_conf::domain::device::DeviceInfo;
use virtwire_protocol::VirtError;
use virtwire_protocol::qemu::{DomainAgentCommandArgs, DomainAgentCommandRet};
use virtwire_protocol::remote::*;
use virtwire_qmp::ProtocolError;
use virtwire_qmp::agent::{Agent, AgentError, Patience};

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;
use crate::process::connect;

pub(crate) use files::{freeze_all, fsfreeze, fsinfo, fsthaw, fstrim, thaw_all};
pub(crate) use info::guest_info;
pub(crate) use network::{hostname, interface_addresses};
pub(crate) use power::{Way, pm_suspend, shut_down};
pub(crate) use time::{set_time, time};
pub(crate) use users::{set_ssh_keys, set_user_password, ssh_keys};
pub(crate) use vcpus::{count as count_vcpus, guest_vcpus, set_count as set_vcpu_count, set_guest_vcpus};

/// The name of the agent's port.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";

/// Seconds that an agent may take to say that it is there, and to answer where the usual time is asked for
/// (`VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT`).
const USUAL: u64 = 5;
/// However long it takes (`VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK`).
pub(crate) const BLOCK: i32 = -2;
/// The usual time (`VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT`).
const DEFAULT: i32 = -1;
/// How long one client waits for another's answer.
const TURN: Duration = Duration::from_secs(30);

/// The host's end of a guest's agent.
#[derive(Default)]
pub(crate) struct Channel {
    /// Held while the agent is asked.
    turn: tokio::sync::Mutex<Option<Agent>>,
    health: Mutex<Health>,
    /// Counts how often the port was opened or closed, or the guest went.
    changes: watch::Sender<u64>,
    /// Counts what the guest did that can be an answer: [`Deed`] by [`Deed`].
    deeds: watch::Sender<[u64; 3]>,
}

#[derive(Default)]
struct Health {
    /// Who asks (a procedure).
    asks: &'static str,
    /// Why the agent is not asked any more until its port is opened again.
    over: Option<Over>,
}

/// Why an agent is not asked any more.
#[derive(Clone, Copy)]
enum Over {
    /// It closed the connection.
    Closed,
    /// What it said made no sense.
    Broken,
}

/// What a guest does instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    ShutDown,
    Reset,
    Sleep,
}

impl Channel {
    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port was opened or closed, or there is no guest any more: whoever is asked now will not answer.
    pub(crate) fn changed(&self) {
        self.health().over = None;
        self.changes.send_modify(|count| *count += 1);
    }

    /// The guest does something.
    pub(crate) fn does(&self, deed: Deed) {
        self.deeds.send_modify(|counts| {
            if let Some(count) = counts.get_mut(deed as usize) {
                *count += 1;
            }
        });
    }

    /// Whether an agent could be asked, of a guest that has a port for one.
    fn check(&self) -> Result<()> {
        match self.health().over {
            None => Ok(()),
            Some(Over::Closed) => Err(not_connected()),
            Some(Over::Broken) => {
                Err(QEMU.agent_unresponsive("QEMU guest agent is not available due to an error"))
            }
        }
    }
}

fn not_connected() -> VirtError {
    QEMU.agent_unresponsive("QEMU guest agent is not connected")
}

/// The ports of a guest that its agent would have open.
pub(crate) fn agent_ports(domain: &Domain) -> impl Iterator<Item = &DeviceInfo> {
    ports(domain).map(|port| &port.info)
}

fn ports(domain: &Domain) -> impl Iterator<Item = &Port> {
    let named =
        |port: &&Port| port.target.as_ref().is_some_and(|target| target.name.as_deref() == Some(AGENT_PORT));
    domain.devices.channels.iter().filter(named)
}

/// Whether a guest could have an agent.
pub(crate) fn has_agent(domain: &Domain) -> bool {
    ports(domain).next().is_some()
}

/// Where a running guest's agent is to be had.
///
/// # Errors
/// It cannot be asked, and why: nobody in a paused guest would answer.
fn place(guest: &Guest) -> Result<PathBuf> {
    let live = guest.live()?;
    if !guest.lock().state.runs() {
        return Err(QEMU.operation_invalid("domain is not running"));
    }
    let none = || QEMU.argument_unsupported("QEMU guest agent is not configured");
    let port = ports(&live.domain).next().ok_or_else(none)?;
    guest.agent.check()?;
    let is_open = port.target.as_ref().is_some_and(|target| target.state.as_deref() == Some("connected"));
    let path = port.chardev.source.first().and_then(|source| source.path.as_ref());
    path.filter(|_| is_open).map(PathBuf::from).ok_or_else(not_connected)
}

/// Whether a guest's agent can be asked.
///
/// # Errors
/// Why not.
pub(crate) fn check(guest: &Guest) -> Result<()> {
    place(guest).map(drop)
}

/// The same where the driver itself says that a guest is off.
fn check_by_driver(guest: &Guest) -> Result<()> {
    guest.live().map_err(|_| QEMU.operation_invalid("domain is not running"))?;
    check(guest)
}

/// Asks a guest's agent for `procedure`, as long as the guest's setting says.
///
/// # Errors
/// The agent cannot be asked, does not answer, refuses, or answers nonsense.
async fn ask<T: DeserializeOwned>(
    guest: &Guest,
    procedure: &'static str,
    command: &str,
    arguments: Value,
) -> Result<T> {
    let seconds = guest.lock().agent_timeout;
    let mut whole = json!({"execute": command});
    if !arguments.is_null() {
        whole["arguments"] = arguments;
    }
    let answer = exchange(guest, procedure, &whole, seconds).await?;
    serde_json::from_str(answer.get()).map_err(|error| {
        QEMU.internal_error(format_args!("guest agent's reply to '{command}' is malformed: {error}"))
    })
}

/// How long an agent may take, in libvirt's numbers.
fn patience(seconds: i32) -> Patience {
    let given = u64::try_from(seconds).ok();
    let sync = given.filter(|seconds| (1..USUAL).contains(seconds)).unwrap_or(USUAL);
    let answer = match seconds {
        DEFAULT => Some(USUAL),
        _ => given,
    };
    Patience { sync: Duration::from_secs(sync), answer: answer.map(Duration::from_secs) }
}

/// One command and its answer; whoever comes meanwhile waits for a turn.
async fn exchange(
    guest: &Guest,
    procedure: &'static str,
    command: &Value,
    seconds: i32,
) -> Result<Box<RawValue>> {
    check(guest)?;
    let channel = &guest.agent;
    let mut turn = tokio::time::timeout(TURN, channel.turn.lock()).await.map_err(|_| {
        let asks = channel.health().asks;
        QEMU.operation_timeout(format_args!(
            "cannot acquire state change lock (held by agent=remoteDispatch{asks})"
        ))
    })?;
    let path = place(guest)?;
    channel.health().asks = procedure;
    let mut changes = channel.changes.subscribe();
    // Left behind by a port that has been closed since, or by a client that did not wait: there is a new one then.
    let before = turn.take();
    let talk = async {
        let mut agent = match before {
            Some(agent) => agent,
            None => Agent::on(connect(&path).await?),
        };
        let answer = agent.execute(command, patience(seconds)).await;
        Ok((answer, agent))
    };
    let talked = tokio::select! {
        biased;
        talked = talk => talked,
        _ = changes.changed() => {
            let text = "guest agent disappeared while executing command";
            return Err(QEMU.agent_unresponsive(text));
        }
    };
    let answer = match talked {
        Ok((answer, agent)) => {
            if answer.as_ref().map_or_else(AgentError::leaves_connection, |_| true) {
                *turn = Some(agent);
            }
            answer
        }
        Err(error) => Err(error),
    };
    answer.map_err(|error| {
        match &error {
            AgentError::Closed => channel.health().over = Some(Over::Closed),
            AgentError::Protocol(_) | AgentError::Io(_) => channel.health().over = Some(Over::Broken),
            AgentError::Command(_) | AgentError::NotThere(_) | AgentError::Silent(_) => {}
        }
        said(error)
    })
}

/// In libvirt's words.
fn said(error: AgentError) -> VirtError {
    match error {
        AgentError::Command(error) => {
            let command = if error.command.is_empty() { "<unknown>" } else { &error.command };
            let text = format_args!("unable to execute QEMU agent command '{command}': {}", error.desc);
            QEMU.agent_command_failed(text)
        }
        AgentError::NotThere(limit) => QEMU.agent_unresponsive(format_args!(
            "guest agent didn't respond to synchronization within '{}' seconds",
            limit.as_secs()
        )),
        AgentError::Silent(limit) => QEMU.agent_command_timeout(format_args!(
            "guest agent didn't respond to command within '{}' seconds",
            limit.as_secs()
        )),
        AgentError::Closed => QEMU.internal_error("End of file from agent socket"),
        AgentError::Protocol(ProtocolError::LineTooLong { limit }) => {
            const ERANGE: i32 = 34;
            let text = format_args!("No complete agent response found in {limit} bytes");
            VirtError::system(QEMU, &std::io::Error::from_raw_os_error(ERANGE), text)
        }
        AgentError::Protocol(error) => QEMU.internal_error(format_args!("failed to parse JSON: {error}")),
        AgentError::Io(error) => VirtError::system(QEMU, &error, "unable to talk to the guest agent"),
    }
}

/// A list of the agent's, as long as the wire carries.
fn bounded<T>(list: Vec<T>, most: u32, what: &str) -> Result<Vec<T>> {
    match list.len() > most as usize {
        true => {
            Err(QEMU.internal_error(format_args!("Too many {what} from the guest agent: {}", list.len())))
        }
        false => Ok(list),
    }
}

/// A client's own words to the agent.
pub(crate) async fn command(driver: &Qemu, args: DomainAgentCommandArgs) -> Result<DomainAgentCommandRet> {
    check_flags(args.flags, 0, "qemuDomainQemuAgentCommand")?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let text = args.cmd.to_str_lossy();
    let whole: Value = serde_json::from_str(&text)
        .map_err(|error| QEMU.internal_error(format_args!("failed to parse JSON: {error}")))?;
    if args.timeout < BLOCK {
        let text = format_args!("guest agent timeout '{}' is less than the minimum '{BLOCK}'", args.timeout);
        return Err(QEMU.invalid_arg(text));
    }
    let answer = exchange(&guest, "DomainQemuAgentCommand", &whole, args.timeout).await?;
    let answer: Value = serde_json::from_str(answer.get()).map_err(|error| QEMU.internal_error(error))?;
    let result = format!("{{\"return\":{answer}}}");
    Ok(DomainAgentCommandRet { result: Some(result.as_str().into()) })
}

/// How long the agent of a guest may take from now on.
pub(crate) async fn set_response_timeout(
    driver: &Qemu,
    args: DomainAgentSetResponseTimeoutArgs,
) -> Result<DomainAgentSetResponseTimeoutRet> {
    check_flags(args.flags, 0, "qemuDomainAgentSetResponseTimeout")?;
    let guest = driver.guest(&args.dom)?;
    if args.timeout < BLOCK {
        let text = format_args!("guest agent timeout '{}' is less than the minimum '{BLOCK}'", args.timeout);
        return Err(QEMU.invalid_arg(text));
    }
    guest.lock().agent_timeout = args.timeout;
    Ok(DomainAgentSetResponseTimeoutRet { result: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_libvirts() {
        let of = |seconds| {
            let Patience { sync, answer } = patience(seconds);
            (sync.as_secs(), answer.map(|limit| limit.as_secs()))
        };
        assert_eq!(of(BLOCK), (5, None));
        assert_eq!(of(DEFAULT), (5, Some(5)));
        assert_eq!((of(0), of(2), of(60)), ((5, Some(0)), (2, Some(2)), (5, Some(60))));
    }

    #[test]
    fn an_agent_is_asked_no_more_until_its_port_is_opened_again() {
        let channel = Channel::default();
        assert!(channel.check().is_ok());
        for over in [Over::Closed, Over::Broken] {
            channel.health().over = Some(over);
            assert_eq!(channel.check().unwrap_err().code.0, 86);
            channel.changed();
            assert!(channel.check().is_ok());
        }
    }
}
