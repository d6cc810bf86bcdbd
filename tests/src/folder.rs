//! Temporary folders that are gone when they are dropped; those of a run that was killed are gone with the next run.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// What the name of the file beside a folder ends with that its owner keeps locked for as long as it lives.
const OWNER: &str = "owner";

/// An empty folder of its own, with a path short enough for sockets in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Locked; the lock ends with this process, however it ends.
    _owner: File,
}

impl Folder {
    /// Makes one.
    ///
    /// # Panics
    /// If it can't be made.
    #[track_caller]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static CLEANED: OnceLock<()> = OnceLock::new();
        CLEANED.get_or_init(|| clean(&env::temp_dir()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(env::temp_dir().join(format!("virtwire-{}-{number}", process::id())))
    }

    #[track_caller]
    fn at(path: PathBuf) -> Self {
        // Locked before there is a folder, so that nobody takes it for an abandoned one.
        let owner = File::create(path.with_extension(OWNER)).and_then(|owner| owner.lock().map(|()| owner));
        let owner = owner.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, _owner: owner }
    }

    /// The control groups of a daemon that runs in it (`tests/private-daemon.sh`), one in each hierarchy.
    pub fn groups(&self) -> Vec<PathBuf> {
        groups(&self.path)
    }

    /// Has a process ended by the next run if this one is killed. Its command line must name the folder.
    pub fn owns(&self, pid: u32) {
        let _ = fs::write(self.path.with_extension(OWNER), pid.to_string());
    }
}

fn groups(folder: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = below.chain([root.to_owned()]);
    all.map(|dir| dir.join(folder.file_name().unwrap_or_default())).filter(|dir| dir.is_dir()).collect()
}

/// Removes a control group with all that are below it; the kernel keeps those that somebody is in.
fn remove_group(group: &Path) {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.for_each(|entry| remove_group(&entry.path()));
    let _ = fs::remove_dir(group);
}

/// Removes the folders whose owners have died, and ends the daemons that run in them.
fn clean(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let file = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("virtwire-"));
        if !ours || file.extension().is_none_or(|extension| extension != OWNER) {
            continue;
        }
        let Ok(owner) = File::open(&file) else { continue };
        if owner.try_lock().is_err() {
            continue;
        }
        let folder = file.with_extension("");
        if let Some(pid) = fs::read_to_string(&file).ok().and_then(|pid| pid.parse::<u32>().ok()) {
            end(pid, &folder);
        }
        remove(&folder);
    }
}

/// Removes a folder and its groups. The file of its owner stays with what cannot go yet, as where a process that was
/// killed has not ended: the next run finds it.
fn remove(folder: &Path) {
    let gone = fs::remove_dir_all(folder).is_ok() || !folder.exists();
    groups(folder).iter().for_each(|group| remove_group(group));
    if gone && groups(folder).is_empty() {
        let _ = fs::remove_file(folder.with_extension(OWNER));
    }
}

/// Ends a process, if it is the one that was started for this folder and not another with its number.
fn end(pid: u32, folder: &Path) {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let folder = folder.to_string_lossy();
    if String::from_utf8_lossy(&command).contains(&*folder) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn folders_of_the_dead_are_removed_with_their_daemons_and_others_stay() {
        let place = Folder::new();
        let (dead, alive) = (place.join("virtwire-1-0"), place.join("virtwire-1-1"));
        fs::create_dir(&dead).unwrap();
        // The folder's path is among its arguments, as with a daemon.
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh"]).arg(&dead);
        let mut daemon = command.stdin(Stdio::piped()).spawn().unwrap();
        fs::write(dead.with_extension(OWNER), daemon.id().to_string()).unwrap();
        let alive = Folder::at(alive);
        alive.owns(process::id());

        clean(&place);
        assert!(!dead.exists() && !dead.with_extension(OWNER).exists());
        assert!(alive.exists() && alive.with_extension(OWNER).exists());
        assert!(!daemon.wait().unwrap().success(), "it was killed");
    }
}
