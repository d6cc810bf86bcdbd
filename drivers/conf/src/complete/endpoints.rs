//! Which devices may be on PCI, and what slot each needs.

use std::collections::BTreeSet;

use super::buses::Kind;
use super::{companions, forms};
use crate::domain::Domain;
use crate::domain::device::DeviceInfo;
use crate::domain::disk::{Disk, DiskBus, Filesystem, FilesystemDriverType, FilesystemType, VirtioModel};
use crate::domain::display::{InputBus, SoundModel, VideoType};
use crate::domain::misc::{
    Controller, ControllerType, HostdevType, Iommu, IommuModel, MemballoonModel, MemoryModel, WatchdogModel,
};
use crate::domain::net::{Interface, InterfaceType};

/// Visits every device that may be on PCI, in the order in which they get places. `None` for the kind means that
/// the device only takes a place if it names one. Stops when `visit` says false.
pub(super) fn each(domain: &mut Domain, visit: &mut dyn FnMut(&mut DeviceInfo, Option<Kind>) -> bool) {
    use Kind::{Express, Integrated, Pci};
    let mut led = BTreeSet::new();
    let devices = &mut domain.devices;
    macro_rules! visit {
        ($list:expr, $kind:expr) => {
            for device in $list {
                let kind = $kind(&*device);
                if !visit(&mut device.info, kind) {
                    return;
                }
            }
        };
    }
    let virtio = |model: Option<VirtioModel>| {
        let transitional = model == Some(VirtioModel::VirtioTransitional);
        Some(if transitional { Pci } else { Express })
    };
    visit!(devices.filesystems.iter_mut(), |d: &Filesystem| match d.type_ {
        FilesystemType::Mount if !is_mtp(d) => virtio(d.model),
        _ => None,
    });
    let passed_on = |d: &&mut Interface| d.type_ == InterfaceType::Hostdev;
    visit!(devices.interfaces.iter_mut().filter(|d| !passed_on(d)), |d: &Interface| {
        let model = d.model.as_ref().and_then(|m| m.type_.as_deref()).unwrap_or_default();
        // What is not known is taken for modern.
        let known = forms::CARDS.contains(&model);
        let express = model.starts_with("virtio") || matches!(model, "e1000e" | "igb") || !known;
        match model {
            "usb-net" | "spapr-vlan" => None,
            "virtio-transitional" => Some(Pci),
            _ => Some(if express { Express } else { Pci }),
        }
    });
    visit!(devices.sounds.iter_mut(), |d: &crate::domain::display::Sound| match d.model {
        SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb => None,
        SoundModel::Virtio => Some(Express),
        _ => Some(Pci),
    });
    visit!(devices.controllers.iter_mut(), |d: &Controller| match (d.type_, d.model.as_deref()) {
        (ControllerType::Pci | ControllerType::Fdc | ControllerType::Ccid | ControllerType::Ide, _) => None,
        (ControllerType::Usb, Some("none")) => None,
        // The first one of those that share a slot.
        (ControllerType::Usb, Some(model)) if companions::function(model).is_some() =>
            led.insert(d.index).then_some(Pci),
        (ControllerType::Usb, Some("nec-xhci" | "qemu-xhci")) => Some(Express),
        (ControllerType::Usb | ControllerType::Sata, _) => Some(Pci),
        (ControllerType::Scsi, Some("virtio-scsi" | "virtio-non-transitional")) => Some(Express),
        (ControllerType::Scsi, _) => Some(Pci),
        (ControllerType::VirtioSerial, Some("virtio-transitional")) => Some(Pci),
        _ => Some(Express),
    });
    visit!(devices.disks.iter_mut(), |d: &Disk| match d.target.as_ref().and_then(|t| t.bus) {
        Some(DiskBus::Virtio) => virtio(d.model),
        _ => None,
    });
    visit!(devices.interfaces.iter_mut().filter(passed_on), |_: &Interface| Some(Express));
    visit!(devices.hostdevs.iter_mut(), |d: &crate::domain::misc::Hostdev| match d.type_ {
        _ if d.model.as_deref() == Some("virtio-transitional") => Some(Pci),
        HostdevType::Mdev if d.model.as_deref() != Some("vfio-pci") => None,
        HostdevType::Pci | HostdevType::ScsiHost | HostdevType::Mdev => Some(Express),
        _ => None,
    });
    visit!(devices.memballoon.iter_mut(), |d: &crate::domain::misc::Memballoon| match d.model {
        MemballoonModel::None | MemballoonModel::Xen => None,
        MemballoonModel::VirtioTransitional => Some(Pci),
        _ => Some(Express),
    });
    visit!(devices.rngs.iter_mut(), |d: &crate::domain::chardev::Rng| virtio(Some(d.model)));
    visit!(devices.watchdogs.iter_mut(), |d: &crate::domain::misc::Watchdog| {
        (d.model == WatchdogModel::I6300esb).then_some(Pci)
    });
    visit!(devices.videos.iter_mut(), |d: &crate::domain::display::Video| match d
        .model
        .as_ref()
        .map(|m| m.type_)
    {
        Some(VideoType::None | VideoType::Ramfb) | None => None,
        Some(VideoType::Virtio) => Some(Express),
        Some(_) => Some(Pci),
    });
    visit!(devices.shmems.iter_mut(), |_: &crate::domain::misc::Shmem| Some(Pci));
    visit!(devices.inputs.iter_mut(), |d: &crate::domain::display::Input| match d.bus {
        Some(InputBus::Virtio) => virtio(d.model),
        _ => None,
    });
    visit!(devices.serials.iter_mut(), |d: &crate::domain::chardev::Serial| {
        let pci = d.target.as_ref().and_then(|t| t.type_)
            == Some(crate::domain::chardev::SerialTargetType::PciSerial);
        pci.then_some(Pci)
    });
    visit!(devices.iommu.iter_mut(), |d: &Iommu| (d.model == IommuModel::Virtio).then_some(Integrated));
    visit!(devices.panics.iter_mut(), |d: &crate::domain::misc::Panic| {
        (d.model == Some(crate::domain::misc::PanicModel::Pvpanic)).then_some(Integrated)
    });
    visit!(devices.vsock.iter_mut(), |d: &crate::domain::misc::Vsock| virtio(d.model));
    visit!(devices.memories.iter_mut(), |d: &crate::domain::misc::Memory| {
        matches!(d.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem).then_some(Express)
    });
    visit!(devices.cryptos.iter_mut(), |_: &crate::domain::misc::Crypto| Some(Pci));
    visit!(devices.pstore.iter_mut(), |_: &crate::domain::misc::Pstore| Some(Pci));
}

/// Whether a file system is shown as a camera or a phone would, over USB.
pub(super) fn is_mtp(filesystem: &Filesystem) -> bool {
    filesystem.driver.as_ref().and_then(|driver| driver.type_) == Some(FilesystemDriverType::Mtp)
}
