//! Volumes.

use virtwire_conf::{FormatOptions, ParseOptions, StorageVol};
use virtwire_protocol::remote::{self as wire, *};

use super::{Pool, Volume};
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// The pool of a volume, which must run, and the volume.
fn target<'h>(host: &'h Host, vol: &wire::NonnullStorageVol) -> Result<(&'h Pool, &'h Volume)> {
    let pool = active_pool(host, &vol.pool.to_str_lossy())?;
    Ok((pool, pool.volume(&vol.name.to_str_lossy())?))
}

fn active_pool<'h>(host: &'h Host, name: &str) -> Result<&'h Pool> {
    let pool = host.pool(name)?;
    pool.check_active()?;
    Ok(pool)
}

pub(super) fn count(
    host: &mut Host,
    args: StoragePoolNumOfVolumesArgs,
) -> Result<StoragePoolNumOfVolumesRet> {
    Ok(StoragePoolNumOfVolumesRet {
        num: active_pool(host, &args.pool.name.to_str_lossy())?.volumes.count(true),
    })
}

pub(super) fn names(host: &mut Host, args: StoragePoolListVolumesArgs) -> Result<StoragePoolListVolumesRet> {
    let pool = active_pool(host, &args.pool.name.to_str_lossy())?;
    Ok(StoragePoolListVolumesRet { names: pool.volumes.names(true, args.maxnames).map(Into::into).collect() })
}

pub(super) fn list_all(
    host: &mut Host,
    args: StoragePoolListAllVolumesArgs,
) -> Result<StoragePoolListAllVolumesRet> {
    check_flags(args.flags, 0, "testStoragePoolListAllVolumes")?;
    let pool = host.pool_by_uuid(&args.pool)?;
    if !pool.active {
        return Err(TEST.operation_invalid("storage pool is not active"));
    }
    let vols: Vec<_> = pool.volumes.iter().map(|volume| volume.wire(pool)).collect();
    let ret = vols.len() as u32;
    Ok(StoragePoolListAllVolumesRet { vols: if args.need_results == 0 { Vec::new() } else { vols }, ret })
}

pub(super) fn by_name(
    host: &mut Host,
    args: StorageVolLookupByNameArgs,
) -> Result<StorageVolLookupByNameRet> {
    let pool = active_pool(host, &args.pool.name.to_str_lossy())?;
    Ok(StorageVolLookupByNameRet { vol: pool.volume(&args.name.to_str_lossy())?.wire(pool) })
}

/// The first volume of any running pool that `is` the one.
fn search(host: &Host, is: impl Fn(&Volume) -> bool) -> Option<wire::NonnullStorageVol> {
    let found = |pool: &Pool| pool.volumes.iter().find(|volume| is(volume)).map(|volume| volume.wire(pool));
    host.pools.of_state(true).find_map(found)
}

pub(super) fn by_key(host: &mut Host, args: StorageVolLookupByKeyArgs) -> Result<StorageVolLookupByKeyRet> {
    let vol = search(host, |volume| args.key == volume.key());
    let missing = || TEST.no_storage_vol(format_args!("no storage vol with matching key '{}'", args.key));
    Ok(StorageVolLookupByKeyRet { vol: vol.ok_or_else(missing)? })
}

pub(super) fn by_path(
    host: &mut Host,
    args: StorageVolLookupByPathArgs,
) -> Result<StorageVolLookupByPathRet> {
    let vol = search(host, |volume| args.path == volume.path());
    let missing = || TEST.no_storage_vol(format_args!("no storage vol with matching path '{}'", args.path));
    Ok(StorageVolLookupByPathRet { vol: vol.ok_or_else(missing)? })
}

/// Adds a volume to a running pool that has room for it.
fn add(
    host: &mut Host,
    pool: &wire::NonnullStoragePool,
    xml: &str,
    source: Option<&str>,
) -> Result<wire::NonnullStorageVol> {
    let pool = host.pool_mut(&pool.name.to_str_lossy())?;
    pool.check_active()?;
    let definition = StorageVol::parse(xml, &ParseOptions::test())?;
    let name = definition.name.as_deref().unwrap_or_default();
    if pool.volumes.by_name(name).is_some() {
        return Err(TEST.operation_failed("storage vol already exists"));
    }
    if source.is_some_and(|source| pool.volumes.by_name(source).is_none()) {
        let source = source.unwrap_or_default();
        return Err(TEST.no_storage_vol(format_args!("no storage vol with matching name '{source}'")));
    }
    if definition.allocation.unwrap_or_default().0 > pool.available() {
        let text = format_args!("Not enough free space in pool for volume '{name}'");
        return Err(TEST.internal_error(text));
    }
    Ok(pool.add_volume(definition))
}

/// `VIR_STORAGE_VOL_CREATE_VALIDATE`
const VALIDATE: u32 = 4;

pub(super) fn create_xml(host: &mut Host, args: StorageVolCreateXmlArgs) -> Result<StorageVolCreateXmlRet> {
    check_flags(args.flags, VALIDATE, "testStorageVolCreateXML")?;
    Ok(StorageVolCreateXmlRet { vol: add(host, &args.pool, &args.xml.to_str_lossy(), None)? })
}

pub(super) fn create_xml_from(
    host: &mut Host,
    args: StorageVolCreateXmlFromArgs,
) -> Result<StorageVolCreateXmlFromRet> {
    check_flags(args.flags, VALIDATE, "testStorageVolCreateXMLFrom")?;
    let source = args.clonevol.name.to_string();
    Ok(StorageVolCreateXmlFromRet { vol: add(host, &args.pool, &args.xml.to_str_lossy(), Some(&source))? })
}

pub(super) fn delete(host: &mut Host, args: StorageVolDeleteArgs) -> Result<()> {
    check_flags(args.flags, 0, "testStorageVolDelete")?;
    let (_, volume) = target(host, &args.vol)?;
    let freed = volume.allocation();
    let pool = host.pool_mut(&args.vol.pool.to_str_lossy())?;
    pool.volumes.remove(&args.vol.name.to_str_lossy());
    pool.take(-i128::from(freed));
    Ok(())
}

pub(super) fn info(host: &mut Host, args: StorageVolGetInfoArgs) -> Result<StorageVolGetInfoRet> {
    let (_, volume) = target(host, &args.vol)?;
    Ok(StorageVolGetInfoRet {
        r#type: volume.definition.type_ as u8 as _,
        capacity: volume.definition.capacity.unwrap_or_default().0,
        allocation: volume.allocation(),
    })
}

pub(super) fn get_xml_desc(
    host: &mut Host,
    args: StorageVolGetXmlDescArgs,
) -> Result<StorageVolGetXmlDescRet> {
    check_flags(args.flags, 0, "testStorageVolGetXMLDesc")?;
    let (_, volume) = target(host, &args.vol)?;
    Ok(StorageVolGetXmlDescRet { xml: volume.definition.to_xml(&FormatOptions::default()).into() })
}

pub(super) fn path(host: &mut Host, args: StorageVolGetPathArgs) -> Result<StorageVolGetPathRet> {
    let (_, volume) = target(host, &args.vol)?;
    Ok(StorageVolGetPathRet { name: volume.path().into() })
}
