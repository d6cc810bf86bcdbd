//! Record and replay: a recorded conversation becomes a regression case. The client's side is played to a daemon, and
//! what comes back is compared by meaning: UUIDs, addresses, numbers of domains and times may be others.

pub mod case;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use virtwire_conformance::peer::{Peer, PeerError, Received};
use virtwire_protocol::net::{MessageHeader, MessageType};
use virtwire_protocol::procedures::Program;
use virtwire_protocol::schema;
use virtwire_protocol::{ErrorCode, ErrorDomain, admin, keepalive, lxc, qemu, remote};

use crate::compare::canonical;
use crate::diff::xml;
use case::{Answer, Case, Step, named};

/// Where a case is replayed.
#[derive(Clone, Debug)]
pub struct Sockets {
    /// The read-write socket.
    pub main: PathBuf,
    /// The read-only socket.
    pub read_only: PathBuf,
    /// The administration socket.
    pub admin: PathBuf,
}

impl Sockets {
    /// The usual names in one folder.
    pub fn below(folder: &std::path::Path) -> Self {
        Self {
            main: folder.join("libvirt-sock"),
            read_only: folder.join("libvirt-sock-ro"),
            admin: folder.join("libvirt-admin-sock"),
        }
    }
}

/// Something that came back otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The procedure.
    pub procedure: String,
    /// What differs.
    pub what: String,
    /// As recorded.
    pub recorded: String,
    /// As it came.
    pub came: String,
}

/// What a replay has shown.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Answers and events that came as recorded.
    pub equal: usize,
    /// Those that did not.
    pub different: Vec<Difference>,
}

/// Recordings that need neither guests nor disks of the machine they were made on: the tests play them.
pub const CAPTURES: &[&str] = &[
    "vw-admin",
    "vw-events-callback",
    "vw-events-legacy",
    "vw-keepalive",
    "vw-open-close",
    "vw-open-close-ro",
    "vw-raw-rest",
    "vw-readonly-denied",
    "vw-test-domains",
    "vw-test-errors",
    "vw-test-host",
    "vw-test-networks",
    "vw-test-snapshots",
    "vw-test-storage",
    "vw-typed-params",
];

/// Recordings that were made one after the other on a daemon with the folder `/var/lib/libvirt/vw`, in which there is the
/// disk `vw-disk.img`: storage and its streams, guests and their descriptors.
pub const MACHINE: &[&str] = &[
    "vw-secrets",
    "vw-nwfilters",
    "vw-storage",
    "vw-streams",
    "vw-streams-sparse",
    "vw-streams-abort",
    "vw-storage-gone",
    "vw-screenshot",
    "vw-console",
    "vw-descriptors",
];

/// The programs that clients call.
const PROGRAMS: [&Program; 4] = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM];

/// Plays a case.
///
/// # Errors
/// If a connection breaks where the recorded one did not.
pub fn replay(case: &Case, sockets: &Sockets) -> Result<Replayed, PeerError> {
    let socket = match case.socket.as_str() {
        "libvirt-sock-ro" => &sockets.read_only,
        "libvirt-admin-sock" => &sockets.admin,
        _ => &sockets.main,
    };
    let mut replayed = Replayed::default();
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    for step in &case.steps {
        let connection = match connections.entry(step.connection()) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Connection::open(socket)?),
        };
        let (procedure, recorded, came) = match step {
            Step::Call { program, procedure, serial, args, descriptors, answer, .. } => {
                let (came, passed) = connection.call(program, procedure, *serial, args, descriptors.0)?;
                connection.learn(procedure, answer, &came);
                (procedure, with(shown(answer), descriptors.1), with(shown(&came), passed))
            }
            Step::Stream { procedure, serial, bytes, sent, end, .. } => {
                let came = connection.stream(procedure, *serial, *bytes, sent, end)?;
                let alike = |(bytes, end): (usize, String)| stream::shown(procedure, bytes, &end);
                (procedure, alike((bytes.1, end.clone())), alike(came))
            }
            Step::Event { procedure, content, .. } => (
                procedure,
                event(procedure, content),
                connection.event()?.unwrap_or_else(|| "nothing".to_owned()),
            ),
        };
        match difference(&recorded, &came) {
            None => replayed.equal += 1,
            Some(what) => {
                let procedure = procedure.clone();
                replayed.different.push(Difference { procedure, what, recorded, came });
            }
        }
    }
    Ok(replayed)
}

