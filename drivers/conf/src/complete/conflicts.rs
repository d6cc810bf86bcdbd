//! Two things in one place, and halves of things.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::YesNo;
use crate::domain::Domain;
use crate::domain::chardev::{CharMode, CharSource, CharType};
use crate::domain::device::{Address, DeviceSeclabel};
use crate::domain::disk::{Disk, DiskBus, DiskDevice, StorageProtocol, StorageType};
use crate::domain::misc::{HostAddress, Hostdev, HostdevType, IommuDriver, IommuModel};
use crate::domain::net::Interface;
use crate::domain::tune::NumaMode;
use crate::table::c_number;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// Libvirt says these without saying of which kind they are.
fn bare(text: impl std::fmt::Display) -> VirtError {
    DOMAIN.xml_detail(text)
}

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    disks(domain)?;
    aliases(domain)?;
    slots(domain)?;
    hostdevs(domain)?;
    sockets(domain)?;
    firmware(domain)?;
    labels(domain)?;
    resources(domain)?;
    for shmem in &domain.devices.shmems {
        if shmem.msi.is_some() && shmem.server.is_none() {
            return Err(DOMAIN.xml_error("msi option is only supported with a server"));
        }
    }
    match &domain.devices.iommu {
        Some(iommu)
            if iommu.model == IommuModel::Virtio
                && iommu.driver.as_ref().is_some_and(|it| *it != IommuDriver::default()) =>
        {
            Err(DOMAIN.xml_error("iommu model 'virtio' doesn't support additional attributes"))
        }
        _ => Ok(()),
    }
}

fn name(disk: &Disk) -> &str {
    disk.target.as_ref().and_then(|t| t.dev.as_deref()).unwrap_or_default()
}

fn disks(domain: &Domain) -> Result<(), VirtError> {
    let mut taken = BTreeSet::new();
    for disk in &domain.devices.disks {
        let bus = disk.target.as_ref().and_then(|t| t.bus).unwrap_or_default();
        let on_drives = matches!(bus, DiskBus::Ide | DiskBus::Fdc | DiskBus::Scsi | DiskBus::Sata);
        if let (Some(Address::Drive(d)), true) = (&disk.info.address, on_drives) {
            if !taken.insert((bus, d.controller, d.bus, d.target, d.unit)) {
                return Err(DOMAIN.config_unsupported(format_args!(
                    "Found duplicate drive address for disk with target name '{}' controller='{}' bus='{}' target='{}' unit='{}'",
                    name(disk), d.controller, d.bus, d.target, d.unit
                )));
            }
        } else if let Some(other) = disk.info.address.as_ref().filter(|_| on_drives) {
            return Err(DOMAIN.config_unsupported(format_args!(
                "Invalid address type '{}' for the disk '{}' with the bus type '{bus}'",
                other.kind(),
                name(disk)
            )));
        }
        let source = disk.source.as_ref();
        refuse! {
            source.is_some_and(|s| s.protocol == Some(StorageProtocol::Sheepdog)) =>
                DOMAIN.config_unsupported("'sheepdog' protocol is no longer supported by any hypervisor driver");
            disk.product.as_ref().is_some_and(|product| product.len() > 16) =>
                DOMAIN.config_unsupported("disk product is more than 16 characters");
            disk.vendor.as_ref().is_some_and(|vendor| vendor.len() > 8) =>
                DOMAIN.config_unsupported("disk vendor is more than 8 characters");
            disk.encryption.is_some() && source.is_some_and(|s| s.encryption.is_some()) =>
                DOMAIN.config_unsupported("an <encryption> definition already found for disk source");
            disk.device == DiskDevice::Lun && disk.type_ == StorageType::File =>
                DOMAIN.config_unsupported("disk device='lun' is only valid for block type disk source");
        }
    }
    for hostdev in domain.devices.hostdevs.iter().filter(|h| h.type_ == HostdevType::Scsi) {
        let Some(Address::Drive(d)) = &hostdev.info.address else { continue };
        if taken.contains(&(DiskBus::Scsi, d.controller, d.bus, d.target, d.unit)) {
            let same = |disk: &&Disk| disk.info.address == hostdev.info.address;
            let disk = domain.devices.disks.iter().find(same).map(name).unwrap_or_default();
            return Err(DOMAIN.config_unsupported(format_args!(
                "using disk target name '{disk}' conflicts with SCSI host device address controller='{}' bus='{}' target='{}' unit='{}'",
                d.controller, d.bus, d.target, d.unit
            )));
        }
    }
    Ok(())
}

