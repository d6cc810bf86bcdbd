//! What is asked of the host's resources: processors, caches, memory.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::domain::Domain;
use crate::domain::tune::{Cputune, NumaMode, Placement, Scheduler};
use crate::table::Cpuset;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows as it is read.
pub(super) fn read(domain: &Domain) -> Result<(), VirtError> {
    let mut seen = BTreeSet::new();
    for thread in domain.iothreadids.iter().flat_map(|ids| &ids.iothread) {
        refuse! {
            !seen.insert(thread.id) => DOMAIN.xml_error("duplicate iothread id '{}' found", thread.id.get());
        }
        pool("iothread", thread.thread_pool_min, thread.thread_pool_max)?;
    }
    if let Some(threads) = &domain.defaultiothread {
        pool("defaultiothread", threads.thread_pool_min, threads.thread_pool_max)?;
    }
    let mut seen = BTreeSet::new();
    for pin in domain.cputune.iter().flat_map(|tune| &tune.iothreadpin) {
        refuse! {
            !seen.insert(pin.iothread) => DOMAIN.internal_error(
                "duplicate iothreadpin for same iothread '{}'", pin.iothread);
        }
    }
    schedulers(domain)?;
    weights(domain)?;
    nodes(domain)
}

/// A processor or thread has one scheduler, and one of those that are in real time has a priority.
fn schedulers(domain: &Domain) -> Result<(), VirtError> {
    let Some(tune) = &domain.cputune else { return Ok(()) };
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let of_vcpus =
        tune.vcpusched.iter().map(|it| ("vcpusched", "vcpus", Some(&it.vcpus), it.scheduler, it.priority));
    let of_threads = tune
        .iothreadsched
        .iter()
        .map(|it| ("iothreadsched", "iothreads", Some(&it.iothreads), it.scheduler, it.priority));
    let of_emulator =
        tune.emulatorsched.iter().map(|it| ("emulatorsched", "", None, it.scheduler, it.priority));
    let mut taken: BTreeSet<(&str, u32)> = BTreeSet::new();
    for (element, name, set, scheduler, priority) in of_vcpus.chain(of_threads).chain(of_emulator) {
        let real = matches!(scheduler, Scheduler::Fifo | Scheduler::Rr);
        let members = set.and_then(Option::as_ref).map(|set| set.iter().collect::<Vec<u32>>());
        refuse! {
            set.is_some() && members.is_none() =>
                DOMAIN.xml_error("Missing attribute '{name}' in element '{element}'");
            real && priority.is_none() =>
                XML.xml_error("Missing required attribute 'priority' in element '{element}'");
        }
        for member in members.into_iter().flatten() {
            refuse! {
                !taken.insert((element, member)) =>
                    DOMAIN.xml_detail("'{element}' attributes '{name}' must not overlap");
                element == "vcpusched" && member >= vcpus => DOMAIN.config_unsupported(
                    "vCPU '{member}' is not present in domain definition");
            }
        }
    }
    let threads: BTreeSet<u32> = domain.all_iothreads().iter().map(|thread| thread.id.get()).collect();
    let lost = tune.iothreadpin.iter().map(|pin| pin.iothread).find(|id| !threads.contains(id));
    refuse! {
        lost.is_some() => DOMAIN.config_unsupported("Cannot find 'iothread' : {}", lost.unwrap_or_default());
        tune.cachetune.iter().any(|tune| tune.vcpus.is_none()) =>
            DOMAIN.xml_error("Missing cachetune attribute 'vcpus'");
        tune.memorytune.iter().any(|tune| tune.vcpus.is_none()) =>
            DOMAIN.xml_error("Missing memorytune attribute 'vcpus'");
    }
    Ok(())
}

/// A device of the host has one weight.
fn weights(domain: &Domain) -> Result<(), VirtError> {
    let mut seen = BTreeSet::new();
    for device in domain.blkiotune.iter().flat_map(|tune| &tune.device) {
        let path = &device.path;
        refuse! {
            path.is_empty() => DOMAIN.config_unsupported("missing per-device path");
            !seen.insert(path) => DOMAIN.config_unsupported("duplicate blkio device path '{path}'");
        }
    }
    Ok(())
}

