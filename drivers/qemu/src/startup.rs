//! Disks whose medium may be missing (`startupPolicy`): a drive is empty then, and any other disk is not there.

use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskDevice, StartupPolicy, StorageType};
use virtwire_protocol::remote::{
    DomainEventCallbackDiskChangeMsg, DomainEventDiskChangeMsg, Event, NonnullDomain,
};

use crate::argv::alias;
use crate::disks::path_of;

/// `VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START` and `VIR_DOMAIN_EVENT_DISK_DROP_MISSING_ON_START`
const CHANGE_MISSING: i32 = 0;
const DROP_MISSING: i32 = 1;

/// Something that was not there.
pub(crate) struct Missing {
    path: String,
    alias: String,
    reason: i32,
}

impl Missing {
    /// What a guest's clients are told of it.
    pub(crate) fn told(&self, dom: NonnullDomain) -> Event {
        let dev_alias = self.alias.as_str().into();
        let (old_src_path, new_src_path) = (Some(self.path.as_str().into()), None);
        let msg =
            DomainEventDiskChangeMsg { dom, old_src_path, new_src_path, dev_alias, reason: self.reason };
        Event::DomainDiskChange(DomainEventCallbackDiskChangeMsg { callback_id: 0, msg })
    }
}

/// Whether what a disk is on is not there and may be missing; `cold` for a guest that boots.
fn may_miss(disk: &Disk, cold: bool) -> bool {
    let policy = disk.source.as_ref().and_then(|source| source.startup_policy);
    let allowed = match policy {
        Some(StartupPolicy::Optional) => true,
        Some(StartupPolicy::Requisite) => !cold,
        _ => false,
    };
    let is_local = matches!(disk.type_, StorageType::File | StorageType::Block);
    allowed && is_local && path_of(disk).is_some_and(|path| !Path::new(path).exists())
}

/// Takes out of the definition of a run what is missing and may be.
pub(crate) fn drop_missing(domain: &mut Domain, cold: bool) -> Vec<Missing> {
    let mut missing = Vec::new();
    domain.devices.disks.retain_mut(|disk| {
        if !may_miss(disk, cold) {
            return true;
        }
        let is_drive = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        missing.push(Missing {
            path: path_of(disk).unwrap_or_default().to_owned(),
            alias: alias(&disk.info).to_owned(),
            reason: if is_drive { CHANGE_MISSING } else { DROP_MISSING },
        });
        disk.source = None;
        disk.driver.iter_mut().for_each(|driver| driver.type_ = None);
        is_drive
    });
    missing
}
