//! PCI devices.

use std::fs;
use std::path::Path;

use virtwire_conf::domain::device::{NoParts, PciAddress};
use virtwire_conf::nodedev::{
    Capability, Functions, Identifier, IommuGroup, NumaNode, PciCapability, PciExpress, PciLink,
};
use virtwire_conf::table::Hex;

use crate::mdev;
use crate::sysfs::{Facts, entries, file_name, link_name};

pub(crate) fn capability(facts: &Facts<'_>) -> Option<PciCapability> {
    let own = address(&file_name(&facts.path)?)?;
    let part = |part: Option<u64>| u32::try_from(part.unwrap_or_default()).ok();
    let id = |name| Some(u16::from_str_radix(facts.attribute(name)?.trim_start_matches("0x"), 16).ok());
    let (vendor, product) = (id("vendor")??, id("device")??);
    let (vendor_name, product_name) = facts.places.names.of(vendor, product);
    let identifier = |id, name| Some(Identifier { id: Some(format!("0x{id:04x}")), name });
    let config = fs::read(facts.path.join("config")).unwrap_or_default();
    let class = facts.property("PCI_CLASS").and_then(|class| u64::from_str_radix(class, 16).ok());
    let node = facts.number::<i32>("numa_node").filter(|node| *node >= 0);
    Some(PciCapability {
        class: class.map(Hex),
        domain: part(own.domain.map(|part| part.0)),
        bus: part(own.bus.map(|part| part.0)),
        slot: part(own.slot.map(|part| part.0)),
        function: part(own.function.map(|part| part.0)),
        product: identifier(product, product_name),
        vendor: identifier(vendor, vendor_name),
        capabilities: within(facts, &config),
        iommu_group: iommu_group(&facts.path),
        numa: node.map(|node| NumaNode { node: Some(node) }),
        pci_express: express(&config),
    })
}

/// `0000:00:1f.2`
pub(crate) fn address(name: &str) -> Option<PciAddress> {
    let (rest, function) = name.rsplit_once('.')?;
    let mut parts = rest.split(':');
    let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
    let (domain, bus, slot) = (next()?, next()?, next()?);
    Some(PciAddress {
        domain: Some(Hex(domain)),
        bus: Some(Hex(bus)),
        slot: Some(Hex(slot)),
        function: Some(Hex(u64::from_str_radix(function, 16).ok()?)),
        ..PciAddress::default()
    })
}

/// Where a link to another PCI device leads.
fn linked(path: &Path) -> Option<PciAddress> {
    address(&link_name(path)?)
}

/// What it is besides: a function of another device, one with functions, a bridge, a parent of mediated devices.
fn within(facts: &Facts<'_>, config: &[u8]) -> Vec<Capability> {
    const HEADER_TYPE: usize = 0x0e;
    let mut found = Vec::new();
    if let Some(parent) = linked(&facts.path.join("physfn")) {
        found.push(Capability::PhysFunction(Functions { max_count: None, address: vec![parent] }));
    }
    let max_count = facts.number("sriov_totalvfs");
    let functions = (0_u32..).map_while(|n| linked(&facts.path.join(format!("virtfn{n}"))));
    let functions = Functions { max_count, address: functions.collect() };
    if max_count.is_some_and(|most| most > 0) || !functions.address.is_empty() {
        found.push(Capability::VirtFunctions(functions));
    }
    match config.get(HEADER_TYPE).map(|kind| kind & 0x7f) {
        Some(1) => found.push(Capability::PciBridge(NoParts::default())),
        Some(2) => found.push(Capability::CardbusBridge(NoParts::default())),
        _ => {}
    }
    found.extend(mdev::types(facts).map(Capability::MdevTypes));
    found
}

/// The group that a device can only be given away with.
fn iommu_group(device: &Path) -> Option<IommuGroup> {
    let number = link_name(&device.join("iommu_group"))?.parse().ok()?;
    let members = entries(&device.join("iommu_group/devices"));
    Some(IommuGroup {
        number,
        address: members.iter().filter_map(|path| address(&file_name(path)?)).collect(),
    })
}

/// Whether a configuration space has a list of capabilities: a byte, and the bit in it.
const STATUS: usize = 0x06;
const HAS_LIST: u8 = 0x10;

/// The links of a PCI Express device, from its configuration space.
fn express(config: &[u8]) -> Option<PciExpress> {
    const SPEEDS: [&str; 7] = ["", "2.5", "5", "8", "16", "32", "64"];
    /// Devices within the root complex have no link.
    const WITHOUT_LINK: [u16; 2] = [9, 10];
    // A device that says nothing of what it is may be one.
    if config.get(STATUS)? & HAS_LIST == 0 {
        return Some(PciExpress::default());
    }
    let at = express_at(config)?;
    let word =
        |offset: usize| Some(u16::from_le_bytes(config.get(at + offset..at + offset + 2)?.try_into().ok()?));
    if WITHOUT_LINK.contains(&(word(2)? >> 4 & 0xf)) {
        return Some(PciExpress::default());
    }
    let link = |validity: &str, port, word: u16| PciLink {
        validity: validity.to_owned(),
        port,
        speed: SPEEDS
            .get(usize::from(word & 0xf))
            .filter(|speed| !speed.is_empty())
            .map(|&speed| speed.to_owned()),
        width: Some(u32::from(word >> 4 & 0x3f)),
    };
    // The port's number is the highest byte of the 32 bits at 12.
    let port = Some(u32::from(word(14)? >> 8));
    Some(PciExpress { link: vec![link("cap", port, word(12)?), link("sta", None, word(18)?)] })
}

/// Where the PCI Express capability is in a configuration space.
fn express_at(config: &[u8]) -> Option<usize> {
    const LIST: usize = 0x34;
    const EXPRESS: u8 = 0x10;
    /// No list is longer, unless it is a circle.
    const MOST: usize = 48;
    let follow = |at: &usize| config.get(at + 1).map(|next| usize::from(next & 0xfc));
    let mut at = std::iter::successors(Some(usize::from(config.get(LIST)? & 0xfc)), follow);
    at.by_ref().take(MOST).take_while(|at| *at != 0).find(|at| config.get(*at) == Some(&EXPRESS))
}
