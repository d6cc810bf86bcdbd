//! The guest ends, begins again or sleeps because its agent was asked to: it does so instead of answering.

use serde_json::{Value, json};
use virtwire_protocol::remote::DomainPmSuspendForDurationArgs;

use super::{Deed, ask, check};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;

/// How a guest is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Off,
    Again,
}

/// Has the agent end the guest, and waits until it begins to.
///
/// # Errors
/// What the agent says.
pub(crate) async fn shut_down(guest: &Guest, way: Way) -> Result<()> {
    let (procedure, mode, deed) = match way {
        Way::Off => ("DomainShutdownFlags", "powerdown", Deed::ShutDown),
        Way::Again => ("DomainReboot", "reboot", Deed::Reset),
    };
    until(guest, procedure, "guest-shutdown", json!({"mode": mode}), deed).await
}

/// Asks until there is an answer, or the guest has done what it was asked for.
async fn until(
    guest: &Guest,
    procedure: &'static str,
    command: &str,
    arguments: Value,
    deed: Deed,
) -> Result<()> {
    let mut deeds = guest.agent.deeds.subscribe();
    let count = |counts: &[u64; 3]| counts.get(deed as usize).copied();
    let before = count(&deeds.borrow_and_update());
    let done = async {
        // The counter lives as long as the guest.
        let _ = deeds.wait_for(|counts| count(counts) != before).await;
    };
    tokio::select! {
        biased;
        () = done => Ok(()),
        answer = ask::<Value>(guest, procedure, command, arguments) => answer.map(drop),
    }
}

/// `VIR_NODE_SUSPEND_TARGET_…`
const TARGETS: &[&str] = &["guest-suspend-ram", "guest-suspend-disk", "guest-suspend-hybrid"];

pub(crate) async fn pm_suspend(driver: &Qemu, args: DomainPmSuspendForDurationArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainPMSuspendForDuration")?;
    if args.duration != 0 {
        return Err(QEMU.argument_unsupported("Duration not supported. Use 0 for now"));
    }
    let unknown = || QEMU.invalid_arg(format_args!("Unknown suspend target: {}", args.target));
    let command = TARGETS.get(args.target as usize).ok_or_else(unknown)?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    until(&guest, "DomainPMSuspendForDuration", command, Value::Null, Deed::Sleep).await
}
