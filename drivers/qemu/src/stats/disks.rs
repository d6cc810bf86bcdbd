//! The figures of disks: what went through them, and how large they are.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::Disk;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{QueryBlockstats, QueryNamedBlockNodes};
use virtwire_qmp::replies::{BlockCounters, BlockNode, BlockStats};

use crate::blockjob::{Layer, layers, nodes, virtual_size};
use crate::disks::find;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Live;
use crate::{chain, named};

/// Names of the counters in stats, and their values.
fn fields(counters: &BlockCounters) -> [(&'static str, u64); 8] {
    [
        ("rd.reqs", counters.rd_operations),
        ("rd.bytes", counters.rd_bytes),
        ("rd.times", counters.rd_total_time_ns),
        ("wr.reqs", counters.wr_operations),
        ("wr.bytes", counters.wr_bytes),
        ("wr.times", counters.wr_total_time_ns),
        ("fl.reqs", counters.flush_operations),
        ("fl.times", counters.flush_total_time_ns),
    ]
}

/// QEMU knows a device by its alias, or by a path that ends in it.
fn is(qdev: Option<&str>, alias: &str) -> bool {
    qdev.is_some_and(|qdev| qdev.split('/').any(|part| part == alias))
}

fn of<'a>(stats: &'a [BlockStats], disk: &Disk) -> Option<&'a BlockStats> {
    let alias = &disk.info.alias.as_ref()?.name;
    stats.iter().find(|stats| is(stats.qdev.as_deref(), alias))
}

/// What QEMU says of the images of a guest.
#[derive(Default)]
struct Asked {
    stats: Vec<BlockStats>,
    nodes: Vec<BlockNode>,
}

impl Asked {
    async fn ask(live: &Live) -> Self {
        let (stats, flat) =
            (QueryBlockstats { query_nodes: None }, QueryNamedBlockNodes { flat: Some(true) });
        let (stats, nodes) = tokio::join!(live.monitor.execute(&stats), live.monitor.execute(&flat));
        Self { stats: stats.unwrap_or_default(), nodes: nodes.unwrap_or_default() }
    }

    /// What it says of a disk, with all its images.
    fn of(&self, disk: &Disk) -> Option<&BlockStats> {
        of(&self.stats, disk)
    }

    /// The size of an image as the guest sees it.
    fn capacity(&self, node: &str) -> Option<u64> {
        let node = self.nodes.iter().find(|known| known.node_name.as_deref() == Some(node))?;
        Some(node.image.as_ref()?.virtual_size)
    }
}

/// The figures of all disks of a guest, or with `chains` of all their images; of one that runs, and of what QEMU says if
/// it may be asked.
pub(super) async fn all(
    params: &mut Vec<TypedParam>,
    domain: &Domain,
    (live, asked): (Option<&Live>, Option<&Live>),
    chains: bool,
) {
    let disks = domain.devices.disks.iter();
    let images: Vec<_> = disks
        .flat_map(|disk| {
            let mut images = layers(disk).0;
            images.truncate(if chains { images.len() } else { 1 });
            // A drive without a disk is one too.
            let images: Vec<_> = match images.is_empty() {
                true => vec![None],
                false => images.into_iter().map(Some).collect(),
            };
            images.into_iter().enumerate().map(move |(depth, image)| (disk, depth, image))
        })
        .collect();
    params.push(TypedParam::new("block.count", images.len() as u32));
    let asked = match asked {
        Some(live) => Asked::ask(live).await,
        None => Asked::default(),
    };
    for (number, (disk, depth, image)) in images.iter().enumerate() {
        let mut say = |name: &str, value: TypedParamValue| {
            params.push(TypedParam::new(format!("block.{number}.{name}"), value));
        };
        let target = disk.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
        say("name", target.into());
        if let Some(path) = image.as_ref().and_then(Layer::path) {
            say("path", path.into());
        }
        if let Some(index) = image.as_ref().and_then(|image| image.index) {
            say("backingIndex", index.into());
        }
        let of_disk = asked.of(disk);
        if let (Some(of_disk), 0) = (of_disk, *depth) {
            fields(&of_disk.stats).into_iter().for_each(|(name, value)| say(name, value.into()));
        }
        let Some(image) = image else { continue };
        let sizes = match live {
            Some(_) => {
                let of_image = std::iter::successors(of_disk, |above| above.backing.as_deref()).nth(*depth);
                running(of_image, image, asked.capacity(&nodes(disk, image).0))
            }
            None => stopped(image).ok(),
        };
        if let Some(Sizes { allocation, capacity, physical }) = sizes {
            let all = [("allocation", allocation), ("capacity", capacity), ("physical", physical)];
            all.into_iter().for_each(|(name, value)| say(name, value.into()));
        }
    }
}

