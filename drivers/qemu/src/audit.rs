//! Records for the host's audit system: what a guest was given, and how its starts and stops went.

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::chardev::{Chardev, Rng};
use virtwire_conf::domain::disk::Disk;
use virtwire_conf::domain::net::Interface;
use virtwire_conf::domain::one::Device;
use virtwire_driver_api::{Amount, AuditFact, AuditRecord, Event, Resource};
use virtwire_protocol::remote::NonnullDomain;

use crate::driver::Qemu;
use crate::state::Lifecycle;

impl Qemu {
    /// The records of a start: its labels and all that the guest was to have, then the start itself.
    pub(crate) fn audit_start(
        &self,
        guest: &NonnullDomain,
        domain: &Domain,
        changes: &[Lifecycle],
        pid: Option<u32>,
    ) {
        for label in domain.seclabel.iter().filter(|label| label.label.is_some()) {
            let [model, process, image] =
                [&label.model, &label.label, &label.imagelabel].map(|text| text.clone().unwrap_or_default());
            self.raise(guest, true, AuditFact::Label { model, process, image });
        }
        self.audit(guest, true, all(domain));
        let reason =
            changes.iter().find(|change| change.is_start()).map_or("unknown", |change| change.reason());
        let start = AuditFact::Operation { name: "start", reason, pid: pid.unwrap_or_default() };
        self.raise(guest, pid.is_some(), start);
    }

    /// The record of a stop.
    pub(crate) fn audit_stop(&self, guest: &NonnullDomain, why: Lifecycle) {
        self.raise(guest, true, AuditFact::Operation { name: "stop", reason: why.reason(), pid: 0 });
    }

    /// The records of resources.
    pub(crate) fn audit(
        &self,
        guest: &NonnullDomain,
        success: bool,
        resources: impl IntoIterator<Item = Resource>,
    ) {
        for resource in resources {
            self.raise(guest, success, AuditFact::Resource(resource));
        }
    }

    fn raise(&self, guest: &NonnullDomain, success: bool, fact: AuditFact) {
        self.shared.events.emit(Event::Audit(AuditRecord { guest: guest.clone(), success, fact }));
    }
}

/// Something that has a name, where it has one.
fn named(kind: &'static str, reason: &'static str, name: Option<String>) -> Option<Resource> {
    name.map(|name| Resource { kind, reason, old: Amount::Name(None), new: Amount::Name(Some(name)) })
}

/// A number that has changed.
pub(crate) fn count(kind: &'static str, reason: &'static str, old: u64, new: u64) -> Resource {
    Resource { kind, reason, old: Amount::Number(old), new: Amount::Number(new) }
}

/// Disks and interfaces. An empty drive is none.
fn devices<'a>(
    disks: &'a [Disk],
    interfaces: &'a [Interface],
    reason: &'static str,
) -> impl Iterator<Item = Resource> + 'a {
    let disks = disks.iter().filter_map(move |disk| {
        let source = disk.source.as_ref()?;
        named("disk", reason, source.file.clone().or_else(|| source.dev.clone()))
    });
    disks.chain(nets(interfaces, reason))
}

/// A device that comes or goes, of those that a record is made of.
pub(crate) fn device(device: &Device, reason: &'static str) -> Vec<Resource> {
    match device {
        Device::Disk(disk) => devices(std::slice::from_ref(disk), &[], reason).collect(),
        Device::Interface(net) => nets(std::slice::from_ref(net), reason).collect(),
        Device::Rng(rng) => named("rng", reason, random(rng)).into_iter().collect(),
        Device::Serial(serial) => named("chardev", reason, path(&serial.chardev)).into_iter().collect(),
        Device::Channel(channel) => named("chardev", reason, path(&channel.chardev)).into_iter().collect(),
        Device::Console(console) => named("chardev", reason, path(&console.chardev)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Where a guest's randomness comes from.
fn random(rng: &Rng) -> Option<String> {
    rng.backend.as_ref()?.path.clone()
}

fn nets<'a>(interfaces: &'a [Interface], reason: &'static str) -> impl Iterator<Item = Resource> + 'a {
    interfaces.iter().filter_map(move |net| {
        named("net", reason, net.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string()))
    })
}

/// A file, device or socket of the host's.
fn path(chardev: &Chardev) -> Option<String> {
    let source = || chardev.source.iter().find_map(|source| source.path.clone());
    chardev.tty.clone().or_else(source)
}

/// All that a guest has, in libvirt's order.
fn all(domain: &Domain) -> Vec<Resource> {
    const START: &str = "start";
    let devices = &domain.devices;
    let mut all: Vec<_> = self::devices(&devices.disks, &[], START).collect();
    all.extend(devices.filesystems.iter().filter_map(|filesystem| {
        let source = filesystem.source.as_ref()?;
        named("fs", START, source.dir.clone().or_else(|| source.file.clone()))
    }));
    all.extend(nets(&devices.interfaces, START));
    let serials = devices.serials.iter().map(|serial| &serial.chardev);
    let parallels = devices.parallels.iter().map(|parallel| &parallel.chardev);
    let channels = devices.channels.iter().map(|channel| &channel.chardev);
    // The first console is a serial port's other name.
    let consoles =
        devices.consoles.iter().filter(|console| console.is_virtio()).map(|console| &console.chardev);
    let chardevs = serials.chain(parallels).chain(channels).chain(consoles);
    all.extend(chardevs.filter_map(|chardev| named("chardev", START, path(chardev))));
    all.extend(devices.rngs.iter().filter_map(|rng| named("rng", START, random(rng))));
    all.push(count("mem", START, 0, domain.memory.as_ref().map_or(0, GuestMemory::kib)));
    let (current, _) = crate::vcpus::counts(domain);
    all.push(count("vcpu", START, 0, current.into()));
    all
}
