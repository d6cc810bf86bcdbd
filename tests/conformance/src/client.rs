//! A scripted daemon that any client can be pointed at. It judges what the client sends, and answers in ways that are
//! legal but awkward.

use std::collections::HashSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use virtwire_protocol::codec::{self, Encode};
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::{Direction, ProcedureInfo};
use virtwire_protocol::remote::*;
use virtwire_protocol::sample::{self, Row};
use virtwire_protocol::{ErrorCode, ErrorDomain, PROGRAMS, keepalive};

use crate::peer::{Peer, PeerError};

/// A legal way to make a client's life hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awkwardness {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What a client has to cope with.
    pub tries: &'static str,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Plain,
    TinyWrites,
    EventFirst,
    UnknownEvent,
    PingFirst,
    UnknownProcedure,
    OutOfOrder,
    LatePongs,
}

/// Everything that can be tried.
pub const AWKWARD: &[Awkwardness] = &[
    Awkwardness { name: "plain", tries: "an ordinary daemon", how: How::Plain },
    Awkwardness { name: "tiny-writes", tries: "replies that come byte by byte", how: How::TinyWrites },
    Awkwardness {
        name: "event-first",
        tries: "events of a callback that it never registered",
        how: How::EventFirst,
    },
    Awkwardness {
        name: "unknown-event",
        tries: "a message of a procedure from the future",
        how: How::UnknownEvent,
    },
    Awkwardness {
        name: "ping-first",
        tries: "a ping before each reply, which must be answered",
        how: How::PingFirst,
    },
    Awkwardness {
        name: "old-daemon",
        tries: "a daemon that knows few procedures",
        how: How::UnknownProcedure,
    },
    Awkwardness {
        name: "out-of-order",
        tries: "replies to calls under way at the same time, the last one first",
        how: How::OutOfOrder,
    },
    Awkwardness {
        name: "late-pongs",
        tries: "pings that are answered behind the next reply, or after a while",
        how: How::LatePongs,
    },
];

/// How long a frame is held back that waits for another to go first.
const HOLD: Duration = Duration::from_millis(100);
/// Calls under way that are answered the last one first.
const AT_ONCE: usize = 4;

/// What a session with a client has shown.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verdict {
    /// Calls that were served.
    pub calls: usize,
    /// Pings that were answered, of those sent.
    pub pongs: (usize, usize),
    /// What was wrong, in order.
    pub faults: Vec<String>,
    /// Whether the client said goodbye.
    pub closed: bool,
}

impl Verdict {
    /// Whether nothing was wrong. The last ping may meet a client that is leaving.
    pub fn is_fine(&self) -> bool {
        let (answered, sent) = self.pongs;
        self.faults.is_empty() && (answered == sent || (self.closed && answered + 1 == sent))
    }
}

/// Serves one client to its end.
pub fn serve(socket: UnixStream, awkwardness: &Awkwardness) -> io::Result<Verdict> {
    let mut session = Session {
        peer: Peer::over(socket),
        how: awkwardness.how,
        rows: sample::all(),
        verdict: Verdict::default(),
        serials: HashSet::new(),
        listens: false,
        held: Vec::new(),
    };
    match session.run() {
        Ok(()) | Err(PeerError::Closed) => {}
        Err(error) => session.verdict.faults.push(error.to_string()),
    }
    Ok(session.verdict)
}

struct Session {
    peer: Peer,
    how: How,
    rows: Vec<Row>,
    verdict: Verdict,
    serials: HashSet<u32>,
    listens: bool,
    /// Frames that others are to go before, the first one first.
    held: Vec<Vec<u8>>,
}

