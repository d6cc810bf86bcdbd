//! The guest's side of a disk.

use serde_json::Value;
use virtwire_conf::domain::device::{Address, DriveAddress};
use virtwire_conf::domain::disk::{
    Disk, DiskBus, DiskCache, DiskDevice, DiskDriver, DiskIothread, ErrorPolicy, GeometryTrans,
};
use virtwire_conf::domain::misc::{Controller, ControllerType};
use virtwire_conf::{Domain, OnOff};
use virtwire_protocol::VirtError;

use super::super::device::controller;
use super::super::{Device, Json, alias};
use super::image::cache_mode;
use crate::error::QEMU;

/// The host's side, as the device knows it.
pub(super) enum End {
    /// A block node.
    Node(String),
    /// The socket to a process that serves the disk.
    Chardev(String),
}

/// The device of a disk.
pub(super) fn device(
    domain: &Domain,
    disk: &Disk,
    end: Option<End>,
    boot: Option<u32>,
) -> Result<Device, VirtError> {
    let device = place(domain, disk, matches!(end, Some(End::Chardev(_))))?;
    let device = device.with_if("share-rw", disk.shareable.then_some(true));
    let device = match end {
        Some(End::Node(node)) => device.with("drive", node),
        Some(End::Chardev(id)) => device.with("chardev", id),
        None => device,
    };
    let target = disk.target.as_ref();
    let sizes = disk.blockio.as_ref();
    let removable = target.and_then(|target| target.ejectable.0);
    let removable = match super::bus(disk) {
        Some(DiskBus::Usb) => Some(removable == Some(OnOff::On)),
        Some(DiskBus::Scsi) => removable.map(|state| state == OnOff::On),
        _ => None,
    };
    let arch = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref());
    // Only loaders of s390 look at it.
    let parameter = disk.info.boot.as_ref().and_then(|boot| boot.loadparm.clone());
    let parameter = parameter.filter(|_| matches!(arch, Some("s390x" | "s390")));
    let wwn = disk.wwn.as_deref().and_then(|wwn| u64::from_str_radix(wwn.trim_start_matches("0x"), 16).ok());
    let device = device
        .with("id", alias(&disk.info))
        .with_if("bootindex", boot)
        .with_if("loadparm", parameter)
        .with_some("logical_block_size", sizes.and_then(|sizes| sizes.logical_block_size))
        .with_some("physical_block_size", sizes.and_then(|sizes| sizes.physical_block_size))
        .with_if("discard_granularity", sizes.and_then(|sizes| sizes.discard_granularity))
        .with_if("wwn", wwn)
        .with_some("rotation_rate", target.and_then(|target| target.rotation_rate))
        .with_if("vendor", disk.vendor.clone())
        .with_if("product", disk.product.clone())
        .with_if("removable", removable)
        .with_if("write-cache", write_cache(disk));
    Ok(geometry(device, disk)
        .with_if("serial", disk.serial.as_deref().map(escaped))
        .and(errors(disk.driver.as_ref())))
}

/// The driver and where it is plugged in.
fn place(domain: &Domain, disk: &Disk, vhost: bool) -> Result<Device, VirtError> {
    let cd = disk.device == DiskDevice::Cdrom;
    let ide = if cd { "ide-cd" } else { "ide-hd" };
    let address = disk.info.address.as_ref();
    let bus = |kind, at: &DriveAddress| controller(domain, kind, at.controller.into()).unwrap_or("ide");
    Ok(match (super::bus(disk), address) {
        (Some(DiskBus::Virtio), _) => virtio(disk, vhost).at(domain, &disk.info),
        (Some(DiskBus::Ide), Some(Address::Drive(at))) => {
            let bus = format!("{}.{}", bus(ControllerType::Ide, at), at.bus);
            Device::new(ide).with("bus", bus).with("unit", at.unit)
        }
        (Some(DiskBus::Sata), Some(Address::Drive(at))) => {
            Device::new(ide).with("bus", format!("{}.{}", bus(ControllerType::Sata, at), at.unit))
        }
        (Some(DiskBus::Scsi), Some(Address::Drive(at))) => scsi(domain, disk, at),
        (Some(DiskBus::Usb), _) => Device::new("usb-storage").at(domain, &disk.info),
        (Some(DiskBus::Fdc), Some(Address::Drive(at))) => Device::new("floppy").with("unit", at.unit),
        (bus, _) => {
            let bus = bus.map_or("none", DiskBus::as_str);
            return Err(QEMU.internal_error(format_args!("unsupported disk bus '{bus}' with device setup")));
        }
    })
}

