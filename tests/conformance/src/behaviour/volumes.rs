//! Streams of volumes: holes, ends, parts and pressure. The test hypervisor has no content to send, so they are tried on
//! `qemu:///system` of the same daemon, with a pool in a folder of the suite's own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use virtwire_protocol::codec;
use virtwire_protocol::error::ErrorCode;
use virtwire_protocol::frame::STREAM_DATA_MAX;
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask};
use crate::case::{Failure, Target, expect};
use crate::peer::{Peer, PeerError, Received, text};

pub(super) const CASES: &[Row] = &[
    (
        "stream/sparse-download",
        "what was never written comes as holes, if holes are wanted",
        OBSERVED,
        sparse_download,
    ),
    ("stream/sparse-upload", "holes go up as zeros, the last one too", OBSERVED, sparse_upload),
    ("stream/part-down", "offset and length choose a part to download", OBSERVED, part_down),
    ("stream/part-up", "an upload at an offset leaves what is around it", OBSERVED, part_up),
    ("stream/finish", "what was sent before a confirmed finish is there for everybody", OBSERVED, finish),
    (
        "stream/finish-early",
        "a download that is finished before its end is confirmed all the same",
        OBSERVED,
        finish_early,
    ),
    (
        "stream/abort-upload",
        "an aborted upload is confirmed, and what comes for it later is dropped",
        OBSERVED,
        abort_upload,
    ),
    (
        "stream/too-much",
        "more than an upload was to have is refused, and what came before is kept",
        "documentation of virStorageVolUpload",
        too_much,
    ),
    (
        "stream/refused",
        "a stream to a volume that is not there is refused, and its data dropped",
        OBSERVED,
        refused,
    ),
    ("stream/two-uploads", "two uploads on one connection are told apart", OBSERVED, two_uploads),
    (
        "stream/left",
        "a client that leaves in the middle of an upload leaves the volume usable",
        OBSERVED,
        left,
    ),
    (
        "stream/pressure-down",
        "downloads that nobody reads hold up no other client, and come whole",
        OBSERVED,
        pressure_down,
    ),
    (
        "stream/pressure-up",
        "an upload sent without a pause arrives whole, and holds up no other client",
        OBSERVED,
        pressure_up,
    ),
];

/// `ENOSPC`
const NO_SPACE: i32 = 28;
/// Where volumes have content.
const SYSTEM: &str = "qemu:///system";
const MIB: u64 = 1 << 20;
/// `VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM`, `VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM`
const SPARSE: u32 = 1;

/// What goes over a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Data(Vec<u8>),
    Hole(u64),
}

fn data(byte: u8, mib: u64) -> Piece {
    Piece::Data(vec![byte; (mib * MIB) as usize])
}

/// A connection to where volumes have content.
fn open(target: &Target) -> Result<Peer, Failure> {
    let mut peer = target.connect()?;
    match peer.open(SYSTEM) {
        Err(PeerError::Refused(_)) => Err(Failure::Skipped("the daemon has no qemu:///system")),
        opened => opened.map(|()| peer).map_err(Failure::from),
    }
}

