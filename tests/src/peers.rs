//! The real programs that are peers in the tests, and what happens where one is absent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::{process, repo};

/// Something outside this repository that a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The rights of root, for namespaces and the privileged daemon.
    Root,
    /// libvirt's daemon of the release that Virtwire answers as, see [`LIBVIRT`].
    Libvirtd,
    /// libvirt's command line.
    Virsh,
    /// An older virsh, unpacked by `tests/setup.sh` and not installed.
    OldVirsh,
    /// libvirt's command line for daemons.
    VirtAdmin,
    /// Python with libvirt's binding.
    Python,
    /// Perl with libvirt's binding.
    SysVirt,
    /// libvirt-glib, and Python to reach it.
    Glib,
    /// virt-install, virt-xml and virt-clone.
    Virtinst,
    /// The monitor of guests. Debian's releases have it or not.
    VirtTop,
    /// Go's compiler, and go-libvirt.
    Go,
    /// QEMU for x86.
    Qemu,
    /// KVM, for guests that run at full speed.
    Kvm,
    /// Control groups that can be made, among them one for processors.
    Cgroups,
    /// The host's packet filters, as the daemons tell them what to do.
    Ebtables,
    /// A C compiler, and libvirt's headers.
    Gcc,
}

/// The libvirt release whose answers Virtwire gives.
pub const LIBVIRT: &str = "11.3.";

/// Debian's Python, the one that python3-libvirt is installed for.
pub const PYTHON: &str = "/usr/bin/python3";

impl Peer {
    /// Why this peer can't be used here, `None` if it can.
    fn absent(self) -> Option<String> {
        match self {
            Peer::Root => {
                let owner = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
                (!matches!(owner, Ok(0))).then(|| "needs root".to_owned())
            }
            Peer::Libvirtd => match version_of("libvirtd") {
                Some(version) if version.contains(LIBVIRT) => None,
                Some(version) => Some(format!("needs libvirtd {LIBVIRT}x, here is {}", version.trim())),
                None => Some("libvirtd is not installed".to_owned()),
            },
            Peer::Virsh => not_installed("virsh"),
            Peer::OldVirsh => {
                let here = old_virsh_folder().join("usr/bin/virsh").exists();
                (!here).then(|| "no older virsh is unpacked below the build folder".to_owned())
            }
            Peer::VirtAdmin => not_installed("virt-admin"),
            Peer::Virtinst => not_installed("virt-install"),
            Peer::VirtTop => not_installed("virt-top"),
            Peer::Go => not_installed("go").or_else(|| {
                let library = Path::new(GO_LIBRARIES).join("src/github.com/digitalocean/go-libvirt");
                (!library.exists()).then(|| "go-libvirt is not installed".to_owned())
            }),
            Peer::Qemu => not_installed("qemu-system-x86_64"),
            Peer::Kvm => {
                let kvm = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
                kvm.err().map(|error| format!("/dev/kvm: {error}"))
            }
            Peer::Cgroups => {
                let root = Path::new("/sys/fs/cgroup");
                let mounted = [root.join("cpuset/cpuset.cpus"), root.join("cpuset.cpus.effective")];
                let is_writable = |path: &Path| {
                    path.exists()
                        && fs::OpenOptions::new()
                            .write(true)
                            .open(path.with_file_name("cgroup.procs"))
                            .is_ok()
                };
                let any = mounted.iter().any(|path| is_writable(path));
                (!any).then(|| "no control groups can be made here".to_owned())
            }
            Peer::Ebtables => not_installed("ebtables-save").or_else(|| not_installed("iptables-save")),
            Peer::Gcc => not_installed("gcc").or_else(|| {
                let headers = Path::new("/usr/include/libvirt/libvirt.h");
                (!headers.exists()).then(|| "libvirt's headers are not installed".to_owned())
            }),
            Peer::Python => unless_works(PYTHON, &["-c", "import libvirt"], "python3-libvirt"),
            Peer::SysVirt => unless_works("perl", &["-MSys::Virt", "-e1"], "Sys::Virt"),
            Peer::Glib => {
                let program = "import gi; gi.require_version('LibvirtGObject', '1.0')";
                unless_works(PYTHON, &["-c", program], "libvirt-glib's introspection")
            }
        }
    }

    /// Whether `tests/setup.sh` leaves it out, so that its absence is told and nothing more.
    fn is_optional(self) -> bool {
        matches!(self, Peer::VirtTop | Peer::Cgroups)
    }
}

/// Where Debian has Go libraries.
pub const GO_LIBRARIES: &str = "/usr/share/gocode";

/// The older virsh on its own libraries, in English and without its history.
pub fn old_virsh(uri: &str) -> Command {
    let folder = old_virsh_folder();
    let mut command = Command::new(folder.join("usr/bin/virsh"));
    command.args(["-c", uri]).env("LC_ALL", "C").env("XDG_CACHE_HOME", env::temp_dir());
    let libraries = fs::read_dir(folder.join("usr/lib")).into_iter().flatten().flatten();
    let libraries = libraries.map(|entry| entry.path()).find(|path| path.join("libvirt.so.0").exists());
    command.env("LD_LIBRARY_PATH", libraries.unwrap_or_default());
    command
}

fn old_virsh_folder() -> PathBuf {
    repo::target().join("peers/virsh-9.0")
}

fn unless_works(program: &str, arguments: &[&str], name: &str) -> Option<String> {
    let works = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    (!works).then(|| format!("{name} is not installed"))
}

/// Whether all these peers are here. If not, the test says that it is skipped, and why.
///
/// # Panics
/// If one is absent that `tests/setup.sh` installs, and `VIRTWIRE_NO_SKIP` is set.
#[track_caller]
pub fn here(peers: &[Peer]) -> bool {
    let absent = peers.iter().find_map(|peer| peer.absent().map(|reason| (peer, reason)));
    match absent {
        None => return true,
        Some((peer, reason)) if peer.is_optional() => virtwire_skip::without_data(reason),
        Some((_, reason)) => virtwire_skip::without_program(reason),
    }
    false
}

fn version_of(program: &str) -> Option<String> {
    find(program).map(|path| process::run(Command::new(path).arg("--version")).text)
}

fn not_installed(program: &str) -> Option<String> {
    find(program).is_none().then(|| format!("{program} is not installed"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
