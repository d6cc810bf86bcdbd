//! A backup ends: with its last job, because somebody has had enough, or with its guest.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use virtwire_conf::backup::{BackupDisk, BackupState};
use virtwire_conf::domain::disk::Disk;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::BlockdevDel;

use super::begin::TLS;
use super::images::{as_disk, bitmap, node_of, store_nodes};
use super::stats::Figures;
use super::{Running, plan, running};
use crate::blockjob::{BlockJob, Concluded, Kind, Outcome, aborting, say};
use crate::checkpoint::bitmaps;
use crate::driver::Qemu;
use crate::error::Result;
use crate::guest::{Guest, Live};
use crate::snapshot;

/// `VIR_DOMAIN_JOB_COMPLETED`, `…_FAILED`, `…_CANCELLED`
const COMPLETED: i32 = 3;
const FAILED: i32 = 4;
const CANCELED: i32 = 5;

/// Has QEMU listen no more.
pub(super) async fn stop_server(live: &Live) {
    for (command, arguments) in [("nbd-server-stop", json!({})), ("object-del", json!({"id": TLS}))] {
        // There may be none.
        let _ = say(&live.monitor, command, arguments).await;
    }
}

/// Ends a guest's backup; what comes of it is told in events.
///
/// # Errors
/// There is none, or what QEMU says.
pub(crate) async fn abort(driver: &Qemu, guest: &Arc<Guest>) -> Result<()> {
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    running(&live)?;
    driver.cancel_backup(guest, &live).await
}

impl Qemu {
    /// Has QEMU end all work of a backup that still goes on.
    async fn cancel_backup(&self, guest: &Guest, live: &Live) -> Result<()> {
        let mut names = Vec::new();
        if let Some(running) = guest.lock().live.as_mut().and_then(|live| live.backup.as_mut()) {
            let all = running.shown.disks.iter_mut().flat_map(|disks| &mut disks.disk);
            for disk in all.filter(|disk| disk.state == Some(BackupState::Running)) {
                disk.state = Some(BackupState::Cancelling);
                names.push(disk.name.clone());
            }
        }
        self.save_status(guest);
        for job in live.block_jobs.iter().filter(|job| job.kind == Kind::Backup && names.contains(&job.disk))
        {
            aborting(guest, &job.name);
            say(&live.monitor, "block-job-cancel", json!({"device": job.name, "force": true})).await?;
        }
        Ok(())
    }

    /// QEMU has ended its work on a disk. The caller has the guest's job.
    pub(crate) async fn backup_job_ended(
        &self,
        guest: &Guest,
        live: &Live,
        job: &BlockJob,
        outcome: Outcome,
        concluded: Concluded,
    ) {
        let ended = {
            let mut inner = guest.lock();
            let Some(running) = inner.live.as_mut().and_then(|live| live.backup.as_mut()) else { return };
            running.ended.0 += concluded.total;
            running.ended.1 += concluded.done;
            let Some(disk) = running.disk(&job.disk) else { return };
            disk.state = Some(match outcome {
                Outcome::Failed => BackupState::Failed,
                Outcome::Canceled => BackupState::Cancelled,
                Outcome::Completed | Outcome::Ready => BackupState::Complete,
            });
            let disk = disk.clone();
            if outcome != Outcome::Completed && running.error.is_none() {
                running.error = concluded.error;
            }
            (disk, running.clone())
        };
        let (disk, running) = ended;
        self.forget_job(guest, &job.name);
        if running.is_pull() {
            stop_server(live).await;
        }
        let is = |states: &[BackupState]| {
            running.disks().any(|disk| disk.state.is_some_and(|state| states.contains(&state)))
        };
        if is(&[BackupState::Failed, BackupState::Cancelled])
            && let Err(error) = self.cancel_backup(guest, live).await
        {
            tracing::warn!(guest = guest.name, %error, "its backup has ended in part and goes on");
        }
        if !is(&[BackupState::Running, BackupState::Cancelling]) {
            guest.set_backup(None);
            let (total, processed) = running.ended;
            let kind = match running.is_pull() {
                _ if is(&[BackupState::Failed]) => FAILED,
                false if is(&[BackupState::Cancelled]) => CANCELED,
                _ => COMPLETED,
            };
            self.backup_over(guest, guest.handle(), &running, kind, Some(Figures { total, processed }));
        }
        if let Ok(own) = plan::own(&live.domain, &disk) {
            self.give_up_image(live, own, &disk, &running).await;
            self.save_status(guest);
            self.tell_job(guest, own, Kind::Backup, outcome);
        }
    }

    /// The image of a disk's backup is closed, and belongs to whom it did; what only a client was to read is gone.
    async fn give_up_image(&self, live: &Live, own: &Disk, disk: &BackupDisk, running: &Running) {
        for node_name in store_nodes(own, disk).1 {
            if let Err(error) = live.monitor.execute(&BlockdevDel { node_name: node_name.clone() }).await {
                tracing::warn!(node = node_name, %error, "QEMU keeps an image that is not needed");
            }
        }
        if let (Some(bitmap), Some(node), false) = (bitmap(disk), node_of(own), running.is_pull())
            && let Err(error) = bitmaps::change(live, vec![bitmaps::remove(&node, &bitmap)]).await
        {
            tracing::warn!(node, %error, "QEMU keeps what a backup was made of");
        }
        self.let_go(live, own, disk, running);
    }

    /// An image that QEMU has no more.
    fn let_go(&self, live: &Live, own: &Disk, disk: &BackupDisk, running: &Running) {
        let alone = Disk { backing_store: Some(Box::default()), ..as_disk(own, disk) };
        self.take_back_disk(live, &alone);
        let file = disk.scratch.as_ref().and_then(|scratch| scratch.file.as_ref());
        if let Some(path) = file.filter(|_| !running.reuse)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path, %error, "a file that only a backup needed is still there");
        }
    }

    /// Tells of a backup's end, and remembers it.
    fn backup_over(
        &self,
        guest: &Guest,
        dom: NonnullDomain,
        running: &Running,
        kind: i32,
        figures: Option<Figures>,
    ) {
        let mut params = running.params(figures);
        params.push(TypedParam::new("success", kind == COMPLETED));
        if let Some(error) = &running.error {
            params.push(TypedParam::new("errmsg", error.as_str()));
        }
        guest.lock().completed = Some((kind, params.clone()));
        let msg = DomainEventCallbackJobCompletedMsg { callback_id: 0, dom, params };
        self.emit(Event::DomainJobCompleted(msg));
    }

    /// A guest has ended, and its backup with it.
    pub(crate) fn backup_lost(&self, guest: &Guest, dom: &NonnullDomain, live: &Live) {
        let Some(running) = &live.backup else { return };
        for disk in running.disks() {
            if let Ok(own) = plan::own(&live.domain, disk) {
                self.let_go(live, own, disk, running);
            }
        }
        guest.set_backup(None);
        self.backup_over(guest, dom.clone(), running, CANCELED, None);
    }
}

/// Ends jobs that nobody is to hear of.
pub(super) async fn give_up(live: &Live, names: &[String]) {
    for id in names {
        let _ = say(&live.monitor, "block-job-cancel", json!({"device": id, "force": true})).await;
        let _ = snapshot::job(&live.monitor, id).await;
    }
}
