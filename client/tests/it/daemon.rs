//! virtwired with the test hypervisor, in this process, on sockets of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use virtwire_driver_api::Driver;
use virtwire_driver_test::TestDriver;
use virtwired::Config;
use virtwired::config::{Auth, Settings};
use virtwired::log::Log;

/// A running daemon. Dropping it ends it and removes its directory.
pub(crate) struct Daemon {
    pub(crate) dir: PathBuf,
    /// Ports of TCP and of TLS, where they are listened to.
    pub(crate) ports: Vec<u16>,
    task: tokio::task::JoinHandle<()>,
}

/// A directory of one test.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("virtwire-client-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Daemon {
    /// Listens on its unix sockets.
    pub(crate) fn start() -> Self {
        let dir = directory();
        Self::run(&Config::in_dir(dir.clone()), dir)
    }

    /// Listens on its unix sockets, with other settings.
    pub(crate) fn with(settings: Settings) -> Self {
        let dir = directory();
        Self::run(&Config::in_dir(dir.clone()).with(settings).unwrap(), dir)
    }

    /// Listens on TCP as well, and on TLS with certificates of the directory `pki`.
    pub(crate) fn networked(pki: &Path, server: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let path = |file: String| pki.join(file).display().to_string();
        let mut settings = Settings {
            listen_tcp: true,
            auth_tcp: Auth::None,
            listen_addr: Some("127.0.0.1".into()),
            tcp_port: "0".into(),
            tls_port: "0".into(),
            key_file: path(format!("{server}.key")),
            cert_file: path(format!("{server}.pem")),
            ca_file: path("ca.pem".into()),
            // A test wants to see bad certificates shown.
            tls_no_sanity_certificate: true,
            ..Settings::default()
        };
        change(&mut settings);
        let dir = directory();
        let config = Config { listen: true, ..Config::in_dir(dir.clone()) }.with(settings).unwrap();
        Self::run(&config, dir)
    }

    /// With all drivers; their files are below its directory.
    pub(crate) async fn complete() -> Self {
        let dir = directory();
        let config = Config::in_dir(dir.clone());
        let limit = Duration::from_secs(config.settings.qemu_answer_limit.into());
        let drivers =
            virtwired::drivers::all(Some(&dir.join("root")), limit, Default::default()).await.unwrap();
        Self::serve(&config, dir, drivers)
    }

    fn run(config: &Config, dir: PathBuf) -> Self {
        Self::serve(config, dir, vec![Arc::new(TestDriver::new())])
    }

    fn serve(config: &Config, dir: PathBuf, drivers: Vec<Arc<dyn Driver>>) -> Self {
        let daemon = virtwired::Daemon::bind(config, drivers, Log::new(None)).unwrap();
        let ports = daemon.addresses().iter().map(std::net::SocketAddr::port).collect();
        Self { dir, ports, task: tokio::spawn(daemon.run(std::future::pending())) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("libvirt-sock")
    }

    pub(crate) fn uri(&self) -> String {
        format!("test+unix:///default?socket={}", self.socket().display())
    }

    /// Ends it as a crash would: at once, with its connections.
    pub(crate) async fn end(mut self) -> PathBuf {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.dir.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
