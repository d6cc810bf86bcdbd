//! What QEMU, or a machine of it, cannot do.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::qemu::{Chipset, chipset};
use crate::OnOff;
use crate::domain::device::Address;
use crate::domain::disk::{DiskBus, DiskDevice, StorageType};
use crate::domain::misc::{ControllerType, HostdevType, IommuModel};
use crate::domain::{Domain, VirtType};

const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    disks(domain)?;
    let chipset = chipset(domain);
    let devices = &domain.devices;
    for controller in &devices.controllers {
        let model = controller.model.as_deref().unwrap_or_default();
        if model == "pcie-expander-bus" && chipset != Chipset::Q35 {
            let text = "pcie-expander-bus controllers are not supported with this machine type";
            return Err(QEMU.config_unsupported(text));
        }
        if controller.type_ == ControllerType::Pci && controller.index == Some(0) {
            let root = if chipset == Chipset::Q35 { "pcie-root" } else { "pci-root" };
            if chipset != Chipset::Other && model != root {
                return Err(QEMU.xml_error(format_args!(
                    "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{model}' was found instead"
                )));
            }
        }
        if model == "nec-xhci" && controller.ports.is_some_and(|n| n > 15) {
            return Err(QEMU.config_unsupported("'nec-xhci' controller only supports up to '15' ports"));
        }
    }
    for shmem in &devices.shmems {
        if shmem.size.is_some_and(|size| !size.0.is_power_of_two()) {
            return Err(QEMU.xml_error("shmem size must be a power of 2 and at least 1 MiB (1024 KiB)"));
        }
    }
    for hostdev in &devices.hostdevs {
        if hostdev.display == Some(OnOff::On) && devices.graphics.is_empty() {
            let text = "graphics device is needed for attribute value 'display=on' in <hostdev>";
            return Err(QEMU.config_unsupported(text));
        }
        if hostdev.type_ == HostdevType::ScsiHost && hostdev.info.boot.is_some() {
            let text = "booting from assigned devices is not supported by vhost SCSI devices";
            return Err(QEMU.config_unsupported(text));
        }
        if matches!(&hostdev.info.address, Some(Address::Pci(a)) if a.zpci.is_some()) {
            return Err(QEMU.config_unsupported("This QEMU binary doesn't support zPCI"));
        }
    }
    match devices.iommu.as_ref().map(|iommu| iommu.model) {
        Some(IommuModel::Intel) if chipset != Chipset::Q35 => {
            return Err(QEMU.config_unsupported("IOMMU device: 'intel' is only supported with Q35 machines"));
        }
        Some(IommuModel::Virtio) if chipset != Chipset::Q35 => {
            let text = "IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines";
            return Err(QEMU.config_unsupported(text));
        }
        _ => {}
    }
    let tuned = domain.cputune.as_ref().is_some_and(|c| !c.cachetune.is_empty() || !c.memorytune.is_empty());
    if tuned && domain.type_ != VirtType::Kvm {
        return Err(QEMU.config_unsupported("cachetune is only supported for KVM domains"));
    }
    if domain.features.as_ref().is_some_and(|f| f.hpt.is_some()) {
        let kind = domain.os.type_.clone().unwrap_or_default();
        return Err(QEMU.config_unsupported(format_args!(
            "The 'hpt' feature is not supported for architecture '{}' or machine type '{}'",
            kind.arch.unwrap_or_default(),
            kind.machine.unwrap_or_default()
        )));
    }
    Ok(())
}

fn disks(domain: &Domain) -> Result<(), VirtError> {
    for disk in &domain.devices.disks {
        let Some(target) = &disk.target else { continue };
        let (name, bus) = (target.dev.as_deref().unwrap_or_default(), target.bus.unwrap_or_default());
        let source = disk.source.as_ref();
        if name.ends_with(|c: char| c.is_ascii_digit()) && !name.starts_with("nvme") {
            let text = format_args!("invalid disk target '{name}', partitions can't appear in disk targets");
            return Err(QEMU.config_unsupported(text));
        }
        if bus == DiskBus::Usb && source.is_none() {
            return Err(QEMU.config_unsupported("'usb' disk must not be empty"));
        }
        if bus == DiskBus::Usb && !matches!(disk.info.address, None | Some(Address::Usb(_))) {
            return Err(QEMU.internal_error("unexpected address type for usb disk"));
        }
        if let Some(format @ ("cow" | "aio" | "dir")) = disk.driver.as_ref().and_then(|d| d.type_.as_deref())
        {
            return Err(QEMU.config_unsupported(format_args!("'{format}' storage format is not supported")));
        }
        if disk.type_ == StorageType::Vhostvdpa {
            return Err(QEMU.config_unsupported("vhostvdpa disk is not supported with this QEMU binary"));
        }
        if disk.device == DiskDevice::Lun && bus == DiskBus::Virtio {
            let text = "This QEMU doesn't support SCSI emulation with 'virtio-blk' device";
            return Err(QEMU.config_unsupported(text));
        }
    }
    Ok(())
}
