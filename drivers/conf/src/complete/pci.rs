//! PCI addresses: fixed places of the chipset, then one device after another.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::{Chipset, chipset};
use super::buses::{Buses, Kind, check_plugs, root_port_place, unset};
use super::endpoints::each;
use super::{companions, drives};
use crate::OnOff;
use crate::domain::Domain;
use crate::domain::device::{Address, PciAddress};
use crate::domain::disk::{Filesystem, FilesystemDriverType};
use crate::domain::display::{Sound, SoundModel, VideoType};
use crate::domain::misc::{Controller, ControllerType, MemballoonModel, PciModel, PciTarget};
use crate::table::Hex;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// Addresses for all PCI devices that have none.
///
/// # Errors
/// `VIR_ERR_XML_ERROR` where there is no PCI, or no place left.
pub(super) fn assign(domain: &mut Domain) -> Result<(), VirtError> {
    if chipset(domain).is_bare() {
        return Ok(());
    }
    if chipset(domain).board().root.is_none() {
        // Whoever names a root knows a machine that nobody else does.
        let named = |it: &Controller| it.type_ == ControllerType::Pci && it.index == Some(0);
        if domain.devices.controllers.iter().any(named) {
            return Ok(());
        }
        let mut needed = false;
        each(domain, &mut |info, kind| {
            needed = kind.is_some() && matches!(info.address, None | Some(Address::Pci(_)));
            !needed
        });
        refuse! {
            needed => DOMAIN.xml_error("No PCI buses available");
        }
        return Ok(());
    }
    check_old_places(domain)?;
    check_plugs(domain)?;
    check_buses(domain)?;
    unpluggable(domain)?;
    // Whoever chooses the buses gets no more than the devices need.
    let chosen =
        domain.devices.controllers.iter().any(|c| c.type_ == ControllerType::Pci && c.index > Some(0));
    named_buses(domain)?;
    // A round finds out which controllers are missing. With them in the definition, the next begins afresh, so that
    // controllers have their places before any other device.
    loop {
        let before = domain.devices.clone();
        if !place(domain, chosen)? {
            break;
        }
        let trial = std::mem::replace(&mut domain.devices, before);
        let known = |index| {
            domain.devices.controllers.iter().any(|c| c.type_ == ControllerType::Pci && c.index == index)
        };
        let is_new = |c: &Controller| c.type_ == ControllerType::Pci && !known(c.index);
        let added: Vec<Controller> = trial.controllers.into_iter().filter(is_new).collect();
        if added.is_empty() {
            // Another has the number of each that is missing, and is no bus: it is refused for that.
            return Ok(());
        }
        for mut controller in added {
            controller.info.address = None;
            controller.target = None;
            drives::insert_controller(&mut domain.devices.controllers, controller);
        }
    }
    let placeless =
        |c: &&Controller| c.type_ == ControllerType::Pci && c.info.address.is_none() && c.index != Some(0);
    let lost = domain.devices.controllers.iter().find(placeless);
    let bridge = lost.filter(|c| c.model.as_deref() == Some("pci-bridge") && chipset(domain).is_express());
    if let Some(index) = bridge.and_then(|bridge| bridge.index) {
        return Err(not_above(index, u64::try_from(index).unwrap_or_default()));
    }
    match lost {
        Some(controller) => Err(no_slot(controller.model.as_deref().unwrap_or_default())),
        None => Ok(()),
    }
}

/// A PCI controller says which it is, and is on a bus that was there before it.
fn check_buses(domain: &Domain) -> Result<(), VirtError> {
    let Some(root) = chipset(domain).board().root else { return Ok(()) };
    for controller in domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Pci) {
        let index = controller.index.unwrap_or(0);
        let model = controller.model.as_deref();
        refuse! {
            model == Some("pci-expander-bus") && chipset(domain) != Chipset::I440fx => QEMU.config_unsupported(
                "pci-expander-bus controllers are only supported on 440fx-based machinetypes");
            index == 0 && model != Some(root) => QEMU.xml_error(
                "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{}' was found instead",
                model.unwrap_or("(null)")
            );
            model.is_none() => DOMAIN.internal_error("PCI controller model was not set correctly");
        }
        let Some(Address::Pci(address)) = &controller.info.address else { continue };
        let (_, bus, ..) = address.parts();
        let below = u64::try_from(index).is_ok_and(|index| bus < index);
        if !unset(address) && !below {
            return Err(not_above(index, bus));
        }
    }
    Ok(())
}

