//! Counters of running guests: processors, memory, disks, network.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::disk::Disk;
use virtwire_conf::domain::misc::MemballoonModel;
use virtwire_conf::domain::net::Interface;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{QueryBalloon, QueryBlockstats, QueryNamedBlockNodes};
use virtwire_qmp::replies::{BlockCounters, BlockStats};

use crate::blockjob::{nodes_of, virtual_size};
use crate::disks::{find, path_of};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::{Guest, Live};
use crate::{counted, iothreads, jobs, list, memory};

/// Time that a process has used, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl CpuTime {
    pub(crate) fn total(self) -> u64 {
        self.user + self.system
    }
}

/// Nanoseconds of a tick of `/proc/PID/stat` (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

/// Time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Option<CpuTime> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(CpuTime { user: field(&text, 14)? * TICK, system: field(&text, 15)? * TICK })
}

/// Time that one thread has used, in nanoseconds, and the processor it ran on last.
pub(crate) fn thread_time(pid: u32, thread: u32) -> Option<(u64, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    Some(((field(&text, 14)? + field(&text, 15)?) * TICK, field(&text, 39)? as i32))
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does; the second may hold anything.
fn field(text: &str, number: usize) -> Option<u64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// KiB of memory that a process has in RAM.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `VIR_DOMAIN_STATS_…`
const STATE: u32 = 1;
const CPU_TOTAL: u32 = 2;
const BALLOON: u32 = 4;
const VCPU: u32 = 8;
const INTERFACE: u32 = 16;
const BLOCK: u32 = 32;
const IOTHREAD: u32 = 128;
const DIRTYRATE: u32 = 512;
const VM: u32 = 1024;

pub(crate) async fn all(
    driver: &Qemu,
    args: ConnectGetAllDomainStatsArgs,
) -> Result<ConnectGetAllDomainStatsRet> {
    let wanted = if args.stats == 0 { u32::MAX } else { args.stats };
    let guests = if args.doms.is_empty() {
        let listed = ConnectListAllDomainsArgs { need_results: 1, flags: args.flags & 0xff };
        let listed = list::all(driver, listed).await?;
        listed.domains.iter().filter_map(|dom| driver.by_uuid(&dom.uuid)).collect()
    } else {
        args.doms.iter().map(|dom| driver.guest(dom)).collect::<Result<Vec<_>>>()?
    };
    let mut records = Vec::with_capacity(guests.len());
    for guest in guests {
        records.push(record(&guest, wanted).await);
    }
    Ok(ConnectGetAllDomainStatsRet { ret_stats: records })
}

async fn record(guest: &Guest, wanted: u32) -> DomainStatsRecord {
    let (dom, state, domain, live) = {
        let inner = guest.lock();
        (guest.handle_of(&inner), inner.state, inner.current(), inner.live.clone())
    };
    let mut params = Vec::new();
    if wanted & STATE != 0 {
        params.push(TypedParam::new("state.state", state.state));
        params.push(TypedParam::new("state.reason", state.reason));
    }
    let Some(domain) = domain else { return DomainStatsRecord { dom, params } };
    // A guest that is off has the time of the daemon, as libvirtd tells it.
    let pid = live.as_ref().map_or_else(std::process::id, |live| live.process.pid());
    if let (true, Some(time)) = (wanted & CPU_TOTAL != 0, cpu_time(pid)) {
        params.push(TypedParam::new("cpu.time", time.total()));
        params.push(TypedParam::new("cpu.user", time.user));
        params.push(TypedParam::new("cpu.system", time.system));
    }
    if wanted & CPU_TOTAL != 0 && live.is_some() {
        params.push(TypedParam::new("cpu.cache.monitor.count", 0_u32));
    }
    if let (true, Some(live)) = (wanted & CPU_TOTAL != 0, &live) {
        let (success, fail) = counted::polled(live).await;
        params.push(TypedParam::new("cpu.haltpoll.success.time", success));
        params.push(TypedParam::new("cpu.haltpoll.fail.time", fail));
    }
    if wanted & BALLOON != 0 {
        balloon(&mut params, &domain, live.as_ref()).await;
    }
    if wanted & VCPU != 0 {
        vcpus(&mut params, &domain, live.as_ref()).await;
    }
    if wanted & INTERFACE != 0 && live.is_some() {
        interfaces(&mut params, &domain);
    }
    if wanted & BLOCK != 0 {
        blocks(&mut params, &domain, live.as_ref()).await;
    }
    if let (true, Some(live)) = (wanted & IOTHREAD != 0, &live) {
        params.extend(iothreads::stats(live).await);
    }
    if let (true, Some(live)) = (wanted & DIRTYRATE != 0, &live) {
        params.extend(jobs::dirty_rate(live).await);
    }
    if let (true, Some(live)) = (wanted & VM != 0, &live) {
        params.extend(counted::of_vm(live).await);
    }
    DomainStatsRecord { dom, params }
}

async fn balloon(params: &mut Vec<TypedParam>, domain: &Domain, live: Option<&Live>) {
    let maximum = domain.memory.as_ref().map_or(0, GuestMemory::kib);
    let mut current = domain.current_memory.map_or(maximum, |memory| memory.0);
    if let Some(live) = live
        && let Some(actual) = live.balloon().await
    {
        current = actual;
    }
    params.push(TypedParam::new("balloon.current", current));
    params.push(TypedParam::new("balloon.maximum", maximum));
    if let Some(live) = live {
        let reported = memory::reported(live).await;
        params.extend(
            reported.into_iter().map(|(name, _, value)| TypedParam::new(format!("balloon.{name}"), value)),
        );
    }
    if let Some(rss) = live.and_then(|live| resident(live.process.pid())) {
        params.push(TypedParam::new("balloon.rss", rss));
    }
}

async fn vcpus(params: &mut Vec<TypedParam>, domain: &Domain, live: Option<&Live>) {
    let vcpu = domain.vcpu.as_ref();
    let maximum = vcpu.map_or(1, |vcpu| vcpu.count);
    let current = vcpu.and_then(|vcpu| vcpu.current).unwrap_or(maximum);
    params.push(TypedParam::new("vcpu.current", current));
    params.push(TypedParam::new("vcpu.maximum", maximum));
    if let Some(live) = live {
        params.extend(counted::of_vcpus(live).await);
    }
}

/// The traffic of all interfaces, those without an end on the host left out.
fn interfaces(params: &mut Vec<TypedParam>, domain: &Domain) {
    let all = &domain.devices.interfaces;
    params.push(TypedParam::new("net.count", all.len() as u32));
    for (index, net) in all.iter().enumerate() {
        let Some(name) = net.target.as_ref().and_then(|target| target.dev.as_deref()) else { continue };
        params.push(TypedParam::new(format!("net.{index}.name"), name));
        let Ok(told) = traffic(name) else { continue };
        let numbers = [
            ("rx.bytes", told.rx_bytes),
            ("rx.pkts", told.rx_packets),
            ("rx.errs", told.rx_errs),
            ("rx.drop", told.rx_drop),
            ("tx.bytes", told.tx_bytes),
            ("tx.pkts", told.tx_packets),
            ("tx.errs", told.tx_errs),
            ("tx.drop", told.tx_drop),
        ];
        let number = |(what, number): (&str, i64)| {
            TypedParam::new(format!("net.{index}.{what}"), u64::try_from(number).unwrap_or_default())
        };
        params.extend(numbers.map(number));
    }
}

async fn blocks(params: &mut Vec<TypedParam>, domain: &Domain, live: Option<&Live>) {
    let disks = &domain.devices.disks;
    params.push(TypedParam::new("block.count", disks.len() as u32));
    let stats = match live {
        Some(live) => live.monitor.execute(&QueryBlockstats { query_nodes: None }).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let nodes = match live {
        Some(live) => {
            let flat = QueryNamedBlockNodes { flat: Some(true) };
            live.monitor.execute(&flat).await.unwrap_or_default()
        }
        None => Vec::new(),
    };
    let size = |node: &str| {
        let node = nodes.iter().find(|known| known.node_name.as_deref() == Some(node))?;
        Some(node.image.as_ref()?.virtual_size)
    };
    for (index, disk) in disks.iter().enumerate() {
        let name = disk.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
        params.push(TypedParam::new(format!("block.{index}.name"), name));
        if let Some(path) = path_of(disk) {
            params.push(TypedParam::new(format!("block.{index}.path"), path));
        }
        if let Some(number) = disk.source.as_ref().and_then(|source| source.index) {
            params.push(TypedParam::new(format!("block.{index}.backingIndex"), number));
        }
        if let Some(counters) = counters(&stats, disk) {
            for (field, value) in fields(counters) {
                params.push(TypedParam::new(format!("block.{index}.{field}"), value));
            }
        }
        if let Some(meta) = path_of(disk).and_then(|path| fs::metadata(path).ok()) {
            let on_disk = meta.blocks() * 512;
            let highest = written(&stats, disk).unwrap_or(on_disk);
            params.push(TypedParam::new(format!("block.{index}.allocation"), highest));
            let node = path_of(disk).and_then(|path| nodes_of(disk, path));
            let capacity = node.and_then(|(node, _)| size(&node)).unwrap_or(meta.len());
            params.push(TypedParam::new(format!("block.{index}.capacity"), capacity));
            params.push(TypedParam::new(format!("block.{index}.physical"), on_disk));
        }
    }
}

/// The traffic of an interface, from the host's side of it.
pub(crate) async fn interface(
    driver: &Qemu,
    args: DomainInterfaceStatsArgs,
) -> Result<DomainInterfaceStatsRet> {
    let live = driver.guest(&args.dom)?.live()?;
    let wanted = args.device.to_string();
    let interfaces = &live.domain.devices.interfaces;
    let name = |net: &Interface| net.target.as_ref().and_then(|target| target.dev.clone());
    let Some(net) = interfaces.iter().find(|net| net.is_called(&wanted)) else {
        return Err(ErrorDomain::DOMAIN.invalid_arg(format_args!("'{wanted}' is not a known interface")));
    };
    traffic(&name(net).ok_or_else(|| ErrorDomain::NONE.internal_error("Interface name not provided"))?)
}

/// The traffic of a guest whose end on the host has this name.
fn traffic(name: &str) -> Result<DomainInterfaceStatsRet> {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    let line = line.ok_or_else(|| ErrorDomain::NONE.internal_error("/proc/net/dev: Interface not found"))?;
    let of_host: Vec<i64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize| of_host.get(at).copied().unwrap_or_default();
    // What the host receives, the guest has sent.
    Ok(DomainInterfaceStatsRet {
        rx_bytes: number(8),
        rx_packets: number(9),
        rx_errs: number(10),
        rx_drop: number(11),
        tx_bytes: number(0),
        tx_packets: number(1),
        tx_errs: number(2),
        tx_drop: number(3),
    })
}

/// Names of the counters in stats, and their values.
fn fields(counters: &BlockCounters) -> [(&'static str, u64); 8] {
    [
        ("rd.reqs", counters.rd_operations),
        ("rd.bytes", counters.rd_bytes),
        ("rd.times", counters.rd_total_time_ns),
        ("wr.reqs", counters.wr_operations),
        ("wr.bytes", counters.wr_bytes),
        ("wr.times", counters.wr_total_time_ns),
        ("fl.reqs", counters.flush_operations),
        ("fl.times", counters.flush_total_time_ns),
    ]
}

/// QEMU knows a device by its alias, or by a path that ends in it.
fn is(qdev: Option<&str>, alias: &str) -> bool {
    qdev.is_some_and(|qdev| qdev.split('/').any(|part| part == alias))
}

fn of_disk<'a>(stats: &'a [BlockStats], disk: &Disk) -> Option<&'a BlockStats> {
    let alias = &disk.info.alias.as_ref()?.name;
    stats.iter().find(|stats| is(stats.qdev.as_deref(), alias))
}

fn counters<'a>(stats: &'a [BlockStats], disk: &Disk) -> Option<&'a BlockCounters> {
    of_disk(stats, disk).map(|stats| &stats.stats)
}

