//! What the QEMU driver adds on x86.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{QemuHost, devices, drives};
use crate::OnOff;
use crate::domain::chardev::{CharType, SerialTargetType, TargetModel};
use crate::domain::device::{Address, VirtioSerialAddress};
use crate::domain::disk::{DiskBus, DiskDevice, DiskDriver, StorageType};
use crate::domain::display::{Audio, AudioType, GraphicsType, Input, InputBus, InputType, VideoType};
use crate::domain::features::{Cpu, CpuCheck, CpuFallback, CpuFeaturePolicy, CpuMatch, CpuMode, CpuModel};
use crate::domain::misc::{
    Controller, ControllerType, Memballoon, MemballoonModel, PanicModel, Watchdog, WatchdogModel,
};
use crate::domain::net::{InterfaceModel, InterfaceType};
use crate::domain::{Domain, VirtType};

const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// The chipset, which decides what is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chipset {
    /// i440FX with PIIX3: one conventional PCI bus.
    I440fx,
    /// Q35 with ICH9: PCI Express.
    Q35,
    /// No PCI, or a machine that isn't known here.
    Other,
}

/// The chipset of a machine's name.
pub(super) fn chipset(domain: &Domain) -> Chipset {
    let machine = domain.os.type_.as_ref().and_then(|t| t.machine.as_deref()).unwrap_or_default();
    let is =
        |name: &str| machine == name || machine.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    if is("pc-q35") || machine == "q35" {
        Chipset::Q35
    } else if is("pc-i440fx") || machine == "pc" || is("pc-0") || is("pc-1") || is("rhel6") {
        Chipset::I440fx
    } else {
        Chipset::Other
    }
}

/// The driver's own part.
pub(super) fn complete(domain: &mut Domain, host: &QemuHost) -> Result<(), VirtError> {
    machine(domain, host)?;
    processor(domain);
    let chipset = chipset(domain);
    controllers(domain, chipset);
    default_devices(domain, chipset);
    characters(domain);
    for interface in &mut domain.devices.interfaces {
        if interface.type_ != InterfaceType::Hostdev {
            let model = || InterfaceModel { type_: Some("rtl8139".to_owned()) };
            interface.model.get_or_insert_with(model);
        }
        if let Some(target) = &mut interface.target
            && target.dev.as_deref().is_some_and(|dev| dev.starts_with("vnet"))
        {
            target.dev = None;
        }
    }
    disks(domain);
    Ok(())
}

/// What depends on devices that all drivers add.
pub(super) fn finish(domain: &mut Domain) -> Result<(), VirtError> {
    devices::complete_videos(domain, VideoType::Cirrus);
    scsi_models(domain);
    virtio_serial_ports(domain);
    Ok(())
}

fn machine(domain: &mut Domain, host: &QemuHost) -> Result<(), VirtError> {
    let Some(kind) = &mut domain.os.type_ else { return Ok(()) };
    let arch = kind.arch.clone().unwrap_or_default();
    let unsupported = |text: std::fmt::Arguments<'_>| Err(QEMU.config_unsupported(text));
    let Some(emulator) = host.emulator(&arch) else {
        return unsupported(format_args!("No emulator found for arch '{arch}'"));
    };
    let path = domain.devices.emulator.get_or_insert_with(|| emulator.path.clone()).clone();
    let known = match domain.type_ {
        VirtType::Qemu => true,
        VirtType::Kvm => emulator.kvm,
        _ => false,
    };
    if kind.name != "hvm" {
        return unsupported(format_args!("Emulator '{path}' does not support os type '{}'", kind.name));
    }
    if !known {
        return unsupported(format_args!("Emulator '{path}' does not support virt type '{}'", domain.type_));
    }
    let name = kind
        .machine
        .get_or_insert_with(|| emulator.machines.first().map_or("pc", |(alias, _)| alias).to_owned());
    if let Some((_, canonical)) = emulator.machines.iter().find(|(alias, _)| alias == name) {
        name.clone_from(canonical);
    }
    Ok(())
}

