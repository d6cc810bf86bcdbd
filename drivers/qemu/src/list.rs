//! Lists and look-ups. None of them waits for anything.

use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{Result, check_flags, no_id, no_name, no_uuid};
use crate::guest::Inner;
use crate::state::State;

/// Whether a guest has a property.
type Property = fn(&Inner) -> bool;

/// `VIR_CONNECT_LIST_DOMAINS_…`: a guest must have one property of each group of which a flag is set.
const GROUPS: &[&[(u32, Property)]] = &[
    &[(1, |guest| guest.live.is_some()), (2, |guest| guest.live.is_none())],
    &[(4, |guest| guest.persistent.is_some()), (8, |guest| guest.persistent.is_none())],
    &[
        (16, |guest| guest.state.runs()),
        (32, |guest| guest.state.state == State::PAUSED_USER.state),
        (64, |guest| guest.state.state == State::SHUTOFF_UNKNOWN.state),
        (128, |guest| ![1, 3, 5].contains(&guest.state.state)),
    ],
    &[(256, |guest| guest.saved), (512, |guest| !guest.saved)],
    &[(1024, |guest| guest.autostart), (2048, |guest| !guest.autostart)],
    &[(4096, |guest| !guest.snapshots.is_empty()), (8192, |guest| guest.snapshots.is_empty())],
    &[(16384, |guest| !guest.checkpoints.is_empty()), (32768, |guest| guest.checkpoints.is_empty())],
];

/// Whether a guest has what these flags ask for.
pub(crate) fn admits(flags: u32, guest: &Inner) -> bool {
    GROUPS.iter().all(|group| {
        let mut asked = group.iter().filter(|(flag, _)| flags & flag != 0).peekable();
        asked.peek().is_none() || asked.any(|(_, has)| has(guest))
    })
}

fn select(driver: &Qemu, flags: u32) -> Vec<NonnullDomain> {
    let guests = driver.all().into_iter();
    guests
        .filter_map(|guest| {
            let inner = guest.lock();
            admits(flags, &inner).then(|| guest.handle_of(&inner))
        })
        .collect()
}

pub(crate) async fn all(driver: &Qemu, args: ConnectListAllDomainsArgs) -> Result<ConnectListAllDomainsRet> {
    check_flags(args.flags, 0xffff, "qemuConnectListAllDomains")?;
    let domains = select(driver, args.flags);
    let ret = domains.len() as u32;
    Ok(ConnectListAllDomainsRet { domains: if args.need_results != 0 { domains } else { Vec::new() }, ret })
}

/// What fits into a list of so many.
fn at_most<T>(items: Vec<T>, limit: i32) -> Vec<T> {
    items.into_iter().take(limit.try_into().unwrap_or_default()).collect()
}

pub(crate) async fn ids(driver: &Qemu, args: ConnectListDomainsArgs) -> Result<ConnectListDomainsRet> {
    let mut ids: Vec<_> = select(driver, 1).into_iter().map(|dom| dom.id).collect();
    ids.sort_unstable();
    Ok(ConnectListDomainsRet { ids: at_most(ids, args.maxids) })
}

pub(crate) async fn count_active(driver: &Qemu) -> Result<ConnectNumOfDomainsRet> {
    Ok(ConnectNumOfDomainsRet { num: select(driver, 1).len() as i32 })
}

pub(crate) async fn inactive(
    driver: &Qemu,
    args: ConnectListDefinedDomainsArgs,
) -> Result<ConnectListDefinedDomainsRet> {
    let names = select(driver, 2).into_iter().map(|dom| dom.name).collect();
    Ok(ConnectListDefinedDomainsRet { names: at_most(names, args.maxnames) })
}

pub(crate) async fn count_inactive(driver: &Qemu) -> Result<ConnectNumOfDefinedDomainsRet> {
    Ok(ConnectNumOfDefinedDomainsRet { num: select(driver, 2).len() as i32 })
}

pub(crate) async fn by_id(driver: &Qemu, args: DomainLookupByIdArgs) -> Result<DomainLookupByIdRet> {
    let dom = select(driver, 1).into_iter().find(|dom| dom.id == args.id).ok_or_else(|| no_id(args.id))?;
    Ok(DomainLookupByIdRet { dom })
}

pub(crate) async fn by_name(driver: &Qemu, args: DomainLookupByNameArgs) -> Result<DomainLookupByNameRet> {
    let guest =
        args.name.to_str().and_then(|name| driver.by_name(name)).ok_or_else(|| no_name(&args.name))?;
    Ok(DomainLookupByNameRet { dom: guest.handle() })
}

pub(crate) async fn by_uuid(driver: &Qemu, args: DomainLookupByUuidArgs) -> Result<DomainLookupByUuidRet> {
    let guest = driver.by_uuid(&args.uuid).ok_or_else(|| no_uuid(&args.uuid, None))?;
    Ok(DomainLookupByUuidRet { dom: guest.handle() })
}
