//! Snapshots in files of their own: a guest goes back to one, and one is merged away.
//!
//! Such a snapshot is the images that the guest had; from then on it writes into new ones upon them. Going back makes
//! other new images upon the same ones. Deleting puts what is in an image into the one below it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use virtwire_conf::domain::disk::{BackingStore, Disk, DiskSource, StorageType};
use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::snapshot::{SnapshotDisk, SnapshotDisks, SnapshotLocation as Location};
use virtwire_conf::{Domain, Snapshot};

use super::create::upon;
use super::disks::{beside, file, format};
use super::image::{backing_file, job, overlay, qemu_img};
use crate::blockjob::nodes_of;
use crate::define::replace;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::{Guest, Live};

/// The disks of a snapshot that are in files of their own.
fn outside(disks: Option<&SnapshotDisks>) -> impl Iterator<Item = &SnapshotDisk> {
    let disks = disks.into_iter().flat_map(|disks| &disks.disk);
    disks.filter(|disk| disk.snapshot == Some(Location::External))
}

fn image(disk: &SnapshotDisk) -> Option<&str> {
    disk.source.as_ref()?.file.as_deref()
}

fn disk_of<'d>(domain: &'d Domain, name: &str) -> Option<&'d Disk> {
    domain.devices.disks.iter().find(|disk| target(disk) == name)
}

/// New images upon those that a snapshot is, and the definitions of a guest that has them.
///
/// # Errors
/// One cannot be made.
pub(super) async fn branch(
    snapshot: &Snapshot,
    domains: [&mut Domain; 2],
    now: u64,
) -> Result<Vec<SnapshotDisk>> {
    let mut made = Vec::new();
    let kept = snapshot.domain.as_deref();
    for disk in outside(snapshot.disks.as_ref()) {
        let Some(own) = kept.and_then(|domain| disk_of(domain, &disk.name)) else { continue };
        let path = beside(own, &now.to_string())?;
        let base = file(own).unwrap_or_default();
        overlay(Path::new(&path), Path::new(base), format(own), None).await?;
        let source = Some(DiskSource { file: Some(path), ..DiskSource::default() });
        made.push(SnapshotDisk { source, type_: Some(StorageType::File), ..disk.clone() });
    }
    for domain in domains {
        for disk in &made {
            if let Some(own) = domain.devices.disks.iter_mut().find(|own| target(own) == disk.name) {
                upon(own, disk, None, true);
            }
        }
    }
    Ok(made)
}

/// Notes down that a guest has gone back to a snapshot; returns the images that nobody needs any more.
pub(super) fn branched(moments: &mut Moments<Snapshot>, name: &str, made: Vec<SnapshotDisk>) -> Vec<String> {
    let images = |disks: Option<SnapshotDisks>| {
        outside(disks.as_ref()).filter_map(image).map(str::to_owned).collect::<Vec<_>>()
    };
    let is_leaf = |moments: &Moments<Snapshot>, name: &str| moments.children(Some(name)).next().is_none();
    let left = moments.current.clone();
    let mut gone = Vec::new();
    if let Some(left) = left {
        let leaf = is_leaf(moments, &left);
        if let Some(moment) = moments.get_mut(&left) {
            gone.extend(match moment.data.revert_disks.take() {
                Some(disks) => images(Some(disks)),
                None if leaf => images(moment.data.disks.clone()),
                None => Vec::new(),
            });
        }
    }
    let leaf = is_leaf(moments, name);
    if let Some(moment) = moments.get_mut(name) {
        if leaf {
            gone.extend(images(moment.data.disks.clone()));
            for disk in moment.data.disks.iter_mut().flat_map(|disks| &mut disks.disk) {
                if let Some(new) = made.iter().find(|new| new.name == disk.name) {
                    disk.clone_from(new);
                }
            }
        } else {
            moment.data.revert_disks = Some(SnapshotDisks { disk: made });
        }
    }
    gone.sort();
    gone.dedup();
    gone
}

/// Removes images; what is not there needs no removal.
pub(super) fn remove(images: &[String]) {
    for path in images {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path, %error, "an image that nobody needs is still there");
        }
    }
}

/// What becomes of a snapshot's images.
enum Way {
    /// The guest writes into the image upon them.
    Active,
    /// The guest has them below the images of this snapshot.
    Below(String),
    /// The guest does not have them.
    Aside,
}

