//! Memory: modules and their places.

use std::collections::BTreeMap;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::YesNo;
use crate::domain::Domain;
use crate::domain::device::Address;
use crate::domain::features::MemAccess;
use crate::domain::misc::{Memory, MemoryModel};
use crate::domain::tune::{AllocationMode, MemorySource};
use crate::table::{Cpuset, KiB};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// KiB of the smallest label that an NVDIMM can have.
const LEAST_LABEL: u64 = 128;
/// KiB of a huge page, of which memory that comes and goes has whole ones.
const HUGE_PAGE: u64 = 2048;

/// What shows as it is read.
pub(super) fn read(memory: &Memory) -> Result {
    let target = memory.target.as_ref();
    refuse! {
        target.is_none() => DOMAIN.xml_error("missing <target> element for <memory> device");
        target.is_some_and(|target| target.size.is_none()) =>
            XML.xml_error("missing element or attribute './size'");
    }
    Ok(())
}

/// A huge page has a size.
pub(super) fn pages(domain: &Domain) -> Result {
    let pages = domain.memory_backing.iter().filter_map(|backing| backing.hugepages.as_ref());
    for page in pages.flat_map(|pages| &pages.page) {
        crate::table::unit(page.unit.as_deref(), 1024)?;
        refuse! {
            page.size == 0 => DOMAIN.xml_detail("hugepage size can't be zero");
        }
    }
    Ok(())
}

/// Each node that there is has pages of one size.
pub(super) fn check_pages(domain: &Domain) -> Result {
    let nodes = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    let pages = domain.memory_backing.iter().filter_map(|backing| backing.hugepages.as_ref());
    let (mut whole, mut taken) = (None, BTreeMap::new());
    for page in pages.flat_map(|pages| &pages.page) {
        let size = page.kib();
        let asked = || page.nodeset.iter().flat_map(Cpuset::iter);
        let unknown = asked().find(|node| *node as usize >= nodes.max(1));
        let other = asked().filter_map(|node| taken.insert(node, size)).max();
        let first = whole.filter(|_| page.nodeset.is_none());
        refuse! {
            unknown.is_some() => DOMAIN.xml_detail("hugepages: node {} not found", unknown.unwrap_or_default());
            other.is_some() => DOMAIN.xml_detail(
                "nodeset attribute of hugepages of sizes {} and {size} intersect", other.unwrap_or_default());
            first.is_some() => DOMAIN.xml_detail(
                "two master hugepages detected: {size} and {}", first.unwrap_or_default());
        }
        if page.nodeset.is_none() {
            whole = Some(size);
        }
    }
    Ok(())
}

/// What each model needs, and cannot have.
pub(super) fn module(around: &Around<'_>, memory: &Memory) -> Result {
    let Some(target) = &memory.target else { return Ok(()) };
    let (model, kib) = (memory.model, |size: Option<KiB>| size.map_or(0, |size| size.0));
    let size = kib(target.size);
    let path = memory.source.as_ref().is_some_and(|source| source.path.is_some());
    let label =
        target.label.as_ref().and_then(|label| label.size).map(|size| size.0).filter(|size| *size > 0);
    let discards = memory.discard == Some(YesNo::Yes);
    let (block, requested) = (kib(target.block), kib(target.requested));
    match model {
        MemoryModel::Nvdimm => {
            refuse! {
                !path => DOMAIN.xml_detail("path is required for model '{}'", model.as_str());
                discards => DOMAIN.config_unsupported("discard is not supported for nvdimms");
                label.is_some_and(|label| label >= size) =>
                    DOMAIN.xml_error("label size must be smaller than NVDIMM size");
                label.is_some_and(|label| label < LEAST_LABEL) =>
                    DOMAIN.xml_error("nvdimm label must be at least {LEAST_LABEL}KiB");
            }
        }
        MemoryModel::VirtioPmem => {
            refuse! {
                !path => DOMAIN.xml_detail("path is required for model '{}'", model.as_str());
                discards => DOMAIN.config_unsupported("discard is not supported for model '{}'", model.as_str());
                memory.access == Some(MemAccess::Private) =>
                    DOMAIN.config_unsupported("shared access mode required for virtio-pmem device");
                target.node.is_some() => DOMAIN.config_unsupported("virtio-pmem does not support NUMA nodes");
            }
        }
        MemoryModel::VirtioMem => {
            refuse! {
                requested > size => DOMAIN.xml_detail(
                    "requested size must be smaller than or equal to @size ({size}KiB)");
                !block.is_power_of_two() => DOMAIN.xml_detail("block size must be a power of two");
                block < HUGE_PAGE => DOMAIN.xml_detail("block size too small, must be at least {HUGE_PAGE}KiB");
                !requested.is_multiple_of(block) =>
                    DOMAIN.xml_detail("requested size must be an integer multiple of block size");
            }
        }
        MemoryModel::SgxEpc => {
            refuse! {
                memory.info.address.is_some() => DOMAIN.config_unsupported(
                    "memory device address is not supported for model '{}'", model.as_str());
            }
        }
        MemoryModel::Dimm => {}
    }
    place(around, memory)
}

