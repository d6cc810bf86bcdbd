//! What clients ask about snapshots.

use virtwire_conf::FormatOptions;
use virtwire_conf::moments::list::KNOWN;
use virtwire_protocol::remote::*;

use super::{find, guest_of, kind, on_wire};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};

/// `VIR_DOMAIN_SNAPSHOT_XML_SECURE`
const XML_SECURE: u32 = 1;

/// The names in a guest's list, or in that of one of its snapshots.
fn found(
    driver: &Qemu,
    dom: &NonnullDomain,
    from: Option<&str>,
    flags: u32,
    function: &str,
) -> Result<Vec<String>> {
    check_flags(flags, KNOWN, function)?;
    let guest = driver.guest(dom)?;
    let inner = guest.lock();
    if let Some(name) = from {
        find(&inner, name)?;
    }
    Ok(inner.snapshots.list(from, flags, kind).into_iter().map(|moment| moment.name.clone()).collect())
}

pub(crate) async fn count(driver: &Qemu, args: DomainSnapshotNumArgs) -> Result<DomainSnapshotNumRet> {
    let found = found(driver, &args.dom, None, args.flags, "qemuDomainSnapshotNum")?;
    Ok(DomainSnapshotNumRet { num: found.len() as i32 })
}

pub(crate) async fn names(
    driver: &Qemu,
    args: DomainSnapshotListNamesArgs,
) -> Result<DomainSnapshotListNamesRet> {
    let found = found(driver, &args.dom, None, args.flags, "qemuDomainSnapshotListNames")?;
    Ok(DomainSnapshotListNamesRet { names: first(found, args.maxnames) })
}

fn first(found: Vec<String>, most: i32) -> Vec<NonnullString> {
    let most = most.try_into().unwrap_or_default();
    found.into_iter().take(most).map(|name| name.as_str().into()).collect()
}

/// The snapshots themselves, where they are wanted.
fn handles(found: &[String], dom: &NonnullDomain, wanted: i32) -> Vec<NonnullDomainSnapshot> {
    let wanted = if wanted == 0 { &[] } else { found };
    wanted.iter().map(|name| on_wire(dom, name)).collect()
}

pub(crate) async fn of_guest(
    driver: &Qemu,
    args: DomainListAllSnapshotsArgs,
) -> Result<DomainListAllSnapshotsRet> {
    let found = found(driver, &args.dom, None, args.flags, "qemuDomainListAllSnapshots")?;
    let dom = driver.guest(&args.dom)?.handle();
    let snapshots = handles(&found, &dom, args.need_results);
    Ok(DomainListAllSnapshotsRet { snapshots, ret: found.len() as i32 })
}

pub(crate) async fn count_children(
    driver: &Qemu,
    args: DomainSnapshotNumChildrenArgs,
) -> Result<DomainSnapshotNumChildrenRet> {
    let (dom, name) = (&args.snap.dom, args.snap.name.to_str_lossy());
    let found = found(driver, dom, Some(&name), args.flags, "qemuDomainSnapshotNumChildren")?;
    Ok(DomainSnapshotNumChildrenRet { num: found.len() as i32 })
}

pub(crate) async fn children_names(
    driver: &Qemu,
    args: DomainSnapshotListChildrenNamesArgs,
) -> Result<DomainSnapshotListChildrenNamesRet> {
    let (dom, name) = (&args.snap.dom, args.snap.name.to_str_lossy());
    let found = found(driver, dom, Some(&name), args.flags, "qemuDomainSnapshotListChildrenNames")?;
    Ok(DomainSnapshotListChildrenNamesRet { names: first(found, args.maxnames) })
}

pub(crate) async fn children(
    driver: &Qemu,
    args: DomainSnapshotListAllChildrenArgs,
) -> Result<DomainSnapshotListAllChildrenRet> {
    let (dom, name) = (&args.snapshot.dom, args.snapshot.name.to_str_lossy());
    let found = found(driver, dom, Some(&name), args.flags, "qemuDomainSnapshotListAllChildren")?;
    let dom = driver.guest(dom)?.handle();
    let snapshots = handles(&found, &dom, args.need_results);
    Ok(DomainSnapshotListAllChildrenRet { snapshots, ret: found.len() as i32 })
}

