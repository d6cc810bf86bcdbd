//! Disks of a running guest: their size, what is in them, when to tell that they fill.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{BackingStore, Disk, StorageType, Tray};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{BlockResize, BlockSetWriteThreshold};
use virtwire_qmp::events::EventKind;

use crate::affect::edit_live;
use crate::argv::storage::{nodes, storage_node, top_node};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::named;
use crate::state::{Lifecycle, State};
use crate::written;

/// The disk that a client means: by target or by source.
pub(crate) fn find<'a>(domain: &'a Domain, path: &str) -> Option<&'a Disk> {
    let disks = &domain.devices.disks;
    let by_target = |disk: &&Disk| target(disk) == path;
    let by_source = |disk: &&Disk| path_of(disk) == Some(path);
    disks.iter().find(by_target).or_else(|| disks.iter().find(by_source))
}

/// A disk's name.
pub(crate) fn target(disk: &Disk) -> &str {
    disk.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default()
}

/// The file or device that a disk is.
pub(crate) fn path_of(disk: &Disk) -> Option<&str> {
    let source = disk.source.as_ref()?;
    source.file.as_deref().or(source.dev.as_deref())
}

/// The disk of a client's name, which has to be there.
///
/// # Errors
/// It is not.
pub(crate) fn known<'a>(domain: &'a Domain, path: &str) -> Result<&'a Disk> {
    find(domain, path)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("disk '{path}' was not found in the domain config")))
}

/// `VIR_DOMAIN_BLOCK_RESIZE_…`: in bytes instead of KiB; as large as what it is on.
const BYTES: u32 = 1;
const CAPACITY: u32 = 2;

pub(crate) async fn resize(driver: &Qemu, args: DomainBlockResizeArgs) -> Result<()> {
    check_flags(args.flags, BYTES | CAPACITY, "qemuDomainBlockResize")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let mut size = args.size;
    if args.flags & BYTES == 0 {
        let too_large = || QEMU.overflow(format_args!("size must be less than {}", u64::MAX / 1024));
        size = size.checked_mul(1024).ok_or_else(too_large)?;
    }
    let path = args.disk.to_str_lossy();
    let disk = known(&live.domain, &path)?;
    if args.flags & CAPACITY != 0 {
        size = capacity(disk, size)?;
    }
    if matches!(format(disk), "qcow2" | "qed") {
        size = size.checked_next_multiple_of(512).unwrap_or(size);
    }
    let empty = || QEMU.operation_invalid(format_args!("disk '{path}' is empty"));
    let node_name = top_node(disk).ok_or_else(empty)?;
    live.monitor.execute(&BlockResize { node_name, size }).await.map_err(monitor)?;
    Ok(())
}

/// How large what a disk is on is; the client may say so too.
fn capacity(disk: &Disk, said: u64) -> Result<u64> {
    if disk.type_ != StorageType::Block || !is_raw(disk) {
        return Err(QEMU.operation_unsupported(
            "block resize to full capacity supported only with 'raw' local block-based disks",
        ));
    }
    let path = path_of(disk).unwrap_or_default();
    let size = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
    let size = size.map_err(|error| file(&error, format_args!("failed to get size of '{path}'")))?;
    if said != 0 && said != size {
        let text = format_args!("Requested resize to '{said}' but device size is '{size}'");
        return Err(QEMU.invalid_arg(text));
    }
    Ok(size)
}

pub(crate) async fn peek(driver: &Qemu, args: DomainBlockPeekArgs) -> Result<DomainBlockPeekRet> {
    check_flags(args.flags, 0, "qemuDomainBlockPeek")?;
    let domain = driver.guest(&args.dom)?.lock().current().ok_or_else(not_running)?;
    let path = args.path.to_str_lossy();
    let disk = find(&domain, &path)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("disk '{path}' not found in domain")))?;
    if !is_raw(disk) {
        let text =
            format_args!("peeking is only supported for disk with 'raw' format not '{}'", format(disk));
        return Err(QEMU.operation_unsupported(text));
    }
    let source =
        path_of(disk).ok_or_else(|| QEMU.operation_unsupported("disk has no source to peek into"))?;
    let buffer = read_at(source, args.offset, args.size as usize)
        .map_err(|error| file(&error, format_args!("failed to open disk image file '{source}'")))?;
    if buffer.len() < args.size as usize {
        let text =
            format_args!("'{path}' starting from {} has only {} bytes available", args.offset, buffer.len());
        return Err(QEMU.invalid_arg(text));
    }
    Ok(DomainBlockPeekRet { buffer })
}

