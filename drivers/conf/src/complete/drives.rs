//! Disks: their order, buses, addresses, and the controllers they need.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::YesNo;
use crate::domain::Domain;
use crate::domain::device::{Address, DriveAddress};
use crate::domain::disk::{
    Disk, DiskBus, DiskDevice, DiskSnapshot, DiskSource, StorageProtocol, StorageType, Tray,
};
use crate::domain::misc::{Controller, ControllerType, Hostdev, HostdevType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const NONE: ErrorDomain = ErrorDomain::NONE;

/// Prefixes of target names and the bus each stands for.
const PREFIXES: &[(&str, DiskBus)] = &[
    ("fd", DiskBus::Fdc),
    ("hd", DiskBus::Ide),
    ("vd", DiskBus::Virtio),
    ("sd", DiskBus::Scsi),
    ("xvd", DiskBus::Xen),
    ("ubd", DiskBus::Uml),
];

/// The number a target name stands for: `sda` 0, `sdaa` 26. A partition number may follow.
pub(super) fn target_index(name: &str) -> Option<u32> {
    let prefixes = ["fd", "hd", "vd", "sd", "xvd", "ubd", "nvme"];
    let letters = prefixes.iter().find_map(|p| name.strip_prefix(p))?;
    let (letters, digits) =
        letters.split_at(letters.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(letters.len()));
    if letters.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number =
        letters.bytes().try_fold(0u32, |n, c| n.checked_mul(26)?.checked_add(u32::from(c - b'a') + 1))?;
    Some(number - 1)
}

fn target(disk: &Disk) -> &str {
    disk.target.as_ref().and_then(|t| t.dev.as_deref()).unwrap_or_default()
}

/// Puts disks of one bus in the order of their targets, as if each were put in its place on arrival.
pub(crate) fn sort(domain: &mut Domain) {
    // Of many disks, what decides is moved about, and not the disks.
    let mut sorted: Vec<(Option<DiskBus>, Option<u32>, usize)> = Vec::new();
    for (at, disk) in domain.devices.disks.iter().enumerate() {
        let (bus, index) = (disk.target.as_ref().and_then(|t| t.bus), target_index(target(disk)));
        let mut place = None;
        for (n, (_, other, _)) in sorted.iter().enumerate().rev().filter(|(_, (other, ..))| *other == bus) {
            if *other > index {
                place = Some(n);
            } else if place.is_none() {
                place = Some(n + 1);
            }
        }
        sorted.insert(place.unwrap_or(sorted.len()), (bus, index, at));
    }
    let mut disks: Vec<_> = std::mem::take(&mut domain.devices.disks).into_iter().map(Some).collect();
    domain.devices.disks =
        sorted.into_iter().filter_map(|(.., at)| disks.get_mut(at).and_then(Option::take)).collect();
}

/// Targets, buses and what follows from the kind of device.
pub(super) fn begin(domain: &mut Domain) -> Result<(), VirtError> {
    for disk in &mut domain.devices.disks {
        let shown = shown(disk);
        let target = disk.target.get_or_insert_default();
        let name = target.dev.clone().unwrap_or_default();
        if target.bus.is_none() {
            let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
            target.bus = match (prefix, disk.device) {
                (_, DiskDevice::Floppy) => Some(DiskBus::Fdc),
                (Some((_, bus)), _) => Some(*bus),
                (None, _) => Some(DiskBus::Ide),
            };
        }
        let nowhere = |s: &DiskSource| s.protocol.is_none() && s.volume.is_none() && s.type_.is_none();
        let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        let volume = disk.type_ == StorageType::Volume && !removable && disk.source.is_some();
        if shown.is_none() && !volume && disk.source.as_ref().is_none_or(nowhere) {
            disk.source = None;
            if removable {
                disk.type_ = StorageType::File;
            }
        }
        if disk.device == DiskDevice::Cdrom {
            disk.readonly = true;
        }
        let wwn = disk.wwn.as_deref();
        let digits = wwn.map(|wwn| wwn.strip_prefix("0x").unwrap_or(wwn));
        refuse! {
            digits.is_some_and(|wwn| wwn.len() != 16 || !wwn.bytes().all(|c| c.is_ascii_hexdigit())) =>
                NONE.internal_error("Malformed wwn: {}", wwn.unwrap_or_default());
        }
        complete_disk(disk);
    }
    Ok(())
}

/// Where a disk is, in a word.
pub(super) fn shown(disk: &Disk) -> Option<String> {
    disk.source.as_ref().and_then(|s| s.file.clone().or(s.dev.clone()).or(s.dir.clone()).or(s.name.clone()))
}

/// Only sticks are shown to be removable.
pub(super) fn keep_removable(domain: &mut Domain) {
    for target in domain.devices.disks.iter_mut().filter_map(|disk| disk.target.as_mut()) {
        target.removable = target.removable.filter(|_| target.bus == Some(DiskBus::Usb));
    }
}

/// What is so by default is not said.
fn complete_disk(disk: &mut Disk) {
    if let Some(target) = &mut disk.target {
        target.tray = target.tray.filter(|tray| *tray != Tray::Closed);
    }
    if disk.type_ == StorageType::Vhostuser {
        disk.snapshot = Some(DiskSnapshot::No);
    } else if disk.readonly && disk.snapshot == Some(DiskSnapshot::No) {
        disk.snapshot = None;
    }
    let Some(source) = &mut disk.source else {
        return;
    };
    // Labels that only say that there is none belong to one run of the guest.
    source.seclabel.retain(|label| label.labelskip != Some(YesNo::Yes));
    let Some(protocol) = source.protocol else { return };
    if protocol == StorageProtocol::Iscsi {
        source.name = source.name.take().map(with_lun);
    }
    let port = match protocol {
        StorageProtocol::Ssh => "22",
        StorageProtocol::Nbd => "10809",
        StorageProtocol::Ftp => "21",
        StorageProtocol::Ftps => "990",
        StorageProtocol::Tftp => "69",
        StorageProtocol::Http => "80",
        StorageProtocol::Https => "443",
        StorageProtocol::Iscsi => "3260",
        StorageProtocol::Gluster => "24007",
        StorageProtocol::Sheepdog => "7000",
        _ => return,
    };
    for host in source.host.iter_mut().filter(|h| h.socket.is_none()) {
        host.port.get_or_insert_with(|| port.to_owned());
    }
}

/// An iSCSI name without a unit means unit 0.
pub(super) fn with_lun(name: String) -> String {
    if name.contains('/') { name } else { name + "/0" }
}

/// The address that a target name stands for.
fn address_of(bus: DiskBus, index: u32) -> Option<DriveAddress> {
    let drive = |controller, bus, unit| Some(DriveAddress { controller, bus, target: 0, unit });
    match bus {
        DiskBus::Ide => drive(index / 4, index % 4 / 2, index % 2),
        DiskBus::Fdc => drive(index / 2, 0, index % 2),
        DiskBus::Sata => drive(index / 6, 0, index % 6),
        // Unit 7 is the controller itself.
        DiskBus::Scsi => drive(index / 7, 0, index % 7),
        _ => None,
    }
}

/// Addresses of disks on buses that have drives.
pub(super) fn assign(domain: &mut Domain) -> Result<(), VirtError> {
    for disk in &mut domain.devices.disks {
        let Some(target) = &disk.target else { continue };
        let (Some(name), bus) = (&target.dev, target.bus.unwrap_or_default()) else { continue };
        if disk.info.address.is_some() {
            continue;
        }
        let Some(index) = target_index(name) else {
            return Err(DOMAIN.xml_error(format_args!("Unknown disk name '{name}' and no address specified")));
        };
        disk.info.address = address_of(bus, index).map(Address::Drive);
    }
    assign_hostdevs(domain);
    Ok(())
}

/// Each disk has a name of its own.
pub(super) fn check_names(domain: &Domain) -> Result<(), VirtError> {
    let mut names: Vec<&str> = domain.devices.disks.iter().map(target).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let sources: Vec<String> =
            domain.devices.disks.iter().filter(|d| target(d) == pair[0]).map(source).collect();
        return Err(DOMAIN.xml_error(format_args!(
            "target '{}' duplicated for disk sources '{}' and '{}'",
            pair[0], sources[0], sources[1]
        )));
    }
    Ok(())
}