/// Checks that a snapshot can be merged away, and how.
fn way(moments: &Moments<Snapshot>, name: &str) -> Result<Way> {
    let mut children = moments.children(Some(name));
    let child = children.next().map(|moment| moment.name.clone());
    if children.next().is_some() {
        let text = "deletion of external disk snapshot with multiple children snapshots not supported";
        return Err(QEMU.config_unsupported(text));
    }
    let current = moments.current.as_deref();
    let is_active = current.is_some_and(|current| current == name || moments.would_circle(name, current));
    match child {
        Some(_) if current == Some(name) => Err(QEMU.config_unsupported(
            "deletion of active external snapshot that is not a leaf snapshot is not supported",
        )),
        Some(child) if is_active => Ok(Way::Below(child)),
        Some(_) => Err(QEMU.config_unsupported(
            "deletion of non-leaf external snapshot that is not in active chain is not supported",
        )),
        None if is_active => Ok(Way::Active),
        None => Ok(Way::Aside),
    }
}

/// An image that goes, and the one below it that gets what is in it.
struct Merge {
    disk: String,
    gone: String,
    base: Disk,
}

/// Puts what a guest wrote since a snapshot into the images that the snapshot is, and forgets that there were others.
///
/// # Errors
/// It cannot be merged away, or QEMU says no.
pub(super) async fn merge(driver: &Qemu, guest: &Arc<Guest>, name: &str) -> Result<()> {
    let (snapshot, way, child, domain) = {
        let inner = guest.lock();
        let moment = super::find(&inner, name)?;
        let way = way(&inner.snapshots, name)?;
        let child = match &way {
            Way::Below(child) => inner.snapshots.get(child).and_then(|child| child.data.domain.clone()),
            Way::Active | Way::Aside => None,
        };
        (moment.data.clone(), way, child, inner.current().ok_or_else(crate::error::not_running)?)
    };
    let kept = snapshot.domain.as_deref();
    for disk in outside(snapshot.disks.as_ref()) {
        let Some(base) = kept.and_then(|domain| disk_of(domain, &disk.name)).cloned() else { continue };
        let gone = match &way {
            Way::Active => disk_of(&domain, &disk.name).and_then(file).map(str::to_owned),
            Way::Below(_) => child
                .as_deref()
                .and_then(|child| disk_of(child, &disk.name))
                .and_then(file)
                .map(str::to_owned),
            Way::Aside => {
                remove(&unused(guest, name, image(disk), file(&base)).await);
                continue;
            }
        };
        let Some(gone) = gone.filter(|gone| Some(gone.as_str()) != file(&base)) else { continue };
        let merge = Merge { disk: disk.name.clone(), gone, base };
        match guest.live() {
            Ok(live) => commit(driver, &live, &merge, matches!(way, Way::Active)).await?,
            Err(_) => {
                qemu_img(&["commit", "-q", "-b", file(&merge.base).unwrap_or_default(), &merge.gone]).await?
            }
        }
        let free = rebase(guest, &merge).await;
        forget(driver, guest, &merge)?;
        if free {
            remove(&[merge.gone]);
        }
    }
    let memory = snapshot.memory.and_then(|memory| memory.file);
    remove(&memory.into_iter().collect::<Vec<_>>());
    Ok(())
}

/// Of the image upon those of a snapshot, and of these where they came from a snapshot too, those that nothing is upon.
async fn unused(guest: &Guest, name: &str, upon: Option<&str>, base: Option<&str>) -> Vec<String> {
    let (made_before, used) = {
        let inner = guest.lock();
        let parent =
            inner.snapshots.get(name).and_then(|moment| inner.snapshots.get(moment.parent.as_deref()?));
        let images = parent.map(|parent| outside(parent.data.disks.as_ref()).filter_map(image));
        let made_before = images.into_iter().flatten().any(|path| Some(path) == base);
        let mut used = [inner.current(), inner.next()]
            .iter()
            .flat_map(|domain| chains(domain.as_deref()))
            .collect::<Vec<_>>();
        let others = inner.snapshots.iter().filter(|moment| moment.name != name);
        used.extend(others.flat_map(|moment| chains(moment.data.domain.as_deref())));
        (made_before, used)
    };
    let mut found: Vec<String> =
        upon.into_iter().chain(base.filter(|_| made_before)).map(str::to_owned).collect();
    found.retain(|path| !used.contains(path));
    for path in images(guest) {
        if !found.contains(&path)
            && let Some(below) = backing_file(&path).await
        {
            found.retain(|gone| *gone != below);
        }
    }
    found
}