/// What goes into no slot, and a bridge with no bus before it.
fn unpluggable(domain: &Domain) -> Result<(), VirtError> {
    let express = chipset(domain).is_express();
    let controllers = domain.devices.controllers.iter().filter(|c| c.info.address.is_none());
    let nowhere = |flags: &str| {
        Err(DOMAIN.internal_error(format_args!(
            "Cannot automatically add a new PCI bus for a device with connect flags {flags}"
        )))
    };
    for controller in controllers {
        match (controller.type_, controller.model.as_deref()) {
            (ControllerType::Isa | ControllerType::Xenbus, _) => return nowhere("00"),
            (ControllerType::Pci, Some("pcie-to-pci-bridge")) if !express || controller.index == Some(1) => {
                return nowhere("2000");
            }
            _ => {}
        }
    }
    let foreign = |shared: &Filesystem| {
        use FilesystemDriverType::{Loop, Nbd, Ploop};
        shared.info.address.is_none()
            && matches!(shared.driver.as_ref().and_then(|driver| driver.type_), Some(Loop | Nbd | Ploop))
    };
    if domain.devices.filesystems.iter().any(foreign) {
        return nowhere("00");
    }
    match &domain.devices.memballoon {
        Some(balloon) if balloon.model == MemballoonModel::Xen && balloon.info.address.is_none() => {
            nowhere("00")
        }
        _ => Ok(()),
    }
}

fn not_above(index: i32, bus: u64) -> VirtError {
    QEMU.config_unsupported(format_args!(
        "PCI controller at index {index} (0x{index:02x}) has bus='0x{bus:02x}', but index must be larger than bus"
    ))
}

fn no_slot(model: &str) -> VirtError {
    ErrorDomain::DOMAIN.internal_error(format_args!(
        "a PCI slot is needed to connect a PCI controller model='{model}', but none is available, and it cannot be automatically added"
    ))
}

/// All buses up to the last one that is named are there.
fn named_buses(domain: &mut Domain) -> Result<(), VirtError> {
    let chipset = chipset(domain);
    let express = chipset.is_express();
    let model = match chipset {
        Chipset::I440fx => "pci-bridge",
        _ if express => "pcie-root-port",
        _ => return Ok(()),
    };
    let controllers = || domain.devices.controllers.iter().filter(|c| c.type_ == ControllerType::Pci);
    let last = controllers().filter_map(|c| u64::try_from(c.index?).ok()).max().unwrap_or(0);
    let has = |model: &str| controllers().any(|c| c.model.as_deref() == Some(model));
    if last > MOST_BUSES && (express || has("pcie-root-port")) {
        return Err(no_slot("pcie-root-port"));
    }
    refuse! {
        last > MOST_BUSES => DOMAIN.config_unsupported("PCI controller index 256 too high, maximum is {MOST_BUSES}");
    }
    let mut bridged =
        ["pcie-to-pci-bridge", "dmi-to-pci-bridge", "pci-bridge"].iter().any(|model| has(model));
    let mut models = vec![model; usize::try_from(last).unwrap_or(0)];
    each(domain, &mut |info, kind| {
        let Some(Address::Pci(address)) =
            info.address.as_mut().filter(|a| !matches!(a, Address::Pci(a) if unset(a)))
        else {
            return true;
        };
        let bus = usize::try_from(address.parts().1.min(MOST_BUSES)).unwrap_or(0);
        let conventional = express && !matches!(kind, Some(Kind::Express | Kind::Integrated));
        if bus > models.len() && conventional && !bridged {
            // The bridge needs a port, and who wanted to be where that is is behind the bridge.
            bridged = true;
            models.extend([model, "pcie-to-pci-bridge"]);
            let bridge = models.len() as u64;
            address.bus = address.bus.map(|bus| Hex(bus.0.max(bridge)));
        }
        let more = if conventional { "pci-bridge" } else { model };
        models.resize(models.len().max(bus), more);
        true
    });
    for (index, model) in (1..).zip(models) {
        drives::add_controller(domain, ControllerType::Pci, index, Some(model));
    }
    Ok(())
}

