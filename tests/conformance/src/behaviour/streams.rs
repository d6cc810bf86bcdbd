//! Streams, by the screenshot that the test driver always has.

use virtwire_protocol::codec;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask};
use crate::case::{Failure, Target, expect};
use crate::peer::Peer;

pub(super) const CASES: &[Row] = &[
    (
        "stream/download",
        "data, an empty frame, and a confirmation of the client's finish",
        OBSERVED,
        download,
    ),
    ("stream/abort", "an abort is confirmed and the connection lives", OBSERVED, abort),
    ("stream/none", "frames for no stream are dropped", OBSERVED, none),
];

/// Starts downloads of screenshots of the domain that `test:///default` has.
pub(super) fn screenshots(peer: &mut Peer, count: usize) -> Result<Vec<MessageHeader>, Failure> {
    let lookup = DomainLookupByNameArgs { name: "test".into() };
    let Ok(found) = ask::<DomainLookupByNameRet>(peer, Procedure::DOMAIN_LOOKUP_BY_NAME, &lookup) else {
        return Err(Failure::Skipped("only test:///default has a domain called 'test'"));
    };
    let args = DomainScreenshotArgs { dom: found.dom, screen: 0, flags: 0 };
    let payload = codec::encode(&args).unwrap_or_default();
    let mut calls = Vec::new();
    for _ in 0..count {
        let call = peer.header(&PROGRAM, Procedure::DOMAIN_SCREENSHOT.0);
        peer.send(&call, &payload)?;
        calls.push(call);
    }
    Ok(calls)
}

fn screenshot(peer: &mut Peer) -> Result<MessageHeader, Failure> {
    Ok(screenshots(peer, 1)?.remove(0))
}

fn stream(call: &MessageHeader, status: MessageStatus) -> MessageHeader {
    MessageHeader { r#type: MessageType::STREAM, status, ..call.clone() }
}

fn download(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let call = screenshot(&mut peer)?;
    let (mut bytes, mut replied) = (0, false);
    loop {
        let frame = peer.receive()?;
        expect("serial", call.serial, frame.header.serial)?;
        match frame.header.r#type {
            MessageType::REPLY => {
                frame.decode::<DomainScreenshotRet>()?;
                replied = true;
            }
            MessageType::STREAM if frame.payload.is_empty() => {
                expect("status of the empty frame", MessageStatus::CONTINUE, frame.header.status)?;
                break;
            }
            _ => bytes += frame.payload.len(),
        }
    }
    expect("a reply and data", (true, true), (replied, bytes > 0))?;
    peer.send(&stream(&call, MessageStatus::OK), &[])?;
    let end = peer.receive()?;
    expect("confirmation", (stream(&call, MessageStatus::OK), 0), (end.header, end.payload.len()))
}

fn abort(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let call = screenshot(&mut peer)?;
    peer.reply(&call)?.decode::<DomainScreenshotRet>()?;
    peer.send(&stream(&call, MessageStatus::ERROR), &[])?;
    // Data that was queued may still come before the confirmation.
    loop {
        let frame = peer.receive()?;
        if frame.header.status == MessageStatus::OK && frame.header.r#type == MessageType::STREAM {
            break;
        }
    }
    expect("a call afterwards", 0, peer.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)
}

fn none(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let header = peer.header(&PROGRAM, Procedure::DOMAIN_OPEN_CONSOLE.0);
    peer.send(&stream(&header, MessageStatus::CONTINUE), b"lost")?;
    expect("a call afterwards", 0, peer.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)
}
