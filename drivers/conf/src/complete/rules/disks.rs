//! Disks: what they are, where they are, and which options go together.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result, small, sources};
use crate::complete::drives;
use crate::domain::Domain;
use crate::domain::device::Address;
use crate::domain::disk::{
    Disk, DiskBus, DiskCache, DiskDevice, DiskDriver, DiskIo, DiskSource, ErrorPolicy, Reservations, Sgio,
    StartupPolicy, StorageHost, StorageProtocol, StorageType,
};
use crate::domain::misc::{Controller, ControllerType};
use crate::{OnOff, YesNo};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const NONE: ErrorDomain = ErrorDomain::NONE;
const STORAGE: ErrorDomain = ErrorDomain::STORAGE;
const XML: ErrorDomain = ErrorDomain::XML;

/// Formats of images that are known at all.
pub(in super::super) const FORMATS: &[&str] = &[
    "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow",
    "qcow2", "qed", "vmdk", "aio",
];

/// What shows of a disk by itself, as it is read.
pub(in super::super) fn read(disk: &Disk) -> Result {
    if let Some(source) = &disk.source {
        read_source(disk.type_, source)?;
    }
    sources::read(disk)?;
    let twice = disk.encryption.is_some() && disk.source.as_ref().is_some_and(|s| s.encryption.is_some());
    refuse! {
        twice => DOMAIN.config_unsupported("an <encryption> definition already found for disk source");
    }
    let format = disk.driver.as_ref().and_then(|driver| driver.type_.as_deref());
    refuse! {
        format.is_some_and(|format| !FORMATS.contains(&format)) =>
            DOMAIN.config_unsupported("unknown driver format value '{}'", format.unwrap_or_default());
    }
    refuse! {
        disk.driver.as_ref().is_some_and(|driver| driver.iothread == Some(0)) => XML.xml_error(
            "Invalid value for attribute 'iothread' in element 'driver': Zero is not permitted");
    }
    let mut below = disk.backing_store.as_deref();
    while let Some(store) = below {
        let Some(kind) = store.type_ else { break };
        let format = store.format.as_ref().map(|format| format.type_.as_str());
        refuse! {
            format.is_none() => DOMAIN.xml_error("missing disk backing store format");
            format.is_some_and(|format| !FORMATS.contains(&format)) =>
                DOMAIN.xml_error("unknown storage source format '{}'", format.unwrap_or_default());
            store.source.is_none() => DOMAIN.xml_error("missing disk backing store source");
        }
        if let Some(source) = &store.source {
            read_source(kind, source)?;
        }
        below = store.backing_store.as_deref();
    }
    Ok(())
}

