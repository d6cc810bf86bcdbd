//! A client of QEMU's monitor protocol, and a scripted peer for tests.
