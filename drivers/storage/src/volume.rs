//! Volumes: files in a pool's directory.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use virtwire_conf::domain::disk::Encryption;
use virtwire_conf::image::Image;
use virtwire_conf::storage::{ClusterSize, PoolFormat, Timestamps, VolFeatures, VolTarget, VolType};
use virtwire_conf::table::Bytes;
use virtwire_conf::{FormatOptions, StorageVol};
use virtwire_driver_api::check_flags;
use virtwire_protocol::remote::*;

use crate::encryption::{self, Passphrase};
use crate::image::look;
use crate::pool::{Pool, permissions};
use crate::program::run;
use crate::{Pools, Result, STORAGE, blocking, file, options};

/// A volume.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) definition: StorageVol,
}

impl Volume {
    pub(crate) fn path(&self) -> &str {
        self.definition.target.as_ref().and_then(|target| target.path.as_deref()).unwrap_or_default()
    }

    pub(crate) fn format(&self) -> &str {
        let format = self.definition.target.as_ref().and_then(|target| target.format.as_ref());
        format.map_or("raw", |format| format.type_.as_str())
    }

    /// How its content is encrypted.
    pub(crate) fn encryption(&self) -> Option<&Encryption> {
        self.definition.target.as_ref()?.encryption.as_ref()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.definition.capacity.unwrap_or_default().0
    }

    pub(crate) fn handle(&self, pool: &str) -> NonnullStorageVol {
        NonnullStorageVol { pool: pool.into(), name: self.name.as_str().into(), key: self.path().into() }
    }

    /// The definition with what the file says now.
    pub(crate) fn shown(&self) -> Result<StorageVol> {
        let mut shown = self.definition.clone();
        let path = self.path();
        let meta = fs::metadata(path).map_err(|e| file(&e, format_args!("cannot stat file '{path}'")))?;
        shown.allocation = Some(Bytes(meta.blocks() * 512));
        shown.physical = Some(Bytes(meta.len()));
        for target in shown.target.iter_mut().chain(&mut shown.backing_store) {
            let meta = target.path.as_deref().and_then(|path| fs::metadata(path).ok());
            // A device such as `/dev/null` behind an image is no storage.
            if let Some(meta) = meta.filter(|meta| !meta.file_type().is_char_device()) {
                target.permissions = Some(permissions(&meta));
                target.timestamps = Some(timestamps(&meta));
            }
        }
        Ok(shown)
    }
}

fn timestamps(meta: &fs::Metadata) -> Timestamps {
    let time = |seconds: i64, nanos: i64| match nanos {
        0 => seconds.to_string(),
        nanos => format!("{seconds}.{nanos:09}"),
    };
    Timestamps {
        atime: Some(time(meta.atime(), meta.atime_nsec())),
        mtime: Some(time(meta.mtime(), meta.mtime_nsec())),
        ctime: Some(time(meta.ctime(), meta.ctime_nsec())),
        btime: Some("0".to_owned()),
    }
}

