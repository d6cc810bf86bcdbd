//! The host's memory as pages: how many of a size are free, pools of huge ones, and what the kernel merges.

use std::fs;
use std::path::Path;

use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

use crate::caps::host::PAGE;
use crate::driver::Qemu;
use crate::error::{Result, check_flags};

/// The domain of errors about the host's memory.
const NONE: ErrorDomain = ErrorDomain::NONE;

/// The nodes that a client means; `None` is the whole host, which it calls -1.
fn cells(driver: &Qemu, start: i32, count: u32) -> Result<Vec<Option<u32>>> {
    if start == -1 {
        return Ok(vec![None]);
    }
    let all: Vec<u32> = driver.shared.host.cells().into_iter().map(|cell| cell.id).collect();
    let last = all.iter().copied().max().unwrap_or_default();
    let first = u32::try_from(start).ok().filter(|first| *first <= last);
    let first = first
        .ok_or_else(|| NONE.internal_error(format_args!("start cell {start} out of range (0-{last})")))?;
    let end = first.saturating_add(count);
    Ok(all.into_iter().filter(|cell| (first..end).contains(cell)).map(Some).collect())
}

/// There are no pages of this size.
fn unknown(size: u32, cell: Option<u32>) -> VirtError {
    match cell {
        Some(cell) => NONE.operation_failed(format_args!("page size {size} is not available on node {cell}")),
        None => NONE.operation_failed(format_args!("page size {size} is not available")),
    }
}

pub(crate) async fn free(driver: &Qemu, args: NodeGetFreePagesArgs) -> Result<NodeGetFreePagesRet> {
    check_flags(args.flags, 0, "qemuNodeGetFreePages")?;
    let host = &driver.shared.host;
    let mut counts = Vec::new();
    for cell in cells(driver, args.start_cell, args.cell_count)? {
        for &size in &args.pages {
            let kib = u64::from(size);
            let pool = host.pool(cell, kib).map(|pool| pool.join("free_hugepages"));
            let free = match (kib == PAGE, cell, pool) {
                (true, None, _) => host.memory("MemFree") / PAGE,
                (true, Some(id), _) => {
                    let cell = host.cells().into_iter().find(|cell| cell.id == id);
                    cell.map_or(0, |cell| cell.free / PAGE)
                }
                (false, _, Some(pool)) => number(&pool)?,
                (false, _, None) => return Err(unknown(size, cell)),
            };
            counts.push(free);
        }
    }
    Ok(NodeGetFreePagesRet { counts })
}

/// `VIR_NODE_ALLOC_PAGES_SET`: so many, and not so many more.
const SET: u32 = 1;

pub(crate) async fn allocate(driver: &Qemu, args: NodeAllocPagesArgs) -> Result<NodeAllocPagesRet> {
    check_flags(args.flags, SET, "qemuNodeAllocPages")?;
    let mut ret = 0;
    for cell in cells(driver, args.start_cell, args.cell_count)? {
        for (&size, &count) in args.page_sizes.iter().zip(&args.page_counts) {
            if u64::from(size) == PAGE {
                return Err(NONE.operation_unsupported("system pages pool can't be modified"));
            }
            let pool = driver.shared.host.pool(cell, size.into()).ok_or_else(|| unknown(size, cell))?;
            let pool = pool.join("nr_hugepages");
            let before = number(&pool)?;
            let wanted = if args.flags & SET != 0 { count } else { before.saturating_add(count) };
            if wanted != before {
                write(&pool, wanted)?;
                let now = number(&pool)?;
                if now != wanted {
                    let (asked, got) = (wanted.abs_diff(before), now.abs_diff(before));
                    let text = format_args!("Unable to allocate {asked} pages. Allocated only {got}");
                    return Err(NONE.operation_failed(text));
                }
            }
            ret += 1;
        }
    }
    Ok(NodeAllocPagesRet { ret })
}

fn number(path: &Path) -> Result<u64> {
    let cannot = |error| VirtError::system(NONE, &error, format_args!("unable to read {}", path.display()));
    let text = fs::read_to_string(path).map_err(cannot)?;
    let none = || NONE.internal_error(format_args!("unable to parse '{}'", text.trim()));
    text.trim().parse().map_err(|_| none())
}

