//! The harness of Virtwire's tests: daemons on private sockets, real libvirt programs as peers, a guest of a few
//! hundred bytes, golden files. The cases are in `tests/it`.

pub mod bare;
pub mod bench;
pub mod clients;
pub mod compare;
pub mod daemon;
pub mod diff;
pub mod floors;
pub mod folder;
pub mod golden;
pub mod guest;
pub mod noise;
pub mod own;
pub mod peers;
pub mod process;
pub mod replay;
pub mod repo;
pub mod report;
