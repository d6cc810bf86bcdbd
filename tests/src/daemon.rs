//! Daemons on private sockets: virtwired of this source tree, and the real libvirtd.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::process::{self, Finished, PATIENCE, Program};
use crate::repo;

/// A running daemon, ready for clients. Dropping it ends it and removes its folder.
pub struct Daemon {
    // Ended before its folder is removed: fields are dropped in this order.
    program: Program,
    folder: Folder,
    sockets: PathBuf,
    started: Duration,
}

impl Daemon {
    /// virtwired as an ordinary process; its state is in a folder of its own.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn virtwired() -> Self {
        let folder = Folder::new();
        let mut command = Command::new(virtwired());
        command.arg("--socket").arg(folder.join("libvirt-sock")).arg("--root").arg(folder.join("root"));
        // What a client calls by a relative path is there too.
        command.current_dir(&*folder);
        let sockets = folder.to_owned();
        Self::start(folder, sockets, &mut command)
    }

    /// virtwired with this configuration.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn virtwired_with(configuration: &str) -> Self {
        let folder = Folder::new();
        let file = folder.join("libvirtd.conf");
        fs::write(&file, configuration).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut command = Command::new(virtwired());
        command.arg("--socket").arg(folder.join("libvirt-sock")).arg("--root").arg(folder.join("root"));
        command.arg("--config").arg(file);
        let sockets = folder.to_owned();
        Self::start(folder, sockets, &mut command)
    }

    /// virtwired as a user runs it, with its home in the daemon's folder; needs root.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn virtwired_of(user: u32) -> Self {
        let folder = Folder::new();
        // The user need not be able to look into the source tree.
        let (program, id) = (folder.join("virtwired"), user.to_string());
        fs::copy(virtwired(), &program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        chown(&*folder, Some(user), Some(user)).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        command.arg("--socket").arg(folder.join("libvirt-sock")).env("HOME", &*folder);
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        let sockets = folder.to_owned();
        Self::start(folder, sockets, &mut command)
    }

    /// virtwired by the same means as [`Daemon::libvirtd`], so that both find the same files at the same paths.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn private_virtwired() -> Self {
        Self::private(&virtwired(), &[])
    }

    /// A daemon in namespaces of its own that listens on the network there, with these settings.
    ///
    /// # Panics
    /// If it doesn't get ready.
    #[track_caller]
    pub fn listening(program: &Path, settings: &str) -> Self {
        Self::private_with(program, &[("libvirtd.conf", settings)], &["--listen"])
    }

    /// [`Daemon::private_virtwired`] on what says that it is another host than this one.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn elsewhere() -> Self {
        Self::elsewhere_with(&[])
    }

    /// [`Daemon::elsewhere`] with these files in `/etc/libvirt`.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn elsewhere_with(files: &[(&str, &str)]) -> Self {
        let settings = ("libvirtd.conf", "host_uuid = \"6a2f1c1e-5d0b-4c4e-9d57-0c5a6f3f7e21\"\n");
        Self::private_with(&virtwired(), &[files, &[settings]].concat(), &[])
    }

    /// [`Daemon::libvirtd`] with these files and no others in `/etc/libvirt`.
    ///
    /// # Panics
    /// If it doesn't get ready.
    #[track_caller]
    pub fn libvirtd_with(files: &[(&str, &str)]) -> Self {
        Self::private_with(Path::new("libvirtd"), files, &[])
    }

    #[track_caller]
    fn private_with(program: &Path, files: &[(&str, &str)], options: &[&str]) -> Self {
        let folder = Folder::new();
        for (name, text) in files {
            let path = folder.join("etc").join(name);
            let made =
                fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::write(&path, text));
            made.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        Self::private_in(folder, &[], program, options)
    }

    /// The real libvirtd, in namespaces of its own (`tests/private-daemon.sh`).
    ///
    /// # Panics
    /// If it doesn't get ready.
    #[track_caller]
    pub fn libvirtd() -> Self {
        Self::private(Path::new("libvirtd"), &[])
    }

    /// [`Daemon::private_virtwired`], or the real libvirtd, started anew whenever it ends.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn again(real: bool) -> Self {
        let program = if real { PathBuf::from("libvirtd") } else { virtwired() };
        Self::private(&program, &["sh", "-c", "while :; do \"$0\" \"$@\"; done"])
    }

    /// [`Daemon::private_virtwired`], or the real libvirtd, once a shell has done this in the same namespaces.
    ///
    /// # Panics
    /// If it can't be built or doesn't get ready.
    #[track_caller]
    pub fn prepared(real: bool, script: &str) -> Self {
        let program = if real { PathBuf::from("libvirtd") } else { virtwired() };
        Self::private(&program, &["sh", "-ec", &format!("{script}\nexec \"$0\" \"$@\"")])
    }

    /// The real libvirtd, then virtwired, and so on, on the same state: each comes when the other has ended.
    ///
    /// # Panics
    /// If one can't be built or doesn't get ready.
    #[track_caller]
    pub fn in_turn() -> Self {
        Self::private(&virtwired(), &["sh", "-c", "while :; do libvirtd \"$@\"; \"$0\" \"$@\"; done"])
    }

    #[track_caller]
    fn private(program: &Path, before: &[&str]) -> Self {
        Self::private_in(Folder::new(), before, program, &[])
    }

    #[track_caller]
    fn private_in(folder: Folder, before: &[&str], program: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("bash");
        command.arg(repo::file("private-daemon.sh")).arg(&*folder).args(before).arg(program);
        // The usual place of this file is outside what the daemon has of its own.
        command.args(["--pid-file", "/run/libvirt/daemon.pid"]).args(options);
        let sockets = folder.join("run");
        Self::start(folder, sockets, &mut command)
    }

    #[track_caller]
    fn start(folder: Folder, sockets: PathBuf, command: &mut Command) -> Self {
        // Both daemons tell systemd that they are ready; here that is this test.
        let path = folder.join("notify");
        let notified = UnixDatagram::bind(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o777));
        let _ = notified.set_read_timeout(Some(Duration::from_millis(200)));
        let begin = Instant::now();
        let mut program = Program::start(command.env("NOTIFY_SOCKET", &path));
        folder.owns(program.pid());
        let mut message = [0; 256];
        let ready = loop {
            match notified.recv(&mut message) {
                Ok(count) if message[..count].starts_with(b"READY=1") => break true,
                _ if begin.elapsed() > PATIENCE || !program.is_running() => break false,
                _ => {}
            }
        };
        assert!(ready, "the daemon does not get ready; it printed:\n{}", program.printed());
        Self { program, folder, sockets, started: begin.elapsed() }
    }

    /// Its folder. For daemons in namespaces of their own, `run`, `lib`, `etc`, `log` and `cache` below it are theirs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The groups below which its guests' control groups are, one in each hierarchy.
    pub fn groups(&self) -> Vec<PathBuf> {
        self.folder.groups()
    }

    /// Its read-write socket; `libvirt-sock-ro` and `libvirt-admin-sock` are beside it.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join("libvirt-sock")
    }

    /// Another of its sockets.
    pub fn socket_named(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// The URI that reaches a hypervisor through this daemon: of `test:///default`, `test+unix:///default?socket=…`.
    ///
    /// # Panics
    /// If `uri` has no scheme.
    pub fn uri(&self, uri: &str) -> String {
        let (scheme, rest) = uri.split_once(':').expect("a URI has a scheme");
        format!("{scheme}+unix:{rest}?socket={}", self.socket().display())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        self.program.wait_for_end();
    }

    /// How long it took to get ready.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// The process id: of the daemon itself, or of what keeps its namespaces.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The daemon's resident memory in KiB, wherever below [`Daemon::pid`] it runs.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that [`Daemon::resident`] has ever been.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, row: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon_pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }

    /// The process id of the daemon itself.
    pub fn daemon_pid(&self) -> u32 {
        let mut pids = vec![self.pid()];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            next += 1;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if matches!(name.trim(), "libvirtd" | "virtwired") {
                return pid;
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        self.pid()
    }

    /// Runs one virsh command to its end.
    #[track_caller]
    pub fn virsh(&self, uri: &str, arguments: &[&str]) -> Finished {
        process::run(virsh(&self.uri(uri)).args(arguments))
    }

    /// Runs a virsh that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn virsh_ok(&self, uri: &str, arguments: &[&str]) -> String {
        let finished = self.virsh(uri, arguments);
        assert!(finished.status.success(), "virsh {arguments:?}: {}", finished.text);
        finished.text
    }

    /// A virsh that stays connected, so that the daemon's test hypervisor is the same for all clients meanwhile.
    #[track_caller]
    pub fn keep_open(&self, uri: &str) -> Program {
        let mut keeper = Program::start(&mut virsh(&self.uri(uri)));
        keeper.type_text("echo kept\n");
        keeper.wait_for("kept");
        keeper
    }
}

/// Stock virsh, in English and without its history.
pub fn virsh(uri: &str) -> Command {
    let mut command = Command::new("virsh");
    command.args(["-c", uri]).env("LC_ALL", "C").env("XDG_CACHE_HOME", std::env::temp_dir());
    command
}

/// The path of virtwired, built once as this program was.
///
/// # Panics
/// If it can't be built.
pub fn virtwired() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = repo::profile(&own);
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--package", "virtwired", "--bin", "virtwired"])
        .current_dir(repo::root());
    command.arg("--target-dir").arg(folder.parent().expect("it is in a target folder"));
    if !folder.ends_with("debug") {
        command.arg("--release");
    }
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder.join("virtwired")
}
