//! A guest's memory: how much, and the balloon in it.

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::misc::{BalloonStats, MemballoonModel};
use virtwire_conf::table::KiB;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Balloon, QomGet, QomSet, QueryBalloon};
use virtwire_qmp::{Monitor, QmpError};

use crate::affect::{Affected, CONFIG, LIVE, edit_live, store};
use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::guest::Live;
use crate::info::one_definition;
use crate::stats::resident;

/// `VIR_DOMAIN_MEM_MAXIMUM`
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

/// How often a balloon reports, in seconds; 0 is never.
pub(crate) async fn set_stats_period(driver: &Qemu, args: DomainSetMemoryStatsPeriodArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetMemoryStatsPeriod")?;
    let period = u32::try_from(args.period).unwrap_or_default();
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let set = |domain: &mut Domain| match &mut domain.devices.memballoon {
        Some(balloon) if balloon.model != MemballoonModel::None => {
            balloon.stats = (period > 0).then_some(BalloonStats { period });
            Ok(())
        }
        _ => Err(QEMU.operation_invalid("Memory balloon model must be virtio to set the collection period")),
    };
    if let Some(live) = live {
        set(&mut Domain::clone(&live.domain))?;
        poll(&live.domain, &live.monitor, period).await.map_err(monitor)?;
        edit_live(driver, &guest, |domain| set(domain).unwrap_or_default());
    }
    store(driver, &guest, stored, set)
}

/// Where QEMU has a guest's balloon.
fn balloon_path(domain: &Domain) -> Option<String> {
    let balloon = domain.devices.memballoon.as_ref()?;
    Some(format!("/machine/peripheral/{}", balloon.info.alias.as_ref()?.name))
}

/// Has QEMU ask a guest's balloon every so many seconds.
pub(crate) async fn poll(domain: &Domain, qemu: &Monitor, period: u32) -> std::result::Result<(), QmpError> {
    let Some(path) = balloon_path(domain) else { return Ok(()) };
    let property = "guest-stats-polling-interval".to_owned();
    qemu.execute(&QomSet { path, property, value: period.into() }).await?;
    Ok(())
}

/// `VIR_DOMAIN_MEMORY_STAT_…`
const ACTUAL_BALLOON: i32 = 6;
const RSS: i32 = 7;

/// What a balloon reports: QEMU's names, libvirt's in stats and its numbers, and bytes of QEMU's in one of libvirt's.
const REPORTED: [(&str, &str, i32, u64); 11] = [
    ("stat-swap-in", "swap_in", 0, 1024),
    ("stat-swap-out", "swap_out", 1, 1024),
    ("stat-major-faults", "major_fault", 2, 1),
    ("stat-minor-faults", "minor_fault", 3, 1),
    ("stat-free-memory", "unused", 4, 1024),
    ("stat-total-memory", "available", 5, 1024),
    ("stat-available-memory", "usable", 8, 1024),
    ("last-update", "last-update", 9, 1),
    ("stat-disk-caches", "disk_caches", 10, 1024),
    ("stat-htlb-pgalloc", "hugetlb_pgalloc", 11, 1),
    ("stat-htlb-pgfail", "hugetlb_pgfail", 12, 1),
];

/// What the balloon of a running guest has reported: libvirt's name, its number, and the value.
pub(crate) async fn reported(live: &Live) -> Vec<(&'static str, i32, u64)> {
    let Some(path) = balloon_path(&live.domain) else { return Vec::new() };
    let property = "guest-stats".to_owned();
    let Ok(said) = live.monitor.execute(&QomGet { path, property }).await else { return Vec::new() };
    let value = |name: &str| match name {
        "last-update" => said[name].as_u64(),
        // What a guest does not tell is -1.
        name => said["stats"][name].as_u64().filter(|value| *value != u64::MAX),
    };
    let all =
        REPORTED.iter().filter_map(|(of_qemu, name, tag, unit)| Some((*name, *tag, value(of_qemu)? / unit)));
    all.collect()
}

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
    stats.extend(reported(&live).await.into_iter().map(|(_, tag, val)| DomainMemoryStat { tag, val }));
    stats.extend(resident(live.process.pid()).map(|val| DomainMemoryStat { tag: RSS, val }));
    stats.truncate(args.max_stats as usize);
    Ok(DomainMemoryStatsRet { stats })
}
