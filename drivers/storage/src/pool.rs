//! Pools: defined, built, started, stopped, deleted, undefined.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use virtwire_conf::storage::{Permissions, PoolType};
use virtwire_conf::table::Bytes;
use virtwire_conf::xml::utf8;
use virtwire_conf::{FormatOptions, StoragePool};
use virtwire_driver_api::check_flags;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_store as store;

use crate::mount::{self, make_file_system, mount, unmount};
use crate::volume::{Volume, scan};
use crate::{Pools, Result, STORAGE, blocking, file, options};

/// `virStoragePoolEventLifecycleType`
#[derive(Clone, Copy)]
pub(crate) enum Lifecycle {
    Defined = 0,
    Undefined = 1,
    Started = 2,
    Stopped = 3,
    Created = 4,
    Deleted = 5,
}

/// A pool.
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) definition: StoragePool,
    /// A new definition, from the next start on.
    pub(crate) next: Option<StoragePool>,
    pub(crate) active: bool,
    pub(crate) persistent: bool,
    pub(crate) autostart: bool,
    pub(crate) volumes: Vec<Volume>,
    /// Names of volumes that are being made.
    pub(crate) building: Vec<String>,
}

impl Pool {
    pub(crate) fn new(definition: StoragePool) -> Self {
        Self {
            name: definition.name.clone().unwrap_or_default(),
            uuid: definition.uuid.unwrap_or_default(),
            definition,
            next: None,
            active: false,
            persistent: false,
            autostart: false,
            volumes: Vec::new(),
            building: Vec::new(),
        }
    }

    pub(crate) fn handle(&self) -> NonnullStoragePool {
        NonnullStoragePool { name: self.name.as_str().into(), uuid: self.uuid.into_bytes() }
    }

    /// The directory.
    pub(crate) fn path(&self) -> PathBuf {
        target(&self.definition)
    }

    pub(crate) fn check_active(&self) -> Result<()> {
        if self.active {
            return Ok(());
        }
        Err(STORAGE.operation_invalid(format_args!("storage pool '{}' is not active", self.name)))
    }

    fn check_stopped(&self, how: &str) -> Result<()> {
        if !self.active {
            return Ok(());
        }
        Err(STORAGE.operation_invalid(format_args!("storage pool '{}' is {how} active", self.name)))
    }
}

fn target(definition: &StoragePool) -> PathBuf {
    definition.target.as_ref().and_then(|target| target.path.as_deref()).unwrap_or_default().into()
}

/// What a directory turned out to be.
struct Found {
    capacity: u64,
    available: u64,
    permissions: Permissions,
    volumes: Vec<Volume>,
}

fn look(path: &Path) -> Result<Found> {
    let volumes = scan(path)?;
    let cannot =
        |e: rustix::io::Errno| file(&e.into(), format_args!("cannot statvfs path '{}'", path.display()));
    let room = rustix::fs::statvfs(path).map_err(cannot)?;
    let meta =
        fs::metadata(path).map_err(|e| file(&e, format_args!("cannot stat path '{}'", path.display())))?;
    Ok(Found {
        capacity: room.f_blocks * room.f_frsize,
        available: room.f_bfree * room.f_frsize,
        permissions: permissions(&meta),
        volumes,
    })
}

/// Mode and owner of a file, as definitions say them.
pub(crate) fn permissions(meta: &fs::Metadata) -> Permissions {
    Permissions {
        mode: Some(format!("0{:o}", meta.mode() & 0o777)),
        owner: Some(meta.uid().into()),
        group: Some(meta.gid().into()),
        label: None,
    }
}

impl Pools {
    /// Does something with the pool that a client means.
    pub(crate) fn with<T>(
        &self,
        pool: &NonnullStoragePool,
        act: impl FnOnce(&mut Pool) -> Result<T>,
    ) -> Result<T> {
        let uuid = Uuid::from_bytes(pool.uuid);
        let missing = || {
            STORAGE
                .no_storage_pool(format_args!("no storage pool with matching uuid '{uuid}' ({})", pool.name))
        };
        let mut pools = self.pools();
        act(pools.iter_mut().find(|known| known.uuid == uuid).ok_or_else(missing)?)
    }

    pub(crate) fn tell(&self, pool: NonnullStoragePool, event: Lifecycle) {
        let msg = StoragePoolEventLifecycleMsg { callback_id: 0, pool, event: event as i32, detail: 0 };
        self.shared.events.emit(Event::StoragePoolLifecycle(msg));
    }

