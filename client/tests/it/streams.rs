//! Streams.

use virtwire_client::protocol::codec;
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::protocol::net::{MessageError, MessageStatus, MessageType, StreamHole};
use virtwire_client::protocol::remote::{
    ConnectGetLibVersionRet, DomainScreenshotArgs, DomainScreenshotRet, Procedure, StorageVolDownloadArgs,
    StorageVolUploadArgs,
};
use virtwire_client::{Chunk, Connection, Error, Stream};

use crate::peer::{Peer, Taken, connected};

const DATA: (MessageType, MessageStatus) = (MessageType::STREAM, MessageStatus::CONTINUE);

async fn upload(connection: &Connection, peer: &mut Peer) -> (Stream, Taken) {
    let daemon = async {
        let call = peer.expect(Procedure::STORAGE_VOL_UPLOAD).await;
        peer.reply(&call, &()).await;
        call
    };
    let args = StorageVolUploadArgs::default();
    let (stream, call) = tokio::join!(connection.storage_vol_upload(&args), daemon);
    (stream.unwrap(), call)
}

async fn download(connection: &Connection, peer: &mut Peer) -> (Stream, Taken) {
    let daemon = async {
        let call = peer.expect(Procedure::STORAGE_VOL_DOWNLOAD).await;
        peer.reply(&call, &()).await;
        call
    };
    let args = StorageVolDownloadArgs::default();
    let (stream, call) = tokio::join!(connection.storage_vol_download(&args), daemon);
    (stream.unwrap(), call)
}

async fn expect_last(peer: &mut Peer, status: MessageStatus) {
    assert_eq!(peer.expect_stream().await, (MessageType::STREAM, status, Vec::new()));
}

#[tokio::test]
async fn a_download_with_data_before_the_reply_and_a_hole() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_SCREENSHOT).await;
        peer.data(&call, b"first").await;
        peer.reply(&call, &DomainScreenshotRet { mime: Some("image/png".into()) }).await;
        let hole = StreamHole { length: 4096, flags: 0 };
        peer.send(&call, MessageType::STREAM_HOLE, MessageStatus::CONTINUE, &hole).await;
        peer.data(&call, b"last").await;
        peer.data(&call, b"").await;
        expect_last(&mut peer, MessageStatus::OK).await;
        peer.confirm(&call).await;
    };
    let client = async {
        let (ret, stream) = connection.domain_screenshot(&DomainScreenshotArgs::default()).await.unwrap();
        assert_eq!(ret.mime.unwrap(), "image/png");
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.recv().await.unwrap() {
            chunks.push(chunk);
        }
        let data = |bytes: &[u8]| Chunk::Data(bytes.to_vec());
        assert_eq!(chunks, [data(b"first"), Chunk::Hole(4096), data(b"last")]);
        assert_eq!(stream.recv().await.unwrap(), None);
        stream.finish().await.unwrap();
    };
    tokio::join!(client, daemon);
}

#[tokio::test]
async fn an_upload_in_pieces_that_older_peers_can_take() {
    let (connection, mut peer) = connected().await;
    let (stream, call) = upload(&connection, &mut peer).await;
    let daemon = async {
        for len in [262_120, 262_120, 1] {
            let (kind, status, payload) = peer.expect_stream().await;
            assert_eq!(((kind, status), payload.len()), (DATA, len));
        }
        let (kind, _, payload) = peer.expect_stream().await;
        assert_eq!(kind, MessageType::STREAM_HOLE);
        assert_eq!(codec::decode(&payload), Ok(StreamHole { length: 1 << 40, flags: 0 }));
        expect_last(&mut peer, MessageStatus::OK).await;
        peer.confirm(&call).await;
    };
    let client = async {
        stream.send(&vec![7; 2 * 262_120 + 1]).await.unwrap();
        stream.send_hole(1 << 40).await.unwrap();
        stream.finish().await.unwrap();
    };
    tokio::join!(client, daemon);
}

