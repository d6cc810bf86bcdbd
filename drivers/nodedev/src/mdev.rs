//! Mediated devices: parts of a device, each given away for itself.

use virtwire_conf::nodedev::{Capability, IommuGroup, Mdev, MdevType, MdevTypeId, MdevTypes};

use crate::sysfs::{Facts, entries, file_name, link_name, text};

/// The types that a device can be divided into.
pub(crate) fn types(facts: &Facts<'_>) -> Option<MdevTypes> {
    let one = |path: &std::path::PathBuf| {
        Some(MdevType {
            id: file_name(path)?,
            name: text(&path.join("name")),
            device_api: text(&path.join("device_api")),
            available_instances: text(&path.join("available_instances"))?.parse().ok(),
        })
    };
    let type_: Vec<_> = entries(&facts.path.join("mdev_supported_types")).iter().filter_map(one).collect();
    (!type_.is_empty()).then_some(MdevTypes { type_ })
}

pub(crate) fn capability(facts: &Facts<'_>) -> Option<Mdev> {
    let group = link_name(&facts.path.join("iommu_group")).and_then(|number| number.parse().ok());
    Some(Mdev {
        type_: Some(MdevTypeId { id: link_name(&facts.path.join("mdev_type"))? }),
        uuid: facts.name().parse().ok(),
        parent_addr: Some(parent(facts)?),
        iommu_group: group.map(|number| IommuGroup { number, address: Vec::new() }),
        attr: Vec::new(),
    })
}

/// The device that it is a part of.
pub(crate) fn parent(facts: &Facts<'_>) -> Option<String> {
    file_name(facts.path.parent()?)
}

/// The types as a capability, for the kinds of devices that have nothing else within.
pub(crate) fn within(facts: &Facts<'_>) -> Vec<Capability> {
    types(facts).map(Capability::MdevTypes).into_iter().collect()
}
