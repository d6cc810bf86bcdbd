//! Memory: modules and their places.

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::domain::Domain;
use crate::domain::device::Address;
use crate::domain::misc::{Memory, MemoryModel};
use crate::table::Cpuset;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    let nodes = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    let pages = domain.memory_backing.iter().filter_map(|backing| backing.hugepages.as_ref());
    let asked = pages.flat_map(|pages| &pages.page).filter_map(|page| page.nodeset.as_ref());
    let unknown = asked.flat_map(Cpuset::iter).find(|node| *node as usize >= nodes);
    refuse! {
        unknown.is_some() => DOMAIN.xml_detail("hugepages: node {} not found", unknown.unwrap_or_default());
    }
    places(&domain.devices.memories)
}

/// First byte and what comes behind the last, where that is said.
fn range(memory: &Memory) -> Option<(u64, u64)> {
    let target = memory.target.as_ref()?;
    let base = match (&memory.info.address, memory.model) {
        (Some(Address::Dimm(address)), _) => address.base,
        (_, MemoryModel::VirtioMem | MemoryModel::VirtioPmem) => target.address.as_ref()?.base,
        _ => None,
    }?;
    Some((base.0, base.0.saturating_add(target.size?.0.saturating_mul(1024))))
}

fn places(memories: &[Memory]) -> Result<(), VirtError> {
    for (n, memory) in memories.iter().enumerate() {
        let Some((first, end)) = range(memory) else { continue };
        let movable = |it: &Memory| matches!(it.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem);
        let others = memories[..n].iter().filter(|other| movable(memory) || movable(other)).filter_map(range);
        let taken = others.clone().find(|(other, behind)| first < *behind && *other < end);
        refuse! {
            taken.is_some() => DOMAIN.config_unsupported(
                "memory device address [0x{first:x}:0x{end:x}] overlaps with other memory device (0x{:x})",
                taken.unwrap_or_default().0
            );
        }
    }
    Ok(())
}
