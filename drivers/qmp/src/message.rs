//! What QEMU says: greeting, replies and events. A line in, a typed message out.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ProtocolError;
use crate::events::Event;
use crate::replies::VersionInfo;

/// The first thing QEMU says.
#[derive(Clone, Debug, Deserialize)]
pub struct Greeting {
    /// QEMU's version.
    pub version: VersionInfo,
    /// What may be enabled in the negotiation, as in `oob`.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// One line, decoded as far as routing needs; a reply's content stays text until its receiver says what it should be.
#[derive(Debug)]
pub(crate) enum Message {
    Greeting(Greeting),
    Return { id: Option<u64>, value: Box<RawValue> },
    Error { id: Option<u64>, class: String, desc: String },
    Event(Event),
}

/// All that may stand in a line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    #[serde(borrow, rename = "return")]
    value: Option<&'a RawValue>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    timestamp: Option<Timestamp>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

/// When an event happened, by the host's clock; -1 where QEMU could not tell.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Timestamp {
    seconds: i64,
    microseconds: i64,
}

impl Message {
    /// Decodes one line.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, ProtocolError> {
        let not_qmp = |detail: String| ProtocolError::NotQmp { detail, line: excerpt(line) };
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(|error| not_qmp(error.to_string()))?;
        let id = parsed.id;
        match parsed {
            Line { greeting: Some(greeting), .. } => Ok(Self::Greeting(greeting)),
            Line { value: Some(value), .. } => Ok(Self::Return { id, value: value.to_owned() }),
            Line { error: Some(Refusal { class, desc }), .. } => Ok(Self::Error { id, class, desc }),
            Line { event: Some(name), data, timestamp, .. } => {
                let Timestamp { seconds, microseconds } = timestamp.unwrap_or_default();
                Ok(Self::Event(Event { name, data: data.map(RawValue::to_owned), seconds, microseconds }))
            }
            _ => Err(not_qmp("neither greeting, return, error nor event".to_owned())),
        }
    }
}

/// The beginning of a line, for an error's text.
pub(crate) fn excerpt(line: &[u8]) -> String {
    const SHOWN: usize = 80;
    String::from_utf8_lossy(line.get(..SHOWN).unwrap_or(line)).trim_end().to_owned()
}