/// Names that the user gave are each one device's.
fn aliases(domain: &Domain) -> Result<(), VirtError> {
    let mut known = BTreeSet::new();
    // The first console may be the first serial port, by its name.
    let again =
        domain.devices.consoles.first().filter(|console| !console.is_virtio()).map(|console| &console.info);
    let infos = domain
        .devices
        .infos()
        .into_iter()
        .filter(|info| again.is_none_or(|again| !std::ptr::eq(*info, again)));
    let names = infos.filter_map(|info| info.alias.as_ref());
    for name in names.map(|alias| alias.name.as_str()).filter(|name| name.starts_with("ua-")) {
        refuse! {
            !known.insert(name) => DOMAIN.config_unsupported("non unique alias detected: {name}");
        }
    }
    Ok(())
}

/// Memory modules are each in a slot of their own.
fn slots(domain: &Domain) -> Result<(), VirtError> {
    let mut taken = BTreeSet::new();
    for memory in &domain.devices.memories {
        let Some(Address::Dimm(address)) = &memory.info.address else { continue };
        refuse! {
            !taken.insert(address.slot) => DOMAIN.config_unsupported(
                "memory device slot '{}' is already being used by another memory device",
                address.slot
            );
        }
    }
    Ok(())
}

fn hostdevs(domain: &Domain) -> Result<(), VirtError> {
    let mut cards = BTreeSet::new();
    refuse! {
        !domain.devices.interfaces.iter().filter_map(lent).all(|card| cards.insert(card)) =>
            DOMAIN.xml_error("Hostdev already exists in the domain configuration");
    }
    let all = &domain.devices.hostdevs;
    for (n, hostdev) in all.iter().enumerate() {
        let same = |other: &&Hostdev| other.type_ == hostdev.type_ && other.source == hostdev.source;
        let own = hostdev.source.as_ref().and_then(|source| source.address.as_ref()).and_then(place);
        let pci = hostdev.type_ == HostdevType::Pci;
        if all[..n].iter().any(|other| same(&other)) || pci && own.is_some_and(|own| cards.contains(&own)) {
            return Err(DOMAIN.xml_error("Hostdev already exists in the domain configuration"));
        }
        if hostdev.sgio.is_some() && hostdev.type_ != HostdevType::Scsi {
            return Err(DOMAIN.xml_error("sgio is only supported for scsi host device"));
        }
        let address = hostdev.source.as_ref().and_then(|s| s.address.as_ref());
        if hostdev.type_ == HostdevType::Mdev && address.is_none_or(|a| a.uuid.is_none()) {
            return Err(DOMAIN.config_unsupported("Missing 'uuid' attribute for element <address>"));
        }
    }
    Ok(())
}

/// Where a device of the host is on PCI: domain, bus, slot, function.
type HostPlace = (u64, u64, u64, u64);

fn place(address: &HostAddress) -> Option<HostPlace> {
    let bus = address.bus.as_deref().and_then(c_number)?;
    Some((address.domain.map_or(0, |hex| hex.0), bus, address.slot?.0, address.function?.0))
}

/// The device of the host that an interface is.
fn lent(card: &Interface) -> Option<HostPlace> {
    match card.source.as_ref()?.pci.as_ref()? {
        Address::Pci(at) => Some((
            at.domain.map_or(0, |hex| hex.0),
            at.bus.map_or(0, |hex| hex.0),
            at.slot.map_or(0, |hex| hex.0),
            at.function.map_or(0, |hex| hex.0),
        )),
        _ => None,
    }
}

