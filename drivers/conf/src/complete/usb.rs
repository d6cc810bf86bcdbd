//! USB ports: first those of the controllers, then those of hubs; more hubs where there are too few.

use std::collections::{BTreeMap, BTreeSet};

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::{Chipset, chipset};
use super::endpoints::is_mtp;
use crate::domain::Domain;
use crate::domain::chardev::{Serial, SerialTargetType};
use crate::domain::device::{Address, DeviceInfo, UsbAddress};
use crate::domain::disk::{Disk, DiskBus};
use crate::domain::display::{InputBus, SoundModel};
use crate::domain::misc::{Controller, ControllerType, HostdevType, Hub, HubType};
use crate::domain::net::Interface;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// A place on a bus: the ports on the way to it.
type Place = (u32, Vec<u32>);

/// No controller has more ports.
const MOST_PORTS: u32 = 255;

/// Ports of a hub.
const HUB_PORTS: u32 = 8;

/// Hubs below hubs, the controller's own included.
const MOST_TIERS: usize = 5;

#[derive(Default)]
struct Ports {
    /// Controllers (no port on the way) and hubs, with the number of their ports.
    hubs: BTreeMap<Place, u32>,
    taken: BTreeSet<Place>,
}

impl Ports {
    /// The first free port of a hub, or else of the hubs below it.
    fn find(&self, hub: &Place) -> Option<Place> {
        let count = *self.hubs.get(hub)?;
        let below = |port| {
            let mut path = hub.1.clone();
            path.push(port);
            (hub.0, path)
        };
        let mut places = (1..=count).map(below);
        places.find(|place| !self.taken.contains(place)).or_else(|| {
            let deeper = hub.1.len() + 1 < MOST_TIERS;
            (1..=count).filter(|_| deeper).find_map(|port| self.find(&below(port)))
        })
    }

    /// Marks a port that is named as taken. It must be there, and be free.
    fn reserve(&mut self, address: &UsbAddress, is_hub: bool) -> Result<(), VirtError> {
        let shown = address.port.as_deref().unwrap_or_default();
        let Some(place) = place(address) else { return Ok(()) };
        let bus = place.0;
        if !self.hubs.contains_key(&(bus, Vec::new())) {
            return Err(DOMAIN.xml_error(format_args!("Missing USB bus {bus}")));
        }
        let Some((last, way)) = place.1.split_last() else { return Ok(()) };
        let Some(count) = self.hubs.get(&(bus, way.to_vec())) else {
            let hub = way.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            // The first hub on the way that is not there.
            let missing = (1..=way.len()).find(|n| !self.hubs.contains_key(&(bus, way[..*n].to_vec())));
            let port =
                missing.map_or(hub, |n| way[..n].iter().map(u32::to_string).collect::<Vec<_>>().join("."));
            let text = format_args!("there is no hub at port {port} in USB address bus: {bus} port: {shown}");
            return Err(DOMAIN.xml_error(text));
        };
        if last > count {
            let text = format_args!("requested USB port {shown} not present on USB bus {bus}");
            return Err(DOMAIN.xml_error(text));
        }
        if is_hub {
            self.hubs.insert(place.clone(), HUB_PORTS);
        }
        if !self.taken.insert(place) {
            return Err(DOMAIN.xml_error(format_args!("Duplicate USB address bus {bus} port {shown}")));
        }
        Ok(())
    }

    /// The first free port of one bus, or of any.
    fn take(&mut self, wanted: Option<u32>) -> Option<UsbAddress> {
        let controllers =
            self.hubs.keys().filter(|(bus, path)| path.is_empty() && wanted.is_none_or(|w| w == *bus));
        let place = controllers.cloned().collect::<Vec<_>>().iter().find_map(|root| self.find(root))?;
        self.taken.insert(place.clone());
        let port: Vec<String> = place.1.iter().map(u32::to_string).collect();
        Some(UsbAddress { bus: place.0, port: Some(port.join(".")) })
    }

    fn free(&self) -> usize {
        let all: u32 = self.hubs.values().sum();
        (all as usize).saturating_sub(self.taken.len())
    }
}

/// The place that an address names.
fn place(address: &UsbAddress) -> Option<Place> {
    let path = address.port.as_deref()?.split('.').map(|port| port.parse().ok()).collect::<Option<_>>()?;
    Some((address.bus, path))
}

