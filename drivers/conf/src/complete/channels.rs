//! Places that are not on PCI or USB: channels of an s390, registers of sPAPR; and how an s390 tells PCI devices apart.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::Chipset;
use super::buses::unset;
use super::endpoints;
use crate::domain::Domain;
use crate::domain::chardev::{ConsoleTargetType, SerialTargetType};
use crate::domain::device::{Address, CcwAddress, DeviceInfo, NoParts, SpaprVioAddress, Zpci};
use crate::domain::disk::{Disk, DiskBus, FilesystemType};
use crate::domain::display::{InputBus, SoundModel, VideoType};
use crate::domain::misc::{Controller, ControllerType, HostdevType, MemballoonModel, TpmModel};
use crate::domain::net::Interface;
use crate::table::Hex;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// The channel subsystem of virtio.
const VIRTIO_CSSID: u64 = 0xfe;
/// Registers of sPAPR devices are this far from one another.
const REGISTER_STEP: u64 = 0x1000;

/// Places for devices that are on channels or have registers; the latter are known by their kind, whatever the board.
///
/// # Errors
/// `VIR_ERR_XML_ERROR` for a channel that two devices name.
pub(super) fn assign(domain: &mut Domain, chipset: Chipset) -> Result<(), VirtError> {
    registers(domain);
    match chipset {
        Chipset::Ccw => channels(domain),
        Chipset::ArmMmio => {
            in_memory(domain);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Visits every device that may be on a channel, in the order in which they get theirs.
fn each(domain: &mut Domain, visit: &mut dyn FnMut(&mut DeviceInfo)) {
    let devices = &mut domain.devices;
    let disks = devices.disks.iter_mut();
    disks
        .filter(|d| d.target.as_ref().and_then(|t| t.bus) == Some(DiskBus::Virtio))
        .for_each(|d| visit(&mut d.info));
    devices.interfaces.iter_mut().filter(is_virtio).for_each(|d| visit(&mut d.info));
    devices.sounds.iter_mut().filter(|d| d.model == SoundModel::Virtio).for_each(|d| visit(&mut d.info));
    let hostdevs = devices.hostdevs.iter_mut();
    hostdevs
        .filter(|d| d.type_ == HostdevType::ScsiHost || d.model.as_deref() == Some("vfio-ccw"))
        .for_each(|d| visit(&mut d.info));
    let videos = devices.videos.iter_mut();
    videos
        .filter(|d| d.model.as_ref().is_some_and(|model| model.type_ == VideoType::Virtio))
        .for_each(|d| visit(&mut d.info));
    let controllers = devices.controllers.iter_mut();
    controllers
        .filter(|c| match c.type_ {
            ControllerType::Scsi => {
                let old = ["virtio", "dc390", "am53c974"];
                c.model.as_deref().is_some_and(|model| old.iter().any(|name| model.starts_with(name)))
            }
            kind => kind == ControllerType::VirtioSerial,
        })
        .for_each(|d| visit(&mut d.info));
    let inputs = devices.inputs.iter_mut();
    inputs.filter(|d| d.bus == Some(InputBus::Virtio)).for_each(|d| visit(&mut d.info));
    let filesystems = devices.filesystems.iter_mut();
    filesystems.filter(|d| d.type_ == FilesystemType::Mount).for_each(|d| visit(&mut d.info));
    let balloon = devices.memballoon.iter_mut();
    balloon.filter(|d| d.model == MemballoonModel::Virtio).for_each(|d| visit(&mut d.info));
    devices.rngs.iter_mut().for_each(|d| visit(&mut d.info));
    devices.vsock.iter_mut().for_each(|d| visit(&mut d.info));
    devices.cryptos.iter_mut().for_each(|d| visit(&mut d.info));
}

/// Devices that are found in memory: the older ones of virtio, and every controller for SCSI.
fn in_memory(domain: &mut Domain) {
    let place = |info: &mut DeviceInfo| {
        info.address.get_or_insert(Address::VirtioMmio(NoParts::default()));
    };
    let devices = &mut domain.devices;
    let on_virtio = |disk: &&mut Disk| disk.target.as_ref().and_then(|t| t.bus) == Some(DiskBus::Virtio);
    devices.disks.iter_mut().filter(on_virtio).for_each(|d| place(&mut d.info));
    devices.interfaces.iter_mut().filter(is_virtio).for_each(|d| place(&mut d.info));
    let held = |c: &&mut Controller| matches!(c.type_, ControllerType::Scsi | ControllerType::VirtioSerial);
    devices.controllers.iter_mut().filter(held).for_each(|d| place(&mut d.info));
    let hands = devices.inputs.iter_mut().filter(|d| d.bus == Some(InputBus::Virtio));
    hands.for_each(|d| place(&mut d.info));
    let balloon = devices.memballoon.iter_mut().filter(|d| d.model == MemballoonModel::Virtio);
    balloon.for_each(|d| place(&mut d.info));
    devices.rngs.iter_mut().for_each(|d| place(&mut d.info));
}

fn is_virtio(net: &&mut Interface) -> bool {
    let model = net.model.as_ref().and_then(|model| model.type_.as_deref());
    model.is_some_and(|model| model.starts_with("virtio"))
}

/// A channel's number, of those that name one.
fn number(info: &DeviceInfo) -> Option<(u64, u64, u64)> {
    match &info.address {
        Some(Address::Ccw(at)) => Some((at.cssid?.0, at.ssid?.0, at.devno?.0)),
        _ => None,
    }
}

fn channels(domain: &mut Domain) -> Result<(), VirtError> {
    let mut taken = BTreeSet::new();
    for place in domain.devices.infos().into_iter().filter_map(number) {
        let (cssid, ssid, devno) = place;
        refuse! {
            !taken.insert(place) => DOMAIN.internal_error(
                "The CCW devno '{cssid:x}.{ssid:x}.{devno:04x}' is in use already");
        }
    }
    let mut free = 0;
    each(domain, &mut |info| {
        if !matches!(&info.address, None | Some(Address::Ccw(CcwAddress { devno: None, .. }))) {
            return;
        }
        while !taken.insert((VIRTIO_CSSID, 0, free)) {
            free += 1;
        }
        let place = CcwAddress { cssid: Some(Hex(VIRTIO_CSSID)), ssid: Some(Hex(0)), devno: Some(Hex(free)) };
        info.address = Some(Address::Ccw(place));
    });
    Ok(())
}

/// Numbers by which an s390 tells its PCI devices apart.
pub(super) fn identify(domain: &mut Domain) {
    let (mut uids, mut fids) = (BTreeSet::new(), BTreeSet::new());
    for info in domain.devices.infos() {
        if let Some(Address::Pci(at)) = &info.address
            && let Some(zpci) = &at.zpci
        {
            uids.extend(zpci.uid.map(|uid| uid.0));
            fids.extend(zpci.fid.map(|fid| fid.0));
        }
    }
    let next = |taken: &mut BTreeSet<u64>, first: u64| {
        let free = (first..).find(|number| !taken.contains(number)).unwrap_or(first);
        taken.insert(free);
        free
    };
    endpoints::each(domain, &mut |info, _| {
        if let Some(Address::Pci(at)) = &mut info.address
            && !unset(at)
        {
            let zpci = at.zpci.get_or_insert_with(Zpci::default);
            zpci.uid.get_or_insert_with(|| Hex(next(&mut uids, 1)));
            zpci.fid.get_or_insert_with(|| Hex(next(&mut fids, 0)));
        }
        true
    });
}

/// Registers of sPAPR's virtual bus; each kind of device begins at its own.
fn registers(domain: &mut Domain) {
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    for info in domain.devices.infos() {
        if let Some(Address::SpaprVio(at)) = &info.address {
            taken.extend(at.reg.map(|reg| reg.0));
        }
    }
    let devices = &mut domain.devices;
    let mut place = |info: &mut DeviceInfo, first: u64| {
        if matches!(&info.address, None | Some(Address::SpaprVio(SpaprVioAddress { reg: None }))) {
            let mut reg = first;
            while !taken.insert(reg) {
                reg += REGISTER_STEP;
            }
            info.address = Some(Address::SpaprVio(SpaprVioAddress { reg: Some(Hex(reg)) }));
        }
    };
    let card = |net: &&mut Interface| {
        net.model.as_ref().and_then(|model| model.type_.as_deref()) == Some("spapr-vlan")
    };
    devices.interfaces.iter_mut().filter(card).for_each(|net| place(&mut net.info, 0x1000));
    let controllers = devices.controllers.iter_mut();
    controllers
        .filter(|c| c.type_ == ControllerType::Scsi && c.model.as_deref() == Some("ibmvscsi"))
        .for_each(|c| place(&mut c.info, 0x2000));
    let vty = |kind| kind == Some(SerialTargetType::SpaprVioSerial);
    let serials = devices.serials.iter_mut();
    serials
        .filter(|s| vty(s.target.as_ref().and_then(|target| target.type_)))
        .for_each(|s| place(&mut s.info, 0x3000_0000));
    devices.nvram.iter_mut().for_each(|n| place(&mut n.info, 0x3000));
    let tpms = devices.tpms.iter_mut();
    tpms.filter(|tpm| tpm.model == Some(TpmModel::TpmSpapr)).for_each(|tpm| place(&mut tpm.info, 0x4000));
    // The first console is the first serial port seen from the other side.
    let serial = Some(ConsoleTargetType::Serial);
    if let Some(console) = devices.consoles.first_mut()
        && console.target.as_ref().and_then(|target| target.type_) == serial
        && let Some(Address::SpaprVio(at)) = devices.serials.first().and_then(|s| s.info.address.as_ref())
    {
        console.info.address = Some(Address::SpaprVio(at.clone()));
    }
}