/// How far a disk's image has been written to: what is below its format knows.
fn written(stats: &[BlockStats], disk: &Disk) -> Option<u64> {
    let stats = of_disk(stats, disk)?;
    Some(stats.parent.as_ref().map_or(&stats.stats, |parent| &parent.stats).wr_highest_offset)
}

impl Live {
    /// KiB that the balloon leaves the guest, if it has one.
    pub(crate) async fn balloon(&self) -> Option<u64> {
        let balloon = self.domain.devices.memballoon.as_ref()?;
        if balloon.model == MemballoonModel::None {
            return None;
        }
        self.monitor.execute(&QueryBalloon {}).await.ok().map(|balloon| balloon.actual / 1024)
    }
}

async fn counters_of(live: &Live, path: &str) -> Result<Vec<BlockCounters>> {
    let stats = live.monitor.execute(&QueryBlockstats { query_nodes: None }).await.map_err(monitor)?;
    if path.is_empty() {
        return Ok(stats.into_iter().map(|stats| stats.stats).collect());
    }
    let disk = find(&live.domain, path);
    let disk = disk.ok_or_else(|| QEMU.invalid_arg(format_args!("invalid path: {path}")))?;
    let found = counters(&stats, disk).cloned();
    let missing = || QEMU.internal_error(format_args!("cannot find statistics for device '{path}'"));
    Ok(vec![found.ok_or_else(missing)?])
}

