//! Processors, nodes and memory modules: who runs where.

use std::collections::BTreeSet;

use crate::domain::device::{Address, DimmAddress};
use crate::domain::features::{Cpu, CpuNuma, Distances, NumaCell, Sibling};
use crate::domain::misc::MemoryModel;
use crate::domain::tune::{IothreadIds, NumaMemory, NumaMode, Numatune, Placement, VcpuSched};
use crate::domain::{Domain, GuestMemory};
use crate::table::Cpuset;

/// Distance of a node to itself, and to another of which nothing is said.
const LOCAL: u32 = 10;
const REMOTE: u32 = 20;

/// What all drivers do.
pub(super) fn complete(domain: &mut Domain) {
    placement(domain);
    schedulers(domain);
    threads(domain);
    if let Some(numa) = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()) {
        distances(&mut numa.cell);
        for cache in numa.cell.iter_mut().flat_map(|cell| &mut cell.cache) {
            // Sizes are what they are in these units, whatever is said.
            cache.size.iter_mut().for_each(|size| size.unit = Some("KiB".to_owned()));
            cache.line.iter_mut().for_each(|line| line.unit = Some("B".to_owned()));
        }
        for width in numa.interconnects.iter_mut().flat_map(|links| &mut links.bandwidth) {
            let unit = crate::table::unit(width.unit.as_deref(), 1024).unwrap_or(1024);
            (width.value, width.unit) =
                (width.value.saturating_mul(unit).div_ceil(1024), Some("KiB".to_owned()));
        }
    }
}

/// What the QEMU driver does.
pub(super) fn complete_qemu(domain: &mut Domain) {
    let vcpus = domain.vcpu.as_ref().map_or(1, |v| v.count);
    let slots = domain.max_memory.as_ref().and_then(|m| m.slots).unwrap_or(0);
    let modules = domain.devices.memories.iter().filter_map(|module| module.target.as_ref()?.size);
    let plugged = modules.map(|size| size.0).fold(0, u64::saturating_add);
    let numa = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut());
    match numa {
        Some(numa) => all_processors(&mut numa.cell, vcpus),
        // Memory is plugged into a node.
        None if domain.max_memory.is_some() => {
            let last = vcpus.saturating_sub(1);
            let cell = NumaCell {
                id: Some(0),
                cpus: Some(Cpuset(vec![(0, last)])),
                memory: domain.memory.as_ref().map_or(0, GuestMemory::kib).saturating_sub(plugged),
                unit: Some("KiB".to_owned()),
                ..NumaCell::default()
            };
            let cpu = domain.cpu.get_or_insert_with(Cpu::default);
            cpu.numa = Some(CpuNuma { cell: vec![cell], ..CpuNuma::default() });
        }
        None => {}
    }
    let dimm = |model| matches!(model, MemoryModel::Dimm | MemoryModel::Nvdimm);
    let modules = &mut domain.devices.memories;
    let mut taken: BTreeSet<u32> = modules
        .iter()
        .filter_map(|m| match &m.info.address {
            Some(Address::Dimm(address)) => Some(address.slot),
            _ => None,
        })
        .collect();
    for module in modules.iter_mut().filter(|m| dimm(m.model) && m.info.address.is_none()) {
        if let Some(slot) = (0..slots).find(|slot| !taken.contains(slot)) {
            taken.insert(slot);
            module.info.address = Some(Address::Dimm(DimmAddress { slot, base: None }));
        }
    }
}

/// Threads are counted; where some are named, all are.
fn threads(domain: &mut Domain) {
    let Some(ids) = domain.iothreadids.as_ref().filter(|ids| !ids.iothread.is_empty()) else { return };
    let named = u32::try_from(ids.iothread.len()).unwrap_or(u32::MAX);
    domain.iothreads = Some(domain.iothreads.unwrap_or(0).max(named));
    domain.iothreadids = Some(IothreadIds { iothread: domain.all_iothreads() });
}