fn processor(domain: &mut Domain) {
    let arch = domain.os.type_.as_ref().and_then(|t| t.arch.clone()).unwrap_or_default();
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    match cpu.mode {
        Some(CpuMode::HostPassthrough | CpuMode::Maximum) => {
            cpu.check.get_or_insert(CpuCheck::None);
            cpu.migratable.get_or_insert(OnOff::On);
            cpu.match_ = None;
            return;
        }
        Some(CpuMode::HostModel) => {
            cpu.check.get_or_insert(CpuCheck::Partial);
            cpu.match_ = None;
            return;
        }
        Some(CpuMode::Custom) | None => {}
    }
    cpu.mode = Some(CpuMode::Custom);
    cpu.match_.get_or_insert(CpuMatch::Exact);
    for feature in &mut cpu.feature {
        feature.policy.get_or_insert(CpuFeaturePolicy::Require);
    }
    match &mut cpu.model {
        Some(model) if model.name.is_some() => {
            model.fallback.get_or_insert(CpuFallback::Allow);
            cpu.check.get_or_insert(if domain.type_ == VirtType::Kvm {
                CpuCheck::Partial
            } else {
                CpuCheck::None
            });
        }
        _ => {
            let name = if arch == "i686" { "qemu32" } else { "qemu64" };
            let fallback = Some(CpuFallback::Forbid);
            cpu.model = Some(CpuModel { fallback, vendor_id: None, name: Some(name.to_owned()) });
            cpu.check = Some(CpuCheck::None);
        }
    }
}

fn controllers(domain: &mut Domain, chipset: Chipset) {
    let usb = domain.devices.controllers.iter().any(|c| c.type_ == ControllerType::Usb);
    let (usb_model, root) = match chipset {
        Chipset::I440fx => ("piix3-uhci", Some("pci-root")),
        Chipset::Q35 => ("qemu-xhci", Some("pcie-root")),
        Chipset::Other => ("piix3-uhci", None),
    };
    if !usb && root.is_some() {
        drives::add_controller(domain, ControllerType::Usb, 0, Some(usb_model));
    }
    if chipset == Chipset::Q35 {
        drives::add_controller(domain, ControllerType::Sata, 0, None);
    }
    if let Some(root) = root {
        drives::add_controller(domain, ControllerType::Pci, 0, Some(root));
    }
    for controller in &mut domain.devices.controllers {
        if controller.type_ == ControllerType::Usb && controller.model.is_none() {
            controller.model = Some(usb_model.to_owned());
        }
    }
}

fn default_devices(domain: &mut Domain, chipset: Chipset) {
    let devices = &mut domain.devices;
    for input in &mut devices.inputs {
        if input.bus.is_none() && input.type_ == InputType::Tablet {
            input.bus = Some(InputBus::Usb);
        }
    }
    for type_ in [InputType::Mouse, InputType::Keyboard] {
        let there = devices.inputs.iter().any(|i| i.type_ == type_ && i.bus == Some(InputBus::Ps2));
        if !there {
            devices.inputs.push(Input { type_, bus: Some(InputBus::Ps2), ..Input::default() });
        }
    }
    if devices.memballoon.is_none() {
        devices.memballoon = Some(Memballoon { model: MemballoonModel::Virtio, ..Memballoon::default() });
    }
    if chipset == Chipset::Q35 && !devices.watchdogs.iter().any(|w| w.model == WatchdogModel::Itco) {
        devices.watchdogs.push(Watchdog { model: WatchdogModel::Itco, ..Watchdog::default() });
    }
    for panic in &mut devices.panics {
        panic.model.get_or_insert(PanicModel::Isa);
    }
    if devices.audios.is_empty() {
        let has = |kind| devices.graphics.iter().any(|g| g.type_ == kind);
        let type_ = if has(GraphicsType::Spice) {
            AudioType::Spice
        } else if has(GraphicsType::Sdl) {
            AudioType::Sdl
        } else {
            AudioType::None
        };
        devices.audios.push(Audio { id: 1, type_, ..Audio::default() });
    }
}

