//! What libvirt refuses of a definition that is complete: one table for each part of it.

mod boards;
mod caches;
mod characters;
mod clock;
mod disks;
mod displays;
mod features;
mod machine;
mod memory;
mod net;
mod nodes;
mod order;
mod small;
mod sources;
mod storage;
mod throttle;
mod tune;
mod virtualport;
mod written;

pub(super) use machine::firmware;
pub(crate) use order::first;
pub(super) use order::read;
use virtwire_protocol::{ErrorCode, ErrorDomain, VirtError};

use super::Emulator;
use super::board::{Chipset, chipset};
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

/// What no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    disks::check(domain)?;
    storage::check(domain)?;
    net::check(domain)?;
    characters::check(domain)?;
    displays::check(domain)?;
    small::check(domain)?;
    memory::check(domain)
}

/// What no driver could do with a machine. libvirt looks at this when drivers have looked at everything.
pub(super) fn check_last(domain: &Domain) -> Result {
    machine::check(domain)?;
    memory::check_pages(domain)?;
    tune::check(domain)?;
    machine::check_boot(domain)?;
    nodes::check(domain)?;
    tune::check_weights(domain)?;
    machine::check_users(domain)?;
    tune::check_pools(domain)
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
    memory::check_qemu(domain)?;
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
