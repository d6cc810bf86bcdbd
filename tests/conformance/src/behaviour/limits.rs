//! Clients that ask more than they read, and descriptors with calls.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use virtwire_protocol::codec;
use virtwire_protocol::error::{ErrorCode, ErrorDomain};
use virtwire_protocol::net::{MessageHeader, MessageType};
use virtwire_protocol::remote::*;

use super::streams::screenshots;
use super::{OBSERVED, Row, fails};
use crate::case::{Failure, Target, expect};
use crate::peer::Peer;

pub(super) const CASES: &[Row] = &[
    (
        "limit/many-calls",
        "200 calls of which no answer is read yet are all answered, each once",
        OBSERVED,
        many,
    ),
    (
        "limit/unread-downloads",
        "downloads that a client does not read hold up nobody else, and come whole when it reads",
        OBSERVED,
        unread,
    ),
    (
        "limit/two-downloads",
        "two downloads at a time are told apart by their serials",
        OBSERVED,
        two_downloads,
    ),
    ("descriptor/missing", "a call that needs a descriptor and has none is refused", OBSERVED, missing),
    (
        "descriptor/passed",
        "a call with its descriptor is answered, and the connection lives",
        OBSERVED,
        passed,
    ),
];

/// How many calls are sent before an answer is read.
const CALLS: usize = 200;
/// How many downloads are begun before one is read.
const DOWNLOADS: usize = 4;

fn many(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let mut sent = BTreeSet::new();
    for _ in 0..CALLS {
        let call = peer.header(&PROGRAM, Procedure::CONNECT_GET_HOSTNAME.0);
        peer.send(&call, &[])?;
        sent.insert(call.serial);
    }
    let mut answered = BTreeSet::new();
    for _ in 0..CALLS {
        let reply = peer.receive()?;
        expect("type", MessageType::REPLY, reply.header.r#type)?;
        expect("a first answer", true, answered.insert(reply.header.serial))?;
    }
    expect("the serials answered", sent, answered)
}

/// Reads until each of these downloads has ended; the bytes of each.
fn drain(peer: &mut Peer, calls: &[MessageHeader]) -> Result<Vec<usize>, Failure> {
    let mut bytes = vec![0; calls.len()];
    let mut open = calls.len();
    while open > 0 {
        let frame = peer.receive()?;
        let at = calls.iter().position(|call| call.serial == frame.header.serial);
        let Some(at) = at else {
            return Err(Failure::Differs(format!("a frame of no call: {:?}", frame.header)));
        };
        match frame.header.r#type {
            MessageType::REPLY => frame.decode::<DomainScreenshotRet>().map(drop)?,
            _ if frame.payload.is_empty() => open -= 1,
            _ => bytes[at] += frame.payload.len(),
        }
    }
    Ok(bytes)
}

fn unread(target: &Target) -> Result<(), Failure> {
    let (mut peer, mut other) = (target.open()?, target.open()?);
    let calls = screenshots(&mut peer, DOWNLOADS)?;
    expect("a call of another client", 0, other.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)?;
    let bytes = drain(&mut peer, &calls)?;
    expect(
        "downloads of the same length",
        true,
        bytes.iter().all(|got| *got > 0 && Some(got) == bytes.first()),
    )
}

fn two_downloads(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let calls = screenshots(&mut peer, 2)?;
    let bytes = drain(&mut peer, &calls)?;
    expect("both whole", true, bytes[0] > 0 && bytes[0] == bytes[1])
}

fn guest() -> NonnullDomain {
    NonnullDomain { name: "test".into(), uuid: [0; 16], id: 1 }
}

fn missing(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let error = fails(
        &mut peer,
        Procedure::DOMAIN_OPEN_GRAPHICS,
        &DomainOpenGraphicsArgs { dom: guest(), idx: 0, flags: 0 },
    )?;
    let text = "internal error: No FD available at slot 0".to_owned();
    expect("error", (ErrorCode::INTERNAL_ERROR.0, ErrorDomain::RPC.0, text), error)
}

fn passed(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let args = DomainOpenGraphicsArgs { dom: guest(), idx: 0, flags: 0 };
    let call = MessageHeader {
        r#type: MessageType::CALL_WITH_FDS,
        ..peer.header(&PROGRAM, Procedure::DOMAIN_OPEN_GRAPHICS.0)
    };
    let (_ours, theirs) = UnixStream::pair().map_err(crate::peer::PeerError::from)?;
    peer.send_with(&call, &codec::encode(&args).unwrap_or_default(), &[OwnedFd::from(theirs)])?;
    let reply = peer.reply(&call)?;
    // The test hypervisor has no screen to open.
    let code = reply.code()?;
    expect("a refusal", true, code != 0)?;
    expect("a call afterwards", 0, peer.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)
}
