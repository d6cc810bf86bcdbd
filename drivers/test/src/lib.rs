//! The in-memory hypervisor behind `test:///default`.
//!
//! Everything is imaginary and lives in one [`Host`](host::Host) behind one lock: no call waits, none touches the machine
//! except for the files that a caller names. What it shows and answers is what libvirt's own test driver shows and
//! answers, so that a program can be tried against either.
//!
//! A family's table, such as `hypervisor.rs`, says which function serves which procedure. A function takes the host and
//! the procedure's arguments; events that it notes are raised before the lock is released.

mod clock;
mod connect;
mod defaults;
mod domain;
mod driver;
mod error;
mod host;
mod hypervisor;
mod interface;
mod network;
mod node;
mod node_file;
mod nodedev;
mod registry;
mod screenshot;
mod storage;

#[cfg(test)]
mod tests;

pub use driver::{TestConnection, TestDriver};
