//! The real programs that are peers in the tests, and what happens where one is absent.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::process;
use crate::repo;

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

/// Whether all these peers are here. If not, says `skipped: CASE (reason)`, which no test runner hides.
///
/// # Panics
/// If one is absent and `VIRTWIRE_NO_SKIP` is set, as it is where everything has been installed.
#[track_caller]
pub fn here(case: &str, peers: &[Peer]) -> bool {
    let Some(reason) = peers.iter().find_map(|peer| peer.absent()) else { return true };
    skipped(case, &reason);
    false
}

/// Says that a case isn't run, and why.
///
/// # Panics
/// If `VIRTWIRE_NO_SKIP` is set.
#[track_caller]
pub fn skipped(case: &str, reason: &str) {
    assert!(env::var_os("VIRTWIRE_NO_SKIP").is_none(), "{case} would be skipped: {reason}");
    // Not by println!, which the test runner captures.
    let _ = writeln!(io::stdout(), "skipped: {case} ({reason})");
}

/// The material beside the repository, `../shared` or `VIRTWIRE_SHARED`; says `skipped: CASE (reason)` where absent.
pub fn shared(case: &str, name: &str) -> Option<PathBuf> {
    let folder = env::var_os("VIRTWIRE_SHARED").map_or_else(|| repo::root().join("../shared"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        let _ = writeln!(io::stdout(), "skipped: {case} (shared/{name} is not beside the repository)");
        return None;
    }
    Some(path)
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
