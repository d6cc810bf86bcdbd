//! USB ports.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::domain::device::{Address, DeviceInfo, UsbAddress};
use crate::domain::disk::DiskBus;
use crate::domain::display::InputBus;
use crate::domain::misc::{ControllerType, HostdevType};

/// Gives every USB device without an address the next free port of the first controller that has one.
pub(super) fn assign(domain: &mut Domain) {
    let devices = &mut domain.devices;
    let mut buses: Vec<(u32, u32)> = Vec::new();
    for controller in devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb) {
        let Some(bus) = controller.index.and_then(|i| u32::try_from(i).ok()) else { continue };
        let count = ports(controller.model.as_deref().unwrap_or_default(), controller.ports);
        match buses.iter_mut().find(|(b, _)| *b == bus) {
            Some((_, most)) => *most = count.max(*most),
            None => buses.push((bus, count)),
        }
    }
    buses.sort_unstable();
    let mut taken: BTreeSet<(u32, String)> = BTreeSet::new();
    let mut waiting: Vec<&mut DeviceInfo> = Vec::new();
    let usb_disk = |bus| bus == Some(DiskBus::Usb);
    let hubs = devices.hubs.iter_mut().map(|d| &mut d.info);
    let disks = devices
        .disks
        .iter_mut()
        .filter(|d| usb_disk(d.target.as_ref().and_then(|t| t.bus)))
        .map(|d| &mut d.info);
    let hostdevs = devices.hostdevs.iter_mut().filter(|d| d.type_ == HostdevType::Usb).map(|d| &mut d.info);
    let inputs = devices.inputs.iter_mut().filter(|d| d.bus == Some(InputBus::Usb)).map(|d| &mut d.info);
    let redirdevs = devices.redirdevs.iter_mut().map(|d| &mut d.info);
    let ccid =
        devices.controllers.iter_mut().filter(|c| c.type_ == ControllerType::Ccid).map(|c| &mut c.info);
    for info in hubs.chain(ccid).chain(disks).chain(hostdevs).chain(inputs).chain(redirdevs) {
        match &info.address {
            Some(Address::Usb(UsbAddress { bus, port: Some(port) })) => {
                taken.insert((*bus, port.clone()));
            }
            Some(Address::Usb(UsbAddress { port: None, .. })) | None => waiting.push(info),
            Some(_) => {}
        }
    }
    for info in waiting {
        let wanted = match &info.address {
            Some(Address::Usb(address)) => Some(address.bus),
            _ => None,
        };
        let places = buses.iter().filter(|(bus, _)| wanted.is_none_or(|w| w == *bus));
        let mut places = places.flat_map(|(bus, count)| (1..=*count).map(|port| (*bus, port.to_string())));
        if let Some(place) = places.find(|place| !taken.contains(place)) {
            info.address = Some(Address::Usb(UsbAddress { bus: place.0, port: Some(place.1.clone()) }));
            taken.insert(place);
        }
    }
}

/// No controller has more ports.
const MOST_PORTS: u32 = 255;

/// How many ports a controller's root hub has.
fn ports(model: &str, configured: Option<i32>) -> u32 {
    let own = match model {
        "ich9-ehci1" | "ehci" => 6,
        "nec-xhci" | "qemu-xhci" => 4,
        "vt82c686b-uhci" | "piix3-uhci" | "piix4-uhci" => 2,
        "pci-ohci" => 3,
        "none" => 0,
        _ => 2,
    };
    configured.and_then(|n| u32::try_from(n).ok()).unwrap_or(own).min(MOST_PORTS)
}
