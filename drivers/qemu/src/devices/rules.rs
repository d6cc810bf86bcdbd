//! What libvirt refuses of devices that come to a guest that runs, or shall leave it, and in which words it misses one.

use std::path::Path;

use virtwire_conf::change::{called, find_interface};
use virtwire_conf::domain::chardev::{Console, ConsoleTargetType, RngModel};
use virtwire_conf::domain::device::{Address, DeviceInfo};
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskDevice, FilesystemDriverType};
use virtwire_conf::domain::display::{Input, InputBus};
use virtwire_conf::domain::misc::{
    Controller, ControllerType, Hostdev, HostdevMode, HostdevType, WatchdogModel,
};
use virtwire_conf::domain::one::Device;
use virtwire_conf::{Domain, ParseOptions};
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;

use crate::disks::{path_of, target};
use crate::error::{QEMU, Result};
use crate::usb;

/// Whether devices of its kind are numbered in the order in which they come; others are named after their places.
pub(super) fn is_counted(device: &Device) -> bool {
    !matches!(device, Device::Disk(_) | Device::Controller(_) | Device::Memory(_) | Device::Vsock(_))
}

/// Whether a device may come to a guest that runs.
pub(super) fn may_come(domain: &Domain, device: &Device) -> Result<()> {
    match device {
        Device::Disk(disk) => disk_may_come(domain, disk),
        Device::Controller(controller) => controller_may_come(domain, controller),
        Device::Hostdev(hostdev) => hostdev_may_come(hostdev),
        Device::Input(input) => input_may_come(input),
        Device::Rng(rng) => {
            let path = rng.backend.as_ref().filter(|backend| backend.model == RngModel::Random);
            path.and_then(|backend| backend.path.as_deref()).map_or(Ok(()), is_accessible)
        }
        Device::Console(console) if is_serial(console) => {
            Err(QEMU.config_unsupported("unsupported console target type serial"))
        }
        Device::Serial(_) | Device::Parallel(_) | Device::Channel(_) | Device::Console(_) => {
            match domain.holds(device) {
                true => Err(QEMU.operation_invalid("chardev already exists")),
                false => Ok(()),
            }
        }
        Device::Watchdog(watchdog) if watchdog.model != WatchdogModel::I6300esb => {
            let model = watchdog.model;
            let text = format_args!("hotplug of watchdog model '{model}' is not supported");
            Err(QEMU.operation_unsupported(text))
        }
        Device::Vsock(_) if domain.devices.vsock.is_some() => {
            Err(QEMU.operation_invalid("the domain already has a vsock device"))
        }
        Device::Filesystem(fs)
            if fs.driver.as_ref().and_then(|driver| driver.type_) != Some(FilesystemDriverType::Virtiofs) =>
        {
            Err(QEMU.operation_unsupported("only virtiofs filesystems can be hotplugged"))
        }
        Device::Interface(_)
        | Device::Lease(_)
        | Device::Redirdev(_)
        | Device::Memory(_)
        | Device::Shmem(_)
        | Device::Watchdog(_)
        | Device::Vsock(_)
        | Device::Filesystem(_) => Ok(()),
        other => Err(live_unsupported("attach", other)),
    }
}

fn live_unsupported(what: &str, device: &Device) -> VirtError {
    QEMU.operation_unsupported(format_args!("live {what} of device '{}' is not supported", called(device)))
}

fn is_serial(console: &Console) -> bool {
    let kind = console.target.as_ref().and_then(|target| target.type_);
    kind.is_none_or(|kind| kind == ConsoleTargetType::Serial)
}

fn bus(disk: &Disk) -> DiskBus {
    disk.target.as_ref().and_then(|target| target.bus).unwrap_or_default()
}

fn disk_may_come(domain: &Domain, disk: &Disk) -> Result<()> {
    let shown = |disk| path_of(disk).unwrap_or("(null)").to_owned();
    if let Some(other) = domain.devices.disks.iter().find(|other| target(other) == target(disk)) {
        let (name, old, new) = (target(disk), shown(other), shown(disk));
        let text = format_args!("target '{name}' duplicated for disk sources '{old}' and '{new}'");
        return Err(ErrorDomain::DOMAIN.xml_error(text));
    }
    if disk.device == DiskDevice::Floppy {
        return Err(QEMU.operation_unsupported("floppy device hotplug isn't supported"));
    }
    match bus(disk) {
        DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb => Ok(()),
        other => Err(QEMU.operation_unsupported(format_args!("disk bus '{other}' cannot be hotplugged."))),
    }
}

