//! Work on the images of a running guest's disk: to take in what is below, to merge it down, to copy it elsewhere.
//!
//! QEMU does the work and tells how far it is ([`progress`]); what there is stands in the guest's status file
//! ([`record`]), so that it goes on under a daemon that comes later. When a job has ended, the definitions follow
//! ([`finish`]).

mod control;
mod copy;
mod finish;
mod layers;
mod merge;
mod record;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;
use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, Mirror};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{QueryJobs, QueryNamedBlockNodes};

use crate::disks::{find, path_of, target};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::{Guest, Live};
use crate::overlay::check_lasting;
pub(crate) use layers::{Layer, layers, nodes, put};

pub(crate) use control::{abort, aborting, info, set_speed};
pub(crate) use copy::{copy, rebase};
pub(crate) use finish::Concluded;
pub(crate) use merge::{commit, pull};
pub(crate) use record::{read, write};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The image that is written to takes in those below it.
    Pull,
    /// Everything goes elsewhere.
    Copy,
    /// Images below the one that is written to are merged.
    Commit,
    /// The image that is written to is merged down.
    ActiveCommit,
    /// What a disk holds at one moment is kept elsewhere: part of a [backup](crate::backup).
    Backup,
}

impl Kind {
    /// Numbers (`VIR_DOMAIN_BLOCK_JOB_TYPE_…`) and words, as in libvirt's status files.
    const ALL: [(Self, i32, &'static str); 5] = [
        (Self::Pull, 1, "pull"),
        (Self::Copy, 2, "copy"),
        (Self::Commit, 3, "commit"),
        (Self::ActiveCommit, 4, "active-commit"),
        (Self::Backup, 5, "backup"),
    ];

    fn row(self) -> (Self, i32, &'static str) {
        Self::ALL.into_iter().find(|row| row.0 == self).unwrap_or(Self::ALL[0])
    }

    /// Whether it waits, once all is done, for a client's word.
    fn waits(self) -> bool {
        matches!(self, Self::Copy | Self::ActiveCommit)
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Both sides are alike, and stay so.
    Ready,
    /// Somebody has ended it.
    Aborting,
    /// The disk is to be on the other side.
    Pivoting,
}

/// How a job has ended, or that it is ready (`VIR_DOMAIN_BLOCK_JOB_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed = 0,
    Failed = 1,
    Canceled = 2,
    Ready = 3,
}

/// A job on a disk.
#[derive(Clone, Debug)]
pub(crate) struct BlockJob {
    /// QEMU's name of it.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The disk's target.
    pub(crate) disk: String,
    /// The uppermost image that stays below, by QEMU's name.
    base: Option<String>,
    /// The uppermost image that goes, by QEMU's name.
    top: Option<String>,
    phase: Phase,
    /// QEMU has done its part.
    concluded: bool,
    /// The copy is to be upon what is below the disk's own image.
    shallow: bool,
    /// Merged images are removed.
    delete: bool,
    /// Says how it has ended.
    end: Arc<watch::Sender<Option<Outcome>>>,
}

impl BlockJob {
    pub(crate) fn new(name: String, kind: Kind, disk: &str) -> Self {
        let end = Arc::new(watch::Sender::new(None));
        let (disk, phase, concluded) = (disk.to_owned(), Phase::Running, false);
        Self { name, kind, disk, base: None, top: None, phase, concluded, shallow: false, delete: false, end }
    }
}

/// The disk that a client means.
fn meant<'d>(domain: &'d Domain, path: &str) -> Result<&'d Disk> {
    find(domain, path).ok_or_else(|| QEMU.invalid_arg(format_args!("disk '{path}' not found in domain")))
}

/// The disk that a client means, and the job on it.
fn with_job<'l>(live: &'l Live, path: &str) -> Result<(&'l Disk, &'l BlockJob)> {
    let disk = meant(&live.domain, path)?;
    let none = || QEMU.invalid_arg(format_args!("disk {} does not have an active block job", target(disk)));
    Ok((disk, job_on(live, target(disk)).ok_or_else(none)?))
}

