//! Emulators that a killed daemon had started and not yet written down.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use crate::driver::Qemu;
use crate::process::{self, Process};

/// How long is waited for what a killed daemon had begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(2);

/// Locks a file for as long as what is returned is open. A process that this daemon begins shares the lock until it has
/// become the program that it is to be: whoever gets it after a daemon was killed knows that all emulators of that one
/// can be told by their command lines.
///
/// # Errors
/// The file cannot be made.
pub(crate) async fn claim(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    let locked = async {
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            sleep(PAUSE).await;
        }
    };
    if timeout(PATIENCE, locked).await.is_err() {
        tracing::warn!(path = %path.display(), "another daemon has it; emulators may be overlooked");
    }
    Ok(file)
}

impl Qemu {
    /// Ends what runs in directories of guests other than the known ones: nobody was told that it had started, and
    /// nobody could find it again.
    pub(crate) async fn end_strays(&self, known: &HashSet<PathBuf>) {
        let entries = fs::read_dir(&self.shared.dirs.lib).into_iter().flatten().flatten();
        let of_guests = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"domain-"));
        let dirs = of_guests.map(|entry| entry.path()).filter(|dir| !known.contains(dir)).collect::<Vec<_>>();
        if dirs.is_empty() {
            return;
        }
        for pid in pids() {
            process::settled(pid).await;
        }
        for dir in dirs {
            for process in running_in(&dir) {
                tracing::warn!(dir = %dir.display(), pid = process.pid(), "ended: nobody knew of it");
                process.signal(Signal::KILL);
            }
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The emulators whose command lines name a directory's key.
fn running_in(dir: &Path) -> Vec<Process> {
    let key = dir.join("master-key.aes");
    let key = key.as_os_str().as_encoded_bytes();
    let names_it = |line: &[u8]| line.windows(key.len()).any(|part| part == key);
    pids().filter_map(|pid| Process::adopt_if(pid, names_it).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use virtwire_store::Scratch;

    use super::*;

    #[tokio::test]
    async fn a_daemon_waits_for_the_one_before_and_not_for_its_programs() {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let first = claim(&path).await.unwrap();
        let mut program = Command::new("sleep").arg("1000").spawn().unwrap();
        let second = tokio::spawn({
            let path = path.clone();
            async move { claim(&path).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap();
        let other = File::open(&path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(second);
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        program.kill().and_then(|()| program.wait()).unwrap();
    }
}
