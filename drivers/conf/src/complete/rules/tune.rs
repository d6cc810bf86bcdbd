//! What is asked of the host's resources: processors, caches, memory.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::Result;
use crate::domain::tune::{Cputune, NumaMemory, NumaMode, Placement, Scheduler};
use crate::domain::{Domain, VirtType};
use crate::table::Cpuset;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// Threads have numbers of their own.
pub(super) fn threads(domain: &Domain) -> Result {
    let mut seen = BTreeSet::new();
    for thread in domain.iothreadids.iter().flat_map(|ids| &ids.iothread) {
        refuse! {
            !seen.insert(thread.id) => DOMAIN.xml_error("duplicate iothread id '{}' found", thread.id.get());
        }
        counted("iothread", thread.thread_pool_min, thread.thread_pool_max)?;
    }
    Ok(())
}

/// Workers of the main loop are counted.
pub(super) fn default_pool(domain: &Domain) -> Result {
    let Some(threads) = &domain.defaultiothread else { return Ok(()) };
    counted("defaultiothread", threads.thread_pool_min, threads.thread_pool_max)
}

/// Each processor is pinned once.
pub(super) fn vcpu_pins(domain: &Domain) -> Result {
    let mut seen = BTreeSet::new();
    for pin in domain.cputune.iter().flat_map(|tune| &tune.vcpupin) {
        refuse! {
            pin.cpuset.is_none() => DOMAIN.internal_error("missing cpuset for vcpupin");
            !seen.insert(pin.vcpu) => DOMAIN.internal_error("duplicate vcpupin for vcpu '{}'", pin.vcpu);
        }
    }
    Ok(())
}

/// Whoever pins QEMU says where to.
pub(super) fn emulator_pin(domain: &Domain) -> Result {
    let pin = domain.cputune.as_ref().and_then(|tune| tune.emulatorpin.as_ref());
    refuse! {
        pin.is_some_and(|pin| pin.cpuset.is_none()) => DOMAIN.internal_error("missing cpuset for emulatorpin");
    }
    Ok(())
}

/// Each thread that there is is pinned once.
pub(super) fn thread_pins(domain: &Domain) -> Result {
    let known = numbers(domain);
    let mut seen = BTreeSet::new();
    for pin in domain.cputune.iter().flat_map(|tune| &tune.iothreadpin) {
        refuse! {
            !known.contains(&pin.iothread) =>
                DOMAIN.config_unsupported("Cannot find 'iothread' : {}", pin.iothread);
            pin.cpuset.is_none() => DOMAIN.internal_error("missing cpuset for iothreadpin");
            !seen.insert(pin.iothread) => DOMAIN.internal_error(
                "duplicate iothreadpin for same iothread '{}'", pin.iothread);
        }
    }
    Ok(())
}

fn numbers(domain: &Domain) -> BTreeSet<u32> {
    domain.all_iothreads().iter().map(|thread| thread.id.get()).collect()
}

/// Each processor has one scheduler.
pub(super) fn vcpu_schedulers(domain: &Domain) -> Result {
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let mut taken = BTreeSet::new();
    for it in domain.cputune.iter().flat_map(|tune| &tune.vcpusched) {
        let set = scheduled("vcpusched", "vcpus", it.vcpus.as_ref(), it.scheduler, it.priority)?;
        for member in set.iter() {
            refuse! {
                member >= vcpus =>
                    DOMAIN.config_unsupported("vCPU '{member}' is not present in domain definition");
                !taken.insert(member) => DOMAIN.xml_detail("'vcpusched' attributes 'vcpus' must not overlap");
            }
        }
    }
    Ok(())
}

/// Each thread has one scheduler.
pub(super) fn thread_schedulers(domain: &Domain) -> Result {
    let known = numbers(domain);
    let mut taken = BTreeSet::new();
    for it in domain.cputune.iter().flat_map(|tune| &tune.iothreadsched) {
        let set = scheduled("iothreadsched", "iothreads", it.iothreads.as_ref(), it.scheduler, it.priority)?;
        for member in set.iter() {
            refuse! {
                !known.contains(&member) => DOMAIN.config_unsupported("Cannot find 'iothread' : {member}");
                !taken.insert(member) =>
                    DOMAIN.xml_detail("'iothreadsched' attributes 'iothreads' must not overlap");
            }
        }
    }
    Ok(())
}

/// QEMU has a priority where its scheduler knows one.
pub(super) fn emulator_scheduler(domain: &Domain) -> Result {
    let Some(it) = domain.cputune.as_ref().and_then(|tune| tune.emulatorsched.as_ref()) else {
        return Ok(());
    };
    prioritized("emulatorsched", it.scheduler, it.priority)
}

/// Whose scheduler it is; one in real time has a priority.
fn scheduled<'d>(
    element: &str,
    name: &str,
    members: Option<&'d Cpuset>,
    scheduler: Scheduler,
    priority: Option<i32>,
) -> Result<&'d Cpuset> {
    let missing = || DOMAIN.xml_error(format_args!("Missing attribute '{name}' in element '{element}'"));
    let members = members.ok_or_else(missing)?;
    prioritized(element, scheduler, priority)?;
    Ok(members)
}