/// Runs `body` with empty volumes of so many MiB that exist only for it.
fn with_volumes<const N: usize>(
    target: &Target,
    mib: u64,
    body: impl FnOnce(&mut Peer, [&NonnullStorageVol; N]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut peer = open(target)?;
    let name = format!("conformance-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = env::temp_dir().join(&name);
    fs::create_dir_all(&folder).map_err(PeerError::from)?;
    let done = with_pool(&mut peer, &name, &folder.to_string_lossy(), |peer, pool| {
        let mut volumes = Vec::new();
        for number in 0..N {
            let xml = format!(
                "<volume><name>v{number}</name><capacity>{}</capacity><allocation>0</allocation></volume>",
                mib * MIB
            );
            let args = StorageVolCreateXmlArgs { pool: pool.clone(), xml: xml.into(), flags: 0 };
            let created: StorageVolCreateXmlRet = ask(peer, Procedure::STORAGE_VOL_CREATE_XML, &args)?;
            volumes.push(created.vol);
        }
        body(peer, std::array::from_fn(|number| &volumes[number]))
    });
    let _ = fs::remove_dir_all(&folder);
    done
}

fn with_pool(
    peer: &mut Peer,
    name: &str,
    folder: &str,
    body: impl FnOnce(&mut Peer, &NonnullStoragePool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let xml = format!("<pool type='dir'><name>{name}</name><target><path>{folder}</path></target></pool>");
    let args = StoragePoolCreateXmlArgs { xml: xml.into(), flags: 0 };
    let created: StoragePoolCreateXmlRet = ask(peer, Procedure::STORAGE_POOL_CREATE_XML, &args)?;
    let result = body(peer, &created.pool);
    let args = StoragePoolDestroyArgs { pool: created.pool };
    let destroyed = peer.call(Procedure::STORAGE_POOL_DESTROY, &args);
    result?;
    expect("the pool's end", 0, destroyed?.code()?)
}

fn frame(call: &MessageHeader, r#type: MessageType, status: MessageStatus) -> MessageHeader {
    MessageHeader { r#type, status, ..call.clone() }
}

/// Sends pieces on a stream, each as one frame or as many as it needs.
fn send(peer: &mut Peer, call: &MessageHeader, pieces: &[Piece]) -> Result<(), PeerError> {
    for piece in pieces {
        match piece {
            Piece::Data(bytes) => {
                let header = frame(call, MessageType::STREAM, MessageStatus::CONTINUE);
                bytes.chunks(STREAM_DATA_MAX).try_for_each(|part| peer.send(&header, part))?;
            }
            Piece::Hole(length) => {
                let hole = StreamHole { length: *length as i64, flags: 0 };
                let header = frame(call, MessageType::STREAM_HOLE, MessageStatus::CONTINUE);
                peer.send(&header, &codec::encode(&hole).unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

/// Waits until a stream is over; its error, if it failed.
fn over(peer: &mut Peer, call: &MessageHeader) -> Result<Option<MessageError>, PeerError> {
    loop {
        let frame = peer.receive()?;
        if frame.header.r#type == MessageType::STREAM && frame.header.serial == call.serial {
            match frame.header.status {
                MessageStatus::OK => return Ok(None),
                MessageStatus::ERROR => return frame.error(),
                _ => {}
            }
        }
    }
}

fn begin_upload(
    peer: &mut Peer,
    vol: &NonnullStorageVol,
    [offset, length]: [u64; 2],
    flags: u32,
) -> Result<MessageHeader, PeerError> {
    let args = StorageVolUploadArgs { vol: vol.clone(), offset, length, flags };
    let call = peer.header(&PROGRAM, Procedure::STORAGE_VOL_UPLOAD.0);
    peer.send(&call, &codec::encode(&args).unwrap_or_default())?;
    peer.reply(&call)?.decode::<()>()?;
    Ok(call)
}

/// Says that all is sent, and waits until that is confirmed.
fn end(peer: &mut Peer, call: &MessageHeader) -> Result<(), Failure> {
    peer.send(&frame(call, MessageType::STREAM, MessageStatus::OK), &[])?;
    let failed = over(peer, call)?.map(|error| text(&error));
    expect("an error of the finish", None, failed)
}

fn upload(
    peer: &mut Peer,
    vol: &NonnullStorageVol,
    offset: u64,
    flags: u32,
    pieces: &[Piece],
) -> Result<(), Failure> {
    let call = begin_upload(peer, vol, [offset, 0], flags)?;
    send(peer, &call, pieces)?;
    end(peer, &call)
}

fn begin_download(
    peer: &mut Peer,
    vol: &NonnullStorageVol,
    [offset, length]: [u64; 2],
    flags: u32,
) -> Result<MessageHeader, PeerError> {
    let args = StorageVolDownloadArgs { vol: vol.clone(), offset, length, flags };
    let call = peer.header(&PROGRAM, Procedure::STORAGE_VOL_DOWNLOAD.0);
    peer.send(&call, &codec::encode(&args).unwrap_or_default())?;
    Ok(call)
}

/// The pieces of a download to its end, those of one kind put together.
fn collect(peer: &mut Peer, call: &MessageHeader) -> Result<Vec<Piece>, Failure> {
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let Received { header, payload, .. } = match peer.receive()? {
            frame if frame.header.r#type == MessageType::REPLY => {
                frame.decode::<()>()?;
                continue;
            }
            frame => frame,
        };
        expect("serial and status", (call.serial, MessageStatus::CONTINUE), (header.serial, header.status))?;
        match (header.r#type, pieces.last_mut()) {
            (MessageType::STREAM, _) if payload.is_empty() => break,
            (MessageType::STREAM, Some(Piece::Data(bytes))) => bytes.extend(payload),
            (MessageType::STREAM, _) => pieces.push(Piece::Data(payload)),
            (_, last) => {
                let hole: StreamHole = codec::decode(&payload).map_err(PeerError::Decode)?;
                match last {
                    Some(Piece::Hole(length)) => *length += hole.length.unsigned_abs(),
                    _ => pieces.push(Piece::Hole(hole.length.unsigned_abs())),
                }
            }
        }
    }
    end(peer, call)?;
    Ok(pieces)
}

fn download(
    peer: &mut Peer,
    vol: &NonnullStorageVol,
    part: [u64; 2],
    flags: u32,
) -> Result<Vec<Piece>, Failure> {
    let call = begin_download(peer, vol, part, flags)?;
    collect(peer, &call)
}

/// Pieces in words: a volume is too much to be shown.
fn shown(pieces: &[Piece]) -> Vec<String> {
    let mut words = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Hole(length) => words.push(format!("a hole of {length}")),
            Piece::Data(bytes) => {
                let runs = bytes.chunk_by(|a, b| a == b);
                words.extend(runs.map(|run| format!("{} of {}", run.len(), run.first().unwrap_or(&0))));
            }
        }
    }
    words
}

/// Compares pieces, however data was cut.
fn same(what: &str, expected: &[Piece], got: &[Piece]) -> Result<(), Failure> {
    expect(what, shown(expected), shown(got))
}

fn sparse_download(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 3, |peer, [vol]| {
        upload(peer, vol, MIB, 0, &[data(7, 1)])?;
        let expected = [Piece::Hole(MIB), data(7, 1), Piece::Hole(MIB)];
        same("with holes", &expected, &download(peer, vol, [0, 0], SPARSE)?)?;
        let expected = [data(0, 1), data(7, 1), data(0, 1)];
        same("without", &expected, &download(peer, vol, [0, 0], 0)?)
    })
}

fn sparse_upload(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 4, |peer, [vol]| {
        let pieces = [data(1, 1), Piece::Hole(MIB), data(2, 1), Piece::Hole(MIB)];
        upload(peer, vol, 0, SPARSE, &pieces)?;
        let expected = [data(1, 1), data(0, 1), data(2, 1), data(0, 1)];
        same("the volume", &expected, &download(peer, vol, [0, 0], 0)?)
    })
}

fn part_down(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 3, |peer, [vol]| {
        upload(peer, vol, 0, 0, &[data(1, 1), data(2, 1), data(3, 1)])?;
        same("in the middle", &[data(2, 1)], &download(peer, vol, [MIB, MIB], 0)?)?;
        same("from an offset", &[data(2, 1), data(3, 1)], &download(peer, vol, [MIB, 0], 0)?)?;
        same("beyond the end", &[data(3, 1)], &download(peer, vol, [2 * MIB, 9 * MIB], 0)?)
    })
}

fn part_up(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 3, |peer, [vol]| {
        upload(peer, vol, 0, 0, &[data(1, 3)])?;
        upload(peer, vol, MIB, 0, &[data(2, 1)])?;
        same("the volume", &[data(1, 1), data(2, 1), data(1, 1)], &download(peer, vol, [0, 0], 0)?)
    })
}

