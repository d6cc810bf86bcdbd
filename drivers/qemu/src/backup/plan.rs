//! What a backup is to be: which disks are meant, how much of each, and where that goes.

use std::fs;

use virtwire_conf::backup::{
    BackupDisk, BackupDiskMode, BackupDisks, BackupMode, BackupState, BackupTransport,
};
use virtwire_conf::domain::disk::{Disk, DiskDriver, DiskSource, StorageType};
use virtwire_conf::{Backup, Domain, YesNo};
use virtwire_protocol::ErrorDomain;

use super::images::store;
use super::included;
use crate::blockjob::{check_idle, layers};
use crate::disks::target;
use crate::error::{QEMU, Result, file};
use crate::guest::{Guest, Live};
use crate::overlay::check_lasting;

/// The domain of errors about descriptions.
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// The guest's disk that a disk of a backup is.
pub(super) fn own<'d>(domain: &'d Domain, disk: &BackupDisk) -> Result<&'d Disk> {
    let found = domain.devices.disks.iter().find(|own| target(own) == disk.name);
    found.ok_or_else(|| DOMAIN.config_unsupported(format_args!("no disk named '{}'", disk.name)))
}

/// Says of every disk of the guest what becomes of it. What has no name of its own is called after the moment
/// (`suffix`).
///
/// # Errors
/// It cannot be.
pub(super) fn complete(
    asked: Backup,
    guest: &Guest,
    live: &Live,
    suffix: &str,
    reuse: bool,
) -> Result<Backup> {
    let mode = asked.mode.unwrap_or(BackupMode::Push);
    check_server(&asked)?;
    let mut last = crate::argv::storage::last_number(&live.domain).max(live.last_source);
    let mut disks = chosen(&asked, &live.domain)?;
    for disk in disks.iter_mut().filter(|disk| disk.backup == Some(YesNo::Yes)) {
        since(disk, &asked)?;
        place(disk, own(&live.domain, disk)?, mode, suffix)?;
    }
    let shown = Backup { mode: Some(mode), disks: Some(BackupDisks { disk: disks }), ..asked };
    if included(&shown).next().is_none() {
        return Err(DOMAIN.config_unsupported("no disks selected for backup"));
    }
    for disk in included(&shown) {
        check(disk, guest, live, reuse)?;
    }
    let mut shown = shown;
    let all = shown.disks.iter_mut().flat_map(|disks| &mut disks.disk);
    for disk in all.filter(|disk| disk.backup == Some(YesNo::Yes)) {
        last += 1;
        disk.index = Some(last);
        disk.state = Some(BackupState::Running);
    }
    Ok(shown)
}

/// Refuses servers that there are not.
fn check_server(asked: &Backup) -> Result<()> {
    let Some(server) = &asked.server else { return Ok(()) };
    match server.transport.unwrap_or(BackupTransport::Tcp) {
        BackupTransport::Tcp if server.port.unwrap_or_default() == 0 => {
            Err(QEMU.operation_unsupported("<domainbackup> must specify TCP port for now"))
        }
        BackupTransport::Tcp | BackupTransport::Unix => Ok(()),
        BackupTransport::Fd => Err(QEMU.internal_error("unexpected transport in <domainbackup>")),
    }
}

/// All disks of the guest, with what is asked of each; where none is named, all that hold something are meant.
fn chosen(asked: &Backup, domain: &Domain) -> Result<Vec<BackupDisk>> {
    let named = asked.disks.as_ref().map(|disks| disks.disk.as_slice()).unwrap_or_default();
    for (at, disk) in named.iter().enumerate() {
        let own = own(domain, disk)?;
        if named.iter().take(at).any(|other| other.name == disk.name) {
            let text = format_args!("disk '{}' specified twice", disk.name);
            return Err(DOMAIN.config_unsupported(text));
        }
        if disk.backup != Some(YesNo::No) && layers(own).0.is_empty() {
            return Err(DOMAIN.config_unsupported(format_args!("disk '{}' has no media", disk.name)));
        }
    }
    let of = |own: &Disk| {
        let name = target(own).to_owned();
        match named.iter().find(|disk| disk.name == name) {
            Some(disk) => BackupDisk { backup: disk.backup.or(Some(YesNo::Yes)), ..disk.clone() },
            None => {
                let meant = named.is_empty() && !layers(own).0.is_empty() && !own.readonly;
                let backup = Some(if meant { YesNo::Yes } else { YesNo::No });
                BackupDisk { name, backup, ..BackupDisk::default() }
            }
        }
    };
    Ok(domain.devices.disks.iter().map(of).collect())
}

/// Finds out how much of a disk is meant.
fn since(disk: &mut BackupDisk, asked: &Backup) -> Result<()> {
    let from = disk.incremental.take().or_else(|| asked.incremental.clone());
    let mode = disk.backupmode.unwrap_or(match from {
        Some(_) => BackupDiskMode::Incremental,
        None => BackupDiskMode::Full,
    });
    disk.backupmode = Some(mode);
    if mode == BackupDiskMode::Full {
        return Ok(());
    }
    let none = || {
        DOMAIN.config_unsupported(format_args!(
            "'incremental' backup mode of disk '{}' requires setting 'incremental' field for disk or backup",
            disk.name
        ))
    };
    disk.incremental = Some(from.ok_or_else(none)?);
    Ok(())
}

/// Finds out where a disk's content goes.
fn place(disk: &mut BackupDisk, own: &Disk, mode: BackupMode, suffix: &str) -> Result<()> {
    disk.type_.get_or_insert(StorageType::File);
    let driver = disk.driver.get_or_insert_default();
    let format = driver.type_.take().unwrap_or_else(|| "qcow2".to_owned());
    *driver = DiskDriver { type_: Some(format), ..DiskDriver::default() };
    let place = match mode {
        BackupMode::Push => &mut disk.target,
        BackupMode::Pull => {
            disk.exportname.get_or_insert_with(|| disk.name.clone());
            &mut disk.scratch
        }
    };
    if place.is_none() {
        let path = layers(own).0.first().and_then(|image| image.source.file.clone());
        let path = path.ok_or_else(|| {
            DOMAIN.config_unsupported(format_args!("refusing to generate file name for disk '{}'", disk.name))
        })?;
        *place = Some(DiskSource { file: Some(format!("{path}.{suffix}")), ..DiskSource::default() });
    }
    Ok(())
}

/// Refuses what the guest's disk, or the place, does not allow.
fn check(disk: &BackupDisk, guest: &Guest, live: &Live, reuse: bool) -> Result<()> {
    let own = own(&live.domain, disk)?;
    check_lasting(own)?;
    check_idle(live, &disk.name)?;
    if let Some(since) = &disk.incremental
        && guest.lock().checkpoints.get(since).is_none()
    {
        let text =
            format_args!("Checkpoint '{since}' for incremental backup of disk '{}' not found", disk.name);
        return Err(QEMU.no_domain_checkpoint(text));
    }
    let new = store(disk);
    let Some(path) = new.path() else { return Ok(()) };
    let found = fs::metadata(path);
    if reuse || new.type_ == StorageType::Block {
        return found.map(drop).map_err(|error| file(&error, format_args!("unable to stat: {path}")));
    }
    match found {
        Ok(found) if found.len() > 0 || !found.is_file() => {
            let text = format_args!("store '{path}' for backup of '{}' exists", disk.name);
            Err(QEMU.invalid_arg(text))
        }
        _ => Ok(()),
    }
}