fn virtio(disk: &Disk, vhost: bool) -> Device {
    let driver = disk.driver.as_ref();
    let base = if vhost { "vhost-user-blk" } else { "virtio-blk" };
    let options = driver.map(|driver| &driver.virtio);
    let device = Device::virtio(base, disk.info.address.as_ref(), disk.model, options);
    let Some(driver) = driver else { return device };
    let threads = driver.iothreads.as_ref().map(|threads| threads.iothread.iter().map(queues));
    device
        .with_if("iothread", driver.iothread.map(|id| format!("iothread{id}")))
        .switch("ioeventfd", driver.ioeventfd)
        .switch("event_idx", driver.event_idx)
        .with_some("num-queues", driver.queues)
        .with_some("queue-size", driver.queue_size)
        .with_if("iothread-vq-mapping", threads.map(Iterator::collect::<Vec<Value>>))
}

/// A thread, and the queues that it has if not all.
fn queues(thread: &DiskIothread) -> Value {
    let queues: Vec<_> = thread.queue.iter().map(|queue| queue.id).collect();
    let props = Json::part().with("iothread", format!("iothread{}", thread.id));
    props.with_if("vqs", (!queues.is_empty()).then_some(queues)).into()
}

fn scsi(domain: &Domain, disk: &Disk, at: &DriveAddress) -> Device {
    let driver = match disk.device {
        DiskDevice::Lun => "scsi-block",
        DiskDevice::Cdrom => "scsi-cd",
        DiskDevice::Disk | DiskDevice::Floppy => "scsi-hd",
    };
    let bus = controller(domain, ControllerType::Scsi, at.controller.into()).unwrap_or("scsi0");
    let device = Device::new(driver).with("bus", format!("{bus}.0"));
    let device = if has_one_number(domain, at.controller) {
        device.with("scsi-id", at.unit)
    } else {
        device.with("channel", at.bus).with("scsi-id", at.target).with("lun", at.unit)
    };
    // The device identification page of the guest's disk stays what it was with QEMU's old `-drive`.
    let id = disk.serial.clone().unwrap_or_else(|| format!("drive-{}", alias(&disk.info)));
    device.with_if("device_id", (disk.device != DiskDevice::Lun).then_some(id))
}

/// Whether disks of a SCSI controller have one number and no more.
pub(crate) fn has_one_number(domain: &Domain, index: u32) -> bool {
    let is = |controller: &&Controller| {
        controller.type_ == ControllerType::Scsi
            && controller.index.and_then(|n| u32::try_from(n).ok()) == Some(index)
    };
    let found = domain.devices.controllers.iter().find(is);
    found.is_some_and(|controller| controller.model.as_deref() == Some("lsilogic"))
}

/// Whether the guest is told of a write cache; a disk of the host's has its own.
fn write_cache(disk: &Disk) -> Option<&'static str> {
    if disk.device == DiskDevice::Lun || super::bus(disk) == Some(DiskBus::Fdc) {
        return None;
    }
    Some(match cache_mode(disk)? {
        DiskCache::Writethrough | DiskCache::Directsync => "off",
        DiskCache::None | DiskCache::Writeback | DiskCache::Unsafe => "on",
    })
}

fn geometry(device: Device, disk: &Disk) -> Device {
    let Some(geometry) = &disk.geometry else { return device };
    device
        .with_some("cyls", geometry.cyls)
        .with_some("heads", geometry.heads)
        .with_some("secs", geometry.secs)
        .with_if("bios-chs-trans", geometry.trans.map(GeometryTrans::as_str))
}

/// A serial number as libvirt gives it to QEMU.
fn escaped(serial: &str) -> String {
    serial.replace(' ', "\\ ")
}

/// What QEMU does about errors.
fn errors(driver: Option<&DiskDriver>) -> Json {
    let word = |policy| match policy {
        ErrorPolicy::Enospace => "enospc",
        other => other.as_str(),
    };
    let write = driver.and_then(|driver| driver.error_policy);
    let read = driver.and_then(|driver| driver.rerror_policy);
    // There is no lack of space when reading.
    let read = read.or(write.filter(|policy| *policy != ErrorPolicy::Enospace));
    Json::part().with_if("werror", write.map(word)).with_if("rerror", read.map(word))
}
