//! Control groups: what keeps a guest, and each of its threads, to its share of the host (cgroups(7)).
//!
//! A guest has a group in every hierarchy, below the partition that its definition names; where threads are told
//! apart, a group of its own in that one for the emulator, each virtual processor and each I/O thread. A controller
//! that the unified hierarchy (version 2) has is used there, any other in the hierarchy of version 1 that has it.

mod limits;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use virtwire_conf::Domain;
use virtwire_conf::table::Cpuset;
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;

use crate::error::{QEMU, Result};
use crate::settings::Settings;

pub(crate) use limits::{Bandwidth, Memory, UNLIMITED};

/// What a hierarchy controls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Controller {
    /// Time of processors.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Requests to block devices; `io` of the unified hierarchy.
    Blkio,
    /// Nothing is set; the whole guest can be stopped by others.
    Freezer,
}

const ALL: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuset, Controller::Memory, Controller::Blkio, Controller::Freezer];

impl Controller {
    /// Its name in `qemu.conf` and in hierarchies of version 1.
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Blkio => "blkio",
            Self::Freezer => "freezer",
        }
    }

    /// Its name in the unified hierarchy, where every group can be frozen.
    fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Blkio => Some("io"),
            Self::Freezer => None,
            other => Some(other.name()),
        }
    }

    /// Whether threads of one process can be in groups of their own.
    fn is_of_threads(self) -> bool {
        matches!(self, Self::Cpu | Self::Cpuset)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V1,
    V2,
}

/// A hierarchy of the host, and what is controlled in it.
#[derive(Debug)]
struct Hierarchy {
    root: PathBuf,
    /// The group that is mounted there; `/` on most hosts.
    within: String,
    version: Version,
    controllers: Vec<Controller>,
}

impl Hierarchy {
    fn controls(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Whether threads have groups of their own in it.
    fn parts_threads(&self) -> bool {
        self.version == Version::V2 || self.controllers.iter().any(|controller| controller.is_of_threads())
    }
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) that is of control groups.
struct Mount<'a> {
    root: &'a str,
    place: &'a str,
    version: Version,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let mut back = back.split(' ');
        let version = match back.next()? {
            "cgroup2" => Version::V2,
            "cgroup" => Version::V1,
            _ => return None,
        };
        Some(Self { root: front.next()?, place: front.next()?, version, options: back.nth(1)? })
    }
}

/// The hierarchies of the host.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Arc<Hierarchy>>,
}

/// Where libvirt puts guests that do not say where they belong.
const PARTITION: &str = "/machine";

impl Cgroups {
    /// The hierarchies that are mounted, as far as `qemu.conf` (`cgroup_controllers`) wants them.
    ///
    /// # Errors
    /// It names something else than controllers.
    pub(crate) fn of_host(settings: &Settings) -> io::Result<Self> {
        let wanted = settings.texts("cgroup_controllers")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let unified = |root: &Path| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let mut found = Self::find(&mounts, unified, wanted.as_deref());
        // Something else may be mounted above.
        found.hierarchies.retain(|hierarchy| hierarchy.root.join("cgroup.procs").exists());
        Ok(found)
    }

    /// The weights that the time of processors can have.
    pub(crate) fn weights(&self) -> RangeInclusive<u64> {
        let of_cpu = self.hierarchies.iter().find(|hierarchy| hierarchy.controls(Controller::Cpu));
        match of_cpu.map(|hierarchy| hierarchy.version) {
            Some(Version::V2) => 1..=10_000,
            _ => 2..=262_144,
        }
    }

