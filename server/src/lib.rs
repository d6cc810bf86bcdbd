//! A wire-compatible drop-in for libvirtd.
