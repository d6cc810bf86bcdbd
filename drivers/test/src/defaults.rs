//! What there is in `test:///default`: one of each.

use virtwire_conf::{NodeDevice, ParseOptions, StoragePool};

use crate::domain::guest::{Definition, Guest};
use crate::domain::state::{State, Status};
use crate::error::Result;
use crate::host::Host;
use crate::interface::Interface;
use crate::network::Network;
use crate::node::Node;
use crate::nodedev::Device;
use crate::storage::Pool;

const GUEST: &str = "<domain type='test'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/guest/diskimage1'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </disk>
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/>
    </interface>
    <memballoon model='virtio'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>
    </memballoon>
  </devices>
</domain>";

const NETWORK: &str = "<network>
  <name>default</name>
  <uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid>
  <bridge name='virbr0'/>
  <forward/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.254'/>
    </dhcp>
  </ip>
</network>";

const INTERFACE: &str = "<interface type='ethernet' name='eth1'>
  <start mode='onboot'/>
  <mac address='aa:bb:cc:dd:ee:ff'/>
  <mtu size='1492'/>
  <protocol family='ipv4'>
    <ip address='192.168.0.5' prefix='24'/>
    <route gateway='192.168.0.1'/>
  </protocol>
</interface>";

const POOL: &str = "<pool type='dir'>
  <name>default-pool</name>
  <uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>
  <target>
    <path>/default-pool</path>
  </target>
</pool>";

const COMPUTER: &str = "<device>
  <name>computer</name>
  <capability type='system'>
    <hardware>
      <vendor>Libvirt</vendor>
      <version>Test driver</version>
      <serial>123456</serial>
      <uuid>11111111-2222-3333-4444-555555555555</uuid>
    </hardware>
    <firmware>
      <vendor>Libvirt</vendor>
      <version>Test Driver</version>
      <release_date>01/22/2007</release_date>
    </firmware>
  </capability>
</device>";

/// A Fibre Channel adapter.
struct Adapter {
    name: &'static str,
    parent: &'static str,
    host: u32,
    wwnn: &'static str,
    wwpn: &'static str,
    fabric: &'static str,
    vports: bool,
}

const ADAPTERS: [Adapter; 3] = [
    Adapter {
        name: "scsi_host1",
        parent: "computer",
        host: 1,
        wwnn: "2000000012341234",
        wwpn: "1000000012341234",
        fabric: "2000000043214321",
        vports: true,
    },
    Adapter {
        name: "scsi_host2",
        parent: "computer",
        host: 2,
        wwnn: "2000000056785678",
        wwpn: "1000000056785678",
        fabric: "2000000087658765",
        vports: true,
    },
    Adapter {
        name: "scsi_host11",
        parent: "scsi_host1",
        host: 11,
        wwnn: "2000000034563456",
        wwpn: "1000000034563456",
        fabric: "2000000043214321",
        vports: false,
    },
];

impl Adapter {
    fn xml(&self) -> String {
        let vports = "<capability type='vport_ops'><max_vports>0</max_vports><vports>0</vports></capability>";
        format!(
            "<device><name>{}</name><parent>{}</parent><capability type='scsi_host'><host>{}</host>\
             <unique_id>{}</unique_id><capability type='fc_host'><wwnn>{}</wwnn><wwpn>{}</wwpn>\
             <fabric_wwn>{}</fabric_wwn></capability>{}</capability></device>",
            self.name,
            self.parent,
            self.host,
            self.host - 1,
            self.wwnn,
            self.wwpn,
            self.fabric,
            if self.vports { vports } else { "" }
        )
    }
}

/// The host of `test:///default`.
pub(crate) fn host() -> Result<Host> {
    let options = ParseOptions::test();
    let mut host = Host::new(Node::with_cells());
    let id = host.next_id();
    host.guests.insert(Guest::running(id, Definition::parse(GUEST)?, Status::unknown(State::RUNNING)));
    host.networks.insert(Network::started(virtwire_conf::Network::parse(NETWORK, &options)?));
    host.interfaces.insert(Interface::new(virtwire_conf::Interface::parse(INTERFACE, &options)?, true));
    host.pools.insert(Pool::started(StoragePool::parse(POOL, &options)?));
    host.devices.insert(Device::new(NodeDevice::parse(COMPUTER, &options)?));
    for adapter in &ADAPTERS {
        host.devices.insert(Device::new(NodeDevice::parse(&adapter.xml(), &options)?));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Object;

    #[test]
    fn one_of_each() {
        let host = host().unwrap();
        assert_eq!(host.guests.names(true, 9).collect::<Vec<_>>(), ["test"]);
        assert_eq!(host.networks.names(true, 9).collect::<Vec<_>>(), ["default"]);
        assert_eq!(host.interfaces.names(true, 9).collect::<Vec<_>>(), ["eth1"]);
        assert_eq!(host.pools.names(true, 9).collect::<Vec<_>>(), ["default-pool"]);
        let devices: Vec<_> = host.devices.iter().map(Object::name).collect();
        assert_eq!(devices, ["computer", "scsi_host1", "scsi_host2", "scsi_host11"]);
    }
}
