//! `<network>`: a virtual network.

use virtwire_protocol::error::{ErrorCode, ErrorDomain, VirtError};

use crate::domain::{Domain, MetadataKind};
use uuid::Uuid;

use crate::domain::Metadata;
use crate::domain::net::{Bandwidth, InterfaceMac, InterfaceRoute, Mtu, PortOptions, VirtualPort, Vlan};
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// How guests reach the world.
    pub enum ForwardMode {
        Nat = "nat", None = "none", Route = "route", Open = "open", Bridge = "bridge", Private = "private",
        Vepa = "vepa", Passthrough = "passthrough", Hostdev = "hostdev",
    }
    /// Who teaches a bridge its addresses.
    pub enum MacTableManager { Kernel = "kernel", Libvirt = "libvirt", _ = "default" }
    /// What a lease's time is counted in.
    pub enum LeaseUnit { Minutes = "minutes", Seconds = "seconds", Hours = "hours" }
}

element! {
    /// `<network>`.
    pub struct Network {
        attr connections if live: Option<u32>;
        attr ipv6: Option<YesNo>;
        attr trust_guest_rx_filters "trustGuestRxFilters": Option<YesNo>;
        attr xmlns_dnsmasq "xmlns:dnsmasq": Option<String>;
        leaf name: String;
        leaf uuid: Option<Uuid> => NETWORK.internal_error "malformed uuid element";
        leaf title: Option<String>;
        leaf description: Option<String>;
        child metadata: Option<Metadata>;
        kept forward: Option<Forward>;
        child bridge: Option<Bridge>;
        child mtu: Option<Mtu>;
        child mac: Option<InterfaceMac>;
        child domain: Option<DnsDomain>;
        child dns: Option<Dns>;
        child vlan: Option<Vlan>;
        child bandwidth: Option<Bandwidth>;
        child port: Option<PortOptions>;
        pair ips "ip": Vec<NetworkIp>;
        child routes "route": Vec<InterfaceRoute>;
        child virtualport: Option<VirtualPort>;
        child portgroups "portgroup": Vec<Portgroup>;
        child dnsmasq_options "dnsmasq:options": Option<DnsmasqOptions>;
    }

    /// `<forward>`.
    pub struct Forward {
        attr dev: Option<String>;
        attr_default mode: ForwardMode => NETWORK.config_unsupported "unknown forwarding type '{}'";
        attr managed: Option<YesNo>;
        child driver: Option<ForwardDriver>;
        child nat: Option<ForwardNat>;
        child pf: Vec<ForwardDevice>;
        child interface: Vec<ForwardDevice>;
        child address: Vec<crate::domain::device::Address>;
    }

    /// `<driver>` of a forward.
    pub struct ForwardDriver {
        attr name: Option<String>;
        attr model: Option<String>;
    }

    /// `<nat>`.
    pub struct ForwardNat {
        attr ipv6: Option<YesNo>;
        child address: Option<AddressRange>;
        child port: Option<NatPort>;
    }

    /// `<address>` of NAT.
    pub struct AddressRange {
        attr start: Option<String>;
        attr end: Option<String>;
    }

    /// `<port>` of NAT.
    pub struct NatPort {
        attr start: u32;
        attr end: u32;
    }

    /// `<pf>` or `<interface>` of a forward.
    pub struct ForwardDevice {
        attr dev: Option<String>;
        attr connections if live: Option<u32>;
    }

    /// `<bridge>`.
    pub struct Bridge {
        attr name: Option<String>;
        attr zone: Option<String>;
        attr stp: Option<OnOff>;
        attr delay: Option<u64>;
        attr mac_table_manager "macTableManager": Option<MacTableManager>;
    }

    /// `<domain>`: the DNS domain.
    pub struct DnsDomain {
        attr name: Option<String>;
        attr local_only "localOnly": Option<YesNo>;
        attr register: Option<YesNo>;
    }

    /// `<dns>`.
    pub struct Dns {
        attr enable: Option<YesNo>;
        attr forward_plain_names "forwardPlainNames": Option<YesNo>;
        child forwarders "forwarder": Vec<Forwarder>;
        child txts "txt": Vec<DnsTxt>;
        child srvs "srv": Vec<DnsSrv>;
        child hosts "host": Vec<DnsHost>;
    }

    /// `<forwarder>`.
    pub struct Forwarder {
        attr domain: Option<String>;
        attr addr: Option<String>;
    }

    /// `<txt>`.
    pub struct DnsTxt {
        attr name: Option<String>;
        attr value: Option<String>;
    }

    /// `<srv>`.
    pub struct DnsSrv {
        attr service: Option<String>;
        attr protocol: Option<String>;
        attr domain: Option<String>;
        attr target: Option<String>;
        attr port: Option<u32>;
        attr priority: Option<u32>;
        attr weight: Option<u32>;
    }

    /// `<host>` of DNS.
    pub struct DnsHost {
        attr ip: Option<String>;
        leaf hostname: Vec<String>;
    }

    /// `<ip>` of a network.
    pub struct NetworkIp {
        attr family: Option<String>;
        attr address: Option<String>;
        attr netmask: Option<String>;
        attr prefix: Option<u32>;
        attr local_ptr "localPtr": Option<YesNo>;
        child tftp: Option<Tftp>;
        child dhcp: Option<Dhcp>;
    }

    /// `<tftp>`.
    pub struct Tftp {
        attr root: Option<String>;
    }

    /// `<dhcp>`.
    pub struct Dhcp {
        child ranges "range": Vec<DhcpRange>;
        child hosts "host": Vec<DhcpHost>;
        child bootp: Option<Bootp>;
    }

    /// `<range>` of DHCP.
    pub struct DhcpRange {
        attr start: Option<String>;
        attr end: Option<String>;
        child lease: Option<DhcpLease>;
    }

    /// `<host>` of DHCP.
    pub struct DhcpHost {
        attr id: Option<String>;
        attr mac: Option<String>;
        attr name: Option<String>;
        attr ip: Option<String>;
        child lease: Option<DhcpLease>;
    }

    /// `<lease>`: how long.
    pub struct DhcpLease {
        attr expiry: u64;
        attr unit: Option<LeaseUnit>;
    }

    /// `<bootp>`.
    pub struct Bootp {
        attr file: Option<String>;
        attr server: Option<String>;
    }

    /// `<portgroup>`.
    pub struct Portgroup {
        attr name: Option<String>;
        attr default: Option<YesNo>;
        attr trust_guest_rx_filters "trustGuestRxFilters": Option<YesNo>;
        child vlan: Option<Vlan>;
        child virtualport: Option<VirtualPort>;
        child bandwidth: Option<Bandwidth>;
        child port: Option<PortOptions>;
    }

    /// `<dnsmasq:options>`.
    pub struct DnsmasqOptions {
        child option "dnsmasq:option": Vec<DnsmasqOption>;
    }

    /// `<dnsmasq:option>`.
    pub struct DnsmasqOption {
        attr value: String;
    }
}