fn job_on<'l>(live: &'l Live, disk: &str) -> Option<&'l BlockJob> {
    live.block_jobs.iter().find(|job| job.disk == disk)
}

/// Checks that a disk may be changed by others: that no job works on it.
///
/// # Errors
/// `VIR_ERR_BLOCK_COPY_ACTIVE` where the disk has another side, `VIR_ERR_OPERATION_UNSUPPORTED` where not.
pub(crate) fn check_idle(live: &Live, disk: &str) -> Result<()> {
    let Some(job) = job_on(live, disk) else { return Ok(()) };
    let text = format_args!("disk '{disk}' already in active block job");
    Err(match job.kind.waits() {
        true => QEMU.block_copy_active(text),
        false => QEMU.operation_unsupported(text),
    })
}

/// The disk on which a client wants a new job, and its images.
fn free_disk<'l>(live: &'l Live, path: &str) -> Result<(&'l Disk, Vec<Layer>)> {
    let disk = meant(&live.domain, path)?;
    check_lasting(disk)?;
    check_idle(live, target(disk))?;
    Ok((disk, layers(disk).0))
}

/// The image that a disk is written to.
fn written(images: &[Layer]) -> Result<&Layer> {
    let none = || ErrorDomain::NONE.internal_error("argument key 'device' must not have null value");
    images.first().ok_or_else(none)
}

/// The most MiB per second.
const MOST: u64 = i64::MAX as u64 >> 20;

/// Bytes per second; 0 is no limit.
fn speed(bandwidth: u64, in_bytes: bool) -> Result<u64> {
    if in_bytes {
        return Ok(bandwidth);
    }
    match bandwidth > MOST {
        true => Err(QEMU.overflow(format_args!("bandwidth must be less than {MOST}"))),
        false => Ok(bandwidth << 20),
    }
}

/// One of QEMU's commands, of which only that it was done counts.
pub(crate) async fn say(qemu: &Monitor, command: &str, arguments: Value) -> Result<()> {
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    };
    qemu.execute_raw(command, &arguments).await.map_err(monitor)?;
    Ok(())
}

/// Bytes of an image as a guest sees it, by QEMU's name of it.
///
/// # Errors
/// QEMU does not know it.
pub(crate) async fn virtual_size(live: &Live, node: &str) -> Result<u64> {
    let flat = QueryNamedBlockNodes { flat: Some(true) };
    let all = live.monitor.execute(&flat).await.map_err(monitor)?;
    let own = all.into_iter().find(|known| known.node_name.as_deref() == Some(node));
    let size = own.and_then(|known| known.image).map(|image| image.virtual_size);
    size.ok_or_else(|| QEMU.internal_error(format_args!("QEMU has no size of '{node}'")))
}

/// QEMU's name of an image of a disk, and the names of all of its nodes, the uppermost first.
pub(crate) fn nodes_of(disk: &Disk, path: &str) -> Option<(String, Vec<String>)> {
    let (images, _) = layers(disk);
    images.iter().find(|image| image.path() == Some(path)).map(|image| layers::nodes(disk, image))
}

/// The highest number of an image that is the other side of a job.
pub(crate) fn last_number(domain: &Domain) -> u32 {
    let numbers = domain.devices.disks.iter().filter_map(|disk| layers::other_side(disk)?.index);
    numbers.max().unwrap_or_default()
}

impl Qemu {
    /// Learns what has become of the jobs of a guest that an earlier daemon has left.
    pub(crate) async fn resume_jobs(&self, guest: &Arc<Guest>) {
        let Ok(live) = guest.live() else { return };
        if live.block_jobs.is_empty() {
            return;
        }
        let Ok(now) = live.monitor.execute(&QueryJobs {}).await else { return };
        for job in &live.block_jobs {
            let found = now.iter().find(|now| now.id == job.name);
            // Of one that is gone nobody knows how it ended.
            self.job_changed(guest, &job.name, found.map_or("concluded", |now| &now.status));
        }
    }

