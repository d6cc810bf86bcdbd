//! What can go wrong, by what it ends: one command, or the connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a command has no result. [`Closed`](Self::Closed), [`Protocol`](Self::Protocol) and [`Io`](Self::Io) are the end
/// of the connection; the others concern this command only.
#[derive(Clone, Debug)]
pub enum QmpError {
    /// QEMU refused the command.
    Command(CommandError),
    /// QEMU's reply to `command` does not have the shape that the command's return type says.
    Reply {
        /// The command that was sent.
        command: String,
        /// What did not fit, and where.
        detail: String,
    },
    /// The arguments of `command` have no JSON form; nothing was sent.
    Arguments {
        /// The command that was to be sent.
        command: String,
        /// What did not fit.
        detail: String,
    },
    /// More than `limit` descriptors for one command; nothing was sent.
    TooManyFds {
        /// The most that one command carries.
        limit: usize,
    },
    /// QEMU has not answered `command` in time; whether it carries it out is not known.
    Silent {
        /// The command that was sent.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// QEMU closed the connection, or the monitor was closed on this side.
    Closed,
    /// The peer does not speak QMP.
    Protocol(ProtocolError),
    /// The socket failed.
    Io(Arc<io::Error>),
}

/// What QEMU says when it refuses a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// The command that was sent.
    pub command: String,
    /// What kind of error.
    pub class: ErrorClass,
    /// The text for people.
    pub desc: String,
}

/// `QapiErrorClass`. Nearly everything is [`ErrorClass::GenericError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Any error without a class of its own.
    GenericError,
    /// This QEMU has no such command.
    CommandNotFound,
    /// The device exists but is not in use.
    DeviceNotActive,
    /// No such device.
    DeviceNotFound,
    /// KVM lacks something the command needs.
    KvmMissingCap,
    /// A class that is not in this list.
    Unknown(String),
}

/// How the peer broke the protocol; ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line did not end within `limit` bytes.
    LineTooLong {
        /// The longest line accepted, in bytes.
        limit: usize,
    },
    /// A line that is not a JSON object of QMP's shape.
    NotQmp {
        /// What was expected, and at which column.
        detail: String,
        /// The line's beginning.
        line: String,
    },
    /// Something else came before the greeting.
    NoGreeting {
        /// What came instead.
        line: String,
    },
    /// A second greeting.
    SecondGreeting,
    /// A reply to a command that was never sent, or an error without an id.
    UnknownId {
        /// The reply's beginning.
        line: String,
    },
}

impl ErrorClass {
    /// The class called `name` on the wire.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "GenericError" => Self::GenericError,
            "CommandNotFound" => Self::CommandNotFound,
            "DeviceNotActive" => Self::DeviceNotActive,
            "DeviceNotFound" => Self::DeviceNotFound,
            "KVMMissingCap" => Self::KvmMissingCap,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::KvmMissingCap => "KVMMissingCap",
            Self::Unknown(name) => name,
        }
    }
}

impl QmpError {
    /// Whether QEMU refused the command with this class.
    pub fn is_class(&self, class: &ErrorClass) -> bool {
        matches!(self, Self::Command(error) if error.class == *class)
    }
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<ProtocolError> for QmpError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(CommandError { command, desc, .. }) => write!(f, "{command}: {desc}"),
            Self::Reply { command, detail } => write!(f, "{command}: unexpected reply: {detail}"),
            Self::Arguments { command, detail } => write!(f, "{command}: bad arguments: {detail}"),
            Self::TooManyFds { limit } => write!(f, "more than {limit} descriptors for one command"),
            Self::Silent { command, limit } => {
                write!(f, "QEMU has not answered '{command}' within {} s", limit.as_secs())
            }
            Self::Closed => f.write_str("the monitor is closed"),
            Self::Protocol(error) => error.fmt(f),
            Self::Io(error) => write!(f, "monitor socket: {error}"),
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong { limit } => write!(f, "a line of the monitor is longer than {limit} bytes"),
            Self::NotQmp { detail, line } => write!(f, "not a QMP message ({detail}): {line}"),
            Self::NoGreeting { line } => write!(f, "expected QMP's greeting, got: {line}"),
            Self::SecondGreeting => f.write_str("the monitor greeted twice"),
            Self::UnknownId { line } => write!(f, "a reply that answers no command: {line}"),
        }
    }
}

impl std::error::Error for QmpError {}
impl std::error::Error for ProtocolError {}