fn read_source(kind: StorageType, source: &DiskSource) -> Result {
    let protocol = source.protocol.unwrap_or_default();
    let nameless = source.name.is_none();
    // A server may have one nameless thing to offer.
    let unnamed = matches!(protocol, StorageProtocol::Nbd | StorageProtocol::Ssh);
    let two = matches!(protocol, StorageProtocol::Rbd | StorageProtocol::Gluster);
    let name = source.name.as_deref().unwrap_or_default();
    let parts = name.split('/').filter(|part| !part.is_empty()).count();
    let stored = source.data_store.as_ref();
    let mode = source.mode.as_deref();
    refuse! {
        kind == StorageType::Network && source.protocol.is_none() => XML.xml_error(
            "Missing required attribute 'protocol' in element 'source'");
        kind == StorageType::Network && nameless && !unnamed => DOMAIN.xml_error("missing name for disk source");
        kind == StorageType::Network && protocol == StorageProtocol::Gluster && (parts < 2 || name.starts_with('/')) =>
            DOMAIN.xml_error("can't split path '{name}' into pool name and image name");
        kind == StorageType::Network && two && protocol == StorageProtocol::Rbd && name.starts_with('/') =>
            DOMAIN.xml_error("can't split path '{name}' into pool name and image name");
        kind == StorageType::Nvme && source.type_.is_none() =>
            DOMAIN.xml_error("missing 'type' attribute to disk source");
        kind == StorageType::Nvme && source.type_.as_deref() != Some("pci") => DOMAIN.xml_error(
            "unsupported source type '{}'", source.type_.as_deref().unwrap_or_default());
        kind == StorageType::Nvme && source.address.is_none() =>
            DOMAIN.xml_error("NVMe disk source is missing address");
        kind == StorageType::Nvme && source.namespace.is_none() => XML.xml_error(
            "Missing required attribute 'namespace' in element 'source'");
        kind == StorageType::Vhostvdpa && source.dev.is_none() => XML.xml_error(
            "Missing required attribute 'dev' in element 'source'");
        kind == StorageType::Volume && source.pool.is_some() != source.volume.is_some() => DOMAIN.xml_error(
            "'pool' and 'volume' must be specified together for 'pool' type source");
        kind == StorageType::Volume && mode.is_some_and(|mode| !matches!(mode, "host" | "direct")) => XML.xml_error(
            "Invalid value for attribute 'mode' in element 'source': '{}'.", mode.unwrap_or_default());
        kind == StorageType::Network && protocol == StorageProtocol::Ssh
            && source.identity.as_ref().is_some_and(|identity| identity.username.is_none()) => XML.xml_error(
            "Missing required attribute 'username' in element 'identity'");
        source.reservations.as_ref().is_some_and(|asked| asked.managed.is_none()) => XML.xml_error(
            "Missing required attribute 'managed' in element 'reservations'");
        kind == StorageType::Vhostuser && source.type_.is_none() =>
            DOMAIN.xml_error("missing 'type' attribute for vhostuser disk source");
        kind == StorageType::Vhostuser && source.type_.as_deref() != Some("unix") =>
            DOMAIN.xml_error("invalid 'type' attribute for vhostuser disk source");
        kind == StorageType::Vhostuser && source.path.is_none() =>
            DOMAIN.xml_error("missing 'path' attribute for vhostuser disk source");
        stored.is_some_and(|store| store.source.is_none()) =>
            DOMAIN.xml_error("missing disk data file store source");
        stored.is_some_and(|store| store.format.is_none()) =>
            DOMAIN.xml_error("missing disk data file store format");
    }
    hosts(source.host.iter().filter(|_| kind == StorageType::Network))?;
    source.reservations.iter().try_for_each(reservations)
}

/// Where servers are.
pub(super) fn hosts<'h>(hosts: impl Iterator<Item = &'h StorageHost>) -> Result {
    for host in hosts {
        let transport = host.transport.as_deref().unwrap_or("tcp");
        let port = host.port.as_deref();
        refuse! {
            !matches!(transport, "tcp" | "unix" | "rdma" | "vsock") =>
                DOMAIN.xml_error("unknown protocol transport type '{transport}'");
            transport == "unix" && host.socket.is_none() => DOMAIN.xml_error("missing socket for unix transport");
            transport != "unix" && host.socket.is_some() =>
                DOMAIN.xml_error("transport '{transport}' does not support socket attribute");
            transport != "unix" && host.name.is_none() => DOMAIN.xml_error("missing name for host");
            port.is_some_and(|port| port.parse::<u16>().is_err()) => NONE.invalid_arg(
                "failed to parse port number '{}'", port.unwrap_or_default());
        }
    }
    Ok(())
}

fn reservations(asked: &Reservations) -> Result {
    if asked.managed != Some(YesNo::No) {
        return Ok(());
    }
    let part = |part: fn(&crate::domain::disk::ReservationSource) -> Option<&String>| {
        asked.source.as_ref().and_then(part).map(String::as_str).filter(|text| !text.is_empty())
    };
    let (kind, path, mode) =
        (part(|s| s.type_.as_ref()), part(|s| s.path.as_ref()), part(|s| s.mode.as_ref()));
    refuse! {
        kind.is_none() => STORAGE.xml_error("missing connection type for <reservations/>");
        path.is_none() => STORAGE.xml_error("missing path for <reservations/>");
        mode.is_none() => STORAGE.xml_error("missing connection mode for <reservations/>");
        kind != Some("unix") => STORAGE.xml_error(
            "unsupported connection type for <reservations/>: {}", kind.unwrap_or_default());
        mode != Some("client") => STORAGE.xml_error(
            "unsupported connection mode for <reservations/>: {}", mode.unwrap_or_default());
    }
    Ok(())
}