/// Who places processors places memory.
fn placement(domain: &mut Domain) {
    let pinned = domain.cputune.as_ref().is_some_and(|tune| {
        !tune.vcpupin.is_empty() || tune.emulatorpin.is_some() || !tune.iothreadpin.is_empty()
    });
    let Some(vcpu) = &mut domain.vcpu else { return };
    let memory = domain.numatune.as_ref().and_then(|n| n.memory.as_ref());
    let automatic = memory.is_some_and(|m| m.placement == Some(Placement::Auto));
    if automatic && vcpu.cpuset.is_none() && !pinned {
        vcpu.placement = Some(Placement::Auto);
    }
    if *vcpu.placement.get_or_insert(Placement::Static) == Placement::Static {
        return;
    }
    vcpu.cpuset = None;
    let tune = domain.numatune.get_or_insert_with(Numatune::default);
    let strict = || NumaMemory { mode: Some(NumaMode::Strict), ..NumaMemory::default() };
    let memory = tune.memory.get_or_insert_with(strict);
    if memory.nodeset.is_none() {
        memory.placement.get_or_insert(Placement::Auto);
    }
}

/// Schedulers are kept for each processor and I/O thread alone.
fn schedulers(domain: &mut Domain) {
    let Some(tune) = &mut domain.cputune else { return };
    let single = |n| Some(Cpuset(vec![(n, n)]));
    let mut vcpus: Vec<VcpuSched> = Vec::new();
    for sched in std::mem::take(&mut tune.vcpusched) {
        let each = sched.vcpus.iter().flat_map(Cpuset::iter);
        vcpus.extend(each.map(|n| VcpuSched { vcpus: single(n), ..sched.clone() }));
    }
    vcpus.sort_by_key(|sched| sched.vcpus.as_ref().map(|set| set.0.clone()));
    tune.vcpusched = vcpus;
    let mut threads = Vec::new();
    for sched in std::mem::take(&mut tune.iothreadsched) {
        let each = sched.iothreads.iter().flat_map(Cpuset::iter);
        threads.extend(
            each.map(|n| crate::domain::tune::IothreadSched { iothreads: single(n), ..sched.clone() }),
        );
    }
    threads.sort_by_key(|sched| sched.iothreads.as_ref().map(|set| set.0.clone()));
    tune.iothreadsched = threads;
}

/// Node 0 gets the processors that no node names.
fn all_processors(cells: &mut [NumaCell], vcpus: u32) {
    let named: BTreeSet<u32> = cells.iter().filter_map(|c| c.cpus.as_ref()).flat_map(Cpuset::iter).collect();
    let Some(first) = cells.first_mut() else { return };
    let mut all: BTreeSet<u32> = first.cpus.iter().flat_map(Cpuset::iter).collect();
    all.extend((0..vcpus.min(1024)).filter(|n| !named.contains(n)));
    let list: Vec<String> = all.iter().map(u32::to_string).collect();
    first.cpus = Cpuset::parse_text(&list.join(",")).or(first.cpus.take());
}

/// A distance said once holds both ways; all are shown if any is said.
fn distances(cells: &mut [NumaCell]) {
    // More nodes than this have no distances in any machine.
    const MOST_NODES: usize = 256;
    if cells.len() > MOST_NODES || cells.iter().all(|cell| cell.distances.is_none()) {
        return;
    }
    let said = |from: &NumaCell, to: u32| {
        let siblings = from.distances.iter().flat_map(|d| &d.sibling);
        siblings.filter(|s| s.id == to).map(|s| s.value).next_back()
    };
    let known = |id| cells.iter().any(|cell| cell.id == Some(id));
    let siblings = cells.iter().filter_map(|cell| cell.distances.as_ref()).flat_map(|d| &d.sibling);
    if siblings.clone().any(|sibling| !known(sibling.id)) {
        return;
    }
    let mut tables = Vec::new();
    for (n, from) in (0..).zip(cells.iter()) {
        let id = from.id.unwrap_or(n);
        let mut sibling = Vec::new();
        for (m, to) in (0..).zip(cells.iter()) {
            let other = to.id.unwrap_or(m);
            let default = if id == other { LOCAL } else { REMOTE };
            let value = said(from, other).or_else(|| said(to, id)).unwrap_or(default);
            sibling.push(Sibling { id: other, value });
        }
        tables.push(Distances { sibling });
    }
    for (cell, table) in cells.iter_mut().zip(tables) {
        cell.distances = Some(table);
    }
}
