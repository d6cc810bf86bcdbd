//! Sockets: from their creation to the end of their last connection.

pub(crate) mod bind;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;
use virtwire_driver_api::Driver;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::access::Policy;
use crate::audit::{self, Audit};
use crate::auth::Sasl;
use crate::clients::Clients;
use crate::config::{Access, Auth, Config, Limits, Program, Settings};
use crate::lifetime::Lifetime;
use crate::log::Log;
use crate::metrics::{self, Metrics};
use crate::serve::Turns;
use crate::session::Session;
use crate::transport::{Acceptor, Socket, TcpSocket};
use bind::Handed;

/// Drivers and clients of a running daemon. Connections can be handed to it; sockets are [`Daemon`]'s.
#[derive(Clone)]
pub struct Service {
    pub(crate) shared: Arc<Shared>,
}

/// What all connections of a daemon share.
pub(crate) struct Shared {
    drivers: Vec<Arc<dyn Driver>>,
    remote: Arc<Clients>,
    admin: Arc<Clients>,
    pub(crate) workers: [crate::admin::Workers; 2],
    pub(crate) settings: Settings,
    pub(crate) tls: Option<Acceptor>,
    pub(crate) policy: Policy,
    /// Where the daemons are that clients are carried to.
    pub(crate) proxy: Option<PathBuf>,
    pub(crate) sasl: Sasl,
    /// Nothing is counted where nobody can ask.
    pub(crate) metrics: Option<Metrics>,
    pub(crate) log: Log,
    pub(crate) lifetime: Lifetime,
    /// Turns of calls with much to look at.
    pub(crate) large_calls: Turns,
    /// Whose turn it is to look for its client's next call: one connection's at a time.
    pub(crate) busy_poll: tokio::sync::Mutex<()>,
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
        let config = Config { limits, ..Config::default() };
        Self { shared: Arc::new(Shared::new(drivers, &config, None, Log::new(None))) }
    }

    /// A daemon without sockets, with limits and settings of its own.
    pub fn with(drivers: Vec<Arc<dyn Driver>>, config: &Config, log: Log) -> io::Result<Self> {
        let settings = &config.settings;
        let tls = (config.listen && settings.listen_tls).then(|| Acceptor::new(settings)).transpose()?;
        Ok(Self { shared: Arc::new(Shared::new(drivers, config, tls, log)) })
    }

    /// Serves one connection to its end, as one that has come in at a unix socket.
    pub async fn serve(&self, socket: UnixStream, program: Program, access: Access) {
        let auth = self.shared.settings.auth_unix(program, access);
        self.admit(Socket::Unix(socket), Entrance { program, access, auth }).await;
    }

    /// Takes over of these settings what can change while the daemon runs: how many clients there may be, the access
    /// rules, certificates; and has the drivers read again what they store. What cannot be used is said in the log, and
    /// what it stands for stays as it was.
    pub async fn reload(&self, settings: &Settings) {
        let Shared { drivers, remote, admin, policy, tls, .. } = &*self.shared;
        remote.set_maxima(settings.max_clients as usize, settings.max_anonymous_clients as usize);
        admin.set_maxima(settings.admin_max_clients as usize, 0);
        if let Err(error) = policy.reload() {
            tracing::error!("the access rules are not read again: {error}");
        }
        if let Some(Err(error)) = tls.as_ref().map(Acceptor::reload) {
            tracing::error!("the certificates are not read again: {error}");
        }
        for driver in drivers {
            driver.reload().await;
        }
    }

    async fn admit(&self, socket: Socket, entrance: Entrance) {
        let clients = Arc::clone(self.shared.clients(entrance.program));
        let session = clients.enter(|id| Session::new(Arc::clone(&self.shared), socket, id, entrance));
        let id = session.id;
        session.run().await;
        clients.leave(id);
    }

    /// Accepts connections for ever. Clients over the limit wait in the kernel's queue.
    async fn listen(&self, listener: Listener, entrance: Entrance) {
        let clients = self.shared.clients(entrance.program);
        let local = matches!(listener, Listener::Unix(_)) && entrance.access == Access::ReadWrite;
        let reserve = if local { 0 } else { reserve(clients.maxima().0) };
        // Handshakes under way, oldest first.
        let mut greeting = Greeting::default();
        loop {
            clients.room(reserve).await;
            match listener.accept().await {
                Ok(arrival) => {
                    // Other sockets of the server may have filled it meanwhile.
                    clients.room(reserve).await;
                    let service = self.clone();
                    let most = clients.maxima().1;
                    let secret = matches!(arrival, Arrival::Tls(_));
                    let task = tokio::spawn(async move { service.arrive(arrival, entrance).await });
                    if secret {
                        greeting.add(task.abort_handle(), most);
                    }
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

    async fn arrive(&self, arrival: Arrival, entrance: Entrance) {
        let socket = match arrival {
            Arrival::Plain(socket) => socket,
            Arrival::Tls(tcp) => {
                let Some(acceptor) = &self.shared.tls else { return };
                let address = tcp.peer_addr();
                let patience = self.shared.remote.limits().auth_timeout.unwrap_or(HANDSHAKE).min(HANDSHAKE);
                match tokio::time::timeout(patience, acceptor.accept(tcp)).await {
                    Ok(Ok(socket)) => Socket::Tls(Box::new(socket)),
                    Ok(Err(error)) => return tracing::warn!(?address, %error, "a TLS client is not let in"),
                    Err(_) => return tracing::warn!(?address, "a TLS client takes too long"),
                }
            }
        };
        // From here on the client is one of the server's, and goes by the server's limits.
        let service = self.clone();
        tokio::spawn(async move { service.admit(socket, entrance).await });
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

/// TLS handshakes that have begun. Where too many have, the oldest is given up.
#[derive(Default)]
struct Greeting(VecDeque<AbortHandle>);

impl Greeting {
    fn add(&mut self, task: AbortHandle, most: usize) {
        self.0.retain(|task| !task.is_finished());
        if most > 0
            && self.0.len() >= most
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(task);
    }
}

/// Where connections come in.
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener),
}

/// A connection that has come in.
enum Arrival {
    Plain(Socket),
    /// TLS has to be spoken first.
    Tls(TcpStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Arrival> {
        let tcp = match self {
            Self::Unix(listener) => return Ok(Arrival::Plain(Socket::Unix(listener.accept().await?.0))),
            Self::Tcp(listener) | Self::Tls(listener) => listener.accept().await?.0,
        };
        tcp.set_nodelay(true)?;
        Ok(if matches!(self, Self::Tls(_)) {
            Arrival::Tls(tcp)
        } else {
            Arrival::Plain(Socket::Tcp(TcpSocket::new(tcp)))
        })
    }
}

/// How long a client may take for the TLS handshake, if it is not to authenticate sooner.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an administrator who has ended the daemon may stay.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a daemon that ends waits for clients to take what is on its way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

impl Shared {
    fn new(drivers: Vec<Arc<dyn Driver>>, config: &Config, tls: Option<Acceptor>, log: Log) -> Self {
        Self {
            drivers,
            remote: Clients::new(config.limits.clone()),
            admin: Clients::new(config.admin_limits.clone()),
            workers: crate::admin::Workers::of(&config.settings),
            settings: config.settings.clone(),
            tls,
            policy: config.policy.clone(),
            proxy: config.proxy.clone(),
            sasl: Sasl::new(&config.settings),
            metrics: config.settings.metrics_address.as_ref().map(|_| Metrics::new()),
            log,
            lifetime: Lifetime::default(),
            large_calls: Turns::new(config.settings.max_large_calls as usize),
            busy_poll: tokio::sync::Mutex::default(),
        }
    }

    /// All drivers.
    pub(crate) fn drivers(&self) -> &[Arc<dyn Driver>] {
        &self.drivers
    }

    /// The server of a program.
    pub(crate) fn clients(&self, program: Program) -> &Arc<Clients> {
        match program {
            Program::Remote => &self.remote,
            Program::Admin => &self.admin,
        }
    }

    /// What the driver of a URI is called where clients and policies see it, as libvirt's are: `QEMU`.
    pub(crate) fn driver_name(&self, uri: &str) -> String {
        let scheme = uri.split(':').next().unwrap_or_default();
        let default = || {
            let driver = self.drivers.iter().find(|driver| driver.default_uri().is_some());
            driver.map_or("", |driver| driver.name())
        };
        if scheme.is_empty() { default() } else { scheme }.to_ascii_uppercase()
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
    listeners: Vec<(Listener, Entrance)>,
    metrics: Option<metrics::Listener>,
    audit: Option<Arc<Audit>>,
    sockets: Vec<PathBuf>,
}

impl Daemon {
    /// Creates the sockets, or takes those that the service manager has created. A socket that an earlier daemon
    /// left behind is replaced; one that answers is not.
    pub fn bind(config: &Config, drivers: Vec<Arc<dyn Driver>>, log: Log) -> io::Result<Self> {
        let mut daemon = Self {
            service: Service::with(drivers, config, log)?,
            audit: Audit::new(&config.settings)?.map(Arc::new),
            listeners: Vec::new(),
            metrics: config.settings.metrics_address.as_deref().map(metrics::Listener::bind).transpose()?,
            sockets: Vec::new(),
        };
        let settings = &config.settings;
        let group = settings.unix_sock_group.as_deref().map(bind::group).transpose()?;
        // Only polkit is meant to stand before a socket that all may open.
        let open = if settings.auth_unix_rw == Auth::Polkit { 0o777 } else { 0o700 };
        let mode = settings.unix_sock_rw_perms.map_or(open, |mode| mode.0);
        let admin_mode = settings.unix_sock_admin_perms.0;
        let mut handed = Handed::take();
        let (remote, admin) = (Program::Remote, Program::Admin);
        let ro_mode = settings.unix_sock_ro_perms.0;
        for (path, ending, program, access, mode) in [
            (Some(&config.socket), "", remote, Access::ReadWrite, mode),
            (config.socket_ro.as_ref(), "-ro", remote, Access::ReadOnly, ro_mode),
            (config.socket_admin.as_ref(), "-admin", admin, Access::ReadWrite, admin_mode),
        ] {
            let Some(path) = path else { continue };
            let entrance = Entrance { program, access, auth: settings.auth_unix(program, access) };
            if let Some(listener) = handed.unix(ending, path)? {
                daemon.listeners.push((Listener::Unix(listener), entrance));
                continue;
            }
            // A service manager that hands over some sockets means the others not to be.
            if handed.any() {
                continue;
            }
            let backlog = daemon.service.shared.clients(entrance.program).limits().queued_clients;
            let listener = bind::unix(path, mode, group, backlog)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            daemon.listeners.push((Listener::Unix(listener), entrance));
            daemon.sockets.push(path.clone());
        }
        if config.listen {
            daemon.listen_on_network(settings)?;
        }
        Ok(daemon)
    }

    fn listen_on_network(&mut self, settings: &Settings) -> io::Result<()> {
        let address = settings.listen_addr.as_deref();
        let entrance = |auth| Entrance { program: Program::Remote, access: Access::ReadWrite, auth };
        if settings.listen_tcp {
            let listener = bind::tcp(address, &settings.tcp_port, settings.max_queued_clients)?;
            self.listeners.push((Listener::Tcp(listener), entrance(settings.auth_tcp)));
        }
        if settings.listen_tls {
            let listener = bind::tcp(address, &settings.tls_port, settings.max_queued_clients)?;
            self.listeners.push((Listener::Tls(listener), entrance(settings.auth_tls)));
        }
        Ok(())
    }

    /// The addresses of its network sockets.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let tcp = self.listeners.iter().filter_map(|(listener, _)| match listener {
            Listener::Unix(_) => None,
            Listener::Tcp(listener) | Listener::Tls(listener) => listener.local_addr().ok(),
        });
        tcp.collect()
    }

    /// The address at which metrics are asked for, where it is on the network.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics.as_ref()?.address()
    }

    /// What serves the connections.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until `stop` is ready or the daemon ends by itself, then lets connections end and removes the sockets.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut tasks = tokio::task::JoinSet::new();
        let _watches = match &self.audit {
            Some(audit) => audit::watch(audit, self.service.shared.drivers()).await,
            None => Vec::new(),
        };
        if let Some(metrics) = self.metrics.take() {
            tasks.spawn(metrics.run(Arc::clone(&self.service.shared)));
        }
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