pub(crate) async fn block(driver: &Qemu, args: DomainBlockStatsArgs) -> Result<DomainBlockStatsRet> {
    let live = driver.guest(&args.dom)?.live()?;
    let counters = counters_of(&live, &args.path.to_str_lossy()).await?;
    let sum = |of: fn(&BlockCounters) -> u64| counters.iter().map(of).sum::<u64>() as i64;
    Ok(DomainBlockStatsRet {
        rd_req: sum(|c| c.rd_operations),
        rd_bytes: sum(|c| c.rd_bytes),
        wr_req: sum(|c| c.wr_operations),
        wr_bytes: sum(|c| c.wr_bytes),
        errs: -1,
    })
}

pub(crate) async fn block_flags(
    driver: &Qemu,
    args: DomainBlockStatsFlagsArgs,
) -> Result<DomainBlockStatsFlagsRet> {
    // VIR_TYPED_PARAM_STRING_OKAY makes no difference: there are no strings.
    check_flags(args.flags, 4, "qemuDomainBlockStatsFlags")?;
    let live = driver.guest(&args.dom)?.live()?;
    let counters = counters_of(&live, &args.path.to_str_lossy()).await?;
    let sum = |of: fn(&BlockCounters) -> u64| counters.iter().map(of).sum::<u64>() as i64;
    let all = [
        ("wr_bytes", sum(|c| c.wr_bytes)),
        ("wr_operations", sum(|c| c.wr_operations)),
        ("rd_bytes", sum(|c| c.rd_bytes)),
        ("rd_operations", sum(|c| c.rd_operations)),
        ("flush_operations", sum(|c| c.flush_operations)),
        ("wr_total_times", sum(|c| c.wr_total_time_ns)),
        ("rd_total_times", sum(|c| c.rd_total_time_ns)),
        ("flush_total_times", sum(|c| c.flush_total_time_ns)),
    ];
    let nparams = all.len() as i32;
    let wanted = if args.nparams == 0 { 0 } else { args.nparams.try_into().unwrap_or(all.len()) };
    let params = all.into_iter().take(wanted).map(|(field, value)| TypedParam::new(field, value)).collect();
    Ok(DomainBlockStatsFlagsRet { params, nparams })
}

