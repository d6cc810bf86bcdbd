//! At the target: images for disks that come, where there are none yet. Pools make them, as with libvirt.

use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::FormatOptions;
use virtwire_conf::domain::disk::{Disk, StorageType};
use virtwire_conf::xml::Writer;
use virtwire_driver_api::StorageDriver;
use virtwire_protocol::remote::*;

use super::cookie::Nbd;
use super::params::{Asked, flag};
use crate::disks::{path_of, target};
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::plug::internal;

/// Makes what is not there. Returns what was made.
///
/// # Errors
/// No pool is where it would be, or the pool's. What was made already is gone then.
pub(super) async fn make(
    driver: &Qemu,
    domain: &Domain,
    asked: &Asked,
    nbd: Option<&Nbd>,
) -> Result<Vec<NonnullStorageVol>> {
    let mut made = Vec::new();
    for (name, capacity) in nbd.map(|nbd| nbd.disks.as_slice()).unwrap_or_default() {
        let Some(disk) = domain.devices.disks.iter().find(|disk| target(disk) == name) else { continue };
        if is_there(disk) {
            continue;
        }
        match make_one(driver, disk, asked, *capacity).await {
            Ok(vol) => made.push(vol),
            Err(error) => {
                remove(driver, made).await;
                return Err(error);
            }
        }
    }
    Ok(made)
}

/// Whether a disk's image is there, as far as this host can tell.
fn is_there(disk: &Disk) -> bool {
    match disk.type_ {
        StorageType::File | StorageType::Block | StorageType::Dir => {
            path_of(disk).is_none_or(|path| Path::new(path).exists())
        }
        StorageType::Volume => false,
        _ => true,
    }
}

async fn make_one(driver: &Qemu, disk: &Disk, asked: &Asked, capacity: u64) -> Result<NonnullStorageVol> {
    if asked.has(flag::NON_SHARED_INC) {
        let name = target(disk);
        let text = format_args!(
            "pre-creation of storage target for incremental storage migration of disk '{name}' is not supported"
        );
        return Err(QEMU.operation_unsupported(text));
    }
    let companions = driver.companions();
    let none = || QEMU.no_support("virStoragePoolLookupByTargetPath");
    let storage = companions.storage.as_ref().ok_or_else(none)?;
    let (pool, name) = place(&**storage, disk).await?;
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw");
    let xml = describe(&name, capacity, format).into();
    let args = StorageVolCreateXmlArgs { pool, xml, flags: 0 };
    Ok(storage.storage_vol_create_xml(&internal(), args).await?.vol)
}

/// The pool in which a disk's image would be, and its name there.
async fn place(storage: &dyn StorageDriver, disk: &Disk) -> Result<(NonnullStoragePool, String)> {
    let source = disk.source.as_ref();
    match (disk.type_, source) {
        (StorageType::File, Some(_)) => {
            let path = Path::new(path_of(disk).unwrap_or_default());
            let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
            let dir = part(path.parent().and_then(Path::to_str));
            let args = StoragePoolLookupByTargetPathArgs { path: dir.as_str().into() };
            let pool = storage.storage_pool_lookup_by_target_path(&internal(), args).await?.pool;
            Ok((pool, part(path.file_name().and_then(|name| name.to_str()))))
        }
        (StorageType::Volume, Some(source)) => {
            let (pool, volume) =
                (source.pool.clone().unwrap_or_default(), source.volume.clone().unwrap_or_default());
            let args = StoragePoolLookupByNameArgs { name: pool.as_str().into() };
            Ok((storage.storage_pool_lookup_by_name(&internal(), args).await?.pool, volume))
        }
        (kind, _) => {
            let text = format_args!("cannot precreate storage for disk type '{}'", kind.as_str());
            Err(QEMU.internal_error(text))
        }
    }
}

fn describe(name: &str, capacity: u64, format: &str) -> String {
    let options = FormatOptions::default();
    let mut out = Writer::new(&options);
    out.open("volume");
    out.leaf("name", name);
    out.leaf("capacity", &capacity.to_string());
    out.open("target");
    out.open("format");
    out.attribute("type", format);
    out.close("format");
    out.close("target");
    out.close("volume");
    out.finish()
}

/// Removes what was made for a guest that does not come.
pub(super) async fn remove(driver: &Qemu, made: Vec<NonnullStorageVol>) {
    let Some(storage) = driver.companions().storage.clone() else { return };
    for vol in made {
        let name = vol.name.clone();
        if let Err(error) =
            storage.storage_vol_delete(&internal(), StorageVolDeleteArgs { vol, flags: 0 }).await
        {
            tracing::warn!(volume = %name, %error, "it was made for a guest that does not come, and stays");
        }
    }
}
