//! Disks: block nodes for their images, filters on top, a `-device` for the guest's side.

mod disk;
mod floppy;
mod image;
mod objects;
mod protocol;

use virtwire_conf::domain::disk::{Disk, DiskBus, DiskDevice, DiskSource, Iotune, StorageType};
use virtwire_conf::domain::os::BootDevice;
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::boot::boot_index;
use super::chardev::Backend;
use super::{Context, Json, alias};
use crate::command::{CommandLine, escape};
pub(crate) use disk::has_one_number;
use image::is_on;
pub(crate) use image::{Image, chain};
pub(super) use objects::managed_helper;
pub(crate) use objects::secrets_of;

/// The object behind all SCSI reservations that libvirt looks after.
const MANAGED_HELPER: &str = "pr-helper0";

pub(crate) fn disks(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) -> Result<(), VirtError> {
    let boot = boot_indexes(domain);
    floppy::controller(line, domain, &boot);
    for (disk, boot) in domain.devices.disks.iter().zip(boot) {
        if comes_later(disk) {
            continue;
        }
        if bus(disk) == Some(DiskBus::Sd) {
            sd_card(line, disk);
            continue;
        }
        // A floppy's place in the boot order is its controller's to know.
        let boot = boot.filter(|_| bus(disk) != Some(DiskBus::Fdc));
        self::disk(line, domain, (disk, boot), context)?;
    }
    Ok(())
}

/// One disk, and where it stands in the boot order.
pub(super) fn disk(
    line: &mut CommandLine,
    domain: &Domain,
    (disk, boot): (&Disk, Option<u32>),
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let end = match disk.type_ {
        StorageType::Vhostuser => Some(disk::End::Chardev(vhost_user(line, disk))),
        _ => backend(line, disk, context)?.map(disk::End::Node),
    };
    disk::device(domain, disk, end, boot)?.add(line);
    Ok(())
}

fn bus(disk: &Disk) -> Option<DiskBus> {
    disk.target.as_ref().and_then(|target| target.bus)
}

