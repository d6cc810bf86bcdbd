//! At the source: disks are copied to where their guest goes.
//!
//! Each has a job of QEMU's, which is ready before memory is sent and keeps both sides alike until the guest stands still.
//! What a job tells is in the guest's [`Mirrors`].

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::watch;
use virtwire_conf::domain::disk::Disk;
use virtwire_protocol::error::VirtError;
use virtwire_qmp::commands::{BlockdevDel, JobDismiss, QueryBlockJobs, QueryJobs};

use super::params::{Asked, flag, name};
use super::place::Goal;
use super::{FOR_EVER, Way, copied, tls};
use crate::argv::storage::top_node;
use crate::blockjob::{BlockJob, Kind, Outcome, say};
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::jobs::NO_LIMIT;

/// How far QEMU says the jobs are that copy a guest's disks, by their names.
#[derive(Default)]
pub(crate) struct Mirrors(watch::Sender<BTreeMap<String, String>>);

impl Mirrors {
    /// Takes what QEMU tells of a job; whether it is one of these.
    pub(crate) fn changed(&self, job: &str, status: &str) -> bool {
        self.0.send_if_modified(|all| match all.get_mut(job) {
            Some(known) => {
                status.clone_into(known);
                true
            }
            None => false,
        })
    }

    /// Has those who wait for a job look at what else there is.
    pub(super) fn wake(&self) {
        self.0.send_modify(|_| {});
    }

    /// The job that has ended already, if one has.
    fn ended(&self) -> Option<String> {
        let all = self.0.borrow();
        all.iter().find(|(_, status)| is_over(status)).map(|(job, _)| job.clone())
    }

    /// Waits until one has ended that should go on.
    pub(super) async fn broken(&self) {
        let mut all = self.0.subscribe();
        // The sender lives as long as the guest, which whoever waits here has.
        let _ = all.wait_for(|all| all.values().any(|status| is_over(status))).await;
    }
}

fn is_over(status: &str) -> bool {
    matches!(status, "concluded" | "null")
}

/// QEMU's name of a disk's other side.
fn node(disk: &Disk) -> String {
    format!("migration-{}-storage", target(disk))
}

/// Has QEMU copy the disks that go, and waits until all are there.
///
/// # Errors
/// One cannot be copied, or it is called off. What was begun goes on until it is [ended](take_back).
pub(super) async fn begin(
    driver: &Qemu,
    guest: &Guest,
    live: &Live,
    asked: &Asked,
    goal: &Goal,
    port: Option<u16>,
) -> Result<()> {
    let disks = copied::of(&live.domain, asked);
    if disks.is_empty() {
        return Ok(());
    }
    let server = server(asked, goal, port)?;
    for disk in disks {
        let job = copied::export(disk);
        let mut remote = json!({"driver": "nbd", "server": server, "export": job, "node-name": node(disk),
            "read-only": false});
        for (name, value) in tls::parameters(asked, Some(goal)) {
            remote[name] = value;
        }
        if asked.texts(name::DETECT_ZEROES).iter().any(|name| name == target(disk)) {
            remote["detect-zeroes"] = "unmap".into();
        }
        say(&live.monitor, "blockdev-add", remote).await?;
        let mut mirror = json!({"job-id": job, "device": top_node(disk), "target": node(disk),
            "speed": bandwidth(guest, asked), "sync": if asked.has(flag::NON_SHARED_INC) { "top" } else { "full" },
            "auto-finalize": true, "auto-dismiss": false});
        if asked.has(flag::SYNCHRONOUS_WRITES) {
            mirror["copy-mode"] = "write-blocking".into();
        }
        // Before it begins, so that nothing that it tells is missed.
        let known = BlockJob::new(job.clone(), Kind::Copy, target(disk));
        guest.mirrors.0.send_modify(|all| drop(all.insert(job, "created".to_owned())));
        if let Some(live) = &mut guest.lock().live {
            live.block_jobs.push(known);
        }
        say(&live.monitor, "blockdev-mirror", mirror).await?;
    }
    driver.save_status(guest);
    until(guest, live, |status| status == "ready").await
}

/// Bytes per second.
fn bandwidth(guest: &Guest, asked: &Asked) -> u64 {
    let limit = asked.number(name::BANDWIDTH).filter(|limit| *limit > 0);
    limit.or(guest.lock().migration_speed).unwrap_or(NO_LIMIT).min(NO_LIMIT) << 20
}

/// Where the target's QEMU waits for content.
fn server(asked: &Asked, goal: &Goal, port: Option<u16>) -> Result<Value> {
    let other = Goal::of_disks(asked)?;
    let none = || QEMU.internal_error("no port that disks go to");
    Ok(match other.as_ref().unwrap_or(goal) {
        Goal::Unix(path) => json!({"type": "unix", "path": path}),
        Goal::Tcp(host, at) => {
            let at = at.filter(|_| other.is_some()).or(port).ok_or_else(none)?;
            json!({"type": "inet", "host": host, "port": at.to_string()})
        }
    })
}

/// Waits until all jobs are as wanted.
///
/// # Errors
/// One has ended that should not have, or it is called off.
async fn until(guest: &Guest, live: &Live, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut all = guest.mirrors.0.subscribe();
    loop {
        if all.borrow_and_update().values().all(|status| wanted(status)) {
            return Ok(());
        }
        if guest.with_moving(Way::Out, |moving| moving.canceled).unwrap_or(true) {
            return Err(QEMU.operation_aborted("migration out: canceled by client"));
        }
        if let Some(job) = guest.mirrors.ended().filter(|_| !wanted("concluded")) {
            return Err(why(live, &job).await);
        }
        tokio::select! {
            changed = all.changed() => changed.map_err(|_| not_running())?,
            true = live.process.ended_within(FOR_EVER) => return Err(not_running()),
        }
    }
}

