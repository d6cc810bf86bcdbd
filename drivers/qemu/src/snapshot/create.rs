//! A snapshot is taken, or one that was described elsewhere is made known again.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use virtwire_conf::domain::disk::{BackingFormat, BackingStore, Disk, DiskSource, StorageType};
use virtwire_conf::moments::Moment;
use virtwire_conf::snapshot::{
    Cookie, SnapshotDisk, SnapshotDisks, SnapshotLocation as Location, SnapshotState,
};
use virtwire_conf::table::{Element, write_document};
use virtwire_conf::xml::{Document, utf8};
use virtwire_conf::{Domain, FormatOptions, Snapshot};
use virtwire_protocol::error::{ErrorCode, ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Cont, QueryBlock, SnapshotSave, Stop, Transaction};

use super::disks::{check_disks, disks, file, format, memory};
use super::image::{job, overlay, qemu_img};
use super::{external, on_wire};
use crate::agent;
use crate::blockjob::check_idle;
use crate::checkpoint::bitmaps;
use crate::define::replace;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::kept;
use crate::namespace::Handed;
use crate::overlay::{check_lasting, check_movable};
use crate::save;
use crate::state::{Lifecycle, State};

/// `VIR_DOMAIN_SNAPSHOT_CREATE_…`
mod flag {
    pub(super) const REDEFINE: u32 = 1 << 0;
    pub(super) const CURRENT: u32 = 1 << 1;
    pub(super) const NO_METADATA: u32 = 1 << 2;
    pub(super) const HALT: u32 = 1 << 3;
    pub(super) const DISK_ONLY: u32 = 1 << 4;
    pub(super) const REUSE_EXT: u32 = 1 << 5;
    pub(super) const QUIESCE: u32 = 1 << 6;
    pub(super) const LIVE: u32 = 1 << 8;
    pub(super) const VALIDATE: u32 = 1 << 9;
    pub(super) const KNOWN: u32 = (1 << 10) - 1;
}

const SNAPSHOT: ErrorDomain = ErrorDomain::DOMAIN_SNAPSHOT;

pub(crate) async fn create_xml(
    driver: &Qemu,
    args: DomainSnapshotCreateXmlArgs,
) -> Result<DomainSnapshotCreateXmlRet> {
    check_flags(args.flags, flag::KNOWN, "qemuSnapshotCreateXML")?;
    requires(args.flags, (flag::CURRENT, "CURRENT"), (flag::REDEFINE, "REDEFINE"))?;
    requires(args.flags, (flag::QUIESCE, "QUIESCE"), (flag::DISK_ONLY, "DISK_ONLY"))?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.turn().await?;
    let options = driver.options().await?.clone().validating(args.flags & flag::VALIDATE != 0);
    let asked = Snapshot::parse(utf8(args.xml_desc.as_bytes(), ErrorDomain::DOMAIN_SNAPSHOT)?, &options)?;
    let (redefine, halt) = (args.flags & flag::REDEFINE != 0, args.flags & flag::HALT != 0);
    if halt && !redefine && guest.lock().persistent.is_none() {
        return Err(QEMU.operation_invalid("cannot halt after transient domain snapshot"));
    }
    let moment = if redefine {
        redefined(&guest, asked, args.flags)?
    } else {
        let moment = described(&guest, asked, args.flags)?;
        take(driver, &guest, &moment.data, &moment.name, args.flags).await?;
        moment
    };
    let name = moment.name.clone();
    let before = guest.lock().snapshots.current.clone();
    if args.flags & flag::NO_METADATA == 0 {
        {
            let mut inner = guest.lock();
            // What a guest went back to is part of the new snapshot now.
            let left = inner.snapshots.current.clone().filter(|_| !redefine);
            if let Some(left) = left.and_then(|left| inner.snapshots.get_mut(&left)) {
                left.data.revert_disks = None;
            }
            inner.snapshots.insert(moment);
            if !redefine || args.flags & flag::CURRENT != 0 {
                inner.snapshots.current = Some(name.clone());
            }
        }
        let changed: Vec<_> = before.iter().map(String::as_str).chain([name.as_str()]).collect();
        kept::save::<Snapshot>(driver, &guest, &changed)?;
    }
    if halt && !redefine {
        driver.stop_for_snapshot(&guest).await;
    }
    Ok(DomainSnapshotCreateXmlRet { snap: on_wire(&guest.handle(), &name) })
}

