//! What can go wrong with a call, and with a connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use virtwire_protocol::calls::UnknownSerial;
use virtwire_protocol::codec::{DecodeError, EncodeError};
use virtwire_protocol::error::VirtError;
use virtwire_protocol::frame::FrameError;

use crate::auth::AuthError;
use crate::transport::{HelperError, TlsError};
use crate::uri::UriError;

/// Why a call, a stream or the opening of a connection has failed.
///
/// When a connection ends, everybody who waits on it gets the same reason.
#[derive(Clone, Debug)]
pub enum Error {
    /// The daemon has answered with an error. The connection goes on.
    Remote(VirtError),
    /// The daemon has sent what nobody could have meant.
    Protocol(ProtocolError),
    /// The socket has failed.
    Io(Arc<io::Error>),
    /// Nobody listens at this place: a socket's path, or host and port.
    Connect(String, Arc<io::Error>),
    /// There is no TLS connection.
    Tls(Box<TlsError>),
    /// The program that carries the connection, such as `ssh`, has failed.
    Helper(Box<HelperError>),
    /// The connection has been closed, by either side.
    Closed,
    /// The daemon has not answered within this time. The call may have been done all the same.
    Deadline(Duration),
    /// The daemon has not answered pings.
    Silent,
    /// An argument is larger than the wire allows. Nothing was sent.
    Encode(EncodeError),
    /// The URI cannot be understood, or asks for what cannot be had.
    Uri(UriError),
    /// The daemon asks for an authentication that we cannot give.
    Authentication(Box<AuthError>),
    /// The daemon lacks a feature that is needed, such as callback ids of events.
    Unsupported(&'static str),
    /// The stream is closed: data after `finish` or `abort`.
    StreamClosed,
}

/// What the daemon did that the protocol does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A frame's length or descriptors are wrong.
    Frame(FrameError),
    /// A reply, or a frame of a stream, is not what its procedure promises.
    Decode(DecodeError),
    /// A reply to a call that was never made.
    Serial(UnknownSerial),
    /// A message of a type that a daemon does not send.
    Type(i32),
    /// A reply whose status is neither ok nor error.
    Status(i32),
    /// The connection ended within a frame.
    CutShort,
}

impl Error {
    /// The daemon's own error, if it is one.
    pub fn remote(&self) -> Option<&VirtError> {
        match self {
            Self::Remote(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(error) => error.fmt(f),
            Self::Protocol(error) => write!(f, "protocol violation: {error}"),
            Self::Io(error) => error.fmt(f),
            Self::Connect(place, error) => {
                write!(f, "cannot connect to {place}: {error}")?;
                advice(place, error.kind()).map_or(Ok(()), |advice| write!(f, "; {advice}"))
            }
            Self::Tls(error) => error.fmt(f),
            Self::Helper(error) => error.fmt(f),
            Self::Closed => f.write_str("the connection is closed"),
            Self::Deadline(time) => write!(f, "no answer within {time:?}"),
            Self::Silent => f.write_str("the daemon does not answer"),
            Self::Encode(error) => write!(f, "too large for the wire: {error}"),
            Self::Uri(error) => error.fmt(f),
            Self::Authentication(error) => error.fmt(f),
            Self::Unsupported(what) => write!(f, "the daemon does not support {what}"),
            Self::StreamClosed => f.write_str("the stream is closed"),
        }
    }
}

/// What to do where nobody lets us in.
fn advice(place: &str, kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    match (place.starts_with('/'), kind) {
        (true, NotFound | ConnectionRefused) => {
            Some("does a libvirt daemon run? Another socket can be named with socket= in the URI")
        }
        (true, PermissionDenied) => Some("connect read-only, or become a member of the socket's group"),
        (false, ConnectionRefused) => {
            Some("does the daemon listen there? libvirtd needs --listen or its socket units")
        }
        _ => None,
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
            Self::Serial(error) => error.fmt(f),
            Self::Type(kind) => write!(f, "message of type {kind}"),
            Self::Status(status) => write!(f, "reply with status {status}"),
            Self::CutShort => f.write_str("the connection ended within a frame"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Remote(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Io(error) | Self::Connect(_, error) => Some(error.as_ref()),
            Self::Tls(error) => Some(error),
            Self::Helper(error) => Some(error),
            Self::Authentication(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Uri(error) => Some(error),
            Self::Closed | Self::Deadline(_) | Self::Silent | Self::Unsupported(_) | Self::StreamClosed => {
                None
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

impl From<VirtError> for Error {
    fn from(error: VirtError) -> Self {
        Self::Remote(error)
    }
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::Protocol(ProtocolError::Frame(error))
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Protocol(ProtocolError::Decode(error))
    }
}

impl From<UnknownSerial> for Error {
    fn from(error: UnknownSerial) -> Self {
        Self::Protocol(ProtocolError::Serial(error))
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        Self::Authentication(Box::new(error))
    }
}

impl From<HelperError> for Error {
    fn from(error: HelperError) -> Self {
        Self::Helper(Box::new(error))
    }
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Self {
        Self::Uri(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
