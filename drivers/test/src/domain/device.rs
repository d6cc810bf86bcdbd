//! Devices that come and go while a guest runs.

use virtwire_conf::Domain;
use virtwire_conf::domain::device::Alias;
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskDevice};
use virtwire_conf::domain::misc::{ControllerType, Hostdev};
use virtwire_conf::domain::net::{Interface, InterfaceMac, InterfaceType};
use virtwire_conf::table::{Element, Mac};
use virtwire_conf::xml::{Document, Node};
use virtwire_protocol::remote::{self as wire, Event};
use virtwire_protocol::{ErrorDomain, XdrString};

use super::guest::{Guest, affect};
use super::state::Lifecycle;
use super::stats::disk_paths;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// How MAC addresses of this hypervisor's guests begin.
const MAC_PREFIX: [u8; 3] = [0x52, 0x54, 0x00];

/// What a device's element is called, and what libvirt calls the device in errors.
const KINDS: [(&str, &str); 25] = [
    ("disk", "disk"),
    ("lease", "lease"),
    ("filesystem", "filesystem"),
    ("interface", "interface"),
    ("input", "input"),
    ("sound", "sound"),
    ("video", "video"),
    ("hostdev", "hostdev"),
    ("watchdog", "watchdog"),
    ("controller", "controller"),
    ("graphics", "graphics"),
    ("hub", "hub"),
    ("redirdev", "redirdev"),
    ("smartcard", "smartcard"),
    ("serial", "chr"),
    ("parallel", "chr"),
    ("console", "chr"),
    ("channel", "chr"),
    ("memballoon", "memballoon"),
    ("nvram", "nvram"),
    ("rng", "rng"),
    ("shmem", "shmem"),
    ("tpm", "tpm"),
    ("panic", "panic"),
    ("memory", "memory"),
];

/// What libvirt calls the device.
fn kind(node: Node<'_>) -> Result<&'static str> {
    KINDS.iter().find(|(element, _)| *element == node.name()).map(|(_, kind)| *kind).ok_or_else(|| {
        ErrorDomain::DOMAIN.config_unsupported(format_args!("unknown device type '{}'", node.name()))
    })
}

/// The flags with "as it is now" spelled out.
fn impact(guest: &Guest, flags: u32) -> Result<u32> {
    let affected = affect::LIVE | affect::CONFIG;
    guest.definitions(flags & affected)?;
    Ok(match (flags & affected, guest.is_running()) {
        (0, true) => flags | affect::LIVE,
        (0, false) => flags | affect::CONFIG,
        _ => flags,
    })
}

/// The place of a letter-numbered target: `vda` is 0, `vdab` 27.
fn disk_index(target: &str) -> Option<u32> {
    let letters =
        ["fd", "hd", "vd", "sd", "xvd", "ubd"].iter().find_map(|prefix| target.strip_prefix(prefix))?;
    letters
        .bytes()
        .take_while(u8::is_ascii_lowercase)
        .try_fold(0u32, |index, letter| index.checked_mul(26)?.checked_add(u32::from(letter - b'a') + 1))?
        .checked_sub(1)
}

/// The bus that a target's name stands for.
fn bus_of(target: &str) -> Option<DiskBus> {
    let buses = [
        ("fd", DiskBus::Fdc),
        ("hd", DiskBus::Ide),
        ("vd", DiskBus::Virtio),
        ("sd", DiskBus::Scsi),
        ("xvd", DiskBus::Xen),
        ("ubd", DiskBus::Uml),
    ];
    buses.into_iter().find(|(prefix, _)| target.starts_with(prefix)).map(|(_, bus)| bus)
}

/// Puts a disk among those of its bus, in the order of their targets.
fn insert(disks: &mut Vec<Disk>, disk: Disk) {
    let bus = |disk: &Disk| disk.target.as_ref().and_then(|target| target.bus);
    let index = |disk: &Disk| disk_index(disk_paths(disk).0);
    let same: Vec<_> = (0..disks.len()).filter(|at| bus(&disks[*at]) == bus(&disk)).collect();
    let before = same.iter().rfind(|at| index(&disks[**at]) < index(&disk)).map(|at| at + 1);
    let at = before.or(same.first().copied()).unwrap_or(disks.len());
    disks.insert(at, disk);
}

fn attach_disk(domain: &mut Domain, mut disk: Disk) -> Result<String> {
    let target = disk.target.get_or_insert_default();
    let bus = target.bus.unwrap_or(DiskBus::Virtio);
    target.bus = Some(bus);
    if matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) && bus == DiskBus::Virtio {
        let text = format_args!("{} device with virtio bus isn't supported", disk.device.as_str());
        return Err(TEST.operation_unsupported(text));
    }
    if !matches!(bus, DiskBus::Virtio | DiskBus::Usb) {
        return Err(
            TEST.operation_unsupported(format_args!("disk bus '{}' cannot be hotplugged.", bus.as_str()))
        );
    }
    if bus == DiskBus::Usb {
        check_usb(domain)?;
    }
    let (name, source) = disk_paths(&disk);
    if let Some(other) = domain.devices.disks.iter().find(|other| disk_paths(other).0 == name) {
        return Err(ErrorDomain::DOMAIN.xml_error(format_args!(
            "target '{name}' duplicated for disk sources '{}' and '{}'",
            disk_paths(other).1.unwrap_or_default(),
            source.unwrap_or_default()
        )));
    }
    let alias = format!("{}-disk{}", bus.as_str(), disk_index(name).unwrap_or(0));
    disk.info.alias.get_or_insert_with(|| Alias { name: alias.clone() });
    insert(&mut domain.devices.disks, disk);
    Ok(alias)
}