fn characters(domain: &mut Domain) {
    for serial in &mut domain.devices.serials {
        let target = serial.target.get_or_insert_default();
        let type_ = *target.type_.get_or_insert(SerialTargetType::IsaSerial);
        let name = match type_ {
            SerialTargetType::IsaSerial => "isa-serial",
            SerialTargetType::UsbSerial => "usb-serial",
            SerialTargetType::PciSerial => "pci-serial",
            SerialTargetType::IsaDebug => "isa-debugcon",
            _ => continue,
        };
        target.model.get_or_insert_with(TargetModel::default).name.get_or_insert_with(|| name.to_owned());
    }
    for channel in &mut domain.devices.channels {
        if channel.chardev.type_ != CharType::Unix {
            continue;
        }
        // A path the driver made up for an earlier run is not kept.
        channel
            .chardev
            .source
            .retain(|s| !s.path.as_deref().is_some_and(|p| p.starts_with("/var/lib/libvirt/qemu/channel/")));
    }
}

fn disks(domain: &mut Domain) {
    for disk in &mut domain.devices.disks {
        if matches!(disk.type_, StorageType::Vhostuser) {
            let driver = disk.driver.get_or_insert_with(DiskDriver::default);
            driver.name.get_or_insert_with(|| "qemu".to_owned());
            driver.type_.get_or_insert_with(|| "raw".to_owned());
            continue;
        }
        let driver = disk.driver.get_or_insert_with(DiskDriver::default);
        driver.name.get_or_insert_with(|| "qemu".to_owned());
        let default = if disk.type_ == StorageType::Dir { "fat" } else { "raw" };
        driver.type_.get_or_insert_with(|| default.to_owned());
        if disk.device == DiskDevice::Floppy && disk.target.as_ref().and_then(|t| t.bus) == Some(DiskBus::Fdc)
        {
            driver.cache = driver.cache.take();
        }
    }
}

/// A SCSI controller without a model is an LSI.
fn scsi_models(domain: &mut Domain) {
    for controller in &mut domain.devices.controllers {
        let scsi = controller.type_ == ControllerType::Scsi;
        if scsi && controller.model.as_deref().is_none_or(|m| m == "auto") {
            controller.model = Some("lsilogic".to_owned());
        }
    }
}

/// Ports of virtio-serial controllers: numbers from 1, in the order of the devices.
fn virtio_serial_ports(domain: &mut Domain) {
    let virtio = Some(crate::domain::chardev::ChannelTargetType::Virtio);
    let devices = &mut domain.devices;
    let controllers: Vec<u32> = devices
        .controllers
        .iter()
        .filter(|c| c.type_ == ControllerType::VirtioSerial)
        .filter_map(|c: &Controller| u32::try_from(c.index?).ok())
        .collect();
    let mut taken: Vec<(u32, u32)> = Vec::new();
    let addresses = devices.channels.iter().map(|c| &c.info).chain(devices.consoles.iter().map(|c| &c.info));
    for info in addresses {
        if let Some(Address::VirtioSerial(a)) = &info.address {
            taken.push((a.controller, a.port));
        }
    }
    let channels = devices.channels.iter_mut().filter(|c| c.target.as_ref().and_then(|t| t.type_) == virtio);
    let mut infos: Vec<_> = channels.map(|c| &mut c.info).collect();
    let console = Some(crate::domain::chardev::ConsoleTargetType::Virtio);
    let consoles = devices.consoles.iter_mut().filter(|c| c.target.as_ref().and_then(|t| t.type_) == console);
    infos.extend(consoles.map(|c| &mut c.info));
    for info in infos {
        let fixed = match &info.address {
            None => None,
            Some(Address::VirtioSerial(a)) if a.port == 0 => Some(a.controller),
            Some(_) => continue,
        };
        let wanted = fixed.into_iter().chain(controllers.iter().copied());
        let free = wanted.flat_map(|c| (1..31).map(move |p| (c, p))).find(|place| !taken.contains(place));
        if let Some((controller, port)) = free {
            taken.push((controller, port));
            info.address = Some(Address::VirtioSerial(VirtioSerialAddress { controller, bus: 0, port }));
        }
    }
}
