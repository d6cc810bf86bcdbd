//! What the QEMU driver adds.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::board::{self, Chipset, chipset};
use super::{Emulator, QemuHost, drives, firmware, resources, rules, seclabel, vcpus};
use crate::domain::chardev::{CharSource, CharType, RngModel, SerialTargetType, TargetModel};
use crate::domain::device::{Address, DeviceInfo, VirtioSerialAddress};
use crate::domain::disk::{DiskDriver, Encryption, StorageType};
use crate::domain::display::{Audio, AudioType, Graphics, GraphicsType, Input, InputBus, InputType};
use crate::domain::features::{
    Cpu, CpuCheck, CpuFallback, CpuFeaturePolicy, CpuMatch, CpuMode, CpuModel, GicVersion, IoapicDriver,
};
use crate::domain::misc::{
    Controller, ControllerType, IommuModel, Memballoon, MemballoonModel, Panic, PciModel, TpmBackendType,
    TpmModel, Watchdog, WatchdogModel,
};
use crate::domain::misc::{MiB, Msi};
use crate::domain::net::{InterfaceModel, InterfaceType};
use crate::domain::{Devices, Domain, VirtType};
use crate::{OnOff, YesNo};

const QEMU: ErrorDomain = ErrorDomain::QEMU;
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// The host's own TPM, where nothing else is said.
const HOST_CHIP: &str = "/dev/tpm0";
/// Where a host's randomness is, where nothing else is said.
const HOST_RANDOMNESS: &str = "/dev/random";

/// The driver's own part.
pub(super) fn complete(domain: &mut Domain, host: &QemuHost) -> Result<(), VirtError> {
    machine(domain, host)?;
    rules::firmware(domain)?;
    firmware::complete(domain, host)?;
    vcpus::check_qemu(domain)?;
    processor(domain, host);
    resources::complete_qemu(domain);
    let chipset = chipset(domain);
    let board = chipset.board();
    if chipset == Chipset::ArmVirt {
        let gic = domain.features.get_or_insert_default().gic.get_or_insert_default();
        gic.version.get_or_insert(GicVersion::Two);
    }
    interrupt_remapping(domain, chipset);
    let place = || format!("{}/{}_PSTORE.raw", host.nvram_dir, domain.name);
    if let Some(pstore) = &mut domain.devices.pstore {
        pstore.path.get_or_insert_with(place);
    }
    lent_devices(domain);
    controllers(domain, chipset)?;
    default_devices(domain, chipset)?;
    characters(domain, board.serial);
    for interface in &mut domain.devices.interfaces {
        if interface.type_ != InterfaceType::Hostdev {
            let virtio = matches!(interface.type_, InterfaceType::Vdpa | InterfaceType::Vhostuser);
            let name = if virtio { "virtio" } else { board.network };
            let model = || InterfaceModel { type_: Some(name.to_owned()) };
            interface.model.get_or_insert_with(model);
        }
    }
    disks(domain);
    seclabel::check_overrides(domain)
}

/// What depends on devices that all drivers add.
pub(super) fn finish(domain: &mut Domain) -> Result<(), VirtError> {
    scsi_models(domain, chipset(domain).board().scsi);
    virtio_serial_ports(domain)
}

/// Devices that a viewer on D-Bus lends have the name that viewers look for.
fn lent_devices(domain: &mut Domain) {
    for redirdev in &mut domain.devices.redirdevs {
        let named = redirdev.chardev.source.iter().any(|source| source.channel.is_some());
        if redirdev.chardev.type_ == CharType::Dbus && !named {
            let channel = Some("org.qemu.usbredir".to_owned());
            redirdev.chardev.source = vec![CharSource { channel, ..CharSource::default() }];
        }
    }
}

/// More processors than this are not reached by interrupts as they always were.
const MOST_WITHOUT_REMAPPING: u32 = 255;

