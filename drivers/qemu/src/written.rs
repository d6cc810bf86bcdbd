//! Files that QEMU writes for the daemon. QEMU owns the directory they are in, and a guest may have taken QEMU over: what
//! is there is neither followed elsewhere nor waited for, and no more of it is read than can be meant.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Takes a file of at most so many bytes away.
///
/// # Errors
/// There is none, it is a link, or cannot be read.
pub(crate) fn take(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut bytes = Vec::new();
    let read = opened.and_then(|file| file.take(most).read_to_end(&mut bytes));
    let _ = fs::remove_file(path);
    read.map(|_| bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_qemu_wrote_is_not_followed_and_not_read_without_end() {
        let path = std::env::temp_dir().join(format!("virtwire-written-{}", std::process::id()));
        symlink("/proc/self/status", &path).unwrap();
        assert!(take(&path, 9).is_err());
        assert!(fs::symlink_metadata(&path).is_err(), "the link is gone");
        fs::write(&path, "a screen").unwrap();
        assert_eq!(take(&path, 4).unwrap(), b"a sc");
        assert_eq!(take(&path, 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