/// How many workers a thread has at least and at most.
fn pool(element: &str, least: Option<i32>, most: Option<i32>) -> Result<(), VirtError> {
    let said = [("thread_pool_min", least), ("thread_pool_max", most)];
    let negative = said.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| *value < 0)?)));
    let (name, value) = negative.unwrap_or_default();
    refuse! {
        negative.is_some() => XML.xml_error(
            "Invalid value for attribute '{name}' in element '{element}': '{value}'. Expected non-negative value");
        most == Some(0) => DOMAIN.config_unsupported("thread_pool_max must be a positive integer");
        least > most => DOMAIN.config_unsupported("thread_pool_min must be smaller or equal to thread_pool_max");
    }
    Ok(())
}

/// Where memory is, as a whole and by node.
fn nodes(domain: &Domain) -> Result<(), VirtError> {
    let Some(tune) = &domain.numatune else { return Ok(()) };
    let placed = domain.vcpu.as_ref().is_some_and(|vcpu| vcpu.placement == Some(Placement::Auto));
    let memory = tune.memory.as_ref();
    let automatic = memory.is_some_and(|memory| memory.placement == Some(Placement::Auto));
    let nowhere = memory.is_some_and(|memory| {
        memory.nodeset.is_none() && !automatic && (!placed || memory.placement == Some(Placement::Static))
    });
    let restrictive = memory.is_some_and(|memory| memory.mode == Some(NumaMode::Restrictive));
    refuse! {
        nowhere => DOMAIN.config_unsupported(
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'");
        tune.memnode.iter().any(|node| node.nodeset.is_none()) =>
            DOMAIN.xml_error("Missing required nodeset attribute in memnode element");
        automatic && !tune.memnode.is_empty() => DOMAIN.config_unsupported(
            "Per-node binding is not compatible with automatic NUMA placement.");
        restrictive && tune.memnode.iter().any(|node| node.mode != Some(NumaMode::Restrictive)) => DOMAIN.xml_error(
            "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element");
    }
    Ok(())
}

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    domain.cputune.iter().try_for_each(limits)?;
    shares_of_caches(domain)
}

/// Microseconds that the scheduler takes as a period, and as what may be used of one.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const QUOTAS: std::ops::RangeInclusive<u64> = 1_000..=17_592_186_044_415;

/// Periods and quotas; what is below 0 is no limit.
fn limits(tune: &Cputune) -> Result<(), VirtError> {
    let quota = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let said = [
        ("period", tune.period, PERIODS),
        ("global_period", tune.global_period, PERIODS),
        ("emulator_period", tune.emulator_period, PERIODS),
        ("iothread_period", tune.iothread_period, PERIODS),
        ("quota", quota(tune.quota), QUOTAS),
        ("global_quota", quota(tune.global_quota), QUOTAS),
        ("emulator_quota", quota(tune.emulator_quota), QUOTAS),
        ("iothread_quota", quota(tune.iothread_quota), QUOTAS),
    ];
    for (name, value, range) in said {
        refuse! {
            value.is_some_and(|value| value != 0 && !range.contains(&value)) => DOMAIN.config_unsupported(
                "Value of cputune '{name}' must be in range [{}, {}]", range.start(), range.end());
        }
    }
    Ok(())
}

/// Processors that share a part of a cache, or of memory's bandwidth, share nothing with others.
fn shares_of_caches(domain: &Domain) -> Result<(), VirtError> {
    let Some(tune) = &domain.cputune else { return Ok(()) };
    let caches: Vec<&Cpuset> = tune.cachetune.iter().filter_map(|tune| tune.vcpus.as_ref()).collect();
    let memories: Vec<&Cpuset> = tune.memorytune.iter().filter_map(|tune| tune.vcpus.as_ref()).collect();
    let members = |set: &Cpuset| set.iter().collect::<BTreeSet<u32>>();
    let overlap = |a: &Cpuset, b: &Cpuset| !members(a).is_disjoint(&members(b));
    for (n, set) in caches.iter().enumerate() {
        refuse! {
            caches[..n].contains(set) => DOMAIN.xml_error("Identical vcpus in cachetunes found");
            caches[..n].iter().any(|other| overlap(other, set)) => DOMAIN.xml_error("Overlapping vcpus in resctrls");
        }
    }
    for (n, set) in memories.iter().enumerate() {
        refuse! {
            memories[..n].contains(set) => DOMAIN.xml_error("Identical vcpus in memorytunes found");
            memories[..n].iter().chain(&caches).any(|other| other != set && overlap(other, set)) =>
                DOMAIN.xml_error("Overlapping vcpus in resctrls");
        }
    }
    Ok(())
}
