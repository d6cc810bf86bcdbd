//! What QEMU, or a machine of it, cannot do.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::{Chipset, chipset, has_ide};
use super::rules::Around;
use crate::OnOff;
use crate::YesNo;
use crate::domain::chardev::{Serial, SerialTargetType};
use crate::domain::device::{Address, PciAddress};
use crate::domain::disk::{
    Disk, DiskBus, DiskDevice, DiskIothreads, Filesystem, FilesystemDriverType, StorageType,
};
use crate::domain::display::{Audio, AudioType, Graphics, GraphicsType, Video, VideoBackend, VideoType};
use crate::domain::features::Hpt;
use crate::domain::misc::{
    Controller, ControllerType, Hostdev, HostdevType, Iommu, IommuModel, Memory, MemoryModel, Tpm,
    TpmBackendType,
};
use crate::domain::net::{Interface, InterfaceType};
use crate::domain::{Domain, VirtType};

const QEMU: ErrorDomain = ErrorDomain::QEMU;
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

type Result<T = ()> = std::result::Result<T, VirtError>;

fn threads_of(around: &Around<'_>, shared: Option<&DiskIothreads>) -> Result {
    let wanted = shared.iter().flat_map(|threads| &threads.iothread).map(|thread| thread.id);
    let unknown = wanted.into_iter().find(|id| !around.has_thread(*id));
    refuse! {
        unknown.is_some() => QEMU.config_unsupported("iothread '{}' not defined in iothreadid", unknown.unwrap_or_default());
    }
    Ok(())
}

fn audio_of(domain: &Domain, id: u32) -> Option<&Audio> {
    domain.devices.audios.iter().find(|audio| audio.id == id)
}

/// What else QEMU could not make of one.
pub(super) fn disk(around: &Around<'_>, disk: &Disk) -> Result {
    let Some(target) = &disk.target else { return Ok(()) };
    let (name, bus) = (target.dev.as_deref().unwrap_or_default(), target.bus.unwrap_or_default());
    let driver = disk.driver.as_ref();
    let format = driver.and_then(|driver| driver.type_.as_deref()).unwrap_or_default();
    let thread = driver.and_then(|driver| driver.iothread);
    refuse! {
        name.ends_with(|c: char| c.is_ascii_digit()) && !name.starts_with("nvme") =>
            QEMU.config_unsupported("invalid disk target '{name}', partitions can't appear in disk targets");
        bus == DiskBus::Usb && disk.source.is_none() => QEMU.config_unsupported("'usb' disk must not be empty");
        bus == DiskBus::Usb && !matches!(disk.info.address, None | Some(Address::Usb(_))) =>
            QEMU.internal_error("unexpected address type for usb disk");
        matches!(format, "cow" | "aio" | "dir") =>
            QEMU.config_unsupported("'{format}' storage format is not supported");
        disk.type_ == StorageType::Vhostuser && !around.shares_memory() =>
            QEMU.config_unsupported("'vhostuser' requires shared memory");
        disk.type_ == StorageType::Vhostvdpa =>
            QEMU.config_unsupported("vhostvdpa disk is not supported with this QEMU binary");
        matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) && matches!(bus, DiskBus::Virtio | DiskBus::Sd) =>
            QEMU.config_unsupported("disk type of '{name}' does not support ejectable media");
        disk.device == DiskDevice::Lun && bus == DiskBus::Virtio =>
            QEMU.config_unsupported("This QEMU doesn't support SCSI emulation with 'virtio-blk' device");
        thread.is_some_and(|id| !around.has_thread(id)) =>
            QEMU.config_unsupported("Disk iothread '{}' not defined in iothreadid", thread.unwrap_or_default());
    }
    threads_of(around, driver.and_then(|driver| driver.iothreads.as_ref()))
}

