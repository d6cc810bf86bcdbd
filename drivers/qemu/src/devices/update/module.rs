//! Of memory that grows and shrinks, the wanted size can change.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::misc::{Memory, MemoryModel, MemoryTarget};
use virtwire_conf::table::KiB;
use virtwire_qmp::commands::QomSet;

use crate::affect::edit_live;
use crate::argv::alias;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::Guest;

/// The module that another one means: by its place, and by its name where that is said.
///
/// # Errors
/// There is none.
pub(super) fn find(domain: &Domain, wanted: &Memory) -> Result<usize> {
    let name = wanted.info.alias.as_ref().map(|alias| alias.name.as_str());
    let is = |other: &Memory| {
        other.info.address == wanted.info.address
            && wanted.info.address.is_some()
            && name.is_none_or(|name| alias(&other.info) == name)
    };
    let at = domain.devices.memories.iter().position(is);
    let missing = format_args!("memory '{}' not found", name.unwrap_or("(null)"));
    at.ok_or_else(|| QEMU.config_unsupported(missing))
}

pub(super) async fn update(driver: &Qemu, guest: &Arc<Guest>, old: &Memory, new: Memory) -> Result<()> {
    stays(old, &new)?;
    let requested = |module: &Memory| module.target.as_ref().and_then(|target| target.requested);
    let wanted = requested(&new);
    if requested(old) == wanted {
        return Ok(());
    }
    let bytes = wanted.map_or(0, |size| size.0) * 1024;
    let name = alias(&old.info).to_owned();
    let (path, property) = (format!("/machine/peripheral/{name}"), "requested-size".to_owned());
    let set = QomSet { path, property, value: bytes.into() };
    guest.live()?.monitor.execute(&set).await.map_err(monitor)?;
    edit_live(driver, guest, |domain| {
        let mut all = domain.devices.memories.iter_mut();
        let known = all.find(|known| alias(&known.info) == name);
        if let Some(target) = known.and_then(|known| known.target.as_mut()) {
            target.requested = wanted;
        }
    });
    Ok(())
}

/// Whether nothing changes but the wanted size.
fn stays(old: &Memory, new: &Memory) -> Result<()> {
    let differs = |what: &str, old: String, new: String| match old == new {
        true => Ok(()),
        false => {
            Err(QEMU.config_unsupported(format_args!("cannot modify memory {what} from '{old}' to '{new}'")))
        }
    };
    let size = |size: Option<KiB>| size.map_or(0, |size| size.0).to_string();
    let base = |target: &MemoryTarget| {
        let base = target.address.as_ref().and_then(|address| address.base).map_or(0, |base| base.0);
        format!("0x{base:x}")
    };
    differs("model", old.model.to_string(), new.model.to_string())?;
    let (before, after) = (old.target.clone().unwrap_or_default(), new.target.clone().unwrap_or_default());
    differs(
        "targetNode",
        before.node.unwrap_or_default().to_string(),
        after.node.unwrap_or_default().to_string(),
    )?;
    differs("size", size(before.size), size(after.size))?;
    differs("block size", size(before.block), size(after.block))?;
    differs("address", base(&before), base(&after))?;
    match old.model {
        MemoryModel::VirtioMem => Ok(()),
        other => {
            let text = format_args!("cannot modify memory of model '{other}'");
            Err(QEMU.config_unsupported(text))
        }
    }
}
