//! A daemon that does not keep to the protocol: everybody who waits gets the reason.

use std::time::Duration;

use virtwire_client::protocol::calls::UnknownSerial;
use virtwire_client::protocol::codec::{DecodeError, Encode};
use virtwire_client::protocol::error::VirtError;
use virtwire_client::protocol::frame::{self, FrameError};
use virtwire_client::protocol::keepalive;
use virtwire_client::protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_client::protocol::remote::{
    ConnectEventConnectionClosedMsg, ConnectGetAllDomainStatsRet, ConnectGetLibVersionRet, DomainStatsRecord,
    NonnullStorageVol, Procedure, StorageVolDownloadArgs, TypedParam,
};
use virtwire_client::{
    BlockStats, Chunk, CloseReason, Connect, Connection, DomainStats, DomainStatsFlags, DomainStatsTypes,
    Error, Options, ProtocolError,
};

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

#[tokio::test]
async fn silence_at_the_opening_has_an_end() {
    let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
    let options = Options { open_deadline: Some(Duration::from_millis(20)), ..Options::default() };
    let error = Connection::over_with(ours, "test:///default", options).await.unwrap_err();
    assert!(matches!(error, Error::Deadline(_)), "{error:?}");
}

/// A stream without end, of data or of holes, that nobody takes: the socket fills, not the memory.
#[tokio::test]
async fn a_stream_without_end_is_not_read_without_end() {
    let (connection, mut peer) = connected().await;
    let args = StorageVolDownloadArgs { vol: NonnullStorageVol::default(), offset: 0, length: 0, flags: 1 };
    let (stream, call) = tokio::join!(connection.storage_vol_download(&args), async {
        let call = peer.expect(Procedure::STORAGE_VOL_DOWNLOAD).await;
        peer.reply(&call, &()).await;
        call
    });
    let stream = stream.unwrap();
    let hole =
        MessageHeader { r#type: MessageType::STREAM_HOLE, status: MessageStatus::CONTINUE, ..call.header };
    let hole = frame::encode(&hole, 0, &StreamHole { length: 1, flags: 0 }).unwrap().repeat(1000);
    let mut sent = 0_usize;
    // The client stops reading long before this.
    while sent < 64 << 20 {
        match tokio::time::timeout(Duration::from_millis(500), peer.raw(&hole)).await {
            Ok(()) => sent += hole.len(),
            Err(_) => break,
        }
    }
    assert!(sent < 16 << 20, "{sent} bytes of holes were taken in");
    assert_eq!(stream.recv().await.unwrap(), Some(Chunk::Hole(1)));
}

/// Pings without end from a daemon that reads none of the pongs.
#[tokio::test]
async fn pongs_that_nobody_reads_do_not_pile_up() {
    let (connection, mut peer) = connected().await;
    let ping = frame::keepalive(keepalive::Procedure::PING);
    let pings = frame::encode_bytes(&ping, &[]).unwrap().repeat(10_000);
    for _ in 0..40 {
        peer.raw(&pings).await;
    }
    let daemon = async {
        // The pongs that were sent, and then the call: no more than the limit and what sockets hold.
        let mut pongs = 0;
        let call = loop {
            let taken = peer.next().await.unwrap();
            if taken.header.prog != keepalive::PROGRAM.number {
                break taken;
            }
            pongs += 1;
        };
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 5 }).await;
        pongs
    };
    let (version, pongs) = tokio::join!(connection.connect_get_lib_version(), daemon);
    assert_eq!(version.unwrap().lib_ver, 5);
    assert!(pongs < 200_000, "{pongs}");
}

/// Figures as a daemon sends them, `records` times the same, and how many bytes they were.
async fn stats(params: Vec<TypedParam>, records: usize) -> (Vec<DomainStats>, usize) {
    let (connection, mut peer) = connected().await;
    let connect = Connect::from(connection);
    let record = DomainStatsRecord { params, ..Default::default() };
    let ret = ConnectGetAllDomainStatsRet { ret_stats: vec![record; records] };
    let sent = ret.encoded_len();
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_ALL_DOMAIN_STATS).await;
        peer.reply(&call, &ret).await;
    };
    let (got, ()) =
        tokio::join!(connect.domain_stats(&[], DomainStatsTypes::empty(), DomainStatsFlags::empty()), daemon);
    (got.unwrap(), sent)
}

/// A daemon says with few bytes that there is a hundredth disk.
#[tokio::test]
async fn items_of_figures_take_no_more_than_a_few_times_what_was_sent() {
    let name = |index: usize| TypedParam::new(format!("block.{index}.name"), "");
    for (disks, records) in [(60_000, 1), (600, 100)] {
        let (got, sent) = stats((0..disks).rev().map(name).collect(), records).await;
        let items: usize = got.iter().map(|stats| stats.blocks.len()).sum();
        assert!(items * size_of::<BlockStats>() <= 4 * sent + (64 << 10), "{items} items in {sent} bytes");
        // What found no room is not lost.
        assert!(got.iter().any(|stats| !stats.others.is_empty()));
    }
    // An honest daemon's guests have all their disks.
    let figure = |disk: usize, name: &str| TypedParam::new(format!("block.{disk}.{name}"), 1u64);
    let disk = |disk| [name(disk), figure(disk, "rd.reqs"), figure(disk, "capacity")];
    let (got, _) = stats((0..20).flat_map(disk).collect(), 500).await;
    assert!(got.iter().all(|stats| stats.blocks.len() == 20 && stats.others.is_empty()));
}

/// The daemon's own connection to its hypervisor ends, ours goes on; the watching ends with its value.
#[tokio::test]
async fn the_loss_of_the_hypervisor_is_told() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_REGISTER_CLOSE_CALLBACK).await;
        // Told before the answer: it is not missed.
        let closed = ConnectEventConnectionClosedMsg { reason: 2 };
        peer.event(Procedure::CONNECT_EVENT_CONNECTION_CLOSED, &closed).await;
        peer.reply(&call, &()).await;
    };
    let (watch, ()) = tokio::join!(connection.watch_hypervisor(), daemon);
    let mut watch = watch.unwrap();
    assert_eq!(watch.closed().await.unwrap(), CloseReason::Keepalive);
    assert!(connection.is_open());
    drop(watch);
    peer.expect(Procedure::CONNECT_UNREGISTER_CLOSE_CALLBACK).await;
}

#[test]
fn errors_are_small_enough_to_return() {
    assert!(size_of::<Error>() <= size_of::<VirtError>() + 8);
}