    /// Looks at an active pool's directory anew.
    pub(crate) async fn look(&self, name: &str) -> Result<()> {
        let path = self.pools().iter().find(|pool| pool.name == name).map(Pool::path).unwrap_or_default();
        let found = blocking(move || look(&path)).await?;
        if let Some(pool) = self.pools().iter_mut().find(|pool| pool.name == name) {
            let definition = &mut pool.definition;
            definition.capacity = Some(Bytes(found.capacity));
            definition.available = Some(Bytes(found.available));
            definition.allocation = Some(Bytes(found.capacity.saturating_sub(found.available)));
            definition.target.get_or_insert_default().permissions = Some(found.permissions);
            pool.volumes = found.volumes;
        }
        Ok(())
    }

    /// Makes a pool active.
    pub(crate) async fn activate(&self, name: &str) -> Result<()> {
        let known = self.pools().iter().find(|pool| pool.name == name).map(|pool| pool.definition.clone());
        let known = known.unwrap_or_default();
        mount(&known, &target(&known)).await?;
        if let Err(error) = self.look(name).await {
            // What cannot be looked at is of no use where it is.
            if let Err(left) = unmount(&known, &target(&known)).await {
                tracing::warn!(pool = name, error = %left, "stays mounted");
            }
            return Err(error);
        }
        let indented: String = xml(&known).lines().map(|line| format!("  {line}\n")).collect();
        let text = store::with_warning(
            &format!("pool-edit {name}"),
            &format!("<poolstate>\n{indented}</poolstate>\n"),
        );
        write(&self.state_file(name), &text)?;
        if let Some(pool) = self.pools().iter_mut().find(|pool| pool.name == name) {
            pool.active = true;
        }
        Ok(())
    }

    /// What is wrong with a definition beside the pools that are known.
    fn check(&self, new: &StoragePool) -> Result<()> {
        let (name, uuid) = (new.name.as_deref().unwrap_or_default(), new.uuid.unwrap_or_default());
        let pools = self.pools();
        if let Some(other) = pools.iter().find(|pool| pool.uuid == uuid)
            && other.name != name
            && target(new) != other.path()
        {
            let text = format_args!("pool '{}' is already defined with uuid {uuid}", other.name);
            return Err(STORAGE.operation_failed(text));
        }
        if let Some(other) = pools.iter().find(|pool| pool.name == name && pool.uuid != uuid) {
            let text = format_args!("pool '{name}' already exists with uuid {}", other.uuid);
            return Err(STORAGE.operation_failed(text));
        }
        let is_same = |known: &StoragePool| match mount::source(new) {
            Some(source) => mount::source(known).as_ref() == Some(&source),
            None => target(known) == target(new),
        };
        let mut others = pools.iter().filter(|pool| pool.name != name && pool.definition.type_ == new.type_);
        if let Some(other) = others.find(|pool| is_same(&pool.definition)) {
            return Err(
                STORAGE.operation_failed(format_args!("Storage source conflict with pool: '{}'", other.name))
            );
        }
        check_kind(new.type_)
    }
}

/// Directories can be served here, and file systems to be mounted.
pub(crate) fn check_kind(kind: PoolType) -> Result<()> {
    match kind {
        PoolType::Dir | PoolType::Fs | PoolType::Netfs => Ok(()),
        other => Err(STORAGE.internal_error(format_args!(
            "missing backend for pool type {} ({})",
            other as i32,
            other.as_str()
        ))),
    }
}

fn xml(definition: &StoragePool) -> String {
    definition.to_xml(&FormatOptions::default())
}

/// A pool as it is kept.
pub(crate) fn stored(definition: &StoragePool) -> String {
    let name = definition.name.as_deref().unwrap_or_default();
    store::with_warning(&format!("pool-edit {name}"), &xml(definition))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let cannot = |e| file(&e, format_args!("Failed to create file '{}.new'", path.display()));
    store::write(path, text).map_err(cannot)
}

pub(crate) async fn define(pools: &Pools, args: StoragePoolDefineXmlArgs) -> Result<StoragePoolDefineXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(STORAGE, args.flags, VALIDATE, "storagePoolDefineXML")?;
    let options = options().validating(args.flags & VALIDATE != 0);
    let definition = StoragePool::parse(utf8(args.xml.as_bytes(), ErrorDomain::STORAGE)?, &options)?;
    pools.check(&definition)?;
    let new = Pool::new(definition);
    write(&pools.definition_file(&new.name), &stored(&new.definition))?;
    let mut all = pools.pools();
    let pool = match all.iter_mut().find(|pool| pool.name == new.name) {
        Some(old) => {
            old.persistent = true;
            if old.active {
                old.next = Some(new.definition);
            } else {
                old.definition = new.definition;
            }
            old.handle()
        }
        None => {
            let handle = new.handle();
            all.push(Pool { persistent: true, ..new });
            handle
        }
    };
    drop(all);
    pools.tell(pool.clone(), Lifecycle::Defined);
    Ok(StoragePoolDefineXmlRet { pool })
}