/// A flag that has no meaning without another one.
fn requires(flags: u32, (one, name): (u32, &str), (other, needed): (u32, &str)) -> Result<()> {
    if flags & one == 0 || flags & other != 0 {
        return Ok(());
    }
    let text = format_args!(
        "Flag 'VIR_DOMAIN_SNAPSHOT_CREATE_{needed}' is required by flag 'VIR_DOMAIN_SNAPSHOT_CREATE_{name}'"
    );
    Err(bad_flags(SNAPSHOT, "virDomainSnapshotCreateXML", text))
}

/// Names are those of files.
fn check_name(name: &str) -> Result<()> {
    let wrong = if name.contains('/') {
        "name can't contain '/'"
    } else if name.starts_with('.') {
        "name can't start with '.'"
    } else {
        return Ok(());
    };
    let text = format_args!("invalid snapshot name '{name}': {wrong}");
    Err(VirtError::new(QEMU, ErrorCode::XML_DETAIL, text))
}

/// A snapshot whose description was kept elsewhere.
fn redefined(guest: &Guest, mut whole: Snapshot, flags: u32) -> Result<Moment<Snapshot>> {
    let name = whole.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| SNAPSHOT.xml_error("a redefined snapshot must have a name"))?;
    check_name(&name)?;
    if whole.creation_time.is_none() {
        return Err(SNAPSHOT.internal_error("missing creationTime from existing snapshot"));
    }
    // Which one is the current is said by a flag.
    whole.active = None;
    let state = whole.state.ok_or_else(|| SNAPSHOT.xml_error("missing state from existing snapshot"))?;
    let off = |state| state == SnapshotState::Shutoff;
    let disk_only = state == SnapshotState::DiskSnapshot;
    let memory = memory(whole.memory.take(), !disk_only && !off(state))?;
    if flags & flag::DISK_ONLY != 0 && !disk_only {
        let text = format_args!("disk-only flag for snapshot {name} requires disk-snapshot state");
        return Err(SNAPSHOT.invalid_arg(text));
    }
    let parent = whole.parent.take().map(|parent| parent.name);
    let inner = guest.lock();
    inner.snapshots.check_parent(&name, parent.as_deref())?;
    let domain =
        whole.domain.as_deref().ok_or_else(|| SNAPSHOT.internal_error("missing domain in snapshot"))?;
    if domain.uuid.map(uuid::Uuid::into_bytes) != Some(guest.uuid) {
        let uuid = uuid::Uuid::from_bytes(guest.uuid).hyphenated();
        let text = format_args!("definition for snapshot {name} must use uuid {uuid}");
        return Err(SNAPSHOT.invalid_arg(text));
    }
    let before = inner.snapshots.get(&name).and_then(|known| known.data.state);
    if before.is_some_and(|before| off(before) != off(state)) {
        let text = format_args!("cannot change between online and offline snapshot state in snapshot {name}");
        return Err(SNAPSHOT.invalid_arg(text));
    }
    let asked = whole.disks.take().map(|disks| disks.disk).unwrap_or_default();
    let outside = disk_only || memory.snapshot == Some(Location::External);
    let place = if outside { Location::External } else { Location::Internal };
    let disks = disks(domain, &name, asked, place)?;
    whole.disks = (!disks.is_empty()).then_some(SnapshotDisks { disk: disks });
    whole.memory = Some(memory);
    Ok(Moment { name, parent, data: whole })
}

