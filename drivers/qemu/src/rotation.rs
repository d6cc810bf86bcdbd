//! Guests' logs, kept from growing without end as virtlogd keeps them: a log that has reached its size goes on in an
//! empty file, and its last bytes are in `NAME.log.0`, those before them in `NAME.log.1` and so on.
//!
//! QEMU holds the file itself, so that it goes on where there is no daemon; hence it is emptied in its place, and the
//! daemon that looks after the logs need not be the one that started the guest.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, inotify};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::dirs::Dirs;
use crate::policy::opens_files;
use crate::settings::Settings;

/// How much is kept of a log: libvirt's values where `virtlogd.conf` sets no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// Bytes of a log, and of what is kept of an older one (`max_size`); 0 is no limit.
    size: u64,
    /// How many older ones are kept (`max_backups`).
    backups: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { size: 2 << 20, backups: 3 }
    }
}

impl Kept {
    /// What the files say; `stdio_handler = "file"` in `qemu.conf` is for logs without a limit.
    fn read(dirs: &Dirs, qemu: &Settings) -> io::Result<Self> {
        if !opens_files(qemu)? {
            return Ok(Self { size: 0, backups: 0 });
        }
        let own = Settings::read(&dirs.beside.config.join("virtlogd.conf"))?;
        let usual = Self::default();
        Ok(Self {
            size: own.number("max_size")?.unwrap_or(usual.size),
            backups: own.number("max_backups")?.unwrap_or(usual.backups),
        })
    }
}

/// Looks after the logs of a folder until it is dropped.
#[derive(Debug)]
pub(crate) struct Rotation(Option<AbortHandle>);

impl Drop for Rotation {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Rotation {
    /// Begins with the logs that are there. A folder that cannot be watched is an error in the daemon's log.
    ///
    /// # Errors
    /// A configuration file cannot be read.
    pub(crate) fn of(dirs: &Dirs, qemu: &Settings) -> io::Result<Self> {
        let kept = Kept::read(dirs, qemu)?;
        if kept.size == 0 {
            return Ok(Self(None));
        }
        Ok(Self::begin(dirs.log.clone(), kept).unwrap_or_else(|error| {
            tracing::error!(%error, "guests' logs are not looked after");
            Self(None)
        }))
    }

    fn begin(folder: PathBuf, kept: Kept) -> io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watched = inotify::init(flags)?;
        inotify::add_watch(&watched, &folder, inotify::WatchFlags::MODIFY | inotify::WatchFlags::ONLYDIR)?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd keeps its descriptor for life")]
        let watched = AsyncFd::new(watched)?;
        let names = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        let task = tokio::spawn(async move {
            look(names, kept).await;
            loop {
                match written(&watched, &folder).await {
                    Ok(names) => look(names, kept).await,
                    Err(error) => {
                        return tracing::error!(%error, "guests' logs are not looked after any more");
                    }
                }
            }
        });
        Ok(Self(Some(task.abort_handle())))
    }
}

/// The files that have been written to.
async fn written(watched: &AsyncFd<OwnedFd>, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut ready = watched.readable().await?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watched.get_ref(), &mut space);
    let mut names = Vec::new();
    loop {
        match events.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| folder.join(OsStr::from_bytes(name.to_bytes())));
                names.extend(name.filter(|name| names.last() != Some(name)));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                ready.clear_ready();
                return Ok(names);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Rotates those of these files that are logs and long enough.
async fn look(names: Vec<PathBuf>, kept: Kept) {
    let long = |path: &PathBuf| {
        path.extension() == Some(OsStr::new("log"))
            && fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() >= kept.size)
    };
    let names: Vec<_> = names.into_iter().filter(long).collect();
    if names.is_empty() {
        return;
    }
    let rotated = tokio::task::spawn_blocking(move || {
        for path in names {
            if let Err(error) = rotate(&path, kept) {
                tracing::warn!(path = %path.display(), %error, "a guest's log cannot be rotated");
            }
        }
    });
    let _ = rotated.await;
}

/// Moves the last bytes of a log out of it, and those that had been moved before one on.
fn rotate(path: &Path, kept: Kept) -> io::Result<()> {
    let older = |number: u64| path.with_added_extension(number.to_string());
    let options = |options: &mut OpenOptions| {
        options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).to_owned()
    };
    let mut log = options(OpenOptions::new().read(true).write(true)).open(path)?;
    if kept.backups > 0 {
        for number in (0..kept.backups - 1).rev() {
            match fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let _ = fs::remove_file(older(0));
        let mut backup = options(OpenOptions::new().write(true).create_new(true)).open(older(0))?;
        copy_end(&mut log, &mut backup, kept.size)?;
    }
    log.set_len(0)
}