/// The volumes in a directory, by name.
pub(crate) fn scan(dir: &Path) -> Result<Vec<Volume>> {
    let cannot = |e| file(&e, format_args!("cannot open directory '{}'", dir.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        // A name that is no text cannot be told to anybody; what has gone meanwhile is no volume.
        let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
            continue;
        };
        if name.contains('\n') {
            continue;
        }
        if let Some(definition) = describe(&name, &entry.path(), &meta) {
            found.push(Volume { name, definition });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What a file is as a volume; `None` for what cannot be one.
fn describe(name: &str, path: &Path, meta: &fs::Metadata) -> Option<StorageVol> {
    let kind = meta.file_type();
    let (type_, image) = if kind.is_dir() {
        (VolType::Dir, Image { format: "dir", ..Default::default() })
    } else if kind.is_block_device() {
        (VolType::Block, Image { format: "raw", ..Default::default() })
    } else if kind.is_file() {
        (VolType::File, look(path).ok()?)
    } else {
        return None;
    };
    let text = path.to_str()?.to_owned();
    let format = |name: &str| Some(PoolFormat { type_: name.to_owned() });
    let mut target =
        VolTarget { path: Some(text.clone()), format: format(image.format), ..VolTarget::default() };
    target.encryption =
        image.encryption.map(|format| Encryption { format: format.to_owned(), ..Encryption::default() });
    if let Some(qcow2) = image.qcow2 {
        target.compat = Some(qcow2.compat.to_owned());
        target.cluster_size = Some(ClusterSize(qcow2.cluster_size));
        target.features =
            Some(VolFeatures { lazy_refcounts: qcow2.lazy_refcounts, extended_l2: qcow2.extended_l2 });
    }
    Some(StorageVol {
        type_,
        name: Some(name.to_owned()),
        key: Some(text),
        capacity: Some(Bytes(image.capacity.unwrap_or(meta.len().saturating_sub(image.header)))),
        target: Some(target),
        backing_store: image.backing.map(|(path, of)| VolTarget {
            path: Some(path.display().to_string()),
            format: format(of.as_deref().unwrap_or("raw")),
            ..VolTarget::default()
        }),
        ..StorageVol::default()
    })
}

/// `VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA`, `…_REFLINK`, `…_VALIDATE`
const PREALLOC_METADATA: u32 = 1;
const CREATE_FLAGS: u32 = 7;

pub(crate) async fn create(pools: &Pools, args: StorageVolCreateXmlArgs) -> Result<StorageVolCreateXmlRet> {
    check_flags(STORAGE, args.flags, CREATE_FLAGS, "storageVolCreateXML")?;
    let taken = |name: &str| STORAGE.storage_vol_exist(format_args!("'{name}'"));
    let mut volume = reserve(pools, &args.pool, &args.xml.to_str_lossy(), taken)?;
    let made = make(pools, &volume, args.flags).await;
    if made.is_ok() && volume.definition.capacity.is_none() {
        volume.definition.capacity = found_capacity(Path::new(volume.path()));
    }
    Ok(StorageVolCreateXmlRet { vol: settle(pools, &args.pool, volume, made).await? })
}

pub(crate) async fn create_from(
    pools: &Pools,
    args: StorageVolCreateXmlFromArgs,
) -> Result<StorageVolCreateXmlFromRet> {
    check_flags(STORAGE, args.flags, CREATE_FLAGS, "storageVolCreateXMLFrom")?;
    let from = pools.with_volume(&args.clonevol, |volume| Ok(volume.clone()))?;
    let taken =
        |name: &str| STORAGE.internal_error(format_args!("storage volume name '{name}' already in use."));
    let mut volume = reserve(pools, &args.pool, &args.xml.to_str_lossy(), taken)?;
    let capacity = volume.capacity().max(from.capacity());
    volume.definition.capacity = Some(Bytes(capacity));
    let made = copy(&from, &volume).await;
    Ok(StorageVolCreateXmlFromRet { vol: settle(pools, &args.pool, volume, made).await? })
}

/// How much an image holds that was made without a size of its own.
fn found_capacity(path: &Path) -> Option<Bytes> {
    let of_image = look(path).ok()?.capacity.filter(|bytes| *bytes > 0);
    of_image.or_else(|| Some(fs::metadata(path).ok()?.len())).map(Bytes)
}

/// A volume to be made: until it is, nobody else gets its name.
fn reserve(
    pools: &Pools,
    pool: &NonnullStoragePool,
    xml: &str,
    taken: impl Fn(&str) -> virtwire_protocol::VirtError,
) -> Result<Volume> {
    pools.with(pool, |pool: &mut Pool| {
        pool.check_active()?;
        let mut definition = StorageVol::parse(xml, &options())?;
        let name = definition.name.clone().unwrap_or_default();
        if name.contains('/') {
            return Err(STORAGE.operation_invalid(format_args!("volume name '{name}' cannot contain '/'")));
        }
        if name.is_empty() || name == "." || name == ".." || name.contains('\n') {
            return Err(STORAGE.xml_error(format_args!("invalid volume name '{name}'")));
        }
        if pool.volumes.iter().any(|volume| volume.name == name) || pool.building.contains(&name) {
            return Err(taken(&name));
        }
        let path = pool.path().join(&name).display().to_string();
        // In a directory, a volume is a file, and on no device of its own.
        definition.type_ = if format_is(&definition, "dir") { VolType::Dir } else { VolType::File };
        definition.source = None;
        if definition.backing_store.is_some() && format_is(&definition, "raw") {
            return Err(STORAGE.no_support("backing storage not supported for raw volumes"));
        }
        definition.key = Some(path.clone());
        definition.target.get_or_insert_default().path = Some(path);
        pool.building.push(name.clone());
        Ok(Volume { name, definition })
    })
}

fn format_is(definition: &StorageVol, name: &str) -> bool {
    let format = definition.target.as_ref().and_then(|target| target.format.as_ref());
    format.map_or("raw", |format| format.type_.as_str()) == name
}

/// Takes a volume that was made into its pool, or forgets about one that was not.
async fn settle(
    pools: &Pools,
    pool: &NonnullStoragePool,
    volume: Volume,
    made: Result<()>,
) -> Result<NonnullStorageVol> {
    let (handle, name) = pools.with(pool, |pool| {
        pool.building.retain(|name| *name != volume.name);
        made?;
        let handle = volume.handle(&pool.name);
        pool.volumes.push(volume);
        Ok((handle, pool.name.clone()))
    })?;
    pools.measure(&name);
    Ok(handle)
}

/// The mode of a new volume that says nothing of it.
const MODE: u32 = 0o600;

async fn make(pools: &Pools, volume: &Volume, flags: u32) -> Result<()> {
    let target = volume.definition.target.clone().unwrap_or_default();
    let path = PathBuf::from(volume.path());
    if path.symlink_metadata().is_ok() {
        let exists = std::io::Error::from_raw_os_error(rustix::io::Errno::EXIST.raw_os_error());
        return Err(file(&exists, format_args!("cannot create path '{}'", path.display())));
    }
    let (capacity, allocation) = (volume.capacity(), volume.definition.allocation.unwrap_or_default().0);
    match volume.format() {
        "raw" if target.encryption.is_none() => raw(path.clone(), capacity, allocation).await?,
        "dir" => fs::create_dir(&path)
            .map_err(|e| file(&e, format_args!("cannot create path '{}'", path.display())))?,
        format => {
            // What is in an image of a disc is for whoever writes it.
            let format = match (format, &target.encryption) {
                ("raw", Some(_)) => "luks",
                ("iso", _) => "raw",
                (format, _) => format,
            };
            let mut args = vec!["create".to_owned(), "-f".to_owned(), format.to_owned()];
            let mut options = Vec::new();
            let mut passphrase = None;
            if let Some(encryption) = &target.encryption {
                encryption::check(format, encryption)?;
                let given = passphrase.insert(Passphrase::of(pools, &volume.name, encryption).await?);
                let (object, own) = given.words(format, encryption);
                args.extend(object);
                options.extend(own);
            }
            if let Some(compat) = &target.compat {
                options.push(format!("compat={compat}"));
            }
            if let Some(features) = &target.features {
                let wanted =
                    [("lazy_refcounts", features.lazy_refcounts), ("extended_l2", features.extended_l2)];
                options.extend(wanted.iter().filter(|(_, on)| *on).map(|(name, _)| format!("{name}=on")));
            }
            if let Some(size) = &target.cluster_size {
                options.push(format!("cluster_size={}", size.0));
            }
            if flags & PREALLOC_METADATA != 0 {
                options.push("preallocation=metadata".to_owned());
            }
            if let Some(backing) = &volume.definition.backing_store {
                let format = backing.format.as_ref().map_or("raw", |format| format.type_.as_str());
                args.extend(["-F".to_owned(), format.to_owned(), "-b".to_owned()]);
                args.push(backing.path.clone().unwrap_or_default());
            }
            if !options.is_empty() {
                args.extend(["-o".to_owned(), options.join(",")]);
            }
            args.push(volume.path().to_owned());
            // Without a size of its own, an image is as large as what is behind it.
            args.extend(volume.definition.capacity.map(|size| format!("{}K", size.0.div_ceil(1024))));
            run("qemu-img", &args).await?;
            drop(passphrase);
        }
    }
    own(volume, if volume.format() == "dir" { 0o711 } else { MODE }, &path)
}

/// A file of `capacity` bytes, of which the first `allocation` are on disk.
async fn raw(path: PathBuf, capacity: u64, allocation: u64) -> Result<()> {
    blocking(move || {
        let cannot = |e| file(&e, format_args!("cannot create path '{}'", path.display()));
        let new = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path).map_err(cannot)?;
        let sized = new.set_len(capacity).and_then(|()| match allocation.min(capacity) {
            0 => Ok(()),
            bytes => Ok(rustix::fs::fallocate(&new, rustix::fs::FallocateFlags::empty(), 0, bytes)?),
        });
        sized.and_then(|()| new.sync_all()).map_err(|e| {
            // What is left of a failed attempt is of no use; the failure itself is what counts.
            let _ = fs::remove_file(&path);
            file(&e, format_args!("cannot extend file '{}'", path.display()))
        })
    })
    .await
}

/// Gives a new file the mode and the owner that its definition says.
fn own(volume: &Volume, usual: u32, path: &Path) -> Result<()> {
    let wanted =
        volume.definition.target.as_ref().and_then(|target| target.permissions.clone()).unwrap_or_default();
    let mode = wanted.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(usual);
    let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    let cannot = |e| file(&e, format_args!("cannot set mode of '{}' to {mode:04o}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(cannot)?;
    chown(path, id(wanted.owner), id(wanted.group))
        .map_err(|e| file(&e, format_args!("cannot chown '{}'", path.display())))
}

async fn copy(from: &Volume, to: &Volume) -> Result<()> {
    if let Some(encryption) = from.encryption().or(to.encryption()) {
        encryption::single(encryption)?;
        return Err(STORAGE.config_unsupported("encrypted volumes cannot be copied"));
    }
    let formats = ["convert", "-f", from.format(), "-O", to.format()];
    let args: Vec<_> = formats.into_iter().chain([from.path(), to.path()]).collect();
    run("qemu-img", &args).await?;
    if to.format() == "raw" && to.capacity() > from.capacity() {
        resize_raw(to.path(), to.capacity()).await?;
    }
    own(to, MODE, Path::new(to.path()))
}

async fn resize_raw(path: &str, capacity: u64) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        let opened = OpenOptions::new().write(true).open(&path);
        let cannot = |e| file(&e, format_args!("Failed to truncate file '{path}'"));
        opened.and_then(|file| file.set_len(capacity)).map_err(cannot)
    })
    .await
}

pub(crate) async fn resize(pools: &Pools, args: StorageVolResizeArgs) -> Result<()> {
    /// `VIR_STORAGE_VOL_RESIZE_…`
    const ALLOCATE: u32 = 1;
    const DELTA: u32 = 2;
    const SHRINK: u32 = 4;
    check_flags(STORAGE, args.flags, ALLOCATE | DELTA | SHRINK, "storageVolResize")?;
    let volume = pools.with_volume(&args.vol, |volume| Ok(volume.clone()))?;
    let current = volume.capacity();
    let capacity = match (args.flags & DELTA != 0, args.flags & SHRINK != 0) {
        (false, _) => args.capacity,
        (true, false) => current.saturating_add(args.capacity),
        (true, true) => current.saturating_sub(args.capacity),
    };
    if capacity < current && args.flags & SHRINK == 0 {
        let text = "Can't shrink capacity below current capacity unless shrink flag explicitly specified";
        return Err(STORAGE.invalid_arg(text));
    }
    if let Some(encryption) = volume.encryption() {
        if encryption.secret.is_empty() {
            return Err(STORAGE.xml_error("no secret provided for luks encryption"));
        }
        return Err(STORAGE.config_unsupported("encrypted volumes cannot be resized"));
    }
    if volume.format() == "raw" {
        resize_raw(volume.path(), capacity).await?;
    } else {
        let shrink = (capacity < current).then_some("--shrink");
        let size = capacity.to_string();
        let args = ["resize", "-f", volume.format()].into_iter().chain(shrink);
        let args: Vec<_> = args.chain([volume.path(), size.as_str()]).collect();
        run("qemu-img", &args).await?;
    }
    pools.with_volume(&args.vol, |volume| {
        volume.definition.capacity = Some(Bytes(capacity));
        Ok(())
    })?;
    pools.measure(&args.vol.pool.to_str_lossy());
    Ok(())
}

pub(crate) async fn delete(pools: &Pools, args: StorageVolDeleteArgs) -> Result<()> {
    /// `VIR_STORAGE_VOL_DELETE_ZEROED` and `…_WITH_SNAPSHOTS`
    const DELETE_FLAGS: u32 = 3;
    check_flags(STORAGE, args.flags, DELETE_FLAGS, "storageVolDelete")?;
    let volume = pools.with_volume(&args.vol, |volume| Ok(volume.clone()))?;
    let path = volume.path();
    let (removed, what) = match volume.definition.type_ {
        VolType::Dir => (fs::remove_dir(path), "directory"),
        _ => (fs::remove_file(path), "file"),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file(&error, format_args!("cannot unlink {what} '{path}'")));
        }
        _ => {}
    }
    let pool = args.vol.pool.to_str_lossy();
    if let Some(pool) = pools.pools().iter_mut().find(|known| known.name == pool) {
        pool.volumes.retain(|known| known.name != volume.name);
    }
    pools.measure(&pool);
    Ok(())
}