/// Whether there was a slot for each module.
pub(super) fn check_slots(domain: &Domain) -> Result {
    let placeless = |memory: &Memory| {
        matches!(memory.model, MemoryModel::Dimm | MemoryModel::Nvdimm) && memory.info.address.is_none()
    };
    refuse! {
        domain.max_memory.is_some() && domain.devices.memories.iter().any(placeless) =>
            QEMU.internal_error("failed to find an empty memory slot");
    }
    Ok(())
}

/// What QEMU could not do with a module.
pub(super) fn module_qemu(around: &Around<'_>, memory: &Memory) -> Result {
    let virtio = matches!(memory.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem);
    let placed = matches!(memory.info.address, None | Some(Address::Pci(_) | Address::Ccw(_)));
    refuse! {
        virtio && !placed => QEMU.config_unsupported(
            "only 'pci' and 'ccw' addresses are supported for the {} device", memory.model.as_str());
    }
    let nodes =
        around.domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    let node = memory.target.as_ref().and_then(|target| target.node);
    if !matches!(memory.model, MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::VirtioMem) {
        refuse! {
            memory.model == MemoryModel::SgxEpc && node.is_some_and(|node| node as usize >= nodes) =>
                DOMAIN.xml_detail(
                    "can't add memory backend for guest node '{}' as the guest has only '{nodes}' NUMA nodes configured",
                    node.unwrap_or_default()
                );
            memory.model == MemoryModel::SgxEpc && !around.has("sgx-epc") =>
                QEMU.config_unsupported("sgx epc isn't supported by this QEMU binary");
        }
        return Ok(());
    }
    let max = around.domain.max_memory.as_ref();
    let slots = max.and_then(|max| max.slots);
    let slot = match &memory.info.address {
        Some(Address::Dimm(address)) => Some(address.slot),
        _ => None,
    };
    refuse! {
        around.chipset.is_foreign() && !around.has("pc-dimm") =>
            QEMU.config_unsupported("memory hotplug isn't supported by this QEMU binary");
        max.is_none() && around.whole() =>
            QEMU.config_unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
        nodes == 0 => DOMAIN.xml_detail("can't add memory backend as guest has no NUMA nodes configured");
        node.is_none() && !around.changes() =>
            QEMU.config_unsupported("target NUMA node needs to be specified for memory device");
        node.is_some_and(|node| node as usize >= nodes) =>
            DOMAIN.xml_detail(
                "can't add memory backend for guest node '{}' as the guest has only '{nodes}' NUMA nodes configured",
                node.unwrap_or_default()
            );
        max.is_none() =>
            QEMU.config_unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
        slot.is_some() && slot >= slots => QEMU.config_unsupported(
            "memory device slot '{}' exceeds slots count '{}'",
            slot.unwrap_or_default(),
            slots.unwrap_or_default()
        );
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(domain: &Domain) -> Result {
    let backing = domain.memory_backing.as_ref();
    let huge = backing.is_some_and(|backing| backing.hugepages.is_some());
    let source = backing.and_then(|backing| backing.source.as_ref()?.type_);
    let allocation = backing.and_then(|backing| backing.allocation.as_ref()?.mode);
    let plugged = !domain.devices.memories.is_empty();
    refuse! {
        huge && source == Some(MemorySource::Anonymous) =>
            QEMU.config_unsupported("hugepages are not allowed with anonymous memory source");
        huge && allocation == Some(AllocationMode::Ondemand) =>
            QEMU.config_unsupported("hugepages are not allowed with memory allocation ondemand");
        plugged && domain.max_memory.is_none() => QEMU.config_unsupported(
            "cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
    }
    Ok(())
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

/// Modules are each in a slot of their own, and at addresses of their own.
fn place(around: &Around<'_>, memory: &Memory) -> Result {
    let slot = |memory: &Memory| match &memory.info.address {
        Some(Address::Dimm(address)) => Some(address.slot),
        _ => None,
    };
    let others = around.domain.devices.memories.iter().filter(|other| !std::ptr::eq(*other, memory));
    let taken = others.clone().filter_map(slot).find(|taken| Some(*taken) == slot(memory));
    refuse! {
        taken.is_some() => DOMAIN.config_unsupported(
            "memory device slot '{}' is already being used by another memory device", taken.unwrap_or_default());
    }
    let Some((first, end)) = range(memory) else { return Ok(()) };
    // What is looked at by itself may be about to take the place of another, and may be where that is.
    let replaced = |other: &Memory| !around.whole() && range(other).is_some_and(|(at, _)| at == first);
    let movable = |it: &Memory| matches!(it.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem);
    let mut others =
        others.filter(|other| (movable(memory) || movable(other)) && !replaced(other)).filter_map(range);
    let taken = others.find(|(other, behind)| first < *behind && *other < end);
    refuse! {
        taken.is_some() => DOMAIN.config_unsupported(
            "memory device address [0x{first:x}:0x{end:x}] overlaps with other memory device (0x{:x})",
            taken.unwrap_or_default().0
        );
    }
    Ok(())
}