/// What a network says about itself is read and written as that of a guest.
fn as_guest(network: &Network) -> Domain {
    Domain {
        title: network.title.clone(),
        description: network.description.clone(),
        metadata: network.metadata.clone(),
        ..Domain::default()
    }
}

/// The same error, as one about a network.
fn of_network(error: VirtError) -> VirtError {
    if error.code == ErrorCode::NO_DOMAIN_METADATA {
        return ErrorDomain::NETWORK.no_network_metadata("Requested metadata element is not present");
    }
    VirtError { domain: ErrorDomain::NETWORK, ..error }
}

impl Network {
    /// A piece of metadata, as [`Domain::metadata_of`].
    ///
    /// # Errors
    /// `VIR_ERR_NO_NETWORK_METADATA` if there is none.
    pub fn metadata_of(&self, kind: MetadataKind, uri: &str) -> Result<String, VirtError> {
        as_guest(self).metadata_of(kind, uri).map_err(of_network)
    }

    /// Changes or removes a piece of metadata, as [`Domain::set_metadata`].
    ///
    /// # Errors
    /// Bad arguments or bad XML.
    pub fn set_metadata(
        &mut self,
        kind: MetadataKind,
        value: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
    ) -> Result<(), VirtError> {
        let mut changed = as_guest(self);
        changed.set_metadata(kind, value, key, uri).map_err(of_network)?;
        self.title = changed.title;
        self.description = changed.description;
        self.metadata = changed.metadata;
        Ok(())
    }
}
