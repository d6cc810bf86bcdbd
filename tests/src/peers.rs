//! The real programs that are peers in the tests, and what happens where one is absent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::process;

/// Something outside this repository that a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The rights of root, for namespaces and the privileged daemon.
    Root,
    /// libvirt's daemon of the release that Virtwire answers as, see [`LIBVIRT`].
    Libvirtd,
    /// libvirt's command line.
    Virsh,
    /// Python with libvirt's binding.
    Python,
    /// QEMU for x86.
    Qemu,
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
            Peer::Qemu => not_installed("qemu-system-x86_64"),
            Peer::Gcc => not_installed("gcc").or_else(|| {
                let headers = Path::new("/usr/include/libvirt/libvirt.h");
                (!headers.exists()).then(|| "libvirt's headers are not installed".to_owned())
            }),
            Peer::Python => {
                let works = Command::new(PYTHON)
                    .args(["-c", "import libvirt"])
                    .output()
                    .is_ok_and(|o| o.status.success());
                (!works).then(|| "python3-libvirt is not installed".to_owned())
            }
        }
    }
}

/// Whether all these peers are here. If not, the test says that it is skipped, and why.
///
/// # Panics
/// If one is absent and `VIRTWIRE_NO_SKIP` is set.
#[track_caller]
pub fn here(peers: &[Peer]) -> bool {
    let Some(reason) = peers.iter().find_map(|peer| peer.absent()) else { return true };
    virtwire_skip::without_program(reason);
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
