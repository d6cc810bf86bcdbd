//! Every recorded frame decodes with the generated types to its last byte, and encodes to the same bytes again; so it
//! does by way of JSON and the schema tables.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use virtwire_protocol::frame::{self, FrameBuffer, carries_descriptors};
use virtwire_protocol::procedures::{ProcedureInfo, Program};
use virtwire_protocol::sample::{self, Row};
use virtwire_protocol::schema::{self, StructDef};
use virtwire_protocol::{admin, keepalive, lock, log, lxc, net, qemu, remote};

use crate::shared::{json, json_files, list, root, shared};

const PROGRAMS: [&Program; 7] = [
    &remote::PROGRAM,
    &qemu::PROGRAM,
    &lxc::PROGRAM,
    &admin::PROGRAM,
    &keepalive::PROGRAM,
    &lock::PROGRAM,
    &log::PROGRAM,
];

/// What the payload of a frame is.
enum Payload {
    /// Bytes of a stream.
    Raw,
    /// Nothing.
    Empty,
    /// A struct.
    Struct(&'static StructDef),
}

#[test]
fn our_own() {
    let frames = folder(&root().join("tests/captures"));
    assert!(frames > 2500, "only {frames} frames");
}

#[test]
fn shared_ones() {
    let Some(path) = shared("wire/captures") else { return };
    let frames = folder(&path);
    assert!(frames > 7500, "only {frames} frames");
}

/// Each direction of each connection, in pieces as a socket might give them.
#[test]
fn connections_fall_into_their_frames() {
    let own = root().join("tests/captures");
    let shared = shared("wire/captures");
    for file in [Some(own), shared].into_iter().flatten().flat_map(|folder| json_files(&folder)) {
        let capture = json(&file);
        let mut buffers = HashMap::<_, FrameBuffer>::new();
        for (index, frame) in list(&capture, "frames").iter().enumerate() {
            let buffer = buffers.entry((frame["conn"].to_string(), frame["dir"].to_string())).or_default();
            let what = format!("{} frame {index}", file.display());
            let bytes = whole(frame);
            for piece in bytes.chunks(1000) {
                buffer.feed(piece);
            }
            let found = buffer.next_frame();
            if ["not a frame", "33 descriptors"].map(Value::from).contains(&frame["malformed_on_purpose"]) {
                assert!(found.is_err(), "{what}: {found:?}");
                continue;
            }
            let found = found.ok().flatten().unwrap_or_else(|| panic!("{what}: not whole"));
            let header = &frame["header"];
            assert_eq!(json!(found.header.prog), header["program"], "{what}");
            assert_eq!(json!(found.header.proc), header["procedure"], "{what}");
            assert_eq!(json!(found.header.serial), header["serial"], "{what}");
            assert_eq!(json!(found.descriptors), frame.get("fds").cloned().unwrap_or(json!(0)), "{what}");
            if found.descriptors == 0 && !carries_descriptors(found.header.r#type) {
                let again = frame::encode_bytes(&found.header, found.payload);
                assert!(again.as_ref() == Ok(&bytes), "{what}: other bytes");
            }
            assert!(!buffer.is_partial(), "{what}: bytes left over");
        }
    }
}

/// The bytes that went over the socket; what a capture has left out of a stream is zeros here.
fn whole(frame: &Value) -> Vec<u8> {
    let hex = |key: &str| unhex(frame[key].as_str().unwrap_or_default());
    let mut bytes = hex("lump");
    let Some(header) = frame["header"].as_object() else { return bytes };
    let words = ["program", "version", "procedure", "type", "serial", "status"].map(|key| &header[key]);
    for word in [&frame["length"]].into_iter().chain(words) {
        bytes.extend((word.as_i64().unwrap_or_default() as u32).to_be_bytes());
    }
    bytes.extend(hex("payload"));
    bytes.resize(frame["length"].as_u64().unwrap_or_default() as usize, 0);
    bytes.extend(hex("carrier"));
    bytes
}

/// Checks all captures of a folder: how many frames that was.
fn folder(path: &Path) -> usize {
    let rows: HashMap<_, _> = sample::all().into_iter().map(|row| (row.name, row)).collect();
    let mut count = 0;
    for file in json_files(path) {
        let capture = json(&file);
        for (index, frame) in list(&capture, "frames").iter().enumerate() {
            if !frame["malformed_on_purpose"].is_null() {
                continue;
            }
            count += 1;
            if let Err(error) = check(frame, &rows) {
                panic!("{} frame {index}: {error}\n{}", file.display(), frame["header"]);
            }
        }
    }
    count
}

fn check(frame: &Value, rows: &HashMap<&str, Row>) -> Result<(), String> {
    let header = Header::of(frame);
    let mut payload = unhex(frame["payload"].as_str().unwrap_or_default());
    let length = frame["payload_length"].as_u64().unwrap_or(payload.len() as u64) + 28;
    if frame["length"].as_u64() != Some(length) {
        return Err(format!("length word {}, but {length} bytes", frame["length"]));
    }
    if matches!(header.r#type, 4 | 5) {
        let count = payload.drain(..4).fold(0, |word, byte| word << 8 | u64::from(byte));
        if count != frame["fds"].as_u64().unwrap_or_default() {
            return Err(format!("{count} descriptors announced"));
        }
    }
    let def = match header.payload(&payload)? {
        Payload::Raw => return Ok(()),
        Payload::Empty if payload.is_empty() => return Ok(()),
        Payload::Empty => return Err(format!("{} bytes where none belong", payload.len())),
        Payload::Struct(def) => def,
    };
    let name = def.name;
    let row = rows.get(name).ok_or_else(|| format!("no type {name}"))?;
    let again = (row.recode)(&payload).map_err(|error| format!("{name}: {error}"))?;
    if again != payload {
        return Err(format!("{name}: encodes to other bytes"));
    }
    let json = schema::to_json(def, &payload).map_err(|error| format!("{name}: {error}"))?;
    let again = schema::from_json(def, &json).map_err(|error| format!("{name}: {error} in {json}"))?;
    if again == payload { Ok(()) } else { Err(format!("{name}: other bytes after JSON {json}")) }
}

struct Header {
    program: u64,
    procedure: i32,
    r#type: u64,
    status: u64,
    from_client: bool,
}

impl Header {
    fn of(frame: &Value) -> Self {
        let header = &frame["header"];
        let word = |key: &str| header[key].as_u64().unwrap_or_default();
        Self {
            program: word("program"),
            procedure: header["procedure"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or_default(),
            r#type: word("type"),
            status: word("status"),
            from_client: frame["dir"] == "c>s",
        }
    }

    fn procedure(&self) -> Result<&'static ProcedureInfo, String> {
        let program = PROGRAMS.iter().find(|program| u64::from(program.number) == self.program);
        program.and_then(|p| p.procedure(self.procedure)).ok_or_else(|| "no such procedure".to_owned())
    }

