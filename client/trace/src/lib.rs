//! One view of a conversation between any libvirt client and any libvirt daemon.
//!
//! [`relay`] stands between the two, passes every frame and descriptor on, and reports what it saw; virtwired itself
//! tells more, each step it takes for a call, to whoever attaches to it ([`wire`]). [`decode`] turns a frame into names
//! and values by the generated tables; secrets never get that far ([`secrets`]). Both ways lead to the same [`seen`]:
//! [`story`] puts calls, their steps, replies, streams and events together; [`view`] shows them as a tree, as JSON lines
//! and as a page.

pub mod decode;
pub mod relay;
pub mod secrets;
pub mod seen;
pub mod story;
pub mod view;
pub mod wire;

pub use decode::{Decoded, Kind};
pub use relay::{Observed, Relay};
pub use seen::{Client, Origin, Seen, Side, Step, What};
pub use story::{Entry, Story};
pub use wire::Attachment;

/// Whole microseconds.
pub fn micros(duration: std::time::Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}
