//! How much memory a guest has.

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::misc::{BalloonStats, MemballoonModel};
use virtwire_conf::table::KiB;
use virtwire_protocol::remote as wire;

use super::guest::affect;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// `VIR_DOMAIN_MEM_MAXIMUM`
const MAXIMUM: u32 = 4;

/// What the guest has now, in KiB.
pub(super) fn current(domain: &Domain) -> u64 {
    domain.current_memory.or(domain.memory.as_ref().map(|all| all.size)).unwrap_or_default().0
}

pub(crate) fn max(
    host: &mut Host,
    args: wire::DomainGetMaxMemoryArgs,
) -> Result<wire::DomainGetMaxMemoryRet> {
    let domain = host.guest(&args.dom)?.definition().domain();
    Ok(wire::DomainGetMaxMemoryRet { memory: domain.memory.as_ref().map_or(0, GuestMemory::kib) })
}

pub(crate) fn set(host: &mut Host, args: wire::DomainSetMemoryArgs) -> Result<()> {
    let flags = affect::LIVE;
    set_flags(host, wire::DomainSetMemoryFlagsArgs { dom: args.dom, memory: args.memory, flags })
}

pub(crate) fn set_max(host: &mut Host, args: wire::DomainSetMaxMemoryArgs) -> Result<()> {
    set_flags(host, wire::DomainSetMemoryFlagsArgs { dom: args.dom, memory: args.memory, flags: MAXIMUM })
}

pub(crate) fn set_flags(host: &mut Host, args: wire::DomainSetMemoryFlagsArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE | affect::CONFIG | MAXIMUM, "testDomainSetMemoryFlags")?;
    let guest = host.guest_mut(&args.dom)?;
    let running = guest.is_running();
    let definition = guest.one_definition_mut(args.flags)?;
    let size = KiB(args.memory);
    if args.flags & MAXIMUM != 0 {
        if running && args.flags & affect::CONFIG == 0 {
            return Err(TEST.operation_invalid("cannot resize the maximum memory on an active domain"));
        }
        let domain = definition.edit();
        domain.current_memory = Some(KiB(current(domain).min(size.0)));
        domain.memory.get_or_insert_default().size = size;
    } else {
        if size.0 > definition.domain().memory.as_ref().map_or(0, GuestMemory::kib) {
            return Err(TEST.invalid_arg("cannot set memory higher than max memory"));
        }
        definition.edit().current_memory = Some(size);
    }
    Ok(())
}

/// `virDomainMemoryStatTags`, and which share of the guest's memory each one shows; 0 shows none of it.
const SHARES: [(i32, u64); 11] =
    [(6, 1), (0, 0), (1, 0), (2, 0), (3, 0), (4, 2), (5, 1), (8, 2), (9, 0), (10, 8), (11, 0)];
const HUGETLB_PGFAIL: (i32, u64) = (12, 0);
const RSS: (i32, u64) = (7, 2);
/// When the balloon last reported, in seconds since 1970.
const LAST_UPDATE: (i32, u64) = (9, 627_319_920);

pub(crate) fn stats(
    host: &mut Host,
    args: wire::DomainMemoryStatsArgs,
) -> Result<wire::DomainMemoryStatsRet> {
    check_flags(args.flags, 0, "testDomainMemoryStats")?;
    if args.max_stats == 0 {
        return Ok(wire::DomainMemoryStatsRet::default());
    }
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    let domain = guest.definition().domain();
    let balloon = domain.devices.memballoon.as_ref().is_some_and(|b| b.model == MemballoonModel::Virtio);
    if !balloon {
        return Ok(wire::DomainMemoryStatsRet::default());
    }
    let size = current(domain);
    let rows = SHARES.into_iter().chain([HUGETLB_PGFAIL, RSS]).map(|(tag, share)| {
        let val = if tag == LAST_UPDATE.0 { LAST_UPDATE.1 } else { size.checked_div(share).unwrap_or(0) };
        wire::DomainMemoryStat { tag, val }
    });
    Ok(wire::DomainMemoryStatsRet { stats: rows.take(args.max_stats as usize).collect() })
}

pub(crate) fn set_stats_period(host: &mut Host, args: wire::DomainSetMemoryStatsPeriodArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE | affect::CONFIG, "testDomainSetMemoryStatsPeriod")?;
    host.guest_mut(&args.dom)?.change_one(args.flags, |domain| match &mut domain.devices.memballoon {
        Some(balloon) if balloon.model == MemballoonModel::Virtio => {
            balloon.stats = (args.period > 0).then_some(BalloonStats { period: args.period as u32 });
            Ok(())
        }
        _ => {
            Err(TEST.internal_error("No memory balloon device configured, can not set the collection period"))
        }
    })
}

/// Every byte of guest memory is its own address.
pub(crate) fn peek(host: &mut Host, args: wire::DomainMemoryPeekArgs) -> Result<wire::DomainMemoryPeekRet> {
    const VIRTUAL_OR_PHYSICAL: u32 = 1 | 2;
    check_flags(args.flags, VIRTUAL_OR_PHYSICAL, "testDomainMemoryPeek")?;
    if args.flags & VIRTUAL_OR_PHYSICAL == 0 {
        return Err(TEST.invalid_arg("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL"));
    }
    host.guest(&args.dom)?.check_running()?;
    if args.size > wire::REMOTE_DOMAIN_MEMORY_PEEK_BUFFER_MAX {
        return Err(TEST.invalid_arg("size of memory to peek is too large"));
    }
    let buffer = (0..u64::from(args.size)).map(|n| args.offset.wrapping_add(n) as u8).collect();
    Ok(wire::DomainMemoryPeekRet { buffer })
}
