//! What libvirt refuses of a definition that is complete: one table for each part of it.

mod boards;
mod characters;
mod clock;
mod disks;
mod displays;
mod features;
mod machine;
mod memory;
mod net;
mod nodes;
mod small;
mod sources;
mod storage;
mod throttle;
mod tune;
mod virtualport;

use virtwire_protocol::{ErrorCode, ErrorDomain, VirtError};

use super::board::{Chipset, chipset};
use super::{Emulator, vcpus};
use crate::domain::Domain;

type Result<T = ()> = std::result::Result<T, VirtError>;

/// What decides about devices besides themselves.
struct Around<'d> {
    domain: &'d Domain,
    emulator: Option<&'d Emulator>,
    chipset: Chipset,
}

impl Around<'_> {
    fn has(&self, device: &str) -> bool {
        self.emulator.is_none_or(|emulator| emulator.has(device))
    }

    fn is_pc(&self) -> bool {
        self.chipset.is_pc()
    }

    fn is_q35(&self) -> bool {
        self.chipset == Chipset::Q35
    }
}

/// What libvirt answers where something is wrong of which it says nothing.
fn unknown_cause() -> VirtError {
    let text = "An error occurred, but the cause is unknown";
    VirtError { message: text.into(), ..VirtError::new(ErrorDomain::NONE, ErrorCode::INTERNAL_ERROR, "") }
}

/// What shows as soon as a definition is read.
pub(super) fn read(domain: &Domain) -> Result {
    vcpus::read(domain)?;
    machine::read(domain)?;
    features::read(domain)?;
    clock::read(domain)?;
    nodes::read(domain)?;
    domain.devices.disks.iter().try_for_each(disks::read)?;
    throttle::read(domain)?;
    domain.devices.interfaces.iter().try_for_each(net::read)?;
    domain.devices.memories.iter().try_for_each(memory::read)?;
    displays::read(domain)?;
    tune::read(domain)?;
    storage::read(domain)
}

/// What no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    disks::check(domain)?;
    storage::check(domain)?;
    net::check(domain)?;
    characters::check(domain)?;
    displays::check(domain)?;
    small::check(domain)?;
    memory::check(domain)?;
    tune::check(domain)
}

/// What devices that can be each cannot be together.
pub(super) fn check_together(domain: &Domain) -> Result {
    displays::together(domain)
}

/// What is asked of a machine of QEMU's before its devices are looked at.
pub(super) fn check_machine(domain: &Domain, emulator: Option<&Emulator>) -> Result {
    let around = Around { domain, emulator, chipset: chipset(domain) };
    machine::check_qemu(&around)?;
    features::check_qemu(&around)?;
    vcpus::check_qemu(domain)?;
    memory::check_qemu(domain)?;
    clock::check(domain)?;
    clock::check_qemu(&around)
}

/// What QEMU could not do.
pub(super) fn check_qemu(domain: &Domain, emulator: Option<&Emulator>) -> Result {
    let around = Around { domain, emulator, chipset: chipset(domain) };
    disks::check_qemu(&around)?;
    throttle::check_qemu(domain)?;
    storage::check_qemu(&around)?;
    net::check_qemu(&around)?;
    characters::check_qemu(&around)?;
    displays::check_qemu(&around)?;
    small::check_qemu(&around)?;
    boards::check_qemu(&around)
}