    /// Has QEMU begin a job that is known from before it begins: it may end before QEMU's answer is read.
    async fn begin_job(
        &self,
        guest: &Guest,
        live: &Live,
        job: BlockJob,
        command: &str,
        arguments: Value,
    ) -> Result<()> {
        let name = job.name.clone();
        if let Some(live) = &mut guest.lock().live {
            live.block_jobs.push(job);
        }
        self.save_status(guest);
        let begun = say(&live.monitor, command, arguments).await;
        if begun.is_err() {
            self.forget_job(guest, &name);
            self.save_status(guest);
        }
        begun
    }

    /// Shows the other side of a job on a disk, or that there is none any more.
    fn set_mirror(&self, guest: &Guest, name: &str, mirror: Option<Mirror>) {
        let mut inner = guest.lock();
        let Some(live) = &mut inner.live else { return };
        let disks = &mut Arc::make_mut(&mut live.domain).devices.disks;
        if let Some(disk) = disks.iter_mut().find(|disk| target(disk) == name) {
            disk.mirror = mirror;
        }
    }

    pub(crate) fn forget_job(&self, guest: &Guest, name: &str) -> Option<BlockJob> {
        let mut inner = guest.lock();
        let jobs = &mut inner.live.as_mut()?.block_jobs;
        let at = jobs.iter().position(|job| job.name == name)?;
        Some(jobs.remove(at))
    }

    /// Tells of a job's end, or that it is ready.
    pub(crate) fn tell_job(&self, guest: &Guest, disk: &Disk, kind: Kind, outcome: Outcome) {
        let (dom, (_, r#type, _), status) = (guest.handle(), kind.row(), outcome as i32);
        let path = path_of(disk).unwrap_or_default().into();
        let msg = DomainEventBlockJobMsg { dom: dom.clone(), path, r#type, status };
        self.emit(Event::DomainBlockJob(DomainEventCallbackBlockJobMsg { callback_id: 0, msg }));
        let dst = target(disk).into();
        self.emit(Event::DomainBlockJob2(DomainEventBlockJob2Msg {
            callback_id: 0,
            dom,
            dst,
            r#type,
            status,
        }));
    }

    /// QEMU tells how far a job is.
    pub(crate) fn job_changed(&self, guest: &Arc<Guest>, name: &str, status: &str) {
        match status {
            "ready" => self.job_ready(guest, name),
            "concluded" => {
                {
                    let mut inner = guest.lock();
                    let Some(live) = &mut inner.live else { return };
                    let Some(job) = live.block_jobs.iter_mut().find(|job| job.name == name) else { return };
                    if std::mem::replace(&mut job.concluded, true) {
                        return;
                    }
                }
                // In a task of its own: whoever takes a monitor's events must not wait for its replies.
                let (driver, guest, name) = (self.clone(), Arc::clone(guest), name.to_owned());
                tokio::spawn(async move { driver.finish_job(&guest, &name).await });
            }
            _ => {}
        }
    }

    fn job_ready(&self, guest: &Arc<Guest>, name: &str) {
        let ready = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            let is =
                |job: &&mut BlockJob| job.name == name && job.phase == Phase::Running && job.kind.waits();
            let Some(job) = live.block_jobs.iter_mut().find(is) else { return };
            job.phase = Phase::Ready;
            let (kind, on) = (job.kind, job.disk.clone());
            let disks = &mut Arc::make_mut(&mut live.domain).devices.disks;
            let Some(disk) = disks.iter_mut().find(|disk| target(disk) == on) else { return };
            if let Some(mirror) = &mut disk.mirror {
                mirror.ready = Some("yes".to_owned());
            }
            (disk.clone(), kind)
        };
        self.save_status(guest);
        self.tell_job(guest, &ready.0, ready.1, Outcome::Ready);
    }
}
