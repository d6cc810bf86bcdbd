//! Disks, filesystems, controllers, leases, devices of the host.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::disks::{self, hosts};
use super::{Around, Chipset, Result, unknown_cause};
use crate::complete::check;
use crate::domain::device::Address;
use crate::domain::disk::{AccessMode, DiskBus, Filesystem, FilesystemDriverType, FilesystemType, Lease};
use crate::domain::misc::{Controller, ControllerType, Hostdev, HostdevMode, HostdevSource, HostdevType};
use crate::domain::net::TeamingType;
use crate::table::c_number;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows of a controller as it is read.
pub(super) fn read_controller(it: &Controller) -> Result {
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

/// What shows of a shared folder as it is read.
pub(super) fn read_filesystem(shared: &Filesystem) -> Result {
    let modes = [("fmode", &shared.fmode), ("dmode", &shared.dmode)];
    let octal = |mode: &Option<String>| mode.as_deref().is_none_or(|m| u32::from_str_radix(m, 8).is_ok());
    let wrong = modes.into_iter().find(|(_, mode)| !octal(mode));
    refuse! {
        wrong.is_some() => XML.xml_error(
            "Invalid value for attribute '{}' in element 'filesystem': '{}'. Expected non-negative integer value",
            wrong.map(|(name, _)| name).unwrap_or_default(),
            wrong.and_then(|(_, mode)| mode.as_deref()).unwrap_or_default());
    }
    check::filesystem(shared)
}

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
pub(super) fn read_hostdev(hostdev: &Hostdev) -> Result {
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

/// A lease says what of which space it is on, and where that is kept.
pub(super) fn lease(lease: &Lease) -> Result {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if empty(&lease.lockspace) {
        return Err(unknown_cause());
    }
    refuse! {
        empty(&lease.key) => DOMAIN.xml_error("Missing 'key' element for lease");
        lease.target.is_none() => DOMAIN.xml_error("Missing 'target' element for lease");
        lease.target.as_ref().is_some_and(|target| target.path.is_none()) =>
            DOMAIN.xml_error("Missing 'path' attribute to 'target' element for lease");
    }
    Ok(())
}

/// A shared folder has a name in the guest.
pub(super) fn filesystem(around: &Around<'_>, shared: &Filesystem) -> Result {
    fn target(shared: &Filesystem) -> &str {
        shared.target.as_ref().and_then(|target| target.dir.as_deref()).unwrap_or_default()
    }
    let all = around.domain.devices.filesystems.iter();
    let twice = is_virtiofs(shared)
        && all.filter(|other| is_virtiofs(other) && target(other) == target(shared)).count() > 1;
    refuse! {
        target(shared).is_empty() => DOMAIN.no_target("{}", check::shown(shared).unwrap_or_default());
        shared.info.boot.is_some() && !is_virtiofs(shared) =>
            DOMAIN.config_unsupported("boot order is only supported for virtiofs");
        twice => DOMAIN.config_unsupported("filesystem target '{}' specified twice", target(shared));
    }
    Ok(())
}

/// What no driver could do with one.
pub(super) fn hostdev(_around: &Around<'_>, hostdev: &Hostdev) -> Result {
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
pub(super) fn hostdev_qemu(around: &Around<'_>, hostdev: &Hostdev) -> Result {
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
    }
    Ok(())
}

fn is_virtiofs(shared: &Filesystem) -> bool {
    shared.driver.as_ref().and_then(|driver| driver.type_) == Some(FilesystemDriverType::Virtiofs)
}

/// What QEMU could not do with a shared folder.
pub(super) fn filesystem_qemu(_around: &Around<'_>, shared: &Filesystem) -> Result {
    use FilesystemDriverType::{Handle, Mtp, Path, Virtiofs};
    let driver = shared.driver.as_ref();
    let kind = driver.and_then(|driver| driver.type_);
    let virtiofs = is_virtiofs(shared);
    let modes = shared.fmode.is_some() || shared.dmode.is_some();
    refuse! {
        shared.space_hard_limit.is_some() || shared.space_soft_limit.is_some() =>
            QEMU.config_unsupported("filesystem usage limits are not supported with QEMU");
        shared.type_ != FilesystemType::Mount => QEMU.config_unsupported("only supports mount filesystem type");
        kind.is_some_and(|kind| !matches!(kind, Path | Handle | Mtp | Virtiofs)) =>
            QEMU.config_unsupported("Filesystem driver type not supported");
        kind == Some(Mtp) && shared.accessmode.is_some_and(|mode| mode != AccessMode::Passthrough) =>
            QEMU.config_unsupported("mtp only supports passthrough accessmode");
        virtiofs && driver.is_some_and(|driver| driver.format.is_some()) =>
            QEMU.config_unsupported("virtiofs does not support format");
        virtiofs && driver.is_some_and(|driver| driver.wrpolicy.is_some()) =>
            QEMU.config_unsupported("virtiofs does not support wrpolicy");
        virtiofs && shared.model.is_some() => QEMU.config_unsupported("virtiofs does not support model");
        virtiofs && shared.multidevs.is_some() => QEMU.config_unsupported("virtiofs does not support multidevs");
        virtiofs && shared.accessmode.is_some_and(|mode| mode != AccessMode::Passthrough) =>
            QEMU.config_unsupported("virtiofs only supports passthrough accessmode");
        !virtiofs && modes && shared.accessmode.is_some_and(|mode| mode != AccessMode::Mapped) =>
            QEMU.config_unsupported("fmode and dmode must be used with accessmode=mapped");
    }
    Ok(())
}

/// What no driver could do with a controller.
pub(super) fn controller(_around: &Around<'_>, controller: &Controller) -> Result {
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
pub(super) fn controller_qemu(around: &Around<'_>, controller: &Controller) -> Result {
    let model = controller.model.as_deref().unwrap_or_default();
    let scsi = controller.type_ == ControllerType::Scsi && model.starts_with("virtio-");
    options_of_bus(around, controller)?;
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
