//! A guest that gets another name.

use std::sync::Arc;

use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::define::{check_directory, check_name, write};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file};
use crate::guest::{Definition, Guest};
use crate::state::{Lifecycle, State};
use virtwire_store as store;

pub(crate) async fn rename(driver: &Qemu, args: DomainRenameArgs) -> Result<DomainRenameRet> {
    check_flags(args.flags, 0, "qemuDomainRename")?;
    let name = args.new_name.map(|name| name.to_str_lossy().into_owned()).unwrap_or_default();
    if name.contains('/') {
        return Err(ErrorDomain::DOMAIN.xml_error(format_args!("name {name} cannot contain '/'")));
    }
    check_name(&name)?;
    check_directory(driver, &name)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (definition, autostart, state) = {
        let inner = guest.lock();
        if inner.live.is_some() {
            return Err(QEMU.operation_invalid("cannot rename active domain"));
        }
        let Some(definition) = &inner.persistent else {
            return Err(QEMU.operation_invalid("cannot rename a transient domain"));
        };
        ((*definition.domain).clone(), inner.autostart, inner.state)
    };
    if guest.name == name {
        return Err(ErrorDomain::DOMAIN.operation_invalid("Can't rename domain to itself"));
    }
    let renamed = renamed(&guest, &name, definition, autostart, state);
    // Nobody changes it before it is on disk.
    let _job_of_renamed = renamed.job.lock().await;
    driver.take_place(&guest, &renamed)?;
    if let Err(error) = files(driver, &guest, &renamed) {
        driver.take_place(&renamed, &guest)?;
        return Err(error);
    }
    guest.lock().persistent = None;
    driver.emit(Lifecycle::UNDEFINED_RENAMED.of(guest.handle()));
    driver.emit(Lifecycle::DEFINED_RENAMED.of(renamed.handle()));
    Ok(DomainRenameRet { retcode: 0 })
}

/// The same guest under its new name.
fn renamed(
    guest: &Guest,
    name: &str,
    mut domain: virtwire_conf::Domain,
    autostart: bool,
    state: State,
) -> Arc<Guest> {
    name.clone_into(&mut domain.name);
    let renamed = Guest::new(name.to_owned(), guest.uuid, Some(Definition::new(domain)), autostart);
    renamed.lock().state = state;
    {
        let (mut new, old) = (renamed.lock(), guest.lock());
        new.autostart_once = old.autostart_once;
        new.saved = old.saved;
        new.snapshots = old.snapshots.clone();
        new.checkpoints = old.checkpoints.clone();
    }
    Arc::new(renamed)
}

/// The new files first: whatever happens in between, one of the two definitions is whole.
fn files(driver: &Qemu, old: &Guest, new: &Guest) -> Result<()> {
    let dirs = &driver.shared.dirs;
    let (xml, autostart, once) = {
        let inner = new.lock();
        let xml = inner.persistent.as_ref().map(|definition| Arc::clone(&definition.xml));
        (xml, inner.autostart, inner.autostart_once)
    };
    write(driver, &new.name, &xml.unwrap_or_default())?;
    let cannot = |e| file(&e, format_args!("cannot rename domain '{}'", old.name));
    if autostart {
        store::link(&dirs.definition(&new.name), &dirs.autostart_link(&new.name)).map_err(cannot)?;
    }
    if once {
        store::link(&dirs.definition(&new.name), &dirs.autostart_once_link(&new.name)).map_err(cannot)?;
    }
    for (from, to) in [
        (dirs.saved(&old.name), dirs.saved(&new.name)),
        (dirs.snapshots(&old.name), dirs.snapshots(&new.name)),
        (dirs.checkpoints(&old.name), dirs.checkpoints(&new.name)),
    ] {
        if from.exists() {
            std::fs::rename(from, to).map_err(cannot)?;
        }
    }
    driver.unmark(&old.name).map_err(cannot)?;
    store::remove(&dirs.definition(&old.name)).map_err(cannot)
}
