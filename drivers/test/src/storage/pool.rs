//! Pools.

use virtwire_conf::{FormatOptions, ParseOptions, StoragePool};
use virtwire_driver_api::{POOL_FLAGS, passes, pool_kind_passes};
use virtwire_protocol::remote::{self as wire, Event, *};

use super::{Lifecycle, Pool, check_same};
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::registry::Object;

fn matches(pool: &Pool, flags: u32) -> bool {
    passes(flags, 2, 1, pool.active)
        && passes(flags, 4, 8, pool.persistent)
        && passes(flags, 16, 32, pool.autostart)
        && pool_kind_passes(flags, pool.definition.type_.as_str())
}

pub(super) fn list_all(
    host: &mut Host,
    args: ConnectListAllStoragePoolsArgs,
) -> Result<ConnectListAllStoragePoolsRet> {
    check_flags(args.flags, POOL_FLAGS, "testConnectListAllStoragePools")?;
    let pools: Vec<_> = host.pools.iter().filter(|pool| matches(pool, args.flags)).map(Pool::wire).collect();
    let ret = pools.len() as u32;
    Ok(ConnectListAllStoragePoolsRet { pools: if args.need_results == 0 { Vec::new() } else { pools }, ret })
}

pub(super) fn count_active(host: &mut Host) -> Result<ConnectNumOfStoragePoolsRet> {
    Ok(ConnectNumOfStoragePoolsRet { num: host.pools.count(true) })
}

pub(super) fn count_inactive(host: &mut Host) -> Result<ConnectNumOfDefinedStoragePoolsRet> {
    Ok(ConnectNumOfDefinedStoragePoolsRet { num: host.pools.count(false) })
}

pub(super) fn active(
    host: &mut Host,
    args: ConnectListStoragePoolsArgs,
) -> Result<ConnectListStoragePoolsRet> {
    Ok(ConnectListStoragePoolsRet { names: host.pools.names(true, args.maxnames).map(Into::into).collect() })
}

pub(super) fn inactive(
    host: &mut Host,
    args: ConnectListDefinedStoragePoolsArgs,
) -> Result<ConnectListDefinedStoragePoolsRet> {
    Ok(ConnectListDefinedStoragePoolsRet {
        names: host.pools.names(false, args.maxnames).map(Into::into).collect(),
    })
}

pub(super) fn by_name(
    host: &mut Host,
    args: StoragePoolLookupByNameArgs,
) -> Result<StoragePoolLookupByNameRet> {
    Ok(StoragePoolLookupByNameRet { pool: host.pool(&args.name.to_str_lossy())?.wire() })
}

pub(super) fn by_uuid(
    host: &mut Host,
    args: StoragePoolLookupByUuidArgs,
) -> Result<StoragePoolLookupByUuidRet> {
    let pool = wire::NonnullStoragePool { uuid: args.uuid, ..Default::default() };
    Ok(StoragePoolLookupByUuidRet { pool: host.pool_by_uuid(&pool)?.wire() })
}

pub(super) fn by_volume(
    host: &mut Host,
    args: StoragePoolLookupByVolumeArgs,
) -> Result<StoragePoolLookupByVolumeRet> {
    Ok(StoragePoolLookupByVolumeRet { pool: host.pool(&args.vol.pool.to_str_lossy())?.wire() })
}

fn parse(host: &Host, xml: &str) -> Result<StoragePool> {
    let new = StoragePool::parse(xml, &ParseOptions::test())?;
    check_same(&host.pools, &new)?;
    Ok(new)
}

pub(super) fn define_xml(host: &mut Host, args: StoragePoolDefineXmlArgs) -> Result<StoragePoolDefineXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(args.flags, VALIDATE, "testStoragePoolDefineXML")?;
    let new = Pool { persistent: true, ..Pool::new(parse(host, &args.xml.to_str_lossy())?) };
    let (pool, event) = match host.pools.by_name_mut(new.name()) {
        Some(old) => {
            old.persistent = true;
            if old.active {
                old.next = Some(new.definition);
            } else {
                old.definition = new.definition;
            }
            (old.wire(), old.event(Lifecycle::Defined))
        }
        None => {
            let told = (new.wire(), new.event(Lifecycle::Defined));
            host.pools.insert(new);
            told
        }
    };
    host.emit(event);
    Ok(StoragePoolDefineXmlRet { pool })
}

pub(super) fn create_xml(host: &mut Host, args: StoragePoolCreateXmlArgs) -> Result<StoragePoolCreateXmlRet> {
    check_flags(args.flags, 0, "testStoragePoolCreateXML")?;
    let new = parse(host, &args.xml.to_str_lossy())?;
    if let Some(old) = host.pools.by_name(new.name.as_deref().unwrap_or_default()).filter(|old| old.active) {
        let text = format_args!("pool is already active as '{}'", old.name());
        return Err(super::STORAGE.operation_invalid(text));
    }
    let new = Pool { active: true, ..Pool::new(new) };
    let (pool, event) = match host.pools.by_name_mut(new.name()) {
        Some(old) => {
            old.next = Some(std::mem::replace(&mut old.definition, new.definition));
            old.active = true;
            (old.wire(), old.event(Lifecycle::Started))
        }
        None => {
            let told = (new.wire(), new.event(Lifecycle::Started));
            host.pools.insert(new);
            told
        }
    };
    host.emit(event);
    Ok(StoragePoolCreateXmlRet { pool })
}

