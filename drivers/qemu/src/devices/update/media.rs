//! The medium of a drive changes while the guest runs.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskDevice, Tray};
use virtwire_conf::domain::one::Device;
use virtwire_qmp::commands::{
    BlockdevCloseTray, BlockdevInsertMedium, BlockdevOpenTray, BlockdevRemoveMedium,
};

use crate::affect::edit_live;
use crate::argv::{self, storage};
use crate::devices::attach::alone;
use crate::devices::say::{Behind, line_of, run};
use crate::driver::Qemu;
use crate::error::{Result, file, monitor};
use crate::guest::{Guest, Live};
use crate::{chain, disks, live};

/// Puts the medium of `new` into the drive that is `old`, or takes out what is in it.
///
/// # Errors
/// It is not there, or the guest holds the tray and nobody insists.
pub(crate) async fn change(
    driver: &Qemu,
    guest: &Arc<Guest>,
    old: &Disk,
    mut new: Disk,
    force: bool,
) -> Result<()> {
    let live = guest.live()?;
    new.info.clone_from(&old.info);
    if let Some(path) = disks::path_of(&new) {
        std::fs::metadata(path).map_err(|e| file(&e, format_args!("Cannot access storage file '{path}'")))?;
    }
    let number = storage::last_number(&live.domain).max(live.last_source) + 1;
    // A drive without a medium has a number too.
    new.source.get_or_insert_default();
    chain::find(&mut new)?;
    numbered(guest, live::number_chain(&mut new, number));
    let only = alone(&live.domain, &Device::Disk(new.clone()));
    let given = driver.give_devices(&live, &only.devices)?;
    let mut node = None;
    let line = line_of(driver, &live, &only, |line, found, context| {
        if let Some(disk) = found.devices.disks.first() {
            node = storage::backend(line, disk, context)?;
        }
        Ok(())
    });
    let line = line.await?;
    let behind = Behind::of(driver, &live.domain, &Device::Disk(old.clone())).await;
    let id = argv::alias(&old.info).to_owned();
    take_out(&live, old, &id, force).await?;
    behind.remove(&live.monitor).await;
    run(&live.monitor, line).await?;
    if let Some(node_name) = node {
        let insert = BlockdevInsertMedium { id: id.clone(), node_name };
        if let Err(error) = live.monitor.execute(&insert).await {
            Behind::of(driver, &live.domain, &Device::Disk(new)).await.remove(&live.monitor).await;
            return Err(monitor(error));
        }
    }
    live.monitor.execute(&BlockdevCloseTray { id }).await.map_err(monitor)?;
    given.keep();
    driver.take_back_disk(&live, old);
    if disks::path_of(&new).is_some() {
        live::end_chain(&mut new);
    } else {
        new.backing_store = None;
    }
    edit_live(driver, guest, |domain| {
        let mut all = domain.devices.disks.iter_mut();
        if let Some(known) = all.find(|known| disks::target(known) == disks::target(&new)) {
            let target = known.target.clone();
            *known = new;
            known.target = target;
        }
    });
    Ok(())
}

/// The drive that a disk is a medium for, if there is such a drive.
pub(crate) fn drive<'a>(domain: &'a Domain, medium: &Disk) -> Option<&'a Disk> {
    if !matches!(medium.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
        return None;
    }
    let is = |other: &&Disk| disks::target(other) == disks::target(medium) && other.device == medium.device;
    domain.devices.disks.iter().find(is)
}

/// Numbers of images up to this one are taken.
pub(crate) fn numbered(guest: &Guest, last: u32) {
    if let Some(live) = &mut guest.lock().live {
        live.last_source = live.last_source.max(last);
    }
}

/// Floppies have no trays.
fn has_tray(disk: &Disk) -> bool {
    disk.device == DiskDevice::Cdrom
}

async fn take_out(live: &Live, old: &Disk, id: &str, force: bool) -> Result<()> {
    let is_open = old.target.as_ref().and_then(|target| target.tray) == Some(Tray::Open);
    if has_tray(old) && !is_open {
        let open = BlockdevOpenTray { id: id.to_owned(), force: Some(force) };
        live.monitor.execute(&open).await.map_err(monitor)?;
    }
    live.monitor.execute(&BlockdevRemoveMedium { id: id.to_owned() }).await.map_err(monitor)?;
    Ok(())
}
