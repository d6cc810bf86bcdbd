//! `<interface>`: network cards.

use uuid::Uuid;

use crate::domain::device::{Address, DeviceInfo, VirtioOptions};
use crate::domain::disk::Reconnect;
use crate::table::Mac;
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// How a card is connected.
    pub enum InterfaceType {
        User = "user", Ethernet = "ethernet", Vhostuser = "vhostuser", Server = "server", Client = "client",
        Mcast = "mcast", Network = "network", Bridge = "bridge", Internal = "internal", Direct = "direct",
        Hostdev = "hostdev", Udp = "udp", Vdpa = "vdpa", Null = "null", Vds = "vds",
    }
    /// How a macvtap device talks to its siblings.
    pub enum DirectMode { Vepa = "vepa", Private = "private", Bridge = "bridge", Passthrough = "passthrough" }
    /// A cable.
    pub enum LinkState { Up = "up", Down = "down", _ = "" }
    /// Which half of a failover pair.
    pub enum TeamingType { Persistent = "persistent", Transient = "transient" }
    /// Who moves a card's packets on the host.
    pub enum PacketDriver { Qemu = "qemu", Vhost = "vhost", _ = "vfio", _ = "kvm", _ = "xen" }
    /// Who lends a device of the host.
    pub enum Lender { Vfio = "vfio", Kvm = "kvm", Xen = "xen", _ = "qemu", _ = "vhost" }
    /// How a VLAN is carried.
    pub enum NativeMode { Tagged = "tagged", Untagged = "untagged" }
}