fn controller_may_come(domain: &Domain, controller: &Controller) -> Result<()> {
    let kind = controller.type_;
    if !matches!(kind, ControllerType::Scsi | ControllerType::VirtioSerial) {
        let text = format_args!("'{kind}' controller cannot be hot plugged.");
        return Err(QEMU.operation_unsupported(text));
    }
    let same = |other: &Controller| other.type_ == kind && other.index == controller.index;
    match controller.index.filter(|_| domain.devices.controllers.iter().any(same)) {
        Some(index) => Err(QEMU.operation_failed(format_args!("target {kind}:{index} already exists"))),
        None => Ok(()),
    }
}

/// The way from the host's devices to guests.
const VFIO: &str = "/dev/vfio/vfio";
/// The kernel's SCSI targets for guests.
const TARGETS: &str = "/sys/kernel/config/target/vhost/";

fn hostdev_may_come(hostdev: &Hostdev) -> Result<()> {
    let has_vfio = || Path::new(VFIO).exists();
    match hostdev.type_ {
        _ if hostdev.mode != HostdevMode::Subsystem => {
            let text = format_args!("hostdev mode '{}' is not supported in qemu", hostdev.mode);
            Err(QEMU.config_unsupported(text))
        }
        HostdevType::Pci if !has_vfio() => {
            Err(QEMU.config_unsupported("host doesn't support passthrough of host PCI devices"))
        }
        HostdevType::Mdev if !has_vfio() => {
            Err(QEMU.config_unsupported("Mediated host device assignment requires VFIO support"))
        }
        HostdevType::ScsiHost => {
            let name = hostdev.source.as_ref().and_then(|source| source.wwpn.as_deref()).unwrap_or_default();
            is_accessible(&format!("{TARGETS}/{name}"))
        }
        HostdevType::Usb => usb::check_place(hostdev),
        _ => Ok(()),
    }
}

fn is_accessible(path: &str) -> Result<()> {
    let found = std::fs::metadata(path).map(drop);
    found.map_err(|e| VirtError::system(QEMU, &e, format_args!("Path '{path}' is not accessible")))
}

fn input_may_come(input: &Input) -> Result<()> {
    let source = input.source.as_ref();
    let device = source.and_then(|source| source.dev.as_deref().or(source.evdev.as_deref()));
    device.map_or(Ok(()), is_accessible)?;
    match input.bus {
        Some(InputBus::Usb | InputBus::Virtio) => Ok(()),
        other => Err(QEMU.operation_unsupported(format_args!(
            "input device on bus '{}' cannot be hot plugged.",
            other.unwrap_or_default()
        ))),
    }
}

/// Whether a device may leave a guest that runs.
pub(super) fn may_go(domain: &Domain, device: &Device) -> Result<()> {
    match device {
        Device::Disk(disk) => disk_may_go(disk),
        Device::Controller(controller) => {
            controller_may_go(controller)?;
            match is_busy(domain, controller) {
                true => Err(QEMU.operation_failed("device cannot be detached: device is busy")),
                false => Ok(()),
            }
        }
        Device::Watchdog(watchdog) if watchdog.model != WatchdogModel::I6300esb => {
            let model = watchdog.model;
            let text = format_args!("hot unplug of watchdog of model {model} is not supported");
            Err(QEMU.operation_unsupported(text))
        }
        Device::Input(input) if !matches!(input.bus, Some(InputBus::Usb | InputBus::Virtio)) => Err(QEMU
            .operation_unsupported(format_args!(
                "input device on bus '{}' cannot be detached",
                input.bus.unwrap_or_default()
            ))),
        Device::Input(_)
        | Device::Interface(_)
        | Device::Lease(_)
        | Device::Hostdev(_)
        | Device::Redirdev(_)
        | Device::Serial(_)
        | Device::Parallel(_)
        | Device::Channel(_)
        | Device::Console(_)
        | Device::Rng(_)
        | Device::Memory(_)
        | Device::Shmem(_)
        | Device::Watchdog(_)
        | Device::Vsock(_)
        | Device::Filesystem(_) => Ok(()),
        other => Err(live_unsupported("detach", other)),
    }
}

fn disk_may_go(disk: &Disk) -> Result<()> {
    match (disk.device, bus(disk)) {
        (DiskDevice::Disk | DiskDevice::Lun, DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb) => Ok(()),
        (DiskDevice::Cdrom, DiskBus::Scsi | DiskBus::Usb) => Ok(()),
        (DiskDevice::Disk | DiskDevice::Lun, _) => {
            Err(QEMU.operation_unsupported("This type of disk cannot be hot unplugged"))
        }
        (kind, _) => {
            Err(QEMU.operation_unsupported(format_args!("disk device type '{kind}' cannot be detached")))
        }
    }
}

fn controller_may_go(controller: &Controller) -> Result<()> {
    match controller.type_ {
        ControllerType::Scsi => Ok(()),
        kind => Err(QEMU.operation_unsupported(format_args!("'{kind}' controller cannot be hot unplugged."))),
    }
}

