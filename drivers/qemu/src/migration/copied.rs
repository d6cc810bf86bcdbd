//! Disks whose content goes with a guest, to a host that does not see where it is.

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::Disk;

use super::params::{Asked, flag, name};
use crate::argv::storage::top_node;
use crate::disks::target;
use crate::error::{QEMU, Result};

/// Whether content of disks goes at all.
pub(super) fn any(asked: &Asked) -> bool {
    asked.has(flag::NON_SHARED_DISK) || asked.has(flag::NON_SHARED_INC)
}

/// The disks of a guest whose content goes: those that are named, or all that it alone writes to.
pub(super) fn of<'d>(domain: &'d Domain, asked: &Asked) -> Vec<&'d Disk> {
    if !any(asked) {
        return Vec::new();
    }
    let named = asked.texts(name::DISKS);
    let goes = |disk: &&Disk| match named.is_empty() {
        true => !disk.shareable && !disk.readonly && top_node(disk).is_some(),
        false => named.iter().any(|name| name == target(disk)),
    };
    domain.devices.disks.iter().filter(goes).collect()
}

/// Checks that the disks that are named are the guest's, and that one place is said where their content goes.
///
/// # Errors
/// It is not so.
pub(super) fn check(domain: &Domain, asked: &Asked) -> Result<()> {
    if asked.number(name::DISKS_PORT).is_some_and(|port| port > 0) && asked.has_param(name::DISKS_URI) {
        let text = "Both port and URI requested for disk migration while being mutually exclusive";
        return Err(QEMU.invalid_arg(text));
    }
    let known = |name: &String| domain.devices.disks.iter().any(|disk| target(disk) == name);
    match asked.texts(name::DISKS).into_iter().find(|name| !known(name)) {
        Some(name) => Err(QEMU.invalid_arg(format_args!("disk target {name} not found"))),
        None => Ok(()),
    }
}

/// QEMU's name of a disk that goes: of the job that copies it, and of what the target shows it as.
pub(super) fn export(disk: &Disk) -> String {
    let alias = disk.info.alias.as_ref().map(|alias| alias.name.as_str());
    format!("drive-{}", alias.unwrap_or_default())
}