element! {
    /// `<interface>` of a guest.
    pub struct Interface {
        attr_default type_ "type": InterfaceType;
        loose managed: Option<YesNo>;
        attr trust_guest_rx_filters "trustGuestRxFilters": Option<YesNo>;
        child mac: Option<InterfaceMac>;
        child host_driver "driver": Option<HostDriver>;
        child source: Option<InterfaceSource>;
        child actual if status: Option<Actual>;
        child vlan: Option<Vlan>;
        child virtualport: Option<VirtualPort>;
        child bandwidth: Option<Bandwidth>;
        child port: Option<PortOptions>;
        child ip: Vec<InterfaceIp>;
        child route: Vec<InterfaceRoute>;
        child port_forward "portForward": Vec<PortForward>;
        child script: Option<ScriptPath>;
        child downscript: Option<ScriptPath>;
        child backenddomain: Option<BackendDomainName>;
        child target: Option<InterfaceTarget>;
        child guest: Option<InterfaceTarget>;
        child model: Option<InterfaceModel>;
        child driver: Option<InterfaceDriver>;
        child backend: Option<InterfaceBackend>;
        child filterref: Option<FilterRef>;
        child tune: Option<InterfaceTune>;
        child teaming: Option<Teaming>;
        child link: Option<InterfaceLink>;
        child mtu: Option<Mtu>;
        child coalesce: Option<Coalesce>;
        flat info: DeviceInfo;
    }

    /// `<mac>`.
    pub struct InterfaceMac {
        attr address: Option<Mac>;
        attr type_ "type": Option<String> | "generated" | "static";
        attr check: Option<String> | "yes" | "no";
    }

    /// `<driver>` of an interface that is a device of the host: who lends it.
    pub struct HostDriver {
        attr name: Option<Lender>;
        attr model: Option<String>;
    }

    /// `<source>` of an interface; which attributes count depends on its type.
    pub struct InterfaceSource {
        attr type_ "type": Option<String>;
        attr network: Option<String>;
        attr portgroup: Option<String>;
        loose portid if live: Option<Uuid>;
        attr bridge: Option<String>;
        attr name: Option<String>;
        attr dev: Option<String>;
        attr path: Option<String>;
        attr mode: Option<String>;
        attr address: Option<String>;
        attr port: Option<u32>;
        attr switchid: Option<String>;
        loose switch_port "portid": Option<i64>;
        attr portgroupid: Option<String>;
        attr connectionid: Option<i64>;
        child pci "address": Option<Address>;
        child reconnect: Option<Reconnect>;
        child ip: Vec<InterfaceIp>;
        child route: Vec<InterfaceRoute>;
        child local: Option<LocalAddress>;
    }

    /// `<actual>`: into what an interface of a network is plugged.
    pub struct Actual {
        attr_default type_ "type": InterfaceType;
        child source: Option<InterfaceSource>;
        child vlan: Option<Vlan>;
        child virtualport: Option<VirtualPort>;
        child bandwidth: Option<Bandwidth>;
        child port: Option<PortOptions>;
    }

    /// `<local>`: the near end of a socket.
    pub struct LocalAddress {
        attr address: Option<String>;
        attr port: Option<u32>;
    }

    /// `<ip>`.
    pub struct InterfaceIp {
        attr address: Option<String>;
        attr family: Option<String>;
        attr prefix: Option<u32> => DOMAIN.xml_error "Invalid prefix value '{}' in <ip>";
        attr peer: Option<String>;
    }

    /// `<route>`.
    pub struct InterfaceRoute {
        attr family: Option<String>;
        attr address: Option<String>;
        attr netmask: Option<String>;
        attr prefix: Option<u32>;
        attr gateway: Option<String>;
        attr metric: Option<u32>;
    }

    /// A script.
    pub struct ScriptPath {
        attr path: Option<String>;
    }

    /// `<backenddomain>`.
    pub struct BackendDomainName {
        attr name: Option<String>;
    }

    /// `<target>` or `<guest>` of an interface.
    pub struct InterfaceTarget {
        attr dev: Option<String>;
        attr managed: Option<YesNo>;
        attr actual: Option<String>;
    }

    /// `<virtualport>`.
    pub struct VirtualPort {
        attr type_ "type": Option<String>;
        child parameters: Option<VirtualPortParameters>;
    }

    /// `<parameters>` of a virtual port.
    pub struct VirtualPortParameters {
        attr managerid: Option<u32> => NONE.xml_error "cannot parse value of managerid parameter";
        attr typeid: Option<u32> => NONE.xml_error "cannot parse value of typeid parameter";
        attr typeidversion: Option<u32> => NONE.xml_error "cannot parse value of typeidversion parameter";
        attr instanceid: Option<Uuid> => NONE.xml_error "cannot parse instanceid parameter as a uuid";
        attr interfaceid: Option<Uuid> => NONE.xml_error "cannot parse interfaceid parameter as a uuid";
        attr profileid: Option<String>;
    }

    /// `<vlan>`.
    pub struct Vlan {
        attr trunk: Option<YesNo>;
        child tag: Vec<VlanTag>;
    }

    /// `<tag>` of a VLAN.
    pub struct VlanTag {
        attr id: u32;
        attr native_mode "nativeMode": Option<NativeMode>;
    }

    /// `<bandwidth>`: kilobytes a second.
    pub struct Bandwidth {
        attr class_id "classID": Option<u32>;
        child inbound: Option<Rate>;
        child outbound: Option<Rate>;
    }

    /// `<inbound>` or `<outbound>`.
    pub struct Rate {
        attr average: Option<u64>;
        attr peak: Option<u64>;
        attr floor: Option<u64>;
        attr burst: Option<u64>;
    }

    /// `<port>`: bridge port options.
    pub struct PortOptions {
        attr isolated: Option<YesNo>;
    }

    /// `<model>` of an interface.
    pub struct InterfaceModel {
        attr type_ "type": Option<String>;
    }

    /// `<driver>` of an interface.
    pub struct InterfaceDriver {
        attr name: Option<PacketDriver>;
        attr txmode: Option<String> | "iothread" | "timer";
        attr ioeventfd: Option<OnOff>;
        attr event_idx: Option<OnOff>;
        attr queues: Option<u32>;
        attr rx_queue_size: Option<u32>;
        attr tx_queue_size: Option<u32>;
        attr rss: Option<OnOff>;
        attr rss_hash_report: Option<OnOff>;
        flat virtio: VirtioOptions;
        child host: Option<HostOffloads>;
        child guest: Option<GuestOffloads>;
    }

    /// `<host>`: offloads of the host's side.
    pub struct HostOffloads {
        attr csum: Option<OnOff>;
        attr gso: Option<OnOff>;
        attr tso4: Option<OnOff>;
        attr tso6: Option<OnOff>;
        attr ecn: Option<OnOff>;
        attr ufo: Option<OnOff>;
        attr mrg_rxbuf: Option<OnOff>;
    }

    /// `<guest>`: offloads of the guest's side.
    pub struct GuestOffloads {
        attr csum: Option<OnOff>;
        attr tso4: Option<OnOff>;
        attr tso6: Option<OnOff>;
        attr ecn: Option<OnOff>;
        attr ufo: Option<OnOff>;
    }

    /// `<backend>` of an interface.
    pub struct InterfaceBackend {
        attr type_ "type": Option<String> | "default" | "passt";
        attr tap: Option<String>;
        attr vhost: Option<String>;
        attr log_file "logFile": Option<String>;
    }

    /// `<portForward>`.
    pub struct PortForward {
        attr proto: String | "tcp" | "udp";
        attr address: Option<String>;
        attr dev: Option<String>;
        child range: Vec<PortRange>;
    }

    /// `<range>` of forwarded ports.
    pub struct PortRange {
        attr start: Option<u32>;
        attr end: Option<u32>;
        attr to: Option<u32>;
        attr exclude: Option<YesNo>;
    }

    /// `<filterref>`.
    pub struct FilterRef {
        attr filter: Option<String>;
        child parameter: Vec<FilterParameter>;
    }

    /// `<parameter>` of a filter.
    pub struct FilterParameter {
        attr_default name: String;
        attr_default value: String;
    }

    /// `<tune>`.
    pub struct InterfaceTune {
        leaf sndbuf: Option<u64> => DOMAIN.xml_error "sndbuf must be a positive integer";
    }

    /// `<link>`.
    pub struct InterfaceLink {
        attr state: Option<LinkState> => DOMAIN.config_unsupported "unknown interface link state '{}'";
    }

    /// `<mtu>`.
    pub struct Mtu {
        attr size: Option<u32> => DOMAIN.xml_error "malformed mtu size";
    }

    /// `<coalesce>`.
    pub struct Coalesce {
        child rx: Option<CoalesceRx>;
    }

    /// `<rx>`.
    pub struct CoalesceRx {
        child frames: Option<CoalesceFrames>;
    }

    /// `<frames>`.
    pub struct CoalesceFrames {
        attr max: Option<u32> => DOMAIN.xml_detail "cannot parse value '{}' for coalesce parameter";
    }

    /// `<teaming>`.
    pub struct Teaming {
        attr type_ "type": TeamingType => DOMAIN.config_unsupported "unknown teaming type '{}'",
            DOMAIN.config_unsupported "unknown teaming type '(null)'";
        attr persistent: Option<String>;
    }
}
