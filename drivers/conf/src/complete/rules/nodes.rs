//! Processors, their nodes, and what of them runs where.

use std::collections::{BTreeMap, BTreeSet};

use virtwire_protocol::ErrorDomain;

use super::Result;
use crate::domain::Domain;
use crate::domain::features::{CpuMode, CpuNuma, Interconnect};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const CPU: ErrorDomain = ErrorDomain::CPU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows as it is read.
pub(super) fn read(domain: &Domain) -> Result {
    domain.cpu.iter().flat_map(|cpu| &cpu.numa).try_for_each(cells)?;
    let cells = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell);
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let placed: usize = cells.filter_map(|cell| cell.cpus.as_ref()).map(|set| set.iter().count()).sum();
    refuse! {
        vcpus == 0 => DOMAIN.internal_error("CPU IDs in <numa> exceed the <vcpu> count");
        placed > vcpus as usize => DOMAIN.internal_error("Number of CPUs in <numa> exceeds the <vcpu> count");
    }
    Ok(())
}

/// Features are those of a model, and each is named once.
pub(super) fn processor(domain: &Domain) -> Result {
    let Some(cpu) = &domain.cpu else { return Ok(()) };
    let custom = matches!(cpu.mode, None | Some(CpuMode::Custom));
    let named = cpu.model.as_ref().is_some_and(|model| model.name.is_some());
    let mut seen = BTreeSet::new();
    for feature in &cpu.feature {
        refuse! {
            custom && !named => CPU.xml_error("Non-empty feature list specified without CPU model");
            feature.name.is_empty() => CPU.xml_error("Invalid CPU feature name");
            !seen.insert(&feature.name) =>
                CPU.xml_error("CPU feature '{}' specified more than once", feature.name);
        }
    }
    Ok(())
}

fn cells(numa: &CpuNuma) -> Result {
    let count = numa.cell.len();
    let known = |id: u32| (id as usize) < count;
    let (mut seen, mut taken) = (BTreeSet::new(), BTreeMap::new());
    refuse! {
        count == 0 => DOMAIN.xml_error("NUMA topology defined without NUMA cells");
    }
    for (n, cell) in (0..).zip(&numa.cell) {
        let id = cell.id.unwrap_or(n);
        refuse! {
            !known(id) => DOMAIN.xml_error(
                "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 are not allowed");
            !seen.insert(id) => DOMAIN.xml_error("Duplicate NUMA cell info for cell id '{id}'");
            cell.distances.as_ref().is_some_and(|d| d.sibling.is_empty()) =>
                DOMAIN.xml_error("NUMA distances defined without siblings");
        }
        let mut levels = BTreeSet::new();
        for cache in &cell.cache {
            refuse! {
                !levels.insert(cache.level) =>
                    DOMAIN.xml_error("Cache level '{}' already defined", cache.level.get());
                cache.size.is_none() => XML.xml_error("missing element or attribute './size/@value'");
                cache.line.is_none() => XML.xml_error("missing element or attribute './line/@value'");
            }
        }
        if let Some(cpus) = &cell.cpus {
            let shared = cpus.iter().filter_map(|cpu| taken.insert(cpu, id)).min();
            refuse! {
                shared.is_some() => DOMAIN.config_unsupported(
                    "NUMA cells {id} and {} have overlapping vCPU ids", shared.unwrap_or_default());
            }
        }
        for sibling in cell.distances.iter().flat_map(|d| &d.sibling) {
            let (other, value) = (sibling.id, sibling.value);
            let wrong = !(10..=255).contains(&value) || (other == id) != (value == 10);
            refuse! {
                !known(other) => DOMAIN.xml_error(
                    "'sibling_id {other}' does not refer to a valid cell within NUMA 'cell id {id}'");
                wrong => DOMAIN.xml_error(
                    "'value {value}' is invalid for 'sibling id {other}' under NUMA 'cell id {id}'");
            }
        }
    }
    Ok(())
}

/// Links between nodes are between nodes that there are, and said once.
pub(super) fn check(domain: &Domain) -> Result {
    let Some(numa) = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()) else { return Ok(()) };
    let Some(links) = &numa.interconnects else { return Ok(()) };
    links_of(numa, &links.latency)?;
    links_of(numa, &links.bandwidth)
}

fn links_of(numa: &CpuNuma, links: &[Interconnect]) -> Result {
    let known = |id: u32| (id as usize) < numa.cell.len();
    let mut seen = BTreeSet::new();
    for link in links {
        let target = numa.cell.iter().find(|cell| cell.id == Some(link.target));
        let caches = || target.iter().flat_map(|cell| &cell.cache).map(|cache| cache.level.get());
        refuse! {
            !known(link.initiator) => DOMAIN.xml_error("'initiator' refers to a non-existent NUMA node");
            !known(link.target) => DOMAIN.xml_error("'target' refers to a non-existent NUMA node");
            link.cache.is_some_and(|level| level > 0 && !caches().any(|known| known == level)) =>
                DOMAIN.xml_error("'cache' refers to a non-existent NUMA node cache");
            !seen.insert((link.initiator, link.target, link.cache, &link.type_)) =>
                DOMAIN.xml_error("Duplicate info for NUMA latencies");
        }
    }
    Ok(())
}
