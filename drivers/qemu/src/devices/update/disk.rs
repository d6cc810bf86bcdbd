//! Of a disk, the medium can change, and what becomes of it when it is missing.

use std::sync::Arc;

use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::{Disk, DiskDevice, DiskDriver, DiskSource, Iotune};

use virtwire_protocol::VirtError;

use super::fields::{Field, changed, flag, keeps_names, shown};
use super::media;
use crate::affect::edit_live;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::Guest;

macro_rules! driver {
    ($field:ident) => {
        |disk| shown(&disk.driver.as_ref().and_then(|driver: &DiskDriver| driver.$field.clone()))
    };
}

macro_rules! limit {
    ($field:ident) => {
        |disk| shown(&disk.iotune.as_ref().and_then(|tune: &Iotune| tune.$field.clone()))
    };
}

macro_rules! of {
    ($part:ident $field:ident) => {
        |disk| shown(&disk.$part.as_ref().and_then(|part| part.$field.clone()))
    };
}

/// What stays as it is while a guest runs, in libvirt's order and by its names.
const FIXED: &[Field<Disk>] = &[
    ("tray", of!(target tray)),
    ("removable", of!(target removable)),
    ("geometry cylinders", of!(geometry cyls)),
    ("geometry heads", of!(geometry heads)),
    ("geometry sectors", of!(geometry secs)),
    ("geometry trans", of!(geometry trans)),
    ("blockio logical_block_size", of!(blockio logical_block_size)),
    ("blockio physical_block_size", of!(blockio physical_block_size)),
    ("blkdeviotune total_bytes_sec", limit!(total_bytes_sec)),
    ("blkdeviotune read_bytes_sec", limit!(read_bytes_sec)),
    ("blkdeviotune write_bytes_sec", limit!(write_bytes_sec)),
    ("blkdeviotune total_iops_sec", limit!(total_iops_sec)),
    ("blkdeviotune read_iops_sec", limit!(read_iops_sec)),
    ("blkdeviotune write_iops_sec", limit!(write_iops_sec)),
    ("blkdeviotune total_bytes_sec_max", limit!(total_bytes_sec_max)),
    ("blkdeviotune read_bytes_sec_max", limit!(read_bytes_sec_max)),
    ("blkdeviotune write_bytes_sec_max", limit!(write_bytes_sec_max)),
    ("blkdeviotune total_iops_sec_max", limit!(total_iops_sec_max)),
    ("blkdeviotune read_iops_sec_max", limit!(read_iops_sec_max)),
    ("blkdeviotune write_iops_sec_max", limit!(write_iops_sec_max)),
    ("blkdeviotune size_iops_sec", limit!(size_iops_sec)),
    ("blkdeviotune group name", limit!(group_name)),
    ("serial", |disk| shown(&disk.serial)),
    ("wwn", |disk| shown(&disk.wwn)),
    ("vendor", |disk| shown(&disk.vendor)),
    ("product", |disk| shown(&disk.product)),
    ("cache", driver!(cache)),
    ("error_policy", driver!(error_policy)),
    ("rerror_policy", driver!(rerror_policy)),
    ("io", driver!(io)),
    ("ioeventfd", driver!(ioeventfd)),
    ("event_idx", driver!(event_idx)),
    ("copy_on_read", driver!(copy_on_read)),
    ("discard", driver!(discard)),
    ("iothread", driver!(iothread)),
    ("transient", |disk| flag(disk.transient.is_some())),
    ("readonly", |disk| flag(disk.readonly)),
    ("shared", |disk| flag(disk.shareable)),
];

/// Whether a disk is where it was.
///
/// # Errors
/// `VIR_ERR_OPERATION_UNSUPPORTED`
pub(super) fn stays_in_place(old: &Disk, new: &Disk) -> Result<()> {
    let place = |disk: &Disk| match &disk.info.address {
        Some(Address::Pci(at)) => {
            let part = |part: Option<u64>| part.unwrap_or_default();
            let (bus, slot) = (part(at.bus.map(|hex| hex.0)), part(at.slot.map(|hex| hex.0)));
            format!(
                "{}:{bus}:{slot}.{}",
                part(at.domain.map(|hex| hex.0)),
                part(at.function.map(|hex| hex.0))
            )
        }
        other => shown(other),
    };
    let bus = |disk: &Disk| disk.target.as_ref().and_then(|target| target.bus);
    let fields = [
        ("device", old.device == new.device),
        ("bus", bus(old) == bus(new)),
        ("address", new.info.address.is_none() || place(old) == place(new)),
    ];
    let changed = fields.into_iter().find(|(_, same)| !same);
    changed.map_or(Ok(()), |(field, _)| Err(cannot_modify(field)))
}

fn cannot_modify(field: &str) -> VirtError {
    QEMU.operation_unsupported(format_args!("cannot modify field '{field}' of the disk"))
}

/// Where the content of a disk is.
fn place(disk: &Disk) -> DiskSource {
    let Some(source) = &disk.source else { return DiskSource::default() };
    DiskSource {
        file: source.file.clone(),
        dev: source.dev.clone(),
        dir: source.dir.clone(),
        protocol: source.protocol,
        name: source.name.clone(),
        pool: source.pool.clone(),
        volume: source.volume.clone(),
        path: source.path.clone(),
        namespace: source.namespace,
        address: source.address.clone(),
        host: source.host.clone(),
        ..DiskSource::default()
    }
}

pub(super) async fn update(
    driver: &Qemu,
    guest: &Arc<Guest>,
    old: &Disk,
    mut new: Disk,
    force: bool,
) -> Result<()> {
    keeps_names(&old.info, &new.info)?;
    if let Some(field) = changed(FIXED, old, &new) {
        return Err(cannot_modify(field));
    }
    let policy = new.source.as_ref().and_then(|source| source.startup_policy);
    if place(old) != place(&new) {
        if !matches!(old.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
            return Err(QEMU.config_unsupported("disk source can be changed only in removable drives"));
        }
        new.target.clone_from(&old.target);
        media::change(driver, guest, old, new, force).await?;
    }
    edit_live(driver, guest, |domain| {
        let mut all = domain.devices.disks.iter_mut();
        let known = all.find(|known| target(known) == target(old));
        if let Some(source) = known.and_then(|known| known.source.as_mut()) {
            source.startup_policy = policy;
        }
    });
    Ok(())
}