/// All images of a guest and of its snapshots that are there.
fn images(guest: &Guest) -> Vec<String> {
    let inner = guest.lock();
    let mut found = [inner.current(), inner.next()]
        .iter()
        .flat_map(|domain| chains(domain.as_deref()))
        .collect::<Vec<_>>();
    for moment in inner.snapshots.iter() {
        let disks = [moment.data.disks.as_ref(), moment.data.revert_disks.as_ref()];
        found.extend(chains(moment.data.domain.as_deref()));
        found.extend(disks.into_iter().flat_map(outside).filter_map(image).map(str::to_owned));
    }
    found.sort();
    found.dedup();
    found.retain(|path| Path::new(path).is_file());
    found
}

/// The images of all disks of a definition.
fn chains(domain: Option<&Domain>) -> Vec<String> {
    let mut found = Vec::new();
    for disk in domain.iter().flat_map(|domain| &domain.devices.disks) {
        found.extend(file(disk).map(str::to_owned));
        let below = std::iter::successors(disk.backing_store.as_deref(), |below: &&BackingStore| {
            below.backing_store.as_deref()
        });
        found.extend(below.filter_map(|below| below.source.as_ref()?.file.clone()));
    }
    found
}

/// Has QEMU merge an image into the one below it.
async fn commit(driver: &Qemu, live: &Live, merge: &Merge, active: bool) -> Result<()> {
    let missing = || QEMU.internal_error(format_args!("an image of '{}' is not in its chain", merge.disk));
    let base = file(&merge.base).unwrap_or_default();
    let own = disk_of(&live.domain, &merge.disk).ok_or_else(missing)?;
    let find = |path: &str| nodes_of(own, path).ok_or_else(missing);
    let top = file(own).ok_or_else(missing)?;
    let ((device, _), (gone, all), (below, _)) = (find(top)?, find(&merge.gone)?, find(base)?);
    let given = driver.give_disk(live, &merge.base)?;
    let id = format!("commit-{}-{gone}", merge.disk);
    let mut arguments = json!({"job-id": id, "device": device, "top-node": gone, "base-node": below,
        "auto-finalize": true, "auto-dismiss": false});
    if !active {
        arguments["backing-file"] = json!(base);
    }
    raw(live, "block-commit", arguments).await?;
    job(&live.monitor, &id).await?;
    given.keep();
    for node in all {
        // What QEMU keeps of it does no harm.
        if let Err(error) = raw(live, "blockdev-del", json!({"node-name": node})).await {
            tracing::warn!(node, %error, "QEMU keeps an image that was merged");
        }
    }
    Ok(())
}

async fn raw(live: &Live, command: &str, arguments: Value) -> Result<()> {
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    };
    live.monitor.execute_raw(command, &arguments).await.map_err(monitor)?;
    Ok(())
}

/// Tells the images upon one that goes that they are upon the one below it; whether all know.
async fn rebase(guest: &Guest, merge: &Merge) -> bool {
    let (base, format) = (file(&merge.base).unwrap_or_default(), format(&merge.base));
    let mut all = true;
    for path in images(guest).into_iter().filter(|path| *path != merge.gone) {
        if backing_file(&path).await.as_deref() != Some(&merge.gone) {
            continue;
        }
        if let Err(error) = qemu_img(&["rebase", "-u", "-F", format, "-b", base, &path]).await {
            tracing::warn!(path, %error, "an image is still upon one that is to go");
            all = false;
        }
    }
    all
}

/// Takes an image out of a disk's chain.
fn take_out(disk: &mut Disk, merge: &Merge) {
    if file(disk) == Some(&merge.gone) {
        let below = disk.backing_store.take().filter(|below| below.source.is_some());
        let index = below.as_ref().and_then(|below| below.index);
        let source = merge.base.source.clone();
        disk.source = source.map(|source| DiskSource { index, ..source });
        disk.type_ = merge.base.type_;
        let type_ = merge.base.driver.as_ref().and_then(|driver| driver.type_.clone());
        disk.driver.get_or_insert_default().type_ = type_;
        disk.backing_store = below.and_then(|below| below.backing_store);
        return;
    }
    take_below(&mut disk.backing_store, &merge.gone);
}

/// Takes an image out of what is below another.
fn take_below(below: &mut Option<Box<BackingStore>>, gone: &str) {
    match below {
        Some(it) if it.source.as_ref().is_some_and(|source| source.file.as_deref() == Some(gone)) => {
            *below = it.backing_store.take();
        }
        Some(it) => take_below(&mut it.backing_store, gone),
        None => {}
    }
}