/// Why a job has ended.
///
/// # Errors
/// Always: that it has.
async fn why(live: &Live, job: &str) -> VirtError {
    let told = live.monitor.execute(&QueryJobs {}).await.unwrap_or_default();
    let said = told.into_iter().find(|told| told.id == job).and_then(|told| told.error);
    let disk = live.domain.devices.disks.iter().find(|disk| copied::export(disk) == job);
    let disk = disk.map(target).unwrap_or(job);
    match said {
        Some(said) => QEMU.operation_failed(format_args!("migration of disk {disk} failed: {said}")),
        None => QEMU.operation_failed(format_args!("migration of disk {disk} failed")),
    }
}

/// Why disks are no longer copied that should be, if it is so.
pub(super) async fn failure(guest: &Guest, live: &Live) -> Option<VirtError> {
    let job = guest.mirrors.ended()?;
    Some(why(live, &job).await)
}

/// Ends the jobs: the guest stands still, and both sides are alike.
///
/// # Errors
/// One has failed, and the other side is not what this one is.
pub(super) async fn end(driver: &Qemu, guest: &Guest, live: &Live) -> Result<()> {
    let jobs: Vec<_> = guest.mirrors.0.borrow().keys().cloned().collect();
    if let Some(error) = failure(guest, live).await {
        return Err(error);
    }
    if let Some(bytes) = progress(guest, live).await? {
        guest.with_moving(Way::Out, |moving| moving.stats.disks(bytes));
    }
    for job in &jobs {
        say(&live.monitor, "block-job-cancel", json!({"device": job})).await?;
    }
    until(guest, live, is_over).await?;
    let told = live.monitor.execute(&QueryJobs {}).await.map_err(monitor)?;
    let failed = told.into_iter().find(|told| jobs.contains(&told.id) && told.error.is_some());
    if let Some(failed) = failed {
        return Err(why(live, &failed.id).await);
    }
    clear(driver, guest, live, Outcome::Completed).await;
    Ok(())
}

/// Ends whatever there is of them, as the guest stays.
pub(super) async fn take_back(driver: &Qemu, guest: &Guest, live: &Live) {
    let jobs: Vec<_> = guest.mirrors.0.borrow().keys().cloned().collect();
    for job in &jobs {
        let canceled = say(&live.monitor, "block-job-cancel", json!({"device": job, "force": true})).await;
        if canceled.is_err() {
            // It has ended, or never begun.
            guest.mirrors.changed(job, "concluded");
        }
    }
    let mut all = guest.mirrors.0.subscribe();
    let over = all.wait_for(|all| all.values().all(|status| is_over(status)));
    tokio::select! {
        _ = over => {}
        _ = live.process.ended_within(FOR_EVER) => {}
    }
    clear(driver, guest, live, Outcome::Failed).await;
}

/// Has QEMU forget jobs that are over, and the other sides.
async fn clear(driver: &Qemu, guest: &Guest, live: &Live, outcome: Outcome) {
    let jobs = guest.mirrors.0.send_replace(BTreeMap::new());
    for disk in live.domain.devices.disks.iter().filter(|disk| jobs.contains_key(&copied::export(disk))) {
        let id = copied::export(disk);
        if driver.forget_job(guest, &id).is_some() {
            driver.tell_job(guest, disk, Kind::Copy, outcome);
        }
        let _ = live.monitor.execute(&JobDismiss { id }).await;
        let _ = live.monitor.execute(&BlockdevDel { node_name: node(disk) }).await;
    }
}

/// Bytes of all disks that go, and how many of them have gone; `None` where none goes.
///
/// # Errors
/// What QEMU says.
pub(super) async fn progress(guest: &Guest, live: &Live) -> Result<Option<[u64; 2]>> {
    let jobs: Vec<_> = guest.mirrors.0.borrow().keys().cloned().collect();
    if jobs.is_empty() {
        return Ok(None);
    }
    let told = live.monitor.execute(&QueryBlockJobs {}).await.map_err(monitor)?;
    let told: Vec<Value> = serde_json::from_str(told.get()).map_err(|error| QEMU.internal_error(error))?;
    let own = told.iter().filter(|job| jobs.iter().any(|own| job["device"] == own.as_str()));
    let number = |job: &Value, name: &str| job[name].as_u64().unwrap_or_default();
    Ok(Some(
        own.fold([0, 0], |[total, gone], job| [total + number(job, "len"), gone + number(job, "offset")]),
    ))
}

impl Qemu {
    /// Ends what an earlier daemon had begun of this.
    pub(super) async fn end_mirrors(&self, guest: &Guest, live: &Live) {
        let Ok(told) = live.monitor.execute(&QueryJobs {}).await else { return };
        let own = live.domain.devices.disks.iter().map(copied::export);
        for job in own.filter(|job| told.iter().any(|told| told.id == *job)) {
            let status = told.iter().find(|told| told.id == job).map(|told| told.status.clone());
            guest.mirrors.0.send_modify(|all| drop(all.insert(job, status.unwrap_or_default())));
        }
        take_back(self, guest, live).await;
    }
}
