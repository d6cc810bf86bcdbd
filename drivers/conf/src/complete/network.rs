//! Virtual networks: what is filled in, and what must be so.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Flavor, ParseOptions};
use crate::domain::net::{VirtualPort, Vlan};
use crate::network::{
    Bridge, Dhcp, DhcpHost, DhcpLease, DhcpRange, DnsHost, DnsSrv, DnsTxt, Forward, ForwardDevice,
    ForwardMode, LeaseUnit, NetworkIp, Portgroup,
};
use crate::table::Mac;
use crate::xml::namespace_of;
use crate::{Network, OnOff, YesNo};

const NETWORK: ErrorDomain = ErrorDomain::NETWORK;
const NONE: ErrorDomain = ErrorDomain::NONE;

type Result<T = (), E = VirtError> = std::result::Result<T, E>;

impl Network {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result {
        if matches!(options.flavor, Flavor::Plain) {
            return Ok(());
        }
        if self.name.is_empty() {
            return Err(NETWORK.no_name(""));
        }
        if let Some(bad) = self.name.chars().find(|c| matches!(c, '/' | '\n')) {
            return Err(ErrorDomain::XML.xml_detail(format_args!("invalid char in name: {bad}")));
        }
        self.xmlns_dnsmasq = namespace_of("dnsmasq").filter(|_| self.dnsmasq_options.is_some());
        self.uuid.get_or_insert_with(Uuid::new_v4);
        let mode = self.forward.as_ref().map(|f| f.mode);
        self.check()?;
        self.check_addresses()?;
        let own_bridge =
            matches!(mode, None | Some(ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open));
        if own_bridge {
            let bridge = self.bridge.get_or_insert_with(Bridge::default);
            bridge.stp.get_or_insert(OnOff::On);
            bridge.delay.get_or_insert(0);
            if matches!(options.flavor, Flavor::Qemu(_)) {
                let mac = self.mac.get_or_insert_default();
                mac.address.get_or_insert_with(|| Mac::random([0x52, 0x54, 0x00]));
            }
        }
        if let Some(forward) = &mut self.forward {
            match (&forward.dev, forward.interface.first()) {
                (None, Some(first)) => forward.dev.clone_from(&first.dev),
                (Some(dev), None) => {
                    forward
                        .interface
                        .push(ForwardDevice { dev: Some(dev.clone()), ..ForwardDevice::default() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What DHCP and DNS tell: each entry must be complete.
    fn check_addresses(&mut self) -> Result {
        // That it is not wanted is not said.
        self.ipv6 = self.ipv6.filter(|wanted| *wanted == YesNo::Yes);
        let name = &self.name;
        for ip in &mut self.ips {
            let network = ip.clone();
            let Some(dhcp) = &mut ip.dhcp else { continue };
            for range in &mut dhcp.ranges {
                check_range(range, &network, name)?;
            }
            for host in &mut dhcp.hosts {
                check_host(host, &network, name, false)?;
            }
        }
        let Some(dns) = &mut self.dns else { return Ok(()) };
        dns.txts.iter().try_for_each(|txt| check_txt(txt, name, false))?;
        dns.hosts.iter_mut().try_for_each(|host| check_dns_host(host, name, false))?;
        dns.srvs.iter().try_for_each(|srv| check_srv(srv, name, false))
    }

    /// What must be so of a network as a whole.
    pub(crate) fn check(&self) -> Result {
        let name = &self.name;
        self.ips.iter().try_for_each(|ip| check_ip(ip, name))?;
        let plain = Forward { mode: ForwardMode::None, ..Forward::default() };
        let forward = self.forward.as_ref().unwrap_or(&plain);
        let mode = forward.mode;
        let bridge = self.bridge.clone().unwrap_or_default();
        let tuned = bridge.stp.is_some() || bridge.delay.is_some() || bridge.zone.is_some();
        let foreign = !OWN_BRIDGE.contains(&mode);
        let dns = self.dns.clone().unwrap_or_default();
        let told = !(dns.forwarders.is_empty()
            && dns.txts.is_empty()
            && dns.srvs.is_empty()
            && dns.hosts.is_empty());
        let dhcp = self
            .ips
            .iter()
            .filter(|ip| !is_ipv6(ip) && ip.dhcp.as_ref().is_some_and(|d| *d != Dhcp::default()));
        refuse! {
            self.title.as_deref().is_some_and(|title| title.contains('\n')) =>
                NETWORK.xml_error("Network title can't contain newlines");
            dns.enable == Some(YesNo::No) && told => NETWORK.xml_error("Extra data in disabled network '{name}'");
            matches!(mode, ForwardMode::Nat | ForwardMode::Route) && self.ips.is_empty() =>
                NETWORK.xml_error("{mode} forwarding requested, but no IP address provided for network '{name}'");
            mode == ForwardMode::Hostdev && bridge.name.is_some() =>
                NETWORK.xml_error("bridge name not allowed in hostdev mode (network '{name}')");
            mode == ForwardMode::Bridge && bridge.name.is_some() && !forward.interface.is_empty() => NETWORK.xml_error(
                "A network with forward mode='bridge' can specify a bridge name or a forward dev, but not both (network '{name}')"
            );
            foreign && tuned => NETWORK.xml_error(
                "bridge delay/stp/zone options only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')"
            );
            foreign && !self.ips.is_empty() =>
                NETWORK.config_unsupported("Unsupported <ip> element in network {name} with forward mode='{mode}'");
            foreign && self.domain.is_some() =>
                NETWORK.config_unsupported("Unsupported <domain> element in network {name} with forward mode='{mode}'");
            dhcp.count() > 1 => NETWORK.config_unsupported(
                "Multiple IPv4 dhcp sections found -- dhcp is supported only for a single IPv4 address on each network"
            );
        }
        check_forward(forward, name)?;
        self.check_portgroups()?;
        self.check_vlans(mode)
    }

    fn check_portgroups(&self) -> Result {
        let (name, mut names) = (&self.name, BTreeSet::new());
        let mut default: Option<&str> = None;
        for group in &self.portgroups {
            let Some(label) = group.name.as_deref() else {
                return Err(NETWORK.xml_error("Missing required name attribute in portgroup"));
            };
            let is_default = group.default == Some(YesNo::Yes);
            refuse! {
                !names.insert(label) => NETWORK.config_unsupported(
                    "multiple <portgroup> elements with the same name ({label}) in network '{name}'"
                );
                is_default && default.is_some() => NETWORK.config_unsupported(
                    "network '{name}' has multiple default <portgroup> elements ({} and {label}), but only one default is allowed",
                    default.unwrap_or_default()
                );
            }
            default = default.or(Some(label).filter(|_| is_default));
        }
        Ok(())
    }

    /// Only some kinds of ports have tags.
    fn check_vlans(&self, mode: ForwardMode) -> Result {
        let open = |port: &VirtualPort| port.type_.as_deref() == Some("openvswitch");
        let general = matches!(mode, ForwardMode::Bridge | ForwardMode::Hostdev | ForwardMode::Passthrough);
        let fits = |group: &Portgroup| match &group.virtualport {
            Some(port) => mode == ForwardMode::Bridge && open(port),
            None => general,
        };
        let groups = self.portgroups.iter().filter(|group| group.vlan.is_some());
        let bad = self.vlan.is_some() && !general || groups.clone().any(|group| !fits(group));
        let none = |vlan: &Vlan| vlan.tag.is_empty();
        let mut vlans = self.vlan.iter().chain(groups.filter_map(|group| group.vlan.as_ref()));
        let large = vlans.clone().flat_map(|vlan| &vlan.tag).map(|tag| tag.id).find(|id| *id > 4095);
        refuse! {
            vlans.any(none) =>
                NONE.xml_error("missing tag id - each <vlan> must have at least one <tag id='n'/> subelement");
            large.is_some() => NONE.xml_error("vlan tag id {} too large (maximum 4095)", large.unwrap_or_default());
            bad => NETWORK.config_unsupported(
                "<vlan> element specified for network {}, whose type doesn't support vlan configuration",
                self.name
            );
        }
        Ok(())
    }
}

/// Networks that have a bridge of their own.
const OWN_BRIDGE: [ForwardMode; 4] =
    [ForwardMode::None, ForwardMode::Nat, ForwardMode::Route, ForwardMode::Open];

/// Where packets go from here.
pub(crate) fn check_forward(forward: &Forward, name: &str) -> Result {
    let mut devices = BTreeSet::new();
    for dev in forward.interface.iter().filter_map(|i| i.dev.as_ref()) {
        refuse! {
            !devices.insert(dev) =>
                NETWORK.xml_error("interface '{dev}' can only be listed once in network {name}");
        }
    }
    let mode = forward.mode;
    let first = forward.interface.first().and_then(|first| first.dev.as_deref()).unwrap_or_default();
    let nat = forward.nat.clone().unwrap_or_default();
    refuse! {
        mode == ForwardMode::Open && (forward.dev.is_some() || !forward.interface.is_empty()) =>
            NETWORK.xml_error("forward dev not allowed for network '{name}' with forward mode='open'");
        forward.pf.len() > 1 => NETWORK.xml_error("Only one <pf> element is allowed in <forward> of network {name}");
        OWN_BRIDGE.contains(&mode) && forward.interface.len() > 1 =>
            NETWORK.xml_error("multiple forwarding interfaces specified for network '{name}', only one is supported");
        mode != ForwardMode::Hostdev && !forward.address.is_empty() => NETWORK.config_unsupported(
            "network '{name}' has forward mode '{mode}' but lists a device by PCI address in the device pool. This is only supported for networks with forward mode 'hostdev'"
        );
        mode == ForwardMode::Hostdev && !forward.interface.is_empty() => NETWORK.config_unsupported(
            "hostdev network '{name}' lists '{first}' in the device pool, but hostdev networks require all devices to be listed by PCI address, not network device name"
        );
        forward.nat.is_some() && mode != ForwardMode::Nat =>
            NETWORK.xml_error("The <nat> element can only be used when <forward> 'mode' is 'nat' in network {name}");
        nat.port.is_some_and(|port| port.end < port.start || port.end > 65535) => NETWORK.xml_detail(
            "Missing or invalid 'end' attribute in <port> in <nat> in <forward> in network {name}"
        );
    }
    let Some(range) = nat.address else { return Ok(()) };
    let end = |which: &str, text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        text.parse::<Ipv4Addr>().map_err(|_| {
            NETWORK.xml_error(format_args!(
                "Bad ipv4 {which} address '{text}' in <nat> in <forward> in network '{name}'"
            ))
        })
    };
    let (start, end) = (end("start", &range.start)?, end("end", &range.end)?);
    refuse! {
        start > end => NONE.internal_error("range {start} - {end} is reversed ");
    }
    Ok(())
}

/// An address of the host's on the network.
fn check_ip(ip: &NetworkIp, name: &str) -> Result {
    let address = ip.address.as_deref().unwrap_or_default();
    let parsed = address.parse::<IpAddr>();
    let family = ip.family.as_deref();
    let is_v6 = matches!(parsed, Ok(IpAddr::V6(_)));
    let mask = ip.netmask.as_deref();
    let prefix = ip.prefix.unwrap_or(0);
    refuse! {
        ip.address.is_none() => NETWORK.xml_error("Missing required address attribute in network '{name}'");
        parsed.is_err() => NETWORK.xml_error("Invalid address '{address}' in network '{name}'");
        !matches!(family, None | Some("ipv4" | "ipv6")) =>
            NETWORK.xml_error("Unrecognized family '{}' in network '{name}'", family.unwrap_or_default());
        family.is_none() && is_v6 =>
            NETWORK.config_unsupported("no family specified for non-IPv4 address '{address}' in network '{name}'");
        family == Some("ipv4") && is_v6 =>
            NETWORK.config_unsupported("IPv4 family specified for non-IPv4 address '{address}' in network '{name}'");
        family == Some("ipv6") && !is_v6 =>
            NETWORK.config_unsupported("Family 'ipv6' specified for non-IPv6 address '{address}' in network '{name}'");
        is_v6 && mask.is_some() =>
            NETWORK.config_unsupported("netmask not allowed for IPv6 address '{address}' in network '{name}'");
        mask.is_some_and(|mask| mask.parse::<Ipv4Addr>().is_err()) =>
            NETWORK.xml_error("Invalid netmask '{}' in network '{name}'", mask.unwrap_or_default());
        mask.is_some() && ip.prefix.is_some() =>
            NETWORK.config_unsupported("Network '{name}' IP address cannot have both a prefix and a netmask");
        !is_v6 && prefix > 32 => NETWORK.config_unsupported("Invalid IPv4 prefix '{prefix}' in network '{name}'");
        is_v6 && prefix > 128 => NETWORK.config_unsupported("Invalid IPv6 prefix '{prefix}' in network '{name}'");
    }
    Ok(())
}

/// The family of a network's address; IPv4 if nothing is said.
pub(crate) fn is_ipv6(ip: &NetworkIp) -> bool {
    ip.family.as_deref() == Some("ipv6") || ip.address.as_deref().is_some_and(|address| address.contains(':'))
}

fn parse(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        let error = std::io::Error::from_raw_os_error(2);
        let mut error = VirtError::system(NONE, &error, "");
        error.message = format!("Cannot parse socket address '{text}': Name or service not known");
        error
    })
}

/// A host that DHCP knows; `partial` is one that is only to be found.
pub(crate) fn check_host(host: &mut DhcpHost, ip: &NetworkIp, name: &str, partial: bool) -> Result {
    let version = if is_ipv6(ip) { "IPv6" } else { "IPv4" };
    let mac = host.mac.as_deref().unwrap_or_default();
    let parsed = Mac::parse_text(mac);
    let label = host.name.as_deref().unwrap_or("a");
    let known = host.name.is_some() || if is_ipv6(ip) { host.id.is_some() } else { host.mac.is_some() };
    let what = if is_ipv6(ip) { "id" } else { "mac" };
    let address = host.ip.as_deref().map(str::parse::<IpAddr>);
    refuse! {
        host.mac.is_some() && is_ipv6(ip) => NETWORK.xml_error(
            "Invalid to specify MAC address '{mac}' in network '{name}' IPv6 static host definition"
        );
        host.mac.is_some() && parsed.is_none() =>
            NETWORK.xml_error("Cannot parse MAC address '{mac}' in network '{name}'");
        parsed.is_some_and(|mac| mac.0[0] & 1 == 1) =>
            NETWORK.xml_error("expected unicast mac address, found multicast '{mac}' in network '{name}'");
        !label.starts_with(|c: char| c.is_ascii_alphanumeric()) =>
            NETWORK.xml_error("Cannot use host name '{label}' in network '{name}'");
        matches!(address, Some(Err(_))) =>
            NETWORK.xml_error("Invalid IP address in static host definition for network '{name}'");
        partial && !known && host.mac.is_none() && host.ip.is_none() => NETWORK.xml_error(
            "At least one of name, mac, or ip attribute must be specified for static host definition in network '{name}'"
        );
        !partial && !known => NETWORK.xml_error(
            "Static host definition in {version} network '{name}' must have {what} or name attribute"
        );
        !partial && address.is_none() =>
            NETWORK.xml_error("Missing IP address in static host definition for network '{name}'");
    }
    if let Some(Ok(address)) = address {
        host.ip = Some(address.to_string());
    }
    Ok(())
}

/// Addresses that DHCP gives away: all of the network, none of those that it needs itself.
pub(crate) fn check_range(range: &mut DhcpRange, ip: &NetworkIp, name: &str) -> Result {
    check_lease(range.lease.as_ref())?;
    let end = |which: &str, value: &Option<String>| {
        let missing = || {
            NETWORK.xml_error(format_args!("Missing '{which}' attribute in dhcp range for network '{name}'"))
        };
        parse(value.as_deref().ok_or_else(missing)?)
    };
    let (start, end) = (end("start", &range.start)?, end("end", &range.end)?);
    let (shown, network) = (format!("{start} - {end}"), ip.address.as_deref().unwrap_or_default());
    let Ok(own) = network.parse::<IpAddr>() else { return Ok(()) };
    let (Some(prefix), width) = (prefix(ip), if own.is_ipv6() { 128 } else { 32 }) else { return Ok(()) };
    let mask = u128::MAX.checked_shl(width - prefix.min(width)).unwrap_or(0);
    let (first, last, base) = (number(start), number(end), number(own) & mask);
    let broadcast = base | !mask & (u128::MAX >> (128 - width));
    refuse! {
        start.is_ipv6() != own.is_ipv6() || end.is_ipv6() != own.is_ipv6() =>
            NONE.internal_error("mismatch of address family in range {shown} for network {network}");
        first & mask != base || last & mask != base =>
            NONE.internal_error("range {shown} is not entirely within network {network}/{prefix}");
        first > last => NONE.internal_error("range {shown} is reversed ");
        prefix < width && first == base =>
            NONE.internal_error("start of range {shown} in network {network}/{prefix} is the network address");
        prefix < width && own.is_ipv4() && last == broadcast =>
            NONE.internal_error("end of range {shown} in network {network}/{prefix} is the broadcast address");
    }
    (range.start, range.end) = (Some(start.to_string()), Some(end.to_string()));
    Ok(())
}

/// A lease lasts two minutes or more; 0 is for ever.
fn check_lease(lease: Option<&DhcpLease>) -> Result {
    let short = |lease: &DhcpLease| match lease.unit.unwrap_or_default() {
        LeaseUnit::Seconds => (1..120).contains(&lease.expiry),
        LeaseUnit::Minutes => lease.expiry == 1,
        LeaseUnit::Hours => false,
    };
    refuse! {
        lease.is_some_and(short) =>
            NETWORK.config_unsupported("The minimum lease time should be greater than 2 minutes");
    }
    Ok(())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// How many bits of an address are the network's: as said, or as of old.
fn prefix(ip: &NetworkIp) -> Option<u32> {
    if let Some(prefix) = ip.prefix {
        return Some(prefix);
    }
    if let Some(mask) = &ip.netmask {
        return mask.parse::<Ipv4Addr>().ok().map(|mask| u32::from(mask).leading_ones());
    }
    let address = ip.address.as_deref()?;
    if address.parse::<Ipv6Addr>().is_ok() {
        return Some(64);
    }
    match address.parse::<Ipv4Addr>().ok()?.octets()[0] {
        0..128 => Some(8),
        128..192 => Some(16),
        _ => Some(24),
    }
}

/// A text that DNS tells; `partial` is one that is only to be found.
pub(crate) fn check_txt(txt: &DnsTxt, name: &str, partial: bool) -> Result {
    let label = txt.name.as_deref().unwrap_or_default();
    refuse! {
        txt.name.is_none() =>
            NETWORK.xml_detail("missing required name attribute in DNS TXT record of network {name}");
        label.contains(' ') =>
            NETWORK.xml_detail("prohibited character in DNS TXT record name '{label}' of network {name}");
        txt.value.is_none() && !partial =>
            NETWORK.xml_detail("missing required value attribute in DNS TXT record named '{label}' of network {name}");
    }
    Ok(())
}

/// An address that DNS tells; `partial` is one that is only to be found.
pub(crate) fn check_dns_host(host: &mut DnsHost, name: &str, partial: bool) -> Result {
    let address = host.ip.as_deref().map(str::parse::<IpAddr>);
    host.hostname.retain(|name| !name.is_empty());
    refuse! {
        address.is_none() && host.hostname.is_empty() && partial =>
            NETWORK.xml_detail("Missing ip and hostname in network '{name}' DNS HOST record");
        address.is_none() && !partial =>
            NETWORK.xml_detail("Missing IP address in network '{name}' DNS HOST record");
        matches!(address, Some(Err(_))) =>
            NETWORK.xml_detail("Invalid IP address in network '{name}' DNS HOST record");
        host.hostname.is_empty() && !partial =>
            NETWORK.xml_detail("Missing hostname in network '{name}' DNS HOST record");
    }
    if let Some(Ok(address)) = address {
        host.ip = Some(address.to_string());
    }
    Ok(())
}

/// A service that DNS tells; `partial` is one that is only to be found.
pub(crate) fn check_srv(srv: &DnsSrv, name: &str, partial: bool) -> Result {
    let service = srv.service.as_deref().unwrap_or_default();
    refuse! {
        srv.service.is_none() && !partial =>
            NETWORK.xml_detail("missing required service attribute in DNS SRV record of network '{name}'");
        srv.protocol.is_none() && !partial =>
            NETWORK.xml_detail("missing required protocol attribute in DNS SRV record '{service}' of network '{name}'");
        srv.port.is_some() && srv.target.is_none() && !partial => NETWORK.xml_detail(
            "DNS SRV port attribute not permitted without target for service '{service}' in network '{name}'"
        );
        srv.port.is_some_and(|port| !(1..=65535).contains(&port)) =>
            NETWORK.xml_detail("invalid DNS SRV port attribute for service '{service}' in network '{name}'");
    }
    Ok(())
}
