//! A guest's log: how it was started, what its QEMU wrote, why it ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use rustix::fs::OFlags;

/// The most of a log that goes into an error's text, in bytes.
const EXCERPT: u64 = 8 << 10;

/// An open log, appended to.
#[derive(Debug)]
pub struct GuestLog {
    path: PathBuf,
    file: File,
    /// Where this QEMU's own output begins.
    start: u64,
}

impl GuestLog {
    /// Opens the log, or makes it; only its owner can read it. A link in its place is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(no_link).open(path)?;
        let start = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, start })
    }

    /// A line with the time before it; what QEMU writes later begins behind it.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.file, "{}: {text}", timestamp(SystemTime::now()))?;
        self.start = self.file.metadata()?.len();
        Ok(())
    }

    /// A copy for QEMU's output.
    pub fn output(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What QEMU has written so far, without its announcements, at most some kilobytes.
    pub fn excerpt(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            // It begins anew where it was emptied meanwhile.
            let start = if self.start > end { 0 } else { self.start };
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(EXCERPT))))?;
            let mut bytes = Vec::new();
            file.take(EXCERPT).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let errors = text.lines().filter(|line| !line.starts_with("char device redirected to "));
        errors.collect::<Vec<_>>().join("\n")
    }
}

/// The time as libvirt's logs have it: `2026-11-24 11:02:50.466+0000`.
pub fn timestamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%F %T%.3f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use virtwire_store::Scratch;

    #[test]
    fn time_as_libvirt_writes_it() {
        let at = |millis| timestamp(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01 00:00:00.000+0000");
        assert_eq!(at(951_782_400_007), "2000-02-29 00:00:00.007+0000");
        assert_eq!(at(1_795_518_170_466), "2026-11-24 11:02:50.466+0000");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = Scratch::new();
        let (path, other) = (dir.path().join("g.log"), dir.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        GuestLog::open(&path).unwrap_err();
        assert!(!other.exists());
    }

    #[test]
    fn the_excerpt_is_what_came_after_the_last_note() {
        let dir = Scratch::new();
        let path = dir.path().join("g.log");
        let mut log = GuestLog::open(&path).unwrap();
        log.note("starting up").unwrap();
        let mut qemu = log.output().unwrap();
        writeln!(qemu, "char device redirected to /dev/pts/3 (label charserial0)\nqemu: no such thing")
            .unwrap();
        assert_eq!(log.excerpt(), "qemu: no such thing");
        let mut again = GuestLog::open(&path).unwrap();
        again.note("starting up").unwrap();
        assert_eq!(again.excerpt(), "");
    }
}
