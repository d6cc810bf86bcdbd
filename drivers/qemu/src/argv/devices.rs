//! Controllers, inputs and the small devices.

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::RngModel;
use virtwire_conf::domain::display::{InputBus, InputType};
use virtwire_conf::domain::misc::{Controller, ControllerType, MemballoonModel};
use virtwire_protocol::VirtError;

use super::{Device, alias, is_q35};
use crate::command::CommandLine;
use crate::error::QEMU;

/// Controllers that the machine does not have by itself. PCI comes first: the others sit on it.
pub(super) fn controllers(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    let order = [
        ControllerType::Pci,
        ControllerType::Usb,
        ControllerType::Scsi,
        ControllerType::Ide,
        ControllerType::Sata,
        ControllerType::VirtioSerial,
    ];
    for kind in order {
        for controller in domain.devices.controllers.iter().filter(|controller| controller.type_ == kind) {
            if let Some(device) = controller_device(domain, controller)? {
                device.add(line);
            }
        }
    }
    Ok(())
}

fn controller_device(domain: &Domain, controller: &Controller) -> Result<Option<Device>, VirtError> {
    let (index, model) =
        (controller.index.unwrap_or_default(), controller.model.as_deref().unwrap_or_default());
    let address = controller.info.address.as_ref();
    let device = match (controller.type_, model) {
        (ControllerType::Pci, "pci-root" | "pcie-root") | (ControllerType::Usb, "none") => return Ok(None),
        (ControllerType::Pci, "pcie-root-port") => {
            let target = controller.target.as_ref();
            Device::new("pcie-root-port")
                .with_if("port", target.and_then(|target| target.port).map(|port| port.0))
                .with_if("chassis", target.and_then(|target| target.chassis))
                .with("id", alias(&controller.info))
        }
        (ControllerType::Pci, "pcie-to-pci-bridge") => {
            Device::new("pcie-pci-bridge").with("id", alias(&controller.info))
        }
        (ControllerType::Pci, "pci-bridge") => {
            let chassis = controller.target.as_ref().and_then(|target| target.chassis_nr);
            Device::new("pci-bridge").with_if("chassis_nr", chassis).with("id", alias(&controller.info))
        }
        (ControllerType::Usb, model) => {
            let driver = match model {
                "piix3-uhci" => "piix3-usb-uhci",
                "piix4-uhci" => "piix4-usb-uhci",
                "nec-xhci" => "nec-usb-xhci",
                "ehci" => "usb-ehci",
                "ich9-ehci1" => "ich9-usb-ehci1",
                "ich9-uhci1" => "ich9-usb-uhci1",
                "ich9-uhci2" => "ich9-usb-uhci2",
                "ich9-uhci3" => "ich9-usb-uhci3",
                other => other,
            };
            let master = controller.info.master.as_ref().map(|master| master.startport);
            let device = Device::new(driver).with_if("p2", controller.ports).with_if("p3", controller.ports);
            let device = device.with_if("masterbus", master.map(|_| "usb.0")).with_if("firstport", master);
            device.with_if("id", master.is_none().then(|| alias(&controller.info)))
        }
        (ControllerType::Scsi, "lsilogic") => Device::new("lsi").with("id", format!("scsi{index}")),
        (ControllerType::Scsi, _) => Device::new("virtio-scsi-pci").with("id", format!("scsi{index}")),
        // Both chipsets have the first of their own kind.
        (ControllerType::Ide, _) => return Ok(None),
        (ControllerType::Sata, _) if is_q35(domain) && index == 0 => return Ok(None),
        (ControllerType::Sata, _) => Device::new("ahci").with("id", format!("sata{index}")),
        (ControllerType::VirtioSerial, _) => Device::new("virtio-serial-pci")
            .with("id", format!("virtio-serial{index}"))
            .with_if("max_ports", controller.ports),
        (other, _) => {
            let text = format_args!("controllers of type '{}' cannot be started yet", other.as_str());
            return Err(QEMU.config_unsupported(text));
        }
    };
    Ok(Some(device.at(domain, address)))
}

/// PS/2 devices are the machine's own; others are plugged in.
pub(super) fn inputs(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for input in &domain.devices.inputs {
        let driver = match (input.bus, input.type_) {
            (Some(InputBus::Usb), InputType::Tablet) => "usb-tablet",
            (Some(InputBus::Usb), InputType::Mouse) => "usb-mouse",
            (Some(InputBus::Usb), InputType::Keyboard) => "usb-kbd",
            (Some(InputBus::Virtio), InputType::Tablet) => "virtio-tablet-pci",
            (Some(InputBus::Virtio), InputType::Mouse) => "virtio-mouse-pci",
            (Some(InputBus::Virtio), InputType::Keyboard) => "virtio-keyboard-pci",
            _ => continue,
        };
        Device::new(driver).with("id", alias(&input.info)).at(domain, input.info.address.as_ref()).add(line);
    }
    Ok(())
}

/// What the watchdogs do; a Q35 has one of its own.
pub(super) fn watchdogs(line: &mut CommandLine, domain: &Domain) {
    if is_q35(domain) && !domain.devices.watchdogs.is_empty() {
        line.option("-global", "ICH9-LPC.noreboot=off");
    }
    let mut action = None;
    for watchdog in &domain.devices.watchdogs {
        if watchdog.model.as_str() != "itco" {
            let device = Device::new(watchdog.model.as_str()).with("id", alias(&watchdog.info));
            device.at(domain, watchdog.info.address.as_ref()).rom(&watchdog.info).add(line);
        }
        action = Some(watchdog.action.as_str());
    }
    if let Some(action) = action {
        // QEMU only stops the guest; the dump is the daemon's to make.
        line.option("-watchdog-action", if action == "dump" { "pause" } else { action });
    }
}

pub(super) fn balloon(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    let Some(balloon) = &domain.devices.memballoon else { return Ok(()) };
    if balloon.model == MemballoonModel::None {
        return Ok(());
    }
    let address = balloon.info.address.as_ref();
    let device = Device::virtio("virtio-balloon", address, None, None).with("id", alias(&balloon.info));
    device.at(domain, address).add(line);
    Ok(())
}

pub(super) fn rngs(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for rng in &domain.devices.rngs {
        let name = alias(&rng.info);
        let backend = rng.backend.as_ref();
        let mut object = Map::new();
        match backend.map(|backend| backend.model) {
            Some(RngModel::Random) | None => {
                object.insert("qom-type".to_owned(), json!("rng-random"));
                object.insert("id".to_owned(), json!(format!("obj{name}")));
                let path = backend.and_then(|backend| backend.path.as_deref()).unwrap_or("/dev/urandom");
                object.insert("filename".to_owned(), json!(path));
            }
            Some(RngModel::Builtin) => {
                object.insert("qom-type".to_owned(), json!("rng-builtin"));
                object.insert("id".to_owned(), json!(format!("obj{name}")));
            }
            Some(other) => {
                let text =
                    format_args!("random number generators by '{}' cannot be started yet", other.as_str());
                return Err(QEMU.config_unsupported(text));
            }
        }
        line.json("-object", &Value::Object(object));
        let rate = rng.rate.as_ref();
        let period = rate.map(|rate| rate.period.unwrap_or(1000));
        Device::new("virtio-rng-pci")
            .with("rng", format!("obj{name}"))
            .with("id", name)
            .with_if("max-bytes", rate.map(|rate| rate.bytes))
            .with_if("period", period)
            .at(domain, rng.info.address.as_ref())
            .add(line);
    }
    Ok(())
}
