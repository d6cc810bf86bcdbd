//! Which guests there are.

use virtwire_driver_api::passes;
use virtwire_protocol::remote as wire;

use super::guest::Guest;
use super::state::State;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// `virConnectListAllDomainsFlags`, in pairs that exclude each other.
mod filter {
    pub(super) const ACTIVE: u32 = 1 << 0;
    pub(super) const INACTIVE: u32 = 1 << 1;
    pub(super) const PERSISTENT: u32 = 1 << 2;
    pub(super) const TRANSIENT: u32 = 1 << 3;
    pub(super) const RUNNING: u32 = 1 << 4;
    pub(super) const PAUSED: u32 = 1 << 5;
    pub(super) const SHUTOFF: u32 = 1 << 6;
    pub(super) const OTHER: u32 = 1 << 7;
    pub(super) const MANAGED_SAVE: u32 = 1 << 8;
    pub(super) const NO_MANAGED_SAVE: u32 = 1 << 9;
    pub(super) const AUTOSTART: u32 = 1 << 10;
    pub(super) const NO_AUTOSTART: u32 = 1 << 11;
    pub(super) const HAS_SNAPSHOT: u32 = 1 << 12;
    pub(super) const NO_SNAPSHOT: u32 = 1 << 13;
    pub(super) const HAS_CHECKPOINT: u32 = 1 << 14;
    pub(super) const NO_CHECKPOINT: u32 = 1 << 15;
    pub(super) const ALL: u32 = (1 << 16) - 1;
}

/// Whether a guest passes all filters.
pub(super) fn matches(guest: &Guest, flags: u32) -> bool {
    use filter::*;
    let states = flags & (RUNNING | PAUSED | SHUTOFF | OTHER);
    let state = match guest.status.state {
        State::RUNNING => RUNNING,
        State::PAUSED => PAUSED,
        State::SHUTOFF => SHUTOFF,
        _ => OTHER,
    };
    (states == 0 || states & state != 0)
        && passes(flags, ACTIVE, INACTIVE, guest.is_running())
        && passes(flags, PERSISTENT, TRANSIENT, guest.is_persistent())
        && passes(flags, MANAGED_SAVE, NO_MANAGED_SAVE, guest.managed_save)
        && passes(flags, AUTOSTART, NO_AUTOSTART, guest.autostart)
        && passes(flags, HAS_SNAPSHOT, NO_SNAPSHOT, !guest.snapshots.is_empty())
        && passes(flags, HAS_CHECKPOINT, NO_CHECKPOINT, !guest.checkpoints.is_empty())
}

pub(crate) fn all(
    host: &mut Host,
    args: wire::ConnectListAllDomainsArgs,
) -> Result<wire::ConnectListAllDomainsRet> {
    check_flags(args.flags, filter::ALL, "testConnectListAllDomains")?;
    let found = host.guests.iter().filter(|guest| matches(guest, args.flags));
    let mut domains = Vec::with_capacity(host.guests.len());
    domains.extend(found.map(|guest| guest.wire.clone()));
    let ret = domains.len() as u32;
    Ok(wire::ConnectListAllDomainsRet {
        domains: if args.need_results == 0 { Vec::new() } else { domains },
        ret,
    })
}

pub(crate) fn ids(
    host: &mut Host,
    args: wire::ConnectListDomainsArgs,
) -> Result<wire::ConnectListDomainsRet> {
    let max = usize::try_from(args.maxids).unwrap_or(0);
    Ok(wire::ConnectListDomainsRet {
        ids: host.guests.of_state(true).map(|guest| guest.wire.id).take(max).collect(),
    })
}

pub(crate) fn count_active(host: &mut Host) -> Result<wire::ConnectNumOfDomainsRet> {
    Ok(wire::ConnectNumOfDomainsRet { num: host.guests.count(true) })
}

pub(crate) fn inactive(
    host: &mut Host,
    args: wire::ConnectListDefinedDomainsArgs,
) -> Result<wire::ConnectListDefinedDomainsRet> {
    let names = host.guests.names(false, args.maxnames).map(Into::into).collect();
    Ok(wire::ConnectListDefinedDomainsRet { names })
}

pub(crate) fn count_inactive(host: &mut Host) -> Result<wire::ConnectNumOfDefinedDomainsRet> {
    Ok(wire::ConnectNumOfDefinedDomainsRet { num: host.guests.count(false) })
}

/// A lookup that finds nothing says only that.
fn found(guest: Option<&Guest>) -> Result<wire::NonnullDomain> {
    guest.map(|guest| guest.wire.clone()).ok_or_else(|| TEST.no_domain(""))
}

pub(crate) fn by_id(host: &mut Host, args: wire::DomainLookupByIdArgs) -> Result<wire::DomainLookupByIdRet> {
    let guest = host.guests.of_state(true).find(|guest| guest.wire.id == args.id);
    Ok(wire::DomainLookupByIdRet { dom: found(guest)? })
}

pub(crate) fn by_name(
    host: &mut Host,
    args: wire::DomainLookupByNameArgs,
) -> Result<wire::DomainLookupByNameRet> {
    Ok(wire::DomainLookupByNameRet { dom: found(host.guests.by_name(&args.name.to_str_lossy()))? })
}

pub(crate) fn by_uuid(
    host: &mut Host,
    args: wire::DomainLookupByUuidArgs,
) -> Result<wire::DomainLookupByUuidRet> {
    Ok(wire::DomainLookupByUuidRet { dom: found(host.guests.by_uuid(&args.uuid))? })
}
