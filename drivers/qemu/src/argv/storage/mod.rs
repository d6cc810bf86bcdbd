//! Disks: block nodes for their images, filters on top, a `-device` for the guest's side.

mod disk;
mod floppy;
mod image;
mod objects;
mod protocol;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskDevice, Iotune, StorageType};
use virtwire_conf::domain::os::BootDevice;
use virtwire_protocol::VirtError;

use super::machine::boot_index;
use super::{Context, Props, alias};
use crate::command::{CommandLine, escape};
use image::is_on;
pub(super) use objects::managed_helper;
pub(crate) use objects::secrets_of;

/// The object behind all SCSI reservations that libvirt looks after.
const MANAGED_HELPER: &str = "pr-helper0";

pub(crate) fn disks(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) -> Result<(), VirtError> {
    let boot = boot_indexes(domain);
    floppy::controller(line, domain, &boot);
    for (disk, boot) in domain.devices.disks.iter().zip(boot) {
        if bus(disk) == Some(DiskBus::Sd) {
            sd_card(line, disk);
            continue;
        }
        let end = match disk.type_ {
            StorageType::Vhostuser => Some(disk::End::Chardev(vhost_user(line, disk))),
            _ => backend(line, disk, context)?.map(disk::End::Node),
        };
        // A floppy's place in the boot order is its controller's to know.
        let boot = boot.filter(|_| bus(disk) != Some(DiskBus::Fdc));
        disk::device(domain, disk, end, boot)?.add(line);
    }
    Ok(())
}

fn bus(disk: &Disk) -> Option<DiskBus> {
    disk.target.as_ref().and_then(|target| target.bus)
}

/// Where each disk stands in the boot order. `<boot dev>` means the first disk of its kind.
fn boot_indexes(domain: &Domain) -> Vec<Option<u32>> {
    let mut kinds = vec![BootDevice::Cdrom, BootDevice::Fd, BootDevice::Hd];
    let place = |disk: &Disk| {
        let kind = match disk.device {
            DiskDevice::Cdrom => BootDevice::Cdrom,
            DiskDevice::Floppy => BootDevice::Fd,
            DiskDevice::Disk | DiskDevice::Lun => BootDevice::Hd,
        };
        let first = kinds.iter().position(|of| *of == kind).map(|at| kinds.swap_remove(at));
        let said = disk.info.boot.as_ref().map(|boot| boot.order.0.get());
        said.or_else(|| boot_index(domain, first?))
    };
    domain.devices.disks.iter().map(place).collect()
}

/// All nodes of a disk; the name of the one that the device uses, `None` for an empty drive.
fn backend(line: &mut CommandLine, disk: &Disk, context: &Context<'_>) -> Result<Option<String>, VirtError> {
    let chain = image::chain(disk);
    let Some(top) = chain.first() else { return Ok(None) };
    for image in chain.iter().rev() {
        image.add(line, context)?;
    }
    let mut node = top.node();
    if is_on(disk.driver.as_ref().and_then(|driver| driver.copy_on_read)) {
        let target = disk.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
        let name = format!("libvirt-CoR-{target}");
        let filter = Props::new("copy-on-read").with("node-name", name.as_str()).with("file", node);
        filter.with("discard", "unmap").add_to(line, "-blockdev");
        node = name;
    }
    let first = 1 + chain.iter().map(|image| image.number).max().unwrap_or_default();
    let filters = disk.throttlefilters.iter().flat_map(|filters| &filters.throttlefilter);
    for (number, filter) in (first..).zip(filters) {
        let name = format!("libvirt-{number}-filter");
        Props::new("throttle")
            .with("node-name", name.as_str())
            .with("throttle-group", throttle_id(&filter.group))
            .with("file", node)
            .add_to(line, "-blockdev");
        node = name;
    }
    Ok(Some(node))
}

/// The socket to a process that serves the disk; its name.
fn vhost_user(line: &mut CommandLine, disk: &Disk) -> String {
    let id = format!("chr-vu-{}", alias(&disk.info));
    let source = disk.source.as_ref();
    let path = source.and_then(|source| source.path.as_deref()).unwrap_or_default();
    let reconnect = source.and_then(|source| source.reconnect.as_ref());
    let reconnect = reconnect.filter(|reconnect| reconnect.enabled == Some(virtwire_conf::YesNo::Yes));
    let reconnect = reconnect.and_then(|reconnect| reconnect.timeout);
    let reconnect =
        reconnect.map_or(String::new(), |seconds| format!(",reconnect-ms={}", u64::from(seconds) * 1000));
    line.option("-chardev", format!("socket,id={id},path={}{reconnect}", escape(path)));
    id
}

/// A card in a slot that the board has: QEMU's old way, there is no other.
fn sd_card(line: &mut CommandLine, disk: &Disk) {
    let source = disk.source.as_ref();
    let path = source.and_then(|source| source.file.as_deref().or(source.dev.as_deref()));
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw");
    let letter = disk.target.as_ref().and_then(|target| target.dev.as_deref()?.bytes().nth(2));
    let index = letter.map_or(0, |letter| letter.saturating_sub(b'a'));
    let file = path.map_or(String::new(), |path| format!("file={},format={format},", escape(path)));
    let read_only = if disk.readonly { ",readonly=on" } else { "" };
    line.option("-drive", format!("{file}if=sd,index={index}{read_only}"));
}

fn throttle_id(group: &str) -> String {
    format!("throttle-{group}")
}

/// The limits that several disks share.
pub(super) fn throttle_groups(line: &mut CommandLine, domain: &Domain) {
    for group in domain.throttlegroups.iter().flat_map(|groups| &groups.throttlegroup) {
        let name = group.group_name.as_deref().unwrap_or_default();
        Props::object("throttle-group", throttle_id(name))
            .with("limits", limits(group))
            .add_to(line, "-object");
    }
}

/// QEMU's names of the limits; what is not given is no limit, but how long a burst lasts has a default of its own.
fn limits(tune: &Iotune) -> Props {
    let kinds = [
        ("bps-total", tune.total_bytes_sec),
        ("bps-read", tune.read_bytes_sec),
        ("bps-write", tune.write_bytes_sec),
        ("iops-total", tune.total_iops_sec),
        ("iops-read", tune.read_iops_sec),
        ("iops-write", tune.write_iops_sec),
        ("bps-total-max", tune.total_bytes_sec_max),
        ("bps-read-max", tune.read_bytes_sec_max),
        ("bps-write-max", tune.write_bytes_sec_max),
        ("iops-total-max", tune.total_iops_sec_max),
        ("iops-read-max", tune.read_iops_sec_max),
        ("iops-write-max", tune.write_iops_sec_max),
        ("iops-size", tune.size_iops_sec),
    ];
    let lengths = [
        ("bps-total-max-length", tune.total_bytes_sec_max_length),
        ("bps-read-max-length", tune.read_bytes_sec_max_length),
        ("bps-write-max-length", tune.write_bytes_sec_max_length),
        ("iops-total-max-length", tune.total_iops_sec_max_length),
        ("iops-read-max-length", tune.read_iops_sec_max_length),
        ("iops-write-max-length", tune.write_iops_sec_max_length),
    ];
    let all =
        kinds.iter().fold(Props::default(), |all, (name, limit)| all.with(name, limit.unwrap_or_default()));
    lengths.iter().fold(all, |all, (name, length)| all.with_some(name, *length))
}
