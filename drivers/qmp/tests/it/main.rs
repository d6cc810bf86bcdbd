//! The monitor against scripted peers and against the installed QEMU.

mod agent;
mod installed;
mod scripted;