pub(crate) async fn info(pools: &Pools, args: StorageVolGetInfoArgs) -> Result<StorageVolGetInfoRet> {
    let shown = pools.with_volume(&args.vol, |volume| volume.shown())?;
    Ok(StorageVolGetInfoRet {
        r#type: shown.type_ as u8,
        capacity: shown.capacity.unwrap_or_default().0,
        allocation: shown.allocation.unwrap_or_default().0,
    })
}

/// `VIR_STORAGE_VOL_GET_PHYSICAL`: the file's size in place of what it takes on disk.
const PHYSICAL: u32 = 1;

pub(crate) async fn info_flags(
    pools: &Pools,
    args: StorageVolGetInfoFlagsArgs,
) -> Result<StorageVolGetInfoFlagsRet> {
    check_flags(STORAGE, args.flags, PHYSICAL, "storageVolGetInfoFlags")?;
    let shown = pools.with_volume(&args.vol, |volume| volume.shown())?;
    let size = if args.flags & PHYSICAL != 0 { shown.physical } else { shown.allocation };
    Ok(StorageVolGetInfoFlagsRet {
        r#type: shown.type_ as u8,
        capacity: shown.capacity.unwrap_or_default().0,
        allocation: size.unwrap_or_default().0,
    })
}

pub(crate) async fn xml_desc(
    pools: &Pools,
    args: StorageVolGetXmlDescArgs,
) -> Result<StorageVolGetXmlDescRet> {
    check_flags(STORAGE, args.flags, 0, "storageVolGetXMLDesc")?;
    let shown = pools.with_volume(&args.vol, |volume| volume.shown())?;
    Ok(StorageVolGetXmlDescRet { xml: shown.to_xml(&FormatOptions::default()).into() })
}

