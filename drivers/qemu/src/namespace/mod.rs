//! A guest's own `/dev`: its QEMU sees those devices of the host that are the guest's, and no others.
//!
//! Files below `/dev` on file systems of their own (`/dev/shm`, `/dev/pts`) are the same for all.

mod hand;
mod nodes;
mod own;
mod paths;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::guest::Live;
pub(crate) use hand::Handed;
use nodes::Node;
pub(crate) use nodes::is_node;
pub(crate) use own::{Always, OwnDev};

/// Where devices are.
const DEV: &str = "/dev";

/// What a status file says of a guest that has one.
pub(crate) const MARK: &str = "<namespaces>\n  <mount/>\n</namespaces>\n";

/// Devices that every guest sees, unless `qemu.conf` says others.
const ALWAYS: [&str; 8] = [
    "/dev/null",
    "/dev/full",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/dev/ptmx",
    "/dev/kvm",
    "/dev/userfaultfd",
];

/// Whether what is kept of a status file says that the guest has its own.
pub(crate) fn is_own(beside: &str) -> bool {
    beside.contains(MARK)
}

impl Live {
    /// Whether the guest has its own.
    pub(crate) fn has_own_dev(&self) -> bool {
        is_own(&self.beside)
    }
}

/// The devices of a guest that runs.
struct Inside(File);

impl Inside {
    /// Those of a process.
    ///
    /// # Errors
    /// It has ended.
    fn of(pid: u32) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{pid}/ns/mnt"))?))
    }

    /// Does something where these are the host's, in a thread of its own.
    fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS)?;
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Mount))?;
                work()
            });
            done.join().unwrap_or_else(|_| Err(io::Error::other("a thread has ended early")))
        })
    }

    /// Makes nodes that are not there yet. Returns which.
    fn add(&self, nodes: &[Node]) -> io::Result<Vec<PathBuf>> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        self.run(|| nodes::put(Path::new(DEV), nodes))
    }

    /// Removes nodes.
    fn remove(&self, paths: &[PathBuf]) -> io::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.run(|| nodes::remove(Path::new(DEV), paths))
    }
}
