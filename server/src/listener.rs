//! Sockets: from their creation to the end of their last connection.

mod bind;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use virtwire_driver_api::Driver;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::access::Policy;
use crate::clients::Clients;
use crate::config::{Access, Auth, Config, Limits, Program};
use crate::lifetime::Lifetime;
use crate::log::Log;
use crate::session::Session;
use bind::Handed;

/// Drivers and clients of a running daemon. Connections can be handed to it; sockets are [`Daemon`]'s.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What all connections of a daemon share.
pub(crate) struct Shared {
    drivers: Vec<Arc<dyn Driver>>,
    remote: Arc<Clients>,
    admin: Arc<Clients>,
    pub(crate) workers: [crate::admin::Workers; 2],
    pub(crate) policy: Policy,
    pub(crate) log: Log,
    pub(crate) lifetime: Lifetime,
}

/// What is known of a connection from where it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance {
    pub(crate) program: Program,
    pub(crate) access: Access,
    pub(crate) auth: Auth,
}

impl Service {
    /// A daemon without sockets. The first driver that has a default URI serves clients that name none.
    pub fn new(drivers: Vec<Arc<dyn Driver>>, limits: Limits) -> Self {
        Self::with(drivers, &Config { limits, ..Config::default() }, Log::new(None))
    }

    /// A daemon without sockets, with limits and settings of its own.
    pub fn with(drivers: Vec<Arc<dyn Driver>>, config: &Config, log: Log) -> Self {
        let shared = Shared {
            drivers,
            remote: Clients::new(config.limits.clone()),
            admin: Clients::new(config.admin_limits.clone()),
            workers: crate::admin::Workers::of(&config.settings),
            policy: config.policy.clone(),
            log,
            lifetime: Lifetime::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, socket: UnixStream, program: Program, access: Access) {
        self.admit(socket, Entrance { program, access, auth: Auth::None }).await;
    }

    async fn admit(&self, socket: UnixStream, entrance: Entrance) {
        let clients = Arc::clone(self.shared.clients(entrance.program));
        let session = clients.enter(|id| Session::new(Arc::clone(&self.shared), socket, id, entrance));
        let id = session.id;
        session.run().await;
        clients.leave(id);
    }

    /// Accepts connections for ever. Clients over the limit wait in the kernel's queue.
    async fn listen(&self, listener: UnixListener, entrance: Entrance) {
        let clients = self.shared.clients(entrance.program);
        let reserve = match entrance.access {
            Access::ReadWrite => 0,
            Access::ReadOnly => reserve(clients.maxima().0),
        };
        loop {
            clients.room(reserve).await;
            match listener.accept().await {
                Ok((socket, _)) => {
                    // Other sockets of the server may have filled it meanwhile.
                    clients.room(reserve).await;
                    let service = self.clone();
                    tokio::spawn(async move { service.admit(socket, entrance).await });
                    // The client is counted once its task has begun.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Out of descriptors, most likely: go on when a connection has ended.
                    tracing::warn!(%error, "cannot accept a connection");
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, clients.change()).await;
                }
            }
        }
    }

    /// Ends all connections once what is on its way to them has been sent.
    pub async fn close(&self) {
        let servers = [&self.shared.remote, &self.shared.admin];
        for session in servers.iter().flat_map(|clients| clients.all()) {
            session.close();
        }
        let all_gone = async {
            for clients in servers {
                clients.gone().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, all_gone).await;
    }

    /// Ready when the daemon may end: it was told to, or has been idle for as long as it is to wait.
    pub async fn ended(&self) {
        let idle = || {
            let clients = self.shared.remote.counts().0 + self.shared.admin.counts().0;
            clients == 0 && !self.shared.drivers.iter().any(|driver| driver.is_busy())
        };
        self.shared.lifetime.ended(idle).await;
    }

    /// Ends the daemon when nobody has used it for so long; `None` never does.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.shared.lifetime.set_timeout(timeout);
    }
}

/// Clients that wait for nobody else's leave: of all places, those that only local read-write clients may take.
fn reserve(max: usize) -> usize {
    (max / 10).min(20)
}

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an administrator who has ended the daemon may stay.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a daemon that ends waits for clients to take what is on its way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

impl Shared {
    /// The server of a program.
    pub(crate) fn clients(&self, program: Program) -> &Arc<Clients> {
        match program {
            Program::Remote => &self.remote,
            Program::Admin => &self.admin,
        }
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
    listeners: Vec<(UnixListener, Entrance)>,
    sockets: Vec<PathBuf>,
}

impl Daemon {
    /// Creates the sockets, or takes those that the service manager has created. A socket that an earlier daemon
    /// left behind is replaced; one that answers is not.
    pub fn bind(config: &Config, drivers: Vec<Arc<dyn Driver>>, log: Log) -> io::Result<Self> {
        let mut daemon =
            Self { service: Service::with(drivers, config, log), listeners: Vec::new(), sockets: Vec::new() };
        let settings = &config.settings;
        let group = settings.unix_sock_group.as_deref().map(bind::group).transpose()?;
        // Nothing but the mode stands before a socket without authentication.
        let open = if settings.auth_unix_rw == Auth::None { 0o700 } else { 0o777 };
        let mode = settings.unix_sock_rw_perms.map_or(open, |mode| mode.0);
        let admin_mode = settings.unix_sock_admin_perms.0;
        let mut handed = Handed::take();
        let (remote, admin) = (Program::Remote, Program::Admin);
        for (path, ending, entrance, mode) in [
            (
                Some(&config.socket),
                "",
                Entrance { program: remote, access: Access::ReadWrite, auth: settings.auth_unix_rw },
                mode,
            ),
            (
                config.socket_ro.as_ref(),
                "-ro",
                Entrance { program: remote, access: Access::ReadOnly, auth: settings.auth_unix_ro },
                settings.unix_sock_ro_perms.0,
            ),
            (
                config.socket_admin.as_ref(),
                "-admin",
                Entrance { program: admin, access: Access::ReadWrite, auth: Auth::None },
                admin_mode,
            ),
        ] {
            let Some(path) = path else { continue };
            if let Some(listener) = handed.unix(ending, path)? {
                daemon.listeners.push((listener, entrance));
                continue;
            }
            // A service manager that hands over some sockets means the others not to be.
            if handed.any() {
                continue;
            }
            let backlog = daemon.service.shared.clients(entrance.program).limits().queued_clients;
            let listener = bind::unix(path, mode, group, backlog)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            daemon.listeners.push((listener, entrance));
            daemon.sockets.push(path.clone());
        }
        Ok(daemon)
    }

    /// What serves the connections.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until `stop` is ready or the daemon ends by itself, then lets connections end and removes the sockets.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (listener, entrance) in self.listeners.drain(..) {
            let service = self.service.clone();
            tasks.spawn(async move { service.listen(listener, entrance).await });
        }
        tokio::select! {
            () = stop => {}
            () = self.service.ended() => {
                // Whoever ended it is to have the answer first.
                let _ = tokio::time::timeout(GOODBYE, self.service.shared.admin.gone()).await;
            }
        }
        tasks.shutdown().await;
        self.service.close().await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for path in &self.sockets {
            let _ = std::fs::remove_file(path);
        }
    }
}
