//! Calls with their replies, streams and the events around them: what a reader wants to see together.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use crate::decode::{Decoded, Kind};
use crate::seen::{Client, Origin, Seen, Side, Step, What};

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
    /// A client is there.
    Connected(Client),
    /// A client has logged in.
    Identified {
        /// As whom.
        name: String,
    },
    /// A call and its answer.
    Call {
        /// The program.
        program: String,
        /// The procedure.
        procedure: String,
        /// Its serial.
        serial: u32,
        /// Who called.
        client: Client,
        /// Its arguments.
        args: Value,
        /// Descriptors with the call and with the reply.
        descriptors: (usize, usize),
        /// Microseconds from call to reply.
        took_us: u64,
        /// What the daemon did for it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        steps: Vec<Step>,
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
        /// The call that it came from.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
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
    /// The daemon did something for no call, or for one that was answered already.
    Step(Step),
    /// So much was seen and cannot be told: it came faster than it was taken.
    Lost {
        /// The number of records.
        records: u64,
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

/// The call that an event came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Which one.
    #[serde(flatten)]
    pub call: Origin,
    /// Its procedure.
    pub procedure: String,
    /// Whether the daemon said so; otherwise it is the last call on the object of the event.
    pub certain: bool,
}

struct Pending {
    at_us: u64,
    program: String,
    procedure: String,
    args: Value,
    descriptors: usize,
    steps: Vec<Step>,
}

struct Flow {
    since: u64,
    procedure: String,
    bytes: (usize, usize),
    /// The client has given it up.
    aborted: bool,
}

/// Puts together what was seen.
#[derive(Default)]
pub struct Story {
    clients: HashMap<u64, Client>,
    pending: HashMap<Origin, Pending>,
    streams: HashMap<Origin, Flow>,
    /// The last call on each object, by UUID.
    last: HashMap<String, (Origin, String)>,
}

/// Steps of one call that are kept: one that asks for thousands of objects takes thousands.
const STEPS_MAX: usize = 256;
/// Objects whose last calls are remembered.
const OBJECTS_MAX: usize = 4096;

impl Story {
    /// Takes what was seen; returns what has come to its end by it.
    pub fn observe(&mut self, seen: Seen) -> Vec<Entry> {
        let Seen { connection, at_us, what } = seen;
        let entry = |at_us, what| Entry { connection, at_us, what };
        match what {
            What::Connected(client) => {
                self.clients.insert(connection, client.clone());
                vec![entry(at_us, Happening::Connected(client))]
            }
            What::Identified { name } => {
                self.clients.entry(connection).or_default().name = Some(name.clone());
                vec![entry(at_us, Happening::Identified { name })]
            }
            What::Frame { from, during, frame } => {
                let key = Origin { connection, serial: frame.serial };
                self.frame(key, at_us, from, during, frame).into_iter().collect()
            }
            What::Step { serial, step } => {
                let call = serial.map(|serial| Origin { connection, serial });
                match call.and_then(|call| self.pending.get_mut(&call)) {
                    Some(call) if call.steps.len() < STEPS_MAX => {
                        call.steps.push(step);
                        Vec::new()
                    }
                    Some(_) => Vec::new(),
                    None => vec![entry(step.began_us, Happening::Step(step))],
                }
            }
            What::Lost { records } => {
                // Answers may be among it, and would be waited for for ever.
                self.pending.clear();
                self.streams.clear();
                vec![entry(at_us, Happening::Lost { records })]
            }
            What::Ended { reason } => {
                let mut entries = self.unanswered(connection, at_us);
                self.clients.remove(&connection);
                entries.push(entry(at_us, Happening::Ended { reason }));
                entries
            }
        }
    }

    fn frame(
        &mut self,
        key: Origin,
        at_us: u64,
        from: Side,
        during: Option<Origin>,
        frame: Decoded,
    ) -> Option<Entry> {
        let entry = |at_us, what| Some(Entry { connection: key.connection, at_us, what });
        match frame.kind {
            Kind::Call { args } => {
                let Decoded { program, procedure, descriptors, .. } = frame;
                self.remember(&args, key, &procedure);
                let pending = Pending { at_us, program, procedure, args, descriptors, steps: Vec::new() };
                self.pending.insert(key, pending);
                None
            }
            Kind::Reply { result } => self.answer(key, at_us, frame.descriptors, Answer::Result { result }),
            Kind::Error { code, domain, message } if !self.streams.contains_key(&key) => {
                self.answer(key, at_us, 0, Answer::Error { code, domain, message })
            }
            Kind::Error { code, message, .. } => self.end_stream(key, at_us, format!("{code}: {message}")),
            Kind::Event { content } => {
                let Decoded { program, procedure, .. } = frame;
                if program == "keepalive" {
                    return entry(at_us, Happening::Other { from, procedure });
                }
                let cause = self.cause(during, &content);
                entry(at_us, Happening::Event { program, procedure, content, cause })
            }
            Kind::Data { bytes } => self.flow(key, at_us, frame.procedure, from, bytes),
            Kind::Hole { .. } => self.flow(key, at_us, frame.procedure, from, 0),
            // The daemon's word ends a stream; the client's only asks for it.
            Kind::Finish | Kind::Abort if from == Side::Client => {
                let aborted = matches!(frame.kind, Kind::Abort);
                let told = self.flow(key, at_us, frame.procedure, from, 0);
                if let Some(flow) = self.streams.get_mut(&key) {
                    flow.aborted = aborted;
                }
                told
            }
            Kind::Finish | Kind::Abort => {
                let aborted = self.streams.get(&key).is_some_and(|flow| flow.aborted);
                self.end_stream(key, at_us, if aborted { "aborted" } else { "finished" }.to_owned())
            }
            Kind::Unknown { r#type } => {
                entry(at_us, Happening::Other { from, procedure: format!("type {type}") })
            }
        }
    }

    fn answer(&mut self, key: Origin, at_us: u64, descriptors: usize, answer: Answer) -> Option<Entry> {
        let pending = self.pending.remove(&key)?;
        if let Answer::Result { result } = &answer {
            self.remember(result, key, &pending.procedure);
        }
        Some(self.end(pending, key, at_us, descriptors, answer))
    }

    fn flow(
        &mut self,
        key: Origin,
        at_us: u64,
        procedure: String,
        from: Side,
        bytes: usize,
    ) -> Option<Entry> {
        let flow = self.streams.entry(key).or_insert(Flow {
            since: at_us,
            procedure,
            bytes: (0, 0),
            aborted: false,
        });
        match from {
            Side::Client => flow.bytes.0 += bytes,
            Side::Daemon => flow.bytes.1 += bytes,
        }
        None
    }

    fn end_stream(&mut self, key: Origin, at_us: u64, end: String) -> Option<Entry> {
        let Flow { since, procedure, bytes, .. } = self.streams.remove(&key)?;
        let took_us = at_us.saturating_sub(since);
        let what = Happening::Stream { procedure, serial: key.serial, bytes, took_us, end };
        Some(Entry { connection: key.connection, at_us: since, what })
    }

    /// The calls that will not be answered any more.
    fn unanswered(&mut self, connection: u64, at_us: u64) -> Vec<Entry> {
        let mut keys: Vec<_> =
            self.pending.keys().copied().filter(|call| call.connection == connection).collect();
        keys.sort_unstable_by_key(|call| call.serial);
        self.streams.retain(|call, _| call.connection != connection);
        let left = keys.into_iter().filter_map(|key| Some((key, self.pending.remove(&key)?)));
        let left: Vec<_> = left.collect();
        left.into_iter()
            .map(|(key, call)| self.end(call, key, at_us, 0, Answer::None { unanswered: true }))
            .collect()
    }

    fn end(&self, call: Pending, key: Origin, at_us: u64, descriptors: usize, answer: Answer) -> Entry {
        let mut steps = call.steps;
        steps.sort_by_key(|step| step.began_us);
        let what = Happening::Call {
            program: call.program,
            procedure: call.procedure,
            serial: key.serial,
            client: self.clients.get(&key.connection).cloned().unwrap_or_default(),
            args: call.args,
            descriptors: (call.descriptors, descriptors),
            took_us: at_us.saturating_sub(call.at_us),
            steps,
            answer,
        };
        Entry { connection: key.connection, at_us: call.at_us, what }
    }

    /// Keeps in mind which call was the last on the object that a message is about.
    fn remember(&mut self, message: &Value, call: Origin, procedure: &str) {
        if let Some(uuid) = subject(message) {
            if self.last.len() >= OBJECTS_MAX {
                self.last.clear();
            }
            self.last.insert(uuid.to_owned(), (call, procedure.to_owned()));
        }
    }

    fn cause(&self, during: Option<Origin>, event: &Value) -> Option<Cause> {
        if let Some(call) = during {
            let procedure = self.pending.get(&call)?.procedure.clone();
            return Some(Cause { call, procedure, certain: true });
        }
        let (call, procedure) = self.last.get(subject(event)?)?.clone();
        Some(Cause { call, procedure, certain: false })
    }
}

/// The UUID of the object that a message names first.
fn subject(message: &Value) -> Option<&str> {
    let members = message.as_object()?;
    members.get("uuid").and_then(Value::as_str).or_else(|| members.values().find_map(subject))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
    use virtwire_protocol::remote::{DomainLookupByNameArgs, PROGRAM, Procedure};
    use virtwire_protocol::{ErrorDomain, codec};

    use super::*;
    use crate::decode::decode;

    fn frame(at_us: u64, from: Side, kind: MessageType, status: MessageStatus, payload: Vec<u8>) -> Seen {
        let header = MessageHeader {
            prog: PROGRAM.number,
            vers: 1,
            proc: Procedure::DOMAIN_LOOKUP_BY_NAME.0,
            r#type: kind,
            serial: 3,
            status,
        };
        let what = What::Frame { from, during: None, frame: decode(&header, &payload, 0) };
        Seen { connection: 1, at_us, what }
    }

    #[test]
    fn a_call_is_told_when_it_is_answered() {
        let mut story = Story::default();
        let args = codec::encode(&DomainLookupByNameArgs { name: "nobody".into() }).unwrap();
        assert!(
            story.observe(frame(10, Side::Client, MessageType::CALL, MessageStatus::OK, args)).is_empty()
        );
        let error = ErrorDomain::TEST.no_domain("nobody of that name");
        let error = virtwire_protocol::net::MessageError {
            code: error.code.0,
            domain: error.domain.0,
            message: Some(error.message.into()),
            ..Default::default()
        };
        let error = codec::encode(&error).unwrap();
        let told = story.observe(frame(35, Side::Daemon, MessageType::REPLY, MessageStatus::ERROR, error));
        let shown = serde_json::to_value(&told).unwrap();
        let expected = json!([{
            "connection": 1, "at_us": 10, "what": "call", "program": "remote", "procedure": "DOMAIN_LOOKUP_BY_NAME",
            "serial": 3, "client": {}, "args": {"name": "nobody"}, "descriptors": [0, 0], "took_us": 25,
            "code": "NO_DOMAIN", "domain": "TEST", "message": "Domain not found: nobody of that name",
        }]);
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_stream_is_told_when_the_daemon_ends_it() {
        let mut story = Story::default();
        let (stream, more, ok) = (MessageType::STREAM, MessageStatus::CONTINUE, MessageStatus::OK);
        assert!(story.observe(frame(10, Side::Daemon, stream, more, vec![0; 100])).is_empty());
        assert!(story.observe(frame(20, Side::Client, stream, ok, vec![])).is_empty());
        let told = story.observe(frame(30, Side::Daemon, stream, ok, vec![]));
        let [Entry { at_us: 10, what: Happening::Stream { bytes, took_us, .. }, .. }] = told.as_slice()
        else {
            panic!("{told:?}")
        };
        assert_eq!((*bytes, *took_us), ((0, 100), 20));
    }

    #[test]
    fn what_was_not_answered_is_told_at_the_end() {
        let mut story = Story::default();
        story.observe(frame(10, Side::Client, MessageType::CALL, MessageStatus::OK, vec![]));
        let what = What::Ended { reason: None };
        let told = story.observe(Seen { connection: 1, at_us: 99, what });
        assert_eq!(told.len(), 2);
        let Happening::Call { answer, took_us, .. } = &told[0].what else { panic!("{told:?}") };
        assert_eq!((answer, *took_us), (&Answer::None { unanswered: true }, 89));
    }

    #[test]
    fn steps_stand_with_their_call_and_events_say_where_they_came_from() {
        let mut story = Story::default();
        let call = Origin { connection: 1, serial: 3 };
        let dom = json!({"dom": {"name": "g", "uuid": "11", "id": 1}});
        let seen = |at_us, what| Seen { connection: 1, at_us, what };
        let decoded = |kind| Decoded {
            program: "remote".to_owned(),
            procedure: "DOMAIN_SUSPEND".to_owned(),
            serial: 3,
            descriptors: 0,
            kind,
        };
        let frame = |from, during, kind| What::Frame { from, during, frame: decoded(kind) };
        let step = |name: &str, began_us| Step {
            step: name.to_owned(),
            began_us,
            took_us: Some(5),
            detail: [("command".to_owned(), json!("stop"))].into_iter().collect(),
        };
        let client = Client { pid: Some(7), uid: Some(0), ..Client::default() };
        story.observe(seen(0, What::Connected(client.clone())));
        story.observe(seen(1, frame(Side::Client, None, Kind::Call { args: dom.clone() })));
        // Steps are told when they end: the inner one first.
        story.observe(seen(9, What::Step { serial: Some(3), step: step("qmp", 4) }));
        story.observe(seen(9, What::Step { serial: Some(3), step: step("driver", 2) }));
        let event = || Kind::Event { content: json!({"msg": dom}) };
        let cause = |told: Vec<Entry>| match &told[..] {
            [Entry { what: Happening::Event { cause, .. }, .. }] => cause.clone(),
            other => panic!("{other:?}"),
        };
        let procedure = "DOMAIN_SUSPEND".to_owned();
        let certain = cause(story.observe(seen(10, frame(Side::Daemon, Some(call), event()))));
        assert_eq!(certain, Some(Cause { call, procedure: procedure.clone(), certain: true }));
        let told = story.observe(seen(11, frame(Side::Daemon, None, Kind::Reply { result: Value::Null })));
        let Happening::Call { steps, client: by, .. } = &told[0].what else { panic!("{told:?}") };
        assert_eq!(steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["driver", "qmp"]);
        assert_eq!(*by, client);
        let likely = cause(story.observe(seen(20, frame(Side::Daemon, None, event()))));
        assert_eq!(likely, Some(Cause { call, procedure, certain: false }));
    }
}
