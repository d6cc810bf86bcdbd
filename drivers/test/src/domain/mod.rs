//! Guests: one file for each thing that can be asked of them.

pub(crate) mod agent;
pub(crate) mod checkpoint;
pub(crate) mod device;
pub(crate) mod guest;
pub(crate) mod info;
pub(crate) mod iothread;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod memory;
pub(crate) mod metadata;
mod moment_xml;
pub(crate) mod save;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod throttle;
pub(crate) mod tuning;
pub(crate) mod vcpu;
