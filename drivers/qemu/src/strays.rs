//! Emulators that a killed daemon had started and not yet written down.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::driver::Qemu;
use crate::process::Process;

impl Qemu {
    /// Ends what runs in directories of guests other than the known ones: nobody was told that it had started, and
    /// nobody could find it again.
    pub(crate) fn end_strays(&self, known: &HashSet<PathBuf>) {
        let entries = fs::read_dir(&self.shared.dirs.lib).into_iter().flatten().flatten();
        let of_guests = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"domain-"));
        for dir in of_guests.map(|entry| entry.path()).filter(|dir| !known.contains(dir)) {
            for process in running_in(&dir) {
                tracing::warn!(dir = %dir.display(), pid = process.pid(), "ended: nobody knew of it");
                process.signal(Signal::KILL);
            }
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

/// The emulators whose command lines name a directory's key.
fn running_in(dir: &Path) -> Vec<Process> {
    let key = dir.join("master-key.aes");
    let key = key.as_os_str().as_encoded_bytes();
    let names_it = |line: &[u8]| line.windows(key.len()).any(|part| part == key);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Process::adopt_if(pid, names_it).ok()).collect()
}