    /// By type and status, as the protocol has it.
    fn payload(&self, bytes: &[u8]) -> Result<Payload, String> {
        let or_empty = |def: Option<&'static StructDef>| def.map_or(Payload::Empty, Payload::Struct);
        let known_program = PROGRAMS.iter().any(|program| u64::from(program.number) == self.program);
        match (self.r#type, self.status) {
            // Of an unknown program nothing is known but that the daemon refuses it.
            (0, 0) if !known_program => Ok(Payload::Raw),
            (0 | 4, 0) => Ok(or_empty(self.procedure()?.args)),
            (1 | 5, 0) => Ok(or_empty(self.procedure()?.ret)),
            (2, 0) => Ok(or_empty(self.procedure()?.msg)),
            (3, 2) => Ok(Payload::Raw),
            (3, 0) => Ok(Payload::Empty),
            (3, 1) if self.from_client && bytes.is_empty() => Ok(Payload::Empty),
            (1 | 3 | 5, 1) => Ok(Payload::Struct(&net::schema::MESSAGE_ERROR)),
            (6, 2) => Ok(Payload::Struct(&net::schema::STREAM_HOLE)),
            (r#type, status) => Err(format!("type {type} with status {status}")),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    text.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, &half| byte << 4 | digit(half))).collect()
}
