//! How often clients were at a limit: every limit that costs a client something is counted here.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $limit:ident = $name:literal;)*) => {
        /// A limit, by what a client has too much of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Limit {
            $($(#[doc = $doc])+ $limit,)*
        }

        /// Their names, those of settings where there is one.
        const NAMES: &[&str] = &[$($name),*];
    };
}

limits! {
    /// A client had to wait for another to leave.
    Clients = "max_clients";
    /// A client was dropped for one that came after it.
    Anonymous = "max_anonymous_clients";
    /// A client did not authenticate in time.
    AuthTimeout = "auth_timeout";
    /// As many calls of a client waited as may, and nothing more was read from it.
    Requests = "max_client_requests";
    /// A call had more arguments than one may have, and was refused.
    CallArguments = "max_call_arguments";
    /// A large call had to wait for others.
    LargeCalls = "max_large_calls";
    /// A client took no events, and was disconnected.
    EventBacklog = "max_client_event_backlog";
    /// A client was refused one more registration for events.
    Registrations = "max_client_registrations";
    /// A frame was longer than it may be, or nonsense; its client was disconnected.
    Frame = "frame";
    /// A client answered no pings, and was disconnected.
    Keepalive = "keepalive_count";
}

/// The counts of a server, since the daemon was started.
#[derive(Debug, Default)]
pub(crate) struct Reached([AtomicU64; NAMES.len()]);

impl Reached {
    /// A client was at a limit.
    pub(crate) fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All limits by name, and how often clients were there.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().zip(&self.0).map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
    }
}
