//! Devices of a stored definition that come, change and go, as the QEMU driver does it.
//!
//! [`Domain::attach`], [`Domain::update`] and [`Domain::detach`] give the definition as it is afterwards, completed as any
//! other: the device has its place, and controllers that it needs are there. What is refused for which kind of device, and
//! in which words, is a row of [`RULES`].

mod network;
mod plugged;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::complete::{Newest, ParseOptions, refuse};
use crate::domain::Domain;
use crate::domain::chardev::{Console, ConsoleTargetType};
use crate::domain::device::{Address, DeviceInfo, PciAddress, PciParts};
use crate::domain::disk::Disk;
use crate::domain::misc::{Controller, Hostdev, Memory};
use crate::domain::net::Interface;
use crate::domain::one::Device;
use crate::table::KiB;

pub use plugged::Plugged;

const QEMU: ErrorDomain = ErrorDomain::QEMU;
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// What is said where there is no such device.
#[derive(Clone, Copy)]
enum Missing {
    /// `VIR_ERR_DEVICE_MISSING`
    Device(&'static str),
    /// `VIR_ERR_INVALID_ARG`
    Argument(&'static str),
    /// `VIR_ERR_OPERATION_FAILED`
    Operation(&'static str),
    /// Devices of this kind neither come nor go.
    Fixed,
}

use Missing::{Argument, Fixed, Operation};

/// A kind of device.
#[derive(Clone, Copy)]
struct Rule {
    /// The name of its element.
    element: &'static str,
    /// libvirt's word for it.
    called: &'static str,
    /// What is said of a second one like it; `{}` stands for what tells devices of the kind apart.
    twice: Option<&'static str>,
    missing: Missing,
}

const fn rule(
    element: &'static str,
    called: &'static str,
    twice: Option<&'static str>,
    missing: Missing,
) -> Rule {
    Rule { element, called, twice, missing }
}

const PRESENT: Option<&str> = Some("device is already in the domain configuration");
const ABSENT: &str = "device not present in domain configuration";
const CHARDEV: Option<&str> = Some("chardev already exists");

const RULES: &[Rule] = &[
    rule("disk", "disk", Some("target {} already exists"), Missing::Device("no target device {}")),
    rule("lease", "lease", Some("Lease {} already exists"), Missing::Device("Lease {} does not exist")),
    rule("controller", "controller", Some("controller index='{}' already exists"), Missing::Device(ABSENT)),
    rule(
        "filesystem",
        "filesystem",
        Some("Target already exists"),
        Missing::Device("no matching filesystem device was found"),
    ),
    rule("interface", "interface", None, Missing::Device(ABSENT)),
    rule("hostdev", "hostdev", PRESENT, Missing::Device(ABSENT)),
    rule("input", "input", None, Missing::Device("matching input device not found")),
    rule("sound", "sound", None, Missing::Device(ABSENT)),
    rule("rng", "rng", None, Missing::Device("no matching RNG device was found")),
    rule("memory", "memory", None, Missing::Device("matching memory device was not found")),
    rule("redirdev", "redirdev", None, Missing::Device("no matching redirdev was not found")),
    rule("shmem", "shmem", PRESENT, Missing::Device("matching shmem device was not found")),
    rule("watchdog", "watchdog", PRESENT, Missing::Device("no matching watchdog was found")),
    rule(
        "vsock",
        "vsock",
        Some("domain already has a vsock device"),
        Operation("matching vsock device not found"),
    ),
    rule(
        "iommu",
        "iommu",
        Some("domain already has an iommu device"),
        Operation("matching iommu device not found"),
    ),
    rule("serial", "chr", CHARDEV, Argument(ABSENT)),
    rule("parallel", "chr", CHARDEV, Argument(ABSENT)),
    rule("console", "chr", CHARDEV, Argument(ABSENT)),
    rule("channel", "chr", CHARDEV, Argument(ABSENT)),
];

fn rule_of(device: &Device) -> Rule {
    let known = RULES.iter().copied().find(|rule| rule.element == device.kind());
    known.unwrap_or(rule(device.kind(), device.kind(), None, Fixed))
}

impl Domain {
    /// The definition with one more device.
    ///
    /// # Errors
    /// Devices of this kind cannot be added, one like it is there already, or the result would be refused as a definition.
    pub fn attach(&self, device: Device, options: &ParseOptions) -> Result<Self, VirtError> {
        let completed = self.completed(&device, options)?;
        completed.checked(options, Newest::Added(device.kind()))?;
        completed.distinct(self, &device)?;
        if let Device::Memory(memory) = &device {
            room_for_memory(self, memory)?;
        }
        let rule = rule_of(&device);
        if matches!(&device, Device::Console(console) if is_serial(console)) {
            return Err(QEMU.operation_unsupported("attaching serial console is not supported"));
        }
        if matches!(rule.missing, Fixed) {
            return Err(unsupported("attach", &rule));
        }
        if let Some(text) = rule.twice
            && completed.position(self, true).is_some()
        {
            return Err(QEMU.operation_invalid(text.replace("{}", &name(&device))));
        }
        let mut domain = self.clone();
        if let Device::Memory(memory) = &device {
            resize(&mut domain, memory, u64::saturating_add);
        }
        device.put(&mut domain.devices);
        domain.complete(options)?;
        Ok(domain)
    }

    /// The definition without a device like this one.
    ///
    /// # Errors
    /// Devices of this kind cannot be removed, or there is none like it.
    pub fn detach(&self, device: &Device, options: &ParseOptions) -> Result<Self, VirtError> {
        let rule = rule_of(device);
        let completed = self.completed(device, options)?;
        if matches!(rule.missing, Fixed) {
            return Err(unsupported("detach", &rule));
        }
        if matches!(device, Device::Console(console) if is_serial(console)) {
            return Err(QEMU.operation_invalid("detaching serial console is not supported"));
        }
        let at = if let Device::Interface(wanted) = device {
            find_interface(self, wanted)?
        } else {
            completed.position(self, false).ok_or_else(|| missing(rule.missing, &name(device)))?
        };
        let mut domain = self.clone();
        if matches!(device, Device::Memory(_))
            && let Some(memory) = domain.devices.memories.get(at).cloned()
        {
            resize(&mut domain, &memory, u64::wrapping_sub);
        }
        device.take(&mut domain.devices, at);
        if matches!(device, Device::Serial(_)) && at == 0 {
            // The console that was this serial port goes with it.
            let consoles = &mut domain.devices.consoles;
            consoles.first().is_some_and(is_serial).then(|| consoles.remove(0));
        }
        domain.complete(options)?;
        Ok(domain)
    }

    /// The definition with this device in the place of the one that it means.
    ///
    /// # Errors
    /// Devices of this kind cannot be changed, there is none that is meant, or the result would be refused as a definition.
    pub fn update(&self, device: Device, options: &ParseOptions) -> Result<Self, VirtError> {
        let completed = self.completed(&device, options)?;
        completed.checked(options, Newest::Changed(device.kind()))?;
        let devices = &self.devices;
        let at = match &device {
            Device::Disk(disk) => {
                let target = target(disk);
                let at = devices.disks.iter().position(|other| self::target(other) == target);
                at.ok_or_else(|| QEMU.invalid_arg(format_args!("target {target} doesn't exist.")))?
            }
            Device::Interface(wanted) => find_interface(self, wanted)?,
            Device::Graphics(new) => {
                let at = devices.graphics.iter().position(|other| other.type_ == new.type_);
                at.ok_or_else(|| {
                    let kind = new.type_;
                    QEMU.invalid_arg(format_args!(
                        "cannot find existing graphics type '{kind}' device to modify"
                    ))
                })?
            }
            Device::Memory(new) => {
                let meant =
                    |info: &DeviceInfo| new.info.address.is_some() && info.address == new.info.address;
                let at = devices.memories.iter().position(|other| meant(&other.info));
                at.ok_or_else(|| QEMU.invalid_arg("memory not found"))?
            }
            _ => return Err(unsupported("update", &rule_of(&device))),
        };
        let mut domain = self.clone();
        device.replace(&mut domain.devices, at);
        domain.complete(options)?;
        Ok(domain)
    }

    /// A device as it would be in this definition.
    fn completed(&self, device: &Device, options: &ParseOptions) -> Result<Completed, VirtError> {
        let mut domain = self.clone();
        let mut alone = device.clone();
        if let Some(info) = alone.info_mut() {
            // Whether it fits into the boot order is for the whole definition to say.
            info.boot = None;
        }
        let address = device.info().and_then(|info| info.address.clone());
        if matches!(device, Device::Disk(_)) {
            // They are put in order, and one alone is the last.
            domain.devices.disks.clear();
        }
        alone.put(&mut domain.devices);
        domain.fill(options)?;
        let at = self.place_of(device, &domain);
        if let (Device::Controller(asked), Some(own)) = (device, domain.devices.controllers.get_mut(at)) {
            // Its number is found when it is put in.
            own.index = asked.index;
        }
        let info = if let Device::Controller(_) = device {
            domain.devices.controllers.get_mut(at).map(|own| &mut own.info)
        } else {
            device.newest_info(&mut domain.devices)
        };
        if let Some(info) = info {
            info.address.clone_from(&address);
            info.boot = device.info().and_then(|info| info.boot.clone());
        }
        let device = match device {
            // These have been put in order, and have what tells them apart anyway.
            Device::Controller(_) => device.clone(),
            _ => device.newest(&domain.devices).unwrap_or_else(|| device.clone()),
        };
        Ok(Completed { domain, device, at, address })
    }

    /// Where among those of its kind a device is that has been put into what is otherwise this definition.
    fn place_of(&self, device: &Device, into: &Self) -> usize {
        let Device::Controller(own) = device else {
            return device.siblings(&into.devices).len().saturating_sub(1);
        };
        let old =
            |index| self.devices.controllers.iter().any(|old| old.type_ == own.type_ && old.index == index);
        let is_it = |other: &Controller| {
            other.type_ == own.type_
                && if own.index.is_some() { other.index == own.index } else { !old(other.index) }
        };
        into.devices.controllers.iter().rposition(is_it).unwrap_or_default()
    }
}

/// A device with its defaults, in a definition that has it without a place.
struct Completed {
    domain: Domain,
    device: Device,
    /// Where it is among those of its kind.
    at: usize,
    /// The address that was asked for.
    address: Option<Address>,
}

impl Completed {
    /// Whether QEMU can have such a device, whatever becomes of it.
    fn checked(&self, options: &ParseOptions, newest: Newest) -> Result<(), VirtError> {
        self.domain.check_newest(options, newest, self.at)
    }

    /// Whether nothing else in `domain` has what this one has alone: its name, its turn to boot, for some its place.
    fn distinct(&self, domain: &Domain, asked: &Device) -> Result<(), VirtError> {
        let others = domain.devices.infos();
        let name = asked.info().and_then(|info| info.alias.as_ref()).map(|alias| alias.name.as_str());
        let name = name.filter(|name| name.starts_with("ua-")).unwrap_or_default();
        let named = |info: &&DeviceInfo| info.alias.as_ref().is_some_and(|alias| alias.name == name);
        let turn = asked.info().and_then(|info| info.boot.as_ref()).map(|boot| boot.order.get());
        let same_turn =
            |info: &&DeviceInfo| info.boot.as_ref().is_some_and(|boot| Some(boot.order.get()) == turn);
        let place = pci(&DeviceInfo { address: self.address.clone(), ..DeviceInfo::default() });
        let taken = place.is_some() && others.iter().any(|info| pci(info) == place);
        refuse! {
            others.iter().any(named) => DOMAIN.config_unsupported("non unique alias detected: {name}");
            others.iter().any(same_turn) => DOMAIN.config_unsupported(
                "boot order {} is already used by another device", turn.unwrap_or_default());
            taken && matches!(self.device, Device::Rng(_)) =>
                QEMU.config_unsupported("a device with the same address already exists ");
            taken && matches!(self.device, Device::Memory(_)) =>
                DOMAIN.operation_invalid("Domain already contains a device with the same address");
        }
        let Device::Disk(disk) = asked else { return Ok(()) };
        let bus = |disk: &Disk| disk.target.as_ref().and_then(|target| target.bus);
        let clash = |other: &Disk| bus(other) == bus(disk) && other.info.address == disk.info.address;
        let drive = matches!(disk.info.address, Some(Address::Drive(_)));
        refuse! {
            drive && domain.devices.disks.iter().any(clash) && domain.devices.disks.iter().all(|other| target(other) != target(disk)) =>
                QEMU.operation_invalid("Domain already contains a disk with that address");
        }
        Ok(())
    }

    /// Which of the devices of `domain` is this one; `adding` counts those that it could not stand beside.
    fn position(&self, domain: &Domain, adding: bool) -> Option<usize> {
        if adding && matches!(self.device, Device::Vsock(_)) || matches!(self.device, Device::Iommu(_)) {
            return (!self.device.siblings(&domain.devices).is_empty()).then_some(0);
        }
        let is_chardev = matches!(
            self.device,
            Device::Serial(_) | Device::Parallel(_) | Device::Console(_) | Device::Channel(_)
        );
        self.device.siblings(&domain.devices).iter().position(|other| {
            let address = || other.info().and_then(|info| info.address.as_ref());
            alike(&self.device, other)
                && (is_chardev || self.address.is_none() || self.address.as_ref() == address())
        })
    }
}

/// Whether two devices are the same one, whatever their addresses.
fn alike(device: &Device, other: &Device) -> bool {
    match (device, other) {
        (Device::Disk(a), Device::Disk(b)) => target(a) == target(b),
        (Device::Lease(a), Device::Lease(b)) => (&a.lockspace, &a.key) == (&b.lockspace, &b.key),
        (Device::Controller(a), Device::Controller(b)) => {
            a.index.is_some() && (a.type_, a.index) == (b.type_, b.index)
        }
        (Device::Filesystem(a), Device::Filesystem(b)) => a.target == b.target,
        (Device::Hostdev(a), Device::Hostdev(b)) => a.type_ == b.type_ && same_source(a, b),
        _ => {
            let bare = |device: &Device| {
                let mut device = device.clone();
                device.info_mut().map(std::mem::take);
                forget_run(&mut device);
                device
            };
            bare(device) == bare(other)
        }
    }
}

/// A character device without what a run adds to it.
fn forget_run(device: &mut Device) {
    let chardev = match device {
        Device::Serial(serial) => &mut serial.chardev,
        Device::Parallel(parallel) => &mut parallel.chardev,
        Device::Console(console) => &mut console.chardev,
        Device::Redirdev(redirdev) => &mut redirdev.chardev,
        Device::Channel(channel) => {
            channel.target.iter_mut().for_each(|target| target.state = None);
            &mut channel.chardev
        }
        _ => return,
    };
    chardev.tty = None;
    chardev.source.iter_mut().for_each(|source| source.tls = None);
}

/// Whether two devices of the host are one; what is to be done with them doesn't count.
fn same_source(a: &Hostdev, b: &Hostdev) -> bool {
    let place = |hostdev: &Hostdev| {
        let mut source = hostdev.source.clone().unwrap_or_default();
        (source.startup_policy, source.guest_reset, source.write_filtering) = (None, None, None);
        source
    };
    place(a) == place(b)
}

fn target(disk: &Disk) -> &str {
    target_name(disk).unwrap_or_default()
}

fn target_name(disk: &Disk) -> Option<&str> {
    disk.target.as_ref().and_then(|target| target.dev.as_deref())
}

/// What tells devices of a kind apart.
fn name(device: &Device) -> String {
    match device {
        Device::Disk(disk) => target_name(disk).unwrap_or("(null)").to_owned(),
        Device::Controller(controller) => controller.index.unwrap_or(-1).to_string(),
        Device::Lease(lease) => {
            let (key, space) = (lease.key.as_deref(), lease.lockspace.as_deref());
            format!("{} in lockspace {}", key.unwrap_or_default(), space.unwrap_or("(null)"))
        }
        _ => String::new(),
    }
}

fn is_serial(console: &Console) -> bool {
    let kind = console.target.as_ref().and_then(|target| target.type_);
    kind.is_none_or(|kind| kind == ConsoleTargetType::Serial)
}

/// libvirt's word for a device.
pub fn called(device: &Device) -> &'static str {
    rule_of(device).called
}

fn unsupported(what: &str, rule: &Rule) -> VirtError {
    QEMU.operation_unsupported(format_args!("persistent {what} of device '{}' is not supported", rule.called))
}

fn missing(missing: Missing, name: &str) -> VirtError {
    match missing {
        Missing::Device(text) => QEMU.device_missing(text.replace("{}", name)),
        Argument(text) => QEMU.invalid_arg(text),
        Operation(text) => QEMU.operation_failed(text),
        Fixed => unsupported("detach", &rule("", "", None, Fixed)),
    }
}

/// The guest uses as much more, or less, as it gets.
fn resize(domain: &mut Domain, memory: &Memory, change: fn(u64, u64) -> u64) {
    let size = memory.target.as_ref().and_then(|target| target.size).unwrap_or_default();
    domain.current_memory.iter_mut().for_each(|now| *now = KiB(change(now.0, size.0)));
}

/// Whether the guest has room for one more module.
fn room_for_memory(domain: &Domain, memory: &Memory) -> Result<(), VirtError> {
    let size = memory.target.as_ref().and_then(|target| target.size).unwrap_or_default().0;
    let (Some(max), Some(now)) = (&domain.max_memory, domain.memory.as_ref().map(|all| all.size)) else {
        return Ok(());
    };
    let limit = max.size.0;
    if now.0.saturating_add(size) > limit {
        return Err(DOMAIN.config_unsupported(format_args!(
            "Attaching memory device with size '{size}' would exceed domain's maxMemory config size '{limit}'"
        )));
    }
    if domain.devices.memories.len() >= max.slots.unwrap_or(0) as usize {
        return Err(QEMU.config_unsupported("no free memory device slot available"));
    }
    Ok(())
}

/// The interface that another one means: by MAC address, and by address and alias where it says them.
///
/// # Errors
/// There is none, or there are several.
pub fn find_interface(domain: &Domain, wanted: &Interface) -> Result<usize, VirtError> {
    let mac = wanted.mac.as_ref().and_then(|mac| mac.address);
    let alias = wanted.info.alias.as_ref().map(|alias| alias.name.as_str());
    let fits = |net: &Interface| {
        (mac.is_none() || net.mac.as_ref().and_then(|mac| mac.address) == mac)
            && (wanted.info.address.is_none() || same_place(&wanted.info, &net.info))
            && (alias.is_none() || net.info.alias.as_ref().map(|alias| alias.name.as_str()) == alias)
    };
    let all = domain.devices.interfaces.iter().enumerate();
    let mut found = all.filter(|(_, net)| fits(net)).map(|(at, _)| at);
    let mac = mac.map(|mac| mac.to_string());
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(DOMAIN.operation_failed(match mac {
            Some(mac) => format!("multiple devices matching MAC address {mac} found"),
            None => "multiple matching devices found".to_owned(),
        })),
        (None, _) => {
            let none = "(<null>)";
            Err(DOMAIN.device_missing(format_args!(
                "no device found at address '{}' matching MAC address '{}' and alias '{}'",
                shown_place(&wanted.info).as_deref().unwrap_or(none),
                mac.as_deref().unwrap_or(none),
                alias.unwrap_or(none)
            )))
        }
    }
}

fn pci_address(info: &DeviceInfo) -> Option<&PciAddress> {
    match &info.address {
        Some(Address::Pci(address)) => Some(address),
        _ => None,
    }
}

fn pci(info: &DeviceInfo) -> Option<PciParts> {
    pci_address(info).map(PciAddress::parts)
}

fn same_place(a: &DeviceInfo, b: &DeviceInfo) -> bool {
    if pci(a).is_some() { pci(a) == pci(b) } else { a.address == b.address }
}

fn shown_place(info: &DeviceInfo) -> Option<String> {
    pci_address(info).map(PciAddress::shown)
}
