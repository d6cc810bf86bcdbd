//! Snapshots: what a guest was at a moment, to go back to.

use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote as wire;

use super::guest::Guest;
use super::moment_xml::Snapshot;
use super::state::{State, Step};
use crate::clock::Now;
use crate::error::{Result, TEST, check_flags, uuid_text};
use crate::host::Host;
use virtwire_conf::moments::{Delete, Moment, list as flag};

/// `virDomainSnapshotCreateFlags`
mod create_flags {
    pub(super) const REDEFINE: u32 = 1 << 0;
    pub(super) const CURRENT: u32 = 1 << 1;
    pub(super) const HALT: u32 = 1 << 3;
    pub(super) const QUIESCE: u32 = 1 << 6;
    pub(super) const ATOMIC: u32 = 1 << 7;
    pub(super) const LIVE: u32 = 1 << 8;
    pub(super) const VALIDATE: u32 = 1 << 9;
    pub(super) const KNOWN: u32 = REDEFINE | CURRENT | HALT | QUIESCE | ATOMIC | LIVE | VALIDATE;
}

/// `virDomainSnapshotRevertFlags`
mod revert_flags {
    pub(super) const RUNNING: u32 = 1 << 0;
    pub(super) const PAUSED: u32 = 1 << 1;
    pub(super) const FORCE: u32 = 1 << 2;
    pub(super) const KNOWN: u32 = RUNNING | PAUSED | FORCE;
}

/// `VIR_DOMAIN_XML_SECURE`
const XML_SECURE: u32 = 1;

/// The snapshot of that name.
fn find<'g>(guest: &'g Guest, name: &str) -> Result<&'g Moment<Snapshot>> {
    guest.snapshots.get(name).ok_or_else(|| {
        TEST.no_domain_snapshot(format_args!("no domain snapshot with matching name '{name}'"))
    })
}

/// The guest and the snapshot that a client means.
fn target<'h>(
    host: &'h Host,
    snap: &wire::NonnullDomainSnapshot,
) -> Result<(&'h Guest, &'h Moment<Snapshot>)> {
    let guest = host.guest(&snap.dom)?;
    Ok((guest, find(guest, &snap.name.to_str_lossy())?))
}

fn on_wire(guest: &Guest, moment: &Moment<Snapshot>) -> wire::NonnullDomainSnapshot {
    wire::NonnullDomainSnapshot { name: moment.name.as_str().into(), dom: guest.wire.clone() }
}

/// The snapshots below `from`, or all, that pass the filters.
fn list<'g>(guest: &'g Guest, from: Option<&'g str>, flags: u32) -> Vec<&'g Moment<Snapshot>> {
    let state =
        |snapshot: &Snapshot| if snapshot.state == State::SHUTOFF { flag::INACTIVE } else { flag::ACTIVE };
    guest.snapshots.list(from, flags, |snapshot| state(snapshot) | flag::INTERNAL)
}

pub(crate) fn create_xml(
    host: &mut Host,
    args: wire::DomainSnapshotCreateXmlArgs,
) -> Result<wire::DomainSnapshotCreateXmlRet> {
    use create_flags::*;
    check_flags(args.flags, KNOWN, "testDomainSnapshotCreateXML")?;
    let redefine = args.flags & REDEFINE != 0;
    let halt = args.flags & HALT != 0 && !redefine;
    let guest = host.guest_mut(&args.dom)?;
    if !guest.checkpoints.is_empty() {
        return Err(TEST.operation_unsupported("cannot create snapshot while checkpoint exists"));
    }
    if halt && !guest.is_persistent() {
        return Err(TEST.operation_invalid("cannot halt after transient domain snapshot"));
    }
    let (name, parent, snapshot) = if redefine {
        redefined(guest, &args.xml_desc.to_str_lossy())?
    } else {
        taken(guest, &args.xml_desc.to_str_lossy())?
    };
    if !redefine || args.flags & CURRENT != 0 {
        guest.snapshots.current = Some(name.clone());
    }
    let snap = wire::NonnullDomainSnapshot { name: name.as_str().into(), dom: guest.wire.clone() };
    guest.snapshots.insert(Moment { name, parent, data: snapshot });
    if halt && guest.is_running() {
        let event = guest.stop(Step::STOP_FROM_SNAPSHOT);
        host.emit(event);
    }
    Ok(wire::DomainSnapshotCreateXmlRet { snap })
}

type Named = (String, Option<String>, Snapshot);

/// What the guest is now.
fn taken(guest: &Guest, xml: &str) -> Result<Named> {
    let request = Snapshot::request(xml, guest.definition().domain())?;
    let name = request.name.unwrap_or_else(|| Now::read().seconds().to_string());
    if guest.snapshots.get(&name).is_some() {
        return Err(ErrorDomain::DOMAIN.operation_failed(format_args!("domain moment {name} already exists")));
    }
    let snapshot = Snapshot {
        description: request.description,
        state: guest.status.state,
        created: Now::read().seconds() as i64,
        definition: guest.definition().clone(),
    };
    Ok((name, guest.snapshots.current.clone(), snapshot))
}