/// What else QEMU could not make of one.
pub(super) fn controller(around: &Around<'_>, controller: &Controller) -> Result {
    let chipset = around.chipset;
    let model = controller.model.as_deref().unwrap_or_default();
    let driver = controller.driver.as_ref();
    let thread = driver.and_then(|driver| driver.iothread);
    let sparc = around.domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref()) == Some("sparc");
    refuse! {
        model == "pcie-expander-bus" && !matches!(chipset, Chipset::Q35 | Chipset::ArmVirt) =>
            QEMU.config_unsupported("pcie-expander-bus controllers are not supported with this machine type");
        model.ends_with("-xhci") && controller.ports.is_some_and(|n| n > 15) =>
            QEMU.config_unsupported("'{model}' controller only supports up to '15' ports");
        matches!(model, "qusb1" | "qusb2") => QEMU.config_unsupported(
            "USB controller model type 'qusb1' or 'qusb2' is not supported in {}", around.domain.type_);
        model == "buslogic" => QEMU.config_unsupported("Unsupported controller model: {model}");
        model == "ncr53c90" && !sparc => QEMU.config_unsupported(
            "ncr53c90 SCSI controller is not a built-in for this machine");
        controller.type_ == ControllerType::Ide && !has_ide(around.domain) =>
            QEMU.config_unsupported("IDE controllers are unsupported for this QEMU binary or machine type");
        controller.type_ == ControllerType::Ide && controller.index != Some(0) =>
            QEMU.config_unsupported("Only a single IDE controller is supported for this machine type");
        thread.is_some_and(|id| !around.has_thread(id)) =>
            QEMU.config_unsupported("controller iothread '{}' not defined in iothreadid", thread.unwrap_or_default());
    }
    threads_of(around, driver.and_then(|driver| driver.iothreads.as_ref()))
}