pub(crate) async fn block_info(driver: &Qemu, args: DomainGetBlockInfoArgs) -> Result<DomainGetBlockInfoRet> {
    check_flags(args.flags, 0, "qemuDomainGetBlockInfo")?;
    let (domain, live): (Option<Arc<Domain>>, _) = {
        let guest = driver.guest(&args.dom)?;
        let inner = guest.lock();
        (inner.current(), inner.live.clone())
    };
    let domain = domain.ok_or_else(crate::error::not_running)?;
    let path = args.path.to_str_lossy();
    let disk = find(&domain, &path)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("invalid path {path} not assigned to domain")))?;
    let path = path_of(disk).ok_or_else(|| {
        let target = disk.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
        QEMU.invalid_arg(format_args!("disk '{target}' does not currently have a source assigned"))
    })?;
    let meta =
        fs::metadata(path).map_err(|e| crate::error::file(&e, format_args!("cannot stat file '{path}'")))?;
    let mut info =
        DomainGetBlockInfoRet { allocation: meta.blocks() * 512, capacity: meta.len(), physical: meta.len() };
    // Only QEMU can look into formats; a stopped guest's image is never probed.
    if let Some(live) = live
        && let Some((node, _)) = nodes_of(disk, path)
        && let Ok(size) = virtual_size(&live, &node).await
    {
        info.capacity = size;
    }
    Ok(info)
}

/// Processors of the host for which times are told apart, and for which a client asks; the sum of all is number -1.
pub(crate) async fn cpu(driver: &Qemu, args: DomainGetCpuStatsArgs) -> Result<DomainGetCpuStatsRet> {
    /// `VIR_TYPED_PARAM_STRING_OKAY`
    const STRINGS: u32 = 4;
    check_flags(args.flags, STRINGS, "qemuDomainGetCPUStats")?;
    let live = driver.guest(&args.dom)?.live()?;
    let count = |nparams: usize| Ok(DomainGetCpuStatsRet { params: Vec::new(), nparams: nparams as i32 });
    if args.start_cpu != -1 {
        return match (args.ncpus, args.nparams) {
            (0, _) => count(driver.shared.host.cpus().len()),
            (_, 0) => count(2),
            // Who counts by processors is the kernel's older interface.
            _ => Err(ErrorDomain::CGROUP.operation_unsupported(
                "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'",
            )),
        };
    }
    let time = cpu_time(live.process.pid()).unwrap_or_default();
    let all = [("cpu_time", time.total()), ("user_time", time.user), ("system_time", time.system)];
    if args.nparams == 0 {
        return count(all.len());
    }
    let params = all.map(|(name, value)| TypedParam::new(name, value));
    let params: Vec<_> = params.into_iter().take(args.nparams as usize).collect();
    Ok(DomainGetCpuStatsRet { nparams: params.len() as i32, params })
}
