//! Controllers.

use virtwire_protocol::ErrorDomain;

use super::{Around, Chipset, Result};
use crate::complete::board::has_ide;
use crate::complete::check;
use crate::domain::misc::{Controller, ControllerType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows of a controller as it is read.
pub(super) fn read(it: &Controller) -> Result {
    let said = [("index", it.index), ("ports", it.ports), ("vectors", it.vectors)];
    let negative = said.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| *value < 0)?)));
    let (name, value) = negative.unwrap_or_default();
    let scsi = it.type_ == ControllerType::Scsi;
    let threaded = it.driver.as_ref().is_some_and(|driver| driver.iothread.is_some());
    refuse! {
        negative.is_some() => XML.xml_error(
            "Invalid value for attribute '{name}' in element 'controller': '{value}'. Expected non-negative value");
    }
    check::check_model(it)?;
    refuse! {
        threaded && !(scsi && it.model.as_deref().is_some_and(|model| model.starts_with("virtio-"))) =>
            DOMAIN.xml_error("'iothread' attribute only supported for virtio scsi controllers");
    }
    Ok(())
}

/// What no driver could do with a controller.
pub(super) fn check(_around: &Around<'_>, controller: &Controller) -> Result {
    let model = controller.model.as_deref().unwrap_or_default();
    let scsi = controller.type_ == ControllerType::Scsi && model.starts_with("virtio-");
    let driver = controller.driver.as_ref();
    let number = controller.target.as_ref().and_then(|target| target.index);
    let number = number.filter(|_| controller.type_ == ControllerType::Pci);
    refuse! {
        number.is_some_and(|number| (number == 0) != (controller.index == Some(0))) => DOMAIN.config_unsupported(
            "Only the PCI controller with index 0 can have target index 0, and vice versa");
        driver.is_some_and(|driver| driver.iothreads.is_some()) && !scsi =>
            DOMAIN.config_unsupported("iothreads are supported only by 'virtio-scsi' controllers");
    }
    Ok(())
}

/// What QEMU could not do with a controller.
pub(super) fn check_qemu(around: &Around<'_>, controller: &Controller) -> Result {
    options_of_bus(around, controller)?;
    options_of_virtio(controller)?;
    of_machine(around, controller)?;
    of_emulator(around, controller)
}

/// The devices that a model of a PCI controller can be.
const CARDS: &[(&str, &[&str])] = &[
    ("pci-bridge", &["pci-bridge"]),
    ("dmi-to-pci-bridge", &["i82801b11-bridge"]),
    ("pcie-to-pci-bridge", &["pcie-pci-bridge"]),
    ("pcie-root-port", &["ioh3420", "pcie-root-port"]),
    ("pcie-switch-upstream-port", &["x3130-upstream"]),
    ("pcie-switch-downstream-port", &["xio3130-downstream"]),
    ("pci-expander-bus", &["pxb"]),
    ("pcie-expander-bus", &["pxb-pcie"]),
    ("pci-root", &["spapr-pci-host-bridge"]),
];

/// The highest number of a port, and of what holds it.
const LAST_PORT: u64 = 255;

/// What can be said of which model of a PCI controller, and the range of what is a number.
fn options_of_bus(around: &Around<'_>, controller: &Controller) -> Result {
    if controller.type_ != ControllerType::Pci {
        return Ok(());
    }
    let target = controller.target.clone().unwrap_or_default();
    let model = controller.model.as_deref().unwrap_or_default();
    let plugs = matches!(model, "pcie-root-port" | "pcie-switch-downstream-port");
    let said = [
        ("chassisNr", target.chassis_nr.is_some(), model == "pci-bridge"),
        ("chassis", target.chassis.is_some(), plugs),
        ("port", target.port.is_some(), plugs),
        ("busNr", target.bus_nr.is_some(), model.ends_with("expander-bus")),
        ("node", target.node.is_some(), model.ends_with("expander-bus") || model == "pci-root"),
        ("index", target.index.is_some(), model == "pci-root"),
        ("hotplug", target.hotplug.is_some(), plugs || model == "pci-root"),
    ];
    // Only sPAPR's roots are devices.
    let root = model == "pci-root" && around.chipset != Chipset::Pseries;
    let fits = CARDS.iter().find(|(of, _)| *of == model && !root).is_none_or(|(_, names)| {
        controller
            .pci_model
            .as_ref()
            .and_then(|model| model.name.as_deref())
            .is_none_or(|name| names.contains(&name))
    });
    let named = controller.pci_model.as_ref().is_some_and(|model| model.name.is_some());
    let first = said.into_iter().find(|(_, said, known)| *said && !known).map(|(name, ..)| name);
    let first =
        Some("modelName").filter(|_| named && (root || !CARDS.iter().any(|(of, _)| *of == model))).or(first);
    let name = controller.pci_model.as_ref().and_then(|model| model.name.as_deref()).unwrap_or_default();
    let outside = |number: Option<u32>, range: std::ops::RangeInclusive<u32>| {
        number.filter(|number| !range.contains(number))
    };
    let port = target.port.map(|port| port.0).filter(|port| *port > LAST_PORT);
    let chassis = target.chassis.filter(|chassis| u64::from(*chassis) > LAST_PORT);
    let (nr, bus) = (outside(target.chassis_nr, 1..=255), outside(target.bus_nr, 1..=254));
    refuse! {
        chassis.is_some() => DOMAIN.config_unsupported(
            "PCI controller chassis '{}' out of range - must be 0-{LAST_PORT}", chassis.unwrap_or_default());
        port.is_some() => DOMAIN.config_unsupported(
            "PCI controller port '{}' out of range - must be 0-{LAST_PORT}", port.unwrap_or_default());
        nr.is_some() => DOMAIN.config_unsupported(
            "PCI controller chassisNr '{}' out of range - must be 1-255", nr.unwrap_or_default());
        bus.is_some() => DOMAIN.config_unsupported(
            "PCI controller busNr '{}' out of range - must be 1-254", bus.unwrap_or_default());
        !fits => QEMU.config_unsupported(
            "Option 'modelName' has invalid value for PCI controller with index '{}', model '{model}' and modelName '{name}'",
            controller.index.unwrap_or(-1)
        );
        first.is_some() => QEMU.config_unsupported(
            "Option '{}' is not valid for PCI controller with index '{}', model '{model}' and modelName '{name}'",
            first.unwrap_or_default(),
            controller.index.unwrap_or(-1)
        );
    }
    Ok(())
}