/// Gives every device a place; whether controllers had to be added for that.
fn place(domain: &mut Domain, chosen: bool) -> Result<bool, VirtError> {
    let before = domain.devices.controllers.len();
    let mut buses = Buses::new(chipset(domain));
    for controller in &domain.devices.controllers {
        buses.add(controller);
    }
    buses.reserve_given(domain)?;
    for controller in
        domain.devices.controllers.iter().filter(|c| c.model.as_deref() == Some("pcie-root-port"))
    {
        if let Some(Address::Pci(address)) = &controller.info.address {
            buses.share(address);
        }
    }
    chipset_places(domain, &mut buses)?;
    if buses.chipset == Chipset::Q35 {
        companions::built_in(domain, &mut buses);
    }
    given_controllers(domain, &mut buses);
    let alone = companions::without_place(domain);
    companions::join(domain, &mut buses);
    while let Some(kind) = place_all(domain, &mut buses) {
        extend(domain, &mut buses, kind)?;
    }
    companions::spread(domain, &alone);
    // A place for a device plugged in later.
    if buses.extended && !chosen && buses.place(Kind::Express).is_none() {
        extend(domain, &mut buses, Kind::Express)?;
    }
    complete_controllers(domain);
    Ok(domain.devices.controllers.len() > before)
}

/// Where PIIX3 has its controllers, no others of their kinds can be.
fn check_old_places(domain: &Domain) -> Result<(), VirtError> {
    if !chipset(domain).is_express() {
        return Ok(());
    }
    let at = |it: &Controller, function: u64| {
        let Some(Address::Pci(address)) = &it.info.address else { return false };
        it.index == Some(0) && address.parts() == (0, 0, 1, function)
    };
    let old = |it: &&Controller| match (it.type_, it.model.as_deref()) {
        (ControllerType::Ide, _) => at(it, 1),
        (ControllerType::Usb, Some("piix3-uhci")) => at(it, 2),
        _ => false,
    };
    refuse! {
        domain.devices.controllers.iter().any(|it| old(&it)) =>
            QEMU.internal_error("Bus 0 must be PCI for integrated PIIX3 USB or IDE controllers");
    }
    Ok(())
}

/// Devices whose place the chipset decides.
fn chipset_places(domain: &mut Domain, buses: &mut Buses) -> Result<(), VirtError> {
    let devices = &mut domain.devices;
    if !buses.chipset.is_pc() {
        return Ok(());
    }
    let q35 = buses.chipset == Chipset::Q35;
    for controller in &mut devices.controllers {
        let first = controller.index == Some(0);
        let (name, slot, function) = match (controller.type_, controller.model.as_deref()) {
            (ControllerType::Ide, _) if first && !q35 => ("Primary IDE controller", 1, 1),
            (ControllerType::Usb, Some("piix3-uhci")) if first && !q35 => {
                ("PIIX3 USB controller at index 0", 1, 2)
            }
            (ControllerType::Sata, _) if first && q35 => ("Primary SATA controller", 0x1f, 2),
            _ => continue,
        };
        match &controller.info.address {
            Some(Address::Pci(address)) if !unset(address) => {
                if address.parts() != (0, 0, slot.into(), function.into()) {
                    let text = format_args!("{name} must have PCI address 0:0:{slot:x}.{function}");
                    return Err(ErrorDomain::QEMU.internal_error(text));
                }
            }
            Some(Address::Pci(_)) | None => controller.info.address = buses.take(slot, function),
            Some(_) => {}
        }
    }
    // The ISA bridge and its companions.
    let bridge = PciAddress::new(0, if q35 { 0x1f } else { 1 }, 0);
    buses.reserve(&bridge, true);
    let video_slot = if q35 { 1 } else { 2 };
    if let Some(video) = devices.videos.first_mut()
        && video.info.address.as_ref().is_none_or(|a| matches!(a, Address::Pci(a) if unset(a)))
        && video.model.as_ref().is_some_and(|m| !matches!(m.type_, VideoType::None | VideoType::Ramfb))
        && buses.free(0, video_slot)
    {
        let address = PciAddress::new(0, video_slot, 0);
        buses.reserve(&address, true);
        video.info.address = Some(Address::Pci(address));
    }
    // The sound of an ICH9 is a part of it; only one is.
    const SOUND_SLOT: u8 = 0x1b;
    let ich9 = |sound: &&mut Sound| sound.model == SoundModel::Ich9 && sound.info.address.is_none();
    if q35
        && buses.free(0, SOUND_SLOT)
        && let Some(sound) = devices.sounds.iter_mut().find(ich9)
    {
        let address = PciAddress::new(0, SOUND_SLOT, 0);
        buses.reserve(&address, true);
        sound.info.address = Some(Address::Pci(address));
    }
    Ok(())
}

