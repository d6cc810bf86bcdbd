//! Why connections end.

use std::sync::Arc;

use tokio::sync::watch;
use virtwire_protocol::remote::{PROGRAM, Procedure};

use crate::call::{self, Call, Request};
use crate::link::{Link, Purpose};
use crate::{Connection, Error};

/// Why a connection has ended: `virConnectCloseReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The socket failed, or the daemon did not keep to the protocol.
    Error,
    /// The daemon has ended the connection.
    Eof,
    /// The daemon has not answered pings.
    Keepalive,
    /// We have ended it.
    Client,
}

/// Whom to tell when a connection ends.
pub(crate) type OnClose = Box<dyn FnOnce(CloseReason, &Error) + Send>;

impl CloseReason {
    /// What an error that has ended a connection comes from.
    pub(crate) fn of(error: &Error, leaving: bool) -> Self {
        match error {
            _ if leaving => Self::Client,
            Error::Silent => Self::Keepalive,
            Error::Closed => Self::Eof,
            _ => Self::Error,
        }
    }
}

impl Connection {
    /// Watches the daemon's own connection to its hypervisor, which may end while ours to the daemon goes on. A
    /// connection is watched once; a second time is an error of the daemon's.
    ///
    /// # Errors
    /// The daemon refuses, or has never heard of it.
    pub async fn watch_hypervisor(&self) -> Result<HypervisorWatch, Error> {
        // The daemon may tell before it has answered.
        let reason = self.link().hypervisor();
        self.connect_register_close_callback().await?;
        Ok(HypervisorWatch { link: Arc::clone(self.link()), reason })
    }
}

/// Whether the daemon still has its hypervisor. Dropping it ends the watching.
pub struct HypervisorWatch {
    link: Arc<Link>,
    reason: watch::Receiver<Option<i32>>,
}

impl HypervisorWatch {
    /// Waits until the daemon has lost its hypervisor, and says why.
    ///
    /// # Errors
    /// Our connection to the daemon has ended first.
    pub async fn closed(&mut self) -> Result<CloseReason, Error> {
        let reason = tokio::select! {
            reason = self.reason.wait_for(Option::is_some) => reason.ok().and_then(|reason| *reason),
            end = self.link.ended() => return Err(end),
        };
        // 0 is an error, as is what newer daemons may say.
        Ok(match reason {
            Some(1) => CloseReason::Eof,
            Some(2) => CloseReason::Keepalive,
            Some(3) => CloseReason::Client,
            _ => CloseReason::Error,
        })
    }
}

impl std::fmt::Debug for HypervisorWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HypervisorWatch").field("reason", &*self.reason.borrow()).finish_non_exhaustive()
    }
}

impl Drop for HypervisorWatch {
    fn drop(&mut self) {
        let procedure = Procedure::CONNECT_UNREGISTER_CLOSE_CALLBACK.0;
        let request = Request::new(&PROGRAM, procedure, &(), Vec::new(), Purpose::Result);
        Call::new(Arc::clone(&self.link), request, call::result::<()>).send();
    }
}
