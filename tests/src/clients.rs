//! Stock clients of libvirt, each with a program that has it show what it sees of the test hypervisor.

use std::process::Command;

use crate::compare::canonical;
use crate::daemon::Daemon;
use crate::folder::Folder;
use crate::peers::{GO_LIBRARIES, PYTHON, Peer};
use crate::{process, repo};

/// The hypervisor that clients are shown.
pub const URI: &str = "test:///default";

/// A client and what has to be installed for it.
#[derive(Debug)]
pub struct Client {
    /// What it is.
    pub peer: Peer,
    /// A program that ends with the line `done` if all went well, run with a daemon; the folder is empty.
    command: fn(&Daemon, &Folder) -> Command,
}

/// python3-libvirt: a life with its events, XML, snapshots, an error.
pub const PYTHON_LIBVIRT: Client =
    Client { peer: Peer::Python, command: |daemon, _| script(PYTHON, "clients/python.py", daemon) };

/// Sys::Virt: typed parameters both ways, statistics, a volume, events.
pub const SYS_VIRT: Client =
    Client { peer: Peer::SysVirt, command: |daemon, _| script("perl", "clients/sysvirt.pl", daemon) };

/// libvirt-glib: its own event loop and its signals.
pub const LIBVIRT_GLIB: Client =
    Client { peer: Peer::Glib, command: |daemon, _| script(PYTHON, "clients/glib.py", daemon) };

/// virt-install, virt-xml, virt-clone.
pub const VIRTINST: Client = Client {
    peer: Peer::Virtinst,
    command: |daemon, folder| {
        let mut command = script("bash", "clients/virtinst.sh", daemon);
        command.env("HOME", &**folder);
        command
    },
};

/// virt-top: what it prints where there is no terminal.
pub const VIRT_TOP: Client =
    Client { peer: Peer::VirtTop, command: |daemon, _| script("bash", "clients/virt-top.sh", daemon) };

/// go-libvirt: the protocol without libvirt's library.
pub const GO_LIBVIRT: Client = Client {
    peer: Peer::Go,
    command: |daemon, folder| {
        let program = folder.join("golang");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&program).arg(repo::file("clients/golang.go"));
        build.env("GO111MODULE", "off").env("GOPATH", GO_LIBRARIES).env("GOFLAGS", "");
        build.env("GOCACHE", repo::target().join("peers/go"));
        process::build(&mut process::one_output(&build));
        let mut command = Command::new(program);
        command.arg(URI).arg(daemon.socket());
        command
    },
};

fn script(interpreter: &str, file: &str, daemon: &Daemon) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(repo::file(file)).arg(daemon.uri(URI)).env("LC_ALL", "C.UTF-8");
    command
}

impl Client {
    /// All that it prints of a daemon, canonical.
    ///
    /// # Panics
    /// If it fails, or takes longer than [`process::PATIENCE`].
    #[track_caller]
    pub fn shows(&self, daemon: &Daemon) -> String {
        let _keeper = daemon.keep_open(URI);
        let folder = Folder::new();
        let finished = process::run(&mut process::one_output(&(self.command)(daemon, &folder)));
        assert!(
            finished.status.success() && finished.text.ends_with("done\n"),
            "{:?}, {}:\n{}",
            self.peer,
            finished.status,
            finished.text
        );
        canonical(&finished.text)
    }
}