/// Removes a log, and what is kept of older ones.
pub(crate) fn remove(log: &Path) {
    let _ = fs::remove_file(log);
    let older = (0_u64..).map(|number| log.with_added_extension(number.to_string()));
    older.take_while(|path| fs::remove_file(path).is_ok()).for_each(drop);
}

fn copy_end(from: &mut File, to: &mut File, most: u64) -> io::Result<()> {
    let end = from.metadata()?.len();
    from.seek(SeekFrom::Start(end.saturating_sub(most)))?;
    io::copy(&mut io::Read::take(from, most), to).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::log::GuestLog;
    use virtwire_store::Scratch;

    const KEPT: Kept = Kept { size: 10, backups: 2 };

    fn read(path: &Path, ending: &str) -> Option<String> {
        fs::read_to_string(path.with_added_extension(ending)).ok()
    }

    #[test]
    fn what_is_older_moves_on_and_goes_in_the_end() {
        let dir = Scratch::new();
        let path = dir.path().join("g.log");
        let log = GuestLog::open(&path).unwrap();
        let mut qemu = log.output().unwrap();
        for (text, first, second) in [
            ("first------", "irst------", None),
            ("second", "second", Some("irst------")),
            ("third", "third", Some("second")),
        ] {
            qemu.write_all(text.as_bytes()).unwrap();
            rotate(&path, KEPT).unwrap();
            // It goes on at the beginning, whoever holds it open.
            assert_eq!(fs::read_to_string(&path).unwrap(), "");
            assert_eq!((read(&path, "0").as_deref(), read(&path, "1").as_deref()), (Some(first), second));
        }
        assert_eq!(read(&path, "2"), None);
        qemu.write_all(b"more").unwrap();
        assert_eq!(log.excerpt(), "more");
        rotate(&path, Kept { backups: 0, ..KEPT }).unwrap();
        assert_eq!((log.excerpt().as_str(), read(&path, "0").as_deref()), ("", Some("third")));
        remove(&path);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_lead_nowhere() {
        let dir = Scratch::new();
        let (path, other) = (dir.path().join("g.log"), dir.path().join("other"));
        fs::write(&other, "other").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        rotate(&path, KEPT).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "log").unwrap();
        std::os::unix::fs::symlink(&other, path.with_added_extension("0")).unwrap();
        rotate(&path, KEPT).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        assert_eq!(read(&path, "0").as_deref(), Some("log"));
    }

    #[tokio::test]
    async fn a_log_that_grows_is_rotated_while_it_is_written() {
        let dir = Scratch::new();
        let dirs = Dirs::system(dir.path());
        dirs.create().unwrap();
        let path = dirs.log("guest");
        let mut early = File::create(dirs.log("early")).unwrap();
        early.write_all(&[b'x'; 200]).unwrap();
        fs::write(dirs.beside.config.join("virtlogd.conf"), "max_size = 100\nmax_backups = 1\n").unwrap();
        let _rotation = Rotation::of(&dirs, &Settings::default()).unwrap();
        let log = GuestLog::open(&path).unwrap();
        let mut qemu = log.output().unwrap();
        qemu.write_all(&[b'a'; 99]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 99);
        qemu.write_all(b"b").unwrap();
        // The folder's own events say when.
        let watched = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watched, &dirs.log, inotify::WatchFlags::MODIFY).unwrap();
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd keeps its descriptor for life")]
        let watched = AsyncFd::new(watched).unwrap();
        let long = || [&path, &dirs.log("early")].iter().any(|path| fs::metadata(path).unwrap().len() > 0);
        while long() {
            written(&watched, &dirs.log).await.unwrap();
        }
        assert_eq!(read(&path, "0").unwrap(), "a".repeat(99) + "b");
        assert_eq!(read(&dirs.log("early"), "0").unwrap().len(), 100);
    }

    #[test]
    fn how_much_is_kept_is_as_libvirt_has_it() {
        let dir = Scratch::new();
        let dirs = Dirs::system(dir.path());
        dirs.create().unwrap();
        assert_eq!(Kept::read(&dirs, &Settings::default()).unwrap(), Kept { size: 2_097_152, backups: 3 });
        let virtlogd = dirs.beside.config.join("virtlogd.conf");
        fs::write(&virtlogd, "max_backups = 7\nmax_age_days = 3\n").unwrap();
        assert_eq!(Kept::read(&dirs, &Settings::default()).unwrap(), Kept { size: 2_097_152, backups: 7 });
        fs::write(&virtlogd, "\nmax_size = \"x\"\n").unwrap();
        let error = Kept::read(&dirs, &Settings::default()).unwrap_err().to_string();
        assert!(error.ends_with("virtlogd.conf:2: 'max_size' must be a number"), "{error}");
        let unlimited = crate::settings::given("stdio_handler = \"file\"\n");
        assert_eq!(Kept::read(&dirs, &unlimited).unwrap().size, 0);
    }
}
