//! Bytes that nobody could have meant, calls that cannot be, and clients that never stop.

use virtwire_protocol::codec::{self, Encode, EncodeError};
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::Direction;
use virtwire_protocol::remote;
use virtwire_protocol::remote::Procedure;
use virtwired::{Access, Limits};

use crate::peer::Peer;

/// Bytes as they are.
struct Raw(Vec<u8>);

impl Encode for Raw {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

#[tokio::test]
async fn class_dispatch_calls_that_cannot_be_are_answered() {
    let mut peer = Peer::open().await;
    let long_string = {
        let mut out = Vec::new();
        codec::put_u32(&mut out, 4_194_305);
        out.resize(4_194_312, b'x');
        out
    };
    let call = |header: MessageHeader, payload: &[u8]| frame::encode_bytes(&header, payload).unwrap();
    let lookup = Procedure::DOMAIN_LOOKUP_BY_NAME.0;
    let base = peer.header(lookup);
    let undecodable = "Unable to decode message payload";
    for (what, header, payload, text) in [
        (
            "an unknown procedure",
            MessageHeader { proc: 9999, ..base.clone() },
            &[][..],
            "unknown procedure: 9999",
        ),
        ("procedure 0", MessageHeader { proc: 0, ..base.clone() }, &[], "unknown procedure: 0"),
        ("a negative procedure", MessageHeader { proc: -1, ..base.clone() }, &[], "unknown procedure: -1"),
        ("an event", MessageHeader { proc: 318, ..base.clone() }, &[], "unknown procedure: 318"),
        ("a program", MessageHeader { prog: 1, ..base.clone() }, &[], "Cannot find program 1 version 1"),
        (
            "a version",
            MessageHeader { vers: 2, ..base.clone() },
            &[],
            "Cannot find program 536903814 version 2",
        ),
        (
            "a status",
            MessageHeader { status: MessageStatus::ERROR, ..base.clone() },
            &[],
            "Unexpected message status 1",
        ),
        ("no arguments", base.clone(), &[], undecodable),
        ("a string without its end", base.clone(), &[0, 0, 0, 9, b'a'], undecodable),
        ("a string without its padding", base.clone(), &[0, 0, 0, 1, b'a'], undecodable),
        ("a string over its limit", base.clone(), &long_string, undecodable),
        ("bytes left over", base.clone(), &[0, 0, 0, 1, b'a', 0, 0, 0, 1], undecodable),
    ] {
        peer.write(&call(header.clone(), payload)).await;
        let reply = peer.receive().await.unwrap();
        let echoed = MessageHeader { r#type: MessageType::REPLY, status: MessageStatus::ERROR, ..header };
        assert_eq!(reply.header, echoed, "{what}");
        assert_eq!(reply.error(), (39, 7, text.into()), "{what}");
    }
}

#[tokio::test]
async fn what_means_nothing_here_is_dropped() {
    let mut peer = Peer::open().await;
    let header = peer.header(Procedure::CONNECT_GET_TYPE.0);
    for kind in [
        MessageType::REPLY,
        MessageType::MESSAGE,
        MessageType::STREAM,
        MessageType::STREAM_HOLE,
        MessageType(99),
    ] {
        let header = MessageHeader { r#type: kind, ..header.clone() };
        peer.write(&frame::encode_bytes(&header, b"abcd").unwrap()).await;
    }
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn class_counts_and_lengths_a_length_nobody_could_mean_ends_the_connection() {
    for word in [0_u32, 3, 27, 33_554_437, u32::MAX] {
        let mut peer = Peer::open().await;
        peer.write(&word.to_be_bytes()).await;
        assert!(peer.receive().await.is_none(), "length {word}");
    }
}

#[tokio::test]
async fn frames_are_small_before_authentication() {
    let mut peer = Peer::new(Access::ReadWrite, Limits::default());
    peer.write(&(65_537_u32).to_be_bytes()).await;
    assert!(peer.receive().await.is_none());
}

#[tokio::test]
async fn class_descriptors_must_match_their_frame() {
    // 33 announced.
    let mut peer = Peer::open().await;
    let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..peer.header(3) };
    peer.write(&frame::encode(&header, 33, &()).unwrap()).await;
    assert!(peer.receive().await.is_none());
    // One announced, a carrier byte without it.
    let mut peer = Peer::open().await;
    let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..peer.header(3) };
    peer.write(&[frame::encode(&header, 1, &()).unwrap(), vec![0]].concat()).await;
    assert!(peer.receive().await.is_none());
    // None announced, as if it were an ordinary call.
    let mut peer = Peer::open().await;
    let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..peer.header(3) };
    peer.write(&frame::encode(&header, 0, &()).unwrap()).await;
    assert_eq!(peer.receive().await.unwrap().header.status, MessageStatus::OK);
}

/// Every procedure, with nothing, with zeros, with ones: answered by its serial, and the daemon lives.
#[tokio::test]
async fn class_counts_and_lengths_every_procedure_survives_nonsense() {
    let mut peer = Peer::open().await;
    let calls = remote::PROGRAM.procedures.iter().flatten().filter(|info| info.direction == Direction::Call);
    let leave = [Procedure::CONNECT_CLOSE, Procedure::DOMAIN_SUSPEND, Procedure::DOMAIN_RESET];
    for info in calls.filter(|info| !leave.contains(&Procedure(info.number))) {
        for payload in [vec![], vec![0; 64], vec![0xff; 64], vec![0; 4096]] {
            let header = peer.send(Procedure(info.number), &Raw(payload)).await;
            loop {
                let reply =
                    peer.receive().await.unwrap_or_else(|| panic!("{} ended the connection", info.name));
                // Streams that nonsense may have opened can speak first.
                if reply.header.r#type != MessageType::STREAM {
                    assert_eq!(reply.header.serial, header.serial, "{}", info.name);
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_flood_is_answered_in_full_or_not_read() {
    let mut peer = Peer::open().await;
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        let header = peer.header(Procedure::CONNECT_GET_TYPE.0);
        bytes.extend(frame::encode(&header, 0, &()).unwrap());
    }
    peer.write(&bytes).await;
    for _ in 0..1000 {
        assert_eq!(peer.receive().await.unwrap().header.status, MessageStatus::OK);
    }
}
