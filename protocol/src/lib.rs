//! The libvirt wire: types, codecs, frames, errors. No sockets, no clock, no drivers.
//!
//! The modules [`remote`], [`qemu`], [`lxc`], [`admin`], [`keepalive`], [`lock`], [`log`] and [`net`] are generated
//! from the definition files in `protocol/x`. `virtwire-codegen show DOMAIN_SUSPEND` prints all that is generated
//! for one procedure.

pub mod calls;
pub mod codec;
pub mod config_file;
pub mod error;
pub mod events;
pub mod frame;
pub mod keepalive_timer;
pub mod procedures;
#[cfg(feature = "samples")]
pub mod sample;
pub mod schema;
pub mod streams;
pub mod typed_params;

pub use codec::{XdrStr, XdrString};
pub use error::{ErrorCode, ErrorDomain, ErrorLevel, VirtError};

macro_rules! generated {
    ($($(#[$doc:meta])* $module:ident $file:literal;)*) => {
        $($(#[$doc])*
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $file));
        })*
    };
}

generated! {
    /// The frame's header, the error struct and the limits of a message.
    net "net.rs";
    /// The main program: hypervisor, networks, storage and the rest.
    remote "remote.rs";
    /// What only QEMU has: its monitor and its guest agent.
    qemu "qemu.rs";
    /// What only LXC has.
    lxc "lxc.rs";
    /// The administration of the daemon itself.
    admin "admin.rs";
    /// Ping and pong.
    keepalive "keepalive.rs";
    /// The lock daemon.
    lock "lock.rs";
    /// The log daemon.
    log "log.rs";
}

/// The programs that libvirtd serves on its main sockets.
pub static PROGRAMS: [&procedures::Program; 4] =
    [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &keepalive::PROGRAM];
