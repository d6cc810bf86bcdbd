//! Calls with their replies, streams and the events around them: what a reader wants to see together.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::decode::{Kind, decode};
use crate::relay::{Observed, Side, What};

/// Something that happened, in the order in which it ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Which connection.
    pub connection: u64,
    /// When it began, in microseconds since the start of the trace.
    pub at_us: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Happening {
    /// A client came.
    Connected {
        /// Its process.
        pid: Option<i32>,
        /// Its user.
        uid: Option<u32>,
    },
    /// A call and its answer.
    Call {
        /// The program.
        program: String,
        /// The procedure.
        procedure: String,
        /// Its serial.
        serial: u32,
        /// Its arguments.
        args: Value,
        /// Descriptors with the call and with the reply.
        descriptors: (usize, usize),
        /// Microseconds from call to reply.
        took_us: u64,
        /// Its result, or its error.
        #[serde(flatten)]
        answer: Answer,
    },
    /// An event.
    Event {
        /// The program.
        program: String,
        /// The message.
        procedure: String,
        /// What it says.
        content: Value,
    },
    /// A stream that has ended.
    Stream {
        /// The procedure that opened it.
        procedure: String,
        /// The serial of that call.
        serial: u32,
        /// Bytes to the daemon and to the client, holes left out.
        bytes: (usize, usize),
        /// Microseconds from the first frame to the last.
        took_us: u64,
        /// How it ended.
        end: String,
    },
    /// A keepalive message, or a frame that belongs to nothing.
    Other {
        /// Who sent it.
        from: Side,
        /// What it was.
        procedure: String,
    },
    /// The connection has ended.
    Ended {
        /// Why, if not in peace.
        reason: Option<String>,
    },
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the line above each variant says what it holds")]
pub enum Answer {
    /// With a result.
    Result { result: Value },
    /// With an error: `NO_DOMAIN`, `QEMU`, and the text.
    Error { code: String, domain: String, message: String },
    /// Not at all: the connection ended.
    None { unanswered: bool },
}

struct Pending {
    at: Duration,
    program: String,
    procedure: String,
    args: Value,
    descriptors: usize,
}

struct Flow {
    since: Duration,
    procedure: String,
    bytes: (usize, usize),
}

/// Puts together what the relay saw.
#[derive(Default)]
pub struct Story {
    pending: HashMap<(u64, u32), Pending>,
    streams: HashMap<(u64, u32), Flow>,
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

impl Story {
    /// Takes what was seen; returns what has come to its end by it.
    pub fn observe(&mut self, seen: &Observed) -> Vec<Entry> {
        let entry = |at, what| Entry { connection: seen.connection, at_us: micros(at), what };
        match &seen.what {
            What::Connected { pid, uid } => {
                vec![entry(seen.at, Happening::Connected { pid: *pid, uid: *uid })]
            }
            What::Frame { from, header, payload, descriptors } => {
                let decoded = decode(header, payload, *descriptors);
                self.frame(seen, *from, decoded).into_iter().collect()
            }
            What::Ended { reason } => {
                let mut entries = self.unanswered(seen.connection, seen.at);
                entries.push(entry(seen.at, Happening::Ended { reason: reason.clone() }));
                entries
            }
        }
    }

    fn frame(&mut self, seen: &Observed, from: Side, frame: crate::Decoded) -> Option<Entry> {
        let key = (seen.connection, frame.serial);
        let entry = |at, what| Some(Entry { connection: seen.connection, at_us: micros(at), what });
        match frame.kind {
            Kind::Call { args } => {
                let (program, procedure) = (frame.program, frame.procedure);
                let pending =
                    Pending { at: seen.at, program, procedure, args, descriptors: frame.descriptors };
                self.pending.insert(key, pending);
                None
            }
            Kind::Reply { result } => self.answer(seen, key, frame.descriptors, Answer::Result { result }),
            Kind::Error { code, domain, message } if !self.streams.contains_key(&key) => {
                self.answer(seen, key, 0, Answer::Error { code, domain, message })
            }
            Kind::Error { code, message, .. } => self.end_stream(seen, key, format!("{code}: {message}")),
            Kind::Event { content } => {
                let (program, procedure) = (frame.program, frame.procedure);
                if program == "keepalive" {
                    return entry(seen.at, Happening::Other { from, procedure });
                }
                entry(seen.at, Happening::Event { program, procedure, content })
            }
            Kind::Data { bytes } => {
                self.flow(seen, key, frame.procedure, from, bytes);
                None
            }
            Kind::Hole { .. } => {
                self.flow(seen, key, frame.procedure, from, 0);
                None
            }
            // The daemon's word ends a stream; the client's only asks for it.
            Kind::Finish | Kind::Abort if from == Side::Client => {
                self.flow(seen, key, frame.procedure, from, 0);
                None
            }
            Kind::Finish | Kind::Abort => self.end_stream(seen, key, "finished".to_owned()),
            Kind::Unknown { r#type } => {
                entry(seen.at, Happening::Other { from, procedure: format!("type {type}") })
            }
        }
    }

    fn answer(
        &mut self,
        seen: &Observed,
        key: (u64, u32),
        descriptors: usize,
        answer: Answer,
    ) -> Option<Entry> {
        let pending = self.pending.remove(&key)?;
        Some(pending.end(key, seen.at, descriptors, answer))
    }

    fn flow(&mut self, seen: &Observed, key: (u64, u32), procedure: String, from: Side, bytes: usize) {
        let flow = self.streams.entry(key).or_insert(Flow { since: seen.at, procedure, bytes: (0, 0) });
        match from {
            Side::Client => flow.bytes.0 += bytes,
            Side::Daemon => flow.bytes.1 += bytes,
        }
    }

    fn end_stream(&mut self, seen: &Observed, key: (u64, u32), end: String) -> Option<Entry> {
        let flow = self.streams.remove(&key)?;
        let took_us = micros(seen.at.saturating_sub(flow.since));
        let (procedure, serial) = (flow.procedure, key.1);
        let what = Happening::Stream { procedure, serial, bytes: flow.bytes, took_us, end };
        Some(Entry { connection: key.0, at_us: micros(flow.since), what })
    }

    /// The calls that will not be answered any more.
    fn unanswered(&mut self, connection: u64, at: Duration) -> Vec<Entry> {
        let mut keys: Vec<_> = self.pending.keys().copied().filter(|(of, _)| *of == connection).collect();
        keys.sort_unstable();
        self.streams.retain(|(of, _), _| *of != connection);
        let left = keys.into_iter().filter_map(|key| Some((key, self.pending.remove(&key)?)));
        left.map(|(key, pending)| pending.end(key, at, 0, Answer::None { unanswered: true })).collect()
    }
}

impl Pending {
    fn end(self, key: (u64, u32), at: Duration, descriptors: usize, answer: Answer) -> Entry {
        let what = Happening::Call {
            program: self.program,
            procedure: self.procedure,
            serial: key.1,
            args: self.args,
            descriptors: (self.descriptors, descriptors),
            took_us: micros(at.saturating_sub(self.at)),
            answer,
        };
        Entry { connection: key.0, at_us: micros(self.at), what }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
    use virtwire_protocol::remote::{DomainLookupByNameArgs, PROGRAM, Procedure};
    use virtwire_protocol::{ErrorDomain, codec};

    use super::*;

    fn frame(at: u64, from: Side, kind: MessageType, status: MessageStatus, payload: Vec<u8>) -> Observed {
        let header = MessageHeader {
            prog: PROGRAM.number,
            vers: 1,
            proc: Procedure::DOMAIN_LOOKUP_BY_NAME.0,
            r#type: kind,
            serial: 3,
            status,
        };
        let what = What::Frame { from, header, payload, descriptors: 0 };
        Observed { connection: 1, at: Duration::from_micros(at), what }
    }

    #[test]
    fn a_call_is_told_when_it_is_answered() {
        let mut story = Story::default();
        let args = codec::encode(&DomainLookupByNameArgs { name: "nobody".into() }).unwrap();
        assert!(
            story.observe(&frame(10, Side::Client, MessageType::CALL, MessageStatus::OK, args)).is_empty()
        );
        let error = ErrorDomain::TEST.no_domain("nobody of that name");
        let error = virtwire_protocol::net::MessageError {
            code: error.code.0,
            domain: error.domain.0,
            message: Some(error.message.into()),
            ..Default::default()
        };
        let error = codec::encode(&error).unwrap();
        let told = story.observe(&frame(35, Side::Daemon, MessageType::REPLY, MessageStatus::ERROR, error));
        let shown = serde_json::to_value(&told).unwrap();
        let expected = json!([{
            "connection": 1, "at_us": 10, "what": "call", "program": "remote", "procedure": "DOMAIN_LOOKUP_BY_NAME",
            "serial": 3, "args": {"name": "nobody"}, "descriptors": [0, 0], "took_us": 25,
            "code": "NO_DOMAIN", "domain": "TEST", "message": "Domain not found: nobody of that name",
        }]);
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_stream_is_told_when_the_daemon_ends_it() {
        let mut story = Story::default();
        let (stream, more, ok) = (MessageType::STREAM, MessageStatus::CONTINUE, MessageStatus::OK);
        assert!(story.observe(&frame(10, Side::Daemon, stream, more, vec![0; 100])).is_empty());
        assert!(story.observe(&frame(20, Side::Client, stream, ok, vec![])).is_empty());
        let told = story.observe(&frame(30, Side::Daemon, stream, ok, vec![]));
        let [Entry { at_us: 10, what: Happening::Stream { bytes, took_us, .. }, .. }] = told.as_slice()
        else {
            panic!("{told:?}")
        };
        assert_eq!((*bytes, *took_us), ((0, 100), 20));
    }

    #[test]
    fn what_was_not_answered_is_told_at_the_end() {
        let mut story = Story::default();
        story.observe(&frame(10, Side::Client, MessageType::CALL, MessageStatus::OK, vec![]));
        let what = What::Ended { reason: None };
        let told = story.observe(&Observed { connection: 1, at: Duration::from_micros(99), what });
        assert_eq!(told.len(), 2);
        let Happening::Call { answer, took_us, .. } = &told[0].what else { panic!("{told:?}") };
        assert_eq!((answer, *took_us), (&Answer::None { unanswered: true }, 89));
    }
}
