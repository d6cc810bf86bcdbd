//! A virtwired of its own, as an administrator would start it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A directory that goes, and processes that end, with the test.
pub(crate) struct Host {
    pub(crate) dir: PathBuf,
    pub(crate) children: Vec<Child>,
    told: Option<Told>,
}

/// What a daemon tells its service manager.
pub(crate) struct Told(UnixDatagram);

impl Told {
    /// The next word; waits for it.
    pub(crate) fn next(&self) -> String {
        let mut word = [0; 64];
        let count = self.0.recv(&mut word).unwrap();
        String::from_utf8_lossy(&word[..count]).into_owned()
    }
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("virtwired-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, children: Vec::new(), told: None }
    }

    /// Starts virtwired with these settings and variables, waits until it is ready, and returns its process id.
    pub(crate) fn virtwired(&mut self, settings: &str, variables: &[(&str, &str)]) -> u32 {
        self.start("libvirt", &[], settings, variables)
    }

    /// The same, with sockets of another name than `libvirt`, and with more options.
    pub(crate) fn start(
        &mut self,
        name: &str,
        options: &[&str],
        settings: &str,
        variables: &[(&str, &str)],
    ) -> u32 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtwired"));
        command.stdin(Stdio::null());
        self.launch(command, name, options, settings, variables)
    }

    /// The same by a command that becomes virtwired with the options that follow.
    pub(crate) fn launch(
        &mut self,
        mut command: Command,
        name: &str,
        options: &[&str],
        settings: &str,
        variables: &[(&str, &str)],
    ) -> u32 {
        let path = |ending: &str| self.dir.join(format!("{name}{ending}")).display().to_string();
        std::fs::write(path(".conf"), settings).unwrap();
        let told = Told(UnixDatagram::bind(path("-notify")).unwrap());
        let daemon = command
            .args(["--config", &path(".conf"), "--socket", &path("-sock"), "--socket-ro", &path("-sock-ro")])
            .args(["--socket-admin", &path("-admin-sock")])
            .arg("--root")
            .arg(self.dir.join("root"))
            .args(options)
            .env("NOTIFY_SOCKET", path("-notify"))
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        let pid = daemon.id();
        self.children.push(daemon);
        assert_eq!(told.next(), "READY=1");
        self.told = Some(told);
        pid
    }
}

impl Host {
    /// What the daemon that was started last tells from now on.
    pub(crate) fn told(&mut self) -> Told {
        self.told.take().expect("a daemon has been started")
    }

    /// The processes of its guests.
    pub(crate) fn guests(&self) -> Vec<Pid> {
        let root = self.dir.join("root").display().to_string();
        let entries = std::fs::read_dir("/proc").unwrap();
        let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_guest = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("qemu-system") && line.contains(&root)
        };
        processes.filter(is_guest).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Of a test that has failed.
        for guest in self.guests() {
            let _ = kill_process(guest, Signal::KILL);
        }
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn is_root() -> bool {
    uid() == 0
}

/// What a program says, or why it does not.
pub(crate) async fn run(mut program: Command) -> Result<String, String> {
    program.env("LC_ALL", "C").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
