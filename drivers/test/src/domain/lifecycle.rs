//! Define, start, pause, stop, forget.

use std::os::fd::OwnedFd;

use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote as wire;

use super::guest::{Definition, Guest};
use super::state::{Lifecycle, State, Status, Step};
use crate::error::{Result, TEST, check_flags, uuid_text};
use crate::host::Host;
use crate::registry::{Object, Uuid};

/// `virDomainCreateFlags` that are understood; the rest of the start options need a real guest.
const START_VALIDATE: u32 = 1 << 4;
const START_FORCE_BOOT: u32 = 1 << 3;
/// `VIR_DOMAIN_DEFINE_VALIDATE`
const DEFINE_VALIDATE: u32 = 1;

/// `virDomainUndefineFlagsValues`
mod undefine_flags {
    pub(super) const MANAGED_SAVE: u32 = 1 << 0;
    pub(super) const SNAPSHOTS_METADATA: u32 = 1 << 1;
    pub(super) const KNOWN: u32 = MANAGED_SAVE | SNAPSHOTS_METADATA;
}

/// A definition may only replace a guest that has both its name and its UUID.
pub(crate) fn check_same_guest(host: &Host, name: &str, uuid: &Uuid) -> Result<()> {
    match (host.guests.by_uuid(uuid), host.guests.by_name(name)) {
        (Some(guest), _) if guest.name() != name => Err(ErrorDomain::DOMAIN.operation_failed(format_args!(
            "domain '{}' is already defined with uuid {}",
            guest.name(),
            uuid_text(uuid)
        ))),
        (None, Some(guest)) => Err(ErrorDomain::DOMAIN.operation_failed(format_args!(
            "domain '{name}' already exists with uuid {}",
            uuid_text(&guest.wire.uuid)
        ))),
        _ => Ok(()),
    }
}

/// Defines a guest, new or not.
fn define_xml(host: &mut Host, xml: &str) -> Result<wire::NonnullDomain> {
    let definition = Definition::parse(xml)?;
    let uuid = definition.uuid();
    check_same_guest(host, definition.name(), &uuid)?;
    let (dom, event) = match host.guests.by_uuid_mut(&uuid) {
        Some(guest) => {
            guest.stored = definition;
            guest.persistent = true;
            (guest.wire.clone(), guest.lifecycle(Lifecycle::REDEFINED))
        }
        None => {
            let guest = Guest::defined(definition);
            let told = (guest.wire.clone(), guest.lifecycle(Lifecycle::DEFINED));
            host.guests.insert(guest);
            told
        }
    };
    host.emit(event);
    Ok(dom)
}

/// Starts a guest from a definition of its own; without one that stays, it vanishes when it stops.
pub(super) fn create_running(
    host: &mut Host,
    definition: Definition,
    step: Step,
) -> Result<wire::NonnullDomain> {
    let uuid = definition.uuid();
    check_same_guest(host, definition.name(), &uuid)?;
    if let Some(guest) = host.guests.by_uuid(&uuid).filter(|guest| guest.is_running()) {
        let text = format_args!("domain '{}' is already active", guest.name());
        return Err(ErrorDomain::DOMAIN.operation_invalid(text));
    }
    let id = host.next_id();
    let (dom, event) = match host.guests.by_uuid_mut(&uuid) {
        Some(guest) => {
            let event = guest.start(id, definition, step);
            (guest.wire.clone(), event)
        }
        None => {
            let (guest, event) = Guest::transient(id, definition, step);
            let dom = guest.wire.clone();
            host.guests.insert(guest);
            (dom, event)
        }
    };
    host.emit(event);
    Ok(dom)
}

pub(crate) fn define(host: &mut Host, args: wire::DomainDefineXmlArgs) -> Result<wire::DomainDefineXmlRet> {
    Ok(wire::DomainDefineXmlRet { dom: define_xml(host, &args.xml.to_str_lossy())? })
}

pub(crate) fn define_flags(
    host: &mut Host,
    args: wire::DomainDefineXmlFlagsArgs,
) -> Result<wire::DomainDefineXmlFlagsRet> {
    check_flags(args.flags, DEFINE_VALIDATE, "testDomainDefineXMLFlags")?;
    Ok(wire::DomainDefineXmlFlagsRet { dom: define_xml(host, &args.xml.to_str_lossy())? })
}

