//! The daemon as its peers see it: frames in, frames out, over a socket pair.

mod access;
mod administration;
mod audit;
mod calls;
mod edges;
mod events;
mod floors;
mod forward;
#[cfg(feature = "gssapi")]
mod gssapi;
mod guest_to_host;
mod guests;
mod host;
mod hostile;
mod limits;
mod matrix;
mod metrics;
mod network;
mod packaging;
mod passwords;
mod peer;
mod polkit;
mod polkit_objects;
mod privilege;
mod real;
mod reload;
mod sasl;
mod service_manager;
mod streams;
mod threat_model;
mod toy;
