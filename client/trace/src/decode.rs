//! From a frame to names and values, by the generated tables.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use virtwire_protocol::codec;
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_protocol::procedures::{ProcedureInfo, Program};
use virtwire_protocol::schema::{self, StructDef};
use virtwire_protocol::{ErrorCode, ErrorDomain, PROGRAMS, admin};

use crate::secrets;

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the line above each variant says what it holds")]
pub enum Kind {
    /// A call: its arguments.
    Call { args: Value },
    /// A reply: its result.
    Reply { result: Value },
    /// A reply, or the end of a stream, with an error.
    Error { code: String, domain: String, message: String },
    /// A message nobody asked for: its content.
    Event { content: Value },
    /// Bytes of a stream.
    Data { bytes: usize },
    /// A hole of a sparse stream.
    Hole { bytes: i64 },
    /// The end of a stream, or its confirmation.
    Finish,
    /// The client gives a stream up.
    Abort,
    /// A type that nobody knows.
    Unknown { r#type: i32 },
}

/// A frame with names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decoded {
    /// `remote`, `qemu`, …; a number where unknown.
    pub program: String,
    /// `DOMAIN_SUSPEND`, …; a number where unknown.
    pub procedure: String,
    /// The serial of the call it belongs to.
    pub serial: u32,
    /// Descriptors behind it.
    pub descriptors: usize,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// Content that is larger is told by its length only: nobody reads it, and as JSON it is many times as long.
pub const SHOWN_MAX: usize = 1 << 20;

/// Decodes a frame and hides its secrets.
pub fn decode(header: &MessageHeader, payload: &[u8], descriptors: usize) -> Decoded {
    let program = program(header.prog);
    let info = program.and_then(|program| program.procedure(header.proc));
    Decoded {
        program: program.map_or_else(|| header.prog.to_string(), |program| program.name.to_owned()),
        procedure: info.map_or_else(|| header.proc.to_string(), |info| info.name.to_owned()),
        serial: header.serial,
        descriptors,
        kind: kind(header, info, payload),
    }
}

fn program(number: u32) -> Option<&'static Program> {
    PROGRAMS.iter().copied().chain([&admin::PROGRAM]).find(|program| program.number == number)
}

fn kind(header: &MessageHeader, info: Option<&ProcedureInfo>, payload: &[u8]) -> Kind {
    let name = info.map_or("", |info| info.name);
    let shape =
        |pick: fn(&ProcedureInfo) -> Option<&'static StructDef>| content(name, info.and_then(pick), payload);
    match (header.r#type, header.status) {
        (MessageType::CALL | MessageType::CALL_WITH_FDS, _) => Kind::Call { args: shape(|info| info.args) },
        (MessageType::REPLY | MessageType::REPLY_WITH_FDS, MessageStatus::OK) => {
            Kind::Reply { result: shape(|info| info.ret) }
        }
        (MessageType::MESSAGE, _) => Kind::Event { content: shape(|info| info.msg) },
        (MessageType::STREAM, MessageStatus::OK) => Kind::Finish,
        (MessageType::STREAM, MessageStatus::CONTINUE) => Kind::Data { bytes: payload.len() },
        (MessageType::STREAM, _) if payload.is_empty() => Kind::Abort,
        (MessageType::REPLY | MessageType::REPLY_WITH_FDS | MessageType::STREAM, _) => error(payload),
        (MessageType::STREAM_HOLE, _) => {
            Kind::Hole { bytes: codec::decode::<StreamHole>(payload).map_or(0, |hole| hole.length) }
        }
        (other, _) => Kind::Unknown { r#type: other.0 },
    }
}

/// The fields of a struct; what does not decode is shown by its length.
fn content(procedure: &str, shape: Option<&StructDef>, payload: &[u8]) -> Value {
    let Some(shape) = shape else {
        return if payload.is_empty() { Value::Null } else { json!({ "undecoded-bytes": payload.len() }) };
    };
    if payload.len() > SHOWN_MAX {
        return json!({ "undecoded-bytes": payload.len() });
    }
    match schema::to_json(shape, payload) {
        Ok(mut value) => {
            secrets::hide(procedure, &mut value);
            value
        }
        Err(error) => json!({ "undecoded-bytes": payload.len(), "error": error.to_string() }),
    }
}

fn error(payload: &[u8]) -> Kind {
    let error: MessageError = codec::decode(payload).unwrap_or_default();
    let number = |name: Option<&str>, number: i32| name.map_or_else(|| number.to_string(), str::to_owned);
    let message = error.message.map(|text| text.to_string()).unwrap_or_default();
    Kind::Error {
        code: number(ErrorCode(error.code).name(), error.code),
        domain: number(ErrorDomain(error.domain).name(), error.domain),
        message,
    }
}
