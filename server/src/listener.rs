//! Sockets: from their creation to the end of their last connection.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use virtwire_driver_api::Driver;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::config::{Access, Config, Limits, Program};
use crate::session::Session;

/// Drivers and clients of a running daemon. Connections can be handed to it; sockets are [`Daemon`]'s.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What all connections of a daemon share.
pub(crate) struct Shared {
    drivers: Vec<Arc<dyn Driver>>,
    limits: Limits,
    sessions: Mutex<Vec<Weak<Session>>>,
    next_id: AtomicU64,
    permits: Arc<Semaphore>,
    /// Told whenever a connection has ended.
    ended: Notify,
}

impl Service {
    /// A daemon without sockets. The first driver that has a default URI serves clients that name none.
    pub fn new(drivers: Vec<Arc<dyn Driver>>, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.clients));
        let shared = Shared {
            drivers,
            limits,
            sessions: Mutex::default(),
            next_id: AtomicU64::new(1),
            permits,
            ended: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, socket: UnixStream, program: Program, access: Access) {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(Arc::clone(&self.shared), socket, id, program, access);
        self.shared.sessions().push(Arc::downgrade(&session));
        Arc::clone(&session).run().await;
        drop(session);
        self.shared.sessions().retain(|session| session.strong_count() > 0);
        self.shared.ended.notify_waiters();
    }

    /// Accepts connections for ever. A permit is taken before each, so that clients over the limit wait in the
    /// kernel's queue.
    pub async fn listen(&self, listener: UnixListener, program: Program, access: Access) {
        loop {
            let Ok(permit) = Arc::clone(&self.shared.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let service = self.clone();
                    tokio::spawn(async move {
                        service.serve(socket, program, access).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: go on when a connection has ended.
                    tracing::warn!(%error, "cannot accept a connection");
                    drop(permit);
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, self.shared.ended.notified()).await;
                }
            }
        }
    }

    /// Ends all connections once what is on its way to them has been sent.
    pub async fn close(&self) {
        for session in self.shared.all() {
            session.close();
        }
        let all_gone = async {
            loop {
                let ended = self.shared.ended.notified();
                if self.shared.all().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, all_gone).await;
    }
}

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// How long a daemon that ends waits for clients to take what is on its way.
const CLOSE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

impl Shared {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.sessions().iter().filter_map(Weak::upgrade).collect()
    }

    /// The connections of a program.
    pub(crate) fn clients(&self, program: Program) -> Vec<Arc<Session>> {
        self.all().into_iter().filter(|session| session.program() == program).collect()
    }

    /// The driver of a URI; of its own default URI where the client names none.
    pub(crate) fn driver(&self, uri: &str) -> Result<(Arc<dyn Driver>, String), VirtError> {
        if uri.is_empty() {
            let default =
                self.drivers.iter().find_map(|driver| Some((Arc::clone(driver), driver.default_uri()?)));
            return default.ok_or_else(|| ErrorDomain::NONE.no_connect("(null)"));
        }
        let scheme = uri.split(':').next().unwrap_or_default();
        let driver = self.drivers.iter().find(|driver| driver.name() == scheme);
        let driver = driver.ok_or_else(|| ErrorDomain::NONE.no_connect(uri))?;
        Ok((Arc::clone(driver), uri.to_owned()))
    }
}

/// A daemon with its sockets.
pub struct Daemon {
    service: Service,
    listeners: Vec<(UnixListener, Program, Access)>,
    sockets: Vec<PathBuf>,
}

impl Daemon {
    /// Creates the sockets. A socket that an earlier daemon left behind is replaced; one that answers is not.
    pub fn bind(config: &Config, drivers: Vec<Arc<dyn Driver>>) -> io::Result<Self> {
        let mut daemon = Self {
            service: Service::new(drivers, config.limits.clone()),
            listeners: Vec::new(),
            sockets: Vec::new(),
        };
        let read_write = (Some(&config.socket), Program::Remote, Access::ReadWrite, 0o700);
        let read_only = (config.socket_ro.as_ref(), Program::Remote, Access::ReadOnly, 0o777);
        let admin = (config.socket_admin.as_ref(), Program::Admin, Access::ReadWrite, 0o700);
        for (path, program, access, mode) in [read_write, read_only, admin] {
            let Some(path) = path else { continue };
            let listener = bind(path, mode, config.limits.queued_clients)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            daemon.listeners.push((listener, program, access));
            daemon.sockets.push(path.clone());
        }
        Ok(daemon)
    }

    /// What serves the connections.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until `stop` is ready, then lets connections end and removes the sockets.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (listener, program, access) in self.listeners.drain(..) {
            let service = self.service.clone();
            tasks.spawn(async move { service.listen(listener, program, access).await });
        }
        stop.await;
        tasks.shutdown().await;
        self.service.close().await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for path in &self.sockets {
            let _ = fs::remove_file(path);
        }
    }
}

fn bind(path: &Path, mode: u32, backlog: u32) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        fs::remove_file(path)?;
    }
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
    // Nobody can connect before `listen`, so the mode is never wider than meant.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, backlog.try_into().unwrap_or(i32::MAX))?;
    UnixListener::from_std(socket.into())
}
