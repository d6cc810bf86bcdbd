//! The daemon: listens, takes calls in, asks drivers, writes replies, events and streams.
//!
//! The path of a call: [`session`] cuts a frame out of its buffer, finds the procedure in a table that is generated
//! from the definition files ([`dispatch`]), checks who asks, decodes, and polls the driver's method once where it
//! is. If that is ready the reply is written by the same task; only a call that really waits gets a task of its own.

pub mod access;
mod admin;
mod audit;
pub mod auth;
mod clients;
pub mod config;
mod dispatch;
pub mod drivers;
mod embedded;
mod events;
mod family;
mod forward;
mod glob;
mod lifetime;
mod listener;
pub mod log;
pub mod manual;
mod metrics;
pub mod notify;
mod procedures;
mod reach;
mod reached;
pub mod sandbox;
mod serve;
mod session;
mod streams;
mod trace;
mod transport;
mod users;

pub use config::{Access, Config, Limits, Program};
pub use embedded::embed;
pub use listener::{Daemon, Service};
pub use transport::subject;