/// A snapshot whose description was kept elsewhere.
fn redefined(guest: &Guest, xml: &str) -> Result<Named> {
    let (name, parent, snapshot) =
        Snapshot::parse(xml, |name, parent| guest.snapshots.check_parent(name, parent))?;
    if snapshot.definition.uuid() != guest.wire.uuid {
        return Err(ErrorDomain::DOMAIN_SNAPSHOT.invalid_arg(format_args!(
            "definition for snapshot {name} must use uuid {}",
            uuid_text(&guest.wire.uuid)
        )));
    }
    Ok((name, parent, snapshot))
}

pub(crate) fn get_xml_desc(
    host: &mut Host,
    args: wire::DomainSnapshotGetXmlDescArgs,
) -> Result<wire::DomainSnapshotGetXmlDescRet> {
    check_flags(args.flags, XML_SECURE, "testDomainSnapshotGetXMLDesc")?;
    let (_, moment) = target(host, &args.snap)?;
    let xml = moment.data.format(&moment.name, moment.parent.as_deref(), args.flags & XML_SECURE != 0);
    Ok(wire::DomainSnapshotGetXmlDescRet { xml: xml.into() })
}

pub(crate) fn num(host: &mut Host, args: wire::DomainSnapshotNumArgs) -> Result<wire::DomainSnapshotNumRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainSnapshotNum")?;
    Ok(wire::DomainSnapshotNumRet { num: list(host.guest(&args.dom)?, None, args.flags).len() as i32 })
}

pub(crate) fn list_names(
    host: &mut Host,
    args: wire::DomainSnapshotListNamesArgs,
) -> Result<wire::DomainSnapshotListNamesRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainSnapshotListNames")?;
    let found = list(host.guest(&args.dom)?, None, args.flags);
    let names = found.iter().map(|m| m.name.as_str().into()).take(args.maxnames.max(0) as usize).collect();
    Ok(wire::DomainSnapshotListNamesRet { names })
}

pub(crate) fn list_all(
    host: &mut Host,
    args: wire::DomainListAllSnapshotsArgs,
) -> Result<wire::DomainListAllSnapshotsRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainListAllSnapshots")?;
    let guest = host.guest(&args.dom)?;
    let found = list(guest, None, args.flags);
    let ret = found.len() as i32;
    let wanted = if args.need_results == 0 { 0 } else { found.len() };
    let snapshots = found[..wanted].iter().map(|m| on_wire(guest, m)).collect();
    Ok(wire::DomainListAllSnapshotsRet { snapshots, ret })
}

pub(crate) fn num_children(
    host: &mut Host,
    args: wire::DomainSnapshotNumChildrenArgs,
) -> Result<wire::DomainSnapshotNumChildrenRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainSnapshotNumChildren")?;
    let (guest, moment) = target(host, &args.snap)?;
    Ok(wire::DomainSnapshotNumChildrenRet { num: list(guest, Some(&moment.name), args.flags).len() as i32 })
}

pub(crate) fn list_children_names(
    host: &mut Host,
    args: wire::DomainSnapshotListChildrenNamesArgs,
) -> Result<wire::DomainSnapshotListChildrenNamesRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainSnapshotListChildrenNames")?;
    let (guest, moment) = target(host, &args.snap)?;
    let found = list(guest, Some(&moment.name), args.flags);
    let names = found.iter().map(|m| m.name.as_str().into()).take(args.maxnames.max(0) as usize).collect();
    Ok(wire::DomainSnapshotListChildrenNamesRet { names })
}

pub(crate) fn list_all_children(
    host: &mut Host,
    args: wire::DomainSnapshotListAllChildrenArgs,
) -> Result<wire::DomainSnapshotListAllChildrenRet> {
    check_flags(args.flags, flag::KNOWN, "testDomainSnapshotListAllChildren")?;
    let (guest, moment) = target(host, &args.snapshot)?;
    let found = list(guest, Some(&moment.name), args.flags);
    let ret = found.len() as i32;
    let wanted = if args.need_results == 0 { 0 } else { found.len() };
    let snapshots = found[..wanted].iter().map(|m| on_wire(guest, m)).collect();
    Ok(wire::DomainSnapshotListAllChildrenRet { snapshots, ret })
}

pub(crate) fn lookup_by_name(
    host: &mut Host,
    args: wire::DomainSnapshotLookupByNameArgs,
) -> Result<wire::DomainSnapshotLookupByNameRet> {
    check_flags(args.flags, 0, "testDomainSnapshotLookupByName")?;
    let guest = host.guest(&args.dom)?;
    let snap = on_wire(guest, find(guest, &args.name.to_str_lossy())?);
    Ok(wire::DomainSnapshotLookupByNameRet { snap })
}