/// An answer with its descriptors.
fn with(answer: String, descriptors: usize) -> String {
    if descriptors == 0 { answer } else { format!("{answer} and {descriptors} descriptors") }
}

/// How long an event may take.
const EVENT: Duration = Duration::from_secs(5);

struct Connection {
    peer: Peer,
    events: VecDeque<String>,
    /// The calls that have opened streams, by their recorded serials.
    streams: HashMap<u64, MessageHeader>,
    /// What has come on streams meanwhile, by their serials of here.
    flowed: HashMap<u32, VecDeque<Received>>,
    /// Our ends of descriptors that were passed.
    kept: Vec<UnixStream>,
    /// UUIDs as recorded, and as they are here.
    uuids: HashMap<String, String>,
    /// Numbers of callbacks likewise; each class of events has its own.
    callbacks: HashMap<(String, String), Value>,
}

impl Connection {
    fn open(socket: &std::path::Path) -> Result<Self, PeerError> {
        Ok(Self {
            peer: Peer::connect(socket)?,
            events: VecDeque::new(),
            streams: HashMap::new(),
            flowed: HashMap::new(),
            kept: Vec::new(),
            uuids: HashMap::new(),
            callbacks: HashMap::new(),
        })
    }

    /// Makes a call, with so many descriptors; the answer, and how many came with it.
    fn call(
        &mut self,
        program: &str,
        procedure: &str,
        serial: u64,
        args: &Value,
        descriptors: usize,
    ) -> Result<(Answer, usize), PeerError> {
        let found = PROGRAMS.iter().find(|known| known.name == program);
        let Some((program, info)) =
            found.and_then(|known| Some((*known, known.procedure_by_name(procedure)?)))
        else {
            return Ok((Answer::Unanswered, 0));
        };
        let mut args = self.here(args);
        if let Some(here) = self.callbacks.get(&(class_of(procedure), args[CALLBACK].to_string())) {
            args[CALLBACK] = here.clone();
        }
        let payload = info.args.map(|shape| schema::from_json(shape, &args)).transpose();
        let payload = payload.map_err(|error| PeerError::Refused(error.to_string()))?.unwrap_or_default();
        let mut header = self.peer.header(program, info.number);
        let mut passed = Vec::new();
        for _ in 0..descriptors {
            let (ours, theirs) = UnixStream::pair()?;
            self.kept.push(ours);
            passed.push(theirs.into());
        }
        if descriptors > 0 {
            header.r#type = MessageType::CALL_WITH_FDS;
        }
        self.peer.send_with(&header, &payload, &passed)?;
        loop {
            let frame = match self.peer.receive() {
                Err(PeerError::Closed) => return Ok((Answer::Unanswered, 0)),
                frame => frame?,
            };
            let reply = matches!(frame.header.r#type, MessageType::REPLY | MessageType::REPLY_WITH_FDS);
            if !reply || frame.header.serial != header.serial {
                self.put_aside(frame);
                continue;
            }
            let passed = frame.descriptors.len();
            if info.stream.is_some() {
                self.streams.insert(serial, header);
            }
            let answer = match frame.error()? {
                Some(error) => Answer::Error {
                    code: named(ErrorCode(error.code).name(), error.code),
                    domain: named(ErrorDomain(error.domain).name(), error.domain),
                    message: error.message.map(|text| text.to_string()).unwrap_or_default(),
                },
                None => Answer::Result(match info.ret {
                    Some(shape) => schema::to_json(shape, &frame.payload).map_err(PeerError::Decode)?,
                    None => json!({}),
                }),
            };
            return Ok((answer, passed));
        }
    }

    /// Keeps what is not waited for now.
    fn put_aside(&mut self, frame: Received) {
        match frame.header.r#type {
            _ if frame.header.prog == keepalive::PROGRAM.number => {
                // A daemon that pings is answered, or it ends the connection; that it has ended comes out elsewhere.
                let _ = self.peer.send(&virtwire_protocol::frame::keepalive(keepalive::Procedure::PONG), &[]);
            }
            MessageType::STREAM | MessageType::STREAM_HOLE => {
                self.flowed.entry(frame.header.serial).or_default().push_back(frame);
            }
            _ => self.events.extend(message(&frame)),
        }
    }