/// Sockets of devices that aren't character devices themselves.
fn sockets(domain: &Domain) -> Result<(), VirtError> {
    let devices = &domain.devices;
    let cards = devices.smartcards.iter().map(|s| (s.type_, &s.source));
    let backends = devices.rngs.iter().filter_map(|r| r.backend.as_ref()).map(|b| (b.type_, &b.source));
    for (kind, source) in cards.chain(backends) {
        let has = |part: fn(&CharSource) -> bool| source.first().is_some_and(part);
        let missing = match kind {
            Some(CharType::Unix | CharType::File | CharType::Dev | CharType::Pipe)
                if !has(|s| s.path.is_some()) =>
            {
                "path"
            }
            Some(CharType::Tcp) if !has(|s| s.host.is_some()) => "host",
            Some(CharType::Tcp | CharType::Udp) if source.iter().all(|s| s.service.is_none()) => "service",
            _ => continue,
        };
        return Err(DOMAIN.internal_error(format_args!("Missing source {missing} attribute for char device")));
    }
    let ends = devices.serials.iter().map(|d| &d.chardev).chain(devices.channels.iter().map(|d| &d.chardev));
    let ends = ends.chain(devices.consoles.iter().map(|d| &d.chardev));
    let ends = ends.chain(devices.parallels.iter().map(|d| &d.chardev));
    for label in ends.clone().flat_map(|end| &end.source).flat_map(|source| &source.seclabel) {
        relabelled(label)?;
    }
    let incomplete = |source: &CharSource| {
        source.reconnect.as_ref().is_some_and(|r| r.enabled == Some(YesNo::Yes) && r.timeout.is_none())
    };
    let late = |source: &CharSource| {
        source.mode == Some(CharMode::Bind) && source.reconnect.as_ref().is_some_and(|r| r.enabled.is_some())
    };
    if ends.clone().flat_map(|chardev| &chardev.source).any(late) {
        return Err(DOMAIN.internal_error("chardev reconnect is possible only for connect mode"));
    }
    if ends.flat_map(|chardev| &chardev.source).any(incomplete) {
        let text = "Missing required attribute 'timeout' in element 'reconnect'";
        return Err(ErrorDomain::XML.xml_error(text));
    }
    Ok(())
}

fn firmware(domain: &Domain) -> Result<(), VirtError> {
    let os = &domain.os;
    let stateless = os.loader.as_ref().is_some_and(|l| l.stateless == Some(YesNo::Yes));
    if stateless && os.nvram.as_ref().is_some_and(|n| n.template.is_some()) {
        return Err(bare("NVRAM template is not permitted when loader is stateless"));
    }
    let feature = |name: &str| {
        let features = os.firmware_features.iter().flat_map(|f| &f.feature);
        features.filter(|f| f.name == name).map(|f| f.enabled).next()
    };
    if feature("enrolled-keys") == Some(YesNo::Yes) && feature("secure-boot") == Some(YesNo::No) {
        let text = "firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled";
        return Err(bare(text));
    }
    Ok(())
}

fn labels(domain: &Domain) -> Result<(), VirtError> {
    let of_disks = domain.devices.disks.iter().filter_map(|d| d.source.as_ref()).flat_map(|s| &s.seclabel);
    for disk in &domain.devices.disks {
        let mut seen = BTreeSet::new();
        let own =
            disk.source.iter().flat_map(|source| &source.seclabel).filter_map(|label| label.model.as_ref());
        let again = own.into_iter().find(|model| !seen.insert(*model));
        if let Some(model) = again {
            return Err(bare(format_args!("seclabel for model {model} is already provided")));
        }
    }
    of_disks.into_iter().try_for_each(relabelled)
}

/// Who relabels says with what.
fn relabelled(label: &DeviceSeclabel) -> Result<(), VirtError> {
    refuse! {
        label.relabel == Some(YesNo::Yes) && label.label.is_none() => DOMAIN.xml_error(
            "Cannot specify relabel if label is missing. model={}", label.model.as_deref().unwrap_or("(null)"));
    }
    Ok(())
}

fn resources(domain: &Domain) -> Result<(), VirtError> {
    let threads: Vec<u32> = domain.all_iothreads().iter().map(|thread| thread.id.get()).collect();
    for id in domain.cputune.iter().flat_map(|c| &c.iothreadsched).filter_map(|s| s.iothreads.as_ref()) {
        if let Some(unknown) = id.iter().find(|id| !threads.contains(id)) {
            return Err(DOMAIN.config_unsupported(format_args!("Cannot find 'iothread' : {unknown}")));
        }
    }
    let cells = domain.cpu.iter().filter_map(|c| c.numa.as_ref()).flat_map(|n| &n.cell);
    let ids: Vec<u32> = cells.clone().filter_map(|cell| cell.id).collect();
    for cell in cells {
        for sibling in cell.distances.iter().flat_map(|d| &d.sibling) {
            if !ids.contains(&sibling.id) {
                return Err(DOMAIN.xml_error(format_args!(
                    "'sibling_id {}' does not refer to a valid cell within NUMA 'cell id {}'",
                    sibling.id,
                    cell.id.unwrap_or(0)
                )));
            }
        }
    }
    if let Some(tune) = &domain.numatune {
        let restrictive = |mode: Option<NumaMode>| mode == Some(NumaMode::Restrictive);
        let memory = tune.memory.as_ref().and_then(|m| m.mode);
        if tune.memnode.iter().any(|n| restrictive(n.mode)) && !restrictive(memory) {
            let text = "'restrictive' mode is required in memory element when mode is 'restrictive' in memnode element";
            return Err(DOMAIN.xml_error(text));
        }
    }
    Ok(())
}
