//! What is found out only when a guest is about to be started: it asks for what this host does not have, or QEMU does not
//! take.

use std::fs;

use virtwire_conf::domain::chardev::ChannelTargetType;
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::display::{Graphics, GraphicsType};
use virtwire_conf::domain::misc::{ControllerType, HostdevType};
use virtwire_conf::domain::os::{SmbiosMode, Sysinfo, SysinfoType, TimerName};
use virtwire_conf::table::{Cpuset, Value};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::{ErrorDomain, VirtError};

use super::hostdev;
use crate::caps::host::tsc;
use crate::error::QEMU;
use crate::host::Host;
use crate::virtiofs;

/// Everything in this file.
///
/// # Errors
/// libvirt's, for the first that cannot be.
pub(crate) fn check(domain: &Domain, host: &Host) -> Result<(), VirtError> {
    counter(domain, host)?;
    nodes(domain)?;
    let devices = &domain.devices;
    let unsupported = |text: &str| Err(QEMU.config_unsupported(text));
    if devices.graphics.iter().any(|screen| screen.listens.len() > 1) {
        return unsupported("QEMU does not support multiple listens for one graphics device.");
    }
    told(domain)?;
    let kinds =
        |screen: &Graphics| devices.graphics.iter().filter(|other| other.type_ == screen.type_).count();
    if devices.graphics.iter().any(|screen| kinds(screen) > 1) {
        return unsupported(
            "only 1 graphics device of each type (sdl, vnc, spice, headless, dbus, rdp) is supported",
        );
    }
    let shown = devices.graphics.iter().filter(|screen| screen.type_ == GraphicsType::Vnc);
    let mut fixed = shown.filter(|screen| screen.autoport == Some(YesNo::No));
    if fixed.any(|screen| !screen.port.is_some_and(|port| VNC_PORTS.contains(&port))) {
        let (first, last) = (VNC_PORTS.start(), VNC_PORTS.end());
        return Err(QEMU.config_unsupported(format_args!("vnc port must be in range [{first},{last}]")));
    }
    let heard = devices.graphics.iter().filter_map(|screen| screen.audio.as_ref());
    if heard.into_iter().any(|audio| devices.audios.iter().all(|known| known.id != audio.id)) {
        return Err(QEMU.internal_error("unable to find audio backend for sound device"));
    }
    let arch = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref());
    let mainframe = matches!(arch, Some("s390" | "s390x"));
    if domain.keywrap.as_ref().is_some_and(|keys| !keys.cipher.is_empty()) && !mainframe {
        return unsupported("'aes-key-wrap'/'dea-key-wrap' is not available on this architecture");
    }
    if domain.cpu.as_ref().is_some_and(|cpu| cpu.deprecated_features.is_some()) && !mainframe {
        return unsupported("toggling deprecated features for CPU model is unsupported");
    }
    let lent = devices.hostdevs.iter().filter(|hostdev| hostdev.type_ == HostdevType::Pci);
    let lenders = lent.filter_map(|hostdev| hostdev.driver.as_ref()?.name.as_deref());
    if let Some(lender) = lenders.into_iter().find(|name| *name != "vfio") {
        return Err(QEMU.internal_error(format_args!("invalid PCI passthrough type '{lender}'")));
    }
    let elsewhere = |address: &Option<Address>| !matches!(address, None | Some(Address::Pci(_)));
    if devices.shmems.iter().any(|shmem| elsewhere(&shmem.info.address)) {
        return unsupported("only 'pci' addresses are supported for the shared memory device");
    }
    for shared in &devices.filesystems {
        let binary = shared.binary.as_ref().and_then(|binary| binary.path.as_ref());
        if virtiofs::is_behind(shared) && binary.is_none() && virtiofs::installed().is_none() {
            return Err(QEMU.operation_failed("Unable to find a satisfying virtiofsd"));
        }
    }
    let ports = devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb && c.ports.is_some());
    let few = |model: &&str| !matches!(*model, "nec-xhci" | "qemu-xhci" | "none");
    if let Some(model) = ports.filter_map(|controller| controller.model.as_deref()).find(few) {
        let text =
            format_args!("usb controller type '{model}' doesn't support 'ports' with this QEMU binary");
        return Err(QEMU.config_unsupported(text));
    }
    let mut channels = devices.channels.iter().filter_map(|channel| channel.target.as_ref());
    if channels.any(|target| target.type_ == Some(ChannelTargetType::Xen)) {
        let text = "An error occurred, but the cause is unknown";
        return Err(VirtError { message: text.into(), ..ErrorDomain::NONE.internal_error("") });
    }
    let adapters = devices.hostdevs.iter().filter(|hostdev| hostdev.type_ == HostdevType::Scsi);
    for source in adapters.filter_map(|hostdev| hostdev.source.as_ref()).filter(|s| s.adapter.is_some()) {
        hostdev::generic_device(Some(source))?;
    }
    Ok(())
}