/// What no driver could do.
pub(super) fn check(around: &Around<'_>, disk: &Disk) -> Result {
    let domain = around.domain;
    let target = disk.target.clone().unwrap_or_default();
    let bus = target.bus.unwrap_or_default();
    let virtio = bus == DiskBus::Virtio;
    let none = DiskDriver::default();
    let driver = disk.driver.as_ref().unwrap_or(&none);
    let format = driver.type_.as_deref().unwrap_or("raw");
    let source = disk.source.as_ref();
    let policy = source.and_then(|source| source.startup_policy);
    let lun = disk.device == DiskDevice::Lun;
    let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    let read_only = disk.readonly || disk.device == DiskDevice::Cdrom;
    let no_unref = driver.discard_no_unref == Some(OnOff::On);
    let groups: Vec<&str> = domain
        .throttlegroups
        .iter()
        .flat_map(|groups| &groups.throttlegroup)
        .filter_map(|group| group.0.group_name.as_deref())
        .collect();
    let filters = disk.throttlefilters.iter().flat_map(|filters| &filters.throttlefilter);
    let unknown = filters.map(|filter| filter.group.as_str()).find(|group| !groups.contains(group));
    let mut named = BTreeSet::new();
    let filters = disk.throttlefilters.iter().flat_map(|filters| &filters.throttlefilter);
    let again = filters.map(|filter| filter.group.as_str()).find(|group| !named.insert(*group));
    let letters = target.dev.as_deref().and_then(|dev| dev.get(..2));
    let stored = source.and_then(|source| source.data_store.as_ref());
    let kept = stored.and_then(|store| store.format.as_ref()).map(|format| format.type_.as_str());
    let fits = matches!(letters, Some("fd" | "hd" | "sd" | "vd" | "xv" | "ub" | "nv" | "mm"));
    refuse! {
        target.dev.is_none() => DOMAIN.no_target("{}", drives::shown(disk).unwrap_or_default());
        target.dev.is_some() && !fits && disk.info.address.is_none() => DOMAIN.internal_error(
            "Invalid harddisk device name: {}", target.dev.clone().unwrap_or_default());
        source.is_some_and(|source| source.protocol == Some(StorageProtocol::Sheepdog)) =>
            DOMAIN.config_unsupported("'sheepdog' protocol is no longer supported by any hypervisor driver");
        disk.product.as_ref().is_some_and(|product| product.len() > 16) && bus == DiskBus::Scsi =>
            DOMAIN.config_unsupported("disk product is more than 16 characters");
        disk.vendor.as_ref().is_some_and(|vendor| vendor.len() > 8) && bus == DiskBus::Scsi =>
            DOMAIN.config_unsupported("disk vendor is more than 8 characters");
        driver.iothread.is_some() && driver.iothreads.is_some() => DOMAIN.xml_error(
            "disk driver 'iothread' attribute can't be used together with 'iothreads' subelement");
        driver.rerror_policy == Some(ErrorPolicy::Enospace) =>
            DOMAIN.config_unsupported("Invalid disk read error policy: 'enospace'");
        stored.is_some() && format != "qcow2" =>
            DOMAIN.config_unsupported("<dataStore> feature available only with qcow2 images");
        kept.is_some_and(|kept| kept != "raw") =>
            DOMAIN.config_unsupported("only 'raw' images supported as <dataStore>");
        disk.sgio == Some(Sgio::Unfiltered) => DOMAIN.config_unsupported("unfiltered sgio is no longer supported");
        disk.rawio.is_some() && !lun => DOMAIN.config_unsupported("rawio can be used only with device='lun'");
        disk.sgio.is_some() && !lun => DOMAIN.config_unsupported("sgio can be used only with device='lun'");
        lun && disk.type_ != StorageType::Block && disk.type_ != StorageType::Network
            && disk.type_ != StorageType::Volume =>
            DOMAIN.config_unsupported("disk device='lun' is only valid for block type disk source");
        lun && disk.type_ == StorageType::Network
            && source.is_some_and(|source| source.protocol != Some(StorageProtocol::Iscsi)) =>
            DOMAIN.config_unsupported("disk device='lun' is not supported for protocol='{}'",
                source.and_then(|source| source.protocol).unwrap_or_default().as_str());
        lun && format != "raw" => DOMAIN.config_unsupported("disk device 'lun' must use 'raw' format");
        source.is_some_and(|source| source.reservations.is_some()) && !lun =>
            DOMAIN.config_unsupported("<reservations/> allowed only for lun devices");
        target.tray.is_some() && !removable => DOMAIN.config_unsupported("tray is only valid for cdrom and floppy");
        policy.is_some() && matches!(disk.type_, StorageType::Network | StorageType::Nvme | StorageType::Vhostuser) =>
            DOMAIN.xml_error(
                "disk startupPolicy '{}' is not allowed for disk of '{}' type",
                policy.unwrap_or_default().as_str(),
                disk.type_.as_str()
            );
        policy == Some(StartupPolicy::Requisite) && !removable => DOMAIN.xml_error(
            "disk startupPolicy 'requisite' is allowed only for cdrom or floppy");
        !virtio && driver.queues.is_some_and(|queues| queues != 0) => DOMAIN.config_unsupported(
            "queues attribute in disk driver element is only supported for virtio bus");
        !virtio && driver.queue_size.is_some_and(|size| size != 0) => DOMAIN.config_unsupported(
            "queue_size attribute in disk driver is only supported for virtio bus");
        !virtio && driver.event_idx.is_some() =>
            DOMAIN.config_unsupported("disk event_idx mode supported only for virtio bus");
        !virtio && driver.ioeventfd.is_some() =>
            DOMAIN.config_unsupported("disk ioeventfd mode supported only for virtio bus");
        !virtio && disk.model.is_some() => DOMAIN.config_unsupported(
            "disk model '{}' not supported for bus '{}'", disk.model.unwrap_or_default().as_str(), bus.as_str());
        target.removable.is_some()
            && (disk.device != DiskDevice::Disk || !matches!(bus, DiskBus::Usb | DiskBus::Scsi)) =>
            DOMAIN.xml_error("removable is only valid for usb or scsi disks");
        no_unref && format != "qcow2" =>
            DOMAIN.config_unsupported("'discard_no_unref' only works with qcow2 disk format");
        no_unref && read_only =>
            DOMAIN.config_unsupported("'discard_no_unref' is not compatible with read-only disk");
        again.is_some() => DOMAIN.xml_error("duplicate filter name '{}' found", again.unwrap_or_default());
        unknown.is_some() => DOMAIN.xml_error("throttle group '{}' not found", unknown.unwrap_or_default());
        empty(disk) && !removable => DOMAIN.no_source("{}", target.dev.clone().unwrap_or_default());
    }
    sources::check(disk)?;
    small::misplaced(&driver.virtio, virtio)?;
    let name = target.dev.as_deref().unwrap_or_default();
    let floppy = disk.device == DiskDevice::Floppy;
    refuse! {
        floppy && bus != DiskBus::Fdc => DOMAIN.internal_error("Invalid bus type '{bus}' for floppy disk");
        floppy && !name.starts_with("fd") => DOMAIN.internal_error("Invalid floppy device name: {name}");
        disk.device == DiskDevice::Disk && name.starts_with("fd") =>
            DOMAIN.internal_error("Invalid harddisk device name: {name}");
        !floppy && bus == DiskBus::Fdc => DOMAIN.internal_error("Invalid bus type '{bus}' for disk");
    }
    Ok(())
}

