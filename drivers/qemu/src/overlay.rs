//! Disks that forget (`<transient/>`): what a guest writes goes into an image of its own upon the disk's, which ends
//! with the run.

use std::fs;
use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskDriver, DiskSource, StorageType};
use virtwire_conf::snapshot::SnapshotDisk;

use crate::disks::{path_of, target};
use crate::error::{QEMU, Result, file};
use crate::snapshot::{overlay, upon};
use crate::written;

/// What such an image's name has behind that of the disk's.
fn suffix(guest: &str) -> String {
    format!(".TRANSIENT-{guest}")
}

/// Puts the disks of a run that forget each upon its image.
///
/// # Errors
/// An image cannot be made; there are none then.
pub(crate) async fn lay_all(domain: &mut Domain) -> Result<()> {
    let mut number = crate::argv::storage::last_number(domain);
    for at in 0..domain.devices.disks.len() {
        number += u32::from(domain.devices.disks[at].transient.is_some());
        if let Err(error) = lay(&domain.name, &mut domain.devices.disks[at], number).await {
            remove_all(domain);
            return Err(error);
        }
    }
    Ok(())
}

/// Puts a disk, if it forgets, upon its image; the new one has this number.
///
/// # Errors
/// `VIR_ERR_CONFIG_UNSUPPORTED` for a disk that is no file; the image cannot be made.
pub(crate) async fn lay(guest: &str, disk: &mut Disk, number: u32) -> Result<()> {
    if disk.transient.is_none() {
        return Ok(());
    }
    let base = path_of(disk).filter(|_| disk.type_ == StorageType::File).map(str::to_owned);
    let Some(base) = base else {
        let text = format_args!("transient disk supported only with 'file' type ({})", target(disk));
        return Err(QEMU.config_unsupported(text));
    };
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.clone());
    let path = format!("{base}{}", suffix(guest));
    // One that is left of a run whose end nobody saw is nobody's.
    let _ = fs::remove_file(&path);
    overlay(Path::new(&path), Path::new(&base), format.as_deref().unwrap_or("raw"), None).await?;
    written::set_mode(Path::new(&path), 0o600)
        .map_err(|e| file(&e, format_args!("cannot set mode of '{path}'")))?;
    let image = SnapshotDisk {
        driver: Some(DiskDriver { type_: Some("qcow2".to_owned()), ..DiskDriver::default() }),
        source: Some(DiskSource { file: Some(path), ..DiskSource::default() }),
        ..SnapshotDisk::default()
    };
    upon(disk, &image, Some(number), true);
    Ok(())
}

/// Removes what the disks of a run have forgotten.
pub(crate) fn remove_all(domain: &Domain) {
    domain.devices.disks.iter().for_each(|disk| remove(&domain.name, disk));
}

/// Removes what a disk has forgotten; the image of one that does not forget stays.
pub(crate) fn remove(guest: &str, disk: &Disk) {
    let forgotten = path_of(disk).filter(|path| disk.transient.is_some() && path.ends_with(&suffix(guest)));
    if let Some(path) = forgotten {
        let _ = fs::remove_file(path);
    }
}

/// Checks that a guest could go on elsewhere, where what its disks forget with the run would be missing.
///
/// # Errors
/// It has disks that forget.
pub(crate) fn check_movable(domain: &Domain) -> Result<()> {
    match domain.devices.disks.iter().any(|disk| disk.transient.is_some()) {
        true => Err(QEMU.operation_invalid("migration with transient disk is not supported")),
        false => Ok(()),
    }
}

/// Checks that work on the images of a disk would be kept.
///
/// # Errors
/// It forgets.
pub(crate) fn check_lasting(disk: &Disk) -> Result<()> {
    match disk.transient {
        Some(_) => Err(QEMU.operation_unsupported(format_args!(
            "block jobs are not supported on transient disk '{}'",
            target(disk)
        ))),
        None => Ok(()),
    }
}
