//! Runs real guests under QEMU.
