//! Counters of guests: processors, memory, disks, network.

mod disks;
mod network;
mod time;
mod vcpus;

use std::fs;

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::misc::MemballoonModel;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::QueryBalloon;

pub(crate) use disks::{block, block_flags, block_info};
pub(crate) use network::interface;
pub(crate) use time::{cpu, cpu_time, thread_time};
use vcpus::Counted;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::{Guest, Live};
use crate::{iothreads, jobs, list, memory};

/// `VIR_DOMAIN_STATS_…`: the groups of figures.
const STATE: u32 = 1;
const CPU_TOTAL: u32 = 2;
const BALLOON: u32 = 4;
const VCPU: u32 = 8;
const INTERFACE: u32 = 16;
const BLOCK: u32 = 32;
const PERF: u32 = 64;
const IOTHREAD: u32 = 128;
const MEMORY: u32 = 256;
const DIRTYRATE: u32 = 512;
const VM: u32 = 1024;
/// Of those of `perf` and of `memory` there are none here: nothing of either is ever counted.
const ALL: u32 =
    STATE | CPU_TOTAL | BALLOON | VCPU | INTERFACE | BLOCK | PERF | IOTHREAD | MEMORY | DIRTYRATE | VM;

/// Those that depend on what QEMU can do, which of a guest that is off nobody knows.
const OF_QEMU: u32 = DIRTYRATE | VM;

/// `VIR_CONNECT_GET_ALL_DOMAINS_STATS_…`: which guests, and how.
const FILTERS: u32 = 0xff;
const NOWAIT: u32 = 1 << 29;
const BACKING: u32 = 1 << 30;
const ENFORCE_STATS: u32 = 1 << 31;

pub(crate) async fn all(
    driver: &Qemu,
    args: ConnectGetAllDomainStatsArgs,
) -> Result<ConnectGetAllDomainStatsRet> {
    check_flags(args.flags, FILTERS | NOWAIT | BACKING | ENFORCE_STATS, "qemuConnectGetAllDomainStats")?;
    let wanted = if args.stats == 0 { ALL } else { args.stats };
    let guests = match args.doms.is_empty() {
        true => driver.all(),
        // Those that are gone meanwhile have no figures.
        false => args.doms.iter().filter_map(|dom| driver.by_uuid(&dom.uuid)).collect(),
    };
    let mut records = Vec::with_capacity(guests.len());
    for guest in guests {
        let runs = {
            let inner = guest.lock();
            if !list::admits(args.flags & FILTERS, &inner) {
                continue;
            }
            inner.live.is_some()
        };
        let missing = args.stats & if runs { !ALL } else { !ALL | OF_QEMU };
        if args.flags & ENFORCE_STATS != 0 && missing != 0 {
            return Err(QEMU.argument_unsupported(format_args!(
                "Stats types bits 0x{missing:x} are not supported by this daemon or QEMU"
            )));
        }
        records.push(record(&guest, wanted, args.flags).await);
    }
    Ok(ConnectGetAllDomainStatsRet { ret_stats: records })
}

async fn record(guest: &Guest, wanted: u32, flags: u32) -> DomainStatsRecord {
    let (dom, state, domain, live) = {
        let inner = guest.lock();
        (guest.handle_of(&inner), inner.state, inner.current(), inner.live.clone())
    };
    let mut params = Vec::new();
    let wants = |group: u32| wanted & group != 0;
    if wants(STATE) {
        params.push(TypedParam::new("state.state", state.state));
        params.push(TypedParam::new("state.reason", state.reason));
    }
    let Some(domain) = domain else { return DomainStatsRecord { dom, params } };
    let live = live.as_ref();
    // Whoever works on the guest may have QEMU busy.
    let asked = live.filter(|_| flags & NOWAIT == 0 || guest.job.try_lock().is_ok());
    let counted = match asked {
        Some(live) if wants(CPU_TOTAL | VCPU) => Counted::ask(live, "vcpu").await,
        _ => Counted::default(),
    };
    if wants(CPU_TOTAL) {
        // A guest that is off has the time of the daemon, as libvirtd tells it.
        let time = live.map_or_else(|| cpu_time(std::process::id()), Live::cpu_time);
        if let Some(time) = time {
            params.push(TypedParam::new("cpu.time", time.total()));
            params.push(TypedParam::new("cpu.user", time.user));
            params.push(TypedParam::new("cpu.system", time.system));
        }
        if live.is_some() {
            params.push(TypedParam::new("cpu.cache.monitor.count", 0_u32));
        }
        if asked.is_some() {
            let [success, fail] = counted.polled();
            params.push(TypedParam::new("cpu.haltpoll.success.time", success));
            params.push(TypedParam::new("cpu.haltpoll.fail.time", fail));
        }
    }
    if wants(BALLOON) {
        balloon(&mut params, &domain, asked).await;
    }
    if wants(VCPU) {
        vcpus::counts(&mut params, &domain);
        if let Some(live) = asked {
            vcpus::each(&mut params, live, &counted).await;
        }
    }
    if wants(INTERFACE) && live.is_some() {
        network::all(&mut params, &domain);
    }
    if wants(BLOCK) {
        disks::all(&mut params, &domain, (live, asked), flags & BACKING != 0).await;
    }
    if let Some(live) = asked {
        if wants(IOTHREAD) {
            params.extend(iothreads::stats(live).await);
        }
        if wants(DIRTYRATE) {
            params.extend(jobs::dirty_rate(live).await);
        }
        if wants(VM) {
            params.extend(Counted::ask(live, "vm").await.told("vm", None));
        }
    }
    DomainStatsRecord { dom, params }
}

/// KiB of memory that a process has in RAM.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
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
