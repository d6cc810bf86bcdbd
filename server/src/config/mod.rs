//! What the daemon listens on, and what a connection may cost.

mod setting;
mod settings;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::{Policy, RuleError};

pub use setting::{Auth, Mode, Setting};
pub use settings::{KEYS, Key, Problem, Settings};
pub use virtwire_protocol::config_file::{Assignment, SyntaxError, Value, parse};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The hypervisor programs: remote, qemu, lxc.
    Remote,
    /// The daemon's own administration.
    Admin,
}

/// What clients of a socket may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Look only, whatever their open flags say.
    ReadOnly,
}

/// Sockets and limits. [`Config::default`] has libvirt's own values.
#[derive(Clone, Debug)]
pub struct Config {
    /// The read-write socket.
    pub socket: PathBuf,
    /// The read-only socket, if there is to be one.
    pub socket_ro: Option<PathBuf>,
    /// The administration socket, if there is to be one.
    pub socket_admin: Option<PathBuf>,
    /// What clients may cost.
    pub limits: Limits,
    /// What clients of the administration may cost.
    pub admin_limits: Limits,
    /// Modes and owners of sockets, and how clients authenticate.
    pub settings: Settings,
    /// Who decides on single calls.
    pub policy: Policy,
    /// Whether to listen on the network as well.
    pub listen: bool,
    /// For virtproxyd's role: the directory of the sockets of the daemons that clients are carried to.
    pub proxy: Option<PathBuf>,
}

/// The directory of libvirt's sockets for root.
const RUN: &str = "/run/libvirt";

impl Default for Config {
    fn default() -> Self {
        Self::in_dir(RUN.into())
    }
}

impl Config {
    /// All three sockets under libvirt's names in one directory.
    pub fn in_dir(dir: PathBuf) -> Self {
        Self {
            socket: dir.join("libvirt-sock"),
            socket_ro: Some(dir.join("libvirt-sock-ro")),
            socket_admin: Some(dir.join("libvirt-admin-sock")),
            limits: Limits::default(),
            admin_limits: Limits::admin(&Settings::default()),
            settings: Settings::default(),
            policy: Policy::default(),
            listen: false,
            proxy: None,
        }
    }

    /// This, with the limits, modes and rules that a file sets.
    pub fn with(self, settings: Settings) -> Result<Self, RuleError> {
        let policy = Policy::named(&settings.access_drivers, Path::new(&settings.access_rules_file))?;
        let (limits, admin_limits) = (Limits::from(&settings), Limits::admin(&settings));
        Ok(Self { policy, limits, admin_limits, settings, ..self })
    }

    /// Where a daemon of this user has its sockets: root's under `/run`, others' under `$XDG_RUNTIME_DIR`. A
    /// session daemon has no read-only socket.
    pub fn for_user(uid: u32, runtime_dir: Option<PathBuf>) -> Self {
        match runtime_dir {
            Some(dir) if uid != 0 => Self { socket_ro: None, ..Self::in_dir(dir.join("libvirt")) },
            _ => Self::default(),
        }
    }
}

/// What clients may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Clients at a time, over all sockets of a service (`max_clients`).
    pub clients: usize,
    /// Clients that have not authenticated (`max_anonymous_clients`); 0 is no limit.
    pub anonymous_clients: usize,
    /// What a client may take to authenticate (`auth_timeout`); `None` is for ever.
    pub auth_timeout: Option<Duration>,
    /// Connections that wait to be accepted (`max_queued_clients`).
    pub queued_clients: u32,
    /// Calls of one client that may wait at a time (`max_client_requests`); over it nothing more is read from it.
    pub client_requests: usize,
    /// Bytes of arguments of one call (`max_call_arguments`).
    pub call_arguments: usize,
    /// Bytes that may wait to be written to one client before nothing more is read from it (`max_client_backlog`).
    pub backlog: usize,
    /// Bytes of events that may pile up for one client before it is disconnected
    /// (`max_client_event_backlog`).
    pub event_backlog: usize,
    /// Bytes that streams of one client may hold on their way to drivers before nothing more is read from it
    /// (`max_client_stream_backlog`).
    pub stream_backlog: usize,
    /// The largest frame before the client is authenticated (`max_anonymous_message`).
    pub frame_before_auth: usize,
    /// Event registrations of one client (`max_client_registrations`).
    pub registrations: usize,
    /// How long the next call of a client is looked for before the daemon sleeps (`busy_poll`); never where there is but
    /// one processor.
    pub busy_poll: Duration,
    /// Silence after which a client that announced it can be pinged is pinged (`keepalive_interval`); `None` is
    /// never.
    pub keepalive_interval: Option<Duration>,
    /// Unanswered pings after which it is disconnected (`keepalive_count`).
    pub keepalive_count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            clients: settings.max_clients as usize,
            anonymous_clients: settings.max_anonymous_clients as usize,
            auth_timeout: seconds(settings.auth_timeout),
            queued_clients: settings.max_queued_clients,
            client_requests: settings.max_client_requests as usize,
            call_arguments: settings.max_call_arguments as usize,
            backlog: settings.max_client_backlog as usize,
            event_backlog: settings.max_client_event_backlog as usize,
            stream_backlog: settings.max_client_stream_backlog as usize,
            frame_before_auth: settings.max_anonymous_message as usize,
            registrations: settings.max_client_registrations as usize,
            busy_poll: if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
                Duration::from_micros(settings.busy_poll.into())
            } else {
                Duration::ZERO
            },
            keepalive_interval: interval(settings.keepalive_interval),
            keepalive_count: settings.keepalive_count,
        }
    }
}

impl Limits {
    /// Those of the administration's clients. They need no authentication.
    pub fn admin(settings: &Settings) -> Self {
        Self {
            clients: settings.admin_max_clients as usize,
            anonymous_clients: 0,
            queued_clients: settings.admin_max_queued_clients,
            client_requests: settings.admin_max_client_requests as usize,
            keepalive_interval: interval(settings.admin_keepalive_interval),
            keepalive_count: settings.admin_keepalive_count,
            ..Self::from(settings)
        }
    }
}

fn seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Nothing but a positive number of seconds makes the daemon ping.
fn interval(seconds: i32) -> Option<Duration> {
    u32::try_from(seconds).ok().and_then(self::seconds)
}

/// Why a configuration file is refused.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unreadable(io::Error),
    Syntax(SyntaxError),
    Value(Problem),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::Unreadable(error) => write!(f, "Failed to open file '{path}': {error}"),
            Reason::Syntax(error) => write!(f, "configuration file syntax error: {path}:{error}"),
            Reason::Value(problem) => write!(f, "{path}:{problem}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The settings of a file, and warnings with path and line.
pub fn read(path: &Path) -> Result<(Settings, Vec<String>), ConfigError> {
    let refuse = |reason| ConfigError { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(Reason::Unreadable(error)))?;
    let assignments = parse(&text).map_err(|error| refuse(Reason::Syntax(error)))?;
    let (settings, warnings) =
        Settings::from_assignments(&assignments).map_err(|problem| refuse(Reason::Value(problem)))?;
    Ok((settings, warnings.iter().map(|warning| format!("{}:{warning}", path.display())).collect()))
}