fn prioritized(element: &str, scheduler: Scheduler, priority: Option<i32>) -> Result {
    refuse! {
        matches!(scheduler, Scheduler::Fifo | Scheduler::Rr) && priority.is_none() =>
            XML.xml_error("Missing required attribute 'priority' in element '{element}'");
    }
    Ok(())
}

/// A weight is one of a device of the host.
pub(super) fn weights(domain: &Domain) -> Result {
    let mut devices = domain.blkiotune.iter().flat_map(|tune| &tune.device);
    refuse! {
        devices.any(|device| device.path.is_empty()) => DOMAIN.config_unsupported("missing per-device path");
    }
    Ok(())
}

/// A device of the host has one weight.
pub(super) fn check_weights(domain: &Domain) -> Result {
    let mut seen = BTreeSet::new();
    for device in domain.blkiotune.iter().flat_map(|tune| &tune.device) {
        let path = &device.path;
        refuse! {
            !seen.insert(path) => DOMAIN.config_unsupported("duplicate blkio device path '{path}'");
        }
    }
    Ok(())
}

/// Workers cannot be less than none.
fn counted(element: &str, least: Option<i32>, most: Option<i32>) -> Result {
    let said = [("thread_pool_min", least), ("thread_pool_max", most)];
    let negative = said.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| *value < 0)?)));
    let (name, value) = negative.unwrap_or_default();
    refuse! {
        negative.is_some() => XML.xml_error(
            "Invalid value for attribute '{name}' in element '{element}': '{value}'. Expected non-negative value");
    }
    Ok(())
}

/// How many workers threads have at least and at most.
pub(super) fn check_pools(domain: &Domain) -> Result {
    let named = domain.iothreadids.iter().flat_map(|ids| &ids.iothread);
    let named = named.map(|thread| (thread.thread_pool_min, thread.thread_pool_max));
    let usual = domain.defaultiothread.iter().map(|it| (it.thread_pool_min, it.thread_pool_max));
    for (least, most) in named.chain(usual) {
        refuse! {
            most == Some(0) => DOMAIN.config_unsupported("thread_pool_max must be a positive integer");
            least > most =>
                DOMAIN.config_unsupported("thread_pool_min must be smaller or equal to thread_pool_max");
        }
    }
    Ok(())
}

/// Where memory is, as a whole and by node.
pub(super) fn nodes(domain: &Domain) -> Result {
    let Some(tune) = &domain.numatune else { return Ok(()) };
    let placed = domain.vcpu.as_ref().is_some_and(|vcpu| vcpu.placement == Some(Placement::Auto));
    let said = |memory: &&NumaMemory| **memory != NumaMemory::default();
    let memory = tune.memory.as_ref().filter(said);
    let automatic = memory.is_some_and(|memory| memory.placement == Some(Placement::Auto));
    let nowhere = memory.is_some_and(|memory| {
        memory.nodeset.is_none() && !automatic && (!placed || memory.placement == Some(Placement::Static))
    });
    let cells = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    let restrictive = memory.is_some_and(|memory| memory.mode == Some(NumaMode::Restrictive));
    refuse! {
        nowhere => DOMAIN.config_unsupported(
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'");
        automatic && !tune.memnode.is_empty() => DOMAIN.config_unsupported(
            "Per-node binding is not compatible with automatic NUMA placement.");
        cells == 0 && !tune.memnode.is_empty() =>
            DOMAIN.xml_error("Element 'memnode' is invalid without any guest NUMA cells");
    }
    let mut seen = BTreeSet::new();
    for node in &tune.memnode {
        refuse! {
            node.cellid as usize >= cells => DOMAIN.xml_error(
                "Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell");
            !seen.insert(node.cellid) => DOMAIN.xml_error("Multiple memnode elements with cellid {}", node.cellid);
            restrictive && node.mode != Some(NumaMode::Restrictive) => DOMAIN.xml_error(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element");
            node.nodeset.is_none() => DOMAIN.xml_error("Missing required nodeset attribute in memnode element");
        }
    }
    Ok(())
}

/// A node is restricted where all memory is.
pub(super) fn check_nodes(domain: &Domain) -> Result {
    let Some(tune) = &domain.numatune else { return Ok(()) };
    let restrictive = |mode: Option<NumaMode>| mode == Some(NumaMode::Restrictive);
    let memory = tune.memory.as_ref().and_then(|memory| memory.mode);
    refuse! {
        tune.memnode.iter().any(|node| restrictive(node.mode)) && !restrictive(memory) => DOMAIN.xml_error(
            "'restrictive' mode is required in memory element when mode is 'restrictive' in memnode element");
    }
    Ok(())
}

/// How much a guest may use, in time.
pub(super) fn check(domain: &Domain) -> Result {
    domain.cputune.iter().try_for_each(limits)
}

/// Microseconds that the scheduler takes as a period, and as what may be used of one.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const QUOTAS: std::ops::RangeInclusive<u64> = 1_000..=17_592_186_044_415;

/// Periods and quotas; what is below 0 is no limit.
fn limits(tune: &Cputune) -> Result {
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

/// What QEMU could not do.
pub(super) fn check_qemu(domain: &Domain) -> Result {
    let shared = domain.cputune.as_ref().is_some_and(|c| !c.cachetune.is_empty() || !c.memorytune.is_empty());
    refuse! {
        shared && domain.type_ != VirtType::Kvm =>
            QEMU.config_unsupported("cachetune is only supported for KVM domains");
    }
    Ok(())
}
