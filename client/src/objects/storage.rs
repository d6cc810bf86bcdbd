//! Storage pools and their volumes.

use uuid::Uuid;
use virtwire_protocol::remote::{
    self, NonnullStoragePool, NonnullStorageVol, StorageVolDownloadArgs, StorageVolUploadArgs,
};

use super::table::{object, text};
use super::*;
use crate::{Error, Stream};

object! {
    /// A place where volumes are.
    StoragePool(NonnullStoragePool)
}

object! {
    /// A volume: the content of a disk.
    StorageVol(NonnullStorageVol)
}

/// How full a pool is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Whether it can be used.
    pub state: PoolState,
    /// All of it.
    pub capacity: u64,
    /// What is in use.
    pub allocation: u64,
    /// What is left.
    pub available: u64,
}

/// How large a volume is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// What it is.
    pub kind: VolumeKind,
    /// What a guest sees.
    pub capacity: u64,
    /// What it takes in its pool.
    pub allocation: u64,
}

impl StoragePool {
    fn handle(&self) -> NonnullStoragePool {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.raw.uuid)
    }
}

methods! { StoragePool [pool = handle] {
    /// Starts it.
    fn start(flags: StoragePoolCreateFlags) = storage_pool_create StoragePoolCreateArgs;
    /// Makes its storage.
    fn build(flags: StoragePoolBuildFlags) = storage_pool_build StoragePoolBuildArgs;
    /// Ends it; its volumes stay.
    fn destroy() = storage_pool_destroy StoragePoolDestroyArgs;
    /// Removes its definition.
    fn undefine() = storage_pool_undefine StoragePoolUndefineArgs;
    /// Deletes its storage.
    fn delete(flags: u32) = storage_pool_delete StoragePoolDeleteArgs;
    /// Looks for volumes again.
    fn refresh(flags: u32) = storage_pool_refresh StoragePoolRefreshArgs;
    /// How full it is.
    fn info() -> PoolInfo = storage_pool_get_info StoragePoolGetInfoArgs |_, ret| PoolInfo {
        state: i32::from(ret.state).into(),
        capacity: ret.capacity,
        allocation: ret.allocation,
        available: ret.available,
    };
    /// Its definition; flag 1 shows that of its next start.
    fn xml(flags: u32) -> String = storage_pool_get_xml_desc StoragePoolGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Whether it runs.
    fn is_active() -> bool = storage_pool_is_active StoragePoolIsActiveArgs |_, ret| ret.active != 0;
    /// Whether it is defined.
    fn is_persistent() -> bool =
        storage_pool_is_persistent StoragePoolIsPersistentArgs |_, ret| ret.persistent != 0;
    /// Whether it starts with the host.
    fn autostart() -> bool = storage_pool_get_autostart StoragePoolGetAutostartArgs |_, ret| ret.autostart != 0;
    /// Whether it is to start with the host.
    fn set_autostart(autostart: bool) = storage_pool_set_autostart StoragePoolSetAutostartArgs;
    /// The volume of this name.
    fn volume_by_name(name: &str) -> StorageVol =
        storage_vol_lookup_by_name StorageVolLookupByNameArgs |c, ret| object(c, ret.vol);
    /// Makes a volume.
    fn create_volume(xml: &str, flags: StorageVolCreateFlags) -> StorageVol =
        storage_vol_create_xml StorageVolCreateXmlArgs |c, ret| object(c, ret.vol);
} }

impl StoragePool {
    /// Makes a volume with the content of another.
    pub async fn clone_volume(
        &self,
        xml: &str,
        of: &StorageVol,
        flags: StorageVolCreateFlags,
    ) -> Result<StorageVol, Error> {
        let args = remote::StorageVolCreateXmlFromArgs {
            pool: self.handle(),
            xml: xml.into(),
            clonevol: of.raw.clone(),
            flags: flags.bits(),
        };
        Ok(object(&self.connection, self.connection.storage_vol_create_xml_from(&args).await?.vol))
    }
}

lists! { StoragePool [pool = handle] {
    /// Its volumes; there are no flags yet.
    fn volumes(u32) -> StorageVol = storage_pool_list_all_volumes StoragePoolListAllVolumesArgs vols;
} }

impl StorageVol {
    fn handle(&self) -> NonnullStorageVol {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// The name of its pool.
    pub fn pool_name(&self) -> String {
        text(&self.raw.pool)
    }

    /// Its key, one of a kind on the daemon's host.
    pub fn key(&self) -> String {
        text(&self.raw.key)
    }

    /// Its content, `length` bytes from `offset` on; 0 is all that follows.
    pub async fn download(
        &self,
        offset: u64,
        length: u64,
        flags: StorageVolDownloadFlags,
    ) -> Result<Stream, Error> {
        let args = StorageVolDownloadArgs { vol: self.handle(), offset, length, flags: flags.bits() };
        self.connection.storage_vol_download(&args).await
    }

    /// New content for `length` bytes from `offset` on; 0 is all that follows.
    pub async fn upload(
        &self,
        offset: u64,
        length: u64,
        flags: StorageVolUploadFlags,
    ) -> Result<Stream, Error> {
        let args = StorageVolUploadArgs { vol: self.handle(), offset, length, flags: flags.bits() };
        self.connection.storage_vol_upload(&args).await
    }
}

methods! { StorageVol [vol = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String = storage_vol_get_xml_desc StorageVolGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Where it is on the daemon's host.
    fn path() -> String = storage_vol_get_path StorageVolGetPathArgs |_, ret| text(&ret.name);
    /// How large it is.
    fn info() -> VolumeInfo = storage_vol_get_info StorageVolGetInfoArgs |_, ret| VolumeInfo {
        kind: i32::from(ret.r#type).into(),
        capacity: ret.capacity,
        allocation: ret.allocation,
    };
    /// Makes it larger or smaller, in bytes.
    fn resize(capacity: u64, flags: StorageVolResizeFlags) = storage_vol_resize StorageVolResizeArgs;
    /// Overwrites it with zeros.
    fn wipe(flags: u32) = storage_vol_wipe StorageVolWipeArgs;
    /// Deletes it.
    fn delete(flags: StorageVolDeleteFlags) = storage_vol_delete StorageVolDeleteArgs;
    /// Its pool.
    fn pool() -> StoragePool =
        storage_pool_lookup_by_volume StoragePoolLookupByVolumeArgs |c, ret| object(c, ret.pool);
} }