/// What can be said of virtio's alone.
fn options_of_virtio(controller: &Controller) -> Result {
    let model = controller.model.as_deref().unwrap_or_default();
    let scsi = controller.type_ == ControllerType::Scsi && model.starts_with("virtio-");
    let Some(driver) = &controller.driver else { return Ok(()) };
    let said = [
        ("queues", driver.queues.is_some_and(|n| n != 0)),
        ("cmd_per_lun", driver.cmd_per_lun.is_some_and(|n| n != 0)),
        ("max_sectors", driver.max_sectors.is_some_and(|n| n != 0)),
        ("ioeventfd", driver.ioeventfd.is_some()),
    ];
    let first = said.into_iter().find(|(_, said)| *said && !scsi);
    refuse! {
        first.is_some() => QEMU.config_unsupported(
            "'{}' is only supported by virtio-scsi controller",
            first.map(|(name, _)| name).unwrap_or_default()
        );
    }
    Ok(())
}

/// What a machine has no place for.
fn of_machine(around: &Around<'_>, controller: &Controller) -> Result {
    let chipset = around.chipset;
    let model = controller.model.as_deref().unwrap_or_default();
    let driver = controller.driver.as_ref();
    let thread = driver.and_then(|driver| driver.iothread);
    let sparc = around.domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref()) == Some("sparc");
    refuse! {
        model == "pcie-expander-bus" && !matches!(chipset, Chipset::Q35 | Chipset::ArmVirt) =>
            QEMU.config_unsupported("pcie-expander-bus controllers are not supported with this machine type");
        model.ends_with("-xhci") && controller.ports.is_some_and(|n| n > 15) =>
            QEMU.config_unsupported("'{model}' controller only supports up to '15' ports");
        matches!(model, "qusb1" | "qusb2") => QEMU.config_unsupported(
            "USB controller model type 'qusb1' or 'qusb2' is not supported in {}", around.domain.type_);
        model == "buslogic" => QEMU.config_unsupported("Unsupported controller model: {model}");
        model == "ncr53c90" && !sparc => QEMU.config_unsupported(
            "ncr53c90 SCSI controller is not a built-in for this machine");
        controller.type_ == ControllerType::Ide && !has_ide(around.domain) =>
            QEMU.config_unsupported("IDE controllers are unsupported for this QEMU binary or machine type");
        controller.type_ == ControllerType::Ide && controller.index != Some(0) =>
            QEMU.config_unsupported("Only a single IDE controller is supported for this machine type");
        thread.is_some_and(|id| !around.has_thread(id)) =>
            QEMU.config_unsupported("controller iothread '{}' not defined in iothreadid", thread.unwrap_or_default());
    }
    around.check_threads(driver.and_then(|driver| driver.iothreads.as_ref()))
}

/// A SCSI controller: its model, QEMU's device, and what it is called.
const SCSI: [(&str, &str, &str); 4] = [
    ("lsilogic", "lsi53c895a", "LSI 53C895A SCSI"),
    ("lsisas1068", "mptsas1068", "LSI SAS1068 (MPT Fusion)"),
    ("lsisas1078", "megasas", "LSI SAS1078 (MegaRAID)"),
    ("vmpvscsi", "pvscsi", "pvscsi (VMware paravirtual SCSI)"),
];

/// A controller is a device that QEMU has.
fn of_emulator(around: &Around<'_>, controller: &Controller) -> Result {
    let model = controller.model.as_deref().unwrap_or_default();
    let scsi = controller.type_ == ControllerType::Scsi;
    let lacking = SCSI.iter().find(|(known, device, _)| scsi && *known == model && !around.has(device));
    refuse! {
        controller.type_ == ControllerType::Sata && !around.has("ich9-ahci") =>
            QEMU.config_unsupported("SATA is not supported with this QEMU binary");
        lacking.is_some() => QEMU.config_unsupported(
            "This QEMU doesn't support the {} controller", lacking.map(|(.., name)| *name).unwrap_or_default());
    }
    Ok(())
}
