//! What contradicts itself.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{belongs, buses, conflicts, endpoints};
use crate::domain::Domain;
use crate::domain::chardev::{Channel, ChannelTargetType};
use crate::domain::device::{Address, PciAddress};
use crate::domain::disk::{Filesystem, FilesystemType};
use crate::domain::misc::{Controller, ControllerType, Hostdev, HostdevType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const NONE: ErrorDomain = ErrorDomain::NONE;
const XML: ErrorDomain = ErrorDomain::XML;

/// Finding places for devices takes time that grows with the square of their number; no machine has so many.
const MOST_DEVICES: usize = 4096;

/// What shows before anything is filled in.
pub(super) fn early(domain: &mut Domain) -> Result<(), VirtError> {
    let devices = &domain.devices;
    let count = devices.disks.len()
        + devices.controllers.len()
        + devices.interfaces.len()
        + devices.serials.len()
        + devices.channels.len()
        + devices.inputs.len()
        + devices.hostdevs.len()
        + devices.redirdevs.len();
    if count > MOST_DEVICES {
        return Err(
            DOMAIN.xml_error(format_args!("too many devices: {count}, at most {MOST_DEVICES} are allowed"))
        );
    }
    let usb_ports = devices.infos().into_iter().filter_map(|info| match &info.address {
        Some(Address::Usb(address)) => address.port.as_deref(),
        _ => None,
    });
    for port in usb_ports {
        let parts = port.split('.');
        if parts.clone().count() > 4 || parts.clone().any(|part| part.parse::<u32>().is_err()) {
            return Err(ErrorDomain::DEVICE.internal_error("Cannot parse <address> 'port' attribute"));
        }
    }
    let mut result = Ok(());
    endpoints::each(domain, &mut |info, _| {
        if let Some(Address::Pci(address)) = &mut info.address {
            result = check_pci(address);
            if !buses::unset(address) {
                buses::complete(address);
            }
        }
        result.is_ok()
    });
    result?;
    let devices = &domain.devices;
    for interface in &devices.interfaces {
        if let Some(Address::Pci(address)) = interface.source.as_ref().and_then(|source| source.pci.as_ref())
        {
            check_pci(address)?;
        }
    }
    let cid = devices.vsock.as_ref().and_then(|vsock| vsock.cid.as_ref()?.address);
    if cid.is_some_and(|cid| cid < 3) {
        return Err(DOMAIN.config_unsupported("guest CIDs must be >= 3"));
    }
    Ok(())
}

/// What is lent is somewhere, and has numbers.
pub(super) fn hostdev(hostdev: &Hostdev) -> Result<(), VirtError> {
    let Some(source) = &hostdev.source else {
        return Err(DOMAIN.xml_error("Missing <source> element in hostdev device"));
    };
    if let Some(address) = source.address.as_ref().filter(|_| hostdev.type_ == HostdevType::Pci) {
        check_pci(&PciAddress { domain: None, ..address.pci() })?;
    }
    for (id, name) in [(&source.vendor, "vendor"), (&source.product, "product")] {
        if id.as_ref().is_some_and(|id| id.id.0 == 0) {
            let text =
                format_args!("Invalid value for attribute 'id' in element '{name}': Zero is not permitted");
            return Err(ErrorDomain::XML.xml_error(text));
        }
    }
    Ok(())
}

/// What is shared is somewhere.
pub(super) fn filesystem(filesystem: &Filesystem) -> Result<(), VirtError> {
    let source = filesystem.source.clone().map(|source| belongs::source(filesystem.type_, source));
    let source = source.unwrap_or_default();
    let target = filesystem.target.as_ref().and_then(|target| target.dir.as_deref()).unwrap_or_default();
    let pooled = filesystem.type_ == FilesystemType::Volume;
    refuse! {
        filesystem.type_ == FilesystemType::Ram && source.usage.is_none() =>
            DOMAIN.xml_error("missing 'usage' attribute for RAM filesystem");
        pooled && source.pool.is_some() != source.volume.is_some() => DOMAIN.xml_error(
            "'pool' and 'volume' must be specified together for 'pool' type source");
    }
    refuse! {
        shown(filesystem).is_none() => DOMAIN.no_source("{target}");
    }
    Ok(())
}

/// Where what is shared is.
pub(super) fn shown(filesystem: &Filesystem) -> Option<String> {
    let source = belongs::source(filesystem.type_, filesystem.source.clone()?);
    let usage = source.usage.map(|usage| usage.to_string());
    let names = [source.dir, source.file, source.dev, source.name, source.volume, source.socket, usage];
    names.into_iter().flatten().next()
}

/// A channel says what it is, and one that is a door in QEMU's own network where that is.
pub(super) fn channel(channel: &Channel) -> Result<(), VirtError> {
    let unknown = "unknown target type '(null)' specified for character device";
    let Some(target) = &channel.target else {
        return Err(DOMAIN.xml_error("target type must be specified for channel device"));
    };
    let door = target.type_ == Some(ChannelTargetType::Guestfwd);
    let address = target.address.as_deref();
    let ip: Option<std::net::IpAddr> = address.and_then(|text| text.parse().ok());
    refuse! {
        target.type_.is_none() => DOMAIN.config_unsupported("{unknown}");
        door && address.is_none() => DOMAIN.xml_error("guestfwd channel does not define a target address");
        door && ip.is_none() => NONE.system_error(
            "Cannot parse socket address '{}': Name or service not known", address.unwrap_or_default());
        door && ip.is_some_and(|ip| ip.is_ipv6()) =>
            DOMAIN.config_unsupported("guestfwd channel only supports IPv4 addresses");
        door && target.port.is_none() =>
            XML.xml_error("Missing required attribute 'port' in element 'target'");
    }
    Ok(())
}

pub(super) use conflicts::{check as contradictions, relabelled};

/// What shows once everything is filled in.
pub(super) fn late(domain: &Domain) -> Result<(), VirtError> {
    let devices = &domain.devices;
    let mut controllers = BTreeSet::new();
    // Companions of a USB controller share its number.
    for controller in devices.controllers.iter().filter(|c| c.type_ != ControllerType::Usb) {
        if !controllers.insert((controller.type_, controller.index)) {
            return Err(DOMAIN.xml_error(format_args!(
                "Multiple '{}' controllers with index '{}'",
                controller.type_,
                controller.index.unwrap_or(0)
            )));
        }
    }
    let disks = devices.disks.iter().map(|d| &d.info);
    let interfaces = devices.interfaces.iter().map(|d| &d.info);
    let hostdevs = devices.hostdevs.iter().map(|d| &d.info);
    let redirdevs = devices.redirdevs.iter().map(|d| &d.info);
    let mut orders = BTreeSet::new();
    for info in disks.chain(interfaces).chain(hostdevs).chain(redirdevs) {
        let Some(order) = info.boot.as_ref().map(|boot| boot.order.get()) else { continue };
        if !orders.insert(order) {
            let text = format_args!("boot order '{order}' used for more than one device");
            return Err(DOMAIN.config_unsupported(text));
        }
    }
    Ok(())
}

fn check_pci(address: &PciAddress) -> Result<(), VirtError> {
    let none = ErrorDomain::NONE;
    let value = |part: Option<u64>| part.unwrap_or(0);
    let (bus, slot) = (value(address.bus.map(|h| h.0)), value(address.slot.map(|h| h.0)));
    let function = value(address.function.map(|h| h.0));
    if bus > 0xff {
        return Err(none.xml_error(format_args!("Invalid PCI address bus='0x{bus:x}', must be <= 0xFF")));
    }
    if slot > 0x1f {
        return Err(none.xml_error(format_args!("Invalid PCI address slot='0x{slot:x}', must be <= 0x1F")));
    }
    if function > 7 {
        return Err(none.xml_error(format_args!("Invalid PCI address function=0x{function:x}, must be <= 7")));
    }
    Ok(())
}

/// Models of each kind of controller.
const MODELS: &[(ControllerType, &[&str])] = &[
    (
        ControllerType::Scsi,
        &[
            "auto",
            "buslogic",
            "lsilogic",
            "lsisas1068",
            "vmpvscsi",
            "ibmvscsi",
            "virtio-scsi",
            "lsisas1078",
            "ncr53c90",
            "dc390",
            "am53c974",
            "virtio-transitional",
            "virtio-non-transitional",
        ],
    ),
    (
        ControllerType::Usb,
        &[
            "piix3-uhci",
            "piix4-uhci",
            "ehci",
            "ich9-ehci1",
            "ich9-uhci1",
            "ich9-uhci2",
            "ich9-uhci3",
            "vt82c686b-uhci",
            "pci-ohci",
            "nec-xhci",
            "qusb1",
            "qusb2",
            "qemu-xhci",
            "none",
        ],
    ),
    (
        ControllerType::Pci,
        &[
            "pci-root",
            "pcie-root",
            "pci-bridge",
            "dmi-to-pci-bridge",
            "pcie-to-pci-bridge",
            "pcie-root-port",
            "pcie-switch-upstream-port",
            "pcie-switch-downstream-port",
            "pci-expander-bus",
            "pcie-expander-bus",
        ],
    ),
    (ControllerType::Ide, &["piix3", "piix4", "ich6"]),
    (ControllerType::VirtioSerial, &["virtio", "virtio-transitional", "virtio-non-transitional"]),
    (ControllerType::Isa, &["isabridge", "piix4"]),
];

pub(super) fn check_model(controller: &Controller) -> Result<(), VirtError> {
    let Some(model) = &controller.model else { return Ok(()) };
    let models =
        MODELS.iter().find(|(kind, _)| *kind == controller.type_).map_or(&[][..], |(_, models)| models);
    if models.contains(&model.as_str()) {
        return Ok(());
    }
    Err(DOMAIN.config_unsupported(format_args!("Unknown model type '{model}'")))
}
