//! Storage pools and volumes. Every pool has the same room, whatever it is said to be made of.

mod pool;
mod sources;
mod volume;

use std::string::String; // the protocol has one of its own

use virtwire_conf::storage::PoolTarget;
use virtwire_conf::table::Bytes;
use virtwire_conf::{StoragePool, StorageVol};
use virtwire_driver_api::{StorageDriver, serve};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::{self as wire, Event};

use crate::driver::TestConnection;
use crate::error::{Result, TEST, uuid_text};
use crate::host::Host;
use crate::registry::{Object, Registry, Uuid};

/// Errors about definitions come from the code that all storage drivers share.
const STORAGE: ErrorDomain = ErrorDomain::STORAGE;

/// Room of a new pool in bytes.
const CAPACITY: u64 = 100 << 30;

/// `virStoragePoolEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Defined = 0,
    Undefined = 1,
    Started = 2,
    Stopped = 3,
    Created = 4,
    Deleted = 5,
}

/// A volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    name: String,
    definition: StorageVol,
}

impl Object for Volume {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_active(&self) -> bool {
        true
    }
}

impl Volume {
    fn key(&self) -> &str {
        self.definition.key.as_deref().unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.definition.target.as_ref().and_then(|target| target.path.as_deref()).unwrap_or_default()
    }

    fn allocation(&self) -> u64 {
        self.definition.allocation.unwrap_or_default().0
    }

    fn wire(&self, pool: &Pool) -> wire::NonnullStorageVol {
        wire::NonnullStorageVol { pool: pool.name().into(), name: self.name().into(), key: self.key().into() }
    }
}

/// A pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    name: String,
    definition: StoragePool,
    /// A new definition, from the next start on.
    next: Option<StoragePool>,
    active: bool,
    persistent: bool,
    autostart: bool,
    volumes: Registry<Volume>,
}

impl Object for Pool {
    fn name(&self) -> &str {
        &self.name
    }

    fn uuid(&self) -> Option<Uuid> {
        Some(self.definition.uuid.map(|uuid| *uuid.as_bytes()).unwrap_or_default())
    }

    fn is_active(&self) -> bool {
        self.active
    }
}

impl Pool {
    /// A pool with all its room.
    pub(crate) fn new(mut definition: StoragePool) -> Self {
        definition.capacity = Some(Bytes(CAPACITY));
        definition.allocation = Some(Bytes(0));
        definition.available = Some(Bytes(CAPACITY));
        let name = definition.name.clone().unwrap_or_default();
        let volumes = Registry::default();
        Self { name, definition, next: None, active: false, persistent: false, autostart: false, volumes }
    }

    /// A pool that runs and stays, as those of a node file.
    pub(crate) fn started(definition: StoragePool) -> Self {
        Self { active: true, persistent: true, ..Self::new(definition) }
    }

    fn wire(&self) -> wire::NonnullStoragePool {
        wire::NonnullStoragePool { name: self.name().into(), uuid: self.uuid().unwrap_or_default() }
    }

    fn event(&self, what: Lifecycle) -> Event {
        Event::StoragePoolLifecycle(wire::StoragePoolEventLifecycleMsg {
            callback_id: 0,
            pool: self.wire(),
            event: what as i32,
            detail: 0,
        })
    }

    fn available(&self) -> u64 {
        self.definition.available.unwrap_or_default().0
    }

    /// Takes room, or gives it back if negative.
    fn take(&mut self, bytes: i128) {
        let shift = |size: Option<Bytes>, by: i128| {
            let size = i128::from(size.unwrap_or_default().0) + by;
            Some(Bytes(u64::try_from(size.max(0)).unwrap_or(u64::MAX)))
        };
        self.definition.allocation = shift(self.definition.allocation, bytes);
        self.definition.available = shift(self.definition.available, -bytes);
    }

    /// Where a volume of that name is kept.
    fn path_of(&self, name: &str) -> String {
        let target = self.definition.target.as_ref().and_then(|target: &PoolTarget| target.path.as_deref());
        format!("{}/{name}", target.unwrap_or_default())
    }

    /// Adds a volume of a definition whose size has been checked.
    fn add_volume(&mut self, mut definition: StorageVol) -> wire::NonnullStorageVol {
        let name = definition.name.clone().unwrap_or_default();
        let path = self.path_of(&name);
        definition.key = Some(path.clone());
        definition.target.get_or_insert_default().path = Some(path);
        let volume = Volume { name, definition };
        let wire = volume.wire(self);
        self.take(volume.allocation().into());
        self.volumes.insert(volume);
        wire
    }

