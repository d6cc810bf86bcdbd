//! A job has ended: the definitions say what the guest has now, and QEMU and the guest give up what it no longer has.

use std::sync::Arc;

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::disk::Disk;
use virtwire_qmp::commands::{JobDismiss, QueryJobs};

use super::layers::{Layer, alone, layers, nodes, other_side, put};
use super::{BlockJob, Kind, Outcome, Phase, say};
use crate::define::replace;
use crate::disks::target;
use crate::driver::Qemu;
use crate::guest::{Guest, Live};

/// What a disk has after a job, and what it no longer has.
#[derive(Debug, PartialEq)]
struct Change {
    images: Vec<Layer>,
    gone: Vec<Layer>,
}

/// What an ended job has made of a disk.
fn change(disk: &Disk, job: &BlockJob, done: bool) -> Change {
    let (mut images, _) = layers(disk);
    let place = |node: &Option<String>| {
        node.as_ref().and_then(|node| images.iter().position(|image| nodes(disk, image).0 == *node))
    };
    let end = images.len();
    let gone = match (job.kind, done) {
        (Kind::Pull, true) => 1..place(&job.base).unwrap_or(end),
        (Kind::Commit, true) => place(&job.top).unwrap_or(end)..place(&job.base).unwrap_or(end),
        (Kind::ActiveCommit, true) => 0..place(&job.base).unwrap_or(0),
        (Kind::Copy, true) if job.shallow => 0..1,
        (Kind::Copy, true) => 0..end,
        (Kind::Backup, _) | (_, false) => 0..0,
    };
    let mut left: Vec<_> = if gone.start <= gone.end { images.drain(gone).collect() } else { Vec::new() };
    if job.kind == Kind::Copy {
        match (other_side(disk), done) {
            (Some(copy), true) => images.insert(0, copy),
            (Some(copy), false) => left.push(copy),
            (None, _) => {}
        }
    }
    Change { images, gone: left }
}

/// The same in a stored definition, which may not say what is below.
fn change_stored(stored: &mut Disk, before: &Disk, change: &Change, kind: Kind) {
    let (now, _) = layers(stored);
    let (own, _) = layers(before);
    let path = |images: &[Layer]| images.first().and_then(Layer::path).map(str::to_owned);
    if path(&now).is_none() || path(&now) != path(&own) {
        return;
    }
    let says_all = now.len() > 1;
    let mut images: Vec<_> =
        change.images.iter().cloned().map(|image| Layer { index: None, ..image }).collect();
    if !says_all {
        images.truncate(1);
    }
    // A copy of everything is upon nothing.
    let ended = kind == Kind::Copy && change.images.len() == 1;
    let moved = path(&images) != path(&now);
    if moved || says_all {
        put(stored, images, ended);
    }
}

impl Qemu {
    /// Does what is to be done when QEMU has done its part of a job.
    pub(super) async fn finish_job(&self, guest: &Arc<Guest>, name: &str) {
        let _one = guest.job.lock().await;
        let Ok(live) = guest.live() else { return };
        let Some(job) = live.block_jobs.iter().find(|job| job.name == name) else { return };
        let Some(concluded) = conclude(&live, name).await else { return };
        let failed = &concluded.error;
        let asked = job.phase == Phase::Pivoting || !job.kind.waits();
        let outcome = match (job.phase, failed) {
            (Phase::Aborting, _) => Outcome::Canceled,
            (_, Some(_)) => Outcome::Failed,
            (_, None) if asked => Outcome::Completed,
            (_, None) => Outcome::Canceled,
        };
        if let Some(error) = failed.as_ref().filter(|_| outcome == Outcome::Failed) {
            tracing::warn!(guest = guest.name, job = name, error, "work on a disk has failed");
        }
        if job.kind == Kind::Backup {
            self.backup_job_ended(guest, &live, job, outcome, concluded).await;
            job.end.send_replace(Some(outcome));
            return;
        }
        let before = live.domain.devices.disks.iter().find(|disk| target(disk) == job.disk);
        if let Some(before) = before {
            let change = change(before, job, outcome == Outcome::Completed);
            let now = self.take_over(guest, before, &change);
            self.store_over(guest, before, &change, job.kind);
            self.give_up(&live, before, &change.gone).await;
            if job.delete && outcome == Outcome::Completed {
                remove(&change.gone);
            }
            self.forget_job(guest, name);
            self.save_status(guest);
            self.tell_job(guest, &now, job.kind, outcome);
        }
        self.forget_job(guest, name);
        job.end.send_replace(Some(outcome));
    }

    /// The definition of the run says what the disk has now.
    fn take_over(&self, guest: &Guest, before: &Disk, change: &Change) -> Disk {
        let mut inner = guest.lock();
        let disks = inner.live.as_mut().map(|live| &mut Arc::make_mut(&mut live.domain).devices.disks);
        let disk = disks.into_iter().flatten().find(|disk| target(disk) == target(before));
        let Some(disk) = disk else { return before.clone() };
        disk.mirror = None;
        if !change.gone.is_empty() || layers(disk).0 != change.images {
            put(disk, change.images.clone(), true);
        }
        disk.clone()
    }

    /// The stored definition follows, where the guest's next run is to have the same disk.
    fn store_over(&self, guest: &Guest, before: &Disk, change: &Change, kind: Kind) {
        let stored = guest.lock().persistent.as_ref().map(|definition| Arc::clone(&definition.domain));
        let Some(stored) = stored else { return };
        let mut new = Domain::clone(&stored);
        let disks = new.devices.disks.iter_mut().filter(|disk| target(disk) == target(before));
        disks.for_each(|disk| change_stored(disk, before, change, kind));
        if new != *stored
            && let Err(error) = replace(self, guest, new)
        {
            tracing::warn!(guest = guest.name, %error, "its definition does not say what it has now");
        }
    }

