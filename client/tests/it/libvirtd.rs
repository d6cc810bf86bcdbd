//! The real libvirtd, where it is installed and may be run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use virtwire_client::Connection;

use crate::daemon::directory;

/// libvirtd in namespaces of its own. It ends, with all its guests, when its standard input does.
pub(crate) struct Libvirtd {
    pub(crate) dir: PathBuf,
    process: Child,
}

/// How it is started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Lines of `libvirtd.conf`.
    pub(crate) conf: &'a str,
    /// Lines of `qemu.conf`.
    pub(crate) qemu: &'a str,
    /// The name of its host.
    pub(crate) hostname: Option<&'a str>,
    /// More arguments.
    pub(crate) arguments: &'a [&'a str],
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Libvirtd {
    /// `None`, with a word about it, where something that it needs is missing. `prepare` is given its directory.
    pub(crate) async fn start(setup: Setup<'_>, prepare: impl FnOnce(&Path)) -> Option<Self> {
        for program in ["libvirtd", "qemu-system-x86_64"] {
            if Command::new(program).arg("--version").output().is_err() {
                virtwire_skip::without_program(format_args!("no {program}"));
                return None;
            }
        }
        if !succeeds(Command::new("unshare").args(["--mount", "--net", "--pid", "--uts", "--fork", "true"])) {
            virtwire_skip::without_program("namespaces need root");
            return None;
        }
        let dir = directory();
        for below in ["etc", "run"] {
            std::fs::create_dir_all(dir.join(below)).unwrap();
        }
        std::fs::write(dir.join("etc/libvirtd.conf"), setup.conf).unwrap();
        let qemu = format!("stdio_handler = \"file\"\n{}", setup.qemu);
        std::fs::write(dir.join("etc/qemu.conf"), qemu).unwrap();
        prepare(&dir);

        let script = format!("{}/../tests/private-daemon.sh", env!("CARGO_MANIFEST_DIR"));
        let named = "[ -z \"$0\" ] || hostname \"$0\"; exec bash \"$@\"";
        let process = Command::new("unshare")
            .args(["--uts", "sh", "-c", named, setup.hostname.unwrap_or_default(), &script])
            .arg(&dir)
            .args(["libvirtd", "--pid-file", "/run/libvirt/daemon.pid"])
            .args(setup.arguments)
            .env("SASL_CONF_PATH", dir.join("sasl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { dir, process };
        this.ready().await;
        Some(this)
    }

    /// Waits until it lets somebody in.
    async fn ready(&self) {
        let began = std::time::Instant::now();
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let uri = format!("qemu+unix:///system?socket={}", self.socket("libvirt-sock-ro"));
        while Connection::open(&uri).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "libvirtd does not get ready");
            pause.tick().await;
        }
    }

    pub(crate) fn socket(&self, name: &str) -> String {
        self.dir.join("run").join(name).display().to_string()
    }

    /// Its read-write socket.
    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket("libvirt-sock"))
    }

    /// A command that runs where its network is, and its files.
    pub(crate) fn beside(&self, program: &Path) -> Command {
        let mut inside = Command::new("nsenter");
        // What made the namespaces is in these itself.
        inside.args(["--net", "--mount", "--target", &self.process.id().to_string()]).arg(program);
        inside
    }
}