/// Whether a SCSI controller has devices.
fn is_busy(domain: &Domain, controller: &Controller) -> bool {
    let sits = |info: &DeviceInfo| match &info.address {
        Some(Address::Drive(at)) => i32::try_from(at.controller).ok() == controller.index,
        _ => false,
    };
    let mut disks = domain.devices.disks.iter().filter(|disk| bus(disk) == DiskBus::Scsi);
    let mut hostdevs = domain.devices.hostdevs.iter().filter(|dev| dev.type_ == HostdevType::Scsi);
    disks.any(|disk| sits(&disk.info)) || hostdevs.any(|hostdev| sits(&hostdev.info))
}

/// The device of a running guest that a client describes.
///
/// # Errors
/// There is none, or devices of its kind do not go.
pub(super) fn find(domain: &Domain, device: &Device, options: &ParseOptions) -> Result<Device> {
    if let Device::Controller(controller) = device {
        controller_may_go(controller)?;
    }
    let at = match device {
        Device::Disk(disk) => domain.devices.disks.iter().position(|other| target(other) == target(disk)),
        Device::Interface(wanted) => Some(find_interface(domain, wanted)?),
        Device::Serial(_) | Device::Watchdog(_) | Device::Rng(_) | Device::Lease(_) => {
            domain.find(device, options)?
        }
        other => {
            let found = domain.find(other, options)?;
            if found.is_none() {
                may_go(domain, other)?;
            }
            found
        }
    };
    let found = at.and_then(|at| device.siblings(&domain.devices).into_iter().nth(at));
    found.ok_or_else(|| missing(device))
}

/// What is said where there is no such device.
fn missing(device: &Device) -> VirtError {
    let none = |text: String| QEMU.device_missing(text);
    match device {
        Device::Disk(disk) => none(format!("disk {} not found", target(disk))),
        Device::Controller(controller) => {
            let index = controller.index.unwrap_or(-1);
            none(format!("controller {}:{index} not found", controller.type_))
        }
        Device::Input(_) => none("matching input device not found".to_owned()),
        Device::Vsock(_) => none("matching vsock device not found".to_owned()),
        Device::Filesystem(_) => none("matching filesystem not found".to_owned()),
        Device::Hostdev(hostdev) => none(missing_hostdev(hostdev)),
        Device::Rng(rng) => {
            let model = rng.backend.as_ref().map(|backend| backend.model).unwrap_or_default();
            none(format!("model '{model}' RNG device not present in domain configuration"))
        }
        Device::Memory(memory) => {
            none(format!("model '{}' memory device not present in the domain configuration", memory.model))
        }
        Device::Shmem(shmem) => {
            let model = shmem.model.as_ref().map_or("ivshmem", |model| model.type_.as_str());
            none(format!("model '{model}' shmem device not present in domain configuration"))
        }
        Device::Serial(_) | Device::Parallel(_) | Device::Channel(_) | Device::Console(_) => {
            none(format!("chr type '{}' device not present in domain configuration", device.kind()))
        }
        Device::Redirdev(_) => QEMU.operation_invalid("no matching redirdev was not found"),
        Device::Watchdog(_) => QEMU.operation_invalid("no matching watchdog was found"),
        Device::Lease(lease) => {
            let (key, space) = (lease.key.as_deref(), lease.lockspace.as_deref());
            QEMU.invalid_arg(format_args!(
                "Lease {} in lockspace {} does not exist",
                key.unwrap_or_default(),
                space.unwrap_or("(null)")
            ))
        }
        other => live_unsupported("detach", other),
    }
}

fn missing_hostdev(hostdev: &Hostdev) -> String {
    let source = hostdev.source.clone().unwrap_or_default();
    let at = source.address.clone().unwrap_or_default();
    match hostdev.type_ {
        HostdevType::Usb => match (&source.vendor, &source.product) {
            (Some(vendor), Some(product)) => format!(
                "host usb device vendor=0x{:04x} product=0x{:04x} not found",
                vendor.id.0, product.id.0
            ),
            _ => {
                let (bus, device) = (at.bus.unwrap_or_default(), at.device.unwrap_or_default());
                format!("host usb device {bus:0>3}.{device:03} not found")
            }
        },
        HostdevType::Pci => format!("host pci device {} not found", at.pci().shown()),
        HostdevType::Scsi => {
            let adapter = source.adapter.and_then(|adapter| adapter.name).unwrap_or_default();
            let (bus, target) = (at.bus.unwrap_or_default(), at.target.unwrap_or_default());
            let unit = at.unit.unwrap_or_default();
            format!("host scsi device {adapter}:{bus}:{target}.{unit} not found")
        }
        HostdevType::Mdev => format!("mediated device '{}' not found", at.uuid.unwrap_or_default()),
        _ => "host device not found".to_owned(),
    }
}