/// The format of its image; raw where none is said.
fn format(disk: &Disk) -> &str {
    disk.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw")
}

/// Whether what is in its file is what the guest sees.
fn is_raw(disk: &Disk) -> bool {
    format(disk) == "raw"
}

/// So many bytes of a file, or as many as there are.
fn read_at(path: &str, offset: u64, size: usize) -> std::io::Result<Vec<u8>> {
    let mut image = named::options().read(true).open(path)?;
    let mut buffer = Vec::new();
    if image.seek(SeekFrom::Start(offset)).is_ok() {
        image.take(size as u64).read_to_end(&mut buffer)?;
    }
    Ok(buffer)
}

/// An image of a disk, which clients name like `vda[3]` by its number.
struct Named<'a> {
    disk: &'a Disk,
    number: u32,
}

/// The images of a disk by their numbers, its own first.
fn images(disk: &Disk) -> Vec<u32> {
    let own = disk.source.as_ref().and_then(|source| source.index);
    let below = std::iter::successors(disk.backing_store.as_deref(), |below: &&BackingStore| {
        below.backing_store.as_deref()
    });
    own.into_iter().chain(below.filter_map(|below| below.index)).collect()
}

fn image_of<'a>(domain: &'a Domain, name: &str) -> Option<Named<'a>> {
    let (disk, number) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((disk, number)) => (disk, Some(number.parse::<u32>().ok()?)),
        None => (name, None),
    };
    let disk = domain.devices.disks.iter().find(|known| target(known) == disk)?;
    let all = images(disk);
    let number = match number {
        Some(number) => all.into_iter().find(|known| *known == number)?,
        None => all.into_iter().next()?,
    };
    Some(Named { disk, number })
}

pub(crate) async fn set_threshold(driver: &Qemu, args: DomainSetBlockThresholdArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainSetBlockThreshold")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let name = args.dev.to_str_lossy();
    let image = image_of(&live.domain, &name)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("failed to find disk '{name}'")))?;
    let node_name = storage_node(image.number);
    let write_threshold = args.threshold;
    live.monitor.execute(&BlockSetWriteThreshold { node_name, write_threshold }).await.map_err(monitor)?;
    Ok(())
}

impl Qemu {
    /// More has been written to an image than a client wanted to know of.
    pub(crate) fn threshold_passed(&self, guest: &Guest, node: &str, threshold: u64, excess: u64) {
        let Ok(Live { domain, .. }) = guest.live() else { return };
        let disks = domain.devices.disks.iter();
        let mut all =
            disks.flat_map(|disk| images(disk).into_iter().map(move |number| Named { disk, number }));
        let Some(Named { disk, number }) = all.find(|image| storage_node(image.number) == node) else {
            return;
        };
        let is_top = images(disk).first() == Some(&number);
        let names = [is_top.then(|| target(disk).to_owned()), Some(format!("{}[{number}]", target(disk)))];
        for dev in names.into_iter().flatten() {
            let (dom, path) = (guest.handle(), path_of(disk).filter(|_| is_top).map(Into::into));
            let dev = dev.as_str().into();
            let msg = DomainEventBlockThresholdMsg { callback_id: 0, dom, dev, path, threshold, excess };
            self.emit(Event::DomainBlockThreshold(msg));
        }
    }
}

/// What QEMU does about an error of an image, and libvirt's number for it (`VIR_DOMAIN_EVENT_IO_ERROR_…`).
const REACTIONS: &[(&str, i32)] = &[("ignore", 0), ("stop", 1), ("report", 2)];

