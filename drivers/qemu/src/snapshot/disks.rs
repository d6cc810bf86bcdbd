//! Where the parts of a snapshot go: the guest's memory and each of its disks.

use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskDriver, DiskSnapshot, DiskSource, StorageType};
use virtwire_conf::snapshot::{SnapshotDisk, SnapshotLocation as Location, SnapshotMemory};
use virtwire_protocol::error::ErrorDomain;

use crate::disks::target;
use crate::error::{QEMU, Result};

const SNAPSHOT: ErrorDomain = ErrorDomain::DOMAIN_SNAPSHOT;

/// Where memory goes; there is none of a guest that is off.
pub(super) fn memory(asked: Option<SnapshotMemory>, there: bool) -> Result<SnapshotMemory> {
    let asked = asked.unwrap_or_default();
    let place = match (asked.snapshot, &asked.file) {
        (Some(Location::External), None) => {
            return Err(SNAPSHOT.xml_error("external memory snapshots require a filename"));
        }
        (Some(place), None) => Some(place),
        (Some(Location::External) | None, Some(_)) => Some(Location::External),
        (Some(place), Some(file)) => {
            let other = match place {
                Location::No => String::new(),
                place => format!(", not {}", place.as_str()),
            };
            let text = format_args!("memory filename '{file}' requires external snapshot{other}");
            return Err(SNAPSHOT.xml_error(text));
        }
        (None, None) => None,
    };
    if !there && place.is_some_and(|place| place != Location::No) {
        let text = "memory state cannot be saved with offline or disk-only snapshot";
        return Err(SNAPSHOT.xml_error(text));
    }
    let place = place.unwrap_or(if there { Location::Internal } else { Location::No });
    Ok(SnapshotMemory { snapshot: Some(place), file: asked.file })
}

pub(super) fn file(disk: &Disk) -> Option<&str> {
    disk.source.as_ref()?.file.as_deref()
}

pub(super) fn format(disk: &Disk) -> &str {
    disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw")
}

/// Every disk, with where its snapshot goes.
pub(super) fn disks(
    domain: &Domain,
    snapshot: &str,
    asked: Vec<SnapshotDisk>,
    default: Location,
) -> Result<Vec<SnapshotDisk>> {
    let all = &domain.devices.disks;
    if asked.len() > all.len() {
        return Err(SNAPSHOT.config_unsupported("too many disk snapshot requests for domain"));
    }
    for disk in &asked {
        if !all.iter().any(|own| target(own) == disk.name || file(own) == Some(&disk.name)) {
            return Err(SNAPSHOT.config_unsupported(format_args!("no disk named '{}'", disk.name)));
        }
    }
    let mut found = Vec::new();
    for own in all {
        let name = target(own);
        let asked = asked.iter().find(|disk| disk.name == name || file(own) == Some(&disk.name));
        let empty = own.source.is_none() || own.readonly;
        let place = asked.and_then(|disk| disk.snapshot);
        let place = match place {
            None if empty || own.snapshot == Some(DiskSnapshot::No) => Location::No,
            None => default,
            Some(place) => place,
        };
        let mut disk =
            SnapshotDisk { name: name.to_owned(), snapshot: Some(place), ..SnapshotDisk::default() };
        if place == Location::External {
            let source = asked.and_then(|disk| disk.source.clone());
            let named = source.filter(|source| *source != DiskSource::default());
            disk.type_ = asked.and_then(|disk| disk.type_).or(Some(StorageType::File));
            let type_ = asked.and_then(|disk| disk.driver.as_ref()?.type_.clone());
            let type_ = Some(type_.unwrap_or_else(|| "qcow2".to_owned()));
            disk.driver = Some(DiskDriver { type_, ..DiskDriver::default() });
            let new = |path| DiskSource { file: Some(path), ..DiskSource::default() };
            disk.source = Some(named.map_or_else(|| beside(own, snapshot).map(new), Ok)?);
        }
        found.push(disk);
    }
    Ok(found)
}

/// Checks that a new snapshot's disks go together, and that their images can be in it.
pub(super) fn check_disks(
    domain: &Domain,
    disks: &[SnapshotDisk],
    default: Location,
    running: bool,
) -> Result<()> {
    for (own, disk) in domain.devices.disks.iter().zip(disks) {
        let (name, place) = (&disk.name, disk.snapshot.unwrap_or(default));
        let empty = own.source.is_none() || own.readonly;
        // Files of their own go with those of a guest that is off.
        let other = place != Location::Internal && !empty && (running || place != Location::External);
        if default == Location::Internal && other {
            let text = format_args!("disk '{name}' must use snapshot mode 'internal'");
            return Err(SNAPSHOT.config_unsupported(text));
        }
        if place == Location::Internal && format(own) != "qcow2" {
            let text = format_args!(
                "internal snapshot for disk {name} unsupported for storage type {}",
                format(own)
            );
            return Err(QEMU.config_unsupported(text));
        }
    }
    Ok(())
}

/// The name of a new image: the old one's, with the snapshot's for its extension.
pub(super) fn beside(disk: &Disk, snapshot: &str) -> Result<String> {
    let Some(path) = file(disk).filter(|path| Path::new(path).is_file()) else {
        return Err(SNAPSHOT.config_unsupported(format_args!(
            "source for disk '{}' is not a regular file; refusing to generate external snapshot name",
            target(disk)
        )));
    };
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    Ok(format!("{dir}/{stem}.{snapshot}"))
}
