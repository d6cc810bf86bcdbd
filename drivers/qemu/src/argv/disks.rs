//! Disks: a `-blockdev` for the storage, one for its format where that is not raw, a `-device` for the guest's side.

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskDevice, StorageType};
use virtwire_conf::domain::os::BootDevice;
use virtwire_protocol::VirtError;

use super::machine::boot_index;
use super::{Device, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

pub(crate) fn disks(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    // Node names count from the last disk, as libvirt numbers them.
    let count = domain.devices.disks.len();
    let mut booted = [false; 3];
    for (index, disk) in domain.devices.disks.iter().enumerate() {
        let number = disk.source.as_ref().and_then(|source| source.index);
        let node = storage(line, disk, number.map_or(count - index, |number| number as usize))?;
        let kind = match disk.device {
            DiskDevice::Cdrom => (BootDevice::Cdrom, 0),
            DiskDevice::Floppy => (BootDevice::Fd, 1),
            DiskDevice::Disk | DiskDevice::Lun => (BootDevice::Hd, 2),
        };
        // `<boot dev>` means the first disk of its kind.
        let first = !std::mem::replace(&mut booted[kind.1], true);
        let by_kind = if first { boot_index(domain, kind.0) } else { None };
        let boot = disk.info.boot.as_ref().map(|boot| boot.order.0.get()).or(by_kind);
        guest_side(domain, disk, node, boot)?.add(line);
    }
    Ok(())
}

/// The nodes below a disk; the name of the one that the device uses, `None` for an empty drive.
fn storage(line: &mut CommandLine, disk: &Disk, number: usize) -> Result<Option<String>, VirtError> {
    let Some(source) = &disk.source else { return Ok(None) };
    let (driver, path) = match (disk.type_, &source.file, &source.dev) {
        (StorageType::File, Some(file), _) => ("file", file),
        (StorageType::Block, _, Some(dev)) => ("host_device", dev),
        (StorageType::File | StorageType::Block, ..) => return Ok(None),
        (other, ..) => {
            let text = format_args!("disks of type '{}' cannot be started yet", other.as_str());
            return Err(QEMU.config_unsupported(text));
        }
    };
    let read_only = disk.readonly || disk.device == DiskDevice::Cdrom;
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw");
    let cache = disk.driver.as_ref().and_then(|driver| driver.cache).map(|cache| cache.as_str());
    let name = format!("libvirt-{number}-storage");
    let mut node = Map::from_iter([
        ("driver".to_owned(), json!(driver)),
        ("filename".to_owned(), json!(path)),
        ("node-name".to_owned(), json!(name)),
    ]);
    let direct = matches!(cache, Some("none" | "directsync"));
    let cache = cache.map(|cache| json!({"direct": direct, "no-flush": cache == "unsafe"}));
    if format == "raw" {
        node.insert("read-only".to_owned(), json!(read_only));
    } else {
        node.insert("auto-read-only".to_owned(), json!(true));
        node.insert("discard".to_owned(), json!("unmap"));
    }
    if let Some(cache) = &cache {
        node.insert("cache".to_owned(), cache.clone());
    }
    line.json("-blockdev", &Value::Object(node));
    if format == "raw" {
        return Ok(Some(name));
    }
    let top = format!("libvirt-{number}-format");
    let mut node = Map::from_iter([
        ("node-name".to_owned(), json!(top)),
        ("read-only".to_owned(), json!(read_only)),
        ("driver".to_owned(), json!(format)),
        ("file".to_owned(), json!(name)),
    ]);
    if let Some(cache) = cache {
        node.insert("cache".to_owned(), cache);
    }
    line.json("-blockdev", &Value::Object(node));
    Ok(Some(top))
}

fn guest_side(
    domain: &Domain,
    disk: &Disk,
    node: Option<String>,
    boot: Option<u32>,
) -> Result<Device, VirtError> {
    let bus = disk.target.as_ref().and_then(|target| target.bus);
    let cd = disk.device == DiskDevice::Cdrom;
    let address = disk.info.address.as_ref();
    let device = match (bus, address) {
        (Some(DiskBus::Virtio), _) => Device::new("virtio-blk-pci").at(domain, address)?,
        (Some(DiskBus::Ide), Some(Address::Drive(at))) => {
            let driver = if cd { "ide-cd" } else { "ide-hd" };
            Device::new(driver).with("bus", format!("ide.{}", at.bus)).with("unit", at.unit)
        }
        (Some(DiskBus::Sata), Some(Address::Drive(at))) => {
            let driver = if cd { "ide-cd" } else { "ide-hd" };
            let controller =
                if at.controller == 0 { "ide".to_owned() } else { format!("sata{}", at.controller) };
            Device::new(driver).with("bus", format!("{controller}.{}", at.unit))
        }
        (Some(DiskBus::Scsi), Some(Address::Drive(at))) => {
            let driver = if cd { "scsi-cd" } else { "scsi-hd" };
            Device::new(driver)
                .with("bus", format!("scsi{}.0", at.controller))
                .with("channel", 0)
                .with("scsi-id", at.target)
                .with("lun", at.unit)
        }
        (Some(DiskBus::Usb), _) => Device::new("usb-storage").at(domain, address)?,
        (Some(DiskBus::Fdc), Some(Address::Drive(at))) => Device::new("floppy").with("unit", at.unit),
        (bus, _) => {
            let bus = bus.map_or("none", |bus| bus.as_str());
            return Err(QEMU.config_unsupported(format_args!("disks on bus '{bus}' cannot be started yet")));
        }
    };
    let cache = disk.driver.as_ref().and_then(|driver| driver.cache);
    let write_cache = cache.map(|cache| if cache.as_str() == "writethrough" { "off" } else { "on" });
    Ok(device
        .with_if("share-rw", disk.shareable.then_some(true))
        .with_if("drive", node)
        .with("id", alias(&disk.info))
        .with_if("bootindex", boot)
        .with_if("write-cache", write_cache)
        .with_if("serial", disk.serial.clone()))
}
