//! One view of a conversation between any libvirt client and any libvirt daemon.
//!
//! [`relay`] stands between the two, passes every frame and descriptor on, and reports what it saw. [`decode`] turns a
//! frame into names and values by the generated tables; secrets never get that far ([`secrets`]). [`story`] puts calls,
//! replies, streams and events together; [`view`] shows them as a tree, as JSON lines and as a page.

pub mod decode;
pub mod relay;
pub mod secrets;
pub mod story;
pub mod view;

pub use decode::{Decoded, Kind};
pub use relay::{Observed, Relay, Side};
pub use story::{Entry, Story};
