//! What is in a volume: streamed out, streamed in, wiped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate};
use rustix::io::Errno;
use virtwire_driver_api::{FromClient, StreamEnd, ToClient, check_flags};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

use crate::{Pools, Result, STORAGE, blocking, file};

/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;
/// `VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM`, `VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM`
const SPARSE: u32 = 1;

/// A volume's file.
fn open(pools: &Pools, vol: &NonnullStorageVol, options: &mut OpenOptions) -> Result<Arc<File>> {
    let path = pools.with_volume(vol, |volume| Ok(volume.path().to_owned()))?;
    // Whatever has taken the file's place, nobody waits for it.
    options.custom_flags(OFlags::NONBLOCK.bits() as i32);
    let opened = options.open(&path).map_err(|e| file(&e, format_args!("cannot open volume '{path}'")))?;
    Ok(Arc::new(opened))
}

/// A length of zero is everything.
fn limit(length: u64) -> u64 {
    if length == 0 { u64::MAX } else { length }
}

pub(crate) async fn download(pools: &Pools, args: StorageVolDownloadArgs, stream: StreamEnd) -> Result<()> {
    check_flags(STORAGE, args.flags, SPARSE, "storageVolDownload")?;
    let source = open(pools, &args.vol, OpenOptions::new().read(true))?;
    tokio::spawn(send(source, args.offset, limit(args.length), stream));
    Ok(())
}

async fn send(source: Arc<File>, mut at: u64, mut left: u64, mut stream: StreamEnd) {
    let sparse = stream.sparse;
    let end = loop {
        let source = Arc::clone(&source);
        let read =
            blocking(move || next(&source, at, left, sparse).map_err(|e| file(&e, "cannot read volume")));
        match read.await {
            Ok((_, 0)) => break ToClient::End,
            Ok((item, count)) => {
                at += count;
                left -= count;
                if stream.outgoing.send(item).await.is_err() {
                    return;
                }
            }
            Err(error) => break ToClient::Error(error),
        }
    };
    if stream.outgoing.send(end).await.is_ok() {
        // The stream lives until the client has had enough.
        while let Some(FromClient::Data(_) | FromClient::Hole(_)) = stream.incoming.recv().await {}
    }
}

/// What to send of a file at a place, `left` bytes at most, and how many bytes of the file that is.
fn next(source: &File, at: u64, left: u64, sparse: bool) -> io::Result<(ToClient, u64)> {
    let (data, length) = if sparse { section(source, at)? } else { (true, u64::MAX) };
    if !data {
        let length = length.min(left);
        return Ok((ToClient::Hole(length), length));
    }
    let mut part = vec![0; usize::try_from(length.min(left)).unwrap_or(CHUNK).min(CHUNK)];
    let count = source.read_at(&mut part, at)?;
    part.truncate(count);
    Ok((ToClient::Data(part), count as u64))
}

/// Whether there is data at a place, or a hole; and how long. Behind the end there is a hole of no length.
fn section(source: &File, at: u64) -> io::Result<(bool, u64)> {
    let end = |whence| rustix::fs::seek(source, whence);
    match end(SeekFrom::Data(at)) {
        Ok(data) if data > at => Ok((false, data - at)),
        Ok(_) => Ok((true, end(SeekFrom::Hole(at))?.saturating_sub(at))),
        // No more data.
        Err(Errno::NXIO) => Ok((false, source.metadata()?.len().saturating_sub(at))),
        // A device has no holes.
        Err(Errno::INVAL) => Ok((true, u64::MAX)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn upload(pools: &Pools, args: StorageVolUploadArgs, stream: StreamEnd) -> Result<()> {
    check_flags(STORAGE, args.flags, SPARSE, "storageVolUpload")?;
    let target = open(pools, &args.vol, OpenOptions::new().write(true))?;
    tokio::spawn(receive(target, args.offset, limit(args.length), stream));
    Ok(())
}

async fn receive(target: Arc<File>, mut at: u64, mut left: u64, mut stream: StreamEnd) {
    while let Some(item) = stream.incoming.recv().await {
        let length = match &item {
            FromClient::Data(part) => part.len() as u64,
            FromClient::Hole(length) => *length,
            FromClient::Finish => 0,
            FromClient::Abort => return,
        };
        let count = length.min(left);
        let (target, end) = (Arc::clone(&target), matches!(item, FromClient::Finish));
        let written = blocking(move || {
            let full = io::Error::from(Errno::NOSPC);
            let written = match item {
                FromClient::Data(part) => {
                    target.write_all_at(part.get(..count as usize).unwrap_or_default(), at)
                }
                FromClient::Hole(_) => zero(&target, at, count),
                FromClient::Finish | FromClient::Abort => target.sync_all(),
            };
            written.map_err(|e| file(&e, "cannot write volume"))?;
            // More than the client has said.
            let all = count == length;
            all.then_some(())
                .ok_or_else(|| VirtError::system(ErrorDomain::STREAMS, &full, "cannot write to stream"))
        });
        match written.await {
            Ok(()) if !end => {}
            ended => {
                let _ = stream.outgoing.send(ended.map_or_else(ToClient::Error, |()| ToClient::End)).await;
                return;
            }
        }
        at += count;
        left -= count;
    }
}

/// Makes a part of a file zeros: a hole where it can have one.
fn zero(target: &File, at: u64, count: u64) -> io::Result<()> {
    let (kind, end) = (target.metadata()?, at.saturating_add(count));
    if !kind.is_file() {
        return write_zeros(target, at, count);
    }
    let inside = kind.len().min(end).saturating_sub(at);
    if inside > 0 {
        match fallocate(target, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, inside) {
            Err(Errno::OPNOTSUPP) => write_zeros(target, at, inside)?,
            punched => punched?,
        }
    }
    if end > kind.len() { target.set_len(end) } else { Ok(()) }
}

fn write_zeros(target: &File, mut at: u64, mut left: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        target.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
        left -= count as u64;
    }
    Ok(())
}

pub(crate) async fn wipe(pools: &Pools, args: StorageVolWipeArgs) -> Result<()> {
    let pattern = StorageVolWipePatternArgs { vol: args.vol, algorithm: 0, flags: args.flags };
    wipe_pattern(pools, pattern).await
}

/// Zeroes in place of everything; other patterns need a program that is not used here.
pub(crate) async fn wipe_pattern(pools: &Pools, args: StorageVolWipePatternArgs) -> Result<()> {
    check_flags(STORAGE, args.flags, 0, "storageVolWipePattern")?;
    if args.algorithm != 0 {
        return Err(STORAGE.config_unsupported("wiping with a pattern other than zeroes is not supported"));
    }
    let target = open(pools, &args.vol, OpenOptions::new().write(true))?;
    blocking(move || {
        let wiped = target.metadata().and_then(|kind| {
            // One with holes becomes one hole.
            if kind.is_file() && kind.blocks() * 512 < kind.len() {
                return target.set_len(0).and_then(|()| target.set_len(kind.len()));
            }
            write_zeros(&target, 0, kind.len())
        });
        wiped.and_then(|()| target.sync_all()).map_err(|e| file(&e, "Failed to wipe volume"))
    })
    .await
}
