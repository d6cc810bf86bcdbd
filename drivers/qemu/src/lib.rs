//! Runs real guests under QEMU: `qemu:///system` and `qemu:///session`.
//!
//! A guest is a [`guest`] with its definitions; running, it has a [`process`] and a monitor. [`argv`] says how QEMU is
//! started, [`lifecycle`] starts and ends it and follows what it tells. The list of guests is never locked while
//! anything waits, so that a guest that hangs holds up nobody else.

mod absent;
mod actions;
mod adopt;
mod affect;
pub mod argv;
mod audit;
mod autodestroy;
mod autostart;
mod begin;
mod caps;
mod caps_cache;
mod chain;
mod checkpoint;
pub mod command;
mod console;
mod control;
mod cpu;
mod define;
mod devices;
pub mod dirs;
mod disks;
mod driver;
mod error;
mod fds;
mod firmware;
mod graphics;
mod guest;
mod heed;
pub mod host;
mod hypervisor;
mod info;
mod iothreads;
mod jobs;
mod kept;
mod lifecycle;
mod list;
mod live;
mod lock;
pub mod log;
mod machine;
mod memory;
mod metadata;
mod migrate;
mod modules;
mod monitor;
mod nodedev;
mod overlay;
mod passt;
mod pin;
pub mod plug;
mod power;
mod prepare;
pub mod probe;
pub mod process;
mod rename;
mod rotation;
mod save;
mod screen;
mod security;
mod snapshot;
mod state;
mod stats;
mod status;
mod strays;
mod throttle;
mod tune;
mod usb;
mod vcpus;
mod written;

pub use caps_cache::CapsCache;
pub use driver::{Companions, OpenCompanions, Place, Qemu, QemuDriver};