/// Big machines need an IOMMU that remaps interrupts, and such an IOMMU the I/O APIC of QEMU.
fn interrupt_remapping(domain: &mut Domain, chipset: Chipset) {
    let many = domain.vcpu.as_ref().is_some_and(|vcpu| vcpu.count > MOST_WITHOUT_REMAPPING);
    if chipset == Chipset::Q35 && many {
        domain.devices.iommu.get_or_insert_default();
    }
    let iommu = domain.devices.iommu.as_mut().filter(|iommu| iommu.model == IommuModel::Intel);
    let Some(iommu) = iommu else { return };
    if chipset == Chipset::Q35 && many {
        let driver = iommu.driver.get_or_insert_default();
        driver.intremap.get_or_insert(OnOff::On);
        driver.eim.get_or_insert(OnOff::On);
    }
    if iommu.driver.as_ref().is_none_or(|driver| driver.intremap != Some(OnOff::On)) {
        return;
    }
    let features = domain.features.get_or_insert_default();
    features.ioapic.get_or_insert_default().driver.get_or_insert(IoapicDriver::Qemu);
}

fn machine(domain: &mut Domain, host: &QemuHost) -> Result<(), VirtError> {
    let Some(kind) = &mut domain.os.type_ else { return Ok(()) };
    let arch = kind.arch.clone().unwrap_or_default();
    refuse! {
        host.emulator(&arch).is_none() && domain.devices.emulator.is_none() =>
            QEMU.config_unsupported("No emulator found for arch '{arch}'");
    }
    let emulator = host.emulator(&arch);
    if let Some(emulator) = emulator {
        domain.devices.emulator.get_or_insert_with(|| emulator.path.clone());
    }
    if let (Some(check), Some(program)) = (host.check_program, &domain.devices.emulator) {
        check(program)?;
    }
    let Some(emulator) = emulator else { return Ok(()) };
    let default = || emulator.machines.first().map_or("pc", |machine| &machine.name).to_owned();
    let name = kind.machine.get_or_insert_with(default);
    if let Some(machine) = emulator.machine(name) {
        name.clone_from(&machine.name);
    }
    Ok(())
}

/// The processor of a machine of which nothing is said, by libvirt's name.
fn default_cpu(emulator: &Emulator, machine: &str) -> Option<String> {
    let kind = emulator.machine(machine)?.cpu.as_deref()?;
    let (name, _) = kind.rsplit_once('-').and_then(|(rest, _)| rest.rsplit_once('-'))?;
    // POWER's are called by their generation.
    Some(match name.split_once("_v") {
        Some((generation, _)) if emulator.arch.starts_with("ppc64") => generation.to_uppercase(),
        _ => name.to_owned(),
    })
}

/// Architectures whose processors have names that libvirt knows.
const NAMED: [&str; 8] =
    ["aarch64", "armv7l", "armv6l", "s390x", "riscv64", "ppc64", "ppc64le", "loongarch64"];

