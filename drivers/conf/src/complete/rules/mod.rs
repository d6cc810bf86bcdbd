//! What libvirt refuses of a definition that is complete: one table for each part of it.

mod boards;
mod caches;
mod characters;
mod clock;
mod controllers;
mod devices;
mod disks;
mod displays;
mod features;
mod filesystems;
mod hostdevs;
mod machine;
mod memory;
mod net;
mod nodes;
mod order;
mod small;
mod sources;
mod throttle;
mod tune;
mod virtualport;
mod written;

pub(super) use machine::{check_width, firmware};
pub(crate) use order::first;
pub(super) use order::read;
use std::collections::BTreeSet;

use virtwire_protocol::{ErrorCode, ErrorDomain, VirtError};

use super::Emulator;
use super::board::{Chipset, chipset};
use crate::domain::Domain;
use crate::domain::disk::DiskIothreads;
use crate::domain::features::MemAccess;

const QEMU: ErrorDomain = ErrorDomain::QEMU;

type Result<T = ()> = std::result::Result<T, VirtError>;

/// What is about to become of the last device of a kind, which has no place yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newest {
    /// It is added to the others.
    Added(&'static str),
    /// It takes the place of another.
    Changed(&'static str),
}

impl Newest {
    /// The kind.
    const fn kind(self) -> &'static str {
        match self {
            Self::Added(kind) | Self::Changed(kind) => kind,
        }
    }
}

/// What decides about devices besides themselves.
pub(super) struct Around<'d> {
    /// The definition.
    pub domain: &'d Domain,
    emulator: Option<&'d Emulator>,
    /// Its board.
    pub chipset: Chipset,
    iothreads: BTreeSet<u32>,
    /// Nothing where the definition is looked at as a whole.
    newest: Option<Newest>,
}

impl<'d> Around<'d> {
    fn new(domain: &'d Domain, emulator: Option<&'d Emulator>, newest: Option<Newest>) -> Self {
        let iothreads = domain.all_iothreads().iter().map(|thread| thread.id.get()).collect();
        Self { domain, emulator, chipset: chipset(domain), iothreads, newest }
    }

    /// Whether QEMU has a kind of device.
    fn has(&self, device: &str) -> bool {
        self.emulator.is_none_or(|emulator| emulator.has(device))
    }

    /// Whether the guest has each of the threads that a device shares.
    fn check_threads(&self, shared: Option<&DiskIothreads>) -> Result {
        let wanted = shared.iter().flat_map(|threads| &threads.iothread).map(|thread| thread.id);
        let unknown = wanted.into_iter().find(|id| !self.has_thread(*id));
        refuse! {
            unknown.is_some() => QEMU.config_unsupported(
                "iothread '{}' not defined in iothreadid", unknown.unwrap_or_default());
        }
        Ok(())
    }

    /// Whether the guest has an I/O thread of this number.
    fn has_thread(&self, id: u32) -> bool {
        self.iothreads.contains(&id)
    }

    /// Whether `kind` is what the newest device is.
    fn is_new(&self, kind: &str) -> bool {
        self.newest.is_some_and(|newest| newest.kind() == kind)
    }

    /// Whether a device takes the place of another.
    fn changes(&self) -> bool {
        matches!(self.newest, Some(Newest::Changed(_)))
    }

    /// Whether a definition is looked at as a whole.
    fn whole(&self) -> bool {
        self.newest.is_none()
    }

    /// Whether processes beside QEMU can see the guest's memory.
    fn shares_memory(&self) -> bool {
        let backing = self.domain.memory_backing.as_ref();
        let mode = backing.and_then(|backing| backing.access.as_ref()).and_then(|access| access.mode);
        let mut cells =
            self.domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell);
        mode == Some(MemAccess::Shared) || cells.any(|cell| cell.mem_access == Some(MemAccess::Shared))
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

/// What cannot be, though everything in it can be read: the machine first, then each device, then what they are together.
pub(super) fn check(domain: &Domain, emulator: Option<&Emulator>) -> Result {
    let around = Around::new(domain, emulator, None);
    check_machine(&around)?;
    devices::check(&around)?;
    displays::together(domain)
}

/// What no driver could do with a machine. libvirt looks at this when drivers have looked at everything.
pub(super) fn check_last(domain: &Domain) -> Result {
    machine::check(domain)?;
    memory::check_pages(domain)?;
    tune::check_nodes(domain)?;
    tune::check(domain)?;
    machine::check_boot(domain)?;
    nodes::check(domain)?;
    tune::check_weights(domain)?;
    machine::check_users(domain)?;
    tune::check_pools(domain)
}

/// Whether there was a slot for each memory module.
pub(super) fn check_slots(domain: &Domain) -> Result {
    memory::check_slots(domain)
}

/// What no driver could do.
pub(super) fn check_itself(domain: &Domain) -> Result {
    devices::check_itself(&Around::new(domain, None, None))
}

/// Whether the newest device can be, at place `at` of its kind.
pub(super) fn check_newest(
    domain: &Domain,
    emulator: Option<&Emulator>,
    newest: Newest,
    at: usize,
) -> Result {
    devices::check_one(&Around::new(domain, emulator, Some(newest)), newest.kind(), at)
}

fn check_machine(around: &Around<'_>) -> Result {
    machine::check_qemu(around)?;
    features::check_qemu(around)?;
    memory::check_qemu(around.domain)?;
    around.domain.devices.memories.iter().try_for_each(|module| memory::module_qemu(around, module))?;
    clock::check_qemu(around)?;
    boards::check_qemu(around)?;
    tune::check_qemu(around.domain)?;
    small::check_numbers(around)
}
