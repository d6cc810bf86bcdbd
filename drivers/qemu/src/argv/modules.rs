//! Memory modules: the memory behind each, and the device.

use virtwire_conf::Domain;
use virtwire_conf::domain::features::MemAccess;
use virtwire_conf::domain::misc::{Memory, MemoryModel, MemorySourceDef};
use virtwire_conf::domain::tune::AllocationMode;
use virtwire_conf::{YesNo, table::KiB};
use virtwire_protocol::VirtError;

use super::memory::{self, Piece};
use super::{Context, Json, alias, numa};
use crate::command::CommandLine;
use crate::error::QEMU;

pub(super) fn modules(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    domain.devices.memories.iter().try_for_each(|module| self::module(line, domain, module, context))
}

/// One module.
pub(super) fn module(
    line: &mut CommandLine,
    domain: &Domain,
    module: &Memory,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let id = format!("mem{}", alias(&module.info));
    let piece = piece(domain, module, &id);
    memory::object(line, domain, context, &piece)?.add(line);
    device(domain, module, id)?.at(domain, &module.info).add(line);
    Ok(())
}

fn piece<'a>(domain: &'a Domain, module: &'a Memory, id: &'a str) -> Piece<'a> {
    let (source, target) = (module.source.as_ref(), module.target.as_ref());
    let node = target.and_then(|target| target.node);
    let mut cells = numa::cells(domain).unwrap_or_default().iter();
    let cell = cells.find(|cell| node.is_some() && cell.id == node);
    let kib = target.and_then(|target| target.size).map_or(0, |size| size.0);
    let pmem = source.is_some_and(|source| source.pmem);
    let nvdimm = module.model == MemoryModel::Nvdimm;
    // What is written to persistent memory is written for others too.
    let shared = (module.model == MemoryModel::VirtioPmem).then_some(MemAccess::Shared);
    Piece {
        file: alias(&module.info),
        nodes: source.and_then(|source| source.nodemask.as_ref()),
        page: source.and_then(|source| source.pagesize).map(|page| page.0),
        access: module.access.or(shared),
        discard: module.discard.map(|discard| discard == YesNo::Yes),
        path: source.and_then(|source| source.path.as_deref()),
        at_once: nvdimm && !pmem,
        lazy: module.model == MemoryModel::VirtioMem,
        align: source.and_then(|source| source.alignsize).map(|align| align.0),
        pmem,
        ..Piece::new(id, kib, cell)
    }
}

fn device(domain: &Domain, module: &Memory, memory: String) -> Result<Json, VirtError> {
    let target = module.target.as_ref();
    let bytes = |size: Option<KiB>| size.map(|size| size.0 * 1024);
    let node = target.and_then(|target| target.node);
    let base = target.and_then(|target| target.address.as_ref()?.base).map(|base| base.0);
    let virtio = |kind| Json::virtio(kind, module.info.address.as_ref(), None, None);
    let device = match module.model {
        MemoryModel::Dimm => Json::new("pc-dimm").with_if("node", node).with("memdev", memory),
        MemoryModel::Nvdimm => {
            let label = target.and_then(|target| target.label.as_ref()?.size);
            let unarmed = target.is_some_and(|target| target.readonly).then_some(true);
            Json::new("nvdimm")
                .with_if("node", node)
                .with_if("label-size", bytes(label))
                .with_if("unarmed", unarmed)
                .with("memdev", memory)
        }
        MemoryModel::VirtioPmem => virtio("virtio-pmem").with("memdev", memory).with_if("memaddr", base),
        MemoryModel::VirtioMem => {
            let slots = target.and_then(|target| target.dynamic_memslots);
            virtio("virtio-mem")
                .with_if("node", node)
                .with_if("block-size", bytes(target.and_then(|target| target.block)))
                .with_some("requested-size", bytes(target.and_then(|target| target.requested)))
                .with("memdev", memory)
                .with_if("prealloc", takes_at_once(domain, module).then_some(true))
                .with_if("memaddr", base)
                .with_if("dynamic-memslots", slots.map(|slots| slots == YesNo::Yes))
        }
        MemoryModel::SgxEpc => {
            return Err(QEMU.config_unsupported("guests with SGX memory cannot be started yet"));
        }
    };
    Ok(device.with("id", alias(&module.info)))
}

/// Whether what the guest asks for is taken from the host before it uses it.
fn takes_at_once(domain: &Domain, module: &Memory) -> bool {
    let backing = domain.memory_backing.as_ref();
    let allocation = backing.and_then(|backing| backing.allocation.as_ref()?.mode);
    let page = |source: &MemorySourceDef| source.pagesize.is_some_and(|page| page.0 != memory::ORDINARY_PAGE);
    allocation == Some(AllocationMode::Immediate)
        || backing.is_some_and(|backing| backing.hugepages.is_some())
        || module.source.as_ref().is_some_and(page)
}
