//! What is in an image.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use virtwire_conf::image::{HEAD, Image, read};

/// Looks into a regular file.
pub(crate) fn look(path: &Path) -> io::Result<Image> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(read(&head, path.parent().unwrap_or(Path::new("/"))))
}
