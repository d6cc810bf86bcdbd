//! Definitions: stored, replaced, removed; autostart; how QEMU would be started.

use std::path::PathBuf;
use std::sync::Arc;

use virtwire_conf::xml::utf8;
use virtwire_conf::{Checkpoint, Domain, FormatOptions, Snapshot};
use virtwire_protocol::error::{ErrorCode, ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

use crate::argv;
use crate::command::shell;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file};
use crate::guest::{Definition, Guest};
use crate::state::{Lifecycle, State};
use crate::{kept, listen, live, prepare, screens, sysinfo, tpm};
use virtwire_store as store;

/// `VIR_DOMAIN_DEFINE_VALIDATE`
const VALIDATE: u32 = 1;
/// `VIR_DOMAIN_UNDEFINE_…`: managed save, snapshots, NVRAM, checkpoints, TPM; all that belongs to a guest.
const UNDEFINE_FLAGS: u32 = 0x7f;
/// `VIR_DOMAIN_UNDEFINE_NVRAM`, `VIR_DOMAIN_UNDEFINE_KEEP_NVRAM`
const NVRAM: u32 = 4;
const KEEP_NVRAM: u32 = 8;

pub(crate) async fn define(driver: &Qemu, args: DomainDefineXmlArgs) -> Result<DomainDefineXmlRet> {
    let args = DomainDefineXmlFlagsArgs { xml: args.xml, flags: 0 };
    Ok(DomainDefineXmlRet { dom: define_flags(driver, args).await?.dom })
}

pub(crate) async fn define_flags(
    driver: &Qemu,
    args: DomainDefineXmlFlagsArgs,
) -> Result<DomainDefineXmlFlagsRet> {
    check_flags(args.flags, VALIDATE, "qemuDomainDefineXMLFlags")?;
    let options = driver.options().await?.clone().validating(args.flags & VALIDATE != 0);
    let domain = Domain::parse(utf8(args.xml.as_bytes(), ErrorDomain::DOMAIN)?, &options)?;
    let (guest, event) = store_definition(driver, domain).await?;
    let dom = guest.handle();
    driver.emit(event.of(dom.clone()));
    Ok(DomainDefineXmlFlagsRet { dom })
}

/// Keeps a definition: on disk first, so that what is acknowledged is not lost.
async fn store_definition(driver: &Qemu, domain: Domain) -> Result<(Arc<Guest>, Lifecycle)> {
    let (name, uuid) = (domain.name.clone(), domain.uuid.unwrap_or_default().into_bytes());
    check_name(&name)?;
    check_directory(driver, &name)?;
    let definition = Definition::new(domain);
    while let Some(guest) = driver.by_uuid(&uuid) {
        if guest.name != name {
            let uuid = uuid::Uuid::from_bytes(uuid).hyphenated();
            let text = format_args!("domain '{}' is already defined with uuid {uuid}", guest.name);
            return Err(ErrorDomain::DOMAIN.operation_failed(text));
        }
        let _job = guest.job.lock().await;
        if !driver.knows(&guest) {
            continue;
        }
        write(driver, &name, &definition.xml)?;
        let mut inner = guest.lock();
        inner.persistent = Some(definition);
        drop(inner);
        drop(_job);
        return Ok((guest, Lifecycle::DEFINED_UPDATED));
    }
    let xml = Arc::clone(&definition.xml);
    let guest = Arc::new(Guest::new(name.clone(), uuid, Some(definition), false));
    {
        // Nobody removes it before it is on disk.
        let _job = guest.job.lock().await;
        driver.add(Arc::clone(&guest))?;
        if let Err(error) = write(driver, &name, &xml) {
            driver.remove(&guest);
            return Err(error);
        }
    }
    Ok((guest, Lifecycle::DEFINED_ADDED))
}

/// A definition as it is kept.
pub(crate) fn stored(name: &str, xml: &str) -> String {
    store::with_warning(&format!("edit {name}"), xml)
}

/// Puts a definition on disk.
pub(crate) fn write(driver: &Qemu, name: &str, xml: &str) -> Result<()> {
    let path = driver.shared.dirs.definition(name);
    store::write(&path, &stored(name, xml)).map_err(|e| {
        VirtError::system(
            ErrorDomain::NONE,
            &e,
            format_args!("Failed to create file '{}.new'", path.display()),
        )
    })
}

