//! A guest's memory: how much, and the balloon in it.

use virtwire_conf::domain::GuestMemory;
use virtwire_conf::table::KiB;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Balloon, QueryBalloon};

use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::info::one_definition;
use crate::stats::resident;

/// `VIR_DOMAIN_AFFECT_…` and `VIR_DOMAIN_MEM_MAXIMUM`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const MAXIMUM: u32 = 4;

pub(crate) async fn maximum(driver: &Qemu, args: DomainGetMaxMemoryArgs) -> Result<DomainGetMaxMemoryRet> {
    let domain = driver.guest(&args.dom)?.lock().current().ok_or_else(not_running)?;
    Ok(DomainGetMaxMemoryRet { memory: domain.memory.as_ref().map_or(0, GuestMemory::kib) })
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetMemoryArgs) -> Result<()> {
    set_flags(driver, DomainSetMemoryFlagsArgs { dom: args.dom, memory: args.memory, flags: LIVE }).await
}

pub(crate) async fn set_maximum(driver: &Qemu, args: DomainSetMaxMemoryArgs) -> Result<()> {
    set_flags(driver, DomainSetMemoryFlagsArgs { dom: args.dom, memory: args.memory, flags: MAXIMUM }).await
}

pub(crate) async fn set_flags(driver: &Qemu, args: DomainSetMemoryFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG | MAXIMUM, "qemuDomainSetMemoryFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let live = guest.lock().live.clone();
    let to_live = args.flags & LIVE != 0 || (args.flags & CONFIG == 0 && live.is_some());
    if args.flags & MAXIMUM != 0 {
        if to_live {
            let text = "cannot resize the maximum memory on an active domain";
            return Err(QEMU.operation_invalid(text));
        }
        let mut changed = (*domain).clone();
        changed.memory.get_or_insert_default().size = KiB(args.memory);
        changed.current_memory = changed.current_memory.map(|current| KiB(current.0.min(args.memory)));
        return replace(driver, &guest, changed);
    }
    if args.memory > domain.memory.as_ref().map_or(0, GuestMemory::kib) {
        return Err(QEMU.invalid_arg("cannot set memory higher than max memory"));
    }
    if let (true, Some(live)) = (to_live, live) {
        live.monitor.execute(&Balloon { value: args.memory * 1024 }).await.map_err(monitor)?;
    }
    if args.flags & CONFIG != 0 || !to_live {
        let stored = guest.lock().next().ok_or_else(not_running)?;
        let mut changed = (*stored).clone();
        changed.current_memory = Some(KiB(args.memory));
        replace(driver, &guest, changed)?;
    }
    Ok(())
}

/// `VIR_DOMAIN_MEMORY_STAT_…`
const ACTUAL_BALLOON: i32 = 6;
const RSS: i32 = 7;
const LAST_UPDATE: i32 = 9;

pub(crate) async fn stats(driver: &Qemu, args: DomainMemoryStatsArgs) -> Result<DomainMemoryStatsRet> {
    check_flags(args.flags, 0, "qemuDomainMemoryStats")?;
    let live = driver.guest(&args.dom)?.live()?;
    let mut stats = Vec::new();
    let has_balloon = live.domain.devices.memballoon.is_some();
    let actual = match live.monitor.execute(&QueryBalloon {}).await {
        Ok(balloon) if has_balloon => Some(balloon.actual / 1024),
        _ => live.domain.current_memory.map(|memory| memory.0),
    };
    stats.extend(actual.map(|val| DomainMemoryStat { tag: ACTUAL_BALLOON, val }));
    stats.push(DomainMemoryStat { tag: LAST_UPDATE, val: 0 });
    stats.extend(resident(live.process.pid()).map(|val| DomainMemoryStat { tag: RSS, val }));
    stats.truncate(args.max_stats as usize);
    Ok(DomainMemoryStatsRet { stats })
}
