//! USB ports: first those of the controllers, then those of hubs; more hubs where there are too few.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Domain;
use crate::domain::device::{Address, DeviceInfo, UsbAddress};
use crate::domain::disk::DiskBus;
use crate::domain::display::InputBus;
use crate::domain::misc::{ControllerType, HostdevType, Hub, HubType};

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
pub(super) fn assign(domain: &mut Domain) {
    let mut ports = Ports::default();
    for controller in domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb) {
        let Some(bus) = controller.index.and_then(|i| u32::try_from(i).ok()) else { continue };
        let count = ports_of(controller.model.as_deref().unwrap_or_default(), controller.ports);
        let known = ports.hubs.entry((bus, Vec::new())).or_insert(0);
        *known = count.max(*known);
    }
    for hub in &domain.devices.hubs {
        if let Some(Address::Usb(address)) = &hub.info.address {
            ports.hubs.extend(place(address).map(|place| (place, HUB_PORTS)));
        }
    }
    let mut waiting = 0;
    each(domain, &mut |info| match &info.address {
        Some(Address::Usb(address)) if address.port.is_some() => ports.taken.extend(place(address)),
        Some(Address::Usb(_)) | None => waiting += 1,
        Some(_) => {}
    });
    for hub in domain.devices.hubs.iter_mut().filter(|hub| hub.info.address.is_none()) {
        place_hub(&mut ports, hub);
    }
    // A controller without ports has no hubs either.
    while waiting > ports.free() && ports.free() > 0 {
        let mut hub = Hub { type_: HubType::Usb, ..Hub::default() };
        place_hub(&mut ports, &mut hub);
        if hub.info.address.is_none() {
            break;
        }
        domain.devices.hubs.push(hub);
    }
    each(domain, &mut |info| {
        let wanted = match &info.address {
            None => None,
            Some(Address::Usb(UsbAddress { bus, port: None })) => Some(*bus),
            Some(_) => return,
        };
        info.address = ports.take(wanted).map(Address::Usb).or(info.address.take());
    });
}

fn place_hub(ports: &mut Ports, hub: &mut Hub) {
    if let Some(address) = ports.take(None) {
        ports.hubs.extend(place(&address).map(|place| (place, HUB_PORTS)));
        hub.info.address = Some(Address::Usb(address));
    }
}

/// Visits all USB devices in the order in which they get ports.
fn each(domain: &mut Domain, visit: &mut dyn FnMut(&mut DeviceInfo)) {
    let devices = &mut domain.devices;
    devices.hubs.iter_mut().filter(|hub| hub.info.address.is_some()).for_each(|d| visit(&mut d.info));
    let ccid = |t| t == ControllerType::Ccid;
    devices.controllers.iter_mut().filter(|c| ccid(c.type_)).for_each(|d| visit(&mut d.info));
    for disk in &mut devices.disks {
        if disk.target.as_ref().and_then(|t| t.bus) == Some(DiskBus::Usb) {
            visit(&mut disk.info);
        }
    }
    devices.hostdevs.iter_mut().filter(|d| d.type_ == HostdevType::Usb).for_each(|d| visit(&mut d.info));
    devices.inputs.iter_mut().filter(|d| d.bus == Some(InputBus::Usb)).for_each(|d| visit(&mut d.info));
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
