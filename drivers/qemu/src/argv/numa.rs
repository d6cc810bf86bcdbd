//! The guest's memory nodes, and how far they are from one another.

use virtwire_conf::Domain;
use virtwire_conf::domain::features::{CacheSize, CpuNuma, Interconnect, NumaCell};
use virtwire_conf::domain::tune::{AllocationMode, Placement};
use virtwire_conf::table::Cpuset;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::Context;
use super::memory::{self, Piece};
use crate::command::{CommandLine, Options};

/// How QEMU calls caches by their level, memory first.
const HIERARCHY: [&str; 4] = ["memory", "first-level", "second-level", "third-level"];

/// The guest's nodes, if it has any.
pub(super) fn cells(domain: &Domain) -> Option<&[NumaCell]> {
    let numa = domain.cpu.as_ref()?.numa.as_ref()?;
    (!numa.cell.is_empty()).then_some(&numa.cell)
}

/// Refuses a guest that another program would have to find a place for.
///
/// # Errors
/// libvirt's, where that program has not been asked.
pub(super) fn placed(domain: &Domain) -> Result<(), VirtError> {
    let vcpus = domain.vcpu.as_ref().and_then(|vcpu| vcpu.placement);
    let memory = domain.numatune.as_ref().and_then(|tune| tune.memory.as_ref()).and_then(|m| m.placement);
    if [vcpus, memory].contains(&Some(Placement::Auto)) {
        let text = "Advice from numad is needed in case of automatic numa placement";
        return Err(ErrorDomain::DOMAIN.internal_error(text));
    }
    Ok(())
}

/// Whether the guest is told how fast its memory is.
pub(super) fn has_hmat(domain: &Domain) -> bool {
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    numa.is_some_and(|numa| {
        numa.interconnects.is_some() || numa.cell.iter().any(|cell| !cell.cache.is_empty())
    })
}

/// `-numa`, and the memory of each node.
pub(super) fn numa(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) -> Result<(), VirtError> {
    let Some(numa) = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()) else { return Ok(()) };
    let ids: Vec<String> = numa.cell.iter().map(|cell| format!("ram-node{}", number(cell))).collect();
    let pieces = || ids.iter().zip(&numa.cell).map(|(id, cell)| Piece::new(id, cell.memory, Some(cell)));
    // Older machines had nodes without objects, and must not change.
    let plain = context.machine(domain).is_some_and(|machine| machine.numa_mem_supported)
        && !pieces().any(|piece| memory::is_special(domain, &piece));
    if plain && immediate(domain) {
        line.flag("-mem-prealloc");
    }
    for piece in pieces() {
        if !plain {
            memory::object(line, domain, context, &piece)?.add(line);
        }
        let Some(cell) = piece.cell else { continue };
        let cpus = cell.cpus.iter().flat_map(|cpus| cpus.0.iter()).map(range);
        let options = Options::new("node").with("nodeid", number(cell));
        let options = cpus.fold(options, |options, cpus| options.with("cpus", cpus));
        let options = options.with_if("initiator", initiator(domain, numa, cell));
        line.option(
            "-numa",
            if plain { options.with("mem", cell.memory / 1024) } else { options.with("memdev", piece.id) },
        );
    }
    distances(line, numa);
    hmat(line, numa);
    Ok(())
}

fn immediate(domain: &Domain) -> bool {
    let allocation = domain.memory_backing.as_ref().and_then(|backing| backing.allocation.as_ref());
    allocation.and_then(|allocation| allocation.mode) == Some(AllocationMode::Immediate)
}

fn number(cell: &NumaCell) -> u32 {
    cell.id.unwrap_or_default()
}

fn range((first, last): &(u32, u32)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// The node whose processors reach a node's memory best: its own, else those of whom that is said.
fn initiator(domain: &Domain, numa: &CpuNuma, cell: &NumaCell) -> Option<u32> {
    let has_cpus = |cell: &&NumaCell| cell.cpus.as_ref().is_some_and(|cpus: &Cpuset| !cpus.0.is_empty());
    if !has_hmat(domain) {
        return None;
    }
    if has_cpus(&cell) {
        return cell.id;
    }
    let of_memory = |link: &&Interconnect| Some(link.target) == cell.id && link.cache.is_none();
    let links = numa.interconnects.as_ref();
    let nearest =
        links.into_iter().flat_map(|links| &links.latency).filter(of_memory).min_by_key(|link| link.value);
    let widest =
        links.into_iter().flat_map(|links| &links.bandwidth).filter(of_memory).max_by_key(|link| link.value);
    let told = nearest.or(widest).map(|link| link.initiator);
    told.or_else(|| numa.cell.iter().find(has_cpus).and_then(|cell| cell.id))
}

fn distances(line: &mut CommandLine, numa: &CpuNuma) {
    for cell in &numa.cell {
        for sibling in cell.distances.iter().flat_map(|distances| &distances.sibling) {
            let options = Options::new("dist").with("src", number(cell)).with("dst", sibling.id);
            line.option("-numa", options.with("val", sibling.value));
        }
    }
}

fn hmat(line: &mut CommandLine, numa: &CpuNuma) {
    let link = |link: &Interconnect, kind: &str| {
        let level = link.cache.and_then(|level| HIERARCHY.get(level as usize)).unwrap_or(&HIERARCHY[0]);
        Options::new("hmat-lb")
            .with("initiator", link.initiator)
            .with("target", link.target)
            .with("hierarchy", level)
            .with("data-type", format!("{}-{kind}", link.type_))
            .with(kind, if kind == "latency" { link.value.to_string() } else { format!("{}K", link.value) })
    };
    if let Some(links) = &numa.interconnects {
        links.latency.iter().for_each(|latency| line.option("-numa", link(latency, "latency")));
        links.bandwidth.iter().for_each(|bandwidth| line.option("-numa", link(bandwidth, "bandwidth")));
    }
    for cell in &numa.cell {
        for cache in &cell.cache {
            let size = |size: &Option<CacheSize>| size.as_ref().map(|size| size.value);
            let associativity = match cache.associativity.as_str() {
                "full" => "complex",
                other => other,
            };
            let policy = match cache.policy.as_str() {
                "writeback" => "write-back",
                "writethrough" => "write-through",
                other => other,
            };
            let options = Options::new("hmat-cache")
                .with("node-id", number(cell))
                .with_if("size", size(&cache.size).map(|kib| format!("{kib}K")))
                .with("level", cache.level.get())
                .with("associativity", associativity)
                .with("policy", policy)
                .with_if("line", size(&cache.line));
            line.option("-numa", options);
        }
    }
}
