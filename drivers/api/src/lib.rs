//! What a driver implements, and what it is given: one generated trait per family, the context of a call, the events
//! it raises and the streams it feeds.
//!
//! A driver implements [`Driver`]: it says which URIs are its own and opens connections to them. A [`Connection`]
//! holds one implementation per family; a family that is missing, and a method that is left out, answers
//! `VIR_ERR_NO_SUPPORT`. Drivers do not know each other: what one needs of another it is handed as a trait object.

mod audit;
mod events;
mod far;
mod filter;
pub mod params;
mod serve;
mod stream;
mod uri;

use std::io;
use std::sync::Arc;

pub use async_trait::async_trait;
pub use audit::{Amount, AuditFact, AuditRecord, Resource};
pub use events::{Event, EventHub, EventSink};
pub use far::{Far, Reach, Tunnel};
pub use filter::{NODE_DEVICE_FLAGS, POOL_FLAGS, POOL_KINDS, node_device_passes, passes, pool_kind_passes};
pub use serve::{Answer, check_flags};
pub use stream::{FromClient, SessionEnd, StreamEnd, ToClient, stream};
pub use uri::uri_path;
use virtwire_protocol::error::{ErrorDomain, VirtError};
#[doc(hidden)]
pub use virtwire_protocol::{lxc, qemu, remote};

include!(concat!(env!("OUT_DIR"), "/drivers.rs"));

/// Who calls, and how.
#[derive(Clone, Debug, Default)]
pub struct CallCx {
    /// Whether the connection may only look.
    pub read_only: bool,
    /// The process at the other end of a unix socket.
    pub peer: Option<Peer>,
    /// The connection the call came in on, unique for the daemon's life: autodestroy, held consoles and the like
    /// belong to it.
    pub client: u64,
    /// A driver of this daemon asks another, for itself.
    pub internal: bool,
}

/// The process at the other end of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// A kind of hypervisor, known by its URIs.
#[async_trait]
pub trait Driver: Send + Sync {
    /// The scheme of its URIs: `test`, `qemu`.
    fn name(&self) -> &'static str;

    /// Opens a connection. The URI has no transport and no client-side parameters; its scheme is
    /// [`name`](Self::name).
    async fn open(&self, cx: &CallCx, uri: &str) -> Result<Connection, VirtError>;

    /// The URI to open where a client names none, if this driver can serve one.
    fn default_uri(&self) -> Option<String> {
        None
    }

    /// Whether guests of this driver run: a daemon with a time-out stays while they do.
    fn is_busy(&self) -> bool {
        false
    }

    /// Reads what is stored once more: what is new is known from then on, what has changed is as it is there, from the
    /// next start on where it runs, and what is gone there stays known. What cannot be read is said in the log.
    async fn reload(&self) {}
}

/// What a driver keeps in files, where an administrator may have changed it.
#[async_trait]
pub trait Kept: Send + Sync {
    /// Reads it once more, as [`Driver::reload`] says.
    ///
    /// # Errors
    /// The directory cannot be read.
    async fn reload(&self) -> io::Result<()>;
}

/// An open connection to a driver: one implementation per family that it has.
#[derive(Clone)]
pub struct Connection {
    /// The URI it answers to.
    pub uri: String,
    /// Domains and the host.
    pub hypervisor: Arc<dyn HypervisorDriver>,
    /// Virtual networks.
    pub network: Option<Arc<dyn NetworkDriver>>,
    /// Storage pools and volumes.
    pub storage: Option<Arc<dyn StorageDriver>>,
    /// Host network interfaces.
    pub interface: Option<Arc<dyn InterfaceDriver>>,
    /// Host devices.
    pub node_device: Option<Arc<dyn NodeDeviceDriver>>,
    /// Secrets.
    pub secret: Option<Arc<dyn SecretDriver>>,
    /// Network filters.
    pub nwfilter: Option<Arc<dyn NwfilterDriver>>,
    /// The events of all of them.
    pub events: Arc<EventHub>,
    /// Whether events of domains can be asked for.
    pub domain_events: bool,
    /// Whether events of QEMU's monitor can be asked for.
    pub monitor_events: bool,
    /// The features (`VIR_DRV_FEATURE_…` numbers) that the driver has, besides those of the daemon itself.
    pub features: &'static [i32],
    /// Tells the driver that the client has gone, when the last clone is dropped.
    pub guard: Option<Arc<dyn Send + Sync>>,
}

impl Connection {
    /// A connection with a hypervisor and nothing else.
    pub fn new(uri: impl Into<String>, hypervisor: Arc<dyn HypervisorDriver>, events: Arc<EventHub>) -> Self {
        Self {
            uri: uri.into(),
            hypervisor,
            network: None,
            storage: None,
            interface: None,
            node_device: None,
            secret: None,
            nwfilter: None,
            events,
            domain_events: true,
            monitor_events: false,
            features: &[],
            guard: None,
        }
    }
}