/// What a new snapshot will be: nothing has been taken yet.
fn described(guest: &Guest, asked: Snapshot, flags: u32) -> Result<Moment<Snapshot>> {
    let inner = guest.lock();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = asked.name.filter(|name| !name.is_empty()).unwrap_or_else(|| now.to_string());
    check_name(&name)?;
    let running = inner.live.is_some();
    let disk_only = flags & flag::DISK_ONLY != 0;
    let memory = memory(asked.memory, running && !disk_only)?;
    if flags & flag::LIVE != 0 && memory.snapshot != Some(Location::External) {
        let text = "live snapshot creation is supported only during full system snapshots";
        return Err(QEMU.operation_unsupported(text));
    }
    if inner.snapshots.get(&name).is_some() {
        return Err(ErrorDomain::DOMAIN.operation_failed(format_args!("domain moment {name} already exists")));
    }
    let domain = inner.current().ok_or_else(not_running)?;
    let asked_disks = asked.disks.map(|disks| disks.disk).unwrap_or_default();
    let outside = disk_only || memory.snapshot == Some(Location::External);
    let place = if outside { Location::External } else { Location::Internal };
    let disks = disks(&domain, &name, asked_disks, place)?;
    check_disks(&domain, &disks, place, running)?;
    if let Some(live) = &inner.live {
        let taken = disks.iter().filter(|disk| disk.snapshot != Some(Location::No));
        taken.map(|disk| &disk.name).try_for_each(|name| check_idle(live, name))?;
        match disk_only {
            true => {
                let taken = |own: &&Disk| {
                    let mut taken = disks.iter().filter(|disk| disk.snapshot != Some(Location::No));
                    taken.any(|disk| disk.name == target(own))
                };
                domain.devices.disks.iter().filter(taken).try_for_each(check_lasting)?;
            }
            false => check_movable(&domain)?,
        }
    }
    let state = match (running, disk_only) {
        (false, _) => SnapshotState::Shutoff,
        (true, true) => SnapshotState::DiskSnapshot,
        (true, false) if inner.state.runs() => SnapshotState::Running,
        (true, false) => SnapshotState::Paused,
    };
    let stored = inner.persistent.as_ref().map(|definition| Box::new((*definition.domain).clone()));
    let live = inner.live.as_ref();
    let data = Snapshot {
        name: Some(name.clone()),
        description: asked.description,
        state: Some(state),
        creation_time: i64::try_from(now).ok(),
        memory: Some(memory),
        disks: Some(SnapshotDisks { disk: disks }),
        cookie: live.filter(|_| !disk_only).and_then(|live| cookie(&live.domain)),
        domain: live.map(|live| Box::new(of_run(live))).or_else(|| stored.clone()),
        inactive_domain: stored.filter(|_| running),
        ..Snapshot::default()
    };
    Ok(Moment { name, parent: inner.snapshots.current.clone(), data })
}

/// What runs, but for what the run has made of it: the processor, labels, terminals, ports.
pub(crate) fn of_run(live: &Live) -> Domain {
    let mut domain = (*live.domain).clone();
    let (devices, stored) = (&mut domain.devices, &live.stored.devices);
    devices.serials.clone_from(&stored.serials);
    devices.parallels.clone_from(&stored.parallels);
    devices.consoles.clone_from(&stored.consoles);
    devices.channels.clone_from(&stored.channels);
    devices.graphics.clone_from(&stored.graphics);
    devices.disks.iter_mut().for_each(|disk| open_end(&mut disk.backing_store));
    domain.cpu.clone_from(&live.stored.cpu);
    domain.seclabel.clone_from(&live.stored.seclabel);
    domain
}

/// A chain without the mark that it ends.
fn open_end(below: &mut Option<Box<BackingStore>>) {
    match below {
        Some(last) if last.source.is_none() => *below = None,
        Some(more) => open_end(&mut more.backing_store),
        None => {}
    }
}

/// What else a later run must have as it is in this one.
pub(crate) fn cookie(domain: &Domain) -> Option<Cookie> {
    let cpu = domain.cpu.as_ref().map(|cpu| write_document("cpu", cpu, &FormatOptions::default()));
    let text = format!("<cookie>{}<slirpHelper/></cookie>", cpu.unwrap_or_default());
    Cookie::read(Document::parse(&text, SNAPSHOT).ok()?.root()).ok()
}

/// Takes the snapshot that is described.
async fn take(driver: &Qemu, guest: &Arc<Guest>, snapshot: &Snapshot, name: &str, flags: u32) -> Result<()> {
    let disks = snapshot.disks.as_ref().map(|disks| disks.disk.as_slice()).unwrap_or_default();
    let of = |place| disks.iter().filter(move |disk| disk.snapshot == Some(place)).collect::<Vec<_>>();
    let (internal, external) = (of(Location::Internal), of(Location::External));
    if flags & flag::REUSE_EXT == 0 {
        external.iter().try_for_each(|disk| vacant(disk))?;
    }
    match guest.live() {
        Ok(live) if external.is_empty() => {
            let devices = nodes(&live, &internal).await?;
            let vmstate = devices.first().cloned();
            let vmstate = vmstate.ok_or_else(|| QEMU.internal_error("missing vmstate device"))?;
            let (job_id, tag) = (format!("snapsave-{name}"), name.to_owned());
            let save = SnapshotSave { job_id: job_id.clone(), tag, vmstate, devices };
            live.monitor.execute(&save).await.map_err(monitor)?;
            job(&live.monitor, &job_id).await
        }
        Ok(live) => {
            let memory = snapshot.memory.as_ref().and_then(|memory| memory.file.as_deref());
            let Some(memory) = memory else {
                return put_upon_quiet(driver, guest, &live, &external, flags).await;
            };
            let format = driver.shared.formats.of_snapshot()?;
            let ran = guest.lock().state.runs();
            if ran && flags & flag::LIVE == 0 {
                driver.change(guest, State::runs, State::PAUSED_SNAPSHOT, Lifecycle::SUSPENDED_PAUSED);
                live.monitor.execute(&Stop {}).await.map_err(monitor)?;
            }
            let mut taken = save::put(&live, Path::new(memory), &of_run(&live), ran, (format, None)).await;
            if taken.is_ok() {
                taken = put_upon_running(driver, guest, &live, &external, flags).await;
                if taken.is_err() {
                    external::remove(&[memory.to_owned()]);
                }
            }
            if ran && live.monitor.execute(&Cont {}).await.is_ok() {
                let paused = |state: State| !state.runs();
                driver.change(guest, paused, State::RUNNING_UNPAUSED, Lifecycle::RESUMED_UNPAUSED);
            }
            taken
        }
        Err(_) => {
            let domain = guest.lock().next().ok_or_else(not_running)?;
            for disk in &internal {
                let own = domain.devices.disks.iter().find(|own| target(own) == disk.name);
                qemu_img(&["snapshot", "-c", name, own.and_then(file).unwrap_or_default()]).await?;
            }
            put_upon_stored(driver, guest, &domain, &external, flags).await
        }
    }
}

