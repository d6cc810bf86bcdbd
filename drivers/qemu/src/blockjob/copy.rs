//! A disk's content goes elsewhere, and the guest, if the client wants, with it.

use std::os::unix::fs::FileTypeExt;

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{BackingStore, Disk, DiskDriver, DiskSource, StorageType};
use virtwire_conf::table::read_document;
use virtwire_driver_api::params::{self, Kind as Param};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use super::layers::{Layer, alone, layers, mirror, nodes};
use super::merge::pull_to;
use super::{BlockJob, Kind, free_disk, say, speed, virtual_size, written};
use crate::argv::storage::{chain, last_number};
use crate::devices;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file};
use crate::guest::{Guest, Live};
use crate::snapshot::qemu_img;

/// `VIR_DOMAIN_BLOCK_COPY_…`
mod flag {
    pub(super) const SHALLOW: u32 = 1 << 0;
    pub(super) const REUSE_EXT: u32 = 1 << 1;
    pub(super) const TRANSIENT_JOB: u32 = 1 << 2;
    pub(super) const SYNCHRONOUS_WRITES: u32 = 1 << 3;
    pub(super) const KNOWN: u32 = (1 << 4) - 1;
}

/// `VIR_DOMAIN_BLOCK_REBASE_…`; the first two are those of a copy.
mod rebase_flag {
    pub(super) const COPY_RAW: u32 = 1 << 2;
    pub(super) const COPY: u32 = 1 << 3;
    pub(super) const RELATIVE: u32 = 1 << 4;
    pub(super) const COPY_DEV: u32 = 1 << 5;
    pub(super) const BYTES: u32 = 1 << 6;
    pub(super) const KNOWN: u32 = (1 << 7) - 1;
}

/// What a copy is to be like.
#[derive(Default)]
struct Wanted {
    flags: u32,
    speed: u64,
    granularity: Option<u64>,
    buffer: Option<u64>,
}

/// The older way to ask for a copy, and a pull that ends above some image.
pub(crate) async fn rebase(driver: &Qemu, args: DomainBlockRebaseArgs) -> Result<()> {
    use rebase_flag::{BYTES, COPY, COPY_DEV, COPY_RAW, KNOWN, RELATIVE};
    check_flags(args.flags, KNOWN, "qemuDomainBlockRebase")?;
    let speed = speed(args.bandwidth, args.flags & BYTES != 0)?;
    let (path, base) = (args.path.to_str_lossy(), args.base.as_ref().map(|base| base.to_str_lossy()));
    let relative = args.flags & RELATIVE != 0;
    let Some(base) = base else {
        let text = "flag VIR_DOMAIN_BLOCK_REBASE_RELATIVE is valid only with non-null base";
        return match relative {
            true => Err(QEMU.invalid_arg(text)),
            false => pull_to(driver, &args.dom, &path, (None, false), speed).await,
        };
    };
    if args.flags & COPY == 0 {
        return pull_to(driver, &args.dom, &path, (Some(&base), relative), speed).await;
    }
    let place = Some(base.into_owned());
    let (type_, source) = match args.flags & COPY_DEV {
        0 => (StorageType::File, DiskSource { file: place, ..DiskSource::default() }),
        _ => (StorageType::Block, DiskSource { dev: place, ..DiskSource::default() }),
    };
    let raw = (args.flags & COPY_RAW != 0).then(|| "raw".to_owned());
    let driver_of = DiskDriver { type_: raw, ..DiskDriver::default() };
    let to = Disk { type_, source: Some(source), driver: Some(driver_of), ..Disk::default() };
    let flags = args.flags & (flag::SHALLOW | flag::REUSE_EXT);
    begin(driver, &args.dom, &path, to, Wanted { flags, speed, ..Wanted::default() }).await
}

