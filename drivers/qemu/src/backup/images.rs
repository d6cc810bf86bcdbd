//! Where a disk's content goes: an image beside the guest's own, and QEMU's names for all that belongs to it.

use virtwire_conf::backup::{BackupDisk, BackupDiskMode};
use virtwire_conf::domain::disk::{Disk, StorageType};

use crate::blockjob::{Layer, layers, nodes, put};

/// The image of a disk's backup.
pub(super) fn store(disk: &BackupDisk) -> Layer {
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.clone());
    Layer {
        type_: disk.type_.unwrap_or(StorageType::File),
        format: format.unwrap_or_else(|| "qcow2".to_owned()),
        cache: None,
        source: disk.store().cloned().unwrap_or_default(),
        index: disk.index,
    }
}

/// Whether the image is upon the guest's own: it has only what has changed, or is about to.
pub(super) fn is_upon(disk: &BackupDisk) -> bool {
    disk.scratch.is_some() || disk.backupmode == Some(BackupDiskMode::Incremental)
}

/// A guest's disk with that image in the place of its own, or upon it.
pub(super) fn as_disk(own: &Disk, disk: &BackupDisk) -> Disk {
    let mut new = Disk { mirror: None, ..own.clone() };
    let mut images = vec![store(disk)];
    if is_upon(disk) {
        images.extend(layers(own).0);
    }
    put(&mut new, images, true);
    new
}

/// QEMU's name of the image that a guest's disk is written to.
pub(super) fn node_of(own: &Disk) -> Option<String> {
    layers(own).0.first().map(|image| nodes(own, image).0)
}

/// QEMU's name of a backup's image, and the names of all of its nodes, the uppermost first.
pub(super) fn store_nodes(own: &Disk, disk: &BackupDisk) -> (String, Vec<String>) {
    nodes(own, &store(disk))
}

/// The bitmap that says what a disk's incremental backup is of.
pub(super) fn bitmap(disk: &BackupDisk) -> Option<String> {
    let incremental = disk.backupmode == Some(BackupDiskMode::Incremental);
    let named = || disk.exportbitmap.clone().unwrap_or_else(|| format!("backup-{}", disk.name));
    incremental.then(named)
}
