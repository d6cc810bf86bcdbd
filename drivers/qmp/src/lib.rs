//! A client of QEMU's monitor protocol (QMP), one of the guest agent's, and a scripted peer for tests.
//!
//! A [`Monitor`] speaks over one connected unix socket: commands are values of the types in [`commands`], many may be
//! under way at once, replies are routed by id, and events arrive on a channel in the order QEMU sent them.
//!
//! ```no_run
//! use virtwire_qmp::{Monitor, commands::QueryStatus};
//!
//! # async fn show() -> Result<(), virtwire_qmp::QmpError> {
//! let stream = tokio::net::UnixStream::connect("monitor.sock").await?;
//! let (monitor, mut events) = Monitor::connect(stream).await?;
//! println!("{:?}", monitor.execute(&QueryStatus {}).await?.status);
//! while let Some(event) = events.recv().await {
//!     println!("{} {:?}", event.name, event.kind());
//! }
//! # Ok(())
//! # }
//! ```

pub mod agent;
pub mod commands;
mod error;
pub mod events;
mod lines;
mod message;
mod monitor;
mod outgoing;
pub mod replies;
#[cfg(feature = "scripted")]
pub mod scripted;
mod watch;

pub use error::{CommandError, ErrorClass, ProtocolError, QmpError};
pub use events::{Event, EventKind};
pub use lines::LINE_MAX;
pub use message::Greeting;
pub use monitor::{ANSWER_LIMIT, EVENTS_MAX, Monitor};

/// A command of the monitor: its arguments are the value itself.
pub trait Command: serde::Serialize {
    /// The name on the wire, as in `query-status`.
    const NAME: &'static str;
    /// What a successful reply carries.
    type Return: serde::de::DeserializeOwned;
}
