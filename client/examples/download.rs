//! Copies a volume into a file, holes and all: `cargo run --example download -- qemu:///system /path/of/volume copy.img`

use std::io::{Error, Seek, SeekFrom, Write};

use virtwire_client::{Chunk, Connect, StorageVolDownloadFlags};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [uri, path, copy] = arguments.as_slice() else {
        return Err(Error::other("arguments: URI, path of the volume, file"));
    };
    let connect = Connect::open(uri).await.map_err(Error::other)?;
    let volume = connect.storage_vol_by_path(path).await.map_err(Error::other)?;
    let total = volume.info().await.map_err(Error::other)?.capacity;
    let flags = StorageVolDownloadFlags::SPARSE_STREAM;
    let stream = volume.download(0, 0, flags).await.map_err(Error::other)?;
    let (mut file, mut done) = (std::fs::File::create(copy)?, 0);
    while let Some(chunk) = stream.recv().await.map_err(Error::other)? {
        done += match chunk {
            Chunk::Data(bytes) => file.write_all(&bytes).map(|()| bytes.len() as u64)?,
            Chunk::Hole(length) => file.seek(SeekFrom::Current(length as i64)).map(|_| length)?,
        };
        eprint!("\r{} %", done * 100 / total.max(1));
    }
    // A hole at the end has written nothing.
    file.set_len(done)?;
    eprintln!();
    stream.finish().await.map_err(Error::other)
}