pub(crate) async fn path(pools: &Pools, args: StorageVolGetPathArgs) -> Result<StorageVolGetPathRet> {
    pools.with_volume(&args.vol, |volume| Ok(StorageVolGetPathRet { name: volume.path().into() }))
}

/// The volumes of an active pool.
fn listed<T>(pools: &Pools, pool: &NonnullStoragePool, show: impl Fn(&Pool) -> T) -> Result<T> {
    pools.with(pool, |pool| pool.check_active().map(|()| show(pool)))
}

pub(crate) async fn count(
    pools: &Pools,
    args: StoragePoolNumOfVolumesArgs,
) -> Result<StoragePoolNumOfVolumesRet> {
    Ok(StoragePoolNumOfVolumesRet { num: listed(pools, &args.pool, |pool| pool.volumes.len() as i32)? })
}

pub(crate) async fn names(
    pools: &Pools,
    args: StoragePoolListVolumesArgs,
) -> Result<StoragePoolListVolumesRet> {
    let most = usize::try_from(args.maxnames).unwrap_or_default();
    let names = listed(pools, &args.pool, |pool| {
        pool.volumes.iter().take(most).map(|volume| volume.name.as_str().into()).collect()
    })?;
    Ok(StoragePoolListVolumesRet { names })
}

pub(crate) async fn all(
    pools: &Pools,
    args: StoragePoolListAllVolumesArgs,
) -> Result<StoragePoolListAllVolumesRet> {
    check_flags(STORAGE, args.flags, 0, "storagePoolListAllVolumes")?;
    let vols: Vec<_> = listed(pools, &args.pool, |pool| {
        pool.volumes.iter().map(|volume| volume.handle(&pool.name)).collect()
    })?;
    let ret = vols.len() as u32;
    Ok(StoragePoolListAllVolumesRet { vols: if args.need_results != 0 { vols } else { Vec::new() }, ret })
}

impl Pools {
    /// How much room a pool has left.
    pub(crate) fn measure(&self, name: &str) {
        let mut pools = self.pools();
        let Some(pool) = pools.iter_mut().find(|pool| pool.name == name) else { return };
        if let Ok(room) = rustix::fs::statvfs(pool.path()) {
            let (capacity, available) = (room.f_blocks * room.f_frsize, room.f_bfree * room.f_frsize);
            pool.definition.capacity = Some(Bytes(capacity));
            pool.definition.available = Some(Bytes(available));
            pool.definition.allocation = Some(Bytes(capacity.saturating_sub(available)));
        }
    }
}
