//! Tuning of guests as clients read it: what the definition says, and libvirt's defaults.

use virtwire_conf::YesNo;
use virtwire_conf::domain::os::PERF_EVENTS;
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::Result;
use crate::guest::Guest;
use crate::info::one_definition;

/// `VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`: as much as there is, in KiB.
const UNLIMITED: u64 = 9_007_199_254_740_991;

/// All parameters where the client has room, their count otherwise.
fn sized(all: Vec<TypedParam>, room: i32) -> (Vec<TypedParam>, i32) {
    let count = all.len() as i32;
    let room = usize::try_from(room).unwrap_or_default();
    (all.into_iter().take(room).collect(), count)
}

pub(crate) async fn memory(
    driver: &Qemu,
    args: DomainGetMemoryParametersArgs,
) -> Result<DomainGetMemoryParametersRet> {
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let tune = domain.memtune.as_ref();
    let limit = |limit: Option<virtwire_conf::table::KiB>| limit.map_or(UNLIMITED, |limit| limit.0);
    let all = vec![
        TypedParam::new("hard_limit", limit(tune.and_then(|tune| tune.hard_limit))),
        TypedParam::new("soft_limit", limit(tune.and_then(|tune| tune.soft_limit))),
        TypedParam::new("swap_hard_limit", limit(tune.and_then(|tune| tune.swap_hard_limit))),
    ];
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetMemoryParametersRet { params, nparams })
}

pub(crate) async fn blkio(
    driver: &Qemu,
    args: DomainGetBlkioParametersArgs,
) -> Result<DomainGetBlkioParametersRet> {
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let usual = if means_live(&guest, args.flags) { 100 } else { 0 };
    let weight = domain.blkiotune.as_ref().and_then(|tune| tune.weight).unwrap_or(usual);
    let mut all = vec![TypedParam::new("weight", weight)];
    let per_device = [
        "device_weight",
        "device_read_iops_sec",
        "device_write_iops_sec",
        "device_read_bytes_sec",
        "device_write_bytes_sec",
    ];
    all.extend(per_device.map(|name| TypedParam::new(name, "")));
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetBlkioParametersRet { params, nparams })
}

pub(crate) async fn numa(
    driver: &Qemu,
    args: DomainGetNumaParametersArgs,
) -> Result<DomainGetNumaParametersRet> {
    one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let all = vec![TypedParam::new("numa_mode", 0_i32), TypedParam::new("numa_nodeset", "")];
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetNumaParametersRet { params, nparams })
}

/// Names of the CPU bandwidth's parts.
const BANDWIDTHS: [&str; 4] = ["vcpu", "emulator", "global", "iothread"];
/// How many parameters the scheduler has.
pub(crate) const SCHEDULER_PARAMETERS: i32 = 9;

fn scheduler_parameters(runs: bool) -> Vec<TypedParam> {
    // A stored definition that says nothing has nothing; the group of a running guest has the kernel's defaults.
    let (shares, period, quota) = if runs { (1024, 100_000, -1) } else { (0, 0, 0) };
    let mut all = vec![TypedParam::new("cpu_shares", shares as u64)];
    for name in BANDWIDTHS {
        all.push(TypedParam::new(format!("{name}_period"), period as u64));
        all.push(TypedParam::new(format!("{name}_quota"), i64::from(quota)));
    }
    all
}

/// Whether flags mean the running guest.
fn means_live(guest: &Guest, flags: u32) -> bool {
    const CONFIG: u32 = 2;
    flags & CONFIG == 0 && guest.lock().live.is_some()
}

pub(crate) async fn scheduler(
    driver: &Qemu,
    args: DomainGetSchedulerParametersArgs,
) -> Result<DomainGetSchedulerParametersRet> {
    let runs = means_live(&*driver.guest(&args.dom)?, 0);
    Ok(DomainGetSchedulerParametersRet { params: sized(scheduler_parameters(runs), args.nparams).0 })
}

pub(crate) async fn scheduler_flags(
    driver: &Qemu,
    args: DomainGetSchedulerParametersFlagsArgs,
) -> Result<DomainGetSchedulerParametersFlagsRet> {
    let guest = driver.guest(&args.dom)?;
    one_definition(&guest.lock(), args.flags & 3)?;
    let params = scheduler_parameters(means_live(&guest, args.flags));
    Ok(DomainGetSchedulerParametersFlagsRet { params: sized(params, args.nparams).0 })
}

/// None is counted: what a definition asks for is told, nothing is measured.
pub(crate) async fn perf_events(
    driver: &Qemu,
    args: DomainGetPerfEventsArgs,
) -> Result<DomainGetPerfEventsRet> {
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let asked = |name: &str| {
        let mut events = domain.perf.iter().flat_map(|perf| &perf.event);
        events.any(|event| event.name == name && event.enabled == YesNo::Yes)
    };
    let params = PERF_EVENTS.iter().map(|name| TypedParam::new(*name, asked(name)));
    Ok(DomainGetPerfEventsRet { params: params.collect() })
}