/// Whether a disk is plugged in once QEMU runs, over an image that is shared till then.
fn comes_later(disk: &Disk) -> bool {
    disk.transient.as_ref().is_some_and(|transient| transient.share_backing == Some(YesNo::Yes))
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
pub(crate) fn backend(
    line: &mut CommandLine,
    disk: &Disk,
    context: &Context<'_>,
) -> Result<Option<String>, VirtError> {
    let chain = chain(disk);
    let Some(top) = chain.first() else { return Ok(None) };
    for image in chain.iter().rev() {
        image.add(line, context)?;
    }
    let mut node = top.node();
    if let Some(name) = copy_on_read(disk) {
        let filter = Json::node("copy-on-read").with("node-name", name.as_str()).with("file", node);
        filter.with("discard", "unmap").add(line);
        node = name;
    }
    for (name, group) in filters(disk, &chain) {
        Json::node("throttle")
            .with("node-name", name.as_str())
            .with("throttle-group", group_id(group))
            .with("file", node)
            .add(line);
        node = name;
    }
    Ok(Some(node))
}

/// The last number that disks have in the names of their nodes.
pub(crate) fn last_number(domain: &Domain) -> u32 {
    let last = |disk: &Disk| {
        let image = chain(disk).iter().map(|image| image.number).max().unwrap_or_default();
        let index = disk.source.as_ref().and_then(|source| source.index).unwrap_or_default();
        let filters = disk.throttlefilters.as_ref().map_or(0, |filters| filters.throttlefilter.len());
        image.max(index) + u32::try_from(filters).unwrap_or_default()
    };
    domain.devices.disks.iter().map(last).max().unwrap_or_default()
}

/// The node of an iSCSI device that is no disk, without its name; its secret before it.
pub(super) fn iscsi_node(
    line: &mut CommandLine,
    source: &DiskSource,
    number: u32,
    context: &Context<'_>,
) -> Result<Json, VirtError> {
    let secret = format!("libvirt-{number}-backend-secret0");
    if let Some(reference) = source.auth.as_ref().and_then(|auth| auth.secret.as_ref()) {
        context.vault.object(secret.as_str(), context.vault.value(reference)?).add(line);
    }
    protocol::iscsi(source, source.auth.as_ref(), secret)
}

/// The node that a disk's format is, without what limits it; `None` for an empty drive.
pub(crate) fn top_node(disk: &Disk) -> Option<String> {
    chain(disk).first().map(Image::node)
}

/// The node of the storage behind the image of this number.
pub(crate) fn storage_node(number: u32) -> String {
    format!("libvirt-{number}-storage")
}

/// The names of a disk's nodes in the order in which they are made.
pub(crate) fn nodes(disk: &Disk) -> Vec<String> {
    let chain = chain(disk);
    if chain.is_empty() {
        return Vec::new();
    }
    let mut nodes: Vec<_> = chain.iter().rev().flat_map(Image::nodes).collect();
    nodes.extend(copy_on_read(disk));
    nodes.extend(filters(disk, &chain).map(|(name, _)| name));
    nodes
}

/// The filter that copies what is read, where there is one.
pub(crate) fn copy_on_read(disk: &Disk) -> Option<String> {
    let target = disk.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
    is_on(disk.driver.as_ref().and_then(|driver| driver.copy_on_read))
        .then(|| format!("libvirt-CoR-{target}"))
}

/// The throttle filters of a disk and their groups, the lowest first. Their numbers go on from the images'.
fn filters<'a>(disk: &'a Disk, chain: &[Image<'_>]) -> impl Iterator<Item = (String, &'a str)> {
    let first = 1 + chain.iter().map(|image| image.number).max().unwrap_or_default();
    let filters = disk.throttlefilters.iter().flat_map(|filters| &filters.throttlefilter);
    (first..).zip(filters).map(|(number, filter)| (format!("libvirt-{number}-filter"), filter.group.as_str()))
}

/// The socket to a process that serves the disk; its name.
fn vhost_user(line: &mut CommandLine, disk: &Disk) -> String {
    let id = format!("chr-vu-{}", alias(&disk.info));
    let source = disk.source.as_ref();
    let path = source.and_then(|source| source.path.as_deref()).unwrap_or_default();
    let reconnect = source.and_then(|source| source.reconnect.as_ref());
    let reconnect = reconnect.filter(|reconnect| reconnect.enabled == Some(YesNo::Yes));
    let reconnect = reconnect.and_then(|reconnect| reconnect.timeout);
    Backend::new("socket")
        .with("path", path)
        .with_if("reconnect-ms", reconnect.map(|seconds| u64::from(seconds) * 1000))
        .add(line, &id);
    id
}

/// A card in a slot that the board has: QEMU's old way, there is no other.
fn sd_card(line: &mut CommandLine, disk: &Disk) {
    let source = disk.source.as_ref();
    let path = source.and_then(|source| source.file.as_deref().or(source.dev.as_deref()));
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw");
    let letter = disk.target.as_ref().and_then(|target| target.dev.as_deref()?.as_bytes().get(2));
    let index = letter.map_or(0, |letter| letter.saturating_sub(b'a'));
    let file = path.map_or(String::new(), |path| format!("file={},format={format},", escape(path)));
    let read_only = if disk.readonly { ",readonly=on" } else { "" };
    line.option("-drive", format!("{file}if=sd,index={index}{read_only}"));
}

/// QEMU's name of the limits of a name.
pub(crate) fn group_id(group: &str) -> String {
    format!("throttle-{group}")
}

/// The limits that several disks share.
pub(super) fn throttle_groups(line: &mut CommandLine, domain: &Domain) {
    let groups = domain.throttlegroups.iter().flat_map(|groups| &groups.throttlegroup).map(|group| &group.0);
    let limits =
        |group: &&Iotune| **group != Iotune { group_name: group.group_name.clone(), ..Iotune::default() };
    for group in groups.filter(limits) {
        let name = group.group_name.as_deref().unwrap_or_default();
        Json::object("throttle-group", group_id(name)).with("limits", group_limits(group)).add(line);
    }
}

/// QEMU's names of the limits; what is not given is no limit, but how long a burst lasts has a default of its own.
pub(crate) fn group_limits(tune: &Iotune) -> Json {
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
    let all = kinds.iter().fold(Json::part(), |all, (name, limit)| all.with(name, limit.unwrap_or_default()));
    lengths.iter().fold(all, |all, (name, length)| all.with_some(name, *length))
}