    fn find(mountinfo: &str, unified: impl Fn(&Path) -> String, wanted: Option<&[String]>) -> Self {
        let mut found = Self::default();
        if wanted.is_some_and(<[String]>::is_empty) {
            return found;
        }
        let is_wanted = |controller: &Controller| {
            wanted.is_none_or(|all| all.iter().any(|name| name == controller.name()))
        };
        let mut mounts: Vec<Mount<'_>> = Vec::new();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            // What is mounted later hides what was there.
            mounts.retain(|earlier| earlier.place != mount.place);
            mounts.push(mount);
        }
        let mut taken: Vec<Controller> = Vec::new();
        for version in [Version::V2, Version::V1] {
            for mount in mounts.iter().filter(|mount| mount.version == version) {
                let names = match version {
                    Version::V2 => unified(Path::new(mount.place)),
                    Version::V1 => mount.options.replace(',', " "),
                };
                let has = |controller: &Controller| {
                    let name = match version {
                        Version::V2 => controller.unified_name(),
                        Version::V1 => Some(controller.name()),
                    };
                    name.is_some_and(|name| names.split_whitespace().any(|known| known == name))
                };
                let own = ALL.into_iter().filter(|one| has(one) && !taken.contains(one));
                let own: Vec<_> = own.collect();
                taken.extend(&own);
                let controllers: Vec<_> = own.into_iter().filter(is_wanted).collect();
                if version == Version::V2 || !controllers.is_empty() {
                    let (root, within) = (PathBuf::from(mount.place), mount.root.to_owned());
                    found.hierarchies.push(Arc::new(Hierarchy { root, within, version, controllers }));
                }
            }
        }
        found
    }

    /// Puts a guest that has just been started into groups of its own, made as `short` says.
    ///
    /// # Errors
    /// There is no such partition, or a group cannot be made. Where the host lets nobody make groups, there are none.
    pub(crate) fn enter(&self, domain: &Domain, short: &str, pid: u32) -> Result<Arc<Group>> {
        let mut group = Group::default();
        let entered = self.make_all(domain, short, &mut group);
        let entered = entered.and_then(|()| {
            group.places.iter().try_for_each(|place| {
                again(|| {
                    let _ = make(&place.hierarchy, &place.dir);
                    limits::write(&place.dir.join("cgroup.procs"), pid)
                })
            })
        });
        let group = Arc::new(group);
        match entered {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove_when_empty();
                Err(error)
            }
        }
    }

    fn make_all(&self, domain: &Domain, short: &str, group: &mut Group) -> Result<()> {
        let partition = domain.resource.as_ref().and_then(|resource| resource.partition.as_deref());
        let partition = partition.unwrap_or(PARTITION);
        let place = place(partition)?;
        for hierarchy in &self.hierarchies {
            let parent = hierarchy.root.join(&place);
            let made = if partition == PARTITION { make(hierarchy, &parent) } else { Ok(()) };
            let dir = parent.join(format!("qemu-{short}.libvirt-qemu"));
            match made.and_then(|()| make(hierarchy, &dir)) {
                Ok(()) => group.places.push(Place { hierarchy: Arc::clone(hierarchy), dir }),
                Err(error) if is_closed(&error) => {
                    tracing::debug!(root = %hierarchy.root.display(), %error, "no groups can be made");
                    let _ = fs::remove_dir(dir);
                }
                Err(error) => {
                    let which = if hierarchy.version == Version::V2 { "v2" } else { "v1" };
                    let what = format_args!("Failed to create {which} cgroup '{}/'", parent.display());
                    return Err(VirtError::system(ErrorDomain::CGROUP, &error, what));
                }
            }
        }
        Ok(())
    }

    /// The groups of a guest that another daemon has started: they are where the emulator is.
    pub(crate) fn of_process(&self, pid: u32) -> Arc<Group> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mut group = Group::default();
        for hierarchy in &self.hierarchies {
            let path = text.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (names, path) = (fields.next()?, fields.next()?);
                let is_it = match hierarchy.version {
                    Version::V2 => names.is_empty(),
                    Version::V1 => hierarchy
                        .controllers
                        .iter()
                        .any(|one| names.split(',').any(|name| name == one.name())),
                };
                is_it.then_some(path)
            });
            let path = path.and_then(|path| path.strip_prefix(hierarchy.within.trim_end_matches('/')));
            let path = path.map(|path| path.strip_suffix("/emulator").unwrap_or(path));
            // Where it was never put into a group, the group it is in belongs to others.
            if let Some(path) =
                path.filter(|path| path.ends_with(".libvirt-qemu") || path.ends_with("/libvirt"))
            {
                let dir = hierarchy.root.join(path.trim_start_matches('/'));
                group.places.push(Place { hierarchy: Arc::clone(hierarchy), dir });
            }
        }
        Arc::new(group)
    }
}

