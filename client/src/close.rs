//! Why connections end.

use crate::Error;

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
