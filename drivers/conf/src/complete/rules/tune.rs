//! What is asked of the host's resources: processors, caches, memory.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::domain::Domain;
use crate::table::Cpuset;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    shares_of_caches(domain)
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