fn write(path: &Path, number: u64) -> Result<()> {
    let cannot =
        |error| VirtError::system(NONE, &error, format_args!("unable to write to: {}", path.display()));
    fs::write(path, number.to_string()).map_err(cannot)
}

/// What there is to know of the merging of memory: names of the kernel's files, and whether they can be set. Those
/// that can are 32 bits wide.
const MERGING: [(&str, bool); 8] = [
    ("pages_to_scan", true),
    ("sleep_millisecs", true),
    ("pages_shared", false),
    ("pages_sharing", false),
    ("pages_unshared", false),
    ("pages_volatile", false),
    ("full_scans", false),
    ("merge_across_nodes", true),
];

pub(crate) async fn merging(
    driver: &Qemu,
    args: NodeGetMemoryParametersArgs,
) -> Result<NodeGetMemoryParametersRet> {
    check_flags(args.flags, params::STRING_OKAY, "virHostMemGetParameters")?;
    let told = MERGING.iter().filter_map(|(name, can_be_set)| {
        let value = driver.shared.host.shared_memory(name)?;
        let field = format!("shm_{name}");
        Some(match can_be_set {
            true => TypedParam::new(field, value as u32),
            false => TypedParam::new(field, value),
        })
    });
    let (params, nparams) = params::answer(told.collect(), args.nparams, args.flags);
    Ok(NodeGetMemoryParametersRet { params, nparams })
}

pub(crate) async fn set_merging(driver: &Qemu, args: NodeSetMemoryParametersArgs) -> Result<()> {
    check_flags(args.flags, 0, "virHostMemSetParameters")?;
    let names = MERGING.iter().filter(|(_, can_be_set)| *can_be_set);
    let names: Vec<_> = names.map(|(name, _)| (format!("shm_{name}"), *name)).collect();
    let known: Vec<_> = names.iter().map(|(field, _)| (field.as_str(), Kind::Uint)).collect();
    params::validate(&args.params, &known)?;
    for (field, name) in &names {
        if let Some(value) = params::number(&args.params, field) {
            write(&driver.shared.host.merging(name), value)?;
        }
    }
    Ok(())
}

/// `VIR_NODE_SUSPEND_TARGET_…`, in the words of what a host cannot do.
const TARGETS: [&str; 3] = ["Suspend-to-RAM", "Suspend-to-Disk", "Hybrid-Suspend"];

/// Hosts are not put to sleep: capabilities say of none that it could be.
pub(crate) async fn suspend(_: &Qemu, args: NodeSuspendForDurationArgs) -> Result<()> {
    virtwire_driver_api::check_flags(NONE, args.flags, 0, "virNodeSuspend")?;
    let target = usize::try_from(args.target).ok().and_then(|target| TARGETS.get(target));
    let target = target.ok_or_else(|| NONE.invalid_arg("Invalid suspend target"))?;
    Err(NONE.argument_unsupported(target))
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use virtwire_store::Scratch;

    use super::*;
    use crate::host::Host;

    #[test]
    fn pools_are_those_of_a_node_or_of_all() {
        let scratch = Scratch::new();
        let pool = scratch.path().join("sys/devices/system/node/node1/hugepages/hugepages-2048kB");
        create_dir_all(&pool).unwrap();
        fs::write(pool.join("free_hugepages"), "17\n").unwrap();
        let host = Host::below(scratch.path());
        assert_eq!(host.pool(Some(1), 2048), Some(pool.clone()));
        assert_eq!(
            (host.pool(Some(0), 2048), host.pool(None, 2048), host.pool(Some(1), 3)),
            (None, None, None)
        );
        assert_eq!(number(&pool.join("free_hugepages")), Ok(17));
        assert_eq!(number(&pool.join("nr_hugepages")).unwrap_err().code.0, 38);
        assert_eq!(unknown(3, Some(1)).message, "operation failed: page size 3 is not available on node 1");
    }
}
