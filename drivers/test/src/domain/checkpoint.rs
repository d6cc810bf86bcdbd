//! Checkpoints: moments from which on changes of disks are remembered.

use virtwire_driver_api::passes;
use virtwire_protocol::remote as wire;

use super::guest::Guest;
use super::moment_xml::Checkpoint;
use crate::clock::Now;
use crate::error::{Result, TEST, check_flags, uuid_text};
use crate::host::Host;
use virtwire_conf::moments::{Delete, Moment};
use virtwire_protocol::ErrorDomain;

/// `virDomainCheckpointCreateFlags`: REDEFINE 1, QUIESCE 2, REDEFINE_VALIDATE 4.
mod create_flags {
    pub(super) const REDEFINE: u32 = 1;
    pub(super) const KNOWN: u32 = REDEFINE | 2;
}

/// `virDomainCheckpointListFlags`
mod list_flags {
    /// Without parent, of a guest's list; with all descendants, of a checkpoint's list.
    pub(super) const ROOTS_OR_DESCENDANTS: u32 = 1 << 0;
    pub(super) const TOPOLOGICAL: u32 = 1 << 1;
    pub(super) const LEAVES: u32 = 1 << 2;
    pub(super) const NO_LEAVES: u32 = 1 << 3;
    pub(super) const KNOWN: u32 = ROOTS_OR_DESCENDANTS | TOPOLOGICAL | LEAVES | NO_LEAVES;
}

/// `virDomainCheckpointXMLFlags`
mod xml_flags {
    pub(super) const SECURE: u32 = 1 << 0;
    pub(super) const NO_DOMAIN: u32 = 1 << 1;
    pub(super) const SIZE: u32 = 1 << 2;
    pub(super) const KNOWN: u32 = SECURE | NO_DOMAIN | SIZE;
}

fn find<'g>(guest: &'g Guest, name: &str) -> Result<&'g Moment<Checkpoint>> {
    guest.checkpoints.get(name).ok_or_else(|| {
        TEST.no_domain_checkpoint(format_args!("no domain checkpoint with matching name '{name}'"))
    })
}

fn target<'h>(
    host: &'h Host,
    checkpoint: &wire::NonnullDomainCheckpoint,
) -> Result<(&'h Guest, &'h Moment<Checkpoint>)> {
    let guest = host.guest(&checkpoint.dom)?;
    Ok((guest, find(guest, &checkpoint.name.to_str_lossy())?))
}

fn on_wire(guest: &Guest, moment: &Moment<Checkpoint>) -> wire::NonnullDomainCheckpoint {
    wire::NonnullDomainCheckpoint { name: moment.name.as_str().into(), dom: guest.wire.clone() }
}

fn list(
    guest: &Guest,
    from: Option<&str>,
    flags: u32,
    wanted: i32,
) -> (Vec<wire::NonnullDomainCheckpoint>, i32) {
    use list_flags::*;
    let all = &guest.checkpoints;
    let deep = (flags & ROOTS_OR_DESCENDANTS != 0) == from.is_some();
    let mut found = if deep { all.descendants(from) } else { all.children(from).collect() };
    found
        .retain(|moment| passes(flags, LEAVES, NO_LEAVES, all.children(Some(&moment.name)).next().is_none()));
    let ret = found.len() as i32;
    let shown = if wanted == 0 { 0 } else { found.len() };
    (found[..shown].iter().map(|moment| on_wire(guest, moment)).collect(), ret)
}

pub(crate) fn create_xml(
    host: &mut Host,
    args: wire::DomainCheckpointCreateXmlArgs,
) -> Result<wire::DomainCheckpointCreateXmlRet> {
    check_flags(args.flags, create_flags::KNOWN, "testDomainCheckpointCreateXML")?;
    let redefine = args.flags & create_flags::REDEFINE != 0;
    let guest = host.guest_mut(&args.dom)?;
    if !guest.snapshots.is_empty() {
        return Err(TEST.operation_unsupported("cannot create checkpoint while snapshot exists"));
    }
    if !redefine && !guest.is_running() {
        return Err(TEST.operation_unsupported("cannot create checkpoint for inactive domain"));
    }
    let xml = args.xml_desc.to_str_lossy();
    let (name, parent, data) = if redefine {
        redefined(guest, &xml)?
    } else {
        let (name, data) = Checkpoint::request(&xml, guest.definition(), Now::read().seconds() as i64)?;
        if guest.checkpoints.get(&name).is_some() {
            let text = format_args!("domain moment {name} already exists");
            return Err(ErrorDomain::DOMAIN.operation_failed(text));
        }
        (name, guest.checkpoints.current.clone(), data)
    };
    guest.checkpoints.current = Some(name.clone());
    let moment = Moment { name, parent, data };
    let checkpoint = on_wire(guest, &moment);
    guest.checkpoints.insert(moment);
    Ok(wire::DomainCheckpointCreateXmlRet { checkpoint })
}

