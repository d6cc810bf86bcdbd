//! The monitor against scripted peers and against the installed QEMU.

mod installed;
mod scripted;
