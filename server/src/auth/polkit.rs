//! polkit: the host's policy decides whether a local process may use a socket.
//!
//! The authority on the system bus is asked, as libvirt asks it: the same actions, subject and flags, and the same
//! texts where it says no.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use virtwire_driver_api::Peer;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use zbus::{Connection, DBusError, Error, Variant, connection};

use crate::config::Access;

/// The authority's name on the bus.
const NAME: &str = "org.freedesktop.PolicyKit1";
/// The object it answers at.
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
/// What the object speaks.
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
/// `AllowUserInteraction`: somebody may be asked for a password.
const ALLOW_USER_INTERACTION: u32 = 1;
/// What the bus itself may take to answer.
const BUS: Duration = Duration::from_secs(5);

/// What a client of a socket does, in polkit's words.
pub(crate) fn action(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "org.libvirt.unix.monitor",
        Access::ReadWrite => "org.libvirt.unix.manage",
    }
}

/// When a process was started, in clock ticks since the host was. With its id it is one process for ever.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    start_time_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The same, from the text of `/proc/PID/stat`. The program's name in it may hold anything.
fn start_time_in(stat: &str) -> Option<u64> {
    let behind_name = stat.rsplit_once(')')?.1;
    behind_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process may do something.
pub(crate) struct Question<'a> {
    /// The process, and the user that the socket had when it was connected: a process that has become another's since,
    /// or another of the same id, is judged by that user's rights.
    pub(crate) peer: Peer,
    /// When it was started.
    pub(crate) started: u64,
    /// In polkit's words.
    pub(crate) action: &'a str,
    /// To what.
    pub(crate) details: HashMap<&'a str, &'a str>,
    /// Whether somebody may be asked for a password meanwhile.
    pub(crate) interactive: bool,
    /// How long the answer may take.
    pub(crate) patience: Option<Duration>,
}

/// The authority. The connection to its bus is kept for the next question.
#[derive(Debug, Default)]
pub(crate) struct Authority {
    bus: Mutex<Option<Connection>>,
}

impl Authority {
    /// Asks. An error is a no, and says why.
    pub(crate) async fn check(&self, question: Question<'_>) -> Result<(), VirtError> {
        let Some(answer) = within(question.patience, self.ask(&question)).await else {
            return Err(ErrorDomain::POLKIT.auth_unavailable("the authority does not answer"));
        };
        judge(answer?, question.action)
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Verdict, VirtError> {
        let kept = self.kept().take();
        if let Some(bus) = kept {
            match self.ask_on(bus, question).await {
                // The bus was started anew, most likely.
                Err(error) if !matches!(error, Error::MethodError(..)) => {}
                answer => return answer.map_err(|error| service_error(&error)),
            }
        }
        let bus = bus().await?;
        self.ask_on(bus, question).await.map_err(|error| service_error(&error))
    }

    async fn ask_on(&self, bus: Connection, question: &Question<'_>) -> Result<Verdict, Error> {
        let who: HashMap<_, Variant<'_>> = HashMap::from([
            ("pid", (question.peer.pid as u32).into()),
            ("start-time", question.started.into()),
            ("uid", (question.peer.uid as i32).into()),
        ]);
        let flags = if question.interactive { ALLOW_USER_INTERACTION } else { 0 };
        let words = (("unix-process", who), question.action, &question.details, flags, "");
        let answer = bus.call_method(Some(NAME), PATH, Some(INTERFACE), "CheckAuthorization", &words).await;
        *self.kept() = Some(bus);
        answer?.body().deserialize::<Verdict>()
    }

    fn kept(&self) -> MutexGuard<'_, Option<Connection>> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Authorized, whether somebody would have to be asked, and details.
type Verdict = (bool, bool, HashMap<String, String>);

fn judge((authorized, challenge, details): Verdict, action: &str) -> Result<(), VirtError> {
    if authorized {
        Ok(())
    } else if details.contains_key("polkit.dismissed") {
        Err(ErrorDomain::POLKIT.auth_cancelled("user cancelled authentication process"))
    } else if challenge {
        let text = format_args!("no polkit agent available to authenticate action '{action}'");
        Err(ErrorDomain::POLKIT.auth_unavailable(text))
    } else {
        Err(ErrorDomain::POLKIT.auth_failed("access denied by policy"))
    }
}

/// Waits no longer than that; `None` in the result says that it was too long.
async fn within<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
}

/// A new connection to the bus.
async fn bus() -> Result<Connection, VirtError> {
    let reason = match within(Some(BUS), connection::Builder::system().build()).await {
        Some(Ok(bus)) => return Ok(bus),
        Some(Err(error)) => format!("Could not connect: {}", cause(&error)),
        None => "Timeout was reached".to_owned(),
    };
    let text = format_args!("Unable to get system bus connection: {reason}");
    Err(ErrorDomain::DBUS.internal_error(text))
}

/// What is at the bottom of an error; of one of the system the meaning only.
fn cause(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

/// An answer that is an error, in the words of libvirt's D-Bus library.
fn service_error(error: &Error) -> VirtError {
    let text =
        |name: &str, detail: Option<&str>| format!("GDBus.Error:{name}: {}", detail.unwrap_or_default());
    let text = match error {
        Error::MethodError(name, detail, _) => text(name, detail.as_deref()),
        Error::FDO(known) => text(&known.name(), known.description()),
        other => other.to_string(),
    };
    ErrorDomain::DBUS.dbus_service(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_whatever_its_name() {
        let rest = "S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 2703158 1 2 3";
        for name in ["sh", "a b", ") 1 2 3 (", "()"] {
            assert_eq!(start_time_in(&format!("42 ({name}) {rest}")), Some(2_703_158), "{name}");
        }
        assert_eq!((start_time_in(""), start_time_in("1 (x) S 1"), start_time(-1)), (None, None, None));
        assert!(start_time(std::process::id() as i32).is_some());
    }
}