fn processor(domain: &mut Domain, host: &QemuHost) {
    let foreign = chipset(domain).is_foreign();
    let kind = domain.os.type_.clone().unwrap_or_default();
    let arch = kind.arch.unwrap_or_default();
    let own = host.emulator(&arch).filter(|_| foreign && NAMED.contains(&arch.as_str()));
    let own = own.and_then(|emulator| default_cpu(emulator, kind.machine.as_deref().unwrap_or_default()));
    let plain = domain.cpu.as_ref().is_none_or(|cpu| *cpu == Cpu::default());
    if foreign && own.is_none() && plain {
        domain.cpu = None;
        return;
    }
    let emulator = domain.devices.emulator.clone().unwrap_or_default();
    let old = domain.os.type_.as_ref().and_then(|kind| kind.machine.as_deref()) == Some("isapc");
    let narrow = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref()) == Some("i686");
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    for feature in &mut cpu.feature {
        feature.policy.get_or_insert(CpuFeaturePolicy::Require);
    }
    match cpu.mode {
        Some(CpuMode::HostPassthrough | CpuMode::Maximum) => {
            cpu.check.get_or_insert(CpuCheck::None);
            if cpu.mode == Some(CpuMode::HostPassthrough) && !foreign {
                // A 32-bit emulator is not asked whether it could leave out what does not migrate.
                cpu.migratable.get_or_insert(if narrow { OnOff::Off } else { OnOff::On });
            }
            cpu.match_ = None;
            cpu.model = None;
            return;
        }
        Some(CpuMode::HostModel) => {
            cpu.check.get_or_insert(CpuCheck::Partial);
            cpu.match_ = None;
            cpu.model.take_if(|model| model.name.is_none() && model.vendor_id.is_none());
            return;
        }
        Some(CpuMode::Custom) | None => {}
    }
    cpu.mode = Some(CpuMode::Custom);
    if cpu.model.as_ref().is_none_or(|model| model.name.is_none()) {
        cpu.match_ = None;
    }
    cpu.match_.get_or_insert(CpuMatch::Exact);
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
            let name = match old {
                _ if own.is_some() => own.as_deref().unwrap_or_default(),
                true => "486",
                false if emulator.contains("x86_64") => "qemu64",
                false => "qemu32",
            };
            let fallback = Some(CpuFallback::Forbid);
            cpu.model = Some(CpuModel { fallback, vendor_id: None, name: Some(name.to_owned()) });
            cpu.check = Some(CpuCheck::None);
        }
    }
}

fn controllers(domain: &mut Domain, chipset: Chipset) -> Result<(), VirtError> {
    let root = |c: &Controller| {
        c.type_ == ControllerType::Pci
            && c.index > Some(0)
            && matches!(c.model.as_deref(), Some("pci-root" | "pcie-root"))
    };
    refuse! {
        // Each of sPAPR's is a bridge of the host.
        chipset != Chipset::Pseries && domain.devices.controllers.iter().any(root) =>
            QEMU.xml_error("pci-root and pcie-root controllers should have index 0");
    }
    let usb = domain.devices.controllers.iter().any(|c| c.type_ == ControllerType::Usb && c.index == Some(0));
    let board = chipset.board();
    let old = domain.os.type_.as_ref().and_then(|kind| kind.machine.as_deref()) == Some("isapc");
    let unknown = (chipset == Chipset::Other && !old).then_some(board.usb_model);
    if let Some(model) = board.usb.or(unknown).filter(|_| !usb) {
        drives::add_controller(domain, ControllerType::Usb, 0, Some(model));
    }
    if chipset == Chipset::Q35 {
        drives::add_controller(domain, ControllerType::Sata, 0, None);
    }
    if let Some(root) = board.root {
        drives::add_controller(domain, ControllerType::Pci, 0, Some(root));
    }
    let usb_model = board::usb_model(domain);
    for controller in &mut domain.devices.controllers {
        if controller.type_ == ControllerType::Usb && controller.model.is_none() {
            controller.model = Some(usb_model.to_owned());
        }
        if chipset == Chipset::Pseries && controller.model.as_deref() == Some("pci-root") {
            let name = || PciModel { name: Some("spapr-pci-host-bridge".to_owned()) };
            controller.pci_model.get_or_insert_with(name);
            let index = controller.index.and_then(|index| u32::try_from(index).ok());
            controller.target.get_or_insert_default().index = index;
        }
    }
    Ok(())
}