fn attach_interface(domain: &mut Domain, mut interface: Interface) -> Result<String> {
    if !matches!(interface.type_, InterfaceType::Bridge | InterfaceType::Ethernet) {
        return Err(TEST.operation_unsupported(format_args!(
            "hotplug of interface type of {} is not implemented yet",
            interface.type_.as_str()
        )));
    }
    let mac = interface.mac.get_or_insert_with(InterfaceMac::default);
    mac.address.get_or_insert_with(|| Mac::random(MAC_PREFIX));
    let interfaces = &mut domain.devices.interfaces;
    let taken =
        |name: &String| interfaces.iter().any(|i| i.info.alias.as_ref().is_some_and(|a| a.name == *name));
    let alias = (0..).map(|n| format!("net{n}")).find(|name| !taken(name)).unwrap_or_default();
    interface.info.alias.get_or_insert_with(|| Alias { name: alias.clone() });
    interfaces.push(interface);
    Ok(alias)
}

/// The guest must have a USB controller.
fn check_usb(domain: &Domain) -> Result<()> {
    if domain.devices.controllers.iter().any(|controller| controller.type_ == ControllerType::Usb) {
        return Ok(());
    }
    let text = "Device configuration is not compatible: Domain has no USB bus support";
    Err(ErrorDomain::DOMAIN.config_unsupported(text))
}

