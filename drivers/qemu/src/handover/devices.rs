//! What a status file says of devices that a definition does not: their names in QEMU, and into what interfaces of networks
//! are plugged.

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskSource};
use virtwire_conf::domain::net::{Actual, Interface, InterfaceSource, InterfaceType};
use virtwire_conf::domain::private::{DiskPrivate, NodeName, NodeNames, QomName, SourcePrivate};

use crate::argv::alias;
use crate::argv::storage::{chain, copy_on_read};

/// The definition of a run as a status file has it. What a client has written there itself does not count.
pub(crate) fn told(domain: &Domain) -> Domain {
    let mut domain = domain.clone();
    domain.devices.disks.iter_mut().for_each(name_nodes);
    domain.devices.interfaces.iter_mut().for_each(plugged);
    domain
}

/// The definition of a run, out of a status file.
pub(crate) fn understood(domain: &mut Domain) {
    for disk in &mut domain.devices.disks {
        disk.private = None;
        sources(disk).for_each(|source| source.private = None);
    }
    domain.devices.interfaces.iter_mut().for_each(unplugged);
}

/// The images of a disk, its own first.
fn sources(disk: &mut Disk) -> impl Iterator<Item = &mut DiskSource> {
    let mut below = disk.backing_store.as_deref_mut();
    let behind = std::iter::from_fn(move || {
        let store = below.take()?;
        below = store.backing_store.as_deref_mut();
        store.source.as_mut()
    });
    disk.source.as_mut().into_iter().chain(behind)
}

fn name_nodes(disk: &mut Disk) {
    let images: Vec<SourcePrivate> = chain(disk).iter().map(|image| image.private()).collect();
    let mut images = images.into_iter();
    sources(disk).for_each(|source| source.private = images.next());
    let filter = copy_on_read(disk).filter(|_| disk.source.is_some());
    let node = |name| NodeName { type_: "copyOnRead".to_owned(), name };
    disk.private = Some(DiskPrivate {
        qom: Some(QomName { name: front(disk) }),
        nodenames: filter.map(|name| NodeNames { nodename: vec![node(name)] }),
    });
}

/// The guest's end of a disk, by which QEMU knows the drive.
fn front(disk: &Disk) -> String {
    let alias = alias(&disk.info);
    match disk.target.as_ref().and_then(|target| target.bus) {
        Some(DiskBus::Virtio) => format!("/machine/peripheral/{alias}/virtio-backend"),
        Some(DiskBus::Usb) => format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]"),
        _ => alias.to_owned(),
    }
}

/// An interface that has a port of a network is one of that network, whatever it is plugged into.
fn plugged(interface: &mut Interface) {
    interface.actual = None;
    let Some(source) = interface.source.as_mut().filter(|source| source.portid.is_some()) else { return };
    let own = InterfaceSource {
        network: source.network.take(),
        portid: source.portid.take(),
        portgroup: source.portgroup.take(),
        ..InterfaceSource::default()
    };
    interface.actual = Some(Actual {
        type_: interface.type_,
        source: Some(std::mem::replace(source, own)),
        vlan: interface.vlan.clone(),
        virtualport: interface.virtualport.clone(),
        bandwidth: interface.bandwidth.clone(),
        port: interface.port.clone(),
    });
    interface.type_ = InterfaceType::Network;
}

fn unplugged(interface: &mut Interface) {
    let Some(actual) = interface.actual.take() else { return };
    let source = interface.source.get_or_insert_default();
    let own = actual.source.unwrap_or_default();
    source.bridge = own.bridge;
    source.dev = own.dev;
    source.mode = own.mode;
    source.pci = own.pci;
    interface.type_ = actual.type_;
    interface.vlan = actual.vlan.or(interface.vlan.take());
    interface.virtualport = actual.virtualport.or(interface.virtualport.take());
    interface.bandwidth = actual.bandwidth.or(interface.bandwidth.take());
    interface.port = actual.port.or(interface.port.take());
}

#[cfg(test)]
mod tests {
    use virtwire_conf::{FormatOptions, ParseOptions};

    use super::*;

    const DOMAIN: &str = "<domain type='kvm' id='1'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>
        <disk type='file' device='disk'><driver name='qemu' type='qcow2' copy_on_read='on'/>
          <source file='/a' index='2'><privateData><nodenames><nodename type='x' name='y'/></nodenames></privateData></source>
          <backingStore type='file' index='3'><format type='raw'/><source file='/b'/><backingStore/></backingStore>
          <target dev='sda' bus='usb'/><alias name='usb-disk0'/></disk>
        <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><alias name='ide0-0-0'/></disk>
        <interface type='bridge'><source network='n' portid='11111111-2222-3333-4444-555555555555' bridge='br0'/></interface>
        <interface type='bridge'><source bridge='br1'/></interface>
        </devices></domain>";

    #[test]
    fn what_is_told_is_understood_and_clients_have_no_say_in_it() {
        let mut domain = Domain::parse(DOMAIN, &ParseOptions::default()).unwrap();
        let told = told(&domain);
        let options = FormatOptions { status: true, ..FormatOptions::default() };
        let text = told.to_xml(&options);
        for part in [
            "<nodename type='storage' name='libvirt-2-storage'/>",
            "<nodename type='format' name='libvirt-2-format'/>",
            "<nodename type='storage' name='libvirt-3-storage'/>",
            "<nodename type='copyOnRead' name='libvirt-CoR-sda'/>",
            "<qom name='/machine/peripheral/usb-disk0/usb-disk0.0/legacy[0]'/>",
            "<qom name='ide0-0-0'/>",
            "<interface type='network'>\n      <source network='n' portid='11111111-2222-3333-4444-555555555555'/>\n      \
             <actual type='bridge'>\n        <source bridge='br0'/>\n      </actual>",
            "<interface type='bridge'>\n      <source bridge='br1'/>\n    </interface>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("'y'") && !domain.to_xml(&FormatOptions::default()).contains("privateData"));

        let mut again = Domain::parse(&text, &ParseOptions::default()).unwrap();
        understood(&mut again);
        understood(&mut domain);
        assert_eq!(again, domain);
    }
}
