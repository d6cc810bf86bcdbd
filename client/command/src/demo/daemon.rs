//! A daemon in a thread of its own, on a socket in a directory of its own.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use virtwire_driver_test::TestDriver;
use virtwired::Config;
use virtwired::log::{Log, Priority};

/// A daemon with the test hypervisor. Dropping it ends it and removes its directory.
pub(super) struct Daemon {
    dir: PathBuf,
    socket: PathBuf,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Daemon {
    /// Starts it; it accepts connections when this returns.
    pub(super) fn start() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("virtwire-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&dir)?;
        let config = Config { socket_ro: None, socket_admin: None, ..Config::in_dir(dir.clone()) };
        let mut this = Self { dir, socket: config.socket.clone(), running: None };
        // Client and daemon are on threads of their own, as two processes would be.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let daemon = {
            let _entered = runtime.enter();
            let log = Log::new(Some(Priority::Error));
            virtwired::Daemon::bind(&config, vec![Arc::new(TestDriver::new())], log)?
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let thread = thread::Builder::new().name("virtwired".into());
        this.running = Some((stop, thread.spawn(move || runtime.block_on(daemon.run(stopped)))?));
        Ok(this)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it, and waits until it has.
    pub(super) fn stop(self) {
        drop(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
