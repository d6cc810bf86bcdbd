//! Which guests may go to another host.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::statfs;
use virtwire_conf::domain::disk::{Disk, DiskCache, StorageType};

use virtwire_qmp::Monitor;
use virtwire_qmp::commands::QueryMigrate;

use super::copied;
use super::params::{Asked, flag};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::Guest;
use crate::{disks, overlay};

/// File systems that several hosts see at once, by the kernel's numbers (`statfs(2)`): NFS, SMB in its versions, AFS,
/// Ceph, OCFS2, GFS2, GPFS, BeeGFS, ACFS.
const SHARED: [u32; 10] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x5346_414f,
    0x00c3_6400,
    0x7461_636f,
    0x0116_1970,
    0x4750_4653,
    0x1983_0326,
];

/// Whether other hosts see a file too.
pub(crate) fn is_shared(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| SHARED.contains(&(found.f_type as u32)))
}

/// A guest may go as far as its QEMU can tell.
///
/// # Errors
/// QEMU names a device or a state that would be lost.
pub(super) async fn by_qemu(qemu: &Monitor) -> Result<()> {
    let told = qemu.execute(&QueryMigrate {}).await.map_err(monitor)?;
    match told.blocked_reasons.as_deref() {
        None | Some([]) => Ok(()),
        Some(reasons) => {
            let text = format_args!("cannot migrate domain: {}", reasons.join("; "));
            Err(QEMU.operation_invalid(text))
        }
    }
}

/// A guest may go.
///
/// # Errors
/// What it has is bound to this host.
pub(super) fn leave(driver: &Qemu, guest: &Arc<Guest>, asked: &Asked) -> Result<()> {
    if driver.is_bound(guest) {
        return Err(QEMU.operation_invalid("domain is marked for auto destroy"));
    }
    let (domain, snapshots, checkpoints, working) = {
        let inner = guest.lock();
        let working = inner.live.as_ref().is_some_and(|live| !live.block_jobs.is_empty());
        let (snapshots, checkpoints) = (inner.snapshots.iter().count(), inner.checkpoints.iter().count());
        (inner.current(), snapshots, checkpoints, working)
    };
    let Some(domain) = domain else { return Ok(()) };
    for (count, what) in [(snapshots, "snapshots"), (checkpoints, "checkpoints")] {
        if count > 0 {
            return Err(QEMU.operation_invalid(format_args!("cannot migrate domain with {count} {what}")));
        }
    }
    if asked.has(flag::OFFLINE) {
        return Ok(());
    }
    if working {
        return Err(QEMU.operation_invalid("domain has active block job"));
    }
    overlay::check_movable(&domain)?;
    if asked.has(flag::UNSAFE) {
        return Ok(());
    }
    let copied = copied::of(&domain, asked);
    let stays = |disk: &&Disk| !copied.iter().any(|copied| std::ptr::eq(*copied, *disk));
    domain.devices.disks.iter().filter(stays).try_for_each(safe)
}

/// Both hosts see the same of a disk at once.
fn safe(disk: &Disk) -> Result<()> {
    let Some(path) = disks::path_of(disk) else { return Ok(()) };
    if disk.readonly {
        return Ok(());
    }
    if disk.type_ == StorageType::File && !is_shared(path.as_ref()) {
        return Err(QEMU.migrate_unsafe("Migration without shared storage is unsafe"));
    }
    let cache = disk.driver.as_ref().and_then(|driver| driver.cache);
    if disk.shareable || matches!(cache, Some(DiskCache::None | DiskCache::Directsync)) {
        return Ok(());
    }
    let text = "Migration may lead to data corruption if disks use cache other than none or directsync";
    Err(QEMU.migrate_unsafe(text))
}
