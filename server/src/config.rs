//! What the daemon listens on, and what a connection may cost.

use std::path::PathBuf;
use std::time::Duration;

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
        }
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
    /// Connections that wait to be accepted (`max_queued_clients`).
    pub queued_clients: u32,
    /// Calls of one client that may wait at a time (`max_client_requests`); over it nothing more is read from it.
    pub client_requests: usize,
    /// Bytes that may wait to be written to one client before nothing more is read from it.
    pub backlog: usize,
    /// Bytes of events that may pile up for one client before it is disconnected.
    pub event_backlog: usize,
    /// Bytes that streams of one client may hold on their way to drivers before nothing more is read from it.
    pub stream_backlog: usize,
    /// The largest frame before the client is authenticated.
    pub frame_before_auth: usize,
    /// Event registrations of one client.
    pub registrations: usize,
    /// Silence after which a client that announced it can be pinged is pinged (`keepalive_interval`); `None` is
    /// never.
    pub keepalive_interval: Option<Duration>,
    /// Unanswered pings after which it is disconnected (`keepalive_count`).
    pub keepalive_count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 5000,
            queued_clients: 1000,
            client_requests: 5,
            backlog: 1 << 20,
            event_backlog: 16 << 20,
            stream_backlog: 1 << 20,
            frame_before_auth: 64 << 10,
            registrations: 1024,
            keepalive_interval: Some(Duration::from_secs(5)),
            keepalive_count: 5,
        }
    }
}
