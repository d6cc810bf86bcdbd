//! Files in directories that QEMU's user owns. A guest may have taken a QEMU over: what is there is neither followed
//! elsewhere nor waited for, and no more of it is read than can be meant.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat};

use crate::security::Ids;

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

/// Puts a file in place of whatever is there.
///
/// # Errors
/// It cannot be written.
pub(crate) fn put(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?.write_all(text.as_bytes())
}

/// Changes the owner of what is there itself.
///
/// # Errors
/// The system refuses.
pub(crate) fn give(path: &Path, to: Ids) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(to.user), Gid::from_raw(to.group));
    chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

/// Changes the mode of what is there itself.
///
/// # Errors
/// The system refuses, or it is a link.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&held)?.st_mode) == FileType::Symlink {
        return Err(rustix::io::Errno::LOOP.into());
    }
    // What is held by its place alone has no mode of its own to be changed by descriptor.
    fs::set_permissions(format!("/proc/self/fd/{}", held.as_raw_fd()), Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use virtwire_store::Scratch;

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

    #[test]
    fn what_a_link_leads_to_stays_as_it_is() {
        let dir = Scratch::new();
        let (other, link) = (dir.path().join("other"), dir.path().join("link"));
        fs::write(&other, "of somebody").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        symlink(&other, &link).unwrap();
        let before = fs::metadata(&other).unwrap();
        assert_eq!(set_mode(&link, 0o777).unwrap_err().raw_os_error(), Some(40));
        if rustix::process::geteuid().is_root() {
            give(&link, Ids { user: 7, group: 7 }).unwrap();
            assert_eq!(fs::symlink_metadata(&link).unwrap().uid(), 7);
        }
        let after = fs::metadata(&other).unwrap();
        assert_eq!((after.uid(), after.mode()), (before.uid(), before.mode()));
        put(&link, "7\n").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "of somebody");
        assert_eq!(fs::read_to_string(&link).unwrap(), "7\n");
        set_mode(&link, 0o640).unwrap();
        assert_eq!(fs::metadata(&link).unwrap().mode() & 0o777, 0o640);
    }
}
