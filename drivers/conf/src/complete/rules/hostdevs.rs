//! Devices of the host.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::disks::{self, hosts};
use super::{Around, Result};
use crate::OnOff;
use crate::complete::check;
use crate::domain::device::Address;
use crate::domain::disk::DiskBus;
use crate::domain::misc::{Hostdev, HostdevMode, HostdevSource, HostdevType};
use crate::domain::net::TeamingType;
use crate::table::c_number;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// A kind of passed-through device, what is wrong with a source of its, and what is said then.
type Need = (HostdevType, fn(&HostdevSource) -> bool, fn() -> VirtError);

/// What the source of each kind of passed-through device needs.
const NEEDS: &[Need] = &[
    (
        HostdevType::Storage,
        |s| unnamed(s.block.as_ref()),
        || DOMAIN.xml_error("Missing <block> element in hostdev storage device"),
    ),
    (
        HostdevType::Misc,
        |s| unnamed(s.char_.as_ref()),
        || DOMAIN.xml_error("Missing <char> element in hostdev character device"),
    ),
    (
        HostdevType::Net,
        |s| unnamed(s.interface.as_ref()),
        || DOMAIN.xml_error("Missing <interface> element in hostdev net device"),
    ),
    (
        HostdevType::Usb,
        |s| s.vendor.is_some() && s.product.is_none(),
        || DOMAIN.internal_error("missing product"),
    ),
    (
        HostdevType::Usb,
        |s| s.product.is_some() && s.vendor.is_none(),
        || DOMAIN.internal_error("missing vendor"),
    ),
    (HostdevType::Usb, |s| s.address.as_ref().is_some_and(|a| a.bus.is_none()), || without("bus", "address")),
    (
        HostdevType::Usb,
        |s| s.address.as_ref().is_some_and(|a| a.device.is_none()),
        || without("device", "address"),
    ),
    (
        HostdevType::Scsi,
        |s| adapted(s) && s.address.is_none(),
        || DOMAIN.xml_error("'address' must be specified for scsi hostdev source"),
    ),
    (
        HostdevType::Scsi,
        |s| adapted(s) && s.address.as_ref().is_some_and(|a| a.bus.is_none()),
        || without("bus", "address"),
    ),
    (
        HostdevType::Scsi,
        |s| adapted(s) && s.address.as_ref().is_some_and(|a| a.target.is_none()),
        || without("target", "address"),
    ),
    (
        HostdevType::Scsi,
        |s| adapted(s) && s.address.as_ref().is_some_and(|a| a.unit.is_none()),
        || without("unit", "address"),
    ),
    (
        HostdevType::Scsi,
        |s| adapted(s) && unnamed(s.adapter.as_ref().and_then(|a| a.name.as_ref())),
        || DOMAIN.xml_error("'adapter' name must be specified for scsi hostdev source"),
    ),
    (
        HostdevType::Scsi,
        |s| !adapted(s) && unnamed(s.name.as_ref()),
        || DOMAIN.xml_error("missing iSCSI hostdev source path name"),
    ),
    (
        HostdevType::Scsi,
        |s| !adapted(s) && s.host.is_empty(),
        || DOMAIN.xml_error("missing the host address for the iSCSI hostdev"),
    ),
    (HostdevType::ScsiHost, |s| s.protocol.is_none(), || without("protocol", "source")),
    (
        HostdevType::ScsiHost,
        |s| s.wwpn.is_none(),
        || DOMAIN.xml_error("missing vhost-scsi hostdev source wwpn"),
    ),
    (
        HostdevType::ScsiHost,
        |s| s.wwpn.as_deref().is_some_and(|name| !is_port_name(name)),
        || DOMAIN.xml_error("malformed 'wwpn' value"),
    ),
    (HostdevType::Mdev, |s| s.address.is_none(), || DOMAIN.config_unsupported("Missing <address> element")),
    (
        HostdevType::Mdev,
        |s| s.address.as_ref().is_some_and(|a| a.uuid.is_none()),
        || DOMAIN.config_unsupported("Missing 'uuid' attribute for element <address>"),
    ),
];

