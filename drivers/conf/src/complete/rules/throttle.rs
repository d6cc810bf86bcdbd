//! How much disks may read and write.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::domain::Domain;
use crate::domain::disk::{Disk, Iotune};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// What shows as it is read.
pub(super) fn read(domain: &Domain) -> Result {
    let disks = domain.devices.disks.iter().filter_map(|disk| disk.iotune.as_ref());
    disks.chain(groups(domain)).try_for_each(halves)?;
    let mut names = std::collections::BTreeSet::new();
    for group in groups(domain) {
        let name = group.group_name.as_deref().unwrap_or_default();
        refuse! {
            name.is_empty() => DOMAIN.xml_error("missing group name");
            !names.insert(name) => DOMAIN.xml_error("duplicate group name '{name}' found");
        }
    }
    Ok(())
}

fn groups(domain: &Domain) -> impl Iterator<Item = &Iotune> {
    domain.throttlegroups.iter().flat_map(|groups| &groups.throttlegroup).map(|group| &group.0)
}

/// A limit is of all, or of what is read and what is written.
fn halves(limits: &Iotune) -> Result {
    let some = |limit: Option<u64>| limit.is_some_and(|limit| limit != 0);
    let kinds = [
        ("bytes_sec", limits.total_bytes_sec, limits.read_bytes_sec, limits.write_bytes_sec),
        ("iops_sec", limits.total_iops_sec, limits.read_iops_sec, limits.write_iops_sec),
        ("bytes_sec_max", limits.total_bytes_sec_max, limits.read_bytes_sec_max, limits.write_bytes_sec_max),
        ("iops_sec_max", limits.total_iops_sec_max, limits.read_iops_sec_max, limits.write_iops_sec_max),
    ];
    let both =
        kinds.into_iter().find(|(_, total, read, write)| some(*total) && (some(*read) || some(*write)));
    refuse! {
        both.is_some() => DOMAIN.xml_error(
            "total and read/write {} cannot be set at the same time", both.map(|kind| kind.0).unwrap_or_default());
    }
    Ok(())
}

/// QEMU counts no further.
const MOST: u64 = 1_000_000_000_000_000;

/// What QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>, disk: &Disk) -> Result {
    let Some(limits) = &disk.iotune else { return Ok(()) };
    let bare = Iotune { group_name: limits.group_name.clone(), ..Iotune::default() };
    let group = limits.group_name.is_some();
    let name = |disk: &Disk| disk.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
    let mut before = around.domain.devices.disks.iter().take_while(|other| !std::ptr::eq(*other, disk));
    let other = before.find(|other| {
        let other = other.iotune.as_ref();
        group && other.is_some_and(|it| it.group_name == limits.group_name && it != limits)
    });
    refuse! {
        limits.all().into_iter().flatten().any(|limit| limit > MOST) => QEMU.argument_unsupported(
            "block I/O throttle limit must be no more than {MOST} using QEMU");
        group && *limits == bare =>
            QEMU.config_unsupported("group_name can be configured only together with settings");
        other.is_some() => QEMU.config_unsupported(
            "different iotunes for disks {} and {}", other.map(name).unwrap_or_default(), name(disk));
    }
    Ok(())
}