/// `VIR_STORAGE_POOL_CREATE_WITH_BUILD`, `…_WITH_BUILD_OVERWRITE`, `…_WITH_BUILD_NO_OVERWRITE`
const WITH_BUILD: u32 = 1;
const WITH_BUILD_OVERWRITE: u32 = 2;
const WITH_BUILD_NO_OVERWRITE: u32 = 4;
const CREATE_FLAGS: u32 = WITH_BUILD | WITH_BUILD_OVERWRITE | WITH_BUILD_NO_OVERWRITE;

/// The flags of `virStoragePoolBuild` for a pool that is built as it starts; `None` for one that is not.
fn build_flags(flags: u32) -> Option<u32> {
    let overwrite = match flags {
        _ if flags & WITH_BUILD_OVERWRITE != 0 => OVERWRITE,
        _ if flags & WITH_BUILD_NO_OVERWRITE != 0 => NO_OVERWRITE,
        _ => 0,
    };
    (flags & WITH_BUILD != 0).then_some(overwrite)
}

pub(crate) async fn create_xml(
    pools: &Pools,
    args: StoragePoolCreateXmlArgs,
) -> Result<StoragePoolCreateXmlRet> {
    check_flags(STORAGE, args.flags, CREATE_FLAGS, "storagePoolCreateXML")?;
    let definition = StoragePool::parse(utf8(args.xml.as_bytes(), ErrorDomain::STORAGE)?, &options())?;
    pools.check(&definition)?;
    let new = Pool::new(definition);
    let (name, handle) = (new.name.clone(), new.handle());
    {
        let mut all = pools.pools();
        match all.iter_mut().find(|pool| pool.name == name) {
            Some(old) if old.active => {
                return Err(STORAGE.operation_invalid(format_args!("pool is already active as '{name}'")));
            }
            Some(old) => old.next = Some(std::mem::replace(&mut old.definition, new.definition)),
            None => all.push(new),
        }
    }
    let begun = async {
        if let Some(flags) = build_flags(args.flags) {
            make(pools, &handle, flags).await?;
        }
        pools.activate(&name).await
    };
    if let Err(error) = begun.await {
        let mut all = pools.pools();
        all.retain(|pool| pool.name != name || pool.persistent);
        if let Some(old) = all.iter_mut().find(|pool| pool.name == name)
            && let Some(next) = old.next.take()
        {
            old.definition = next;
        }
        return Err(error);
    }
    pools.tell(handle.clone(), Lifecycle::Started);
    Ok(StoragePoolCreateXmlRet { pool: handle })
}

pub(crate) async fn create(pools: &Pools, args: StoragePoolCreateArgs) -> Result<()> {
    check_flags(STORAGE, args.flags, CREATE_FLAGS, "storagePoolCreate")?;
    let name = pools.with(&args.pool, |pool| pool.check_stopped("already").map(|()| pool.name.clone()))?;
    if let Some(flags) = build_flags(args.flags) {
        make(pools, &args.pool, flags).await?;
    }
    pools.activate(&name).await?;
    pools.tell(args.pool, Lifecycle::Started);
    Ok(())
}

/// `VIR_STORAGE_POOL_BUILD_…`
const NO_OVERWRITE: u32 = 4;
const OVERWRITE: u32 = 8;

pub(crate) async fn build(pools: &Pools, args: StoragePoolBuildArgs) -> Result<()> {
    pools.with(&args.pool, |pool| pool.check_stopped("already"))?;
    let function = "virStorageBackendFileSystemBuild";
    check_flags(STORAGE, args.flags, NO_OVERWRITE | OVERWRITE, function)?;
    if args.flags == NO_OVERWRITE | OVERWRITE {
        let flags = ["OVERWRITE", "NO_OVERWRITE"].map(|flag| format!("'VIR_STORAGE_POOL_BUILD_{flag}'"));
        return Err(VirtError {
            message: format!("Flags {} are mutually exclusive", flags.join(" and ")),
            str1: Some(function.to_owned()),
            str2: Some("ctl".to_owned()),
            int1: 0,
            int2: 0,
            ..STORAGE.invalid_arg("")
        });
    }
    make(pools, &args.pool, args.flags).await?;
    pools.tell(args.pool, Lifecycle::Created);
    Ok(())
}

