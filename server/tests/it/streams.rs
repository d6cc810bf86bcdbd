//! Data, holes, ends, errors, and who waits for whom.

use virtwire_driver_api::FromClient;
use virtwire_protocol::frame::{self, STREAM_DATA_MAX};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_protocol::remote::*;

use crate::peer::Peer;
use crate::toy::domain;

fn console() -> DomainOpenConsoleArgs {
    DomainOpenConsoleArgs { dom: domain("a"), dev_name: None, flags: 0 }
}

fn upload(length: u64, flags: u32) -> StorageVolUploadArgs {
    StorageVolUploadArgs { length, flags, ..Default::default() }
}

#[tokio::test]
async fn a_console_goes_both_ways_until_it_is_finished() {
    let mut peer = Peer::open().await;
    let call = peer.send(Procedure::DOMAIN_OPEN_CONSOLE, &console()).await;
    peer.receive().await.unwrap().decode::<()>();
    peer.stream(&call, MessageStatus::CONTINUE, b"hello").await;
    let echo = peer.receive().await.unwrap();
    assert_eq!((echo.header.r#type, echo.header.status), (MessageType::STREAM, MessageStatus::CONTINUE));
    assert_eq!((echo.header.serial, echo.payload.as_slice()), (call.serial, &b"hello"[..]));
    peer.stream(&call, MessageStatus::OK, b"").await;
    let end = peer.receive().await.unwrap();
    assert_eq!(
        (end.header.r#type, end.header.status, end.payload.len()),
        (MessageType::STREAM, MessageStatus::OK, 0)
    );
    // Frames for a stream that is gone are dropped.
    peer.stream(&call, MessageStatus::CONTINUE, b"late").await;
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn a_download_is_cut_ended_and_confirmed() {
    let mut peer = Peer::open().await;
    let args = DomainScreenshotArgs { dom: domain("a"), screen: 0, flags: 0 };
    let call = peer.send(Procedure::DOMAIN_SCREENSHOT, &args).await;
    let (mut bytes, mut replied) = (0, false);
    loop {
        let frame = peer.receive().await.unwrap();
        match (frame.header.r#type, frame.payload.len()) {
            (MessageType::REPLY, _) => replied = true,
            (_, 0) => break,
            (_, len) => {
                assert!(len <= STREAM_DATA_MAX);
                bytes += len;
            }
        }
    }
    assert_eq!((bytes, replied), (900_000, true));
    peer.stream(&call, MessageStatus::OK, b"").await;
    assert_eq!(peer.receive().await.unwrap().header.status, MessageStatus::OK);
}

#[tokio::test]
async fn a_refused_call_opens_no_stream() {
    let mut peer = Peer::open().await;
    let args = DomainScreenshotArgs { dom: domain("a"), screen: 1, flags: 0 };
    let call = peer.send(Procedure::DOMAIN_SCREENSHOT, &args).await;
    assert_eq!(peer.receive().await.unwrap().error().0, 8);
    peer.stream(&call, MessageStatus::OK, b"").await;
    assert!(peer.is_alive().await, "no confirmation for a stream that never was");
}

#[tokio::test]
async fn an_upload_is_confirmed_when_the_driver_has_it() {
    let mut peer = Peer::open().await;
    let call = peer.send(Procedure::STORAGE_VOL_UPLOAD, &upload(0, 1)).await;
    peer.receive().await.unwrap().decode::<()>();
    peer.stream(&call, MessageStatus::CONTINUE, b"data").await;
    let hole =
        MessageHeader { r#type: MessageType::STREAM_HOLE, status: MessageStatus::CONTINUE, ..call.clone() };
    let body = StreamHole { length: 4096, flags: 0 };
    peer.write(&frame::encode(&hole, 0, &body).unwrap()).await;
    peer.stream(&call, MessageStatus::OK, b"").await;
    assert_eq!(peer.receive().await.unwrap().header.status, MessageStatus::OK);
    let expected = [FromClient::Data(b"data".to_vec()), FromClient::Hole(4096), FromClient::Finish];
    assert_eq!(*peer.toy.uploaded.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_upload_that_fails_ends_with_an_error() {
    let mut peer = Peer::open().await;
    let call = peer.send(Procedure::STORAGE_VOL_UPLOAD, &upload(1, 0)).await;
    peer.receive().await.unwrap().decode::<()>();
    peer.stream(&call, MessageStatus::OK, b"").await;
    let failed = peer.receive().await.unwrap();
    assert_eq!(failed.header.r#type, MessageType::STREAM);
    assert_eq!(failed.error(), (9, 18, "operation failed: disk full".into()));
}

#[tokio::test]
async fn a_hole_needs_the_sparse_flag() {
    let mut peer = Peer::open().await;
    let call = peer.send(Procedure::STORAGE_VOL_UPLOAD, &upload(0, 0)).await;
    peer.receive().await.unwrap().decode::<()>();
    let hole = MessageHeader { r#type: MessageType::STREAM_HOLE, status: MessageStatus::CONTINUE, ..call };
    peer.write(&frame::encode(&hole, 0, &StreamHole { length: 1, flags: 0 }).unwrap()).await;
    assert_eq!(peer.receive().await.unwrap().error().0, 39);
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn an_abort_is_confirmed() {
    let mut peer = Peer::open().await;
    let call = peer.send(Procedure::DOMAIN_OPEN_CONSOLE, &console()).await;
    peer.receive().await.unwrap().decode::<()>();
    peer.stream(&call, MessageStatus::ERROR, b"").await;
    let end = peer.receive().await.unwrap();
    assert_eq!((end.header.r#type, end.header.status), (MessageType::STREAM, MessageStatus::OK));
}