fn default_devices(domain: &mut Domain, chipset: Chipset) -> Result<(), VirtError> {
    let ps2 = board::has_ps2(domain);
    let devices = &mut domain.devices;
    let board = chipset.board();
    refuse! {
        board.panic.is_none() && devices.panics.iter().any(|panic| panic.model.is_none()) =>
            QEMU.config_unsupported("no panic model provided, and no default for the architecture and machine type");
    }
    let own = |panic: &Panic| panic.model.is_none_or(|model| Some(model) == board.panic);
    if matches!(chipset, Chipset::Ccw | Chipset::Pseries) && !devices.panics.iter().any(own) {
        devices.panics.push(Panic::default());
    }
    own_inputs(devices, chipset);
    for input in &mut devices.inputs {
        if input.bus.is_none() && input.type_ == InputType::Tablet {
            input.bus = Some(InputBus::Usb);
        }
    }
    let ports = domain.features.as_ref().and_then(|features| features.ps2.as_ref());
    let without = ports.is_some_and(|ports| ports.state == OnOff::Off) || board.input.is_some() || !ps2;
    for type_ in [InputType::Mouse, InputType::Keyboard].into_iter().filter(|_| !without) {
        let there = devices.inputs.iter().any(|i| i.type_ == type_ && i.bus == Some(InputBus::Ps2));
        if !there {
            devices.inputs.push(Input { type_, bus: Some(InputBus::Ps2), ..Input::default() });
        }
    }
    if devices.memballoon.is_none() && board.balloon {
        devices.memballoon = Some(Memballoon { model: MemballoonModel::Virtio, ..Memballoon::default() });
    }
    if chipset == Chipset::Q35 && !devices.watchdogs.iter().any(|w| w.model == WatchdogModel::Itco) {
        // All watchdogs of a machine do the same.
        let action = devices.watchdogs.first().map(|w| w.action).unwrap_or_default();
        devices.watchdogs.push(Watchdog { model: WatchdogModel::Itco, action, ..Watchdog::default() });
    }
    for panic in &mut devices.panics {
        panic.model = panic.model.or(board.panic);
    }
    if let Some(type_) = usual_audio(&devices.graphics).filter(|_| devices.audios.is_empty()) {
        devices.audios.push(Audio { id: 1, type_, ..Audio::default() });
    }
    for shmem in &mut devices.shmems {
        let model = shmem.model.as_ref().map(|model| model.type_.as_str()).unwrap_or_default();
        let (plain, doorbell) = (model == "ivshmem-plain", model == "ivshmem-doorbell");
        refuse! {
            plain && shmem.server.is_some() =>
                QEMU.config_unsupported("shmem model '{model}' is supported only with server option disabled");
            doorbell && shmem.server.is_none() =>
                QEMU.config_unsupported("shmem model '{model}' is supported only with server option enabled");
            doorbell && shmem.size.is_some() =>
                QEMU.config_unsupported("shmem model '{model}' does not support size setting");
        }
        if shmem.server.is_none() {
            shmem.size.get_or_insert(MiB(4));
        }
        if let Some(msi) = &mut shmem.msi {
            msi.ioeventfd.get_or_insert(OnOff::On);
        } else if shmem.server.is_some() {
            shmem.msi = Some(Msi { vectors: None, ioeventfd: Some(OnOff::On) });
        }
    }
    if let Some(vsock) = &mut devices.vsock {
        vsock.model.get_or_insert_default();
        let cid = vsock.cid.get_or_insert_default();
        if cid.auto.is_none() {
            cid.auto = Some(if cid.address.is_none() { YesNo::Yes } else { YesNo::No });
        }
    }
    for tpm in &mut devices.tpms {
        if chipset == Chipset::Pseries {
            tpm.model.get_or_insert(TpmModel::TpmSpapr);
        }
        let old = *tpm.model.get_or_insert_default() == TpmModel::TpmTis && chipset.is_pc();
        let Some(backend) = &mut tpm.backend else { continue };
        match backend.type_ {
            TpmBackendType::Passthrough => {
                let device = backend.device.get_or_insert_default();
                device.path.get_or_insert_with(|| HOST_CHIP.to_owned());
            }
            TpmBackendType::Emulator => {
                backend.version.get_or_insert_with(|| if old { "1.2" } else { "2.0" }.to_owned());
            }
            TpmBackendType::External => {
                let source = backend.source.iter_mut().filter(|source| source.type_.is_some());
                source.for_each(|source| _ = source.mode.get_or_insert_with(|| "connect".to_owned()));
            }
        }
    }
    for backend in devices.rngs.iter_mut().filter_map(|rng| rng.backend.as_mut()) {
        if backend.model == RngModel::Random {
            backend.path.get_or_insert_with(|| HOST_RANDOMNESS.to_owned());
        }
    }
    for rng in &mut devices.rngs {
        if let Some(backend) = rng.backend.as_mut().filter(|b| b.type_ != Some(CharType::Tcp)) {
            backend.protocol = None;
        }
    }
    Ok(())
}