/// What else QEMU could not make of one.
pub(super) fn filesystem(around: &Around<'_>, filesystem: &Filesystem) -> Result {
    let kind = filesystem.driver.as_ref().and_then(|driver| driver.type_);
    refuse! {
        kind == Some(FilesystemDriverType::Virtiofs) && !around.shares_memory() =>
            QEMU.config_unsupported("'virtiofs' requires shared memory");
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn interface(around: &Around<'_>, interface: &Interface) -> Result {
    refuse! {
        interface.type_ == InterfaceType::Vhostuser && !around.shares_memory() =>
            QEMU.config_unsupported("'interface' requires shared memory");
    }
    Ok(())
}

/// A serial port: which device of which kind, what address it has, and the boards that have it, if not all.
struct Port {
    model: &'static str,
    kind: SerialTargetType,
    address: Option<&'static str>,
    boards: &'static [Chipset],
}

const fn port(
    model: &'static str,
    kind: SerialTargetType,
    address: Option<&'static str>,
    boards: &'static [Chipset],
) -> Port {
    Port { model, kind, address, boards }
}

const PORTS: &[Port] = {
    use SerialTargetType::{
        IsaDebug, IsaSerial, PciSerial, SclpSerial, SpaprVioSerial, SystemSerial, UsbSerial,
    };
    &[
        port("isa-serial", IsaSerial, Some("isa"), &[Chipset::I440fx, Chipset::Q35, Chipset::Other]),
        port("isa-debugcon", IsaDebug, Some("isa"), &[Chipset::I440fx, Chipset::Q35, Chipset::Other]),
        port("usb-serial", UsbSerial, Some("usb"), &[]),
        port("pci-serial", PciSerial, Some("pci"), &[]),
        port("spapr-vty", SpaprVioSerial, Some("spapr-vio"), &[Chipset::Pseries]),
        port("pl011", SystemSerial, None, &[Chipset::ArmVirt]),
        port("16550a", SystemSerial, None, &[Chipset::RiscvVirt, Chipset::LoongVirt]),
        port("sclpconsole", SclpSerial, None, &[Chipset::Ccw]),
        port("sclplmconsole", SclpSerial, None, &[Chipset::Ccw]),
    ]
};

/// What else QEMU could not make of one.
pub(super) fn serial(around: &Around<'_>, serial: &Serial) -> Result {
    let Some(target) = &serial.target else { return Ok(()) };
    let kind = target.type_.unwrap_or_default();
    let model = target.model.as_ref().and_then(|model| model.name.as_deref()).unwrap_or_default();
    let port = PORTS.iter().find(|port| port.model == model);
    let own = PORTS.iter().find(|port| port.kind == kind).and_then(|port| port.address);
    let at = serial.info.address.as_ref().map(Address::kind);
    let elsewhere = at.is_some() && at != own;
    refuse! {
        port.is_some_and(|port| port.kind != kind) => QEMU.config_unsupported(
            "Target model '{model}' requires target type '{}'",
            port.map(|port| port.kind).unwrap_or_default().as_str());
        elsewhere && own.is_some() => QEMU.config_unsupported(
            "Target type '{kind}' requires address type '{}'", own.unwrap_or_default());
        elsewhere => QEMU.config_unsupported("Target type '{kind}' cannot have an associated address");
        port.is_some_and(|port| !port.boards.is_empty() && !port.boards.contains(&around.chipset)) =>
            QEMU.config_unsupported(
                "Serial device with target type '{kind}' and target model '{model}' not compatible with guest architecture or machine type"
            );
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn tpm(around: &Around<'_>, tpm: &Tpm) -> Result {
    let Some(backend) = tpm.backend.as_ref().filter(|backend| backend.type_ == TpmBackendType::Emulator)
    else {
        return Ok(());
    };
    refuse! {
        around.emulator().is_some_and(|emulator| !emulator.tpm) =>
            QEMU.config_unsupported("TPM version '{}' is not supported", backend.version.as_deref().unwrap_or("2.0"));
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn graphics(around: &Around<'_>, graphics: &Graphics) -> Result {
    let wanted = graphics.audio.as_ref().map(|audio| audio.id);
    let audio = wanted.and_then(|id| audio_of(around.domain, id));
    refuse! {
        graphics.type_ == GraphicsType::Spice && !around.has("chardev-spicevmc") =>
            QEMU.config_unsupported("spice graphics are not supported with this QEMU");
        graphics.type_ == GraphicsType::Dbus && audio.is_some_and(|audio| audio.type_ != AudioType::Dbus) =>
            QEMU.config_unsupported("The associated audio is not of 'dbus' kind.");
    }
    Ok(())
}

/// Video cards and the QEMU devices that they are, first and otherwise; none for those that only come first.
const CARDS: &[(VideoType, &[&str], bool)] = &[
    (VideoType::Vga, &["VGA"], false),
    (VideoType::Cirrus, &["cirrus-vga"], false),
    (VideoType::Vmvga, &["vmware-svga"], false),
    (VideoType::Ramfb, &["ramfb"], false),
    (VideoType::Qxl, &["qxl-vga", "qxl"], true),
    (VideoType::Virtio, &["virtio-gpu-pci", "virtio-gpu-device", "vhost-user-gpu"], true),
    (VideoType::Bochs, &["bochs-display"], true),
];

/// What else QEMU could not make of one.
pub(super) fn video(around: &Around<'_>, video: &Video) -> Result {
    let Some(model) = &video.model else { return Ok(()) };
    let kind = model.type_;
    let videos = &around.domain.devices.videos;
    // One that is being added is the last, and never the first.
    let first = videos.first().filter(|_| !around.is_new("video") || videos.len() > 1);
    let first = first.is_some_and(|first| std::ptr::eq(first, video));
    let (devices, anywhere) = match CARDS.iter().find(|(card, ..)| *card == kind) {
        Some((_, devices, anywhere)) => (*devices, *anywhere),
        None if kind == VideoType::None => return Ok(()),
        None => (&["-"][..], true),
    };
    let own = video.driver.as_ref().and_then(|driver| driver.name) != Some(VideoBackend::Vhostuser);
    let accelerated = own && model.acceleration.as_ref().and_then(|a| a.accel3d) == Some(YesNo::Yes);
    refuse! {
        !devices.iter().any(|device| around.has(device)) =>
            QEMU.config_unsupported("domain configuration does not support video model '{kind}'");
        !first && !anywhere => QEMU.config_unsupported("video type '{kind}' is only valid as primary video device");
        accelerated && kind == VideoType::Virtio && !around.has("virtio-gpu-gl-pci") =>
            QEMU.config_unsupported("3d acceleration is not supported by this QEMU binary");
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn hostdev(around: &Around<'_>, hostdev: &Hostdev) -> Result {
    refuse! {
        hostdev.display == Some(OnOff::On) && matches!(hostdev.type_, HostdevType::Pci | HostdevType::Mdev) && around.domain.devices.graphics.is_empty() =>
            QEMU.config_unsupported("graphics device is needed for attribute value 'display=on' in <hostdev>");
        hostdev.type_ == HostdevType::ScsiHost && hostdev.info.boot.is_some() =>
            QEMU.config_unsupported("booting from assigned devices is not supported by vhost SCSI devices");
        hostdev.type_ == HostdevType::Mdev && hostdev.info.boot.is_some() => QEMU.config_unsupported(
            "booting from assigned devices is not supported by mediated devices of model {}",
            hostdev.model.as_deref().unwrap_or_default());
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn memory(around: &Around<'_>, memory: &Memory) -> Result {
    let virtio = matches!(memory.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem);
    let placed = matches!(memory.info.address, None | Some(Address::Pci(_) | Address::Ccw(_)));
    refuse! {
        virtio && !placed => QEMU.config_unsupported(
            "only 'pci' and 'ccw' addresses are supported for the {} device", memory.model.as_str());
    }
    let nodes =
        around.domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    let node = memory.target.as_ref().and_then(|target| target.node);
    if !matches!(memory.model, MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::VirtioMem) {
        refuse! {
            memory.model == MemoryModel::SgxEpc && node.is_some_and(|node| node as usize >= nodes) =>
                DOMAIN.xml_detail(
                    "can't add memory backend for guest node '{}' as the guest has only '{nodes}' NUMA nodes configured",
                    node.unwrap_or_default()
                );
            memory.model == MemoryModel::SgxEpc && !around.has("sgx-epc") =>
                QEMU.config_unsupported("sgx epc isn't supported by this QEMU binary");
        }
        return Ok(());
    }
    let max = around.domain.max_memory.as_ref();
    let slots = max.and_then(|max| max.slots);
    let slot = match &memory.info.address {
        Some(Address::Dimm(address)) => Some(address.slot),
        _ => None,
    };
    refuse! {
        around.chipset.is_foreign() && !around.has("pc-dimm") =>
            QEMU.config_unsupported("memory hotplug isn't supported by this QEMU binary");
        max.is_none() && around.whole() =>
            QEMU.config_unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
        nodes == 0 => DOMAIN.xml_detail("can't add memory backend as guest has no NUMA nodes configured");
        node.is_none() && !around.changes() =>
            QEMU.config_unsupported("target NUMA node needs to be specified for memory device");
        node.is_some_and(|node| node as usize >= nodes) =>
            DOMAIN.xml_detail(
                "can't add memory backend for guest node '{}' as the guest has only '{nodes}' NUMA nodes configured",
                node.unwrap_or_default()
            );
        max.is_none() =>
            QEMU.config_unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
        slot.is_some() && slot >= slots => QEMU.config_unsupported(
            "memory device slot '{}' exceeds slots count '{}'",
            slot.unwrap_or_default(),
            slots.unwrap_or_default()
        );
    }
    Ok(())
}

/// What else QEMU could not make of one.
pub(super) fn iommu(around: &Around<'_>, iommu: &Iommu) -> Result {
    let chipset = around.chipset;
    let virtio = iommu.model == IommuModel::Virtio;
    let bus = match &iommu.info.address {
        Some(Address::Pci(PciAddress { bus: Some(bus), .. })) => bus.0,
        _ => 0,
    };
    refuse! {
        iommu.model == IommuModel::Intel && chipset != Chipset::Q35 =>
            QEMU.config_unsupported("IOMMU device: 'intel' is only supported with Q35 machines");
        virtio && !matches!(chipset, Chipset::Q35 | Chipset::ArmVirt) =>
            QEMU.config_unsupported("IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines");
        virtio && !matches!(iommu.info.address, None | Some(Address::Pci(_))) =>
            QEMU.config_unsupported("IOMMU device: 'virtio' needs a PCI address");
        virtio && bus != 0 =>
            DOMAIN.xml_error("The device at PCI address 0000:{bus:02x}:00.0 needs to be an integrated device (bus=0)");
    }
    Ok(())
}

/// What is wrong with the definition as a whole.
pub(super) fn check(domain: &Domain) -> Result {
    let tuned = domain.cputune.as_ref().is_some_and(|c| !c.cachetune.is_empty() || !c.memorytune.is_empty());
    let kind = domain.os.type_.clone().unwrap_or_default();
    refuse! {
        tuned && domain.type_ != VirtType::Kvm => QEMU.config_unsupported("cachetune is only supported for KVM domains");
        domain.features.as_ref().and_then(|features| features.hpt.as_ref()).is_some_and(|hpt| *hpt != Hpt::default())
            && chipset(domain) != Chipset::Pseries =>
            QEMU.config_unsupported(
                "The 'hpt' feature is not supported for architecture '{}' or machine type '{}'",
                kind.arch.unwrap_or_default(),
                kind.machine.unwrap_or_default()
            );
    }
    Ok(())
}