/// Makes the directory of a pool, if it is not there, and a file system if the flags of `virStoragePoolBuild` say so.
async fn make(pools: &Pools, pool: &NonnullStoragePool, flags: u32) -> Result<()> {
    /// The mode of a pool's directory that says nothing of it.
    const MODE: u32 = 0o711;
    let (path, wanted) = pools.with(pool, |pool| {
        let target = pool.definition.target.as_ref();
        Ok((pool.path(), target.and_then(|target| target.permissions.clone()).unwrap_or_default()))
    })?;
    blocking(move || {
        let cannot = |e| file(&e, format_args!("failed to create directory '{}'", path.display()));
        let mode = wanted.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(cannot)?;
        }
        fs::DirBuilder::new().mode(mode.unwrap_or(MODE)).create(&path).map_err(cannot)?;
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        let cannot = |e| file(&e, format_args!("cannot chown '{}'", path.display()));
        chown(&path, id(wanted.owner), id(wanted.group)).map_err(cannot)
    })
    .await?;
    if flags & (OVERWRITE | NO_OVERWRITE) != 0 {
        let definition = pools.with(pool, |pool| Ok(pool.definition.clone()))?;
        make_file_system(&definition, flags & OVERWRITE != 0).await?;
    }
    Ok(())
}

pub(crate) async fn destroy(pools: &Pools, args: StoragePoolDestroyArgs) -> Result<()> {
    let (name, definition) = pools.with(&args.pool, |pool| {
        pool.check_active().map(|()| (pool.name.clone(), pool.definition.clone()))
    })?;
    unmount(&definition, &target(&definition)).await?;
    let state = pools.state_file(&name);
    store::remove(&state).map_err(|e| file(&e, format_args!("cannot remove '{}'", state.display())))?;
    let mut all = pools.pools();
    all.retain(|pool| pool.name != name || pool.persistent);
    if let Some(pool) = all.iter_mut().find(|pool| pool.name == name) {
        pool.active = false;
        pool.volumes.clear();
        if let Some(next) = pool.next.take() {
            pool.definition = next;
        }
    }
    drop(all);
    pools.tell(args.pool, Lifecycle::Stopped);
    Ok(())
}

pub(crate) async fn delete(pools: &Pools, args: StoragePoolDeleteArgs) -> Result<()> {
    const ZEROED: u32 = 1;
    check_flags(STORAGE, args.flags, ZEROED, "storagePoolDelete")?;
    let path = pools.with(&args.pool, |pool| pool.check_stopped("still").map(|()| pool.path()))?;
    fs::remove_dir(&path)
        .map_err(|e| file(&e, format_args!("failed to remove pool '{}'", path.display())))?;
    pools.tell(args.pool, Lifecycle::Deleted);
    Ok(())
}

pub(crate) async fn undefine(pools: &Pools, args: StoragePoolUndefineArgs) -> Result<()> {
    let name = pools.with(&args.pool, |pool| pool.check_stopped("still").map(|()| pool.name.clone()))?;
    for path in [pools.autostart_link(&name), pools.definition_file(&name)] {
        store::remove(&path).map_err(|e| file(&e, format_args!("cannot remove '{}'", path.display())))?;
    }
    pools.pools().retain(|pool| pool.name != name);
    pools.tell(args.pool, Lifecycle::Undefined);
    Ok(())
}

pub(crate) async fn refresh(pools: &Pools, args: StoragePoolRefreshArgs) -> Result<()> {
    check_flags(STORAGE, args.flags, 0, "storagePoolRefresh")?;
    let name = pools.with(&args.pool, |pool| pool.check_active().map(|()| pool.name.clone()))?;
    pools.look(&name).await?;
    let msg = StoragePoolEventRefreshMsg { callback_id: 0, pool: args.pool };
    pools.shared.events.emit(Event::StoragePoolRefresh(msg));
    Ok(())
}

pub(crate) async fn set_autostart(pools: &Pools, args: StoragePoolSetAutostartArgs) -> Result<()> {
    pools.with(&args.pool, |pool| {
        if !pool.persistent {
            return Err::<(), VirtError>(STORAGE.internal_error("pool has no config file"));
        }
        let (link, wanted) = (pools.autostart_link(&pool.name), args.autostart != 0);
        let done = if wanted {
            store::link(&pools.definition_file(&pool.name), &link)
        } else {
            store::remove(&link)
        };
        done.map_err(|e| file(&e, format_args!("Failed to create symlink '{}'", link.display())))?;
        pool.autostart = wanted;
        Ok(())
    })
}