/// A guest that is told of its machine is told something, and of one board.
///
/// # Errors
/// There is nothing, or there are more.
pub(crate) fn told(domain: &Domain) -> Result<(), VirtError> {
    let told = domain.os.smbios.as_ref().is_some_and(|smbios| smbios.mode == SmbiosMode::Sysinfo);
    if told && !domain.sysinfo.iter().any(|info| info.type_ == SysinfoType::Smbios) {
        let text = format_args!("Domain '{}' sysinfo are not available", domain.name);
        return Err(QEMU.xml_error(text));
    }
    let boards = |info: &Sysinfo| info.base_board.iter().filter(|board| !board.entry.is_empty()).count();
    if told && domain.sysinfo.iter().any(|info| boards(info) > 1) {
        let text = "qemu does not support more than one entry to Type 2 in SMBIOS table";
        return Err(QEMU.config_unsupported(text));
    }
    Ok(())
}

/// Where VNC's displays are.
const VNC_PORTS: std::ops::RangeInclusive<i32> = 5900..=65535;

/// A guest's time stamp counter may be this much faster or slower than the host's: 250 parts of a million.
const TOLERANCE: u64 = 1_000_000 / 250;

/// The time stamp counter is as fast as the host's, or the host can make it another.
fn counter(domain: &Domain, host: &Host) -> Result<(), VirtError> {
    let timers = domain.clock.iter().flat_map(|clock| &clock.timer);
    let asked = timers.filter(|timer| timer.name == TimerName::Tsc).find_map(|timer| timer.frequency);
    let Some(asked) = asked else { return Ok(()) };
    let Some(counter) = tsc(host).filter(|counter| counter.scaling != Some(YesNo::Yes)) else {
        return Ok(());
    };
    let frequency = counter.frequency;
    let range = frequency - frequency / TOLERANCE..=frequency + frequency / TOLERANCE;
    if range.contains(&asked) {
        return Ok(());
    }
    Err(QEMU.config_unsupported(format_args!(
        "Requested TSC frequency {asked} Hz is outside tolerance range ([{}, {}] Hz) around host frequency {frequency} Hz and TSC scaling is not supported by the host CPU",
        range.start(),
        range.end()
    )))
}

/// Memory is on nodes that this host has.
fn nodes(domain: &Domain) -> Result<(), VirtError> {
    let Some(tune) = &domain.numatune else { return Ok(()) };
    let memory = tune.memory.iter().filter_map(|memory| memory.nodeset.as_ref());
    let each = tune.memnode.iter().filter_map(|node| node.nodeset.as_ref());
    check_nodes(memory.chain(each).flat_map(Cpuset::iter))
}

/// Refuses memory nodes that this host does not have.
pub(crate) fn check_nodes(mut asked: impl Iterator<Item = u32>) -> Result<(), VirtError> {
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap_or_else(|_| "0".to_owned());
    let online = Cpuset::parse(online.trim()).ok().flatten().unwrap_or_default();
    match asked.find(|node| !online.iter().any(|known| known == *node)) {
        Some(node) => {
            Err(ErrorDomain::NONE.config_unsupported(format_args!("NUMA node {node} is unavailable")))
        }
        None => Ok(()),
    }
}
