//! Decides for any libvirt daemon or client whether it speaks the protocol.
//!
//! A [`Case`] has a stable id, one line of what it proves, and the rule's source. Most cases are generated from the
//! procedure tables ([`generated`]); suites by hand ([`behaviour`]) add what a table cannot say. Cases speak raw frames
//! over a socket of their own, so that nothing but the peer is judged.

pub mod arguments;
pub mod behaviour;
pub mod case;
pub mod client;
pub mod generated;
pub mod peer;
pub mod report;

pub use case::{Case, Outcome, Target};

/// Every case of the daemon suite, sorted by id.
pub fn daemon_cases() -> Vec<Case> {
    let mut cases = generated::cases();
    cases.extend(behaviour::cases());
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}
