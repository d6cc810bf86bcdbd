//! The buses of a machine: which places there are, and who has them.

use std::collections::{BTreeMap, BTreeSet};

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::Chipset;
use super::endpoints::each;
use crate::OnOff;
use crate::domain::Domain;
use crate::domain::device::{Address, PciAddress};
use crate::domain::misc::{Controller, ControllerType};
use crate::table::Hex;

/// What a slot must be to take a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Conventional PCI.
    Pci,
    /// A PCI Express endpoint.
    Express,
    /// A part of the board, on the root bus.
    Integrated,
}

/// Slots of a bus and what may be plugged into them.
#[derive(Debug, Clone)]
struct Bus {
    kind: Kind,
    model: String,
    slots: std::ops::RangeInclusive<u8>,
    /// Devices go here without being told so.
    automatic: bool,
    /// Functions in use, one bit each, by slot.
    used: [u8; 32],
}

/// All buses by number.
pub(super) struct Buses {
    pub(super) chipset: Chipset,
    buses: BTreeMap<u8, Bus>,
    /// Root ports were added.
    pub(super) extended: bool,
}

impl Buses {
    /// None yet.
    pub(super) fn new(chipset: Chipset) -> Self {
        Self { chipset, buses: BTreeMap::new(), extended: false }
    }

    /// The highest number of a bus.
    pub(super) fn last(&self) -> u8 {
        self.buses.keys().max().copied().unwrap_or(0)
    }

    /// The bus that a controller has.
    pub(super) fn add(&mut self, controller: &Controller) {
        if controller.type_ != ControllerType::Pci {
            return;
        }
        let Some(index) = controller.index.and_then(|i| u8::try_from(i).ok()) else { return };
        let model = controller.model.clone().unwrap_or_default();
        let (kind, slots, automatic) = match model.as_str() {
            "pci-root" => (Kind::Pci, 1..=31, true),
            "pci-bridge" | "pcie-to-pci-bridge" => (Kind::Pci, 1..=31, true),
            "dmi-to-pci-bridge" => (Kind::Pci, 0..=31, false),
            "pcie-root" => (Kind::Express, 1..=31, false),
            "pcie-root-port" | "pcie-switch-downstream-port" => (Kind::Express, 0..=0, true),
            "pcie-switch-upstream-port" => (Kind::Express, 0..=31, false),
            "pci-expander-bus" => (Kind::Pci, 0..=31, true),
            "pcie-expander-bus" => (Kind::Express, 0..=31, false),
            _ => return,
        };
        self.buses.entry(index).or_insert(Bus { kind, model, slots, automatic, used: [0; 32] });
    }

    /// Marks a place as taken; function 0 without companions takes the whole slot.
    pub(super) fn reserve(&mut self, address: &PciAddress, whole: bool) {
        let part = |value: Option<Hex<2>>| value.map_or(0, |v| v.0);
        let (bus, slot) = (part(address.bus), part(address.slot));
        let function = address.function.map_or(0, |f| f.0);
        let (Ok(bus), slot, function) = (u8::try_from(bus), (slot & 31) as usize, function & 7) else {
            return;
        };
        if let Some(bus) = self.buses.get_mut(&bus) {
            bus.used[slot] |= if whole { 0xff } else { 1 << function };
        }
    }

    /// A root port leaves the other functions of its slot to other root ports. One that says so itself has taken no more
    /// than its own.
    pub(super) fn share(&mut self, address: &PciAddress) {
        if address.multifunction == Some(OnOff::On) {
            return;
        }
        let (_, bus, slot, function) = address.parts();
        let bus = u8::try_from(bus).ok().and_then(|bus| self.buses.get_mut(&bus));
        if let Some(used) = bus.and_then(|bus| bus.used.get_mut(usize::try_from(slot).ok()?))
            && function == 0
            && *used == 0xff
        {
            *used = 1;
        }
    }

    pub(super) fn free(&self, bus: u8, slot: u8) -> bool {
        self.buses.get(&bus).is_some_and(|b| b.used[slot as usize & 31] == 0)
    }

    /// The first free slot for a device of `kind`.
    pub(super) fn place(&mut self, kind: Kind) -> Option<PciAddress> {
        if kind == Kind::Integrated {
            return self.place_on(0, 1..=31);
        }
        let mut fitting = self.buses.iter().filter(|(_, bus)| bus.automatic && bus.kind == kind);
        let address = fitting.find_map(|(number, bus)| {
            let slot = bus.slots.clone().find(|slot| bus.used[*slot as usize & 31] == 0)?;
            Some(PciAddress::new(*number, slot, 0))
        })?;
        self.reserve(&address, true);
        Some(address)
    }

    /// The first free one of `slots` on one bus.
    pub(super) fn place_on(
        &mut self,
        bus: u8,
        mut slots: std::ops::RangeInclusive<u8>,
    ) -> Option<PciAddress> {
        let slot = slots.find(|slot| self.free(bus, *slot))?;
        let address = PciAddress::new(bus, slot, 0);
        self.reserve(&address, true);
        Some(address)
    }

    /// The first free slot below a controller of `model` that isn't the controller itself.
    pub(super) fn place_below(&mut self, model: &str, own: u8) -> Option<PciAddress> {
        let fits = |(number, bus): &(&u8, &Bus)| bus.model == model && **number != own;
        let numbers: Vec<u8> = self.buses.iter().filter(fits).map(|(number, _)| *number).collect();
        numbers.into_iter().find_map(|number| self.place_on(number, 0..=31))
    }