pub(crate) async fn lookup(
    driver: &Qemu,
    args: DomainSnapshotLookupByNameArgs,
) -> Result<DomainSnapshotLookupByNameRet> {
    check_flags(args.flags, 0, "qemuDomainSnapshotLookupByName")?;
    let guest = driver.guest(&args.dom)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.name.to_str_lossy())?;
    Ok(DomainSnapshotLookupByNameRet { snap: on_wire(&guest.handle_of(&inner), &moment.name) })
}

pub(crate) async fn xml_desc(
    driver: &Qemu,
    args: DomainSnapshotGetXmlDescArgs,
) -> Result<DomainSnapshotGetXmlDescRet> {
    check_flags(args.flags, XML_SECURE, "qemuDomainSnapshotGetXMLDesc")?;
    let guest = guest_of(driver, &args.snap)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.snap.name.to_str_lossy())?;
    let options = FormatOptions { secure: args.flags & XML_SECURE != 0, ..FormatOptions::default() };
    Ok(DomainSnapshotGetXmlDescRet { xml: super::store::with_parent(moment).to_xml(&options).into() })
}

pub(crate) async fn has_current(
    driver: &Qemu,
    args: DomainHasCurrentSnapshotArgs,
) -> Result<DomainHasCurrentSnapshotRet> {
    check_flags(args.flags, 0, "qemuDomainHasCurrentSnapshot")?;
    let result = driver.guest(&args.dom)?.lock().snapshots.current.is_some();
    Ok(DomainHasCurrentSnapshotRet { result: result.into() })
}

pub(crate) async fn current(
    driver: &Qemu,
    args: DomainSnapshotCurrentArgs,
) -> Result<DomainSnapshotCurrentRet> {
    check_flags(args.flags, 0, "qemuDomainSnapshotCurrent")?;
    let guest = driver.guest(&args.dom)?;
    let inner = guest.lock();
    let none = || QEMU.no_domain_snapshot("the domain does not have a current snapshot");
    let moment = inner.snapshots.current().ok_or_else(none)?;
    Ok(DomainSnapshotCurrentRet { snap: on_wire(&guest.handle_of(&inner), &moment.name) })
}

pub(crate) async fn parent(
    driver: &Qemu,
    args: DomainSnapshotGetParentArgs,
) -> Result<DomainSnapshotGetParentRet> {
    check_flags(args.flags, 0, "qemuDomainSnapshotGetParent")?;
    let guest = guest_of(driver, &args.snap)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.snap.name.to_str_lossy())?;
    let parent = moment.parent.as_deref().ok_or_else(|| {
        QEMU.no_domain_snapshot(format_args!("snapshot '{}' does not have a parent", moment.name))
    })?;
    Ok(DomainSnapshotGetParentRet { snap: on_wire(&guest.handle_of(&inner), parent) })
}

pub(crate) async fn is_current(
    driver: &Qemu,
    args: DomainSnapshotIsCurrentArgs,
) -> Result<DomainSnapshotIsCurrentRet> {
    check_flags(args.flags, 0, "qemuDomainSnapshotIsCurrent")?;
    let guest = guest_of(driver, &args.snap)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.snap.name.to_str_lossy())?;
    let current = inner.snapshots.current.as_ref() == Some(&moment.name);
    Ok(DomainSnapshotIsCurrentRet { current: current.into() })
}

pub(crate) async fn has_metadata(
    driver: &Qemu,
    args: DomainSnapshotHasMetadataArgs,
) -> Result<DomainSnapshotHasMetadataRet> {
    check_flags(args.flags, 0, "qemuDomainSnapshotHasMetadata")?;
    let guest = guest_of(driver, &args.snap)?;
    find(&guest.lock(), &args.snap.name.to_str_lossy())?;
    Ok(DomainSnapshotHasMetadataRet { metadata: 1 })
}