/// Whether a disk names nothing that it could be.
fn empty(disk: &Disk) -> bool {
    let blank = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let Some(source) = &disk.source else { return true };
    match disk.type_ {
        StorageType::File => blank(&source.file),
        StorageType::Block => blank(&source.dev),
        StorageType::Dir => blank(&source.dir),
        _ => false,
    }
}

/// What QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>, disk: &Disk) -> Result {
    of_qemu(disk)?;
    let bus = disk.target.as_ref().and_then(|target| target.bus).unwrap_or_default();
    place(around.domain, disk.info.address.as_ref(), bus)?;
    of_machine(around, disk)
}

/// What a machine has no place for.
fn of_machine(around: &Around<'_>, disk: &Disk) -> Result {
    let Some(target) = &disk.target else { return Ok(()) };
    let (name, bus) = (target.dev.as_deref().unwrap_or_default(), target.bus.unwrap_or_default());
    let driver = disk.driver.as_ref();
    let format = driver.and_then(|driver| driver.type_.as_deref()).unwrap_or_default();
    let thread = driver.and_then(|driver| driver.iothread);
    refuse! {
        name.ends_with(|c: char| c.is_ascii_digit()) && !name.starts_with("nvme") =>
            QEMU.config_unsupported("invalid disk target '{name}', partitions can't appear in disk targets");
        bus == DiskBus::Usb && disk.source.is_none() => QEMU.config_unsupported("'usb' disk must not be empty");
        bus == DiskBus::Usb && !matches!(disk.info.address, None | Some(Address::Usb(_))) =>
            QEMU.internal_error("unexpected address type for usb disk");
        matches!(format, "cow" | "aio" | "dir") =>
            QEMU.config_unsupported("'{format}' storage format is not supported");
        disk.type_ == StorageType::Vhostuser && !around.shares_memory() =>
            QEMU.config_unsupported("'vhostuser' requires shared memory");
        disk.type_ == StorageType::Vhostvdpa =>
            QEMU.config_unsupported("vhostvdpa disk is not supported with this QEMU binary");
        matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) && matches!(bus, DiskBus::Virtio | DiskBus::Sd) =>
            QEMU.config_unsupported("disk type of '{name}' does not support ejectable media");
        disk.device == DiskDevice::Lun && bus == DiskBus::Virtio =>
            QEMU.config_unsupported("This QEMU doesn't support SCSI emulation with 'virtio-blk' device");
        thread.is_some_and(|id| !around.has_thread(id)) =>
            QEMU.config_unsupported("Disk iothread '{}' not defined in iothreadid", thread.unwrap_or_default());
    }
    around.check_threads(driver.and_then(|driver| driver.iothreads.as_ref()))
}