/// Places for the PCI controllers of the definition.
fn given_controllers(domain: &mut Domain, buses: &mut Buses) {
    for controller in domain.devices.controllers.iter_mut().filter(|c| c.type_ == ControllerType::Pci) {
        if controller.info.address.as_ref().is_some_and(|a| !matches!(a, Address::Pci(a) if unset(a))) {
            continue;
        }
        let own = controller.index.and_then(|i| u8::try_from(i).ok()).unwrap_or(0);
        let place = match controller.model.as_deref().unwrap_or_default() {
            "pcie-root-port" if buses.chipset.is_express() => root_port_place(buses),
            "dmi-to-pci-bridge" if !buses.chipset.is_express() => None,
            "dmi-to-pci-bridge" => buses.place_on(0, 0x1e..=0x1e),
            "pcie-switch-downstream-port" => buses.place_below("pcie-switch-upstream-port", own),
            "pci-bridge" if buses.chipset.is_express() => buses.place_below("dmi-to-pci-bridge", own),
            "pci-bridge" | "pci-expander-bus" => buses.place_on(0, 1..=31),
            "pcie-expander-bus" => buses.place_on(0, 1..=31),
            "pcie-to-pci-bridge" | "pcie-switch-upstream-port" => buses.place(Kind::Express),
            _ => None,
        };
        controller.info.address = place.map(Address::Pci);
    }
}

/// Gives every device a place; stops at the first for which there is none and says what it needs.
fn place_all(domain: &mut Domain, buses: &mut Buses) -> Option<Kind> {
    let mut missing = None;
    let express = buses.chipset.is_express();
    each(domain, &mut |info, kind| {
        let waits = match &info.address {
            None => true,
            Some(Address::Pci(address)) => unset(address),
            Some(_) => false,
        };
        let Some(kind) = kind.filter(|_| waits) else { return true };
        let kind = if express { kind } else { Kind::Pci };
        match buses.place(kind) {
            Some(address) => {
                let zpci = match info.address.take() {
                    Some(Address::Pci(asked)) => asked.zpci,
                    _ => None,
                };
                info.address = Some(Address::Pci(PciAddress { zpci, ..address }));
                true
            }
            None => {
                missing = Some(kind);
                false
            }
        }
    });
    missing
}

/// Adds a controller with more places for `kind`.
fn extend(domain: &mut Domain, buses: &mut Buses, kind: Kind) -> Result<(), VirtError> {
    match (buses.chipset.is_express(), kind) {
        (true, Kind::Express) => {
            buses.extended = true;
            let place = root_port_place(buses);
            add(domain, buses, "pcie-root-port", place)
        }
        (true, Kind::Pci) => {
            // A bridge brings a port with it, even where one is free.
            extend(domain, buses, Kind::Express)?;
            let place = buses.place(Kind::Express);
            add(domain, buses, "pcie-to-pci-bridge", place)
        }
        (_, Kind::Integrated) => Err(no_slot("pcie-root")),
        _ => {
            let place = buses.place(Kind::Pci);
            add(domain, buses, "pci-bridge", place)
        }
    }
}

