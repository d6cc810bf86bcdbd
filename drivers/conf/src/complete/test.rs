//! What the test hypervisor adds.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::devices;
use crate::domain::Domain;
use crate::domain::display::VideoType;
use crate::domain::net::InterfaceTarget;

/// Extensions of other drivers are no part of its definitions.
pub(super) fn begin(domain: &mut Domain) {
    domain.qemu_commandline = None;
    domain.qemu_capabilities = None;
    domain.qemu_override = None;
    domain.qemu_deprecation = None;
}

/// Checks of its own, and video cards.
pub(super) fn complete(domain: &mut Domain) -> Result<(), VirtError> {
    if domain.name.contains('\n') {
        return Err(ErrorDomain::XML.xml_detail("invalid char in name: \n"));
    }
    devices::complete_videos(domain, VideoType::Cirrus);
    Ok(())
}

/// Every interface has a device on the host, even one that isn't there.
pub(super) fn name_interfaces(domain: &mut Domain) {
    devices::complete_videos(domain, VideoType::Cirrus);
    let taken: std::collections::BTreeSet<String> =
        domain.devices.interfaces.iter().filter_map(|i| i.target.as_ref()?.dev.clone()).collect();
    let mut names = (0u32..).map(|n| format!("testnet{n}")).filter(|name| !taken.contains(name));
    for interface in &mut domain.devices.interfaces {
        let target = interface.target.get_or_insert_with(InterfaceTarget::default);
        if target.dev.is_none() {
            target.dev = names.next();
        }
    }
}