impl Qemu {
    /// An image cannot be read or written.
    pub(crate) fn image_failed(&self, guest: &Guest, event: &EventKind) {
        let EventKind::BlockIoError { qom_path, node_name, action, nospace, .. } = event else { return };
        let Ok(Live { domain, .. }) = guest.live() else { return };
        let mut disks = domain.devices.disks.iter();
        let alias =
            |disk: &Disk| disk.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
        let is = |disk: &&Disk| {
            let of_image = node_name.as_ref().is_some_and(|node| nodes(disk).contains(node));
            let on_way = |path: &String| path.split('/').any(|part| part == alias(disk));
            of_image || (node_name.is_none() && qom_path.as_ref().is_some_and(on_way))
        };
        let disk = disks.find(is);
        let src_path = disk.and_then(path_of).unwrap_or_default();
        let dev_alias = disk.map(alias).unwrap_or_default();
        let action = REACTIONS.iter().find(|row| row.0 == action).map_or(0, |row| row.1);
        let reason = if *nospace == Some(true) { "enospc" } else { "message" };
        let (dom, src_path, dev_alias) = (guest.handle(), src_path.into(), dev_alias.as_str().into());
        let msg = DomainEventIoErrorMsg { dom, src_path, dev_alias, action };
        let with_reason = DomainEventIoErrorReasonMsg {
            dom: msg.dom.clone(),
            src_path: msg.src_path.clone(),
            dev_alias: msg.dev_alias.clone(),
            action,
            reason: reason.into(),
        };
        self.emit(Event::DomainIoError(DomainEventCallbackIoErrorMsg { callback_id: 0, msg }));
        let msg = with_reason;
        self.emit(Event::DomainIoErrorReason(DomainEventCallbackIoErrorReasonMsg { callback_id: 0, msg }));
        if action == 1 {
            self.change(guest, State::runs, State::PAUSED_IOERROR, Lifecycle::SUSPENDED_IOERROR);
        }
    }

    /// A drive's tray was opened or closed.
    pub(crate) fn tray_moved(&self, guest: &Guest, alias: &str, open: bool) {
        let mut known = false;
        edit_live(self, guest, |domain| {
            let is = |disk: &&mut Disk| disk.info.alias.as_ref().is_some_and(|own| own.name == alias);
            if let Some(disk) = domain.devices.disks.iter_mut().find(is) {
                disk.target.get_or_insert_default().tray = open.then_some(Tray::Open);
                known = true;
            }
        });
        if known {
            // VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN and …_CLOSE
            let (dom, dev_alias, reason) = (guest.handle(), alias.into(), i32::from(!open));
            let msg = DomainEventTrayChangeMsg { dom, dev_alias, reason };
            self.emit(Event::DomainTrayChange(DomainEventCallbackTrayChangeMsg { callback_id: 0, msg }));
        }
    }
}

/// How much of a guest's memory a client wants, and how it is counted (`VIR_MEMORY_…`).
const VIRTUAL: u32 = 1;
const PHYSICAL: u32 = 2;

pub(crate) async fn peek_memory(driver: &Qemu, args: DomainMemoryPeekArgs) -> Result<DomainMemoryPeekRet> {
    use virtwire_qmp::commands::{Memsave, Pmemsave};
    if args.flags != VIRTUAL && args.flags != PHYSICAL {
        return Err(QEMU.invalid_arg("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL"));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    // QEMU's user owns this directory.
    let path = live.dir.join("memory-peek");
    let (filename, val, size) = (path.display().to_string(), args.offset, u64::from(args.size));
    let saved = match args.flags {
        VIRTUAL => live.monitor.execute(&Memsave { val, size, filename, cpu_index: None }).await,
        _ => live.monitor.execute(&Pmemsave { val, size, filename }).await,
    };
    let read = written::take(&path, size);
    saved.map_err(monitor)?;
    let cannot = |error| -> VirtError { file(&error, "failed to read temporary file created with template") };
    Ok(DomainMemoryPeekRet { buffer: read.map_err(cannot)? })
}