pub(crate) async fn copy(driver: &Qemu, args: DomainBlockCopyArgs) -> Result<()> {
    check_flags(args.flags, flag::KNOWN, "qemuDomainBlockCopy")?;
    let known = [("bandwidth", Param::Ullong), ("granularity", Param::Uint), ("buf-size", Param::Ullong)];
    params::validate(&args.params, &known)?;
    let number = |name| params::number(&args.params, name);
    let granularity = number("granularity").filter(|size| *size > 0);
    if granularity.is_some_and(|size| !size.is_power_of_two()) {
        return Err(QEMU.invalid_arg("granularity must be power of 2"));
    }
    let to: Disk = read_document(&args.destxml.to_str_lossy(), "disk")?;
    let wanted = Wanted {
        flags: args.flags,
        speed: number("bandwidth").unwrap_or(0),
        granularity,
        buffer: number("buf-size").filter(|size| *size > 0),
    };
    begin(driver, &args.dom, &args.path.to_str_lossy(), to, wanted).await
}

async fn begin(driver: &Qemu, dom: &NonnullDomain, path: &str, to: Disk, wanted: Wanted) -> Result<()> {
    let guest = driver.guest(dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let (disk, images) = free_disk(&live, path)?;
    if wanted.flags & flag::TRANSIENT_JOB == 0 && guest.lock().persistent.is_some() {
        return Err(QEMU.operation_invalid("domain is not transient"));
    }
    let device = nodes(disk, written(&images)?).0;
    let number = last_number(&live.domain).max(live.last_source) + 1;
    let new = other(disk, to, number)?;
    let exists = check_place(disk, &new, &wanted)?;
    let made = make(&live, &device, &images, &new, &wanted).await.map(|()| !exists);
    let made = made? && wanted.flags & flag::REUSE_EXT == 0;
    let begun = mirror_to(driver, &guest, &live, (disk, &device), &new, &wanted).await;
    if begun.is_err()
        && made
        && let Some(path) = &new.source.file
    {
        let _ = std::fs::remove_file(path);
    }
    begun
}

/// The image that a client wants a copy in. It has the disk's own format where nothing else is said.
fn other(disk: &Disk, to: Disk, number: u32) -> Result<Layer> {
    let (mut found, _) = layers(&to);
    let none = || ErrorDomain::DOMAIN.no_source("");
    let mut new = found.drain(..).next().ok_or_else(none)?;
    new.index = Some(number);
    if to.driver.and_then(|driver| driver.type_).is_none() {
        new.format = layers(disk).0.into_iter().next().map_or_else(|| "raw".to_owned(), |own| own.format);
    }
    Ok(new)
}

/// Checks that nobody's file is overwritten, or that the one to be used is there; whether there was one.
fn check_place(disk: &Disk, new: &Layer, wanted: &Wanted) -> Result<bool> {
    let Some(path) = new.path() else { return Ok(true) };
    let found = std::fs::metadata(path);
    if wanted.flags & flag::REUSE_EXT != 0 {
        let missing =
            |error| file(&error, format_args!("missing destination file for disk {}: {path}", target(disk)));
        return found.map(|_| true).map_err(missing);
    }
    let is_free = |found: &std::fs::Metadata| found.file_type().is_block_device() || found.len() == 0;
    match found {
        Ok(found) if !is_free(&found) => Err(QEMU.config_unsupported(format_args!(
            "external destination file for disk {} already exists and is not a block device: {path}",
            target(disk)
        ))),
        found => Ok(found.is_ok()),
    }
}

/// Makes an image as large as the disk; a shallow one says what is below it.
async fn make(live: &Live, device: &str, images: &[Layer], new: &Layer, wanted: &Wanted) -> Result<()> {
    let Some(path) = new.path().filter(|_| wanted.flags & flag::REUSE_EXT == 0) else { return Ok(()) };
    let size = virtual_size(live, device).await?.to_string();
    if new.type_ == StorageType::Block && new.format == "raw" {
        return Ok(());
    }
    let mut args = vec!["create", "-q", "-f", &new.format];
    let below = images.get(1).filter(|_| wanted.flags & flag::SHALLOW != 0 && new.format != "raw");
    if let Some((below, base)) = below.and_then(|below| Some((below, below.path()?))) {
        args.extend(["-u", "-F", &below.format, "-b", base]);
    }
    args.extend([path, &size]);
    qemu_img(&args).await
}

/// Has QEMU know the new image, and copy into it.
async fn mirror_to(
    driver: &Qemu,
    guest: &Guest,
    live: &Live,
    (disk, device): (&Disk, &str),
    new: &Layer,
    wanted: &Wanted,
) -> Result<()> {
    let copy = alone(disk, new);
    let shallow = wanted.flags & flag::SHALLOW != 0;
    let mut chained = copy.clone();
    if shallow {
        // What is below the disk's own image is there already.
        chained.backing_store.clone_from(&disk.backing_store);
    }
    let mut only = Domain::clone(&live.domain);
    only.devices.disks = vec![chained];
    let line = devices::line_of(driver, live, &only, |line, domain, context| {
        let mut own = domain.devices.disks.iter().filter_map(|disk| chain(disk).into_iter().next());
        own.try_for_each(|image| image.add(line, context))
    });
    let line = line.await?;
    let given = driver.give_disk(live, &copy)?;
    devices::run(&live.monitor, line).await?;
    let (node, all) = nodes(disk, new);
    let name = format!("copy-{}-{device}", target(disk));
    let mut arguments = json!({"job-id": name, "device": device, "target": node,
        "sync": if shallow { "top" } else { "full" }, "auto-finalize": true, "auto-dismiss": false});
    let numbers = [
        ("speed", Some(wanted.speed).filter(|speed| *speed > 0)),
        ("granularity", wanted.granularity),
        ("buf-size", wanted.buffer),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            arguments[name] = number.into();
        }
    }
    if wanted.flags & flag::SYNCHRONOUS_WRITES != 0 {
        arguments["copy-mode"] = "write-blocking".into();
    }
    let mut shown = mirror(new, "copy");
    shown.file.clone_from(&new.source.file);
    shown.format_name = new.source.file.is_some().then(|| new.format.clone());
    // What is below a shallow copy is what is below the disk.
    shown.backing_store = (!shallow).then(Box::<BackingStore>::default);
    driver.set_mirror(guest, target(disk), Some(shown));
    if let Some(live) = &mut guest.lock().live {
        live.last_source = new.index.unwrap_or(live.last_source);
    }
    let job = BlockJob { shallow, ..BlockJob::new(name, Kind::Copy, target(disk)) };
    let begun = driver.begin_job(guest, live, job, "blockdev-mirror", arguments).await;
    match &begun {
        Ok(()) => given.keep(),
        Err(_) => {
            driver.set_mirror(guest, target(disk), None);
            for node in all {
                let _ = say(&live.monitor, "blockdev-del", json!({"node-name": node})).await;
            }
        }
    }
    begun
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn to(path: &Path) -> Layer {
        let source = DiskSource { file: Some(path.display().to_string()), ..DiskSource::default() };
        Layer { source, format: "raw".to_owned(), ..Layer::default() }
    }

    #[test]
    fn nobodys_file_is_overwritten() {
        let dir = std::env::temp_dir().join(format!("virtwire-copy-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&dir).unwrap();
        let (there, empty, missing) = (dir.join("there"), dir.join("empty"), dir.join("missing"));
        std::fs::write(&there, "x").unwrap();
        std::fs::write(&empty, "").unwrap();
        let check =
            |path, flags| check_place(&Disk::default(), &to(path), &Wanted { flags, ..Wanted::default() });
        assert!(check(&there, 0).unwrap_err().message.contains("already exists and is not a block device"));
        assert_eq!((check(&empty, 0), check(&missing, 0)), (Ok(true), Ok(false)));
        assert_eq!(check(&there, flag::REUSE_EXT), Ok(true));
        assert_eq!(check(&missing, flag::REUSE_EXT).unwrap_err().code.0, 38);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_copy_has_the_disks_format_unless_another_is_said() {
        let own = DiskDriver { type_: Some("qcow2".to_owned()), ..DiskDriver::default() };
        let source = |path: &str| Some(DiskSource { file: Some(path.to_owned()), ..DiskSource::default() });
        let disk = Disk { driver: Some(own), source: source("/a"), ..Disk::default() };
        let plain = Disk { source: source("/b"), ..Disk::default() };
        let raw = DiskDriver { type_: Some("raw".to_owned()), ..DiskDriver::default() };
        let raw = Disk { driver: Some(raw), ..plain.clone() };
        assert_eq!(other(&disk, plain, 7).unwrap().format, "qcow2");
        assert_eq!(other(&disk, raw, 7).map(|new| (new.format, new.index)), Ok(("raw".to_owned(), Some(7))));
        assert_eq!(other(&disk, Disk::default(), 7).unwrap_err().code.0, 19);
    }
}
