//! An async libvirt client in pure Rust, every procedure typed.
//!
//! ```no_run
//! use virtwire_client::{Connect, DomainListFlags};
//!
//! # async fn pause_all() -> Result<(), virtwire_client::Error> {
//! let connect = Connect::open("qemu:///system").await?;
//! for domain in connect.domains(DomainListFlags::ACTIVE).await? {
//!     domain.suspend().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! There are two layers. Objects — [`Connect`], [`Domain`], [`Network`], [`StoragePool`] and the rest — have the methods
//! of libvirt's own library. Below them is the [`Connection`], with a method for each of the protocol's procedures:
//!
//! ```no_run
//! use virtwire_client::Connection;
//! use virtwire_client::protocol::remote::{ConnectListAllDomainsArgs, DomainSuspendArgs};
//!
//! # async fn pause_all() -> Result<(), virtwire_client::Error> {
//! let connection = Connection::open("qemu:///system").await?;
//! let running = ConnectListAllDomainsArgs { need_results: 1, flags: 1 };
//! for dom in connection.connect_list_all_domains(&running).await?.domains {
//!     connection.domain_suspend(&DomainSuspendArgs { dom }).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whoever has no `async` puts [`.wait()`](blocking::Wait::wait) behind any call. The examples of this crate list guests,
//! watch events, follow a guest's life, download a volume and show a console.
//!
//! With `virtwired::embed` of the daemon's crate, `test:///default` is a hypervisor in this process: for trying things,
//! and for the tests of programs.
//!
//! A connection is a socket, a table of calls that wait, and one task that reads. A call is written at once by whoever
//! makes it; replies come in any order, and a call that is dropped gives its place up. Events go to bounded queues that
//! count what they lose; streams hold the daemon back when nobody takes their data.

mod auth;
pub mod blocking;
mod call;
mod close;
mod connection;
mod error;
mod events;
mod fallback;
mod link;
mod objects;
mod reader;
mod reconnect;
mod stream;
mod stream_io;
mod transport;
mod uri;

pub use auth::{AuthError, CredentialKind, CredentialRequest, Credentials};
pub use call::{Call, Reply};
pub use close::{CloseReason, HypervisorWatch};
pub use connection::{Connection, Options};
pub use error::{Error, ProtocolError};
pub use events::{Event, EventStream};
pub use objects::*;
pub use reconnect::{Backoff, Happening, Reconnecting, ReconnectingEvents};
pub use stream::{Chunk, Stream};
pub use stream_io::StreamIo;
pub use transport::{Embedded, HelperError, TlsError, embed};
pub use uri::{ClientConfig, HostKeys, Mode, Parameters, Proxy, Scope, Target, Transport, UriError};
/// The messages: arguments, results, events and errors.
pub use virtwire_protocol as protocol;