    /// Images that a disk no longer has are closed, and belong to whom they did.
    async fn give_up(&self, live: &Live, disk: &Disk, gone: &[Layer]) {
        for image in gone {
            for node in nodes(disk, image).1 {
                if let Err(error) = say(&live.monitor, "blockdev-del", json!({"node-name": node})).await {
                    tracing::warn!(node, %error, "QEMU keeps an image that is not needed");
                }
            }
            self.take_back_disk(live, &alone(disk, image));
        }
    }
}

/// What has become of a job.
#[derive(Debug, Default)]
pub(crate) struct Concluded {
    /// What it failed with.
    pub(crate) error: Option<String>,
    /// Bytes that it has done.
    pub(crate) done: u64,
    /// Bytes that it was to do.
    pub(crate) total: u64,
}

/// Has QEMU forget a job, and say what has become of it; nothing where QEMU ends and cannot say.
async fn conclude(live: &Live, name: &str) -> Option<Concluded> {
    let jobs = live.monitor.execute(&QueryJobs {}).await.ok()?;
    let job = jobs.into_iter().find(|job| job.id == name);
    if job.is_some()
        && let Err(error) = live.monitor.execute(&JobDismiss { id: name.to_owned() }).await
    {
        tracing::warn!(name, %error, "QEMU does not forget a job");
    }
    Some(match job {
        Some(job) => Concluded {
            error: job.error,
            done: job.current_progress.unwrap_or_default(),
            total: job.total_progress.unwrap_or_default(),
        },
        None => Concluded { error: Some("QEMU does not know it".to_owned()), ..Concluded::default() },
    })
}

fn remove(gone: &[Layer]) {
    for path in gone.iter().filter_map(|image| image.source.file.as_ref()) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path, %error, "a merged image is still there");
        }
    }
}

#[cfg(test)]
mod tests {
    use virtwire_conf::domain::disk::DiskSource;

    use super::super::layers::mirror;
    use super::*;

    fn layer(path: &str, index: u32) -> Layer {
        let source = DiskSource { file: Some(path.to_owned()), ..DiskSource::default() };
        Layer { format: "qcow2".to_owned(), source, index: Some(index), ..Layer::default() }
    }

    fn disk() -> Disk {
        let mut disk = Disk::default();
        put(&mut disk, vec![layer("/d", 1), layer("/c", 2), layer("/b", 3), layer("/a", 4)], true);
        disk
    }

    fn after(kind: Kind, base: Option<u32>, top: Option<u32>, done: bool) -> (String, String) {
        let node = |number: Option<u32>| number.map(|number| format!("libvirt-{number}-format"));
        let mut disk = disk();
        disk.mirror = (kind == Kind::Copy).then(|| mirror(&layer("/copy", 9), "copy"));
        let shallow = top.is_some();
        let job =
            BlockJob { base: node(base), top: node(top), shallow, ..BlockJob::new("j".into(), kind, "vda") };
        let change = change(&disk, &job, done);
        let paths = |all: &[Layer]| all.iter().filter_map(Layer::path).collect::<Vec<_>>().join(" ");
        (paths(&change.images), paths(&change.gone))
    }

    #[test]
    fn images_go_as_the_job_has_it() {
        for (kind, base, top, done, images, gone) in [
            (Kind::Pull, None, None, true, "/d", "/c /b /a"),
            (Kind::Pull, Some(4), None, true, "/d /a", "/c /b"),
            (Kind::Pull, Some(2), None, true, "/d /c /b /a", ""),
            (Kind::Pull, None, None, false, "/d /c /b /a", ""),
            (Kind::Commit, Some(4), Some(2), true, "/d /a", "/c /b"),
            (Kind::Commit, Some(3), Some(2), true, "/d /b /a", "/c"),
            (Kind::Commit, Some(2), Some(4), true, "/d /c /b /a", ""),
            (Kind::ActiveCommit, Some(3), Some(1), true, "/b /a", "/d /c"),
            (Kind::ActiveCommit, Some(3), Some(1), false, "/d /c /b /a", ""),
            (Kind::Copy, None, None, true, "/copy", "/d /c /b /a"),
            (Kind::Copy, None, Some(1), true, "/copy /c /b /a", "/d"),
            (Kind::Copy, None, None, false, "/d /c /b /a", "/copy"),
        ] {
            let expected = (images.to_owned(), gone.to_owned());
            assert_eq!(after(kind, base, top, done), expected, "{kind:?} {base:?} {top:?} {done}");
        }
    }

    #[test]
    fn a_stored_definition_follows_only_the_same_image() {
        let before = disk();
        let change = Change { images: vec![layer("/new", 9)], gone: layers(&before).0 };
        let mut short = Disk::default();
        put(&mut short, vec![Layer { index: None, ..layer("/d", 1) }], false);
        change_stored(&mut short, &before, &change, Kind::Copy);
        assert_eq!(layers(&short), (vec![Layer { index: None, ..layer("/new", 9) }], true));
        let mut other = Disk::default();
        put(&mut other, vec![layer("/other", 1)], false);
        let kept = other.clone();
        change_stored(&mut other, &before, &change, Kind::Copy);
        assert_eq!(other, kept);
    }
}
