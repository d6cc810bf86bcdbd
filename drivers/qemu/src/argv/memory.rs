//! The guest's memory: how much, and what it is made of.

use serde_json::{Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::features::{MemAccess, NumaCell};
use virtwire_conf::domain::tune::{AllocationMode, HugePage, MemorySource, NumaMode};
use virtwire_conf::table::Cpuset;
use virtwire_protocol::VirtError;

use super::{Context, Json, numa};
use crate::command::{CommandLine, Options};
use crate::hugepages;

/// KiB of an ordinary page of the host.
pub(super) const ORDINARY_PAGE: u64 = 4;

/// What decides how a piece of memory is backed.
pub(crate) struct Piece<'a> {
    /// The id of its object.
    pub(crate) id: &'a str,
    /// The name of its file in the guest's directory.
    pub(crate) file: &'a str,
    /// Its size in KiB.
    pub(crate) kib: u64,
    /// The guest's node that it belongs to.
    pub(crate) cell: Option<&'a NumaCell>,
    /// It is the machine's own and keeps the name that older QEMUs gave it in a migration.
    pub(crate) whole: bool,
    /// The host's nodes that a memory device names.
    pub(crate) nodes: Option<&'a Cpuset>,
    /// The size of huge pages in KiB that a memory device names.
    pub(crate) page: Option<u64>,
    /// The access that a memory device names.
    pub(crate) access: Option<MemAccess>,
    /// Whether a memory device says that its content may be discarded.
    pub(crate) discard: Option<bool>,
    /// The file that it is in, for good.
    pub(crate) path: Option<&'a str>,
    /// It is taken from the host at once, whatever is said of all memory.
    pub(crate) at_once: bool,
    /// It is taken from the host as the guest asks for it.
    pub(crate) lazy: bool,
    /// Its alignment in KiB.
    pub(crate) align: Option<u64>,
    /// The file is on persistent memory.
    pub(crate) pmem: bool,
}

impl<'a> Piece<'a> {
    /// Memory of which nothing is said but its size and place.
    pub(crate) fn new(id: &'a str, kib: u64, cell: Option<&'a NumaCell>) -> Self {
        Self {
            id,
            file: id,
            kib,
            cell,
            whole: false,
            nodes: None,
            page: None,
            access: None,
            discard: None,
            path: None,
            at_once: false,
            lazy: false,
            align: None,
            pmem: false,
        }
    }
}

/// The id of the machine's memory, where that is an object: machines with nodes have one for each node instead.
pub(super) fn whole(domain: &Domain, context: &Context<'_>) -> Option<String> {
    if numa::cells(domain).is_some() {
        return None;
    }
    context.machine(domain).and_then(|machine| machine.default_ram_id.clone())
}

/// `-m`, and what is behind it.
pub(super) fn memory(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let modules = domain.devices.memories.iter();
    let modules = modules.filter_map(|module| module.target.as_ref()?.size).map(|size| size.0).sum();
    let kib = domain.memory.as_ref().map_or(0, GuestMemory::kib).saturating_sub(modules);
    let options = Options::new("").with("size", format!("{kib}k"));
    let slots = domain.max_memory.as_ref();
    line.option(
        "-m",
        options
            .with_if("slots", slots.and_then(|max| max.slots).filter(|slots| *slots > 0))
            .with_if("maxmem", slots.map(|max| format!("{}k", max.size.0))),
    );
    if let Some(id) = whole(domain, context) {
        object(line, domain, context, &Piece { whole: true, ..Piece::new(&id, kib, None) })?.add(line);
    }
    let locked = domain.memory_backing.as_ref().is_some_and(|backing| backing.locked);
    line.option("-overcommit", if locked { "mem-lock=on" } else { "mem-lock=off" });
    Ok(())
}

/// Whether anything is said of a piece of memory that a plain `-numa node,mem=…` has no words for.
pub(super) fn is_special(domain: &Domain, piece: &Piece<'_>) -> bool {
    huge_page(domain, piece).is_some()
        || policy(domain, piece).is_some()
        || access(domain, piece).is_some()
        || source(domain).is_some()
}

