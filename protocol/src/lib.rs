//! The libvirt wire: types, codecs, frames, errors. No sockets, no clock, no drivers.

pub mod error;

pub use error::{ErrorCode, ErrorDomain, ErrorLevel, VirtError};