pub(crate) fn has_current(
    host: &mut Host,
    args: wire::DomainHasCurrentSnapshotArgs,
) -> Result<wire::DomainHasCurrentSnapshotRet> {
    check_flags(args.flags, 0, "testDomainHasCurrentSnapshot")?;
    let result = i32::from(host.guest(&args.dom)?.snapshots.current.is_some());
    Ok(wire::DomainHasCurrentSnapshotRet { result })
}

pub(crate) fn current(
    host: &mut Host,
    args: wire::DomainSnapshotCurrentArgs,
) -> Result<wire::DomainSnapshotCurrentRet> {
    check_flags(args.flags, 0, "testDomainSnapshotCurrent")?;
    let guest = host.guest(&args.dom)?;
    let moment = guest
        .snapshots
        .current()
        .ok_or_else(|| TEST.no_domain_snapshot("the domain does not have a current snapshot"))?;
    Ok(wire::DomainSnapshotCurrentRet { snap: on_wire(guest, moment) })
}

pub(crate) fn parent(
    host: &mut Host,
    args: wire::DomainSnapshotGetParentArgs,
) -> Result<wire::DomainSnapshotGetParentRet> {
    check_flags(args.flags, 0, "testDomainSnapshotGetParent")?;
    let (guest, moment) = target(host, &args.snap)?;
    let parent = moment.parent.as_deref().ok_or_else(|| {
        TEST.no_domain_snapshot(format_args!("snapshot '{}' does not have a parent", moment.name))
    })?;
    Ok(wire::DomainSnapshotGetParentRet { snap: on_wire(guest, find(guest, parent)?) })
}

pub(crate) fn is_current(
    host: &mut Host,
    args: wire::DomainSnapshotIsCurrentArgs,
) -> Result<wire::DomainSnapshotIsCurrentRet> {
    check_flags(args.flags, 0, "testDomainSnapshotIsCurrent")?;
    let (guest, moment) = target(host, &args.snap)?;
    let current = i32::from(guest.snapshots.current.as_ref() == Some(&moment.name));
    Ok(wire::DomainSnapshotIsCurrentRet { current })
}

pub(crate) fn has_metadata(
    host: &mut Host,
    args: wire::DomainSnapshotHasMetadataArgs,
) -> Result<wire::DomainSnapshotHasMetadataRet> {
    check_flags(args.flags, 0, "testDomainSnapshotHasMetadata")?;
    target(host, &args.snap)?;
    Ok(wire::DomainSnapshotHasMetadataRet { metadata: 1 })
}

pub(crate) fn delete(host: &mut Host, args: wire::DomainSnapshotDeleteArgs) -> Result<()> {
    const KNOWN: u32 = 1 | 4;
    check_flags(args.flags, KNOWN, "testDomainSnapshotDelete")?;
    target(host, &args.snap)?;
    let name = args.snap.name.to_string();
    host.guest_mut(&args.snap.dom)?.snapshots.delete(&name, Delete::from_flags(args.flags));
    Ok(())
}

pub(crate) fn revert(host: &mut Host, args: wire::DomainRevertToSnapshotArgs) -> Result<()> {
    use revert_flags::*;
    check_flags(args.flags, KNOWN, "testDomainRevertToSnapshot")?;
    let (guest, moment) = target(host, &args.snap)?;
    let (name, state, definition) = (moment.name.clone(), moment.data.state, moment.data.definition.clone());
    let asked = args.flags & (RUNNING | PAUSED);
    let inactive = state == State::SHUTOFF;
    if !guest.is_persistent() && inactive && asked == 0 {
        return Err(TEST.operation_invalid(
            "transient domain needs to request run or pause to revert to inactive snapshot",
        ));
    }
    let running = guest.is_running();
    let id = if inactive { 0 } else { host.next_id() };
    let guest = host.guest_mut(&args.snap.dom)?;
    guest.snapshots.current = Some(name);
    let mut events = Vec::new();
    if running {
        events.push(guest.stop(Step::STOP_FROM_SNAPSHOT));
    }
    if inactive {
        // The guest stays off even if asked to run; only the events say otherwise.
        if asked != 0 {
            events.push(guest.lifecycle(Step::START_FROM_SNAPSHOT.event));
        }
        if asked & PAUSED != 0 {
            events.push(guest.lifecycle(Step::PAUSE_FROM_SNAPSHOT.event));
        }
    } else {
        events.push(guest.start(id, definition.clone(), Step::START_FROM_SNAPSHOT));
        if asked & PAUSED != 0 || (asked == 0 && state == State::PAUSED) {
            events.push(guest.go(Step::PAUSE_FROM_SNAPSHOT));
        }
    }
    guest.stored = definition;
    events.into_iter().for_each(|event| host.emit(event));
    Ok(())
}