/// Adds a controller behind all others.
fn add(
    domain: &mut Domain,
    buses: &mut Buses,
    model: &str,
    place: Option<PciAddress>,
) -> Result<(), VirtError> {
    let last = buses.last();
    let Some(index) = last.checked_add(1) else {
        return Err(ErrorDomain::DOMAIN.xml_error("No more available PCI slots"));
    };
    // A conventional bridge may come to stand where another device stood in the first round.
    if place.is_none() && model != "pci-bridge" {
        return Err(no_slot(model));
    }
    let mut controller = Controller {
        type_: ControllerType::Pci,
        index: Some(index.into()),
        model: Some(model.to_owned()),
        ..Controller::default()
    };
    controller.info.address = place.map(Address::Pci);
    buses.add(&controller);
    drives::insert_controller(&mut domain.devices.controllers, controller);
    Ok(())
}

/// The first of several root ports in one slot says so.
fn multifunction(domain: &mut Domain) {
    let ports =
        domain.devices.controllers.iter_mut().filter(|c| c.model.as_deref() == Some("pcie-root-port"));
    let mut addresses: Vec<&mut PciAddress> = ports
        .filter_map(|c| match &mut c.info.address {
            Some(Address::Pci(address)) => Some(address),
            _ => None,
        })
        .collect();
    let zero = |function: Option<Hex<1>>| function.is_none_or(|f| f.0 == 0);
    let shared: Vec<_> = addresses.iter().filter(|a| !zero(a.function)).map(|a| (a.bus, a.slot)).collect();
    for address in addresses.iter_mut().filter(|a| zero(a.function) && shared.contains(&(a.bus, a.slot))) {
        address.multifunction.get_or_insert(OnOff::On);
    }
}

/// How many buses PCI can number.
const BUS_NUMBERS: u32 = 256;
/// The highest of these numbers.
const MOST_BUSES: u64 = BUS_NUMBERS as u64 - 1;

/// Models and numbers that PCI controllers show.
fn complete_controllers(domain: &mut Domain) {
    multifunction(domain);
    let numbers = domain.devices.controllers.iter().filter_map(|c| c.target.as_ref()?.bus_nr);
    let mut lowest = numbers.min().unwrap_or(BUS_NUMBERS);
    for controller in domain.devices.controllers.iter_mut().filter(|c| c.type_ == ControllerType::Pci) {
        let index = controller.index.and_then(|i| u32::try_from(i).ok()).unwrap_or(0);
        let name = match controller.model.as_deref().unwrap_or_default() {
            "pci-bridge" => "pci-bridge",
            "dmi-to-pci-bridge" => "i82801b11-bridge",
            "pcie-root-port" => "pcie-root-port",
            "pcie-to-pci-bridge" => "pcie-pci-bridge",
            "pcie-switch-upstream-port" => "x3130-upstream",
            "pcie-switch-downstream-port" => "xio3130-downstream",
            "pci-expander-bus" => "pxb",
            "pcie-expander-bus" => "pxb-pcie",
            _ => continue,
        };
        let shown = controller.pci_model.get_or_insert_with(PciModel::default);
        shown.name.get_or_insert_with(|| name.to_owned());
        let place = match &controller.info.address {
            // Ports of a switch are alone in their slots.
            Some(Address::Pci(a)) if name == "xio3130-downstream" => a.slot.map_or(0, |s| s.0),
            Some(Address::Pci(a)) => (a.slot.map_or(0, |s| s.0) << 3) + a.function.map_or(0, |f| f.0),
            _ => 0,
        };
        let target = controller.target.get_or_insert_with(PciTarget::default);
        match name {
            "pci-bridge" => {
                target.chassis_nr.get_or_insert(index);
            }
            "pcie-root-port" | "xio3130-downstream" => {
                target.chassis.get_or_insert(index);
                target.port.get_or_insert(Hex(place));
            }
            "pxb" | "pxb-pcie" => {
                // Each takes two numbers below those of the others.
                let number = *target.bus_nr.get_or_insert(lowest.saturating_sub(2));
                lowest = lowest.min(number);
            }
            _ => {}
        }
    }
}
