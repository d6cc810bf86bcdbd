//! What is known of a conversation, whoever watched it: the relay before a daemon, or the daemon itself. It has no
//! secrets any more, so it may be written down and sent.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::decode::Decoded;

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The client.
    Client,
    /// The daemon.
    Daemon,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Which connection, from 1; 0 is the daemon's own work.
    pub connection: u64,
    /// When, in microseconds since the watching began.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the line above each variant says what it holds")]
pub enum What {
    /// A client is there.
    Connected(Client),
    /// A client has logged in: as whom.
    Identified { name: String },
    /// A frame went by; an event was raised by the call that `during` names.
    Frame {
        from: Side,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        during: Option<Origin>,
        #[serde(flatten)]
        frame: Decoded,
    },
    /// The daemon did something: for the call of this serial, or for none.
    Step {
        serial: Option<u32>,
        #[serde(flatten)]
        step: Step,
    },
    /// So much could not be told, since it came faster than it was taken.
    Lost { records: u64 },
    /// The connection has ended, and why if it was not closed in peace.
    Ended { reason: Option<String> },
}

/// A client, as far as its socket and its login tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The name under which it has authenticated, or its certificate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It may only look.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A call among all calls of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The connection.
    pub connection: u64,
    /// The serial of the call.
    pub serial: u32,
}

/// Something that the daemon did for a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `access`, `driver`, `qmp`, ….
    pub step: String,
    /// When it began, in microseconds since the watching began.
    pub began_us: u64,
    /// Microseconds that it took, where it took any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// What it was: the command, its arguments, its result.
    pub detail: Map<String, Value>,
}
