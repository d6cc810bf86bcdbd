//! Controllers: buses that other devices sit on.

use virtwire_conf::domain::disk::VirtioModel;
use virtwire_conf::domain::misc::{Controller, ControllerDriver, ControllerType};
use virtwire_conf::{Domain, OnOff};
use virtwire_protocol::VirtError;

use super::{Json, alias, device, is_q35};
use crate::command::CommandLine;
use crate::error::QEMU;

/// Controllers that the machine does not have by itself. PCI comes first: the others sit on it.
pub(super) fn controllers(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    const ORDER: [ControllerType; 6] = [
        ControllerType::Pci,
        ControllerType::Usb,
        ControllerType::Scsi,
        ControllerType::Ide,
        ControllerType::Sata,
        ControllerType::VirtioSerial,
    ];
    for kind in ORDER {
        for controller in of_kind(domain, kind) {
            self::controller(line, domain, controller)?;
        }
    }
    Ok(())
}

/// One controller, unless the machine has it.
pub(super) fn controller(
    line: &mut CommandLine,
    domain: &Domain,
    controller: &Controller,
) -> Result<(), VirtError> {
    if let Some(device) = json(domain, controller)? {
        device.at(domain, &controller.info).add(line);
    }
    Ok(())
}

/// Controllers of smart cards: they are USB devices and come after the hubs.
pub(super) fn smart_card_controllers(line: &mut CommandLine, domain: &Domain) {
    for controller in of_kind(domain, ControllerType::Ccid) {
        Json::new("usb-ccid").with("id", alias(&controller.info)).at(domain, &controller.info).add(line);
    }
}

/// What is said of the controllers that are the machine's own.
pub(super) fn globals(line: &mut CommandLine, domain: &Domain) {
    let root = of_kind(domain, ControllerType::Pci).find(|controller| controller.index == Some(0));
    let Some(root) = root else { return };
    let bridge = if is_q35(domain) { "q35" } else { "i440FX" };
    if let Some(size) = root.pcihole64 {
        line.option("-global", format!("{bridge}-pcihost.pci-hole64-size={}K", size.0));
    }
    if let Some(hotplug) = root.target.as_ref().and_then(|target| target.hotplug).filter(|_| !is_q35(domain))
    {
        line.option("-global", format!("PIIX4_PM.acpi-root-pci-hotplug={}", hotplug.as_str()));
    }
}

fn of_kind(domain: &Domain, kind: ControllerType) -> impl Iterator<Item = &Controller> {
    domain.devices.controllers.iter().filter(move |controller| controller.type_ == kind)
}

/// The device without its place, `None` for what the machine has.
fn json(domain: &Domain, controller: &Controller) -> Result<Option<Json>, VirtError> {
    Ok(match controller.type_ {
        ControllerType::Pci => pci(controller)?,
        ControllerType::Usb => usb(domain, controller),
        ControllerType::Scsi => Some(scsi(controller)?),
        ControllerType::VirtioSerial => Some(virtio_serial(controller)),
        ControllerType::Sata if !is_q35(domain) || controller.index != Some(0) => {
            Some(Json::new("ahci").with("id", alias(&controller.info)))
        }
        _ => None,
    })
}

fn pci(controller: &Controller) -> Result<Option<Json>, VirtError> {
    let target = controller.target.as_ref();
    let named = controller.pci_model.as_ref().and_then(|model| model.name.as_deref());
    let (id, hotplug) = (alias(&controller.info), target.and_then(|target| target.hotplug));
    let port = |device: Json| {
        device
            .with_if("port", target.and_then(|target| target.port).map(|port| port.0))
            .with_if("chassis", target.and_then(|target| target.chassis))
    };
    let expander = |device: Json| {
        device
            .with_if("bus_nr", target.and_then(|target| target.bus_nr))
            .with("id", id)
            .with_if("numa_node", target.and_then(|target| target.node))
    };
    let model = controller.model.as_deref().unwrap_or_default();
    Ok(Some(match model {
        "pci-root" if controller.index != Some(0) => Json::new("spapr-pci-host-bridge")
            .with_if("index", target.and_then(|target| target.index))
            .with("id", id),
        "pci-root" | "pcie-root" => return Ok(None),
        "pci-bridge" => Json::new(named.unwrap_or("pci-bridge"))
            .with_if("chassis_nr", target.and_then(|target| target.chassis_nr))
            .with("id", id)
            .with_if("shpc", hotplug.map(OnOff::as_str)),
        "dmi-to-pci-bridge" => Json::new(named.unwrap_or("i82801b11-bridge")).with("id", id),
        "pcie-to-pci-bridge" => Json::new(named.unwrap_or("pcie-pci-bridge")).with("id", id),
        "pcie-root-port" => {
            port(Json::new(named.unwrap_or("pcie-root-port"))).with("id", id).switch("hotplug", hotplug)
        }
        "pcie-switch-upstream-port" => Json::new(named.unwrap_or("x3130-upstream")).with("id", id),
        "pcie-switch-downstream-port" => {
            port(Json::new(named.unwrap_or("xio3130-downstream"))).with("id", id).switch("hotplug", hotplug)
        }
        "pci-expander-bus" => expander(Json::new(named.unwrap_or("pxb"))),
        "pcie-expander-bus" => expander(Json::new(named.unwrap_or("pxb-pcie"))),
        other => return Err(QEMU.config_unsupported(format_args!("unknown PCI controller model '{other}'"))),
    }))
}