/// QEMU's names of disks' images.
pub(super) async fn nodes(live: &Live, disks: &[&SnapshotDisk]) -> Result<Vec<String>> {
    let blocks = live.monitor.execute(&QueryBlock {}).await.map_err(monitor)?;
    let node = |disk: &&SnapshotDisk| {
        let own = live.domain.devices.disks.iter().find(|own| target(own) == disk.name)?;
        let alias = own.info.alias.as_ref()?;
        let is = |qdev: &str| qdev.split('/').any(|part| part == alias.name);
        let block = blocks.iter().find(|block| block.qdev.as_deref().is_some_and(is))?;
        block.inserted.as_ref()?.node_name.clone()
    };
    Ok(disks.iter().filter_map(node).collect())
}

/// The image that a disk's snapshot makes.
fn new_image(disk: &SnapshotDisk) -> PathBuf {
    disk.source.as_ref().and_then(|source| source.file.clone()).unwrap_or_default().into()
}

/// Nobody's file is overwritten: where a new image goes there is nothing, an empty file or a block device.
fn vacant(disk: &SnapshotDisk) -> Result<()> {
    let path = new_image(disk);
    let found = std::fs::metadata(&path).ok();
    if found.is_none_or(|found| found.file_type().is_block_device() || found.len() == 0) {
        return Ok(());
    }
    Err(QEMU.config_unsupported(format_args!(
        "external snapshot file for disk {} already exists and is not a block device: {}",
        disk.name,
        path.display()
    )))
}

/// A disk with a new image upon the one it had. Of a guest that is off, what is below stands in the image alone.
pub(crate) fn upon(disk: &mut Disk, snapshot: &SnapshotDisk, index: Option<u32>, shown: bool) {
    let below = BackingStore {
        type_: Some(disk.type_),
        format: Some(BackingFormat { type_: format(disk).to_owned(), ..BackingFormat::default() }),
        index: disk.source.as_ref().and_then(|source| source.index),
        source: disk.source.take().map(|source| DiskSource { index: None, ..source }),
        backing_store: disk.backing_store.take(),
    };
    disk.backing_store = shown.then(|| Box::new(below));
    disk.type_ = StorageType::File;
    disk.source = snapshot.source.clone().map(|source| DiskSource { index, ..source });
    let type_ = snapshot.driver.as_ref().and_then(|driver| driver.type_.clone());
    disk.driver.get_or_insert_default().type_ = type_;
}

async fn put_upon_stored(
    driver: &Qemu,
    guest: &Guest,
    domain: &Domain,
    external: &[&SnapshotDisk],
    flags: u32,
) -> Result<()> {
    if external.is_empty() {
        return Ok(());
    }
    let mut stored = domain.clone();
    for disk in external {
        let Some(own) = stored.devices.disks.iter_mut().find(|own| target(own) == disk.name) else {
            continue;
        };
        if flags & flag::REUSE_EXT == 0 {
            let base = file(own).unwrap_or_default().to_owned();
            overlay(&new_image(disk), Path::new(&base), format(own), None).await?;
        }
        upon(own, disk, None, false);
    }
    replace(driver, guest, stored)
}