    /// Adds a volume of a node file.
    pub(crate) fn add_listed_volume(&mut self, definition: StorageVol) -> Result<()> {
        if self.volumes.by_name(definition.name.as_deref().unwrap_or_default()).is_some() {
            return Err(crate::error::unknown_cause());
        }
        self.add_volume(definition);
        Ok(())
    }

    fn check_active(&self) -> Result<()> {
        if self.active {
            Ok(())
        } else {
            Err(TEST.operation_invalid(format_args!("storage pool '{}' is not active", self.name())))
        }
    }

    fn check_inactive(&self) -> Result<()> {
        if self.active {
            Err(TEST.operation_invalid(format_args!("storage pool '{}' is active", self.name())))
        } else {
            Ok(())
        }
    }

    fn volume(&self, name: &str) -> Result<&Volume> {
        let found = self.volumes.by_name(name);
        found.ok_or_else(|| TEST.no_storage_vol(format_args!("no storage vol with matching name '{name}'")))
    }
}

impl Host {
    fn pool(&self, name: &str) -> Result<&Pool> {
        let found = self.pools.by_name(name);
        found.ok_or_else(|| TEST.no_storage_pool(format_args!("no storage pool with matching name '{name}'")))
    }

    /// The pool that a client means, by its UUID.
    fn pool_by_uuid(&self, pool: &wire::NonnullStoragePool) -> Result<&Pool> {
        let missing = || {
            TEST.no_storage_pool(format_args!(
                "no storage pool with matching uuid '{}'",
                uuid_text(&pool.uuid)
            ))
        };
        self.pools.by_uuid(&pool.uuid).ok_or_else(missing)
    }

    fn pool_mut(&mut self, name: &str) -> Result<&mut Pool> {
        let found = self.pools.by_name_mut(name);
        found.ok_or_else(|| TEST.no_storage_pool(format_args!("no storage pool with matching name '{name}'")))
    }
}

/// A definition may only replace a pool that has both its name and its UUID.
pub(crate) fn check_same(pools: &Registry<Pool>, new: &StoragePool) -> Result<()> {
    let uuid = new.uuid.map(|uuid| *uuid.as_bytes()).unwrap_or_default();
    let name = new.name.as_deref().unwrap_or_default();
    match (pools.by_uuid(&uuid), pools.by_name(name)) {
        (Some(old), _) if old.name() != name => Err(STORAGE.operation_failed(format_args!(
            "pool '{}' is already defined with uuid {}",
            old.name(),
            uuid_text(&uuid)
        ))),
        (None, Some(old)) => Err(STORAGE.operation_failed(format_args!(
            "pool '{name}' already exists with uuid {}",
            uuid_text(&old.uuid().unwrap_or_default())
        ))),
        _ => Ok(()),
    }
}

serve! {
    StorageDriver for TestConnection by run {
        connect_list_all_storage_pools = pool::list_all;
        connect_num_of_storage_pools = pool::count_active;
        connect_list_storage_pools = pool::active;
        connect_num_of_defined_storage_pools = pool::count_inactive;
        connect_list_defined_storage_pools = pool::inactive;
        connect_find_storage_pool_sources = sources::find;
        storage_pool_lookup_by_name = pool::by_name;
        storage_pool_lookup_by_uuid = pool::by_uuid;
        storage_pool_lookup_by_volume = pool::by_volume;
        storage_pool_define_xml = pool::define_xml;
        storage_pool_create_xml = pool::create_xml;
        storage_pool_create = pool::create;
        storage_pool_build = pool::build;
        storage_pool_destroy = pool::destroy;
        storage_pool_delete = pool::delete;
        storage_pool_undefine = pool::undefine;
        storage_pool_refresh = pool::refresh;
        storage_pool_get_info = pool::info;
        storage_pool_get_xml_desc = pool::get_xml_desc;
        storage_pool_get_autostart = pool::autostart;
        storage_pool_set_autostart = pool::set_autostart;
        storage_pool_is_active = pool::is_active;
        storage_pool_is_persistent = pool::is_persistent;
        storage_pool_num_of_volumes = volume::count;
        storage_pool_list_volumes = volume::names;
        storage_pool_list_all_volumes = volume::list_all;
        storage_vol_lookup_by_name = volume::by_name;
        storage_vol_lookup_by_key = volume::by_key;
        storage_vol_lookup_by_path = volume::by_path;
        storage_vol_create_xml = volume::create_xml;
        storage_vol_create_xml_from = volume::create_xml_from;
        storage_vol_delete = volume::delete;
        storage_vol_get_info = volume::info;
        storage_vol_get_xml_desc = volume::get_xml_desc;
        storage_vol_get_path = volume::path;
    }
}