#[tokio::test]
async fn an_upload_that_the_daemon_ends() {
    let (connection, mut peer) = connected().await;
    let (stream, call) = upload(&connection, &mut peer).await;
    stream.send(b"too much").await.unwrap();
    assert_eq!(peer.expect_stream().await, (DATA.0, DATA.1, b"too much".to_vec()));
    let full = MessageError { code: 38, domain: 38, int1: 28, ..Default::default() };
    peer.send(&call, MessageType::STREAM, MessageStatus::ERROR, &full).await;

    let is_full =
        |error: &Error| error.remote().is_some_and(|e| (e.code, e.int1) == (ErrorCode::SYSTEM_ERROR, 28));
    assert!(is_full(&stream.recv().await.unwrap_err()));
    assert!(is_full(&stream.send(b"more").await.unwrap_err()));
    assert!(is_full(&stream.finish().await.unwrap_err()));
    // It was over already: no last frame is sent.
    settled(&connection, &mut peer).await;
}

/// The daemon answers a call, and nothing else came before it.
async fn settled(connection: &Connection, peer: &mut Peer) {
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 0 }).await;
    };
    tokio::join!(async { connection.connect_get_lib_version().await.unwrap() }, daemon);
}

#[tokio::test]
async fn an_abort_passes_over_what_is_still_on_its_way() {
    let (connection, mut peer) = connected().await;
    let (stream, call) = download(&connection, &mut peer).await;
    peer.data(&call, b"some").await;
    assert_eq!(stream.recv().await.unwrap(), Some(Chunk::Data(b"some".to_vec())));
    let daemon = async {
        expect_last(&mut peer, MessageStatus::ERROR).await;
        peer.data(&call, b"queued before").await;
        peer.confirm(&call).await;
    };
    let (aborted, ()) = tokio::join!(stream.abort(), daemon);
    aborted.unwrap();
}

#[tokio::test]
async fn a_dropped_stream_is_given_up_or_finished() {
    let (connection, mut peer) = connected().await;
    let (stream, call) = download(&connection, &mut peer).await;
    drop(stream);
    expect_last(&mut peer, MessageStatus::ERROR).await;
    peer.confirm(&call).await;

    let (stream, call) = download(&connection, &mut peer).await;
    peer.data(&call, b"").await;
    assert_eq!(stream.recv().await.unwrap(), None);
    drop(stream);
    expect_last(&mut peer, MessageStatus::OK).await;
    peer.confirm(&call).await;
    settled(&connection, &mut peer).await;
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_reply_gives_the_stream_up() {
    let (connection, mut peer) = connected().await;
    let args = StorageVolDownloadArgs::default();
    let call = tokio::select! {
        biased;
        _ = connection.storage_vol_download(&args) => panic!("nobody has answered"),
        call = peer.expect(Procedure::STORAGE_VOL_DOWNLOAD) => call,
    };
    peer.reply(&call, &()).await;
    peer.data(&call, b"unwanted").await;
    expect_last(&mut peer, MessageStatus::ERROR).await;
    peer.confirm(&call).await;
    settled(&connection, &mut peer).await;
}

#[tokio::test]
async fn a_reader_who_is_slow_holds_the_daemon_up() {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 64;
    let (connection, mut peer) = connected().await;
    let (stream, call) = download(&connection, &mut peer).await;
    let mut sent = 0;
    // Far more than is read ahead: the peer gets stuck.
    let stuck = async {
        while sent < PIECES {
            peer.data(&call, &vec![1; PIECE]).await;
            sent += 1;
        }
    };
    let idle = async {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = stuck => panic!("all of it was read ahead"),
        () = idle => {}
    }
    assert!(sent >= 16, "{sent} pieces of at least 16 were read ahead");
    let mut got = 0;
    // The piece that was cut short by the select is not completed: what is whole arrives.
    while got < sent * PIECE {
        let Some(Chunk::Data(bytes)) = stream.recv().await.unwrap() else { panic!("no data") };
        got += bytes.len();
    }
    assert_eq!(got, sent * PIECE);
}

#[tokio::test]
async fn the_end_of_the_connection_is_no_end_of_data() {
    let (connection, mut peer) = connected().await;
    let (stream, call) = download(&connection, &mut peer).await;
    peer.data(&call, b"some").await;
    drop(peer);
    assert_eq!(stream.recv().await.unwrap(), Some(Chunk::Data(b"some".to_vec())));
    assert!(matches!(stream.recv().await, Err(Error::Closed)));
    assert!(matches!(stream.finish().await, Err(Error::Closed)));
}