    /// The next event; `None` if none comes.
    fn event(&mut self) -> Result<Option<String>, PeerError> {
        while self.events.is_empty() {
            match self.peer.receive_within(EVENT) {
                Ok(frame) => self.put_aside(frame),
                Err(PeerError::Silent | PeerError::Closed) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.events.pop_front())
    }

    /// Takes the UUIDs of objects that were made by this call, and the number of a callback.
    fn learn(&mut self, procedure: &str, recorded: &Answer, came: &Answer) {
        if let (Answer::Result(recorded), Answer::Result(came)) = (recorded, came) {
            if let (Some(number), Some(here)) = (recorded.get(CALLBACK), came.get(CALLBACK)) {
                self.callbacks.insert((class_of(procedure), number.to_string()), here.clone());
            }
            learn(recorded, came, &mut self.uuids);
        }
    }

    /// Arguments as recorded, with the UUIDs of here.
    fn here(&self, args: &Value) -> Value {
        let mut text = args.to_string();
        for (recorded, here) in &self.uuids {
            text = text.replace(recorded, here);
        }
        serde_json::from_str(&text).unwrap_or_else(|_| args.clone())
    }
}

/// The field that has a callback's number.
const CALLBACK: &str = "callbackID";

/// `CONNECT_NETWORK_EVENT` of a procedure about its events.
fn class_of(procedure: &str) -> String {
    procedure.split("_EVENT").next().unwrap_or_default().to_owned()
}

fn learn(recorded: &Value, came: &Value, uuids: &mut HashMap<String, String>) {
    match (recorded, came) {
        (Value::Object(recorded), Value::Object(came)) => {
            for (name, value) in recorded {
                match (value.as_str(), came.get(name).and_then(Value::as_str)) {
                    (Some(recorded), Some(came)) if name == "uuid" && recorded != came => {
                        uuids.insert(recorded.to_owned(), came.to_owned());
                    }
                    _ => learn(value, came.get(name).unwrap_or(&Value::Null), uuids),
                }
            }
        }
        (Value::Array(recorded), Value::Array(came)) => {
            for (recorded, came) in recorded.iter().zip(came) {
                learn(recorded, came, uuids);
            }
        }
        _ => {}
    }
}

/// What a message of the daemon's says; nothing if it is no event.
fn message(frame: &Received) -> Option<String> {
    let program = PROGRAMS.iter().find(|program| program.number == frame.header.prog)?;
    let info = program.procedure(frame.header.proc)?;
    let content = schema::to_json(info.msg?, &frame.payload).ok()?;
    (frame.header.r#type == MessageType::MESSAGE).then(|| event(info.name, &content))
}

fn event(procedure: &str, content: &Value) -> String {
    format!("{procedure} {}", without_numbers(content.clone()))
}

fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Result(value) => without_numbers(value.clone()),
        Answer::Error { code, domain, message } => format!("{code} of {domain}: {}", canonical(message)),
        Answer::Unanswered => "no answer".to_owned(),
    }
}

/// Without what differs from run to run; running domains have any number, and lists of objects any order.
fn without_numbers(mut value: Value) -> String {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("uuid")
                    && fields.get("id").and_then(Value::as_i64).is_some_and(|id| id >= 0)
                {
                    fields.insert("id".to_owned(), json!("running"));
                }
                fields.remove(CALLBACK);
                fields.values_mut().for_each(clean);
            }
            Value::Array(items) => {
                items.iter_mut().for_each(clean);
                if items.iter().all(|item| item.get("name").is_some()) {
                    items.sort_by_key(|item| item["name"].to_string());
                }
            }
            _ => {}
        }
    }
    clean(&mut value);
    canonical(&value.to_string())
}

fn difference(recorded: &str, came: &str) -> Option<String> {
    if recorded == came {
        return None;
    }
    // Of a single document, where it differs.
    let document = |text: &str| {
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = value.as_object()?;
        let text =
            fields.values().next()?.as_str().filter(|text| fields.len() == 1 && text.starts_with('<'))?;
        Some(text.to_owned())
    };
    match (document(recorded), document(came)) {
        (Some(recorded), Some(came)) => xml::difference(&recorded, &came),
        _ => Some("the answer".to_owned()),
    }
}