fn redefined(guest: &Guest, xml: &str) -> Result<(String, Option<String>, Checkpoint)> {
    let (name, parent, data) = Checkpoint::parse(xml)?;
    guest.checkpoints.check_parent(&name, parent.as_deref())?;
    if data.definition.uuid() != guest.wire.uuid {
        return Err(ErrorDomain::DOMAIN_CHECKPOINT.invalid_arg(format_args!(
            "definition for checkpoint {name} must use uuid {}",
            uuid_text(&guest.wire.uuid)
        )));
    }
    Ok((name, parent, data))
}

pub(crate) fn get_xml_desc(
    host: &mut Host,
    args: wire::DomainCheckpointGetXmlDescArgs,
) -> Result<wire::DomainCheckpointGetXmlDescRet> {
    use xml_flags::*;
    check_flags(args.flags, KNOWN, "testDomainCheckpointGetXMLDesc")?;
    let (_, moment) = target(host, &args.checkpoint)?;
    let parent = moment.parent.as_deref();
    let xml = moment.data.format(&moment.name, parent, args.flags & SECURE != 0, args.flags & NO_DOMAIN == 0);
    Ok(wire::DomainCheckpointGetXmlDescRet { xml: xml.into() })
}

pub(crate) fn list_all(
    host: &mut Host,
    args: wire::DomainListAllCheckpointsArgs,
) -> Result<wire::DomainListAllCheckpointsRet> {
    check_flags(args.flags, list_flags::KNOWN, "testDomainListAllCheckpoints")?;
    let (checkpoints, ret) = list(host.guest(&args.dom)?, None, args.flags, args.need_results);
    Ok(wire::DomainListAllCheckpointsRet { checkpoints, ret })
}

pub(crate) fn list_all_children(
    host: &mut Host,
    args: wire::DomainCheckpointListAllChildrenArgs,
) -> Result<wire::DomainCheckpointListAllChildrenRet> {
    check_flags(args.flags, list_flags::KNOWN, "testDomainCheckpointListAllChildren")?;
    let (guest, moment) = target(host, &args.checkpoint)?;
    let (checkpoints, ret) = list(guest, Some(&moment.name), args.flags, args.need_results);
    Ok(wire::DomainCheckpointListAllChildrenRet { checkpoints, ret })
}

pub(crate) fn lookup_by_name(
    host: &mut Host,
    args: wire::DomainCheckpointLookupByNameArgs,
) -> Result<wire::DomainCheckpointLookupByNameRet> {
    check_flags(args.flags, 0, "testDomainCheckpointLookupByName")?;
    let guest = host.guest(&args.dom)?;
    let checkpoint = on_wire(guest, find(guest, &args.name.to_str_lossy())?);
    Ok(wire::DomainCheckpointLookupByNameRet { checkpoint })
}

pub(crate) fn parent(
    host: &mut Host,
    args: wire::DomainCheckpointGetParentArgs,
) -> Result<wire::DomainCheckpointGetParentRet> {
    check_flags(args.flags, 0, "testDomainCheckpointGetParent")?;
    let (guest, moment) = target(host, &args.checkpoint)?;
    let parent = moment.parent.as_deref().ok_or_else(|| {
        TEST.no_domain_checkpoint(format_args!("checkpoint '{}' does not have a parent", moment.name))
    })?;
    Ok(wire::DomainCheckpointGetParentRet { parent: on_wire(guest, find(guest, parent)?) })
}

pub(crate) fn delete(host: &mut Host, args: wire::DomainCheckpointDeleteArgs) -> Result<()> {
    /// `virDomainCheckpointDeleteFlags`: CHILDREN 1, METADATA_ONLY 2, CHILDREN_ONLY 4.
    const KNOWN: u32 = 1 | 2 | 4;
    check_flags(args.flags, KNOWN, "testDomainCheckpointDelete")?;
    target(host, &args.checkpoint)?;
    let name = args.checkpoint.name.to_string();
    host.guest_mut(&args.checkpoint.dom)?.checkpoints.delete(&name, Delete::from_flags(args.flags));
    Ok(())
}
