//! `virtwire download` and `virtwire upload`: volumes and files, holes and all.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::{
    Chunk, Connect, Error, StorageVol, StorageVolDownloadFlags, StorageVolUploadFlags, Stream,
};

use crate::failure::Failure;
use crate::hosts::Hosts;

/// A volume and a file.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The volume: POOL/NAME, or its path on the daemon's host
    volume: String,

    /// The file here
    file: String,

    #[command(flatten)]
    hosts: Hosts,
}

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

pub(crate) async fn download(options: Options) -> Result<(), Failure> {
    let connect = options.hosts.only().await?;
    let volume = find(&connect, &options.volume).await?;
    let total = volume.info().await?.capacity;
    let stream = match volume.download(0, 0, StorageVolDownloadFlags::SPARSE_STREAM).await {
        Err(error) if is_refused(&error) => volume.download(0, 0, StorageVolDownloadFlags::empty()).await?,
        stream => stream?,
    };
    let mut file = File::create(&options.file).map_err(Failure::file(&options.file))?;
    let bar = bar(total, &options.volume);
    while let Some(chunk) = stream.recv().await? {
        let count = match chunk {
            Chunk::Data(bytes) => file.write_all(&bytes).map(|()| bytes.len() as u64),
            Chunk::Hole(length) => skip(&mut file, length).map(|()| length),
        };
        bar.inc(count.map_err(Failure::file(&options.file))?);
    }
    // A hole at the end has written nothing.
    let end = file.stream_position().and_then(|length| file.set_len(length));
    end.map_err(Failure::file(&options.file))?;
    stream.finish().await?;
    bar.finish();
    Ok(connect.close().await?)
}

fn skip(file: &mut File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    file.seek(SeekFrom::Current(length)).map(drop)
}

pub(crate) async fn upload(options: Options) -> Result<(), Failure> {
    let mut file = File::open(&options.file).map_err(Failure::file(&options.file))?;
    let length = file.metadata().map_err(Failure::file(&options.file))?.len();
    let connect = options.hosts.only().await?;
    let volume = find(&connect, &options.volume).await?;
    let (stream, sparse) = match volume.upload(0, 0, StorageVolUploadFlags::SPARSE_STREAM).await {
        Err(error) if is_refused(&error) => {
            (volume.upload(0, 0, StorageVolUploadFlags::empty()).await?, false)
        }
        stream => (stream?, true),
    };
    let bar = bar(length, &options.volume);
    send(&mut file, &stream, sparse, &bar, &options.file).await?;
    stream.finish().await?;
    bar.finish();
    Ok(connect.close().await?)
}

/// Whether a daemon does not know holes.
fn is_refused(error: &Error) -> bool {
    error.remote().is_some_and(|error| error.code == ErrorCode::INVALID_ARG)
}

/// Sends what a file holds; pieces of zeros go as holes to a daemon that knows them.
async fn send(
    file: &mut File,
    stream: &Stream,
    sparse: bool,
    bar: &ProgressBar,
    name: &str,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    let mut hole = 0;
    loop {
        let count = file.read(&mut piece).map_err(Failure::file(name))?;
        let bytes = piece.get(..count).unwrap_or_default();
        let zeros = sparse && count > 0 && bytes.iter().all(|byte| *byte == 0);
        if !zeros && hole > 0 {
            stream.send_hole(hole).await?;
            hole = 0;
        }
        match count {
            0 => return Ok(()),
            _ if zeros => hole += count as u64,
            _ => stream.send(bytes).await?,
        }
        bar.inc(count as u64);
    }
}

/// What is done and what is left; nothing where nobody sees it.
pub(crate) fn bar(total: u64, name: &str) -> ProgressBar {
    let style = "{msg}  {wide_bar}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(name.to_owned())
}

async fn find(connect: &Connect, name: &str) -> Result<StorageVol, Error> {
    match name.split_once('/') {
        Some((pool, volume)) if !pool.is_empty() => {
            connect.storage_pool_by_name(pool).await?.volume_by_name(volume).await
        }
        _ => connect.storage_vol_by_path(name).await,
    }
}