impl Session {
    fn run(&mut self) -> Result<(), PeerError> {
        while !self.verdict.closed {
            let frame = match self.held.is_empty() {
                true => self.peer.receive()?,
                false => match self.peer.receive_within(HOLD) {
                    Err(PeerError::Silent) => {
                        self.release()?;
                        continue;
                    }
                    frame => frame?,
                },
            };
            let header = frame.header;
            match header.r#type {
                MessageType::CALL | MessageType::CALL_WITH_FDS => self.call(&header, &frame.payload)?,
                MessageType::MESSAGE if header.prog == keepalive::PROGRAM.number => self.pulse(&header)?,
                other => self.fault(format!("sent a frame of type {} to a daemon", other.0)),
            }
        }
        self.release()
    }

    /// Sends what was held back, the last one first.
    fn release(&mut self) -> Result<(), PeerError> {
        self.held.drain(..).rev().try_for_each(|frame| self.peer.write(&frame))
    }

    fn fault(&mut self, text: String) {
        self.verdict.faults.push(text);
    }

    fn pulse(&mut self, header: &MessageHeader) -> Result<(), PeerError> {
        if header.proc == keepalive::Procedure::PONG.0 {
            self.verdict.pongs.0 += 1;
            return Ok(());
        }
        self.send(&MessageHeader { proc: keepalive::Procedure::PONG.0, ..header.clone() }, &[])
    }

    fn call(&mut self, header: &MessageHeader, payload: &[u8]) -> Result<(), PeerError> {
        self.verdict.calls += 1;
        let known = PROGRAMS.iter().find(|program| program.number == header.prog);
        let info = known.and_then(|program| program.procedure(header.proc));
        let Some(info) = info.filter(|info| info.direction == Direction::Call) else {
            self.fault(format!("called procedure {} of program {}", header.proc, header.prog));
            return self.refuse(header, &format!("unknown procedure: {}", header.proc));
        };
        self.judge(header, info, payload);
        self.before(header)?;
        match self.answer(header, info) {
            Some(reply) => self.send(&frame::reply_to(header, MessageStatus::OK), &reply)?,
            None => self.refuse(header, &format!("unknown procedure: {}", header.proc))?,
        }
        self.listens |= info.name == "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY";
        self.verdict.closed = info.name == "CONNECT_CLOSE";
        Ok(())
    }

    /// What a client may get wrong: status, serials, arguments.
    fn judge(&mut self, header: &MessageHeader, info: &ProcedureInfo, payload: &[u8]) {
        if header.status != MessageStatus::OK {
            self.fault(format!("{} with status {}", info.name, header.status.0));
        }
        // Calls of several threads may overtake each other.
        if !self.serials.insert(header.serial) {
            self.fault(format!("{} with serial {}, which another call had", info.name, header.serial));
        }
        let row = info.args.and_then(|args| self.rows.iter().find(|row| row.name == args.name));
        let again = match row {
            Some(row) => (row.recode)(payload),
            None if payload.is_empty() => return,
            None => {
                return self.fault(format!("{} takes no arguments, {} bytes came", info.name, payload.len()));
            }
        };
        match again {
            Ok(again) if again == payload => {}
            Ok(_) => self.fault(format!("{}: arguments are not in their canonical form", info.name)),
            Err(error) => self.fault(format!("{}: arguments do not decode: {error}", info.name)),
        }
    }

    /// What comes before a reply.
    fn before(&mut self, call: &MessageHeader) -> Result<(), PeerError> {
        let message = |proc| MessageHeader { proc, r#type: MessageType::MESSAGE, serial: 1, ..call.clone() };
        match self.how {
            // To a client that has asked for events, though not for this one.
            How::EventFirst if self.listens => {
                let msg = DomainEventCallbackLifecycleMsg { callback_id: 12345, ..Default::default() };
                let payload = codec::encode(&msg).unwrap_or_default();
                let header = message(Procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE.0);
                self.send(&MessageHeader { prog: PROGRAM.number, ..header }, &payload)
            }
            How::UnknownEvent => self.send(&MessageHeader { prog: PROGRAM.number, ..message(9000) }, &[0; 8]),
            // A daemon pings no client that is not authenticated; one that leaves need not answer.
            How::PingFirst if ![Procedure::AUTH_LIST.0, Procedure::CONNECT_CLOSE.0].contains(&call.proc) => {
                self.verdict.pongs.1 += 1;
                let (prog, proc) = (keepalive::PROGRAM.number, keepalive::Procedure::PING.0);
                self.send(&MessageHeader { prog, serial: 0, ..message(proc) }, &[])
            }
            _ => Ok(()),
        }
    }

    /// The results of the procedures that every client calls; `None` for what this daemon does not know.
    fn answer(&self, header: &MessageHeader, info: &ProcedureInfo) -> Option<Vec<u8>> {
        fn some(value: &impl Encode) -> Option<Vec<u8>> {
            codec::encode(value).ok()
        }
        if header.prog != PROGRAM.number {
            return None;
        }
        match Procedure(info.number) {
            Procedure::AUTH_LIST => some(&AuthListRet { types: vec![AuthType::NONE] }),
            Procedure::CONNECT_OPEN | Procedure::CONNECT_CLOSE => some(&()),
            Procedure::CONNECT_SUPPORTS_FEATURE => some(&ConnectSupportsFeatureRet { supported: 1 }),
            Procedure::CONNECT_GET_LIB_VERSION => some(&ConnectGetLibVersionRet { lib_ver: 11_003_000 }),
            Procedure::CONNECT_GET_URI => some(&ConnectGetUriRet { uri: "test:///default".into() }),
            _ if self.how == How::UnknownProcedure => None,
            Procedure::CONNECT_GET_TYPE => some(&ConnectGetTypeRet { r#type: "SCRIPTED".into() }),
            Procedure::CONNECT_GET_VERSION => some(&ConnectGetVersionRet { hv_ver: 2 }),
            Procedure::CONNECT_GET_HOSTNAME => {
                some(&ConnectGetHostnameRet { hostname: "scripted.example".into() })
            }
            Procedure::CONNECT_REGISTER_CLOSE_CALLBACK | Procedure::CONNECT_UNREGISTER_CLOSE_CALLBACK => {
                some(&())
            }
            Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY => {
                some(&ConnectDomainEventCallbackRegisterAnyRet { callback_id: 1 })
            }
            Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY => some(&()),
            Procedure::CONNECT_LIST_ALL_DOMAINS => {
                let domain = NonnullDomain { name: "scripted".into(), uuid: [5; 16], id: 7 };
                some(&ConnectListAllDomainsRet { domains: vec![domain], ret: 1 })
            }
            Procedure::DOMAIN_GET_STATE => some(&DomainGetStateRet { state: 1, reason: 1 }),
            _ => None,
        }
    }

    fn refuse(&mut self, call: &MessageHeader, text: &str) -> Result<(), PeerError> {
        let message = MessageError {
            code: ErrorCode::RPC.0,
            domain: ErrorDomain::RPC.0,
            message: Some(text.into()),
            level: 2,
            int1: -1,
            int2: -1,
            ..Default::default()
        };
        let payload = codec::encode(&message).unwrap_or_default();
        self.send(&frame::reply_to(call, MessageStatus::ERROR), &payload)
    }

    fn send(&mut self, header: &MessageHeader, payload: &[u8]) -> Result<(), PeerError> {
        let bytes = frame::encode_bytes(header, payload).unwrap_or_default();
        match self.how {
            How::TinyWrites => bytes.iter().try_for_each(|byte| self.peer.write(&[*byte])),
            How::OutOfOrder => {
                self.held.push(bytes);
                if self.held.len() < AT_ONCE { Ok(()) } else { self.release() }
            }
            How::LatePongs if header.prog == keepalive::PROGRAM.number => {
                self.held.push(bytes);
                Ok(())
            }
            How::LatePongs => self.peer.write(&bytes).and_then(|()| self.release()),
            _ => self.peer.write(&bytes),
        }
    }
}
