//! Disks, filesystems, controllers, leases, devices of the host.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::YesNo;
use crate::domain::Domain;
use crate::domain::disk::{AccessMode, Filesystem, FilesystemDriverType, FilesystemType};
use crate::domain::misc::{Controller, ControllerType, Hostdev, HostdevMode, HostdevType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// Everything in this file that no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    let devices = &domain.devices;
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    for lease in &devices.leases {
        refuse! {
            empty(&lease.key) => DOMAIN.xml_error("Missing 'key' element for lease");
        }
    }
    let mut targets = BTreeSet::new();
    for shared in &devices.filesystems {
        let target = shared.target.as_ref().and_then(|target| target.dir.as_deref()).unwrap_or_default();
        refuse! {
            !targets.insert(target) => DOMAIN.config_unsupported("filesystem target '{target}' specified twice");
        }
    }
    devices.hostdevs.iter().try_for_each(hostdev)
}

fn hostdev(hostdev: &Hostdev) -> Result {
    let Some(source) = &hostdev.source else { return Ok(()) };
    refuse! {
        hostdev.rawio.is_some() && hostdev.type_ != HostdevType::Scsi =>
            DOMAIN.xml_error("rawio is only supported for scsi host device");
        hostdev.model.is_some() && !matches!(hostdev.type_, HostdevType::Mdev | HostdevType::ScsiHost) =>
            DOMAIN.xml_error("'model' attribute in <hostdev> is only supported when type='{}'", hostdev.type_.as_str());
        source.startup_policy.is_some() && hostdev.type_ != HostdevType::Usb =>
            DOMAIN.config_unsupported("Setting startupPolicy is only allowed for USB devices");
        source.protocol.as_deref() == Some("iscsi") && source.host.len() != 1 =>
            DOMAIN.xml_error("only one source host address may be specified for the iSCSI hostdev");
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    devices.controllers.iter().try_for_each(controller)?;
    devices.filesystems.iter().try_for_each(filesystem)?;
    for hostdev in &devices.hostdevs {
        let model = hostdev.model.as_deref().unwrap_or_default();
        let filters = hostdev.source.as_ref().is_some_and(|s| s.write_filtering == Some(YesNo::Yes));
        refuse! {
            filters => QEMU.config_unsupported(
                "Write filtering of PCI device configuration space is not supported by qemu");
            hostdev.mode == HostdevMode::Capabilities =>
                QEMU.config_unsupported("hostdev mode 'capabilities' is not supported in kvm");
            model == "vfio-ap" && !around.has("vfio-ap") =>
                QEMU.config_unsupported("VFIO AP device assignment is not supported by this version of QEMU");
            model == "vfio-ccw" && !around.has("vfio-ccw") =>
                QEMU.config_unsupported("VFIO CCW device assignment is not supported by this version of QEMU");
        }
    }
    Ok(())
}

fn filesystem(shared: &Filesystem) -> Result {
    let driver = shared.driver.as_ref();
    let virtiofs = driver.and_then(|driver| driver.type_) == Some(FilesystemDriverType::Virtiofs);
    let modes = shared.fmode.is_some() || shared.dmode.is_some();
    refuse! {
        shared.type_ != FilesystemType::Mount => QEMU.config_unsupported("only supports mount filesystem type");
        virtiofs && shared.model.is_some() => QEMU.config_unsupported("virtiofs does not support model");
        virtiofs && shared.multidevs.is_some() => QEMU.config_unsupported("virtiofs does not support multidevs");
        virtiofs && shared.accessmode.is_some_and(|mode| mode != AccessMode::Passthrough) =>
            QEMU.config_unsupported("virtiofs only supports passthrough accessmode");
        !virtiofs && modes && shared.accessmode != Some(AccessMode::Mapped) =>
            QEMU.config_unsupported("fmode and dmode must be used with accessmode=mapped");
    }
    Ok(())
}

fn controller(controller: &Controller) -> Result {
    let model = controller.model.as_deref().unwrap_or_default();
    let scsi = controller.type_ == ControllerType::Scsi && model.starts_with("virtio-");
    options_of_bus(controller)?;
    let Some(driver) = &controller.driver else { return Ok(()) };
    let said = [
        ("queues", driver.queues.is_some_and(|n| n != 0)),
        ("cmd_per_lun", driver.cmd_per_lun.is_some_and(|n| n != 0)),
        ("max_sectors", driver.max_sectors.is_some_and(|n| n != 0)),
        ("ioeventfd", driver.ioeventfd.is_some()),
    ];
    let first = said.into_iter().find(|(_, said)| *said && !scsi);
    refuse! {
        driver.iothread.is_some() && !scsi =>
            DOMAIN.xml_error("'iothread' attribute only supported for virtio scsi controllers");
        first.is_some() => QEMU.config_unsupported(
            "'{}' is only supported by virtio-scsi controller",
            first.map(|(name, _)| name).unwrap_or_default()
        );
    }
    Ok(())
}

/// What can be said of which model of a PCI controller, and the range of what is a number.
fn options_of_bus(controller: &Controller) -> Result {
    let Some(target) = controller.target.as_ref().filter(|_| controller.type_ == ControllerType::Pci) else {
        return Ok(());
    };
    let model = controller.model.as_deref().unwrap_or_default();
    let port = matches!(model, "pcie-root-port" | "pcie-switch-downstream-port");
    let said = [
        ("chassisNr", target.chassis_nr.is_some(), model == "pci-bridge"),
        ("chassis", target.chassis.is_some(), port),
        ("port", target.port.is_some(), port),
        ("busNr", target.bus_nr.is_some(), model.ends_with("expander-bus")),
        ("node", target.node.is_some(), model.ends_with("expander-bus") || model == "pci-root"),
        ("index", target.index.is_some(), model == "pci-root"),
        ("hotplug", target.hotplug.is_some(), port || model == "pci-root"),
    ];
    let first = said.into_iter().find(|(_, said, known)| *said && !known).map(|(name, ..)| name);
    let name = controller.pci_model.as_ref().and_then(|model| model.name.as_deref()).unwrap_or_default();
    let outside = |number: Option<u32>, range: std::ops::RangeInclusive<u32>| {
        number.filter(|number| !range.contains(number))
    };
    let (nr, bus) = (outside(target.chassis_nr, 1..=255), outside(target.bus_nr, 1..=254));
    refuse! {
        nr.is_some() => DOMAIN.config_unsupported(
            "PCI controller chassisNr '{}' out of range - must be 1-255", nr.unwrap_or_default());
        bus.is_some() => DOMAIN.config_unsupported(
            "PCI controller busNr '{}' out of range - must be 1-254", bus.unwrap_or_default());
        first.is_some() => QEMU.config_unsupported(
            "Option '{}' is not valid for PCI controller with index '{}', model '{model}' and modelName '{name}'",
            first.unwrap_or_default(),
            controller.index.unwrap_or_default()
        );
    }
    Ok(())
}