/// How many controllers, buses and targets there can be of what a drive is on.
pub(super) fn place(domain: &Domain, address: Option<&Address>, bus: DiskBus) -> Result {
    let Some(Address::Drive(at)) = address else { return Ok(()) };
    let scsi = |controller: &&Controller| {
        controller.type_ == ControllerType::Scsi
            && controller.index.and_then(|n| u32::try_from(n).ok()) == Some(at.controller)
    };
    let own = domain.devices.controllers.iter().find(scsi).and_then(|controller| controller.model.as_deref());
    let lsi = bus == DiskBus::Scsi && own == Some("lsilogic");
    refuse! {
        bus == DiskBus::Fdc && at.controller > 0 => QEMU.internal_error("Only 1 fdc controller is supported");
        bus == DiskBus::Fdc && at.bus > 0 => QEMU.internal_error("Only 1 fdc bus is supported");
        bus == DiskBus::Fdc && at.target > 0 => QEMU.config_unsupported("target must be 0 for controller fdc");
        bus == DiskBus::Ide && at.controller > 0 => QEMU.internal_error("Only 1 IDE controller is supported");
        bus == DiskBus::Ide && at.target > 0 => QEMU.config_unsupported("target must be 0 for ide controller");
        bus == DiskBus::Scsi && at.bus > 0 => QEMU.internal_error("SCSI controller only supports 1 bus");
        lsi && at.target > 0 =>
            QEMU.config_unsupported("target must be 0 for controller model 'lsilogic'");
        bus == DiskBus::Sata && at.bus > 0 => QEMU.config_unsupported("bus must be 0 for sata controller");
        bus == DiskBus::Sata && at.target > 0 =>
            QEMU.config_unsupported("target must be 0 for sata controller");
    }
    Ok(())
}

