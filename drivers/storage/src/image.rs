//! What is in an image, and images made by `qemu-img`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tokio::process::Command;
use virtwire_conf::image::{HEAD, Image, read};

use crate::{Result, STORAGE};

/// Looks into a regular file.
pub(crate) fn look(path: &Path) -> io::Result<Image> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(read(&head, path.parent().unwrap_or(Path::new("/"))))
}

/// Runs `qemu-img`.
pub(crate) async fn qemu_img(args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let args: Vec<OsString> = args.into_iter().collect();
    let done = Command::new("qemu-img")
        .args(&args)
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .await;
    let line = || {
        let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("qemu-img {}", words.join(" "))
    };
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let (status, why) = (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr));
            Err(STORAGE.internal_error(format_args!(
                "Child process ({}) unexpected exit status {status}: {why}",
                line()
            )))
        }
        Err(_) => {
            Err(STORAGE.internal_error("creation of non-raw file images is not supported without qemu-img."))
        }
    }
}
