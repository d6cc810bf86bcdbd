//! The USB controllers of ICH9: one for fast devices and up to three for slow ones are functions of one PCI slot.

use std::collections::BTreeSet;

use super::buses::{Buses, unset};
use crate::OnOff;
use crate::domain::Domain;
use crate::domain::device::{Address, PciAddress};
use crate::domain::misc::{Controller, ControllerType};
use crate::table::Hex;

/// Which function of the slot a model is.
pub(super) fn function(model: &str) -> Option<u8> {
    match model {
        "ich9-ehci1" => Some(7),
        "ich9-uhci1" => Some(0),
        "ich9-uhci2" => Some(1),
        "ich9-uhci3" => Some(2),
        _ => None,
    }
}

fn function_of(controller: &Controller) -> Option<u8> {
    let is_usb = controller.type_ == ControllerType::Usb;
    controller.model.as_deref().filter(|_| is_usb).and_then(function)
}

fn place(controller: &Controller) -> Option<&PciAddress> {
    match &controller.info.address {
        Some(Address::Pci(address)) if !unset(address) => Some(address),
        _ => None,
    }
}

fn all(domain: &Domain) -> impl Iterator<Item = &Controller> {
    domain.devices.controllers.iter().filter(|controller| function_of(controller).is_some())
}

/// The numbers of those of which none has a place.
pub(super) fn without_place(domain: &Domain) -> BTreeSet<Option<i32>> {
    let placed: BTreeSet<_> = all(domain).filter(|c| place(c).is_some()).map(|c| c.index).collect();
    all(domain).map(|controller| controller.index).filter(|index| !placed.contains(index)).collect()
}

/// Those without a place come to the slot of the others of their number.
pub(super) fn join(domain: &mut Domain, buses: &mut Buses) {
    let slots: Vec<_> = all(domain).filter_map(|c| Some((c.index, place(c)?.clone()))).collect();
    for controller in &mut domain.devices.controllers {
        let Some(function) = function_of(controller).filter(|_| place(controller).is_none()) else {
            continue;
        };
        let slot = slots.iter().find(|(index, _)| *index == controller.index);
        if let Some((_, slot)) = slot {
            let address = at(slot, function);
            buses.reserve(&address, false);
            controller.info.address = Some(Address::Pci(address));
        }
    }
}

/// Slots of Q35 where the controllers of ICH9 are.
const SLOTS: [u8; 2] = [0x1d, 0x1a];

/// On Q35 the first two numbers of which nobody has a place, and of which a slow one is first, get ICH9's slots.
pub(super) fn built_in(domain: &mut Domain, buses: &mut Buses) {
    let alone = without_place(domain);
    let slow = |c: &&mut Controller| {
        function_of(c) == Some(0) && c.info.address.is_none() && alone.contains(&c.index)
    };
    for controller in domain.devices.controllers.iter_mut().filter(slow) {
        let Some(slot) = SLOTS.into_iter().find(|slot| buses.free(0, *slot)) else { return };
        let address = at(&PciAddress::new(0, slot, 0), 0);
        buses.reserve(&address, true);
        controller.info.address = Some(Address::Pci(address));
    }
}

/// The slot that the first one of a number was given is shared by all of them.
pub(super) fn spread(domain: &mut Domain, numbers: &BTreeSet<Option<i32>>) {
    let slots: Vec<_> = all(domain).filter_map(|c| Some((c.index, place(c)?.clone()))).collect();
    for controller in &mut domain.devices.controllers {
        let Some(function) = function_of(controller).filter(|_| numbers.contains(&controller.index)) else {
            continue;
        };
        if let Some((_, slot)) = slots.iter().find(|(index, _)| *index == controller.index) {
            controller.info.address = Some(Address::Pci(at(slot, function)));
        }
    }
}

fn at(slot: &PciAddress, function: u8) -> PciAddress {
    let (_, bus, slot, _) = slot.parts();
    let multifunction = (function == 0).then_some(OnOff::On);
    PciAddress {
        bus: Some(Hex(bus)),
        slot: Some(Hex(slot)),
        multifunction,
        ..PciAddress::new(0, 0, function)
    }
}