fn of_qemu(disk: &Disk) -> Result {
    let target = disk.target.clone().unwrap_or_default();
    let (bus, name) = (target.bus.unwrap_or_default(), target.dev.as_deref().unwrap_or_default());
    let none = DiskDriver::default();
    let driver = disk.driver.as_ref().unwrap_or(&none);
    let format = driver.type_.as_deref().unwrap_or("raw");
    let source = disk.source.clone().unwrap_or_default();
    let lun = disk.device == DiskDevice::Lun;
    let read_only = disk.readonly || disk.device == DiskDevice::Cdrom;
    let bypass = matches!(driver.cache, Some(DiskCache::None | DiskCache::Directsync));
    let geometry = disk.geometry.as_ref();
    let rotates = matches!(bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
    let net = disk.type_ == StorageType::Network;
    let protocol = source.protocol.unwrap_or_default();
    let copies = driver.copy_on_read == Some(OnOff::On);
    let cached = driver.metadata_cache.is_some();
    let serial = disk.serial.as_deref().unwrap_or_default();
    refuse! {
        driver.name.as_deref().is_some_and(|name| name != "qemu") => QEMU.config_unsupported(
            "unsupported driver name '{}' for disk '{name}'", driver.name.as_deref().unwrap_or_default());
        driver.iothread.is_some() && bus != DiskBus::Virtio => QEMU.config_unsupported(
            "IOThreads not available for bus {} target {name}", bus.as_str());
        format == "iso" => QEMU.config_unsupported(
            "storage format 'iso' is not directly supported by QEMU, use 'raw' instead");
        format == "dir" => QEMU.config_unsupported(
            "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead");
        disk.type_ == StorageType::Dir && format != "fat" =>
            QEMU.config_unsupported("storage type 'dir' requires use of storage format 'fat'");
        format == "fat" && !matches!(disk.type_, StorageType::Dir | StorageType::Volume) =>
            QEMU.config_unsupported("storage format 'fat' is supported only with 'dir' storage type");
        disk.type_ == StorageType::Dir && !read_only =>
            QEMU.config_unsupported("virtual FAT storage can't be accessed in read-write mode");
        driver.io == Some(DiskIo::Native) && !bypass =>
            QEMU.config_unsupported("io='native' needs either no disk cache or directsync cache mode");
        copies && lun => QEMU.config_unsupported("copy_on_read is not compatible with 'lun' disk '{name}'");
        copies && read_only => QEMU.config_unsupported("copy_on_read is not compatible with read-only disk '{name}'");
        target.rotation_rate.is_some_and(|rate| rate != 0) && !rotates =>
            QEMU.internal_error("rotation rate is only valid for SCSI/IDE/SATA bus");
        disk.wwn.is_some() && !rotates => QEMU.config_unsupported("Only ide and scsi disk support wwn");
        geometry.is_some_and(|g| g.cyls.is_some()) && matches!(bus, DiskBus::Usb | DiskBus::Sd) =>
            QEMU.config_unsupported("CHS geometry can not be set for '{}' bus", bus.as_str());
        geometry.is_some_and(|g| g.trans.is_some()) && bus != DiskBus::Ide => QEMU.config_unsupported(
            "CHS translation mode can only be set for 'ide' bus not '{}'", bus.as_str());
        lun && !matches!(bus, DiskBus::Virtio | DiskBus::Scsi) => QEMU.config_unsupported(
            "disk device='lun' is not supported for bus='{}'", bus.as_str());
        disk.readonly && disk.device == DiskDevice::Disk && matches!(bus, DiskBus::Ide | DiskBus::Sata) =>
            QEMU.config_unsupported("readonly {} disks are not supported", bus.as_str());
        cached && format != "qcow2" => QEMU.config_unsupported(
            "metadata cache max size control is supported only with qcow2 images");
        !serial.chars().all(|c| c.is_ascii_alphanumeric() || "_- .+".contains(c)) =>
            QEMU.internal_error("driver serial '{serial}' contains unsafe characters");
        disk.product.is_some() && !rotates =>
            QEMU.config_unsupported("Only ide, sata and scsi disk supports 'product'");
        disk.vendor.is_some() && bus != DiskBus::Scsi =>
            QEMU.config_unsupported("Only scsi disk supports 'vendor'");
        disk.transient.is_some() && disk.type_ != StorageType::File =>
            QEMU.config_unsupported("transient disk supported only with 'file' type ({name})");
        disk.transient.is_some() && disk.readonly =>
            QEMU.config_unsupported("transient disk '{name}' must not be read-only");
        disk.shareable && !matches!(format, "raw" | "luks") => QEMU.config_unsupported(
            "shared access for disk '{name}' requires use of supported storage format");
        bus == DiskBus::Virtio && !matches!(disk.info.address, None | Some(Address::Pci(_) | Address::Ccw(_) | Address::VirtioMmio(_))) =>
            QEMU.config_unsupported("virtio disk cannot have an address of type '{}'",
                disk.info.address.as_ref().map(Address::kind).unwrap_or_default());
        net && source.tls_hostname.is_some() && protocol != StorageProtocol::Nbd =>
            QEMU.config_unsupported("'tlsHostname' field is supported only with NBD disks");
        net && protocol == StorageProtocol::Tftp =>
            QEMU.config_unsupported("'tftp' protocol is not supported with this QEMU binary");
        net && protocol == StorageProtocol::Nfs && source.host.len() != 1 =>
            QEMU.config_unsupported("'nfs' protocol requires the usage of exactly one host");
        net && protocol == StorageProtocol::Nfs && source.host.iter().any(|host| host.port.is_some()) =>
            QEMU.config_unsupported("port cannot be specified in 'nfs' protocol host");
        target.rotation_rate.is_some_and(|rate| rate != 0) && disk.device != DiskDevice::Disk =>
            QEMU.internal_error("rotation rate is only valid for disk device");
    }
    sources::check_qemu(disk, format)?;
    queues(driver)
}

/// Where queues are given to threads, all are, each to one.
fn queues(driver: &DiskDriver) -> Result {
    let Some(threads) = &driver.iothreads else { return Ok(()) };
    let count = driver.queues.unwrap_or(0);
    let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mapped = threads.iothread.iter().any(|thread| !thread.queue.is_empty());
    for thread in &threads.iothread {
        refuse! {
            !seen.insert(thread.id) => QEMU.config_unsupported("duplicate mapping for iothread '{}'", thread.id);
        }
        for queue in &thread.queue {
            refuse! {
                queue.id >= count =>
                    QEMU.config_unsupported("iothread queue '{}' mapping out of range", queue.id);
                !taken.insert(queue.id) =>
                    QEMU.config_unsupported("iothread queue '{}' is already assigned", queue.id);
            }
        }
    }
    let missing = (0..count).find(|queue| !taken.contains(queue)).filter(|_| mapped);
    refuse! {
        missing.is_some() => QEMU.config_unsupported(
            "missing iothread mapping for queue '{}'", missing.unwrap_or_default());
    }
    Ok(())
}