/// Units of a SCSI bus; unit 7 is the controller itself.
const SCSI_UNITS: u32 = 16;

/// SCSI devices of the host take the first units that no disk has.
fn assign_hostdevs(domain: &mut Domain) {
    let place = |address: Option<&Address>| match address {
        Some(Address::Drive(drive)) => Some((drive.controller, drive.unit)),
        _ => None,
    };
    let devices = &mut domain.devices;
    let disks = devices.disks.iter().filter(|d| d.target.as_ref().and_then(|t| t.bus) == Some(DiskBus::Scsi));
    let mut taken: BTreeSet<(u32, u32)> = disks.filter_map(|d| place(d.info.address.as_ref())).collect();
    taken.extend(devices.hostdevs.iter().filter_map(|h| place(h.info.address.as_ref())));
    let waits = |h: &&mut Hostdev| h.type_ == HostdevType::Scsi && h.info.address.is_none();
    for hostdev in devices.hostdevs.iter_mut().filter(waits) {
        let units =
            |controller| (0..SCSI_UNITS).filter(|unit| *unit != 7).map(move |unit| (controller, unit));
        let free = (0..).flat_map(units).find(|place| !taken.contains(place));
        if let Some((controller, unit)) = free {
            taken.insert((controller, unit));
            hostdev.info.address = Some(Address::Drive(DriveAddress { controller, bus: 0, target: 0, unit }));
        }
    }
}

