//! Files that clients name.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// How such a file is opened: a pipe that nobody has at its other end, or a terminal, is nothing to wait for.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

/// How such a file is made anew; others are not to read what a guest had.
pub(crate) fn new() -> OpenOptions {
    let mut options = options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use virtwire_store::Scratch;

    use super::*;

    #[test]
    fn nobody_waits_for_the_other_end_of_a_pipe() {
        let dir = Scratch::new();
        let path = dir.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(
            new().open(&path).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::NXIO.raw_os_error())
        );
        let mut bytes = Vec::new();
        options().read(true).open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes.is_empty());
    }
}