/// How large an image is, in bytes.
struct Sizes {
    /// What it takes of the host's storage, or up to where the guest has written.
    allocation: u64,
    /// As the guest sees it.
    capacity: u64,
    /// As the host sees it.
    physical: u64,
}

/// How large the image of a running guest is; only files and devices of this host have sizes of their own.
fn running(stats: Option<&BlockStats>, image: &Layer, capacity: Option<u64>) -> Option<Sizes> {
    let meta = std::fs::metadata(image.path()?).ok()?;
    let (physical, length) = match meta.file_type().is_block_device() {
        true => {
            let length = length_of_device(Path::new(image.path()?)).unwrap_or_default();
            (length, length)
        }
        false => (meta.blocks() * 512, meta.len()),
    };
    // Below a format, the file is written to.
    let written = stats.map(|stats| stats.parent.as_deref().unwrap_or(stats).stats.wr_highest_offset);
    Some(Sizes { allocation: written.unwrap_or(physical), capacity: capacity.unwrap_or(length), physical })
}

/// How large the image of a guest is that is off. What format it has is said, never guessed.
///
/// # Errors
/// `VIR_ERR_SYSTEM_ERROR` if it cannot be read, `VIR_ERR_INTERNAL_ERROR` for what is not on this host.
fn stopped(image: &Layer) -> Result<Sizes> {
    let Some(path) = image.path() else {
        let protocol = image.source.protocol.map_or("none", |protocol| protocol.as_str());
        let kind = image.type_.as_str();
        let text = format_args!("missing storage backend for {kind} files using {protocol} protocol");
        return Err(ErrorDomain::STORAGE.internal_error(text));
    };
    let file = open(Path::new(path))?;
    let meta = file
        .metadata()
        .map_err(|error| VirtError::system(QEMU, &error, format_args!("cannot stat file '{path}'")))?;
    let device = match meta.file_type().is_block_device() {
        true => length_of_device(Path::new(path)),
        false => None,
    };
    let physical = device.unwrap_or(meta.len());
    let allocation = device.unwrap_or(meta.blocks() * 512);
    let said = match image.format.as_str() {
        "raw" => None,
        _ => chain::look(Path::new(path))?.capacity,
    };
    Ok(Sizes { allocation, capacity: said.unwrap_or(physical), physical })
}

fn open(path: &Path) -> Result<File> {
    named::options().read(true).open(path).map_err(|error| {
        VirtError::system(QEMU, &error, format_args!("Failed to open file '{}'", path.display()))
    })
}

/// The end of a block device, which has no length.
fn length_of_device(path: &Path) -> Option<u64> {
    open(path).ok()?.seek(SeekFrom::End(0)).ok()
}