fn finish(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 1, |peer, [vol]| {
        upload(peer, vol, 0, 0, &[data(5, 1)])?;
        same("to another client", &[data(5, 1)], &download(&mut open(target)?, vol, [0, 0], 0)?)
    })
}

fn finish_early(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 16, |peer, [vol]| {
        let call = begin_download(peer, vol, [0, 0], 0)?;
        peer.reply(&call)?.decode::<()>()?;
        end(peer, &call)?;
        same("a download afterwards", &[data(0, 1)], &download(peer, vol, [0, MIB], 0)?)
    })
}

fn abort_upload(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 1, |peer, [vol]| {
        let call = begin_upload(peer, vol, [0, 0], 0)?;
        send(peer, &call, &[Piece::Data(vec![1; 4096])])?;
        peer.send(&frame(&call, MessageType::STREAM, MessageStatus::ERROR), &[])?;
        expect("an error", None, over(peer, &call)?.map(|error| text(&error)))?;
        send(peer, &call, &[Piece::Data(vec![2; 4096])])?;
        download(peer, vol, [0, 0], 0).map(drop)
    })
}

fn too_much(target: &Target) -> Result<(), Failure> {
    if target.spared {
        return Err(Failure::Skipped("not every daemon survives it"));
    }
    with_volumes(target, 2, |peer, [vol]| {
        let call = begin_upload(peer, vol, [0, MIB], 0)?;
        send(peer, &call, &[data(1, 1), Piece::Data(vec![2])])?;
        let error = over(peer, &call)?.map(|error| (error.code, error.int1, text(&error)));
        let full = "cannot write to stream: No space left on device".to_owned();
        expect("the error", Some((ErrorCode::SYSTEM_ERROR.0, NO_SPACE, full)), error)?;
        same("the volume", &[data(1, 1), data(0, 1)], &download(peer, vol, [0, 0], 0)?)
    })
}

