//! What happens to guests.

use virtwire_protocol::remote;

use super::Domain;
use super::table::object;
use crate::{Connection, Error, Event, EventStream};

/// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`
const LIFECYCLE: i32 = 0;

/// What happened to a guest's life: `virDomainEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// It was defined, or its definition was changed.
    Defined,
    /// Its definition was removed.
    Undefined,
    /// It was started.
    Started,
    /// It was paused.
    Suspended,
    /// It goes on.
    Resumed,
    /// It has ended.
    Stopped,
    /// It has shut down.
    Shutdown,
    /// It has gone to sleep.
    PmSuspended,
    /// It has crashed.
    Crashed,
    /// What later versions of libvirt have, by number.
    Other(i32),
}

/// Names as virsh has them, by number.
const LIFECYCLES: [(Lifecycle, &str); 9] = [
    (Lifecycle::Defined, "Defined"),
    (Lifecycle::Undefined, "Undefined"),
    (Lifecycle::Started, "Started"),
    (Lifecycle::Suspended, "Suspended"),
    (Lifecycle::Resumed, "Resumed"),
    (Lifecycle::Stopped, "Stopped"),
    (Lifecycle::Shutdown, "Shutdown"),
    (Lifecycle::PmSuspended, "PMSuspended"),
    (Lifecycle::Crashed, "Crashed"),
];

impl From<i32> for Lifecycle {
    fn from(number: i32) -> Self {
        let known = usize::try_from(number).ok().and_then(|number| LIFECYCLES.get(number));
        known.map_or(Self::Other(number), |(known, _)| *known)
    }
}

impl std::fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match LIFECYCLES.iter().find(|(known, _)| known == self) {
            Some((_, name)) => f.pad(name),
            None => f.pad("Changed"),
        }
    }
}

/// One event of a guest's life.
#[derive(Clone, Debug)]
pub struct LifecycleEvent {
    /// The guest.
    pub domain: Domain,
    /// What happened to it.
    pub what: Lifecycle,
    /// More about it, `virDomainEvent…DetailType`; [`Lifecycle::reason`] has it in words.
    pub detail: i32,
}

/// Why it happened, by the number of the detail: `virDomainEvent…DetailType`.
const REASONS: &[(Lifecycle, &[&str])] = &[
    (Lifecycle::Defined, &["added", "updated", "renamed", "from snapshot"]),
    (Lifecycle::Undefined, &["removed", "renamed"]),
    (Lifecycle::Started, &["booted", "migrated", "restored", "from snapshot", "woken up", "recovered"]),
    (
        Lifecycle::Suspended,
        &[
            "paused",
            "migrated",
            "I/O error",
            "watchdog",
            "restored",
            "from snapshot",
            "API error",
            "post-copy",
            "post-copy failed",
        ],
    ),
    (Lifecycle::Resumed, &["unpaused", "migrated", "from snapshot", "post-copy", "post-copy failed"]),
    (
        Lifecycle::Stopped,
        &["shut down", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "recovered"],
    ),
    (Lifecycle::Shutdown, &["finished", "by the guest", "by the host"]),
    (Lifecycle::PmSuspended, &["to memory", "to disk"]),
    (Lifecycle::Crashed, &["panicked", "crash kernel"]),
];

impl Lifecycle {
    /// Why it happened, in words: `paused`, `I/O error`; `None` for details that later versions of libvirt have.
    pub fn reason(self, detail: i32) -> Option<&'static str> {
        let (_, reasons) = REASONS.iter().find(|(what, _)| *what == self)?;
        reasons.get(usize::try_from(detail).ok()?).copied()
    }
}

/// Events of guests' lives. Dropping it ends the registration.
#[derive(Debug)]
pub struct DomainEvents {
    connection: Connection,
    stream: EventStream,
}

impl DomainEvents {
    pub(super) async fn register(
        connection: &Connection,
        of: Option<&remote::NonnullDomain>,
    ) -> Result<Self, Error> {
        let stream = connection.register_domain_event(LIFECYCLE, of).await?;
        Ok(Self { connection: connection.clone(), stream })
    }

    /// The next event; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<LifecycleEvent> {
        loop {
            if let Event::Remote(remote::Event::DomainLifecycle(event)) = self.stream.next().await? {
                let (what, detail) = (event.msg.event.into(), event.msg.detail);
                return Some(LifecycleEvent {
                    domain: object(&self.connection, event.msg.dom),
                    what,
                    detail,
                });
            }
        }
    }

    /// How many events were lost since they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.stream.lost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_have_words_where_they_are_known() {
        assert_eq!(Lifecycle::Suspended.reason(2), Some("I/O error"));
        assert_eq!(Lifecycle::Stopped.reason(1), Some("destroyed"));
        assert_eq!(Lifecycle::Undefined.reason(99), None);
        assert_eq!(Lifecycle::Other(77).reason(0), None);
    }
}
