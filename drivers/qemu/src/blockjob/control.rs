//! A client asks how far a job is, how fast it may be, or ends it.

use serde::Deserialize;
use serde_json::json;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::QueryBlockJobs;

use super::{BlockJob, Outcome, Phase, job_on, meant, say, speed, with_job};
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::guest::Guest;

/// `VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES` and `VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES`
const BYTES: u32 = 1;
/// `VIR_DOMAIN_BLOCK_JOB_ABORT_…`
const ASYNC: u32 = 1;
const PIVOT: u32 = 2;

/// What QEMU tells of a job.
#[derive(Deserialize)]
struct Progress {
    device: String,
    len: u64,
    offset: u64,
    speed: u64,
    #[serde(default)]
    ready: bool,
}

pub(crate) async fn info(driver: &Qemu, args: DomainGetBlockJobInfoArgs) -> Result<DomainGetBlockJobInfoRet> {
    check_flags(args.flags, BYTES, "qemuDomainGetBlockJobInfo")?;
    let live = driver.guest(&args.dom)?.live()?;
    let disk = meant(&live.domain, &args.path.to_str_lossy())?;
    let Some(job) = job_on(&live, target(disk)) else { return Ok(DomainGetBlockJobInfoRet::default()) };
    let all = live.monitor.execute(&QueryBlockJobs {}).await.map_err(monitor)?;
    let all: Vec<Progress> = serde_json::from_str(all.get()).map_err(|error| QEMU.internal_error(error))?;
    let Some(now) = all.into_iter().find(|now| now.device == job.name) else {
        return Ok(DomainGetBlockJobInfoRet::default());
    };
    let (mut cur, mut end) = (now.offset, now.len);
    // Both alike means that it is ready, also where there is nothing to do.
    if job.kind.waits() && cur == end {
        end = end.max(1);
        cur = if now.ready { end } else { end - 1 };
    }
    let bandwidth = if args.flags & BYTES != 0 { now.speed } else { now.speed.div_ceil(1 << 20) };
    Ok(DomainGetBlockJobInfoRet { found: 1, r#type: job.kind.row().1, bandwidth, cur, end })
}

pub(crate) async fn set_speed(driver: &Qemu, args: DomainBlockJobSetSpeedArgs) -> Result<()> {
    check_flags(args.flags, BYTES, "qemuDomainBlockJobSetSpeed")?;
    let speed = speed(args.bandwidth, args.flags & BYTES != 0)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let name = &with_job(&live, &args.path.to_str_lossy())?.1.name;
    say(&live.monitor, "block-job-set-speed", json!({"device": name, "speed": speed})).await
}

pub(crate) async fn abort(driver: &Qemu, args: DomainBlockJobAbortArgs) -> Result<()> {
    check_flags(args.flags, ASYNC | PIVOT, "qemuDomainBlockJobAbort")?;
    let guest = driver.guest(&args.dom)?;
    let lock = guest.job.lock().await;
    let live = guest.live()?;
    let (disk, job) = with_job(&live, &args.path.to_str_lossy())?;
    let pivot = args.flags & PIVOT != 0;
    if matches!(job.phase, Phase::Aborting | Phase::Pivoting) {
        let text = format_args!("block job on disk '{}' is still being ended", target(disk));
        return Err(QEMU.operation_invalid(text));
    }
    if pivot {
        may_pivot(job)?;
    }
    let mut end = job.end.subscribe();
    let before = job.phase;
    set_phase(&guest, &job.name, if pivot { Phase::Pivoting } else { Phase::Aborting });
    driver.save_status(&guest);
    let asked = match pivot {
        true => say(&live.monitor, "job-complete", json!({"id": job.name})).await,
        false => say(&live.monitor, "block-job-cancel", json!({"device": job.name, "force": false})).await,
    };
    if asked.is_err() {
        set_phase(&guest, &job.name, before);
        driver.save_status(&guest);
        return asked;
    }
    // What comes of it needs the guest.
    drop(lock);
    if args.flags & ASYNC != 0 {
        return Ok(());
    }
    let name = job.name.clone();
    // With what is known of the run the job's end would never be the end of all who could tell of it.
    drop(live);
    let outcome = *end.wait_for(Option::is_some).await.map_err(|_| not_running())?;
    match outcome {
        Some(Outcome::Failed) if pivot => {
            Err(QEMU.operation_failed(format_args!("block job '{name}' failed while pivoting")))
        }
        _ => Ok(()),
    }
}

/// Says that a job is ended by somebody, so that its end is no failure.
pub(crate) fn aborting(guest: &Guest, name: &str) {
    set_phase(guest, name, Phase::Aborting);
}

fn set_phase(guest: &Guest, name: &str, phase: Phase) {
    if let Some(live) = &mut guest.lock().live
        && let Some(job) = live.block_jobs.iter_mut().find(|job| job.name == name)
    {
        job.phase = phase;
    }
}

/// Checks that a disk can be on the other side of a job now.
fn may_pivot(job: &BlockJob) -> Result<()> {
    if job.phase != Phase::Ready {
        return Err(QEMU.block_copy_active(format_args!("block job '{}' not ready for pivot yet", job.name)));
    }
    Ok(())
}