fn refused(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 1, |peer, [vol]| {
        let nobody = NonnullStorageVol { name: "nobody".into(), key: "/nobody".into(), ..vol.clone() };
        let args = StorageVolUploadArgs { vol: nobody, offset: 0, length: 0, flags: 0 };
        let call = peer.header(&PROGRAM, Procedure::STORAGE_VOL_UPLOAD.0);
        peer.send(&call, &codec::encode(&args).unwrap_or_default())?;
        send(peer, &call, &[Piece::Data(vec![1; 4096])])?;
        expect("code", ErrorCode::NO_STORAGE_VOL.0, peer.reply(&call)?.code()?)?;
        same("a volume afterwards", &[data(0, 1)], &download(peer, vol, [0, 0], 0)?)
    })
}

fn two_uploads(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 2, |peer, [one, two]| {
        let calls = [begin_upload(peer, one, [0, 0], 0)?, begin_upload(peer, two, [0, 0], 0)?];
        for _ in 0..2 {
            send(peer, &calls[0], &[data(1, 1)])?;
            send(peer, &calls[1], &[data(2, 1)])?;
        }
        end(peer, &calls[1])?;
        end(peer, &calls[0])?;
        same("the first", &[data(1, 2)], &download(peer, one, [0, 0], 0)?)?;
        same("the second", &[data(2, 2)], &download(peer, two, [0, 0], 0)?)
    })
}

fn left(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 1, |peer, [vol]| {
        let mut other = open(target)?;
        let call = begin_upload(&mut other, vol, [0, 0], 0)?;
        send(&mut other, &call, &[Piece::Data(vec![1; 4096])])?;
        drop(other);
        upload(peer, vol, 0, 0, &[data(3, 1)])?;
        same("the volume", &[data(3, 1)], &download(peer, vol, [0, 0], 0)?)
    })
}

/// Whether somebody else is served.
fn others_are_served(target: &Target) -> Result<(), Failure> {
    expect("another client's call", 0, open(target)?.call(Procedure::CONNECT_GET_LIB_VERSION, &())?.code()?)
}

fn pressure_down(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 32, |peer, [vol]| {
        let calls = [begin_download(peer, vol, [0, 0], 0)?, begin_download(peer, vol, [0, 0], 0)?];
        others_are_served(target)?;
        let mut left: HashMap<u32, u64> = calls.iter().map(|call| (call.serial, 32 * MIB)).collect();
        let mut ended = 0;
        while ended < calls.len() {
            let frame = peer.receive()?;
            let Some(left) = left.get_mut(&frame.header.serial) else {
                return Err(Failure::Differs(format!("a frame of no call: {:?}", frame.header)));
            };
            match frame.header.r#type {
                MessageType::REPLY => frame.decode::<()>()?,
                _ if frame.payload.is_empty() => ended += 1,
                _ => *left = left.saturating_sub(frame.payload.len() as u64),
            }
        }
        expect("bytes that are missing", vec![0, 0], left.into_values().collect::<Vec<_>>())?;
        calls.iter().try_for_each(|call| end(peer, call))
    })
}

fn pressure_up(target: &Target) -> Result<(), Failure> {
    with_volumes(target, 32, |peer, [vol]| {
        let call = begin_upload(peer, vol, [0, 0], 0)?;
        send(peer, &call, &[data(9, 32)])?;
        others_are_served(target)?;
        end(peer, &call)?;
        same("the volume", &[data(9, 32)], &download(peer, vol, [0, 0], 0)?)
    })
}