/// How errors name a disk's source.
fn source(disk: &Disk) -> String {
    let source = disk.source.as_ref().and_then(|s| s.file.as_ref().or(s.dev.as_ref()).or(s.name.as_ref()));
    source.cloned().unwrap_or_else(|| "(null)".to_owned())
}

/// Adds a controller where there is none of its kind and number; kinds keep their numbers in order.
pub(super) fn add_controller(domain: &mut Domain, type_: ControllerType, index: i32, model: Option<&str>) {
    let known = domain.devices.controllers.iter().any(|c| c.type_ == type_ && c.index == Some(index));
    if !known {
        let controller = Controller {
            type_,
            index: Some(index),
            model: model.map(str::to_owned),
            ..Controller::default()
        };
        insert_controller(&mut domain.devices.controllers, controller);
    }
}

/// Puts a controller after those of its kind with smaller numbers.
pub(crate) fn insert_controller(controllers: &mut Vec<Controller>, controller: Controller) {
    let mut place = None;
    for (n, other) in
        controllers.iter().enumerate().rev().filter(|(_, other)| other.type_ == controller.type_)
    {
        if other.index > controller.index {
            place = Some(n);
        } else if other.index == controller.index {
            // Companions of a USB controller stay behind it, in order of arrival.
            if controller.info.master.is_none() && other.info.master.is_some() {
                place = Some(n);
                continue;
            }
            place = place.or(Some(n + 1));
            break;
        } else if place.is_none() {
            place = Some(n + 1);
        }
    }
    controllers.insert(place.unwrap_or(controllers.len()), controller);
}

/// Controllers of the host's SCSI devices come before any that a board has.
pub(super) fn controllers_of_hostdevs(domain: &mut Domain) {
    let scsi = domain.devices.hostdevs.iter().filter(|hostdev| hostdev.type_ == HostdevType::Scsi);
    let last = scsi.map(|hostdev| drive(hostdev.info.address.as_ref()).unwrap_or(0)).max();
    for index in 0..=last.unwrap_or(-1).min(MAX_IMPLICIT) {
        add_controller(domain, ControllerType::Scsi, index, None);
    }
}

/// Controllers that devices ask for by number.
pub(super) fn controllers(domain: &mut Domain) {
    let kinds = [
        (DiskBus::Scsi, ControllerType::Scsi),
        (DiskBus::Fdc, ControllerType::Fdc),
        (DiskBus::Ide, ControllerType::Ide),
        (DiskBus::Sata, ControllerType::Sata),
    ];
    for (bus, kind) in kinds {
        let on_bus = |d: &&Disk| d.target.as_ref().and_then(|t| t.bus) == Some(bus);
        let mut last =
            domain.devices.disks.iter().filter(on_bus).filter_map(|d| drive(d.info.address.as_ref())).max();
        if kind == ControllerType::Scsi {
            let scsi = |t| matches!(t, HostdevType::Scsi);
            let hostdevs = domain.devices.hostdevs.iter().filter(|h| scsi(h.type_));
            last = last.max(hostdevs.filter_map(|h| drive(h.info.address.as_ref())).max());
        }
        for index in 0..=last.unwrap_or(-1).min(MAX_IMPLICIT) {
            add_controller(domain, kind, index, None);
        }
    }
    let devices = &domain.devices;
    let channels = devices.channels.iter().filter(|c| c.is_virtio()).map(|c| &c.info);
    let consoles = devices.consoles.iter().filter(|c| c.is_virtio()).map(|c| &c.info);
    let mut wanted: Vec<u32> = channels
        .chain(consoles)
        .map(|info| match &info.address {
            Some(Address::VirtioSerial(address)) => address.controller,
            _ => 0,
        })
        .collect();
    wanted.sort_unstable();
    for index in wanted.into_iter().filter_map(|index| i32::try_from(index).ok()) {
        add_controller(domain, ControllerType::VirtioSerial, index, None);
    }
    if !domain.devices.smartcards.is_empty() {
        add_controller(domain, ControllerType::Ccid, 0, None);
    }
}

/// An address may name any controller; this many are made up for it.
const MAX_IMPLICIT: i32 = 255;

fn drive(address: Option<&Address>) -> Option<i32> {
    match address {
        Some(Address::Drive(drive)) => i32::try_from(drive.controller).ok(),
        _ => None,
    }
}
