//! From a definition to QEMU's command line, in libvirt's order and spelling.
//!
//! One function per group of options, called in the order of the line. A device kind that is not here is refused by
//! name before anything is started.

mod chardev;
mod controllers;
mod device;
mod filesystem;
mod graphics;
mod hostdev;
mod input;
mod iothreads;
mod machine;
pub(crate) mod net;
mod peripherals;
pub(crate) mod storage;
mod tpm;
mod vault;
mod video;

use std::os::fd::OwnedFd;
use std::path::Path;

use virtwire_conf::Domain;
use virtwire_protocol::VirtError;

use crate::command::CommandLine;
use crate::error::QEMU;

pub(crate) use device::{Json as Device, Json, alias, is_q35};
pub use vault::Vault;

/// What the line needs to know besides the definition.
pub struct Context<'a> {
    /// The guest's directory: keys and sockets.
    pub dir: &'a Path,
    /// Where the monitor listens: a descriptor for a real start, else the path is shown.
    pub monitor: Option<OwnedFd>,
    /// Whether the guest's CPUs are the host's (`host` needs KVM).
    pub kvm: bool,
    /// What secrets are encrypted with, and their values.
    pub vault: Vault,
}

/// The whole command line.
///
/// # Errors
/// A device that this driver cannot give to QEMU.
pub fn build(domain: &Domain, mut context: Context<'_>) -> Result<CommandLine, VirtError> {
    unsupported(domain)?;
    let mut line = CommandLine::default();
    line.option("-name", format!("guest={},debug-threads=on", crate::command::escape(&domain.name)));
    line.flag("-S");
    machine::begin(&mut line, domain, &context);
    let monitor = context.monitor.take();
    machine::monitor(&mut line, context.dir, monitor);
    machine::clock_and_boot(&mut line, domain);
    controllers::globals(&mut line, domain);
    peripherals::iommu(&mut line, domain);
    controllers::controllers(&mut line, domain)?;
    input::hubs(&mut line, domain);
    controllers::smart_card_controllers(&mut line, domain);
    storage::disks(&mut line, domain, &context)?;
    filesystem::filesystems(&mut line, domain, &context);
    net::interfaces(&mut line, domain)?;
    input::smart_cards(&mut line, domain)?;
    chardev::serials(&mut line, domain)?;
    chardev::channels(&mut line, domain)?;
    tpm::tpms(&mut line, domain)?;
    input::inputs(&mut line, domain);
    graphics::graphics(&mut line, domain)?;
    video::videos(&mut line, domain)?;
    peripherals::watchdogs(&mut line, domain);
    input::redirected(&mut line, domain)?;
    hostdev::hostdevs(&mut line, domain, &context)?;
    peripherals::balloon(&mut line, domain);
    peripherals::rngs(&mut line, domain)?;
    line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    peripherals::panics(&mut line, domain);
    peripherals::shared_memory(&mut line, domain);
    peripherals::vsock(&mut line, domain);
    peripherals::cryptos(&mut line, domain);
    peripherals::pstore(&mut line, domain);
    line.option("-msg", "timestamp=on");
    if let Some(more) = &domain.qemu_commandline {
        for arg in &more.arg {
            line.word(&arg.value);
        }
    }
    Ok(line)
}

/// Refuses by name what would otherwise be left out in silence.
fn unsupported(domain: &Domain) -> Result<(), VirtError> {
    let devices = &domain.devices;
    let counts = [
        ("parallel", devices.parallels.len()),
        ("sound", devices.sounds.len()),
        ("memory", devices.memories.len()),
    ];
    match counts.iter().find(|(_, count)| *count > 0) {
        Some((kind, _)) => {
            Err(QEMU.config_unsupported(format_args!("guests with a {kind} device cannot be started yet")))
        }
        None => Ok(()),
    }
}
