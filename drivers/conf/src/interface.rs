//! `<interface>`: a network interface of the host.

use crate::domain::net::Mtu;
use crate::{OnOff, element, keywords};

keywords! {
    /// What kind of interface.
    pub enum HostInterfaceType { Ethernet = "ethernet", Bridge = "bridge", Bond = "bond", Vlan = "vlan" }
    /// When it is started.
    pub enum StartMode { None = "none", Onboot = "onboot", Hotplug = "hotplug" }
}

element! {
    /// `<interface>` of the host.
    pub struct Interface {
        attr type_ "type": HostInterfaceType;
        attr name: Option<String>;
        child start: Option<Start>;
        child mtu: Option<Mtu>;
        child protocols "protocol": Vec<HostProtocol>;
        child bridge: Option<HostBridge>;
        child bond: Option<HostBond>;
        child vlan: Option<HostVlan>;
        child link: Option<HostLink>;
        child mac: Option<HostMac>;
    }

    /// `<start>`.
    pub struct Start {
        attr mode: StartMode => INTERFACE.xml_error "unknown interface startmode {}";
    }

    /// `<mac>`.
    pub struct HostMac {
        attr address: Option<String>;
    }

    /// `<link>`.
    pub struct HostLink {
        attr speed: Option<u32>;
        attr state: Option<String>;
    }

    /// `<protocol>`: addresses of one family.
    pub struct HostProtocol {
        attr family: String;
        flag autoconf;
        kept dhcp: Option<HostDhcp>;
        child ips "ip": Vec<HostIp>;
        child routes "route": Vec<HostRoute>;
    }

    /// `<dhcp>`.
    pub struct HostDhcp {
        attr peerdns: Option<String>;
    }

    /// `<ip>`.
    pub struct HostIp {
        attr address: Option<String>;
        attr prefix: Option<u32>;
    }

    /// `<route>`.
    pub struct HostRoute {
        attr gateway: Option<String>;
    }

    /// `<bridge>`.
    pub struct HostBridge {
        attr stp: Option<OnOff>;
        attr delay: Option<String>;
        child interfaces "interface": Vec<Interface>;
    }

    /// `<bond>`.
    pub struct HostBond {
        attr mode: Option<String>;
        child miimon: Option<Miimon>;
        child arpmon: Option<Arpmon>;
        child interfaces "interface": Vec<Interface>;
    }

    /// `<miimon>`.
    pub struct Miimon {
        attr freq: Option<u32>;
        attr downdelay: Option<u32>;
        attr updelay: Option<u32>;
        attr carrier: Option<String>;
    }

    /// `<arpmon>`.
    pub struct Arpmon {
        attr interval: Option<u32>;
        attr target: Option<String>;
        attr validate: Option<String>;
    }

    /// `<vlan>`.
    pub struct HostVlan {
        attr tag: Option<String>;
        child interface: Option<VlanInterface>;
    }

    /// `<interface>` below a VLAN.
    pub struct VlanInterface {
        attr name: Option<String>;
    }
}