async fn counters_of(live: &Live, path: &str) -> Result<Vec<BlockCounters>> {
    let stats = live.monitor.execute(&QueryBlockstats { query_nodes: None }).await.map_err(monitor)?;
    if path.is_empty() {
        return Ok(stats.into_iter().map(|stats| stats.stats).collect());
    }
    let disk = find(&live.domain, path);
    let disk = disk.ok_or_else(|| QEMU.invalid_arg(format_args!("invalid path: {path}")))?;
    let found = of(&stats, disk).map(|stats| stats.stats.clone());
    let missing = || QEMU.internal_error(format_args!("cannot find statistics for device '{path}'"));
    Ok(vec![found.ok_or_else(missing)?])
}

pub(crate) async fn block(driver: &Qemu, args: DomainBlockStatsArgs) -> Result<DomainBlockStatsRet> {
    let live = driver.guest(&args.dom)?.live()?;
    let counters = counters_of(&live, &args.path.to_str_lossy()).await?;
    let sum = |of: fn(&BlockCounters) -> u64| counters.iter().map(of).sum::<u64>() as i64;
    Ok(DomainBlockStatsRet {
        rd_req: sum(|c| c.rd_operations),
        rd_bytes: sum(|c| c.rd_bytes),
        wr_req: sum(|c| c.wr_operations),
        wr_bytes: sum(|c| c.wr_bytes),
        errs: -1,
    })
}

pub(crate) async fn block_flags(
    driver: &Qemu,
    args: DomainBlockStatsFlagsArgs,
) -> Result<DomainBlockStatsFlagsRet> {
    // VIR_TYPED_PARAM_STRING_OKAY makes no difference: there are no strings.
    check_flags(args.flags, 4, "qemuDomainBlockStatsFlags")?;
    let live = driver.guest(&args.dom)?.live()?;
    let counters = counters_of(&live, &args.path.to_str_lossy()).await?;
    let sum = |of: fn(&BlockCounters) -> u64| counters.iter().map(of).sum::<u64>() as i64;
    let all = [
        ("wr_bytes", sum(|c| c.wr_bytes)),
        ("wr_operations", sum(|c| c.wr_operations)),
        ("rd_bytes", sum(|c| c.rd_bytes)),
        ("rd_operations", sum(|c| c.rd_operations)),
        ("flush_operations", sum(|c| c.flush_operations)),
        ("wr_total_times", sum(|c| c.wr_total_time_ns)),
        ("rd_total_times", sum(|c| c.rd_total_time_ns)),
        ("flush_total_times", sum(|c| c.flush_total_time_ns)),
    ];
    let nparams = all.len() as i32;
    let wanted = if args.nparams == 0 { 0 } else { args.nparams.try_into().unwrap_or(all.len()) };
    let params = all.into_iter().take(wanted).map(|(field, value)| TypedParam::new(field, value)).collect();
    Ok(DomainBlockStatsFlagsRet { params, nparams })
}

pub(crate) async fn block_info(driver: &Qemu, args: DomainGetBlockInfoArgs) -> Result<DomainGetBlockInfoRet> {
    check_flags(args.flags, 0, "qemuDomainGetBlockInfo")?;
    let (domain, live): (Option<Arc<Domain>>, _) = {
        let guest = driver.guest(&args.dom)?;
        let inner = guest.lock();
        (inner.current(), inner.live.clone())
    };
    let domain = domain.ok_or_else(crate::error::not_running)?;
    let path = args.path.to_str_lossy();
    let disk = find(&domain, &path)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("invalid path {path} not assigned to domain")))?;
    let image = layers(disk).0.into_iter().next().ok_or_else(|| {
        let target = disk.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
        QEMU.invalid_arg(format_args!("disk '{target}' does not currently have a source assigned"))
    })?;
    let mut sizes = stopped(&image)?;
    // QEMU may have written to the image what is not in its head yet.
    if let Some(live) = live
        && let Ok(capacity) = virtual_size(&live, &nodes(disk, &image).0).await
    {
        sizes.capacity = capacity;
    }
    let Sizes { allocation, capacity, physical } = sizes;
    Ok(DomainGetBlockInfoRet { allocation, capacity, physical })
}
