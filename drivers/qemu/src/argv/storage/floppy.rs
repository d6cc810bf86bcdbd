//! The floppy controller: part of the chipset of a PC, a device of its own elsewhere.

use virtwire_conf::Domain;
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::DiskBus;

use super::super::{Device, is_q35};
use crate::command::CommandLine;

/// The controller, where there are drives, and which of them are in the boot order.
pub(super) fn controller(line: &mut CommandLine, domain: &Domain, boot: &[Option<u32>]) {
    let drives =
        domain.devices.disks.iter().zip(boot).filter(|(disk, _)| super::bus(disk) == Some(DiskBus::Fdc));
    let mut drives: Vec<_> = drives
        .map(|(disk, boot)| match &disk.info.address {
            Some(Address::Drive(at)) if at.unit > 0 => ("bootindexB", *boot),
            _ => ("bootindexA", *boot),
        })
        .collect();
    if drives.is_empty() {
        return;
    }
    drives.sort_unstable();
    if is_q35(domain) {
        let device = Device::new("isa-fdc");
        drives.into_iter().fold(device, |device, (name, boot)| device.with_if(name, boot)).add(line);
        return;
    }
    for (name, boot) in drives {
        if let Some(boot) = boot {
            line.option("-global", format!("isa-fdc.{name}={boot}"));
        }
    }
}