/// The directory of a partition: libvirt marks all of its parts but its own first one.
fn place(partition: &str) -> Result<PathBuf> {
    let path = partition.strip_prefix('/').ok_or_else(|| {
        QEMU.config_unsupported(format_args!("Resource partition '{partition}' must start with '/'"))
    })?;
    let marked = |part: &str| match part {
        "machine" | "user" | "system" => part.to_owned(),
        part if part.ends_with(".slice") => part.to_owned(),
        part => format!("{part}.partition"),
    };
    let parts = path.split('/').filter(|part| !part.is_empty());
    if parts.clone().any(|part| part == "..") {
        return Err(QEMU.config_unsupported(format_args!("Resource partition '{partition}' leads elsewhere")));
    }
    Ok(parts.map(marked).collect())
}

/// Whether the host lets nobody make groups.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// A group that is there already is as good as a new one.
fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a group; what is below it can be controlled as it is itself.
fn make(hierarchy: &Hierarchy, dir: &Path) -> io::Result<()> {
    make_dir(dir)?;
    match hierarchy.version {
        Version::V1 if hierarchy.controls(Controller::Cpuset) => {
            // A new group has no processor and no memory, and takes nobody.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let parent = dir.parent().map(|parent| parent.join(file)).unwrap_or_default();
                let own = fs::read_to_string(dir.join(file))?;
                if own.trim().is_empty() {
                    fs::write(dir.join(file), fs::read_to_string(parent)?)?;
                }
            }
            Ok(())
        }
        Version::V1 => Ok(()),
        Version::V2 => delegate(hierarchy, dir.parent().unwrap_or(dir), false),
    }
}

/// Lets groups below one be controlled. Threads can be held by some controllers only.
fn delegate(hierarchy: &Hierarchy, dir: &Path, threads: bool) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file)?;
    for controller in hierarchy.controllers.iter().filter(|one| !threads || one.is_of_threads()) {
        if let Some(name) = controller.unified_name()
            && !on.split_whitespace().any(|known| known == name)
        {
            fs::write(&file, format!("+{name}"))?;
        }
    }
    Ok(())
}

/// How often something is tried again that somebody else has undone.
const UNDONE: u32 = 10;

/// Does something in a group that is there; another daemon on this host may clear away the empty group of a guest of its own
/// that has the same name and number.
///
/// # Errors
/// What it fails with.
pub(crate) fn again<T>(mut what: impl FnMut() -> Result<T>) -> Result<T> {
    let is_gone = |error: &VirtError| error.int1 == rustix::io::Errno::NOENT.raw_os_error();
    let mut result = what();
    for _ in 0..UNDONE {
        match &result {
            Err(error) if is_gone(error) => result = what(),
            _ => break,
        }
    }
    result
}

/// Where a guest is in a hierarchy.
#[derive(Clone, Debug)]
struct Place {
    hierarchy: Arc<Hierarchy>,
    dir: PathBuf,
}

impl Place {
    /// The groups that are in it, by name.
    fn parts(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let parts = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        parts.filter_map(|part| part.file_name().into_string().ok()).collect()
    }
}

/// The groups of a guest, or of some of its threads.
#[derive(Debug, Default)]
pub(crate) struct Group {
    places: Vec<Place>,
}

