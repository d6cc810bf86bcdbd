//! Controllers, network cards, inputs, displays and the small devices.

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::RngModel;
use virtwire_conf::domain::display::{Graphics, GraphicsType, InputBus, InputType, ListenType, VideoType};
use virtwire_conf::domain::misc::{Controller, ControllerType, MemballoonModel};
use virtwire_conf::domain::net::InterfaceType;
use virtwire_conf::domain::os::BootDevice;
use virtwire_protocol::VirtError;

use super::machine::boot_index;
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
    Ok(Some(device.at(domain, address)?))
}

pub(crate) fn interfaces(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for (index, interface) in domain.devices.interfaces.iter().enumerate() {
        if interface.type_ != InterfaceType::User {
            let text =
                format_args!("interfaces of type '{}' cannot be started yet", interface.type_.as_str());
            return Err(QEMU.config_unsupported(text));
        }
        let name = alias(&interface.info);
        let host = format!("host{name}");
        line.json("-netdev", &json!({"type": "user", "id": host}));
        let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or("rtl8139");
        let driver = if model == "virtio" { "virtio-net-pci" } else { model };
        let by_kind = if index == 0 { boot_index(domain, BootDevice::Network) } else { None };
        let boot = interface.info.boot.as_ref().map(|boot| boot.order.0.get()).or(by_kind);
        let mac = interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac_text(mac.0));
        Device::new(driver)
            .with("netdev", host)
            .with("id", name)
            .with_if("mac", mac)
            .with_if("bootindex", boot)
            .at(domain, interface.info.address.as_ref())?
            .add(line);
    }
    Ok(())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
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
        Device::new(driver).with("id", alias(&input.info)).at(domain, input.info.address.as_ref())?.add(line);
    }
    Ok(())
}

pub(super) fn graphics(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for audio in &domain.devices.audios {
        let id = format!("audio{}", audio.id);
        line.json("-audiodev", &json!({"id": id, "driver": audio.type_.as_str()}));
    }
    if domain.devices.audios.is_empty() {
        line.json("-audiodev", &json!({"id": "audio1", "driver": "none"}));
    }
    for graphics in &domain.devices.graphics {
        match graphics.type_ {
            GraphicsType::Vnc => line.option("-vnc", vnc(graphics)),
            other => {
                let text = format_args!("graphics of type '{}' cannot be started yet", other.as_str());
                return Err(QEMU.config_unsupported(text));
            }
        }
    }
    Ok(())
}

/// The first port of VNC; displays count from it.
const VNC_BASE: i32 = 5900;

fn vnc(graphics: &Graphics) -> String {
    let listen = graphics.listens.first();
    let socket = graphics.socket.as_ref().or(listen.and_then(|listen| listen.socket.as_ref()));
    let place = match socket {
        Some(socket) => format!("unix:{}", crate::command::escape(socket)),
        None if listen.is_some_and(|listen| listen.type_ == ListenType::None) => "none".to_owned(),
        None => {
            let address =
                listen.and_then(|listen| listen.address.as_deref()).or(graphics.listen_attr.as_deref());
            let address = address.unwrap_or("127.0.0.1");
            let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            format!("{address}:{}", graphics.port.unwrap_or(VNC_BASE) - VNC_BASE)
        }
    };
    let password = if graphics.passwd.is_some() { ",password=on" } else { "" };
    format!("{place}{password},audiodev=audio1")
}

pub(super) fn videos(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for (index, video) in domain.devices.videos.iter().enumerate() {
        let Some(model) = &video.model else { continue };
        let name = alias(&video.info);
        let memory = |kib: Option<u32>| kib.unwrap_or(16384) / 1024;
        let device = match model.type_ {
            VideoType::None => continue,
            VideoType::Vga => Device::new("VGA").with("id", name).with("vgamem_mb", memory(model.vram)),
            VideoType::Cirrus => Device::new("cirrus-vga").with("id", name),
            VideoType::Bochs => {
                let bytes = u64::from(model.vram.unwrap_or(16384)) * 1024;
                Device::new("bochs-display").with("id", name).with("vgamem", bytes)
            }
            VideoType::Virtio => {
                let driver = if index == 0 { "virtio-vga" } else { "virtio-gpu-pci" };
                Device::new(driver).with("id", name).with("max_outputs", model.heads.unwrap_or(1))
            }
            VideoType::Qxl => {
                let driver = if index == 0 { "qxl-vga" } else { "qxl" };
                Device::new(driver)
                    .with("id", name)
                    .with("max_outputs", model.heads.unwrap_or(1))
                    .with("ram_size", u64::from(model.ram.unwrap_or(65536)) * 1024)
                    .with("vram_size", u64::from(model.vram.unwrap_or(65536)) * 1024)
                    .with("vram64_size_mb", memory(model.vram64.or(Some(0))))
                    .with("vgamem_mb", memory(model.vgamem))
            }
            other => {
                let text = format_args!("video cards of type '{}' cannot be started yet", other.as_str());
                return Err(QEMU.config_unsupported(text));
            }
        };
        device.at(domain, video.info.address.as_ref())?.add(line);
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
            if let Ok(device) = device.at(domain, watchdog.info.address.as_ref()) {
                device.add(line);
            }
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
    let device = Device::new("virtio-balloon-pci").with("id", alias(&balloon.info));
    device.at(domain, balloon.info.address.as_ref())?.add(line);
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
            .at(domain, rng.info.address.as_ref())?
            .add(line);
    }
    Ok(())
}