/// A stored guest has directories of its name; these two would be others.
pub(crate) fn check_directory(driver: &Qemu, name: &str) -> Result<()> {
    let dir = driver.shared.dirs.lib.join("snapshot");
    let (errno, what) = match name {
        "." => (rustix::io::Errno::INVAL, format!("Cannot delete directory '{}/.'", dir.display())),
        ".." => (rustix::io::Errno::NOENT, format!("Cannot access '{}/../dump'", dir.display())),
        _ => return Ok(()),
    };
    Err(VirtError::system(QEMU, &errno.into(), what))
}

/// Names that would break the lines of files and logs are refused.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.contains('\n') {
        let text = format_args!("invalid char in name: {}", '\n');
        return Err(VirtError::new(ErrorDomain::XML, ErrorCode::XML_DETAIL, text));
    }
    Ok(())
}

pub(crate) async fn undefine(driver: &Qemu, args: DomainUndefineArgs) -> Result<()> {
    undefine_flags(driver, DomainUndefineFlagsArgs { dom: args.dom, flags: 0 }).await
}

pub(crate) async fn undefine_flags(driver: &Qemu, args: DomainUndefineFlagsArgs) -> Result<()> {
    check_flags(args.flags, UNDEFINE_FLAGS, "qemuDomainUndefineFlags")?;
    if args.flags & NVRAM != 0 && args.flags & KEEP_NVRAM != 0 {
        return Err(QEMU.operation_invalid("cannot both keep and delete nvram"));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    if guest.lock().persistent.is_none() {
        return Err(QEMU.operation_invalid("cannot undefine transient domain"));
    }
    check_leavings(&guest, args.flags)?;
    let handle = remove(driver, &guest, args.flags)?;
    driver.emit(Lifecycle::UNDEFINED_REMOVED.of(handle));
    Ok(())
}

/// Forgets a stored guest with all that is kept of it; the caller has its job.
///
/// # Errors
/// Its files cannot be removed.
pub(crate) fn remove(driver: &Qemu, guest: &Arc<Guest>, flags: u32) -> Result<NonnullDomain> {
    let dirs = &driver.shared.dirs;
    if guest.lock().live.is_none() {
        driver.forget_saved(guest)?;
        kept::forget_all::<Snapshot>(dirs, &guest.name);
        kept::forget_all::<Checkpoint>(dirs, &guest.name);
        if let Some(stored) = guest.lock().next() {
            tpm::forget(driver, &stored, flags);
        }
    }
    let path = dirs.definition(&guest.name);
    let cannot = |e| file(&e, format_args!("cannot remove config {}", path.display()));
    driver.unmark(&guest.name).map_err(cannot)?;
    store::remove(&path).map_err(cannot)?;
    let (handle, runs) = {
        let mut inner = guest.lock();
        let persistent = inner.persistent.take();
        if let (Some(live), Some(stored)) = (&mut inner.live, persistent) {
            live.stored = stored.domain;
        }
        inner.autostart = false;
        inner.autostart_once = false;
        (guest.handle_of(&inner), inner.live.is_some())
    };
    if !runs {
        driver.remove(guest);
    }
    Ok(handle)
}

/// A guest that is off does not leave behind what only it could use, unless that is asked for.
fn check_leavings(guest: &Guest, flags: u32) -> Result<()> {
    /// `VIR_DOMAIN_UNDEFINE_MANAGED_SAVE`, `…_SNAPSHOTS_METADATA` and `…_CHECKPOINTS_METADATA`
    const MANAGED_SAVE: u32 = 1;
    const SNAPSHOTS: u32 = 2;
    const CHECKPOINTS: u32 = 16;
    let inner = guest.lock();
    let moments = [
        (SNAPSHOTS, inner.snapshots.iter().count(), "snapshots"),
        (CHECKPOINTS, inner.checkpoints.iter().count(), "checkpoints"),
    ];
    for (flag, count, what) in moments {
        if inner.live.is_none() && count > 0 && flags & flag == 0 {
            let text = format_args!("cannot delete inactive domain with {count} {what}");
            return Err(QEMU.operation_invalid(text));
        }
    }
    if inner.saved && flags & MANAGED_SAVE == 0 {
        return Err(QEMU.operation_invalid("Refusing to undefine while domain managed save image exists"));
    }
    Ok(())
}

/// Puts a changed definition of a stopped or running guest in the place of the stored one.
pub(crate) fn replace(driver: &Qemu, guest: &Guest, domain: Domain) -> Result<()> {
    let definition = Definition::new(domain);
    write(driver, &guest.name, &definition.xml)?;
    guest.lock().persistent = Some(definition);
    Ok(())
}

pub(crate) async fn to_native(
    driver: &Qemu,
    args: ConnectDomainXmlToNativeArgs,
) -> Result<ConnectDomainXmlToNativeRet> {
    check_flags(args.flags, 0, "qemuConnectDomainXMLToNative")?;
    if args.native_format != "qemu-argv" {
        let text = format_args!("unsupported config type {}", args.native_format);
        return Err(QEMU.invalid_arg(text));
    }
    let options = driver.options().await?;
    let mut stored = Domain::parse(utf8(args.domain_xml.as_bytes(), ErrorDomain::DOMAIN)?, options)?;
    stored.devices.interfaces.iter_mut().for_each(live::disconnect);
    stored.complete(options)?;
    let dirs = &driver.shared.dirs;
    let mut domain = live::domain(&stored, -1, dirs, &driver.shared.policy);
    screens::place(&mut domain, dirs, &driver.shared.policy, &driver.shared.ports)?;
    let program = PathBuf::from(domain.devices.emulator.clone().unwrap_or_default());
    let caps = driver.caps_of(&program).await?;
    crate::cpu::resolve(driver, &mut domain, &caps).await?;
    let (dir, memory) = (dirs.domain(-1, &stored.name), dirs.domain_memory(-1, &stored.name));
    argv::refused::check(&domain, &driver.shared.host)?;
    listen::on_networks(driver, &mut domain).await?;
    let mut domain = prepare::volumes(driver, &domain).await?.into_owned();
    sysinfo::tell(driver, &mut domain).await?;
    let vault = prepare::unlock(driver, &domain, argv::Vault::new()).await?;
    let context = argv::Context::apart(&dir, &memory, &caps, vault, &driver.shared.policy);
    let line = argv::build(&domain, context)?;
    let env = argv::environment(&domain, &dir, &driver.shared.policy);
    let text = shell(&env, &program.to_string_lossy(), line.args()).replace(" \\\n", " ");
    Ok(ConnectDomainXmlToNativeRet { native_config: text.into() })
}

/// A transient guest, or a stored one in a form of its own, made known to be started.
pub(crate) async fn transient(driver: &Qemu, domain: &Domain) -> Result<Arc<Guest>> {
    let (name, uuid) = (domain.name.clone(), domain.uuid.unwrap_or_default().into_bytes());
    check_name(&name)?;
    if let Some(guest) = driver.by_uuid(&uuid)
        && guest.name == name
    {
        if guest.lock().live.is_some() {
            let text = format_args!("domain '{name}' is already active");
            return Err(ErrorDomain::DOMAIN.operation_invalid(text));
        }
        return Ok(guest);
    }
    let guest = Arc::new(Guest::new(name, uuid, None, false));
    guest.lock().state = State::SHUTOFF_UNKNOWN;
    driver.add(Arc::clone(&guest))?;
    Ok(guest)
}

/// The text of a definition for a client.
pub(crate) fn text(domain: &Domain, flags: u32) -> String {
    let mut options = FormatOptions::from_flags(flags);
    // Who takes a guest over needs all of it.
    options.secure |= options.migratable;
    // What is made anew keeps no empty elements.
    let empty = domain.metadata.as_ref().is_some_and(|metadata| metadata.elements.is_empty());
    if empty && (options.migratable || options.update_cpu) {
        let domain = Domain { metadata: None, ..domain.clone() };
        return text(&domain, flags);
    }
    if options.migratable { domain.migratable().to_xml(&options) } else { domain.to_xml(&options) }
}