pub(crate) fn create_xml(
    host: &mut Host,
    args: wire::DomainCreateXmlArgs,
) -> Result<wire::DomainCreateXmlRet> {
    check_flags(args.flags, START_VALIDATE, "testDomainCreateXML")?;
    let definition = Definition::parse(&args.xml_desc.to_str_lossy())?;
    Ok(wire::DomainCreateXmlRet { dom: create_running(host, definition, Step::BOOT)? })
}

pub(crate) fn create_xml_with_files(
    host: &mut Host,
    args: wire::DomainCreateXmlWithFilesArgs,
    _: Vec<OwnedFd>,
) -> Result<wire::DomainCreateXmlWithFilesRet> {
    check_flags(args.flags, START_VALIDATE, "testDomainCreateXML")?;
    let definition = Definition::parse(&args.xml_desc.to_str_lossy())?;
    Ok(wire::DomainCreateXmlWithFilesRet { dom: create_running(host, definition, Step::BOOT)? })
}

/// Boots a defined guest.
fn start(host: &mut Host, dom: &wire::NonnullDomain, flags: u32) -> Result<wire::NonnullDomain> {
    check_flags(flags, START_FORCE_BOOT, "testDomainCreateWithFlags")?;
    let guest = host.guest(dom)?;
    if guest.is_running() {
        return Err(TEST.internal_error(format_args!("Domain '{}' is already running", guest.name())));
    }
    let id = host.next_id();
    let guest = host.guest_mut(dom)?;
    let event = guest.start_again(id, Step::BOOT);
    guest.managed_save = false;
    let dom = guest.wire.clone();
    host.emit(event);
    Ok(dom)
}

pub(crate) fn create(host: &mut Host, args: wire::DomainCreateArgs) -> Result<()> {
    start(host, &args.dom, 0).map(drop)
}

pub(crate) fn create_with_flags(
    host: &mut Host,
    args: wire::DomainCreateWithFlagsArgs,
) -> Result<wire::DomainCreateWithFlagsRet> {
    Ok(wire::DomainCreateWithFlagsRet { dom: start(host, &args.dom, args.flags)? })
}

pub(crate) fn create_with_files(
    host: &mut Host,
    args: wire::DomainCreateWithFilesArgs,
    _: Vec<OwnedFd>,
) -> Result<wire::DomainCreateWithFilesRet> {
    Ok(wire::DomainCreateWithFilesRet { dom: start(host, &args.dom, args.flags)? })
}

pub(crate) fn suspend(host: &mut Host, args: wire::DomainSuspendArgs) -> Result<()> {
    let guest = host.guest_mut(&args.dom)?;
    if !matches!(guest.status.state, State::RUNNING | State::PM_SUSPENDED) {
        return Err(TEST.internal_error(format_args!("domain '{}' not running", guest.name())));
    }
    let event = guest.go(Step::SUSPEND);
    host.emit(event);
    Ok(())
}

pub(crate) fn resume(host: &mut Host, args: wire::DomainResumeArgs) -> Result<()> {
    let guest = host.guest_mut(&args.dom)?;
    if guest.status.state != State::PAUSED {
        return Err(TEST.internal_error(format_args!("domain '{}' not paused", guest.name())));
    }
    let event = guest.go(Step::RESUME);
    host.emit(event);
    Ok(())
}

/// Stops a running guest; one without a lasting definition is gone with that.
pub(super) fn stop(host: &mut Host, dom: &wire::NonnullDomain, step: Step) -> Result<()> {
    let guest = host.guest_mut(dom)?;
    let event = guest.stop(step);
    if !guest.is_persistent() {
        host.guests.remove_uuid(&dom.uuid);
    }
    host.emit(event);
    Ok(())
}

pub(crate) fn destroy(host: &mut Host, args: wire::DomainDestroyArgs) -> Result<()> {
    destroy_flags(host, wire::DomainDestroyFlagsArgs { dom: args.dom, flags: 0 })
}

pub(crate) fn destroy_flags(host: &mut Host, args: wire::DomainDestroyFlagsArgs) -> Result<()> {
    const GRACEFUL: u32 = 1;
    check_flags(args.flags, GRACEFUL, "testDomainDestroyFlags")?;
    host.guest(&args.dom)?.check_running()?;
    stop(host, &args.dom, Step::DESTROY)
}