/// The object of a piece of memory, after what it needs itself.
///
/// # Errors
/// Huge pages that the host does not have.
pub(crate) fn object(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
    piece: &Piece<'_>,
) -> Result<Json, VirtError> {
    let backing = domain.memory_backing.as_ref();
    let page = huge_page(domain, piece);
    let allocation = backing.and_then(|backing| backing.allocation.as_ref());
    let immediate = allocation.and_then(|allocation| allocation.mode) == Some(AllocationMode::Immediate);
    let access = access(domain, piece);
    let prealloc = !piece.lazy && (immediate || page.is_some() || piece.at_once);
    let discard = match piece.cell.and_then(|cell| cell.discard) {
        Some(discard) => Some(discard == virtwire_conf::YesNo::Yes),
        // A file of its own keeps what is in it.
        None => backing.filter(|backing| backing.discard && piece.path.is_none()).map(|_| true),
    };
    let discard = piece.discard.or(discard);

    let memfd = source(domain) == Some(MemorySource::Memfd) && piece.path.is_none();
    let in_file = piece.path.is_some()
        || source(domain) == Some(MemorySource::File)
        || page.is_some()
        || access.is_some();
    let object = if memfd {
        let object = Json::object("memory-backend-memfd", piece.id);
        match page {
            Some(page) => {
                object.with("hugetlb", true).with_if("hugetlbsize", page.size.map(|kib| kib * 1024))
            }
            None => object,
        }
    } else if in_file {
        let path = match (piece.path, page) {
            (Some(path), _) => path.to_owned(),
            (None, Some(page)) => {
                hugepages::directory(context.policy.hugepages.as_deref(), page.size, context.memory)?
            }
            (None, None) => format!("{}/{}", context.memory.display(), piece.file),
        };
        let object = Json::object("memory-backend-file", piece.id).with("mem-path", path);
        object.with_if("discard-data", discard)
    } else {
        Json::object("memory-backend-ram", piece.id)
    };
    let threads = allocation.and_then(|allocation| allocation.threads);
    let policy = policy(domain, piece);
    let context_id = (prealloc && policy.is_some()).then(|| format!("tc-{}", piece.id));
    if let (Some(id), Some((_, nodes))) = (&context_id, &policy) {
        Json::object("thread-context", id.as_str()).with("node-affinity", nodes.clone()).add(line);
    }
    // A file is shared or not for certain; other memory is private unless it is said to be shared.
    let shared = access.map(|access| access == MemAccess::Shared);
    let canonical = (piece.whole && (memfd || in_file)).then_some(false);
    Ok(object
        .with_if("share", shared)
        .with_if("x-use-canonical-path-for-ramblock-id", canonical)
        .with_if("prealloc", prealloc.then_some(true))
        .with_if("prealloc-threads", threads)
        .with_if("reserve", piece.lazy.then_some(false))
        .with("size", piece.kib * 1024)
        .with_if("align", piece.align.map(|kib| kib * 1024))
        .with_if("pmem", piece.pmem.then_some(true))
        .with_if("host-nodes", policy.as_ref().map(|(_, nodes)| nodes.clone()))
        .with_if("policy", policy.map(|(policy, _)| policy))
        .with_if("prealloc-context", context_id))
}

/// Whether some memory is in the guest's directory for it.
pub(crate) fn is_in_files(domain: &Domain) -> bool {
    let mut cells = numa::cells(domain).unwrap_or_default().iter();
    match source(domain) {
        Some(MemorySource::File) => true,
        Some(_) => false,
        None => {
            let of_all = domain.memory_backing.as_ref().and_then(|backing| backing.access.as_ref());
            of_all.is_some_and(|access| access.mode.is_some()) || cells.any(|cell| cell.mem_access.is_some())
        }
    }
}

fn source(domain: &Domain) -> Option<MemorySource> {
    domain.memory_backing.as_ref()?.source.as_ref()?.type_.filter(|kind| *kind != MemorySource::Anonymous)
}

/// Who else sees the memory, where it is said: by a device, by a node, by the guest as a whole.
fn access(domain: &Domain, piece: &Piece<'_>) -> Option<MemAccess> {
    let of_all = || domain.memory_backing.as_ref()?.access.as_ref()?.mode;
    piece.access.or_else(|| piece.cell?.mem_access).or_else(of_all)
}

/// A kind of huge pages: its size in KiB, where one is named.
struct Page {
    size: Option<u64>,
}

/// The huge pages of a piece: those for its node, else those for all.
fn huge_page(domain: &Domain, piece: &Piece<'_>) -> Option<Page> {
    if let Some(size) = piece.page {
        return (size != ORDINARY_PAGE).then_some(Page { size: Some(size) });
    }
    let pages = &domain.memory_backing.as_ref()?.hugepages.as_ref()?.page;
    if pages.is_empty() {
        return Some(Page { size: None });
    }
    let node = piece.cell.and_then(|cell| cell.id);
    let of_node = |page: &&HugePage| {
        let set = page.nodeset.as_ref();
        set.is_some_and(|set| node.is_some_and(|node| set.iter().any(|member| member == node)))
    };
    let for_all = |page: &&HugePage| page.nodeset.is_none();
    let page = pages.iter().find(of_node).or_else(|| pages.iter().find(for_all))?;
    // Pages of the ordinary size are no huge pages.
    Some(page.kib()).filter(|kib| *kib != ORDINARY_PAGE).map(|kib| Page { size: Some(kib) })
}

/// The policy by which the host's nodes are used, and which.
fn policy(domain: &Domain, piece: &Piece<'_>) -> Option<(&'static str, Value)> {
    let tune = domain.numatune.as_ref();
    let of_cell = piece.cell.and_then(|cell| tune?.memnode.iter().find(|node| Some(node.cellid) == cell.id));
    let of_all = tune.and_then(|tune| tune.memory.as_ref());
    let (mode, nodes) = match (of_cell, of_all) {
        (Some(node), _) => (node.mode, node.nodeset.as_ref()),
        (None, Some(memory)) => (memory.mode, memory.nodeset.as_ref()),
        (None, None) => (None, None),
    };
    let nodes = piece.nodes.or(nodes)?;
    let policy = match mode.unwrap_or_default() {
        NumaMode::Strict => "bind",
        NumaMode::Preferred => "preferred",
        NumaMode::Interleave => "interleave",
        NumaMode::Restrictive => return None,
    };
    Some((policy, json!(nodes.iter().collect::<Vec<_>>())))
}