    /// Takes a fixed place if nobody has it.
    pub(super) fn take(&mut self, slot: u8, function: u8) -> Option<Address> {
        let free = self.buses.get(&0).is_some_and(|b| b.used[slot as usize] & (1 << function) == 0);
        let address = PciAddress::new(0, slot, function);
        self.reserve(&address, false);
        free.then_some(Address::Pci(address))
    }

    /// Places that devices name themselves. Each must be there, and be nobody else's.
    pub(super) fn reserve_given(&mut self, domain: &mut Domain) -> Result<(), VirtError> {
        let mut given = Vec::new();
        each(domain, &mut |info, _| {
            if let Some(Address::Pci(address)) = &mut info.address
                && !unset(address)
            {
                given.push(complete(address));
            }
            true
        });
        // The bridge to ISA, and what comes with it.
        let (slot, functions) = if self.chipset == Chipset::Q35 { (0x1f, [0, 3]) } else { (1, [0, 3]) };
        let built_in = functions.map(|function| PciAddress::new(0, slot, function).parts());
        let mut taken: BTreeSet<_> = built_in.into_iter().filter(|_| self.chipset.is_pc()).collect();
        for address in given {
            self.check(&address)?;
            if !taken.insert(address.parts()) {
                return Err(bad(format_args!("Attempted double use of PCI Address {}", address.shown())));
            }
            let alone = address.function.is_none_or(|f| f.0 == 0) && address.multifunction != Some(OnOff::On);
            self.reserve(&address, alone);
        }
        Ok(())
    }

    /// Whether there is such a place.
    fn check(&self, address: &PciAddress) -> Result<(), VirtError> {
        let (domain, bus, slot, _) = address.parts();
        let what = match u8::try_from(bus).ok().and_then(|bus| self.buses.get(&bus)) {
            _ if domain != 0 => "Only PCI domain 0 is available".to_owned(),
            Some(bus) if slot > (*bus.slots.end()).into() => format!("slot must be <= {}", bus.slots.end()),
            // The first slot of the root bus has the host bridge, and room for companions.
            Some(bus) if !bus.model.ends_with("-root") && slot < (*bus.slots.start()).into() => {
                format!("slot must be >= {}", bus.slots.start())
            }
            _ => return Ok(()),
        };
        Err(bad(format_args!("Invalid PCI address {}. {what}", address.shown())))
    }
}

/// What a controller takes besides devices, by the models of both.
const PLUGS: &[(&str, &[&str])] = &[
    ("pci-root", &["pci-bridge", "pci-expander-bus"]),
    ("pcie-root", &["pcie-root-port", "dmi-to-pci-bridge", "pcie-expander-bus"]),
    ("pci-bridge", &["pci-bridge"]),
    ("pci-expander-bus", &["pci-bridge"]),
    ("dmi-to-pci-bridge", &["pci-bridge"]),
    ("pcie-to-pci-bridge", &["pci-bridge"]),
    ("pcie-root-port", &["pcie-switch-upstream-port", "pcie-to-pci-bridge"]),
    ("pcie-switch-downstream-port", &["pcie-switch-upstream-port", "pcie-to-pci-bridge"]),
    ("pcie-switch-upstream-port", &["pcie-switch-downstream-port"]),
    ("pcie-expander-bus", &["pcie-root-port", "dmi-to-pci-bridge"]),
];

/// Each controller that says where it is is on a bus that takes it.
pub(super) fn check_plugs(domain: &Domain) -> Result<(), VirtError> {
    let of_pci = || domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Pci);
    for controller in of_pci() {
        let Some(Address::Pci(address)) = controller.info.address.as_ref() else { continue };
        let model = controller.model.as_deref().unwrap_or_default();
        let (_, number, ..) = address.parts();
        let bus = of_pci().find(|bus| bus.index.and_then(|index| u64::try_from(index).ok()) == Some(number));
        let takes = bus.and_then(|bus| PLUGS.iter().find(|(known, _)| Some(*known) == bus.model.as_deref()));
        let Some((_, takes)) = takes.filter(|_| !unset(address) && !model.is_empty()) else { continue };
        if !takes.contains(&model) {
            let wanted = if model == "pci-bridge" { "standard PCI device" } else { model };
            return Err(bad(format_args!(
                "The device at PCI address {} cannot be plugged into the PCI controller with index='{number}'. It requires a controller that accepts a {wanted}.",
                address.shown()
            )));
        }
    }
    Ok(())
}

fn bad(text: std::fmt::Arguments<'_>) -> VirtError {
    ErrorDomain::DOMAIN.xml_error(text)
}

/// An address that says only that it is one; a function alone is no place.
pub(super) fn unset(address: &PciAddress) -> bool {
    let (domain, bus, slot, _) = address.parts();
    (domain, bus, slot) == (0, 0, 0)
}

/// Fills the parts of an address that are left out, and gives a copy.
pub(super) fn complete(address: &mut PciAddress) -> PciAddress {
    address.domain.get_or_insert(Hex(0));
    address.bus.get_or_insert(Hex(0));
    address.slot.get_or_insert(Hex(0));
    address.function.get_or_insert(Hex(0));
    address.clone()
}

/// Root ports share slots of the root bus, eight to a slot.
pub(super) fn root_port_place(buses: &mut Buses) -> Option<PciAddress> {
    let root = buses.buses.get_mut(&0)?;
    for slot in 1..=31u8 {
        let used = root.used[slot as usize];
        // Only slots that nobody else has, or that were begun for ports.
        let function = used.trailing_ones() as u8;
        if used == 0
            || (function < 8 && root.slots.contains(&slot) && used == (1u8 << function).wrapping_sub(1))
        {
            root.used[slot as usize] |= 1 << function;
            let address = PciAddress::new(0, slot, function);
            return Some(address);
        }
    }
    None
}
