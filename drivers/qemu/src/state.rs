//! The states of a guest, and the events of their changes. Numbers are those of `libvirt/libvirt-domain.h`.

use virtwire_protocol::remote::{
    DomainEventCallbackLifecycleMsg, DomainEventCallbackRebootMsg, DomainEventLifecycleMsg,
    DomainEventRebootMsg, Event, NonnullDomain,
};

/// A state and why (`virDomainState` and its reasons).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// `VIR_DOMAIN_…`
    pub(crate) state: i32,
    /// `VIR_DOMAIN_…_…`, whose meaning depends on the state.
    pub(crate) reason: i32,
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $state:literal $reason:literal $word:literal $why:literal;)*) => {
        impl State {
            $($(#[$doc])* pub(crate) const $name: Self = Self { state: $state, reason: $reason };)*

            /// libvirt's words for it, as in its status files.
            pub(crate) fn words(self) -> (&'static str, &'static str) {
                match (self.state, self.reason) {
                    $(($state, $reason) => ($word, $why),)*
                    _ => ("nostate", "unknown"),
                }
            }

            /// The state of these words.
            pub(crate) fn from_words(state: &str, reason: &str) -> Option<Self> {
                match (state, reason) {
                    $(($word, $why) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

states! {
    /// Started.
    RUNNING_BOOTED = 1 1 "running" "booted";
    /// Its memory came out of a file.
    RUNNING_RESTORED = 1 3 "running" "restored";
    /// Went back to a snapshot.
    RUNNING_FROM_SNAPSHOT = 1 4 "running" "from snapshot";
    /// Was not saved after all.
    RUNNING_SAVE_CANCELED = 1 7 "running" "save canceled";
    /// Resumed.
    RUNNING_UNPAUSED = 1 5 "running" "unpaused";
    /// Reset after a crash.
    RUNNING_CRASHED = 1 9 "running" "crashed";
    /// Came from another host.
    RUNNING_MIGRATED = 1 2 "running" "migrated";
    /// Did not go to another host after all.
    RUNNING_MIGRATION_CANCELED = 1 6 "running" "migration canceled";
    /// Came from another host, where some of its memory still is.
    RUNNING_POSTCOPY = 1 10 "running" "post-copy";
    /// Came from another host, where some of its memory still is, without a way to it.
    RUNNING_POSTCOPY_FAILED = 1 11 "running" "post-copy failed";
    /// Woken up.
    RUNNING_WAKEUP = 1 8 "running" "wakeup";
    /// Stopped for nobody knows what.
    PAUSED_UNKNOWN = 3 0 "paused" "unknown";
    /// Suspended by a client, or started that way.
    PAUSED_USER = 3 1 "paused" "user";
    /// Goes to another host or comes from one, or its memory came out of a file.
    PAUSED_MIGRATION = 3 2 "paused" "migration";
    /// Being saved.
    PAUSED_SAVE = 3 3 "paused" "save";
    /// Its memory is put into a file for others to look at.
    PAUSED_DUMP = 3 4 "paused" "dump";
    /// Its memory goes into a snapshot.
    PAUSED_SNAPSHOT = 3 9 "paused" "creating snapshot";
    /// Went back to a snapshot.
    PAUSED_FROM_SNAPSHOT = 3 7 "paused" "from snapshot";
    /// Stopped by an I/O error.
    PAUSED_IOERROR = 3 5 "paused" "ioerror";
    /// Stopped by its watchdog.
    PAUSED_WATCHDOG = 3 6 "paused" "watchdog";
    /// Its kernel gave up.
    PAUSED_CRASHED = 3 10 "paused" "crashed";
    /// Runs on another host, and some of its memory is still here.
    PAUSED_POSTCOPY = 3 12 "paused" "post-copy";
    /// Runs on another host, and some of its memory is still here, without a way there.
    PAUSED_POSTCOPY_FAILED = 3 13 "paused" "post-copy failed";
    /// Being started.
    PAUSED_STARTING_UP = 3 11 "paused" "starting up";
    /// Has powered off; QEMU is about to end.
    SHUTDOWN_UNKNOWN = 4 0 "shutdown" "unknown";
    /// Nobody knows.
    SHUTOFF_UNKNOWN = 5 0 "shutoff" "unknown";
    /// Has powered off.
    SHUTOFF_SHUTDOWN = 5 1 "shutoff" "shutdown";
    /// Destroyed by a client.
    SHUTOFF_DESTROYED = 5 2 "shutoff" "destroyed";
    /// QEMU ended without a word.
    SHUTOFF_CRASHED = 5 3 "shutoff" "crashed";
    /// Its memory is in a file.
    SHUTOFF_SAVED = 5 5 "shutoff" "saved";
    /// Runs on another host.
    SHUTOFF_MIGRATED = 5 4 "shutoff" "migrated";
    /// Went back to a snapshot.
    SHUTOFF_FROM_SNAPSHOT = 5 7 "shutoff" "from snapshot";
    /// Could not be started.
    SHUTOFF_FAILED = 5 6 "shutoff" "failed";
    /// Its kernel gave up, and it was kept.
    CRASHED_PANICKED = 6 1 "crashed" "panicked";
    /// Sleeps.
    PMSUSPENDED = 7 0 "pmsuspended" "unknown";
}

impl State {
    /// Whether its CPUs run.
    pub(crate) fn runs(self) -> bool {
        self.state == Self::RUNNING_BOOTED.state
    }
}

/// What has happened to a guest: event and detail (`virDomainEventType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle(i32, i32);

impl Lifecycle {
    pub(crate) const DEFINED_ADDED: Self = Self(0, 0);
    pub(crate) const DEFINED_UPDATED: Self = Self(0, 1);
    pub(crate) const DEFINED_RENAMED: Self = Self(0, 2);
    pub(crate) const DEFINED_FROM_SNAPSHOT: Self = Self(0, 3);
    pub(crate) const UNDEFINED_REMOVED: Self = Self(1, 0);
    pub(crate) const UNDEFINED_RENAMED: Self = Self(1, 1);
    pub(crate) const STARTED_BOOTED: Self = Self(2, 0);
    pub(crate) const STARTED_MIGRATED: Self = Self(2, 1);
    pub(crate) const STARTED_RESTORED: Self = Self(2, 2);
    pub(crate) const STARTED_FROM_SNAPSHOT: Self = Self(2, 3);
    pub(crate) const SUSPENDED_PAUSED: Self = Self(3, 0);
    pub(crate) const SUSPENDED_MIGRATED: Self = Self(3, 1);
    pub(crate) const SUSPENDED_IOERROR: Self = Self(3, 2);
    pub(crate) const SUSPENDED_WATCHDOG: Self = Self(3, 3);
    pub(crate) const SUSPENDED_RESTORED: Self = Self(3, 4);
    pub(crate) const SUSPENDED_FROM_SNAPSHOT: Self = Self(3, 5);
    pub(crate) const SUSPENDED_POSTCOPY: Self = Self(3, 7);
    pub(crate) const SUSPENDED_POSTCOPY_FAILED: Self = Self(3, 8);
    pub(crate) const RESUMED_UNPAUSED: Self = Self(4, 0);
    pub(crate) const RESUMED_MIGRATED: Self = Self(4, 1);
    pub(crate) const RESUMED_FROM_SNAPSHOT: Self = Self(4, 2);
    pub(crate) const RESUMED_POSTCOPY: Self = Self(4, 3);
    pub(crate) const RESUMED_POSTCOPY_FAILED: Self = Self(4, 4);
    pub(crate) const STOPPED_SHUTDOWN: Self = Self(5, 0);
    pub(crate) const STOPPED_DESTROYED: Self = Self(5, 1);
    pub(crate) const STOPPED_CRASHED: Self = Self(5, 2);
    pub(crate) const STOPPED_MIGRATED: Self = Self(5, 3);
    pub(crate) const STOPPED_SAVED: Self = Self(5, 4);
    pub(crate) const STOPPED_FAILED: Self = Self(5, 5);
    pub(crate) const STOPPED_FROM_SNAPSHOT: Self = Self(5, 6);
    pub(crate) const SHUTDOWN_GUEST: Self = Self(6, 1);
    pub(crate) const SHUTDOWN_HOST: Self = Self(6, 2);
    pub(crate) const PMSUSPENDED_MEMORY: Self = Self(7, 0);
    pub(crate) const PMSUSPENDED_DISK: Self = Self(7, 1);
    pub(crate) const CRASHED_PANICKED: Self = Self(8, 0);
    pub(crate) const CRASHED_CRASHLOADED: Self = Self(8, 1);

    /// Whether a guest has started.
    pub(crate) fn is_start(&self) -> bool {
        self.0 == 2
    }

    /// Why a guest started or stopped, in libvirt's words (`VIR_DOMAIN_EVENT_STARTED_…`, `…_STOPPED_…`).
    pub(crate) fn reason(self) -> &'static str {
        let words: &[&str] = match self.0 {
            2 => &["booted", "migrated", "restored", "from-snapshot", "wakeup"],
            5 => &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot"],
            _ => &[],
        };
        usize::try_from(self.1).ok().and_then(|detail| words.get(detail)).copied().unwrap_or("unknown")
    }

    /// The event about a guest.
    pub(crate) fn of(self, dom: NonnullDomain) -> Event {
        let msg = DomainEventLifecycleMsg { dom, event: self.0, detail: self.1 };
        Event::DomainLifecycle(DomainEventCallbackLifecycleMsg { callback_id: 0, msg })
    }
}

/// The event of a guest that was reset.
pub(crate) fn reboot(dom: NonnullDomain) -> Event {
    Event::DomainReboot(DomainEventCallbackRebootMsg { callback_id: 0, msg: DomainEventRebootMsg { dom } })
}
