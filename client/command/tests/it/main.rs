//! The command as users run it, against a daemon with the test hypervisor.

mod call;
mod daily;
mod demo;
mod migrate;
mod real;
mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use virtwire_driver_test::TestDriver;
use virtwired::Config;
use virtwired::log::Log;

/// A daemon in this process, in a directory of its own.
struct Daemon {
    dir: PathBuf,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Daemon {
    fn start(name: &str) -> Self {
        Self::with_log(name, Log::new(None))
    }

    /// One that tells what it does to who attaches to it: what is told goes the way of this process's log.
    fn traced(name: &str) -> Self {
        let log = Log::new(None);
        log.install();
        Self::with_log(name, log)
    }

    fn with_log(name: &str, log: Log) -> Self {
        let dir = std::env::temp_dir().join(format!("virtwire-command-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = Config::in_dir(dir.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let daemon = {
            let _entered = runtime.enter();
            virtwired::Daemon::bind(&config, vec![Arc::new(TestDriver::new())], log).unwrap()
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let thread = thread::spawn(move || runtime.block_on(daemon.run(stopped)));
        Self { dir, running: Some((stop, thread)) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("libvirt-sock")
    }

    fn uri(&self) -> String {
        uri(&self.socket())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn uri(socket: &Path) -> String {
    format!("test+unix:///default?socket={}", socket.display())
}

fn virtwire() -> Command {
    Command::new(env!("CARGO_BIN_EXE_virtwire"))
}

fn run(arguments: &[&str]) -> Output {
    virtwire().args(arguments).output().unwrap()
}

/// Standard output of a command that succeeds.
#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that fails.
#[track_caller]
fn fails(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}
