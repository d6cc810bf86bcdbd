//! An async libvirt client in pure Rust, every procedure typed.