/// Takes an image out of everything that speaks of it.
fn forget(driver: &Qemu, guest: &Guest, merge: &Merge) -> Result<()> {
    let clean = |domain: &mut Domain| {
        let disks = domain.devices.disks.iter_mut().filter(|disk| target(disk) == merge.disk);
        disks.for_each(|disk| take_out(disk, merge));
    };
    let stored = {
        let mut inner = guest.lock();
        let names: Vec<String> = inner.snapshots.iter().map(|moment| moment.name.clone()).collect();
        for name in names {
            if let Some(Moment { data, .. }) = inner.snapshots.get_mut(&name) {
                data.domain
                    .as_deref_mut()
                    .into_iter()
                    .chain(data.inactive_domain.as_deref_mut())
                    .for_each(clean);
            }
        }
        if let Some(live) = &mut inner.live {
            clean(Arc::make_mut(&mut live.domain));
        }
        inner.persistent.as_ref().map(|definition| Arc::clone(&definition.domain))
    };
    if let Some(stored) = stored {
        let mut stored = (*stored).clone();
        clean(&mut stored);
        replace(driver, guest, stored)?;
    }
    if guest.lock().live.is_some() {
        driver.save_status(guest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    fn snapshot(name: &str, base: &str, overlay: &str) -> Snapshot {
        let xml = format!(
            "<domainsnapshot><name>{name}</name><state>disk-snapshot</state><disks>
            <disk name='vda' snapshot='external' type='file'><source file='{overlay}'/></disk></disks>
            <domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>
            <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{base}'/>
            <target dev='vda' bus='virtio'/></disk></devices></domain></domainsnapshot>"
        );
        Snapshot::parse(&xml, &ParseOptions::default()).unwrap()
    }

    /// a ─ b ─ c, the guest at c.
    fn line() -> Moments<Snapshot> {
        let mut all = Moments::default();
        for (name, parent, base) in [("a", None, "/0"), ("b", Some("a"), "/a"), ("c", Some("b"), "/b")] {
            let data = snapshot(name, base, &format!("/{name}"));
            all.insert(Moment { name: name.into(), parent: parent.map(str::to_owned), data });
            all.current = Some(name.into());
        }
        all
    }

    fn new(path: &str) -> Vec<SnapshotDisk> {
        let disks = snapshot("x", "/0", path).disks.unwrap();
        disks.disk
    }

    #[test]
    fn what_was_written_since_is_gone_where_a_guest_goes_back() {
        let mut all = line();
        assert_eq!(branched(&mut all, "b", new("/n1")), ["/c"]);
        all.current = Some("b".into());
        let revert =
            |all: &Moments<Snapshot>| outside(all.get("b").unwrap().data.revert_disks.as_ref()).count();
        assert_eq!(revert(&all), 1);
        assert_eq!(branched(&mut all, "c", new("/n2")), ["/c", "/n1"]);
        all.current = Some("c".into());
        assert_eq!(revert(&all), 0);
        assert_eq!(branched(&mut all, "c", new("/n3")), ["/n2"]);
    }

    #[test]
    fn a_snapshot_is_merged_only_where_nothing_else_needs_what_is_below() {
        let mut all = line();
        assert!(matches!(way(&all, "b"), Ok(Way::Below(child)) if child == "c"));
        assert!(matches!(way(&all, "c"), Ok(Way::Active)));
        all.current = Some("b".into());
        assert!(matches!(way(&all, "c"), Ok(Way::Aside)));
        assert!(way(&all, "b").is_err_and(|error| error.message.contains("not a leaf")));
        let data = snapshot("d", "/n", "/d");
        all.insert(Moment { name: "d".into(), parent: Some("b".into()), data });
        assert!(way(&all, "b").is_err_and(|error| error.message.contains("multiple children")));
    }

    #[test]
    fn an_image_is_taken_out_wherever_it_is_in_a_chain() {
        let base = snapshot("a", "/0", "/a").domain.unwrap().devices.disks.remove(0);
        let merge = Merge { disk: "vda".into(), gone: "/a".into(), base: base.clone() };
        let mut top = base.clone();
        upon(&mut top, &new("/a")[0], None, true);
        let mut above = top.clone();
        upon(&mut above, &new("/b")[0], None, true);
        take_out(&mut top, &merge);
        assert_eq!(file(&top), Some("/0"));
        assert!(top.backing_store.is_none());
        take_out(&mut above, &merge);
        let mut domain = Domain::default();
        domain.devices.disks.push(above);
        assert_eq!(chains(Some(&domain)), ["/b", "/0"]);
    }
}
