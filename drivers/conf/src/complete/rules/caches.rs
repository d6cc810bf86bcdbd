//! Shares of the host's caches and of its memory's bandwidth, and what is watched of them.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::Result;
use crate::domain::Domain;
use crate::domain::tune::{CacheMonitor, CacheTune, MemoryTune};
use crate::table::Cpuset;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const RESCTRL: ErrorDomain = ErrorDomain::RESCTRL;
const XML: ErrorDomain = ErrorDomain::XML;

/// The one level of caches that is watched.
const WATCHED: u32 = 3;

/// Processors that share a part of a cache share nothing with others.
pub(super) fn read(domain: &Domain) -> Result {
    let mut taken: Vec<Cpuset> = Vec::new();
    for tune in domain.cputune.iter().flat_map(|tune| &tune.cachetune) {
        let Some(own) = &tune.vcpus else {
            return Err(DOMAIN.xml_error("Missing cachetune attribute 'vcpus'"));
        };
        let own = own_of(domain, own);
        if own.0.is_empty() {
            continue;
        }
        refuse! {
            taken.contains(&own) => DOMAIN.xml_error("Identical vcpus in cachetunes found");
            taken.iter().any(|other| overlap(other, &own)) =>
                DOMAIN.xml_error("Overlapping vcpus in resctrls");
        }
        shares(tune)?;
        let said = tune.monitor.iter().map(|monitor| monitor.level).find(|level| *level != Some(WATCHED));
        refuse! {
            said == Some(None) => XML.xml_error("Missing required attribute 'level' in element 'monitor'");
            said.is_some() => DOMAIN.xml_error("Invalid monitor cache level '{}'", said.flatten().unwrap_or_default());
        }
        monitors(domain, &tune.monitor, &own)?;
        if says(tune) {
            taken.push(own);
        }
    }
    Ok(())
}

/// Those of a set that the guest has.
fn own_of(domain: &Domain, set: &Cpuset) -> Cpuset {
    let mut own = set.clone();
    own.truncate(domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count));
    own
}

/// Whether something is shared or watched.
fn says(tune: &CacheTune) -> bool {
    !tune.cache.is_empty() || !tune.monitor.is_empty()
}

/// A part of a cache is given once.
fn shares(tune: &CacheTune) -> Result {
    let mut seen: BTreeSet<(u32, u32, &str)> = BTreeSet::new();
    for cache in &tune.cache {
        let (own, both) = ((cache.level, cache.id, cache.type_.as_str()), (cache.level, cache.id, "both"));
        let half = |kind| seen.contains(&(cache.level, cache.id, kind));
        let colliding =
            seen.contains(&own) || seen.contains(&both) || own == both && (half("code") || half("data"));
        refuse! {
            colliding => RESCTRL.xml_error(
                "Colliding cache allocations for cache level '{}' id '{}', type '{}'",
                cache.level, cache.id, cache.type_);
        }
        crate::table::unit(cache.unit.as_deref(), 1024)?;
        seen.insert(own);
    }
    Ok(())
}

/// Those that share bandwidth are those that share a cache, or none of them.
pub(super) fn read_bandwidth(domain: &Domain) -> Result {
    let Some(tune) = &domain.cputune else { return Ok(()) };
    let shared = tune.cachetune.iter().filter_map(|tune| tune.vcpus.as_ref());
    let shared: Vec<Cpuset> = shared.map(|set| own_of(domain, set)).collect();
    let mut taken: Vec<Cpuset> = Vec::new();
    for MemoryTune { vcpus, node, monitor, .. } in &tune.memorytune {
        let Some(own) = vcpus else { return Err(DOMAIN.xml_error("Missing memorytune attribute 'vcpus'")) };
        let own = own_of(domain, own);
        if own.0.is_empty() {
            continue;
        }
        refuse! {
            taken.contains(&own) => DOMAIN.xml_error("Identical vcpus in memorytunes found");
            taken.iter().chain(&shared).any(|other| *other != own && overlap(other, &own)) =>
                DOMAIN.xml_error("Overlapping vcpus in resctrls");
        }
        let mut seen = BTreeSet::new();
        for node in node {
            refuse! {
                !seen.insert(node.id) => RESCTRL.xml_error("Memory Bandwidth already defined for node {}", node.id);
            }
        }
        monitors(domain, monitor, &own)?;
        taken.push(own);
    }
    Ok(())
}

/// Whose use is watched: all that share something, or some of them.
fn monitors(domain: &Domain, monitors: &[CacheMonitor], all: &Cpuset) -> Result {
    let mut seen: Vec<Cpuset> = Vec::new();
    for monitor in monitors {
        let Some(own) = &monitor.vcpus else {
            return Err(DOMAIN.xml_error("Missing monitor attribute 'vcpus'"));
        };
        let own = own_of(domain, own);
        let inside = members(&own).is_subset(&members(all));
        refuse! {
            seen.contains(&own) => DOMAIN.invalid_arg("Identical vcpus found in same type monitors");
            !inside => DOMAIN.invalid_arg("Monitor vcpus conflicts with allocation");
        }
        seen.push(own);
    }
    Ok(())
}

fn members(set: &Cpuset) -> BTreeSet<u32> {
    set.iter().collect()
}

fn overlap(a: &Cpuset, b: &Cpuset) -> bool {
    !members(a).is_disjoint(&members(b))
}
