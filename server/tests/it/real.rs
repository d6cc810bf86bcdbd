//! The real libvirtd, beside virtwired.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host::Host;

/// Starts it with folders of its own below `real`, in the same namespace of processes as its clients: polkit goes by
/// their ids. Its read-write socket is `real/run/libvirt-sock` in the host's directory.
pub(crate) fn start(host: &mut Host, settings: &str, variables: &[(&str, &str)]) {
    start_program(host, "real", &["libvirtd"], settings, variables);
}

/// The same with a program and options, in a folder of any name. Returns its process id.
pub(crate) fn start_program(
    host: &mut Host,
    folder: &str,
    program: &[&str],
    settings: &str,
    variables: &[(&str, &str)],
) -> u32 {
    let dir = host.dir.join(folder);
    for folder in ["run", "etc", "var"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    fs::write(dir.join("etc/libvirtd.conf"), settings).unwrap();
    fs::write(dir.join("etc/qemu.conf"), "stdio_handler = \"file\"\n").unwrap();
    let script = "mount --make-rprivate /; mkdir -p /run/libvirt /etc/libvirt; \
                  mount --bind $0/run /run/libvirt; mount --bind $0/etc /etc/libvirt; \
                  for f in lib log cache; do mkdir -p /var/$f/libvirt $0/var/$f; \
                  mount --bind $0/var/$f /var/$f/libvirt; done; \
                  mkdir -p /var/lib/libvirt/images; ip link set lo up; exec \"$@\" -p /run/libvirt/daemon.pid";
    let path = dir.join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    let daemon = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-ec", script])
        .arg(&dir)
        .args(program)
        .env("NOTIFY_SOCKET", &path)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = daemon.id();
    host.children.push(daemon);
    let mut word = [0; 64];
    let count = told.recv(&mut word).unwrap();
    assert!(word[..count].starts_with(b"READY=1"));
    pid
}

/// A daemon in namespaces of its own, and what is said of it there.
pub(crate) struct Place<'a> {
    pub(crate) pid: u32,
    /// Where programs run.
    pub(crate) dir: &'a Path,
}

impl Place<'_> {
    /// A program where the daemon's files and its network are.
    pub(crate) fn within(&self, program: &str) -> Command {
        let mut within = Command::new("nsenter");
        within.args(["-t", &self.pid.to_string(), "-m", "-n", program]).current_dir(self.dir);
        within
    }
}
