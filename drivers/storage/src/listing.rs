//! What clients ask about pools.

use virtwire_conf::FormatOptions;
use virtwire_driver_api::{POOL_FLAGS, check_flags, passes, pool_kind_passes};
use virtwire_protocol::remote::*;

use crate::pool::Pool;
use crate::{Pools, Result, STORAGE};

fn matches(pool: &Pool, flags: u32) -> bool {
    passes(flags, 2, 1, pool.active)
        && passes(flags, 4, 8, pool.persistent)
        && passes(flags, 16, 32, pool.autostart)
        && pool_kind_passes(flags, pool.definition.type_.as_str())
}

pub(crate) async fn all(
    pools: &Pools,
    args: ConnectListAllStoragePoolsArgs,
) -> Result<ConnectListAllStoragePoolsRet> {
    check_flags(STORAGE, args.flags, POOL_FLAGS, "storageConnectListAllStoragePools")?;
    let all = pools.pools();
    let found: Vec<_> = all.iter().filter(|pool| matches(pool, args.flags)).map(Pool::handle).collect();
    let ret = found.len() as u32;
    Ok(ConnectListAllStoragePoolsRet { pools: if args.need_results != 0 { found } else { Vec::new() }, ret })
}

fn count(pools: &Pools, active: bool) -> i32 {
    pools.pools().iter().filter(|pool| pool.active == active).count() as i32
}

fn names(pools: &Pools, active: bool, most: i32) -> Vec<virtwire_protocol::XdrString> {
    let most = usize::try_from(most).unwrap_or_default();
    let all = pools.pools();
    all.iter().filter(|pool| pool.active == active).take(most).map(|pool| pool.name.as_str().into()).collect()
}

pub(crate) async fn count_active(pools: &Pools) -> Result<ConnectNumOfStoragePoolsRet> {
    Ok(ConnectNumOfStoragePoolsRet { num: count(pools, true) })
}

pub(crate) async fn active(
    pools: &Pools,
    args: ConnectListStoragePoolsArgs,
) -> Result<ConnectListStoragePoolsRet> {
    Ok(ConnectListStoragePoolsRet { names: names(pools, true, args.maxnames) })
}

pub(crate) async fn count_inactive(pools: &Pools) -> Result<ConnectNumOfDefinedStoragePoolsRet> {
    Ok(ConnectNumOfDefinedStoragePoolsRet { num: count(pools, false) })
}

pub(crate) async fn inactive(
    pools: &Pools,
    args: ConnectListDefinedStoragePoolsArgs,
) -> Result<ConnectListDefinedStoragePoolsRet> {
    Ok(ConnectListDefinedStoragePoolsRet { names: names(pools, false, args.maxnames) })
}

pub(crate) async fn info(pools: &Pools, args: StoragePoolGetInfoArgs) -> Result<StoragePoolGetInfoRet> {
    // VIR_STORAGE_POOL_INACTIVE and …_RUNNING
    pools.with(&args.pool, |pool| {
        Ok(StoragePoolGetInfoRet {
            state: if pool.active { 2 } else { 0 },
            capacity: pool.definition.capacity.unwrap_or_default().0,
            allocation: pool.definition.allocation.unwrap_or_default().0,
            available: pool.definition.available.unwrap_or_default().0,
        })
    })
}

pub(crate) async fn xml_desc(
    pools: &Pools,
    args: StoragePoolGetXmlDescArgs,
) -> Result<StoragePoolGetXmlDescRet> {
    const INACTIVE: u32 = 1;
    check_flags(STORAGE, args.flags, INACTIVE, "storagePoolGetXMLDesc")?;
    pools.with(&args.pool, |pool| {
        let next = pool.next.as_ref().filter(|_| args.flags & INACTIVE != 0);
        let definition = next.unwrap_or(&pool.definition);
        Ok(StoragePoolGetXmlDescRet { xml: definition.to_xml(&FormatOptions::default()).into() })
    })
}

pub(crate) async fn autostart(
    pools: &Pools,
    args: StoragePoolGetAutostartArgs,
) -> Result<StoragePoolGetAutostartRet> {
    pools.with(&args.pool, |pool| Ok(StoragePoolGetAutostartRet { autostart: pool.autostart.into() }))
}

pub(crate) async fn is_active(
    pools: &Pools,
    args: StoragePoolIsActiveArgs,
) -> Result<StoragePoolIsActiveRet> {
    pools.with(&args.pool, |pool| Ok(StoragePoolIsActiveRet { active: pool.active.into() }))
}

pub(crate) async fn is_persistent(
    pools: &Pools,
    args: StoragePoolIsPersistentArgs,
) -> Result<StoragePoolIsPersistentRet> {
    pools.with(&args.pool, |pool| Ok(StoragePoolIsPersistentRet { persistent: pool.persistent.into() }))
}