/// Plugs a device in. Host devices get no alias, and nobody is told of them.
fn plug(domain: &mut Domain, node: Node<'_>) -> Result<Option<String>> {
    match kind(node)? {
        "disk" => attach_disk(domain, Disk::read(node)?).map(Some),
        "interface" => attach_interface(domain, Interface::read(node)?).map(Some),
        "hostdev" if node.attribute("type") == Some("pci") => {
            domain.devices.hostdevs.push(Hostdev::read(node)?);
            Ok(None)
        }
        "hostdev" | "input" | "hub"
            if [node.attribute("type"), node.attribute("bus")].contains(&Some("usb")) =>
        {
            check_usb(domain)?;
            Err(TEST.operation_unsupported(format_args!(
                "live attach of device '{}' is not supported",
                node.name()
            )))
        }
        "hostdev" => Err(TEST.config_unsupported("hotplug is not supported for hostdev subsys type 'vfio'")),
        "memory" if domain.max_memory.is_none() => Err(ErrorDomain::DOMAIN
            .config_unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined")),
        kind => {
            let text = format_args!("live attach of device '{kind}' is not supported");
            Err(TEST.operation_unsupported(text))
        }
    }
}

fn attach_live(host: &mut Host, dom: &wire::NonnullDomain, xml: &XdrString, flags: u32) -> Result<()> {
    let guest = host.guest_mut(dom)?;
    let flags = impact(guest, flags)?;
    check_flags(flags, affect::LIVE, "testDomainAttachDeviceLiveAndConfig")?;
    let xml = xml.to_str_lossy();
    let document = Document::parse(&xml, ErrorDomain::DOMAIN)?;
    let mut changed = guest.definition().domain().clone();
    let alias = plug(&mut changed, document.root())?;
    *guest.one_definition_mut(affect::LIVE)?.edit() = changed;
    if let Some(alias) = alias {
        let dom = guest.wire.clone();
        host.emit(Event::DomainDeviceAdded(wire::DomainEventCallbackDeviceAddedMsg {
            callback_id: 0,
            dom,
            dev_alias: alias.into(),
        }));
    }
    Ok(())
}

pub(crate) fn attach(host: &mut Host, args: wire::DomainAttachDeviceArgs) -> Result<()> {
    attach_live(host, &args.dom, &args.xml, 0)
}

pub(crate) fn attach_flags(host: &mut Host, args: wire::DomainAttachDeviceFlagsArgs) -> Result<()> {
    attach_live(host, &args.dom, &args.xml, args.flags)
}

pub(crate) fn update_flags(host: &mut Host, args: wire::DomainUpdateDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE | affect::CONFIG, "testDomainUpdateDeviceFlags")?;
    let guest = host.guest_mut(&args.dom)?;
    let xml = args.xml.to_str_lossy();
    let document = Document::parse(&xml, ErrorDomain::DOMAIN)?;
    let kind = kind(document.root())?;
    if kind != "disk" {
        let text = format_args!("persistent update of device '{kind}' is not supported");
        return Err(TEST.operation_unsupported(text));
    }
    let mut disk = Disk::read(document.root())?;
    let bus = bus_of(disk_paths(&disk).0);
    if let Some(target) = &mut disk.target {
        target.bus = target.bus.or(bus);
    }
    disk.readonly |= disk.device == DiskDevice::Cdrom;
    let stored = !guest.is_running() || args.flags & affect::CONFIG != 0;
    guest.change(args.flags, |domain| {
        let target = disk_paths(&disk).0;
        let old = domain.devices.disks.iter_mut().find(|old| disk_paths(old).0 == target);
        let old = old.ok_or_else(|| TEST.invalid_arg(format_args!("target {target} doesn't exist.")))?;
        // The place of a target is given by its name.
        let address = old.info.address.take();
        *old = disk.clone();
        old.info.address = old.info.address.take().or(address);
        Ok(())
    })?;
    if stored {
        let event = guest.lifecycle(Lifecycle::REDEFINED);
        host.emit(event);
    }
    Ok(())
}

pub(crate) fn detach_alias(host: &mut Host, args: wire::DomainDetachDeviceAliasArgs) -> Result<()> {
    let guest = host.guest_mut(&args.dom)?;
    let flags = impact(guest, args.flags)?;
    check_flags(flags, affect::LIVE, "testDomainDetachDeviceAliasLiveAndConfig")?;
    let alias = args.alias.to_string();
    let devices = &mut guest.one_definition_mut(affect::LIVE)?.edit().devices;
    let is = |other: &Option<Alias>| other.as_ref().is_some_and(|other| other.name == alias);
    let before = devices.disks.len() + devices.interfaces.len() + devices.hostdevs.len();
    devices.disks.retain(|disk| !is(&disk.info.alias));
    devices.interfaces.retain(|interface| !is(&interface.info.alias));
    devices.hostdevs.retain(|hostdev| !is(&hostdev.info.alias));
    if devices.disks.len() + devices.interfaces.len() + devices.hostdevs.len() == before {
        return Err(ErrorDomain::DOMAIN.internal_error(format_args!("no device found with alias {alias}")));
    }
    let dom = guest.wire.clone();
    host.emit(Event::DomainDeviceRemoved(wire::DomainEventCallbackDeviceRemovedMsg {
        callback_id: 0,
        msg: wire::DomainEventDeviceRemovedMsg { dom, dev_alias: alias.into() },
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_numbered_by_letters() {
        for (target, index) in
            [("vda", Some(0)), ("vdb", Some(1)), ("sdaa", Some(26)), ("hdc1", Some(2)), ("x", None)]
        {
            assert_eq!(disk_index(target), index, "{target}");
        }
    }
}