fn usb(domain: &Domain, of: &Controller) -> Option<Json> {
    let driver = match of.model.as_deref().unwrap_or("piix3-uhci") {
        "none" => return None,
        "piix3-uhci" => "piix3-usb-uhci",
        "piix4-uhci" => "piix4-usb-uhci",
        "nec-xhci" => "nec-usb-xhci",
        "ehci" => "usb-ehci",
        "ich9-ehci1" => "ich9-usb-ehci1",
        "ich9-uhci1" => "ich9-usb-uhci1",
        "ich9-uhci2" => "ich9-usb-uhci2",
        "ich9-uhci3" => "ich9-usb-uhci3",
        "vt82c686b-uhci" => "vt82c686b-usb-uhci",
        other => other,
    };
    let json = Json::new(driver).with_if("p2", of.ports).with_if("p3", of.ports);
    // A companion shares the ports of the controller of the same number.
    Some(match &of.info.master {
        Some(master) => {
            let index = of.index.and_then(|index| u64::try_from(index).ok()).unwrap_or_default();
            let bus = device::controller(domain, ControllerType::Usb, index).unwrap_or("usb");
            json.with("masterbus", format!("{bus}.0")).with("firstport", master.startport)
        }
        None => json.with("id", alias(&of.info)),
    })
}

fn scsi(controller: &Controller) -> Result<Json, VirtError> {
    let id = alias(&controller.info);
    let model = controller.model.as_deref().unwrap_or("lsilogic");
    let version = match model {
        "virtio-scsi" => Some(VirtioModel::Virtio),
        "virtio-transitional" => Some(VirtioModel::VirtioTransitional),
        "virtio-non-transitional" => Some(VirtioModel::VirtioNonTransitional),
        _ => None,
    };
    if version.is_some() {
        return Ok(virtio_scsi(controller, version));
    }
    let driver = match model {
        "auto" | "lsilogic" => "lsi",
        "lsisas1068" => "mptsas1068",
        "lsisas1078" => "megasas",
        "vmpvscsi" => "pvscsi",
        "ibmvscsi" => "spapr-vscsi",
        "dc390" => "dc-390",
        "am53c974" | "ncr53c90" => model,
        other => {
            return Err(QEMU.config_unsupported(format_args!("Unsupported controller model: {other}")));
        }
    };
    Ok(Json::new(driver).with("id", id))
}

fn virtio_scsi(controller: &Controller, version: Option<VirtioModel>) -> Json {
    let driver = controller.driver.as_ref();
    let said = |value: fn(&ControllerDriver) -> Option<u32>| driver.and_then(value);
    let thread = said(|driver| driver.iothread).filter(|thread| *thread > 0);
    let options = driver.map(|driver| &driver.virtio);
    Json::virtio("virtio-scsi", controller.info.address.as_ref(), version, options)
        .with_if("iothread", thread.map(|id| format!("iothread{id}")))
        .with("id", alias(&controller.info))
        .with_some("num_queues", said(|driver| driver.queues))
        .with_some("cmd_per_lun", said(|driver| driver.cmd_per_lun))
        .with_some("max_sectors", said(|driver| driver.max_sectors))
        .switch("ioeventfd", driver.and_then(|driver| driver.ioeventfd))
}

fn virtio_serial(controller: &Controller) -> Json {
    let model = match controller.model.as_deref() {
        Some("virtio-transitional") => Some(VirtioModel::VirtioTransitional),
        Some("virtio-non-transitional") => Some(VirtioModel::VirtioNonTransitional),
        _ => None,
    };
    let options = controller.driver.as_ref().map(|driver| &driver.virtio);
    Json::virtio("virtio-serial", controller.info.address.as_ref(), model, options)
        .with("id", alias(&controller.info))
        .with_if("max_ports", controller.ports)
        .with_if("vectors", controller.vectors)
}
