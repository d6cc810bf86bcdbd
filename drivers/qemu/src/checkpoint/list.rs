//! What clients ask about checkpoints.

use virtwire_conf::moments::list as flag;
use virtwire_conf::{Checkpoint, FormatOptions};
use virtwire_protocol::remote::*;

use super::bitmaps::{self, Bitmaps};
use super::{find, guest_of, on_wire, with_parent};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::{Guest, Inner};

/// `VIR_DOMAIN_CHECKPOINT_LIST_…`
const ROOTS_OR_DESCENDANTS: u32 = 1;
const TOPOLOGICAL: u32 = 2;
const LEAVES: u32 = 4;
const NO_LEAVES: u32 = 8;
const KNOWN: u32 = ROOTS_OR_DESCENDANTS | TOPOLOGICAL | LEAVES | NO_LEAVES;

/// `VIR_DOMAIN_CHECKPOINT_XML_SECURE`, `…_NO_DOMAIN`, `…_SIZE`
const SECURE: u32 = 1;
const NO_DOMAIN: u32 = 2;
const SIZE: u32 = 4;

/// The names in a guest's list, or in that of one of its checkpoints.
fn names(inner: &Inner, from: Option<&str>, flags: u32) -> Vec<String> {
    let pairs = [
        (ROOTS_OR_DESCENDANTS, flag::ROOTS_OR_DESCENDANTS),
        (LEAVES, flag::LEAVES),
        (NO_LEAVES, flag::NO_LEAVES),
    ];
    let flags = pairs.iter().filter(|(own, _)| flags & own != 0).fold(0, |all, (_, flag)| all | flag);
    inner.checkpoints.list(from, flags, |_| 0).into_iter().map(|moment| moment.name.clone()).collect()
}

/// The checkpoints themselves, where they are wanted.
fn handles(found: &[String], dom: &NonnullDomain, wanted: i32) -> Vec<NonnullDomainCheckpoint> {
    let wanted = if wanted == 0 { &[] } else { found };
    wanted.iter().map(|name| on_wire(dom, name)).collect()
}

pub(crate) async fn of_guest(
    driver: &Qemu,
    args: DomainListAllCheckpointsArgs,
) -> Result<DomainListAllCheckpointsRet> {
    check_flags(args.flags, KNOWN, "qemuDomainListAllCheckpoints")?;
    let guest = driver.guest(&args.dom)?;
    let inner = guest.lock();
    let found = names(&inner, None, args.flags);
    let checkpoints = handles(&found, &guest.handle_of(&inner), args.need_results);
    Ok(DomainListAllCheckpointsRet { checkpoints, ret: found.len() as i32 })
}

pub(crate) async fn children(
    driver: &Qemu,
    args: DomainCheckpointListAllChildrenArgs,
) -> Result<DomainCheckpointListAllChildrenRet> {
    check_flags(args.flags, KNOWN, "qemuDomainCheckpointListAllChildren")?;
    let guest = guest_of(driver, &args.checkpoint)?;
    let inner = guest.lock();
    let name = &find(&inner, &args.checkpoint.name.to_str_lossy())?.name;
    let found = names(&inner, Some(name), args.flags);
    let checkpoints = handles(&found, &guest.handle_of(&inner), args.need_results);
    Ok(DomainCheckpointListAllChildrenRet { checkpoints, ret: found.len() as i32 })
}

pub(crate) async fn lookup(
    driver: &Qemu,
    args: DomainCheckpointLookupByNameArgs,
) -> Result<DomainCheckpointLookupByNameRet> {
    check_flags(args.flags, 0, "qemuDomainCheckpointLookupByName")?;
    let guest = driver.guest(&args.dom)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.name.to_str_lossy())?;
    let checkpoint = on_wire(&guest.handle_of(&inner), &moment.name);
    Ok(DomainCheckpointLookupByNameRet { checkpoint })
}

pub(crate) async fn parent(
    driver: &Qemu,
    args: DomainCheckpointGetParentArgs,
) -> Result<DomainCheckpointGetParentRet> {
    check_flags(args.flags, 0, "qemuDomainCheckpointGetParent")?;
    let guest = guest_of(driver, &args.checkpoint)?;
    let inner = guest.lock();
    let moment = find(&inner, &args.checkpoint.name.to_str_lossy())?;
    let parent = moment.parent.as_deref().ok_or_else(|| {
        QEMU.no_domain_checkpoint(format_args!("checkpoint '{}' does not have a parent", moment.name))
    })?;
    Ok(DomainCheckpointGetParentRet { parent: on_wire(&guest.handle_of(&inner), parent) })
}

pub(crate) async fn xml_desc(
    driver: &Qemu,
    args: DomainCheckpointGetXmlDescArgs,
) -> Result<DomainCheckpointGetXmlDescRet> {
    check_flags(args.flags, SECURE | NO_DOMAIN | SIZE, "qemuCheckpointGetXMLDesc")?;
    let guest = guest_of(driver, &args.checkpoint)?;
    let mut whole = with_parent(find(&guest.lock(), &args.checkpoint.name.to_str_lossy())?);
    if args.flags & SIZE != 0 {
        measure(&guest, &mut whole).await?;
    }
    if args.flags & NO_DOMAIN != 0 {
        whole.domain = None;
    }
    let options = FormatOptions { secure: args.flags & SECURE != 0, ..FormatOptions::default() };
    Ok(DomainCheckpointGetXmlDescRet { xml: whole.to_xml(&options).into() })
}

/// Says how much has changed since a checkpoint.
async fn measure(guest: &Guest, checkpoint: &mut Checkpoint) -> Result<()> {
    let live = guest.live()?;
    let all = Bitmaps::read(&live).await?;
    for disk in checkpoint.disks.iter_mut().flat_map(|disks| &mut disks.disk) {
        let (Some(bitmap), Some(own)) = (&disk.bitmap, bitmaps::disk(&live, &disk.name)) else { continue };
        let found = all.of(own, bitmap);
        disk.size = (!found.is_empty()).then(|| found.iter().map(|(_, bitmap)| bitmap.count).sum());
    }
    Ok(())
}
