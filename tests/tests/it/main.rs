//! Every test that needs more than one crate, in one binary.

mod clients;
mod compatibility;
mod conformance;
mod differential;
mod events;
mod faults;
mod layering;
mod one_call;
mod qemu;
mod replay;
mod style;