/// Whether a SCSI device is one of the host's.
fn adapted(source: &HostdevSource) -> bool {
    source.protocol.as_deref().is_none_or(|protocol| protocol == "adapter")
}

fn unnamed(name: Option<&String>) -> bool {
    name.is_none_or(String::is_empty)
}

/// `naa.` and 16 hexadecimal digits.
fn is_port_name(name: &str) -> bool {
    let digits = name.strip_prefix("naa.").unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn without(attribute: &str, element: &str) -> VirtError {
    XML.xml_error(format_args!("Missing required attribute '{attribute}' in element '{element}'"))
}

/// What shows of a passed-through device as it is read.
pub(super) fn read(hostdev: &Hostdev) -> Result {
    check::hostdev(hostdev)?;
    let kind = hostdev.type_;
    let of_capabilities = matches!(kind, HostdevType::Storage | HostdevType::Misc | HostdevType::Net);
    let model = hostdev.model.as_deref();
    let models = ["virtio", "virtio-transitional", "virtio-non-transitional"];
    let known = model.is_none_or(|model| match kind {
        HostdevType::ScsiHost => models.contains(&model),
        HostdevType::Mdev => matches!(model, "vfio-pci" | "vfio-ccw" | "vfio-ap"),
        _ => true,
    });
    let protocol = hostdev.source.as_ref().and_then(|source| source.protocol.as_deref());
    let spoken = protocol.is_none_or(|protocol| match kind {
        HostdevType::Scsi => matches!(protocol, "adapter" | "iscsi"),
        HostdevType::ScsiHost => protocol == "vhost",
        _ => true,
    });
    refuse! {
        !spoken => XML.xml_error(
            "Invalid value for attribute 'protocol' in element 'source': '{}'.", protocol.unwrap_or_default());
        (hostdev.mode == HostdevMode::Capabilities) != of_capabilities => XML.xml_error(
            "Invalid value for attribute 'type' in element 'hostdev': '{}'.", kind.as_str());
        kind == HostdevType::Mdev && model.is_none() =>
            XML.xml_error("Missing required attribute 'model' in element 'hostdev'");
        !known => XML.xml_error(
            "Invalid value for attribute 'model' in element 'hostdev': '{}'.", model.unwrap_or_default());
        hostdev.sgio.is_some() && kind != HostdevType::Scsi =>
            DOMAIN.xml_error("sgio is only supported for scsi host device");
        hostdev.sgio.as_deref() == Some("unfiltered") =>
            DOMAIN.config_unsupported("unfiltered sgio is no longer supported");
    }
    let Some(source) = &hostdev.source else { return Ok(()) };
    if kind == HostdevType::Scsi && protocol == Some("iscsi") {
        hosts(source.host.iter())?;
    }
    let secret = source.auth.as_ref().and_then(|auth| auth.secret.as_ref()?.type_.as_deref());
    let number = matches!(kind, HostdevType::Usb | HostdevType::Scsi);
    let bus = source.address.as_ref().and_then(|address| address.bus.as_deref()).filter(|_| number);
    refuse! {
        kind == HostdevType::Scsi && secret.is_some_and(|secret| secret != "iscsi") =>
            DOMAIN.internal_error("hostdev invalid secret type '{}'", secret.unwrap_or_default());
        bus.is_some_and(|bus| c_number(bus).is_none()) => XML.xml_error(
            "Invalid value for attribute 'bus' in element 'address': '{}'. Expected non-negative integer value",
            bus.unwrap_or_default());
    }
    let needed = NEEDS.iter().find(|(of, lacks, _)| *of == kind && lacks(source));
    needed.map_or(Ok(()), |(.., error)| Err(error()))
}

/// What no driver could do with one.
pub(super) fn check(_around: &Around<'_>, hostdev: &Hostdev) -> Result {
    let Some(source) = &hostdev.source else { return Ok(()) };
    refuse! {
        hostdev.rawio.is_some() && hostdev.type_ != HostdevType::Scsi =>
            DOMAIN.xml_error("rawio is only supported for scsi host device");
        hostdev.model.is_some() && !matches!(hostdev.type_, HostdevType::Mdev | HostdevType::ScsiHost) =>
            DOMAIN.xml_error("'model' attribute in <hostdev> is only supported when type='{}'", hostdev.type_.as_str());
        source.startup_policy.is_some() && hostdev.type_ != HostdevType::Usb =>
            DOMAIN.config_unsupported("Setting startupPolicy is only allowed for USB devices");
        hostdev.teaming.is_some() && hostdev.type_ != HostdevType::Pci =>
            DOMAIN.config_unsupported("teaming is only supported for pci hostdev devices");
        hostdev.teaming.as_ref().is_some_and(|teaming| teaming.type_ != TeamingType::Transient) =>
            DOMAIN.config_unsupported("teaming hostdev devices must have type='transient'");
        hostdev.teaming.as_ref().is_some_and(|teaming| teaming.persistent.is_none()) => DOMAIN.config_unsupported(
            "missing required persistent attribute in hostdev teaming element");
        source.protocol.as_deref() == Some("iscsi") && source.host.len() > 1 =>
            DOMAIN.xml_error("only one source host address may be specified for the iSCSI hostdev");
    }
    place(hostdev)
}

/// Each kind of passed-through device is on a bus of its own.
fn place(hostdev: &Hostdev) -> Result {
    let Some(address) = &hostdev.info.address else { return Ok(()) };
    let (pci, ccw) = (matches!(address, Address::Pci(_)), matches!(address, Address::Ccw(_)));
    let model = hostdev.model.as_deref().unwrap_or_default();
    let apart = matches!(address, Address::Unassigned(_));
    refuse! {
        hostdev.type_ == HostdevType::Usb && !matches!(address, Address::Usb(_)) =>
            DOMAIN.config_unsupported("USB host device must use 'usb' address type");
        hostdev.type_ == HostdevType::Scsi && !matches!(address, Address::Drive(_)) =>
            DOMAIN.config_unsupported("SCSI host device must use 'drive' address type");
        hostdev.type_ == HostdevType::Pci && !pci && !apart =>
            DOMAIN.internal_error("PCI host devices must use 'pci' or 'unassigned' address type");
        hostdev.type_ == HostdevType::ScsiHost && !pci && !ccw =>
            DOMAIN.config_unsupported("SCSI_host host device must use 'pci' or 'ccw' address type");
        hostdev.type_ == HostdevType::Mdev && (model == "vfio-pci" && !pci || model == "vfio-ccw" && !ccw) =>
            DOMAIN.xml_error(
                "Unsupported address type '{}' with mediated device model '{model}'", address.kind());
    }
    Ok(())
}

/// What QEMU could not do with one.
pub(super) fn check_qemu(around: &Around<'_>, hostdev: &Hostdev) -> Result {
    let model = hostdev.model.as_deref().unwrap_or_default();
    let filters = hostdev.source.as_ref().is_some_and(|s| s.write_filtering.is_some());
    disks::place(around.domain, hostdev.info.address.as_ref(), DiskBus::Scsi)?;
    refuse! {
        filters => QEMU.config_unsupported(
            "Write filtering of PCI device configuration space is not supported by qemu");
        hostdev.mode == HostdevMode::Capabilities =>
            QEMU.config_unsupported("hostdev mode 'capabilities' is not supported in {}", around.domain.type_);
        model == "vfio-ap" && !around.has("vfio-ap") =>
            QEMU.config_unsupported("VFIO AP device assignment is not supported by this version of QEMU");
        model == "vfio-ccw" && !around.has("vfio-ccw") =>
            QEMU.config_unsupported("VFIO CCW device assignment is not supported by this version of QEMU");
        hostdev.display == Some(OnOff::On) && matches!(hostdev.type_, HostdevType::Pci | HostdevType::Mdev) && around.domain.devices.graphics.is_empty() =>
            QEMU.config_unsupported("graphics device is needed for attribute value 'display=on' in <hostdev>");
        hostdev.type_ == HostdevType::ScsiHost && hostdev.info.boot.is_some() =>
            QEMU.config_unsupported("booting from assigned devices is not supported by vhost SCSI devices");
        hostdev.type_ == HostdevType::Mdev && hostdev.info.boot.is_some() => QEMU.config_unsupported(
            "booting from assigned devices is not supported by mediated devices of model {}",
            model);
    }
    Ok(())
}
