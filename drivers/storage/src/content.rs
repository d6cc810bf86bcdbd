//! What is in a volume: streamed out, streamed in, wiped.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use rustix::fs::OFlags;
use virtwire_driver_api::{FromClient, StreamEnd, ToClient, check_flags};
use virtwire_protocol::remote::*;

use crate::{Pools, Result, STORAGE, blocking, file};

/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;

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
    check_flags(STORAGE, args.flags, 0, "storageVolDownload")?;
    let source = open(pools, &args.vol, OpenOptions::new().read(true))?;
    tokio::spawn(send(source, args.offset, limit(args.length), stream));
    Ok(())
}

async fn send(source: Arc<File>, mut at: u64, mut left: u64, mut stream: StreamEnd) {
    let end = loop {
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if wanted == 0 {
            break ToClient::End;
        }
        let source = Arc::clone(&source);
        let read = blocking(move || {
            let mut part = vec![0; wanted];
            let count = source.read_at(&mut part, at).map_err(|e| file(&e, "cannot read volume"))?;
            part.truncate(count);
            Ok(part)
        });
        match read.await {
            Ok(part) if part.is_empty() => break ToClient::End,
            Ok(part) => {
                at += part.len() as u64;
                left -= part.len() as u64;
                if stream.outgoing.send(ToClient::Data(part)).await.is_err() {
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

pub(crate) async fn upload(pools: &Pools, args: StorageVolUploadArgs, stream: StreamEnd) -> Result<()> {
    check_flags(STORAGE, args.flags, 0, "storageVolUpload")?;
    let target = open(pools, &args.vol, OpenOptions::new().write(true))?;
    tokio::spawn(receive(target, args.offset, limit(args.length), stream));
    Ok(())
}

async fn receive(target: Arc<File>, mut at: u64, mut left: u64, mut stream: StreamEnd) {
    while let Some(item) = stream.incoming.recv().await {
        let part = match item {
            FromClient::Data(part) => part,
            FromClient::Hole(_) => continue,
            FromClient::Finish => {
                let target = Arc::clone(&target);
                let synced = blocking(move || target.sync_all().map_err(|e| file(&e, "cannot write volume")));
                let end = synced.await.map_or_else(ToClient::Error, |()| ToClient::End);
                let _ = stream.outgoing.send(end).await;
                return;
            }
            FromClient::Abort => return,
        };
        let count = (part.len() as u64).min(left);
        let target = Arc::clone(&target);
        let written = blocking(move || {
            let part = part.get(..count as usize).unwrap_or_default();
            target.write_all_at(part, at).map_err(|e| file(&e, "cannot write volume"))
        });
        if let Err(error) = written.await {
            let _ = stream.outgoing.send(ToClient::Error(error)).await;
            return;
        }
        at += count;
        left -= count;
    }
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
        let cannot = |e| file(&e, "Failed to wipe volume");
        let length = target.metadata().map_err(cannot)?.len();
        let (zeroes, mut at) = (vec![0; CHUNK], 0);
        while at < length {
            let count = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
            target.write_all_at(zeroes.get(..count).unwrap_or_default(), at).map_err(cannot)?;
            at += count as u64;
        }
        target.sync_all().map_err(cannot)
    })
    .await
}