/// What a guest's definition says should follow when it reboots, powers off or crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It starts again.
    Restart,
    /// It is over.
    Stop,
}

pub(crate) fn shutdown(host: &mut Host, args: wire::DomainShutdownArgs) -> Result<()> {
    shutdown_flags(host, wire::DomainShutdownFlagsArgs { dom: args.dom, flags: 0 })
}

pub(crate) fn shutdown_flags(host: &mut Host, args: wire::DomainShutdownFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainShutdownFlags")?;
    let guest = host.guest_mut(&args.dom)?;
    if guest.status.state == State::SHUTOFF {
        return Err(TEST.internal_error(format_args!("domain '{}' not running", guest.name())));
    }
    match guest.fate_at_poweroff() {
        Fate::Stop => stop(host, &args.dom, Step::SHUTDOWN),
        Fate::Restart => {
            guest.status = Status::REBOOTED;
            Ok(())
        }
    }
}

pub(crate) fn reboot(host: &mut Host, args: wire::DomainRebootArgs) -> Result<()> {
    /// `virDomainRebootFlagValues`
    const KNOWN: u32 = (1 << 5) - 1;
    check_flags(args.flags, KNOWN, "testDomainReboot")?;
    let guest = host.guest_mut(&args.dom)?;
    guest.check_running()?;
    match guest.fate_at_reboot() {
        Fate::Stop => stop(host, &args.dom, Step::SHUTDOWN),
        Fate::Restart => {
            guest.status = Status::REBOOTED;
            Ok(())
        }
    }
}

pub(crate) fn reset(host: &mut Host, args: wire::DomainResetArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainReset")?;
    host.guest(&args.dom)?.check_running()
}

pub(crate) fn undefine(host: &mut Host, args: wire::DomainUndefineArgs) -> Result<()> {
    undefine_flags(host, wire::DomainUndefineFlagsArgs { dom: args.dom, flags: 0 })
}

pub(crate) fn undefine_flags(host: &mut Host, args: wire::DomainUndefineFlagsArgs) -> Result<()> {
    use undefine_flags::*;
    check_flags(args.flags, KNOWN, "testDomainUndefineFlags")?;
    let guest = host.guest_mut(&args.dom)?;
    let running = guest.is_running();
    if guest.managed_save && args.flags & MANAGED_SAVE == 0 {
        return Err(TEST.operation_invalid("Refusing to undefine while domain managed save image exists"));
    }
    let snapshots = guest.snapshots.iter().count();
    if snapshots > 0 && !running && args.flags & SNAPSHOTS_METADATA == 0 {
        let text = format_args!("cannot delete inactive domain with {snapshots} snapshots");
        return Err(TEST.operation_invalid(text));
    }
    guest.managed_save = false;
    let event = guest.lifecycle(Lifecycle::UNDEFINED);
    if running {
        guest.undefined |= guest.persistent;
        guest.persistent = false;
    } else {
        host.guests.remove_uuid(&args.dom.uuid);
    }
    host.emit(event);
    Ok(())
}

pub(crate) fn rename(host: &mut Host, args: wire::DomainRenameArgs) -> Result<wire::DomainRenameRet> {
    check_flags(args.flags, 0, "testDomainRename")?;
    let new = args.new_name.map(|name| name.to_string()).unwrap_or_default();
    if new.contains('/') {
        return Err(TEST.xml_error(format_args!("name {new} cannot contain '/'")));
    }
    let guest = host.guest(&args.dom)?;
    if guest.is_running() {
        return Err(TEST.operation_invalid("cannot rename active domain"));
    }
    if guest.name() == new {
        return Err(ErrorDomain::DOMAIN.operation_invalid("Can't rename domain to itself"));
    }
    if host.guests.by_name(&new).is_some() {
        let text = format_args!("domain with name '{new}' already exists");
        return Err(ErrorDomain::DOMAIN.operation_invalid(text));
    }
    let before = guest.lifecycle(Lifecycle::UNDEFINED_RENAMED);
    host.guests.rename(&args.dom.uuid, &new, |guest| guest.set_name(&new));
    let after = host.guest(&args.dom)?.lifecycle(Lifecycle::DEFINED_RENAMED);
    host.emit(before);
    host.emit(after);
    Ok(wire::DomainRenameRet { retcode: 0 })
}