/// How a guest with these screens is heard where nothing is said. The last of them with an own way decides; SDL's is not
/// known before the guest runs.
pub(super) fn usual_audio(screens: &[Graphics]) -> Option<AudioType> {
    let backend = screens.iter().fold(None, |backend, screen| match screen.type_ {
        GraphicsType::Vnc => Some(AudioType::None),
        GraphicsType::Spice => Some(AudioType::Spice),
        GraphicsType::Sdl => None,
        _ => backend,
    });
    backend.or(screens.is_empty().then_some(AudioType::None))
}

/// Keyboards and mice of boards that have no ports for them.
fn own_inputs(devices: &mut Devices, chipset: Chipset) {
    let Some(bus) = chipset.board().input else { return };
    let hand = |type_| matches!(type_, InputType::Mouse | InputType::Keyboard | InputType::Tablet);
    for input in devices.inputs.iter_mut().filter(|input| hand(input.type_)) {
        input.bus.get_or_insert(bus);
    }
    if !matches!(chipset, Chipset::Pseries | Chipset::PowerPci) || devices.graphics.is_empty() {
        return;
    }
    let typed = |input: &Input| {
        input.bus == Some(bus) && matches!(input.type_, InputType::Keyboard | InputType::Mouse)
    };
    if !devices.inputs.iter().any(typed) {
        let new = |type_| Input { type_, bus: Some(bus), ..Input::default() };
        devices.inputs.extend([InputType::Keyboard, InputType::Mouse].map(new));
    }
}

