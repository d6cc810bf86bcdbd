//! Frames as such: lengths, cuts, unknown numbers, descriptors, pings.

use virtwire_protocol::frame;
use virtwire_protocol::keepalive;
use virtwire_protocol::net::{MessageHeader, MessageType};
use virtwire_protocol::remote::{PROGRAM, Procedure};

use super::{OBSERVED, Row};
use crate::case::{Failure, Target, expect};
use crate::peer::{Peer, PeerError, text};

const RPC: &str = "libvirt's RPC document, \"Packet framing\"";

pub(super) const CASES: &[Row] = &[
    ("frame/length-too-small", "a length below a header ends the connection", RPC, length_too_small),
    ("frame/length-too-large", "a length over 32 MiB + 4 ends the connection", RPC, length_too_large),
    ("frame/byte-by-byte", "a call that comes byte by byte is served", RPC, byte_by_byte),
    ("frame/pipelined", "calls sent in one write are all answered", OBSERVED, pipelined),
    (
        "frame/unknown-program",
        "an unknown program is answered with its own header",
        OBSERVED,
        unknown_program,
    ),
    ("frame/unknown-version", "an unknown version is answered", OBSERVED, unknown_version),
    ("frame/unknown-procedure", "an unknown procedure is answered", OBSERVED, unknown_procedure),
    (
        "frame/dropped-types",
        "replies, messages, streams and unknown types are dropped",
        OBSERVED,
        dropped_types,
    ),
    (
        "frame/too-many-descriptors",
        "more than 32 descriptors end the connection",
        OBSERVED,
        too_many_descriptors,
    ),
    (
        "frame/missing-descriptor",
        "an announced descriptor that does not come ends the connection",
        OBSERVED,
        missing_descriptor,
    ),
    (
        "frame/no-descriptors",
        "a call with descriptors that announces none is an ordinary call",
        OBSERVED,
        no_descriptors,
    ),
    ("keepalive/ping", "a ping is answered, before authentication too", OBSERVED, ping),
    ("keepalive/unknown", "an unknown keepalive procedure is dropped", OBSERVED, unknown_pulse),
];

/// Whether the connection has ended.
fn ended(peer: &mut Peer) -> Result<(), Failure> {
    match peer.receive() {
        Err(PeerError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(frame) => {
            Err(Failure::Differs(format!("expected the end of the connection, got {:?}", frame.header)))
        }
    }
}

/// Whether the connection still serves calls.
fn alive(peer: &mut Peer) -> Result<(), Failure> {
    expect("a call afterwards", 0, peer.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)
}

/// To be sent in one write: a daemon may close the connection as soon as it has seen the length.
fn length_and_zeros(length: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn length_too_small(target: &Target) -> Result<(), Failure> {
    for word in [0_u32, 4, 27] {
        let mut peer = target.open()?;
        peer.write(&length_and_zeros(word))?;
        ended(&mut peer)?;
    }
    Ok(())
}

fn length_too_large(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    peer.write(&length_and_zeros(33_554_437))?;
    ended(&mut peer)
}

fn byte_by_byte(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let header = peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0);
    for byte in frame::encode_bytes(&header, &[]).unwrap_or_default() {
        peer.write(&[byte])?;
    }
    expect("code", 0, peer.reply(&header)?.code()?)
}

fn pipelined(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let headers: Vec<_> =
        (0..50).map(|_| peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0)).collect();
    let bytes: Vec<u8> =
        headers.iter().flat_map(|h| frame::encode_bytes(h, &[]).unwrap_or_default()).collect();
    peer.write(&bytes)?;
    let mut serials = Vec::new();
    for _ in &headers {
        serials.push(peer.receive()?.header.serial);
    }
    serials.sort_unstable();
    expect("serials", headers.iter().map(|header| header.serial).collect::<Vec<_>>(), serials)
}

/// Sends a header that differs from a good one, and takes the error that answers it.
fn refused(target: &Target, change: impl FnOnce(&mut MessageHeader), expected: &str) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let mut header = peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0);
    change(&mut header);
    peer.send(&header, &[])?;
    let reply = peer.reply(&header)?;
    let echoed = (header.prog, header.vers, header.proc);
    expect("header", echoed, (reply.header.prog, reply.header.vers, reply.header.proc))?;
    let Some(error) = reply.error()? else { return Err(Failure::Differs("was served".to_owned())) };
    expect("error", (39, 7, expected.to_owned()), (error.code, error.domain, text(&error)))?;
    alive(&mut peer)
}

fn unknown_program(target: &Target) -> Result<(), Failure> {
    refused(target, |header| header.prog = 0x1234_5678, "Cannot find program 305419896 version 1")
}

fn unknown_version(target: &Target) -> Result<(), Failure> {
    refused(target, |header| header.vers = 9, "Cannot find program 536903814 version 9")
}

fn unknown_procedure(target: &Target) -> Result<(), Failure> {
    refused(target, |header| header.proc = 9999, "unknown procedure: 9999")
}

fn dropped_types(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    for kind in [
        MessageType::REPLY,
        MessageType::MESSAGE,
        MessageType::STREAM,
        MessageType::STREAM_HOLE,
        MessageType(42),
    ] {
        let header =
            MessageHeader { r#type: kind, ..peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0) };
        peer.send(&header, &[0; 16])?;
    }
    alive(&mut peer)
}

fn with_descriptors(peer: &mut Peer, count: usize) -> Result<MessageHeader, PeerError> {
    let header = peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0);
    let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..header };
    let bytes = frame::encode(&header, count, &()).map_err(|error| PeerError::Refused(error.to_string()))?;
    peer.write(&bytes)?;
    Ok(header)
}

fn too_many_descriptors(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    with_descriptors(&mut peer, 33)?;
    ended(&mut peer)
}

fn missing_descriptor(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    with_descriptors(&mut peer, 1)?;
    peer.write(&[0])?;
    ended(&mut peer)
}

fn no_descriptors(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let header = with_descriptors(&mut peer, 0)?;
    expect("code", 0, peer.reply(&header)?.code()?)
}

fn ping(target: &Target) -> Result<(), Failure> {
    for mut peer in [target.connect()?, target.open()?] {
        peer.send(&frame::keepalive(keepalive::Procedure::PING), &[])?;
        expect("pong", frame::keepalive(keepalive::Procedure::PONG), peer.receive()?.header)?;
    }
    Ok(())
}

fn unknown_pulse(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    peer.send(&frame::keepalive(keepalive::Procedure(77)), &[])?;
    alive(&mut peer)
}