/// Gives every USB device without an address the next free port.
pub(super) fn assign(domain: &mut Domain) -> Result<(), VirtError> {
    check_controllers(domain)?;
    let mut ports = Ports::default();
    for controller in domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb) {
        let Some(bus) = controller.index.and_then(|i| u32::try_from(i).ok()) else { continue };
        let count = ports_of(controller.model.as_deref().unwrap_or_default(), controller.ports);
        let known = ports.hubs.entry((bus, Vec::new())).or_insert(0);
        *known = count.max(*known);
    }
    let mut waiting = 0_usize;
    let mut given = Vec::new();
    each(domain, &mut |info, is_hub| match &info.address {
        Some(Address::Usb(address)) if address.port.is_some() => given.push((address.clone(), is_hub)),
        Some(Address::Usb(_)) | None => waiting += 1,
        Some(_) => {}
    });
    let devices = waiting > 0 || !given.is_empty() || !domain.devices.hubs.is_empty();
    refuse! {
        devices && ports.hubs.values().all(|count| *count == 0) => QEMU.config_unsupported(
            "USB is disabled for this domain, but USB devices are present in the domain XML");
    }
    let mut missing = None;
    each(domain, &mut |info, _| {
        if let Some(Address::Usb(UsbAddress { bus, port: None })) = &info.address
            && !ports.hubs.contains_key(&(*bus, Vec::new()))
        {
            missing = missing.or(Some(*bus));
        }
    });
    refuse! {
        missing.is_some() => DOMAIN.xml_error(
            "USB bus {} requested but no controller with that index is present", missing.unwrap_or_default());
    }
    for (address, is_hub) in given {
        ports.reserve(&address, is_hub)?;
    }
    for hub in domain.devices.hubs.iter_mut().filter(|hub| hub.info.address.is_none()) {
        place_hub(&mut ports, hub);
    }
    // A controller without ports has no hubs either.
    let lacking = waiting.saturating_sub(ports.free());
    // One port of each hub goes to the next, and one stays free.
    let more =
        if lacking > 0 && ports.free() > 0 { (lacking + 1).div_ceil(HUB_PORTS as usize - 1) } else { 0 };
    for _ in 0..more {
        let mut hub = Hub { type_: HubType::Usb, ..Hub::default() };
        place_hub(&mut ports, &mut hub);
        if hub.info.address.is_none() {
            break;
        }
        domain.devices.hubs.push(hub);
    }
    each(domain, &mut |info, _| {
        let wanted = match &info.address {
            None => None,
            Some(Address::Usb(UsbAddress { bus, port: None })) => Some(*bus),
            Some(_) => return,
        };
        info.address = ports.take(wanted).map(Address::Usb).or(info.address.take());
    });
    Ok(())
}

/// Companions have a master, and nobody shares a number otherwise.
fn check_controllers(domain: &Domain) -> Result<(), VirtError> {
    let usb = || domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb);
    let none = |c: &Controller| c.model.as_deref() == Some("none");
    if usb().any(none) {
        let devices = &domain.devices;
        let several = usb().count() > 1 && chipset(domain) != Chipset::Ccw;
        refuse! {
            several =>
                DOMAIN.xml_detail("Can't add another USB controller: USB is disabled for this domain");
            devices.hostdevs.iter().any(|h| h.type_ == HostdevType::Usb) =>
                DOMAIN.config_unsupported("Can't add host USB device: USB is disabled in this host");
            devices.inputs.iter().any(|i| i.bus == Some(InputBus::Usb)) =>
                DOMAIN.config_unsupported("Can't add USB input device. USB bus is disabled");
            devices.hubs.iter().any(|h| h.type_ == HubType::Usb) =>
                DOMAIN.config_unsupported("Can't add USB hub: USB is disabled for this domain");
        }
    }
    let masters = || usb().filter(|c| c.info.master.is_none());
    let mut numbers = BTreeSet::new();
    for master in masters() {
        if !numbers.insert(master.index) {
            let index = master.index.unwrap_or(0);
            return Err(DOMAIN.xml_error(format_args!("Duplicate USB controllers with index {index}")));
        }
    }
    if usb().next().is_some() && masters().next().is_none() {
        return Err(DOMAIN.xml_detail("No master USB controller specified"));
    }
    Ok(())
}

fn place_hub(ports: &mut Ports, hub: &mut Hub) {
    if let Some(address) = ports.take(None) {
        ports.hubs.extend(place(&address).map(|place| (place, HUB_PORTS)));
        hub.info.address = Some(Address::Usb(address));
    }
}

/// Visits all USB devices in the order in which they get ports, and says which are hubs.
fn each(domain: &mut Domain, visit: &mut dyn FnMut(&mut DeviceInfo, bool)) {
    let devices = &mut domain.devices;
    devices.hubs.iter_mut().filter(|hub| hub.info.address.is_some()).for_each(|d| visit(&mut d.info, true));
    let mut visit = |info: &mut DeviceInfo| visit(info, false);
    let on_usb = |disk: &&mut Disk| disk.target.as_ref().and_then(|target| target.bus) == Some(DiskBus::Usb);
    devices.disks.iter_mut().filter(on_usb).for_each(|d| visit(&mut d.info));
    let card = |card: &&mut Interface| {
        card.model.as_ref().and_then(|model| model.type_.as_deref()) == Some("usb-net")
    };
    devices.interfaces.iter_mut().filter(card).for_each(|d| visit(&mut d.info));
    devices.sounds.iter_mut().filter(|d| d.model == SoundModel::Usb).for_each(|d| visit(&mut d.info));
    devices.hostdevs.iter_mut().filter(|d| d.type_ == HostdevType::Usb).for_each(|d| visit(&mut d.info));
    let ccid = |t| t == ControllerType::Ccid;
    devices.controllers.iter_mut().filter(|c| ccid(c.type_)).for_each(|d| visit(&mut d.info));
    let serial = |serial: &&mut Serial| {
        serial.target.as_ref().and_then(|target| target.type_) == Some(SerialTargetType::UsbSerial)
    };
    devices.serials.iter_mut().filter(serial).for_each(|d| visit(&mut d.info));
    devices.inputs.iter_mut().filter(|d| d.bus == Some(InputBus::Usb)).for_each(|d| visit(&mut d.info));
    devices.filesystems.iter_mut().filter(|d| is_mtp(d)).for_each(|d| visit(&mut d.info));
    devices.redirdevs.iter_mut().for_each(|d| visit(&mut d.info));
}

/// How many ports a controller's root hub has.
fn ports_of(model: &str, configured: Option<i32>) -> u32 {
    let own = match model {
        "ich9-ehci1" | "ehci" => 6,
        "nec-xhci" | "qemu-xhci" => 4,
        "pci-ohci" => 3,
        "none" => 0,
        _ => 2,
    };
    configured.and_then(|n| u32::try_from(n).ok()).unwrap_or(own).min(MOST_PORTS)
}
