//! Every test that needs more than one crate, in one binary.

mod agent;
mod clients;
mod compatibility;
mod conformance;
mod differential;
mod events;
mod faults;
mod figures;
mod filters;
mod layering;
mod memory;
mod migration;
mod one_call;
mod own_dev;
mod qemu;
mod replay;
mod scripted_qemu;
mod style;
mod switch;
mod takeover;
mod trace;
mod uris;