/// The same after the guest has been asked to write what it has to write, where that is wanted.
async fn put_upon_quiet(
    driver: &Qemu,
    guest: &Arc<Guest>,
    live: &Live,
    external: &[&SnapshotDisk],
    flags: u32,
) -> Result<()> {
    if flags & flag::QUIESCE == 0 {
        return put_upon_running(driver, guest, live, external, flags).await;
    }
    const PROCEDURE: &str = "DomainSnapshotCreateXML";
    agent::freeze_all(guest, PROCEDURE).await?;
    let put = put_upon_running(driver, guest, live, external, flags).await;
    let thawed = agent::thaw_all(guest, PROCEDURE).await;
    put.and(thawed.map(drop))
}

async fn put_upon_running(
    driver: &Qemu,
    guest: &Arc<Guest>,
    live: &Live,
    external: &[&SnapshotDisk],
    flags: u32,
) -> Result<()> {
    let blocks = live.monitor.execute(&QueryBlock {}).await.map_err(monitor)?;
    let mut domain = (*live.domain).clone();
    let used = domain.devices.disks.iter().flat_map(bitmaps::indexes);
    let mut number = used.max().unwrap_or_default().max(live.last_source);
    let (mut actions, mut given) = (Vec::new(), Vec::new());
    for disk in external {
        let node = nodes(live, &[disk]).await?.pop().ok_or_else(|| QEMU.internal_error("missing node"))?;
        let Some(own) = domain.devices.disks.iter_mut().find(|own| target(own) == disk.name) else {
            continue;
        };
        let path = new_image(disk);
        if flags & flag::REUSE_EXT == 0 {
            let is = |block: &&virtwire_qmp::replies::BlockInfo| {
                block.inserted.as_ref().is_some_and(|inserted| inserted.node_name.as_ref() == Some(&node))
            };
            let image = blocks.iter().find(is).and_then(|block| block.inserted.as_ref()?.image.as_ref());
            let base = file(own).unwrap_or_default().to_owned();
            let size = image.map(|image| image.virtual_size);
            overlay(&path, Path::new(&base), format(own), size).await?;
        }
        number += 1;
        upon(own, disk, Some(number), true);
        given.push(driver.give_disk(live, own)?);
        let (storage, top) = (format!("libvirt-{number}-storage"), format!("libvirt-{number}-format"));
        for node in nodes_of(&path, &storage, &top) {
            live.monitor.execute_raw("blockdev-add", &node).await.map_err(monitor)?;
        }
        // What checkpoints remember goes on in the new image.
        let below = live.domain.devices.disks.iter().find(|own| target(own) == disk.name);
        if let Some(below) = below {
            let bitmaps = bitmaps::in_use(live, below).await?;
            actions.extend(bitmaps.iter().map(|name| bitmaps::add(&top, name)));
        }
        actions.push(json!({"type": "blockdev-snapshot",
            "data": {"node": node, "overlay": top}}));
    }
    live.monitor.execute(&Transaction { actions }).await.map_err(monitor)?;
    given.into_iter().for_each(Handed::keep);
    let stored = {
        let mut inner = guest.lock();
        if let Some(live) = &mut inner.live {
            Arc::make_mut(&mut live.domain).devices.disks = domain.devices.disks;
            live.last_source = number;
        }
        inner.persistent.as_ref().map(|definition| Arc::clone(&definition.domain))
    };
    driver.save_status(guest);
    let Some(stored) = stored else { return Ok(()) };
    let mut stored = (*stored).clone();
    for disk in external {
        if let Some(own) = stored.devices.disks.iter_mut().find(|own| target(own) == disk.name) {
            upon(own, disk, None, true);
        }
    }
    replace(driver, guest, stored)
}

/// A new image as QEMU knows it: the file, and the format, with nothing below it yet.
fn nodes_of(path: &Path, storage: &str, top: &str) -> [Map<String, Value>; 2] {
    let node =
        |pairs: Vec<(&str, Value)>| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    [
        node(vec![
            ("driver", json!("file")),
            ("filename", json!(path)),
            ("node-name", json!(storage)),
            ("auto-read-only", json!(true)),
            ("discard", json!("unmap")),
        ]),
        node(vec![
            ("node-name", json!(top)),
            ("read-only", json!(false)),
            ("driver", json!("qcow2")),
            ("file", json!(storage)),
            ("backing", Value::Null),
        ]),
    ]
}

impl Qemu {
    /// Ends a guest for the sake of a snapshot, if it runs.
    pub(super) async fn stop_for_snapshot(&self, guest: &Arc<Guest>) {
        self.kill(guest, crate::guest::Ending::FromSnapshot).await;
    }
}
