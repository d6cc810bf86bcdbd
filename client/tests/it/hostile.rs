//! A daemon that does not keep to the protocol: everybody who waits gets the reason.

use virtwire_client::protocol::calls::UnknownSerial;
use virtwire_client::protocol::codec::DecodeError;
use virtwire_client::protocol::error::VirtError;
use virtwire_client::protocol::frame::{self, FrameError};
use virtwire_client::protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_client::protocol::remote::{ConnectGetLibVersionRet, Procedure};
use virtwire_client::{Error, ProtocolError};

use crate::peer::connected;

/// Two calls wait; the daemon sends what `lie` makes of the header of the first, then closes.
async fn both_callers_get(lie: impl FnOnce(MessageHeader) -> Vec<u8>) -> ProtocolError {
    let (connection, mut peer) = connected().await;
    let daemon = async move {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.expect(Procedure::CONNECT_GET_HOSTNAME).await;
        peer.raw(&lie(frame::reply_to(&call.header, MessageStatus::OK))).await;
    };
    let (first, second, ()) =
        tokio::join!(connection.connect_get_lib_version(), connection.connect_get_hostname(), daemon);
    let (Err(Error::Protocol(first)), Err(Error::Protocol(second))) = (first, second) else {
        panic!("no protocol errors")
    };
    assert_eq!(first, second);
    assert!(matches!(connection.closed().await, Error::Protocol(reason) if reason == first));
    first
}

#[tokio::test]
async fn a_wrong_length_ends_the_connection() {
    for length in [0, 27, 33_554_437, u32::MAX] {
        let got = both_callers_get(|_| length.to_be_bytes().to_vec()).await;
        assert_eq!(got, ProtocolError::Frame(FrameError::Length(length)));
    }
}

#[tokio::test]
async fn a_reply_to_no_call_ends_the_connection() {
    let lie = |header| frame::encode(&MessageHeader { serial: 99, ..header }, 0, &()).unwrap();
    assert_eq!(both_callers_get(lie).await, ProtocolError::Serial(UnknownSerial(99)));
    let lie = |header| {
        let header = MessageHeader { serial: 99, r#type: MessageType::STREAM, ..header };
        frame::encode(&header, 0, &()).unwrap()
    };
    assert_eq!(both_callers_get(lie).await, ProtocolError::Serial(UnknownSerial(99)));
}

#[tokio::test]
async fn an_end_within_a_frame_is_told_apart_from_an_end() {
    let lie =
        |header| frame::encode(&header, 0, &ConnectGetLibVersionRet { lib_ver: 1 }).unwrap()[..30].to_vec();
    assert_eq!(both_callers_get(lie).await, ProtocolError::CutShort);
}

#[tokio::test]
async fn a_daemon_does_not_call() {
    let lie = |header| {
        let header = MessageHeader { r#type: MessageType::CALL, ..header };
        frame::encode(&header, 0, &()).unwrap()
    };
    assert_eq!(both_callers_get(lie).await, ProtocolError::Type(0));
}

#[tokio::test]
async fn announced_descriptors_must_come() {
    let lie = |header| {
        let header = MessageHeader { r#type: MessageType::REPLY_WITH_FDS, ..header };
        let mut bytes = frame::encode(&header, 1, &()).unwrap();
        bytes.push(0);
        bytes
    };
    assert_eq!(both_callers_get(lie).await, ProtocolError::Frame(FrameError::Unmatched));
}

/// What is wrong within one reply ends that call and no other.
#[tokio::test]
async fn a_reply_that_cannot_be_read_ends_its_own_call() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.reply(&call, &()).await;
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        // Neither ok nor error.
        peer.send(&call, MessageType::REPLY, MessageStatus(7), &()).await;
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        // An error that is none.
        peer.send(&call, MessageType::REPLY, MessageStatus::ERROR, &()).await;
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 5 }).await;
    };
    let client = async {
        let short = DecodeError::Truncated { need: 8, have: 0 };
        for expected in [
            ProtocolError::Decode(short),
            ProtocolError::Status(7),
            ProtocolError::Decode(DecodeError::Truncated { need: 4, have: 0 }),
        ] {
            let got = connection.connect_get_lib_version().await;
            assert!(matches!(&got, Err(Error::Protocol(error)) if *error == expected), "{got:?}");
        }
        assert_eq!(connection.connect_get_lib_version().await.unwrap().lib_ver, 5);
    };
    tokio::join!(client, daemon);
}

#[tokio::test]
async fn messages_of_no_known_kind_are_passed_over() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        // An event that does not exist, and one whose message is cut short.
        peer.event(Procedure(9999), &()).await;
        peer.event(Procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE, &()).await;
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 5 }).await;
    };
    let (version, ()) = tokio::join!(connection.connect_get_lib_version(), daemon);
    assert_eq!(version.unwrap().lib_ver, 5);
}

#[test]
fn errors_are_small_enough_to_return() {
    assert!(size_of::<Error>() <= size_of::<VirtError>() + 8);
}