fn characters(domain: &mut Domain, board: Option<(SerialTargetType, &str)>) {
    for serial in &mut domain.devices.serials {
        let target = serial.target.get_or_insert_default();
        // Where there is no ISA, that means the board's own.
        if board.is_none_or(|(own, _)| own != SerialTargetType::IsaSerial) {
            target.type_.take_if(|kind| *kind == SerialTargetType::IsaSerial);
        }
        let Some(type_) = target.type_.or(board.map(|(own, _)| own)) else { continue };
        let (own, model) = board.unwrap_or((type_, ""));
        target.type_ = Some(type_);
        let name = match type_ {
            _ if type_ == own && !model.is_empty() => model,
            SerialTargetType::SclpSerial => "sclpconsole",
            SerialTargetType::SpaprVioSerial => "spapr-vty",
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
        // A path the driver made up for an earlier run is not kept, nor is a source that names none.
        let name = channel.target.as_ref().and_then(|t| t.name.clone()).unwrap_or_default();
        let own = |path: &str| made_up(path, &name);
        channel.chardev.source.retain(|s| s.path.as_deref().is_some_and(|path| !own(path)));
    }
}

/// Whether the driver made up the path of a channel's socket: `[target/]DOMAIN.NAME` or `[target/]domain-DOMAIN/NAME`, or
/// one with the number of a run.
fn made_up(path: &str, name: &str) -> bool {
    let below = |root: &str| path.strip_prefix(root).and_then(|rest| rest.strip_suffix(name));
    if below("/run/libvirt/qemu/channel/").is_some() {
        return true;
    }
    let Some(rest) = below("/var/lib/libvirt/qemu/channel/") else { return false };
    let inner = rest.strip_prefix("target/").unwrap_or(rest);
    let single = inner.trim_end_matches(['/', '.']);
    let numbered = rest.len() == inner.len() && inner.starts_with(|c: char| c.is_ascii_digit());
    !single.contains('/') && (inner.ends_with('.') || single.starts_with("domain-") || numbered)
}

fn complete_encryption(encryption: &mut Encryption) {
    if encryption.format.starts_with("luks") {
        encryption.engine.get_or_insert_with(|| "qemu".to_owned());
    }
}

fn disks(domain: &mut Domain) {
    for disk in &mut domain.devices.disks {
        disk.encryption.iter_mut().for_each(complete_encryption);
        disk.source.iter_mut().flat_map(|s| &mut s.encryption).for_each(complete_encryption);
        let mut below = disk.backing_store.as_deref_mut();
        while let Some(store) = below {
            store.source.iter_mut().flat_map(|s| &mut s.encryption).for_each(complete_encryption);
            below = store.backing_store.as_deref_mut();
        }
        if matches!(disk.type_, StorageType::Vhostuser) {
            let driver = disk.driver.get_or_insert_with(DiskDriver::default);
            driver.name.get_or_insert_with(|| "qemu".to_owned());
            driver.type_.get_or_insert_with(|| "raw".to_owned());
            continue;
        }
        let driver = disk.driver.get_or_insert_with(DiskDriver::default);
        driver.name.get_or_insert_with(|| "qemu".to_owned());
        if disk.type_ == StorageType::Volume {
            continue;
        }
        driver.type_.get_or_insert_with(|| "raw".to_owned());
    }
}

/// A SCSI controller without a model is the board's usual one.
fn scsi_models(domain: &mut Domain, usual: &str) {
    for controller in &mut domain.devices.controllers {
        let scsi = controller.type_ == ControllerType::Scsi;
        if scsi && controller.model.as_deref().is_none_or(|m| m == "auto") {
            controller.model = Some(usual.to_owned());
        }
    }
}

/// Ports of virtio-serial controllers: numbers from 1, in the order of the channels.
fn virtio_serial_ports(domain: &mut Domain) -> Result<(), VirtError> {
    let devices = &mut domain.devices;
    let serial = |c: &&Controller| c.type_ == ControllerType::VirtioSerial;
    let count = |c: &Controller| c.ports.and_then(|n| u32::try_from(n).ok()).unwrap_or(31).min(511);
    let known = devices.controllers.iter().filter(serial);
    let mut controllers: Vec<(u32, u32)> =
        known.filter_map(|c| Some((u32::try_from(c.index?).ok()?, count(c)))).collect();
    let place = |info: &DeviceInfo| match &info.address {
        Some(Address::VirtioSerial(a)) if a.port != 0 => Some((a.controller, a.port)),
        _ => None,
    };
    let mut taken = BTreeSet::new();
    for (controller, port) in devices.channels.iter().filter_map(|c| place(&c.info)) {
        let ports = controllers.iter().find(|(known, _)| *known == controller).map(|(_, ports)| *ports);
        refuse! {
            ports.is_some_and(|ports| port >= ports) =>
                DOMAIN.xml_error("virtio serial controller {controller} does not have port {port}");
            !taken.insert((controller, port)) =>
                DOMAIN.xml_error("virtio serial port {port} on controller {controller} is already occupied");
        }
    }
    for info in devices.channels.iter_mut().filter(|c| c.is_virtio()).map(|c| &mut c.info) {
        let wanted = match &info.address {
            Some(Address::VirtioSerial(a)) if a.port == 0 => Some(a.controller),
            Some(Address::VirtioSerial(_)) => continue,
            _ => None,
        };
        let fits = |c: &&(u32, u32)| wanted.is_none_or(|w| w == c.0);
        let mut places =
            controllers.iter().filter(fits).flat_map(|(c, n)| (1..*n).map(move |port| (*c, port)));
        let (controller, port) = match places.find(|place| !taken.contains(place)) {
            Some(place) => place,
            None if wanted.is_some() => continue,
            None => {
                let next = controllers.iter().map(|(c, _)| c + 1).max().unwrap_or(0);
                controllers.push((next, 31));
                (next, 1)
            }
        };
        taken.insert((controller, port));
        info.address = Some(Address::VirtioSerial(VirtioSerialAddress { controller, bus: 0, port }));
    }
    for index in controllers.into_iter().filter_map(|(c, _)| i32::try_from(c).ok()) {
        drives::add_controller(domain, ControllerType::VirtioSerial, index, None);
    }
    Ok(())
}
