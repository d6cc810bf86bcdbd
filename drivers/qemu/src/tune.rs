//! Tuning of guests as clients read it: what the definition says, and libvirt's defaults.

use virtwire_conf::domain::os::PERF_EVENTS;
use virtwire_conf::{Domain, YesNo};
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

/// The threads for I/O that the definition asks for, by number.
pub(crate) async fn iothreads(
    driver: &Qemu,
    args: DomainGetIothreadInfoArgs,
) -> Result<DomainGetIothreadInfoRet> {
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let host = driver.shared.host.cpus().len();
    let cpumap = everywhere(driver, host.div_ceil(8) as i32);
    let numbers = iothread_numbers(&domain);
    let info: Vec<_> = numbers
        .into_iter()
        .map(|iothread_id| DomainIothreadInfo { iothread_id, cpumap: cpumap.clone() })
        .collect();
    Ok(DomainGetIothreadInfoRet { ret: info.len() as u32, info })
}

/// Those that are listed, and as many more as are counted.
pub(crate) fn iothread_numbers(domain: &Domain) -> Vec<u32> {
    let listed = domain.iothreadids.iter().flat_map(|list| &list.iothread).map(|iothread| iothread.id.get());
    let mut numbers: Vec<u32> = listed.collect();
    let count = domain.iothreads.unwrap_or_default() as usize;
    for number in 1.. {
        if numbers.len() >= count {
            break;
        }
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Every processor of the host, in a map of so many bytes.
fn everywhere(driver: &Qemu, maplen: i32) -> Vec<u8> {
    let host = driver.shared.host.cpus().len();
    let maplen = usize::try_from(maplen).unwrap_or_default();
    let mut map = vec![0_u8; maplen];
    for cpu in 0..host {
        if let Some(byte) = map.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    map
}

pub(crate) async fn emulator_pin(
    driver: &Qemu,
    args: DomainGetEmulatorPinInfoArgs,
) -> Result<DomainGetEmulatorPinInfoRet> {
    one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    Ok(DomainGetEmulatorPinInfoRet { cpumaps: everywhere(driver, args.maplen), ret: 1 })
}

pub(crate) async fn vcpu_pin(
    driver: &Qemu,
    args: DomainGetVcpuPinInfoArgs,
) -> Result<DomainGetVcpuPinInfoRet> {
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count) as usize;
    let count = vcpus.min(args.ncpumaps.try_into().unwrap_or_default());
    Ok(DomainGetVcpuPinInfoRet { cpumaps: everywhere(driver, args.maplen).repeat(count), num: count as i32 })
}
