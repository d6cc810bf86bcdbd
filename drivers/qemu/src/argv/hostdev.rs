//! Devices of the host that the guest has for itself.

use std::path::Path;

use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::{DiskSource, VirtioModel};
use virtwire_conf::domain::misc::{
    ControllerType, HostAddress, Hostdev, HostdevMode, HostdevSource, HostdevType,
};
use virtwire_conf::{Domain, OnOff};
use virtwire_protocol::{ErrorDomain, VirtError};

use super::device::controller;
use super::storage::{has_one_number, iscsi_node, last_number};
use super::{Context, Json, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

pub(super) fn hostdevs(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    // SCSI devices have nodes like disks, numbered on.
    let mut number = last_number(domain);
    for hostdev in domain.devices.hostdevs.iter().filter(|dev| dev.mode == HostdevMode::Subsystem) {
        number += u32::from(hostdev.type_ == HostdevType::Scsi);
        self::hostdev(line, domain, (hostdev, number), context)?;
    }
    Ok(())
}

/// One device, and the number of its node if it has one.
pub(super) fn hostdev(
    line: &mut CommandLine,
    domain: &Domain,
    (hostdev, number): (&Hostdev, u32),
    context: &Context<'_>,
) -> Result<(), VirtError> {
    match hostdev.type_ {
        HostdevType::Usb => usb(domain, hostdev)?.add(line),
        HostdevType::Pci => pci(domain, hostdev)?.add(line),
        HostdevType::Mdev => mediated(domain, hostdev).add(line),
        HostdevType::Scsi => scsi(line, domain, hostdev, number, context)?,
        HostdevType::ScsiHost => scsi_host(domain, hostdev)?.add(line),
        HostdevType::Storage | HostdevType::Misc | HostdevType::Net => {}
    }
    Ok(())
}

fn address(hostdev: &Hostdev) -> Option<&HostAddress> {
    hostdev.source.as_ref()?.address.as_ref()
}

fn boot(hostdev: &Hostdev) -> Option<u32> {
    hostdev.info.boot.as_ref().map(|boot| boot.order.get())
}

fn usb(domain: &Domain, hostdev: &Hostdev) -> Result<Json, VirtError> {
    let place = address(hostdev).and_then(|at| Some((at.bus.as_deref()?.parse::<u32>().ok()?, at.device?.0)));
    let missing = || QEMU.internal_error("USB host device is missing bus/device information");
    let (bus, device) = place.ok_or_else(missing)?;
    let reset = hostdev.source.as_ref().and_then(|source| source.guest_reset.as_deref());
    let (once, always) = match reset {
        Some("off") => (Some(false), None),
        Some("uninitialized") => (Some(true), Some(false)),
        Some("on") => (Some(true), Some(true)),
        _ => (None, None),
    };
    Ok(Json::new("usb-host")
        .with("hostdevice", format!("/dev/bus/usb/{bus:03}/{device:03}"))
        .with("id", alias(&hostdev.info))
        .with_if("bootindex", boot(hostdev))
        .with_if("guest-reset", once)
        .with_if("guest-resets-all", always)
        .at(domain, &hostdev.info))
}

/// The way from the host's PCI devices to guests.
const VFIO: &str = "/dev/vfio/vfio";

fn pci(domain: &Domain, hostdev: &Hostdev) -> Result<Json, VirtError> {
    let driver = hostdev.driver.as_ref().and_then(|driver| driver.name.as_deref());
    if driver.is_none() && !Path::new(VFIO).exists() {
        return Err(QEMU.config_unsupported("host doesn't support passthrough of host PCI devices"));
    }
    Ok(Json::new("vfio-pci")
        .with_if("host", place(hostdev))
        .with("id", alias(&hostdev.info))
        .with_if("bootindex", boot(hostdev))
        .with_if("failover_pair_id", hostdev.teaming.as_ref().and_then(|teaming| teaming.persistent.clone()))
        .at(domain, &hostdev.info)
        .rom(&hostdev.info))
}

/// Where a PCI device is on the host, as the kernel writes it.
pub(crate) fn place(hostdev: &Hostdev) -> Option<String> {
    address(hostdev).map(|at| at.pci().shown())
}

/// Which mediated device it is.
pub(crate) fn uuid(hostdev: &Hostdev) -> Option<String> {
    address(hostdev).and_then(|at| at.uuid).map(|uuid| uuid.to_string())
}

fn mediated(domain: &Domain, hostdev: &Hostdev) -> Json {
    let model = hostdev.model.as_deref().unwrap_or("vfio-pci");
    let on_pci = model == "vfio-pci";
    // The framebuffer of the firmware cannot come and go.
    let driver =
        if hostdev.ramfb.is_some_and(|state| state == OnOff::On) { "vfio-pci-nohotplug" } else { model };
    let uuid = address(hostdev).and_then(|at| at.uuid).unwrap_or_default();
    let display = hostdev.display.map(OnOff::as_str).or(on_pci.then_some("off"));
    Json::new(driver)
        .with("id", alias(&hostdev.info))
        .with("sysfsdev", format!("/sys/bus/mdev/devices/{uuid}"))
        .with_if("display", display)
        .switch("ramfb", hostdev.ramfb.filter(|state| *state == OnOff::On))
        .with_if("bootindex", boot(hostdev))
        .at(domain, &hostdev.info)
}

fn scsi(
    line: &mut CommandLine,
    domain: &Domain,
    hostdev: &Hostdev,
    number: u32,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let source = hostdev.source.as_ref();
    let node = format!("libvirt-{number}-backend");
    let storage = match source.filter(|source| source.protocol.as_deref() == Some("iscsi")) {
        Some(source) => iscsi_node(line, &as_storage(source), number, context)?,
        None => Json::node("host_device").with("filename", generic_device(source)?),
    };
    storage.with("node-name", node.as_str()).with("read-only", hostdev.readonly).add(line);
    let device = Json::new("scsi-generic")
        .with_if("share-rw", hostdev.shareable.then_some(true))
        .with("drive", node)
        .with("id", alias(&hostdev.info))
        .with_if("bootindex", boot(hostdev));
    let device = match &hostdev.info.address {
        Some(Address::Drive(at)) => {
            let bus = controller(domain, ControllerType::Scsi, at.controller.into()).unwrap_or("scsi0");
            let device = device.with("bus", format!("{bus}.0"));
            if has_one_number(domain, at.controller) {
                device.with("scsi-id", at.unit)
            } else {
                device.with("channel", at.bus).with("scsi-id", at.target).with("lun", at.unit)
            }
        }
        _ => device,
    };
    device.add(line);
    Ok(())
}

/// A device behind iSCSI is storage like a disk's.
fn as_storage(source: &HostdevSource) -> DiskSource {
    DiskSource {
        name: source.name.clone(),
        host: source.host.clone(),
        auth: source.auth.clone(),
        initiator: source.initiator.clone(),
        ..DiskSource::default()
    }
}

/// The file of a SCSI device of the host's.
pub(crate) fn generic_device(source: Option<&HostdevSource>) -> Result<String, VirtError> {
    let adapter = source.and_then(|source| source.adapter.as_ref()?.name.as_deref()).unwrap_or_default();
    let host = adapter.strip_prefix("scsi_host").unwrap_or(adapter);
    let at = source.and_then(|source| source.address.as_ref());
    let (bus, target) = (at.and_then(|at| at.bus.as_deref()).unwrap_or("0"), at.and_then(|at| at.target));
    let (target, unit) = (target.unwrap_or_default(), at.and_then(|at| at.unit).unwrap_or_default());
    let dir = format!("/sys/bus/scsi/devices/{host}:{bus}:{target}:{unit}/scsi_generic");
    let cannot = |error: std::io::Error| {
        VirtError::system(ErrorDomain::NONE, &error, format_args!("cannot open directory '{dir}'"))
    };
    let mut names = std::fs::read_dir(&dir).map_err(cannot)?.filter_map(Result::ok);
    let name = names.next().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let missing = || ErrorDomain::NONE.internal_error(format_args!("no device in '{dir}'"));
    Ok(format!("/dev/{}", name.ok_or_else(missing)?))
}

/// The kernel's SCSI targets for guests.
const VHOST_SCSI: &str = "/dev/vhost-scsi";

fn scsi_host(domain: &Domain, hostdev: &Hostdev) -> Result<Json, VirtError> {
    if !Path::new(VHOST_SCSI).exists() {
        let text = format_args!("vhost-scsi device file '{VHOST_SCSI}' cannot be found");
        return Err(ErrorDomain::NONE.config_unsupported(text));
    }
    let wwpn = hostdev.source.as_ref().and_then(|source| source.wwpn.clone());
    let model = match hostdev.model.as_deref() {
        Some("virtio-transitional") => Some(VirtioModel::VirtioTransitional),
        Some("virtio-non-transitional") => Some(VirtioModel::VirtioNonTransitional),
        _ => None,
    };
    Ok(Json::virtio("vhost-scsi", hostdev.info.address.as_ref(), model, None)
        .with_if("wwpn", wwpn)
        .with("vhostfd", "-1")
        .with("id", alias(&hostdev.info))
        .at(domain, &hostdev.info))
}