/// How often, and how long apart, the removal of a group is tried from which a process has not quite gone.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Group {
    fn place(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.hierarchy.controls(controller))
    }

    /// Whether the guest is controlled by it.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.place(controller).is_some()
    }

    /// The group of some threads, by its name.
    pub(crate) fn part(&self, name: &str) -> Arc<Self> {
        let places = self.places.iter().filter(|place| place.hierarchy.parts_threads());
        let part =
            |place: &Place| Place { hierarchy: Arc::clone(&place.hierarchy), dir: place.dir.join(name) };
        Arc::new(Self { places: places.map(part).collect() })
    }

    /// Makes the group of some threads.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn make_part(&self, name: &str) -> Result<Arc<Self>> {
        let part = self.part(name);
        for place in &part.places {
            let made = match place.hierarchy.version {
                Version::V1 => make(&place.hierarchy, &place.dir),
                Version::V2 => make_threaded(&place.hierarchy, &place.dir),
            };
            made.map_err(|error| {
                let what = format_args!("Failed to create cgroup '{}/'", place.dir.display());
                VirtError::system(ErrorDomain::CGROUP, &error, what)
            })?;
        }
        Ok(part)
    }

    /// Takes in a process with all threads that have no group of their own.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn take_process(&self, pid: u32) -> Result<()> {
        self.places.iter().try_for_each(|place| match place.hierarchy.version {
            Version::V1 => limits::write(&place.dir.join("cgroup.procs"), pid),
            Version::V2 => crate::process::threads_of(pid)
                .into_iter()
                .try_for_each(|thread| limits::write(&place.dir.join("cgroup.threads"), thread)),
        })
    }

    /// Takes in a thread.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn take_thread(&self, thread: u32) -> Result<()> {
        self.places.iter().try_for_each(|place| {
            let file = match place.hierarchy.version {
                Version::V1 => "tasks",
                Version::V2 => "cgroup.threads",
            };
            limits::write(&place.dir.join(file), thread)
        })
    }

    /// Says from which nodes the whole guest has its memory.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_all_nodes(&self, nodes: &Cpuset) -> Result<()> {
        let Some(place) = self.place(Controller::Cpuset) else { return Ok(()) };
        let parts: Vec<_> = place.parts().iter().map(|part| self.part(part)).collect();
        // A part never has a node that the whole does not have: it may have to go first, or last.
        for part in &parts {
            let _ = part.set_nodes(nodes);
        }
        self.set_nodes(nodes)?;
        parts.iter().try_for_each(|part| part.set_nodes(nodes))
    }

    /// Removes it with its parts, as far as nobody is in it; says whether all is gone.
    fn remove(&self) -> bool {
        let mut gone = true;
        for place in &self.places {
            place.parts().iter().for_each(|part| drop(fs::remove_dir(place.dir.join(part))));
            gone &= match fs::remove_dir(&place.dir) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        }
        gone
    }

    /// Removes it once the last process has left it.
    pub(crate) fn remove_when_empty(self: &Arc<Self>) {
        if self.remove() {
            return;
        }
        let group = Arc::clone(self);
        tokio::spawn(async move {
            for _ in 0..TRIES {
                tokio::time::sleep(PAUSE).await;
                if group.remove() {
                    return;
                }
            }
            tracing::warn!(places = ?group.places, "control groups are still in use");
        });
    }
}

/// In the unified hierarchy, threads of one process are apart only in groups of another kind.
fn make_threaded(hierarchy: &Hierarchy, dir: &Path) -> io::Result<()> {
    make_dir(dir)?;
    let kind = dir.join("cgroup.type");
    if fs::read_to_string(&kind)?.trim() != "threaded" {
        fs::write(&kind, "threaded")?;
    }
    delegate(hierarchy, dir.parent().unwrap_or(dir), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(unified: &'static str, wanted: Option<&[String]>) -> Vec<(String, Vec<Controller>)> {
        let mounts = "31 24 0:27 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 24 0:28 /box /c/blkio rw,nosuid shared:9 - cgroup cgroup rw,blkio\n\
                      33 24 0:29 / /c/unified rw - cgroup2 cgroup2 rw\n24 1 0:2 / /c rw - tmpfs tmpfs rw\n\
                      40 31 0:27 /box /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let cgroups = Cgroups::find(mounts, |_| unified.to_owned(), wanted);
        let of = |one: &Arc<Hierarchy>| {
            (format!("{}:{}", one.root.display(), one.within), one.controllers.clone())
        };
        cgroups.hierarchies.iter().map(of).collect()
    }

    #[test]
    fn the_unified_hierarchy_comes_first() {
        assert_eq!(
            found("memory io pids", None),
            [
                ("/c/unified:/".to_owned(), vec![Controller::Memory, Controller::Blkio]),
                ("/c/cpu,cpuacct:/box".to_owned(), vec![Controller::Cpu]),
            ]
        );
        assert_eq!(found("", Some(&["cpu".to_owned()]))[1].1, [Controller::Cpu]);
        assert_eq!(found("memory", Some(&[])), []);
    }

    #[test]
    fn partitions_have_places() {
        let of = |partition| place(partition).map(|path| path.display().to_string());
        assert_eq!(of("/machine"), Ok("machine".to_owned()));
        assert_eq!(of("/a/machine/b.slice"), Ok("a.partition/machine/b.slice".to_owned()));
        assert!(of("a").is_err());
        assert!(of("/../a").is_err());
    }
}
