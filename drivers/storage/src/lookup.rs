//! Pools and volumes by name, UUID, key and path.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use virtwire_conf::storage::sanitize;
use virtwire_protocol::remote::*;

use crate::pool::Pool;
use crate::volume::Volume;
use crate::{Pools, Result, STORAGE};

pub(crate) async fn pool_by_name(
    pools: &Pools,
    args: StoragePoolLookupByNameArgs,
) -> Result<StoragePoolLookupByNameRet> {
    Ok(StoragePoolLookupByNameRet { pool: named(pools, &args.name.to_str_lossy())? })
}

fn named(pools: &Pools, name: &str) -> Result<NonnullStoragePool> {
    let found = pools.pools().iter().find(|pool| pool.name == name).map(Pool::handle);
    let missing = || STORAGE.no_storage_pool(format_args!("no storage pool with matching name '{name}'"));
    found.ok_or_else(missing)
}

pub(crate) async fn pool_by_uuid(
    pools: &Pools,
    args: StoragePoolLookupByUuidArgs,
) -> Result<StoragePoolLookupByUuidRet> {
    let uuid = Uuid::from_bytes(args.uuid);
    let found = pools.pools().iter().find(|pool| pool.uuid == uuid).map(Pool::handle);
    let missing = || STORAGE.no_storage_pool(format_args!("no storage pool with matching uuid '{uuid}'"));
    Ok(StoragePoolLookupByUuidRet { pool: found.ok_or_else(missing)? })
}

pub(crate) async fn pool_by_volume(
    pools: &Pools,
    args: StoragePoolLookupByVolumeArgs,
) -> Result<StoragePoolLookupByVolumeRet> {
    Ok(StoragePoolLookupByVolumeRet { pool: named(pools, &args.vol.pool.to_str_lossy())? })
}

/// The active pool whose volumes are in this place.
pub(crate) async fn pool_by_target_path(
    pools: &Pools,
    args: StoragePoolLookupByTargetPathArgs,
) -> Result<StoragePoolLookupByTargetPathRet> {
    let path = args.path.to_str_lossy();
    let target = PathBuf::from(sanitize(&path));
    let found = pools.pools().iter().find(|pool| pool.active && pool.path() == target).map(Pool::handle);
    let missing =
        || STORAGE.no_storage_pool(format_args!("no storage pool with matching target path '{path}'"));
    Ok(StoragePoolLookupByTargetPathRet { pool: found.ok_or_else(missing)? })
}

pub(crate) async fn vol_by_name(
    pools: &Pools,
    args: StorageVolLookupByNameArgs,
) -> Result<StorageVolLookupByNameRet> {
    pools.with(&args.pool, |pool| {
        pool.check_active()?;
        Ok(StorageVolLookupByNameRet { vol: pool.volume(&args.name.to_str_lossy())?.handle(&pool.name) })
    })
}

/// The volume of an active pool that has this path.
fn at(pools: &Pools, path: &str) -> Option<NonnullStorageVol> {
    let all = pools.pools();
    let mut active = all.iter().filter(|pool| pool.active);
    active.find_map(|pool| {
        let volume = pool.volumes.iter().find(|volume| Path::new(volume.path()) == Path::new(path))?;
        Some(volume.handle(&pool.name))
    })
}

/// A volume's key is its path.
pub(crate) async fn vol_by_key(
    pools: &Pools,
    args: StorageVolLookupByKeyArgs,
) -> Result<StorageVolLookupByKeyRet> {
    let key = args.key.to_str_lossy();
    let missing = || STORAGE.no_storage_vol(format_args!("no storage vol with matching key {key}"));
    Ok(StorageVolLookupByKeyRet { vol: at(pools, &key).ok_or_else(missing)? })
}

pub(crate) async fn vol_by_path(
    pools: &Pools,
    args: StorageVolLookupByPathArgs,
) -> Result<StorageVolLookupByPathRet> {
    let path = args.path.to_str_lossy();
    let missing = || STORAGE.no_storage_vol(format_args!("no storage vol with matching path '{path}'"));
    Ok(StorageVolLookupByPathRet { vol: at(pools, &path).ok_or_else(missing)? })
}

impl Pool {
    pub(crate) fn volume(&self, name: &str) -> Result<&Volume> {
        let found = self.volumes.iter().find(|volume| volume.name == name);
        found
            .ok_or_else(|| STORAGE.no_storage_vol(format_args!("no storage vol with matching name '{name}'")))
    }
}

impl Pools {
    /// Does something with the volume that a client means; its pool has to be active.
    pub(crate) fn with_volume<T>(
        &self,
        vol: &NonnullStorageVol,
        act: impl FnOnce(&mut Volume) -> Result<T>,
    ) -> Result<T> {
        let (pool, name) = (vol.pool.to_str_lossy(), vol.name.to_str_lossy());
        let mut pools = self.pools();
        let missing = || STORAGE.no_storage_pool(format_args!("no storage pool with matching name '{pool}'"));
        let pool = pools.iter_mut().find(|known| known.name == pool).ok_or_else(missing)?;
        pool.check_active()?;
        let missing = || STORAGE.no_storage_vol(format_args!("no storage vol with matching name '{name}'"));
        act(pool.volumes.iter_mut().find(|volume| volume.name == name).ok_or_else(missing)?)
    }
}