/// Changes a pool that must not run.
fn change_inactive(host: &mut Host, pool: &wire::NonnullStoragePool, what: Lifecycle) -> Result<()> {
    let pool = host.pool_mut(&pool.name.to_str_lossy())?;
    pool.check_inactive()?;
    if matches!(what, Lifecycle::Started) {
        pool.active = true;
    }
    let event = pool.event(what);
    host.emit(event);
    Ok(())
}

pub(super) fn create(host: &mut Host, args: StoragePoolCreateArgs) -> Result<()> {
    check_flags(args.flags, 0, "testStoragePoolCreate")?;
    change_inactive(host, &args.pool, Lifecycle::Started)
}

pub(super) fn build(host: &mut Host, args: StoragePoolBuildArgs) -> Result<()> {
    check_flags(args.flags, 0, "testStoragePoolBuild")?;
    change_inactive(host, &args.pool, Lifecycle::Created)
}

pub(super) fn delete(host: &mut Host, args: StoragePoolDeleteArgs) -> Result<()> {
    check_flags(args.flags, 0, "testStoragePoolDelete")?;
    change_inactive(host, &args.pool, Lifecycle::Deleted)
}

pub(super) fn undefine(host: &mut Host, args: StoragePoolUndefineArgs) -> Result<()> {
    change_inactive(host, &args.pool, Lifecycle::Undefined)?;
    host.pools.remove(&args.pool.name.to_str_lossy());
    Ok(())
}

pub(super) fn destroy(host: &mut Host, args: StoragePoolDestroyArgs) -> Result<()> {
    let pool = host.pool_mut(&args.pool.name.to_str_lossy())?;
    pool.check_active()?;
    pool.active = false;
    if let Some(next) = pool.next.take() {
        pool.definition = next;
    }
    let (event, persistent) = (pool.event(Lifecycle::Stopped), pool.persistent);
    if !persistent {
        host.pools.remove(&args.pool.name.to_str_lossy());
    }
    host.emit(event);
    Ok(())
}

pub(super) fn refresh(host: &mut Host, args: StoragePoolRefreshArgs) -> Result<()> {
    check_flags(args.flags, 0, "testStoragePoolRefresh")?;
    let pool = host.pool(&args.pool.name.to_str_lossy())?;
    pool.check_active()?;
    let event =
        Event::StoragePoolRefresh(wire::StoragePoolEventRefreshMsg { callback_id: 0, pool: pool.wire() });
    host.emit(event);
    Ok(())
}

pub(super) fn info(host: &mut Host, args: StoragePoolGetInfoArgs) -> Result<StoragePoolGetInfoRet> {
    /// `virStoragePoolState`
    const RUNNING: u8 = 2;
    let pool = host.pool(&args.pool.name.to_str_lossy())?;
    Ok(StoragePoolGetInfoRet {
        state: if pool.active { RUNNING } else { 0 },
        capacity: pool.definition.capacity.unwrap_or_default().0,
        allocation: pool.definition.allocation.unwrap_or_default().0,
        available: pool.available(),
    })
}

pub(super) fn get_xml_desc(
    host: &mut Host,
    args: StoragePoolGetXmlDescArgs,
) -> Result<StoragePoolGetXmlDescRet> {
    check_flags(args.flags, 0, "testStoragePoolGetXMLDesc")?;
    let pool = host.pool(&args.pool.name.to_str_lossy())?;
    Ok(StoragePoolGetXmlDescRet { xml: pool.definition.to_xml(&FormatOptions::default()).into() })
}

pub(super) fn autostart(
    host: &mut Host,
    args: StoragePoolGetAutostartArgs,
) -> Result<StoragePoolGetAutostartRet> {
    let pool = host.pool(&args.pool.name.to_str_lossy())?;
    Ok(StoragePoolGetAutostartRet { autostart: (pool.persistent && pool.autostart).into() })
}

pub(super) fn set_autostart(host: &mut Host, args: StoragePoolSetAutostartArgs) -> Result<()> {
    let pool = host.pool_mut(&args.pool.name.to_str_lossy())?;
    if !pool.persistent {
        return Err(TEST.invalid_arg("pool has no config file"));
    }
    pool.autostart = args.autostart != 0;
    Ok(())
}

pub(super) fn is_active(host: &mut Host, args: StoragePoolIsActiveArgs) -> Result<StoragePoolIsActiveRet> {
    Ok(StoragePoolIsActiveRet { active: host.pool_by_uuid(&args.pool)?.active.into() })
}

pub(super) fn is_persistent(
    host: &mut Host,
    args: StoragePoolIsPersistentArgs,
) -> Result<StoragePoolIsPersistentRet> {
    Ok(StoragePoolIsPersistentRet { persistent: host.pool_by_uuid(&args.pool)?.persistent.into() })
}
