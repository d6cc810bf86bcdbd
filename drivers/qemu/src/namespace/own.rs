//! A `/dev` for a guest that is about to start: made in the thread that starts its QEMU, which inherits it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};
use virtwire_conf::Domain;

use super::nodes::{self, Node};
use super::{ALWAYS, DEV, paths};
use crate::command::CommandLine;
use crate::error::Result;
use crate::security::Dac;
use crate::settings::Settings;

/// As libvirt has it.
const OPTIONS: &std::ffi::CStr = c"mode=755,size=65536";

/// What is beside the devices of a definition.
const SEV: &str = "/dev/sev";

/// What every guest with its own `/dev` sees.
#[derive(Debug)]
pub(crate) struct Always(Vec<PathBuf>);

impl Always {
    /// As `qemu.conf` says (`namespaces`, `cgroup_device_acl`): by default, where the system lets us make one. `None` has
    /// guests see all of the host's.
    ///
    /// # Errors
    /// It says something else, or asks for what the system refuses.
    pub(crate) fn of(settings: &Settings) -> io::Result<Option<Self>> {
        let asked = settings.texts("namespaces")?;
        if asked.iter().flatten().any(|name| name != "mount") {
            return Err(settings.wrong("namespaces", "\"mount\", or none"));
        }
        if asked.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        match is_possible() {
            Ok(()) => {}
            Err(error) if asked.is_some() => {
                return Err(io::Error::other(format!("guests cannot have a /dev of their own: {error}")));
            }
            Err(error) => {
                tracing::info!(%error, "guests see all devices of the host");
                return Ok(None);
            }
        }
        let listed = settings.texts("cgroup_device_acl")?;
        let listed = listed.unwrap_or_else(|| ALWAYS.map(str::to_owned).to_vec());
        Ok(Some(Self(listed.into_iter().map(PathBuf::from).collect())))
    }

    /// Their paths; the usual ones where the daemon makes no `/dev` for guests any more.
    pub(super) fn of_all(always: Option<&Self>) -> Vec<PathBuf> {
        always.map_or_else(|| ALWAYS.map(PathBuf::from).to_vec(), |always| always.0.clone())
    }

    /// What a guest sees, whose QEMU is started with this line.
    ///
    /// # Errors
    /// The guest's label means nobody.
    pub(crate) fn with(&self, domain: &Domain, line: &CommandLine, dac: Option<&Dac>) -> Result<OwnDev> {
        let owner = dac.map_or(Ok(None), |dac| dac.owner_of_files(domain))?;
        let mut own = paths::of_devices(&domain.devices);
        own.extend(line.args().iter().flat_map(|word| named(word)));
        own.extend(domain.launch_security.is_some().then(|| PathBuf::from(SEV)));
        own.retain(|path| !self.0.contains(path));
        let all = self.0.iter().flat_map(|path| nodes::describe(path, None));
        let nodes = all.chain(own.iter().flat_map(|path| nodes::describe(path, owner))).collect();
        Ok(OwnDev { nodes })
    }
}

/// Whether the system lets this process make one.
fn is_possible() -> io::Result<()> {
    let made = thread::spawn(|| OwnDev { nodes: Vec::new() }.enter()).join();
    made.unwrap_or_else(|_| Err(io::Error::other("a thread has ended early")))
}

/// Paths below `/dev` in a word of a command line.
fn named(word: &str) -> Vec<PathBuf> {
    let begins = word.match_indices("/dev/").map(|(at, _)| at);
    let begins = begins.filter(|at| {
        word.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with(['"', '=', ':']))
    });
    let rest = begins.filter_map(|at| word.get(at..));
    rest.map(|rest| PathBuf::from(rest.split(['"', ',']).next().unwrap_or(rest))).collect()
}

/// What a guest is to see.
#[derive(Debug)]
pub(crate) struct OwnDev {
    nodes: Vec<Node>,
}

impl OwnDev {
    /// Has this thread, and what it starts, see it in place of the host's. The thread is of no other use.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // What is mounted on the host later is seen here too, and nothing of here on the host.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let stay: Vec<_> =
            mounted()?.into_iter().filter_map(|below| held(&below).transpose()).collect::<io::Result<_>>()?;
        // With all that is on it; nothing else is to be found beneath.
        while unmount(DEV, UnmountFlags::DETACH).is_ok() {}
        mount(c"devfs", DEV, c"tmpfs", MountFlags::NOSUID, OPTIONS)?;
        nodes::put(Path::new(DEV), &self.nodes)?;
        stay.iter().try_for_each(Held::put)
    }
}

/// Something mounted below `/dev`.
struct Held {
    path: PathBuf,
    mount: OwnedFd,
    is_dir: bool,
}

/// Keeps hold of it; `None` where it cannot be reached, as below another one.
fn held(path: &Path) -> io::Result<Option<Held>> {
    let Ok(found) = fs::metadata(path) else { return Ok(None) };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(Some(Held { path: path.to_owned(), mount: open_tree(CWD, path, flags)?, is_dir: found.is_dir() }))
}

impl Held {
    /// Puts it where it was.
    fn put(&self) -> io::Result<()> {
        if self.is_dir {
            fs::create_dir_all(&self.path)?;
        } else {
            fs::File::create(&self.path)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(self.mount.as_fd(), c"", CWD, &self.path, flags)?)
    }
}

/// What is mounted below `/dev`, but not below something of that.
fn mounted() -> io::Result<Vec<PathBuf>> {
    Ok(topmost(&fs::read_to_string("/proc/thread-self/mountinfo")?))
}

fn topmost(table: &str) -> Vec<PathBuf> {
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let below: BTreeSet<&Path> =
        places.filter(|place| place.starts_with(DEV) && *place != Path::new(DEV)).collect();
    let is_top = |place: &&&Path| !place.ancestors().skip(1).any(|above| below.contains(above));
    below.iter().filter(is_top).map(|place| place.to_path_buf()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::given;

    #[test]
    fn devices_are_found_in_words() {
        for (word, paths) in [
            (
                r#"{"driver":"host_device","filename":"/dev/disk/by-id/x","node-name":"n"}"#,
                &["/dev/disk/by-id/x"][..],
            ),
            ("pty,id=charserial0,path=/dev/pts/1", &["/dev/pts/1"]),
            ("/dev/sdb", &["/dev/sdb"]),
            ("file:/dev/a,b=/dev/c", &["/dev/a", "/dev/c"]),
            ("path=/srv/dev/x,dir=/var/dev/", &[]),
        ] {
            assert_eq!(named(word), paths.iter().map(PathBuf::from).collect::<Vec<_>>(), "{word}");
        }
    }

    #[test]
    fn what_is_mounted_below_dev_stays() {
        let line = |place: &str| format!("36 25 0:31 / {place} rw - tmpfs x rw\n");
        let table: String =
            ["/", "/dev", "/dev/shm", "/dev/shm", "/dev/shm/x", "/dev/pts", "/device"].map(line).concat();
        assert_eq!(topmost(&table), [PathBuf::from("/dev/pts"), PathBuf::from("/dev/shm")]);
    }

    #[test]
    fn settings_are_checked() {
        assert!(Always::of(&given("namespaces = [ 'mount', 'net' ]")).is_err());
        assert!(Always::of(&given("namespaces = [ ]")).unwrap().is_none());
    }
}
