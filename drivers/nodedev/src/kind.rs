//! What a device is, and what it is called after that.

use std::path::Path;

use uuid::Uuid;
use virtwire_conf::NodeDevice;
use virtwire_conf::nodedev::{Capability, Devnode, NodeDriver};

use crate::sysfs::{Facts, Places};
use crate::{mdev, net, others, pci, scsi, storage, usb};

/// The name of the host itself: what is within nothing else is within it.
pub(crate) const COMPUTER: &str = "computer";

/// Parts of the kernel that nobody looks for devices in.
const IGNORED: [&str; 4] = ["acpi", "tty", "vc", "i2c"];

/// The host itself.
pub(crate) fn computer(places: &Places, uuid: Uuid) -> NodeDevice {
    NodeDevice {
        name: Some(COMPUTER.to_owned()),
        capabilities: vec![Capability::System(others::system(places, uuid))],
        ..NodeDevice::default()
    }
}

/// The device at `path` but for its parent, if it is one that clients are shown.
pub(crate) fn device(places: &Places, path: &Path) -> Option<NodeDevice> {
    let facts = Facts::read(places, path)?;
    let subsystem = facts.subsystem()?;
    if IGNORED.contains(&subsystem.as_str()) {
        return None;
    }
    let (name, capability) = of(&facts, &subsystem)?;
    let file = facts.file().map(|file| Devnode { type_: "dev".to_owned(), path: file.to_owned() });
    let links = facts.links.iter().map(|link| Devnode { type_: "link".to_owned(), path: link.clone() });
    Some(NodeDevice {
        name: Some(name),
        path: Some(facts.shown_path()),
        devnodes: file.into_iter().chain(links).collect(),
        driver: facts.driver().map(|name| NodeDriver { name: Some(name) }),
        capabilities: vec![capability],
        parent: None,
    })
}

/// A name and a capability, by what the kernel says of a device.
fn of(facts: &Facts<'_>, subsystem: &str) -> Option<(String, Capability)> {
    let own = facts.name();
    let named = |prefix: &str, capability| Some((name(&[prefix, &own]), capability));
    let interface = || {
        let net = net::capability(facts)?;
        let name = name(&["net", net.interface.as_deref()?, net.address.as_deref()?]);
        Some((name, Capability::Net(net)))
    };
    // Where the kernel says what kind it is, nothing else counts.
    match facts.property("DEVTYPE") {
        Some("usb_device") => named("usb", Capability::UsbDevice(usb::device(facts)?)),
        Some("usb_interface") => named("usb", Capability::Usb(usb::interface(facts))),
        Some("scsi_host") => named("scsi", Capability::ScsiHost(scsi::host(facts)?)),
        Some("scsi_target") => named("scsi", Capability::ScsiTarget(scsi::target(facts)?)),
        Some("scsi_device") => named("scsi", Capability::Scsi(scsi::device(facts)?)),
        Some("disk") => {
            let storage = storage::capability(facts)?;
            let name = name(&["block", &own, storage.serial.as_deref().unwrap_or_default()]);
            Some((name, Capability::Storage(storage)))
        }
        Some("wlan") => interface(),
        Some("drm_minor") => named("drm", Capability::Drm(others::drm(facts)?)),
        Some("ap_card") => named("ap", Capability::ApCard(others::ap_card(facts)?)),
        Some("ap_queue") => named("ap", Capability::ApQueue(others::ap_queue(facts)?)),
        Some(_) => None,
        None if facts.property("PCI_CLASS").is_some() => {
            named("pci", Capability::Pci(pci::capability(facts)?))
        }
        None if facts.property("INTERFACE").is_some() => interface(),
        None => match subsystem {
            "scsi_generic" => named("scsi_generic", Capability::ScsiGeneric(others::scsi_generic(facts)?)),
            "mdev" => {
                let name = name(&["mdev", &own, &mdev::parent(facts)?]);
                Some((name, Capability::Mdev(mdev::capability(facts)?)))
            }
            "vdpa" => named("vdpa", Capability::Vdpa(others::vdpa(facts))),
            "ccw" => named("ccw", Capability::Ccw(others::ccw(facts)?)),
            "css" => named("css", Capability::Css(others::css(facts)?)),
            "matrix" => named("ap", Capability::ApMatrix(others::ap_matrix(facts))),
            _ => None,
        },
    }
}

/// A name from its parts, those that are empty left out; what is neither letter nor digit is `_`.
fn name(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// What a capability is called where clients count, list and choose.
pub(crate) fn words(device: &NodeDevice) -> Vec<&'static str> {
    fn add(capability: &Capability, found: &mut Vec<&'static str>) {
        let word = capability.kind();
        let (listed, within): (_, &[Capability]) = match capability {
            Capability::VportOps(_) => ("vports", &[]),
            Capability::Pci(pci) => (word, &pci.capabilities),
            Capability::ScsiHost(host) => (word, &host.capabilities),
            Capability::Css(css) => (word, &css.capabilities),
            Capability::ApMatrix(matrix) => (word, &matrix.capabilities),
            _ => (word, &[]),
        };
        found.push(listed);
        for capability in within {
            if matches!(
                capability,
                Capability::FcHost(_) | Capability::VportOps(_) | Capability::MdevTypes(_)
            ) {
                add(capability, found);
            }
        }
    }
    let mut found = Vec::new();
    device.capabilities.iter().for_each(|capability| add(capability, &mut found));
    found
}

/// Whether a device counts as defined, and comes with the host: the host itself does.
pub(crate) fn is_kept(device: &NodeDevice) -> bool {
    device.name.as_deref() == Some(COMPUTER)
}
