//! Two things in one place, and halves of things.

use std::collections::{BTreeMap, BTreeSet};

use virtwire_protocol::{ErrorDomain, VirtError};

use super::drives;
use crate::YesNo;
use crate::domain::Domain;
use crate::domain::device::{Address, DeviceSeclabel, PciParts};
use crate::domain::disk::{Disk, DiskBus};
use crate::domain::misc::{HostAddress, Hostdev, HostdevType};
use crate::domain::net::Interface;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// Libvirt says these without saying of which kind they are.
fn bare(text: impl std::fmt::Display) -> VirtError {
    DOMAIN.xml_detail(text)
}

/// Everything in this file.
pub(super) fn check(domain: &Domain) -> Result<(), VirtError> {
    drives::check_names(domain)?;
    disks(domain)?;
    aliases(domain)?;
    hostdevs(domain)?;
    firmware(domain)?;
    labels(domain)
}

fn name(disk: &Disk) -> &str {
    disk.target.as_ref().and_then(|t| t.dev.as_deref()).unwrap_or_default()
}

fn disks(domain: &Domain) -> Result<(), VirtError> {
    let mut taken = BTreeMap::new();
    for disk in &domain.devices.disks {
        let bus = disk.target.as_ref().and_then(|t| t.bus).unwrap_or_default();
        let on_drives = matches!(bus, DiskBus::Ide | DiskBus::Fdc | DiskBus::Scsi | DiskBus::Sata);
        if let (Some(Address::Drive(d)), true) = (&disk.info.address, on_drives) {
            let first = taken.insert((bus, d.controller, d.bus, d.target, d.unit), name(disk));
            refuse! {
                first.is_some() => DOMAIN.config_unsupported(
                    "Found duplicate drive address for disk with target name '{}' controller='{}' bus='{}' target='{}' unit='{}'",
                    first.unwrap_or_default(), d.controller, d.bus, d.target, d.unit);
            }
        } else if let Some(other) = disk.info.address.as_ref().filter(|_| on_drives) {
            return Err(DOMAIN.config_unsupported(format_args!(
                "Invalid address type '{}' for the disk '{}' with the bus type '{bus}'",
                other.kind(),
                name(disk)
            )));
        }
    }
    for hostdev in domain.devices.hostdevs.iter().filter(|h| h.type_ == HostdevType::Scsi) {
        let Some(Address::Drive(d)) = &hostdev.info.address else { continue };
        let disk = taken.get(&(DiskBus::Scsi, d.controller, d.bus, d.target, d.unit));
        refuse! {
            // libvirt's text ends without its last quote.
            disk.is_some() => DOMAIN.config_unsupported(
                "using disk target name '{}' conflicts with SCSI host device address controller='{}' bus='{}' target='{}' unit='{}",
                disk.copied().unwrap_or_default(), d.controller, d.bus, d.target, d.unit);
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
    }
    Ok(())
}

/// Where a device of the host is on PCI, if it says all of that.
fn place(address: &HostAddress) -> Option<PciParts> {
    let whole = address.bus.is_some() && address.slot.is_some() && address.function.is_some();
    whole.then(|| address.pci().parts())
}

/// The device of the host that an interface is.
fn lent(card: &Interface) -> Option<PciParts> {
    match card.source.as_ref()?.pci.as_ref()? {
        Address::Pci(at) => Some(at.parts()),
        _ => None,
    }
}

fn firmware(domain: &Domain) -> Result<(), VirtError> {
    let os = &domain.os;
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
pub(super) fn relabelled(label: &DeviceSeclabel) -> Result<(), VirtError> {
    refuse! {
        label.relabel == Some(YesNo::Yes) && label.label.is_none() => DOMAIN.xml_error(
            "Cannot specify relabel if label is missing. model={}", label.model.as_deref().unwrap_or("(null)"));
    }
    Ok(())
}
