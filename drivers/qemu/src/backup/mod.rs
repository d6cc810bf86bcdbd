//! Backups of a running guest's disks: QEMU carries their content into files (push), or keeps it as it was for a client
//! that reads it over NBD for as long as it likes (pull).
//!
//! What a backup is to be is found out first ([`plan`]), and all that QEMU does begins in one moment for all disks
//! ([`begin`]). Each disk has a block job; with the last of them the backup ends ([`end`]). What there is stands in the
//! guest's status file ([`record`]), so that it goes on under a daemon that comes later.

mod begin;
mod end;
mod images;
mod plan;
mod record;
mod stats;

use std::time::{SystemTime, UNIX_EPOCH};

use virtwire_conf::backup::{BackupDisk, BackupMode};
use virtwire_conf::{Backup, FormatOptions, YesNo};
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Live;

pub(crate) use begin::begin;
pub(crate) use end::abort;
pub(crate) use record::{read, write};
pub(crate) use stats::{info, params};

/// A backup that goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    /// What it is, each disk with what has become of it.
    shown: Backup,
    /// When it began: milliseconds since 1970.
    began: u64,
    /// The files are the client's own: none is removed.
    reuse: bool,
    /// Bytes to do and bytes done of jobs that have ended.
    ended: (u64, u64),
    /// What a job has failed with.
    error: Option<String>,
}

impl Running {
    fn new(shown: Backup, reuse: bool) -> Self {
        Self { shown, began: now(), reuse, ended: (0, 0), error: None }
    }

    /// Whether a client carries it away.
    fn is_pull(&self) -> bool {
        self.shown.mode == Some(BackupMode::Pull)
    }

    /// The disks that it is of.
    fn disks(&self) -> impl Iterator<Item = &BackupDisk> {
        included(&self.shown)
    }

    /// One of its disks, by its target.
    fn disk(&mut self, name: &str) -> Option<&mut BackupDisk> {
        self.shown.disks.iter_mut().flat_map(|disks| &mut disks.disk).find(|disk| disk.name == name)
    }
}

/// The disks that a backup is of.
fn included(backup: &Backup) -> impl Iterator<Item = &BackupDisk> {
    let all = backup.disks.iter().flat_map(|disks| &disks.disk);
    all.filter(|disk| disk.backup == Some(YesNo::Yes))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The backup of a guest.
fn running(live: &Live) -> Result<&Running> {
    live.backup.as_ref().ok_or_else(|| QEMU.no_domain_backup("no domain backup job present"))
}

pub(crate) async fn xml_desc(
    driver: &Qemu,
    args: DomainBackupGetXmlDescArgs,
) -> Result<DomainBackupGetXmlDescRet> {
    check_flags(args.flags, 0, "qemuDomainBackupGetXMLDesc")?;
    let none = || QEMU.no_domain_backup("no domain backup job present");
    let live = driver.guest(&args.dom)?.live().map_err(|_| none())?;
    let mut shown = running(&live)?.shown.clone();
    shown.disks.iter_mut().flat_map(|disks| &mut disks.disk).for_each(|disk| disk.state = None);
    let xml = shown.to_xml(&FormatOptions::default());
    Ok(DomainBackupGetXmlDescRet { xml: xml.into() })
}
