//! Network cards.

use std::net::IpAddr;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result, small, virtualport};
use crate::YesNo;
use crate::complete::forms;
use crate::domain::net::{
    Bandwidth, Interface, InterfaceDriver, InterfaceIp, InterfaceRoute, InterfaceType, Lender, PacketDriver,
    PortForward, TeamingType, Vlan,
};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const NETWORK: ErrorDomain = ErrorDomain::NETWORK;
const NONE: ErrorDomain = ErrorDomain::NONE;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows of a card by itself, as it is read.
pub(in super::super) fn read(interface: &Interface) -> Result {
    let source = interface.source.iter().flat_map(|source| &source.ip);
    interface.ip.iter().chain(source).try_for_each(ip)?;
    let outer = interface.source.iter().flat_map(|source| &source.route);
    outer.into_iter().try_for_each(|it| route(it, "interface host IP"))?;
    interface.route.iter().try_for_each(|it| route(it, "guest interface"))?;
    far_end(interface)?;
    interface.vlan.iter().try_for_each(vlan)?;
    virtualport::read(interface)?;
    interface.port_forward.iter().try_for_each(forward)?;
    let classes = interface.type_ == InterfaceType::Network;
    interface.bandwidth.iter().try_for_each(|it| bandwidth(it, classes))?;
    let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
    refuse! {
        !model.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) =>
            DOMAIN.invalid_arg("Model name contains invalid characters");
    }
    Ok(())
}

/// Whether `text` is none of what the attribute of an element may say.
fn wrong(text: Option<&str>, known: &[&str], attribute: &str, element: &str) -> Result {
    refuse! {
        text.is_some_and(|text| !known.contains(&text)) => XML.xml_error(
            "Invalid value for attribute '{attribute}' in element '{element}': '{}'.", text.unwrap_or_default());
    }
    Ok(())
}

/// What is at the other end, by the kind of connection.
fn far_end(interface: &Interface) -> Result {
    let kind = interface.type_;
    let lent = kind == InterfaceType::Hostdev;
    let lender = interface.host_driver.as_ref().and_then(|driver| driver.name).filter(|_| !lent);
    let driver = interface.driver.as_ref().and_then(|driver| driver.name).filter(|_| lent);
    wrong(lender.map(Lender::as_str).or(driver.map(PacketDriver::as_str)), &[], "name", "driver")?;
    let Some(source) = &interface.source else { return Ok(()) };
    let (mode, type_) = (source.mode.as_deref(), source.type_.as_deref());
    let user = kind == InterfaceType::Vhostuser;
    match kind {
        InterfaceType::Direct => {
            wrong(mode, &["vepa", "private", "bridge", "passthrough"], "mode", "source")?
        }
        InterfaceType::Vhostuser => wrong(mode, &["client", "server"], "mode", "source")?,
        _ => {}
    }
    let again = source.reconnect.as_ref().filter(|reconnect| user && reconnect.enabled == Some(YesNo::Yes));
    let local = source.local.as_ref();
    let udp = kind == InterfaceType::Udp && source.address.is_some() && source.port.is_some();
    refuse! {
        user && type_.is_some_and(|kind| kind != "unix") => DOMAIN.config_unsupported(
            "Type='{}' unsupported for <interface type='vhostuser'>", type_.unwrap_or_default());
        again.is_some_and(|again| again.timeout.is_none()) =>
            XML.xml_error("Missing required attribute 'timeout' in element 'reconnect'");
        again.is_some() && mode == Some("server") => QEMU.config_unsupported(
            "'reconnect' attribute is not supported when source mode='server' for <interface type='vhostuser'>");
        udp && local.is_none() => DOMAIN.xml_error("'<local>' element missing for 'udp' socket interface");
        udp && local.is_some_and(|local| local.address.is_none()) =>
            XML.xml_error("Missing required attribute 'address' in element 'local'");
        udp && local.is_some_and(|local| local.port.is_none()) =>
            XML.xml_error("Missing required attribute 'port' in element 'local'");
    }
    Ok(())
}

/// The highest number of a VLAN.
const LAST_VLAN: u32 = 4095;

fn vlan(vlan: &Vlan) -> Result {
    let large = vlan.tag.iter().map(|tag| tag.id).find(|id| *id > LAST_VLAN);
    let native = vlan.tag.iter().filter(|tag| tag.native_mode.is_some()).count();
    refuse! {
        vlan.tag.is_empty() => NONE.xml_error(
            "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement");
        large.is_some() => NONE.xml_error(
            "vlan tag id {} too large (maximum {LAST_VLAN})", large.unwrap_or_default());
        native > 1 => NONE.xml_error("duplicate native vlan setting");
        vlan.tag.len() > 1 && vlan.trunk == Some(YesNo::No) => NONE.xml_error(
            "invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag");
    }
    Ok(())
}

fn forward(forward: &PortForward) -> Result {
    let address = forward.address.as_deref();
    let zero = forward.range.iter().find_map(|range| {
        let ports = [("start", range.start), ("end", range.end), ("to", range.to)];
        ports.into_iter().find(|(_, port)| *port == Some(0)).map(|(name, _)| name)
    });
    let mut ranges = forward.range.iter();
    refuse! {
        address.is_some_and(|address| address.parse::<IpAddr>().is_err()) => DOMAIN.xml_error(
            "Invalid address '{}' in <portForward>", address.unwrap_or_default());
        zero.is_some() => XML.xml_error(
            "Invalid value for attribute '{}' in element 'range': Zero is not permitted", zero.unwrap_or_default());
        ranges.any(|range| range.start.is_none() && (range.end.is_some() || range.to.is_some() || range.exclude.is_some())) =>
            DOMAIN.config_unsupported(
                "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or 'exclude' is specified");
    }
    Ok(())
}

fn ip(ip: &InterfaceIp) -> Result {
    let Some(text) = &ip.address else { return Err(DOMAIN.xml_error("Missing required address in <ip>")) };
    let address: Option<IpAddr> = text.parse().ok();
    let v6 = address.is_some_and(|address| address.is_ipv6());
    let family = ip.family.as_deref();
    let most = if v6 { 128 } else { 32 };
    let peer: Option<Option<IpAddr>> = ip.peer.as_ref().map(|peer| peer.parse().ok());
    refuse! {
        family.is_some_and(|family| !matches!(family, "ipv4" | "ipv6")) =>
            DOMAIN.xml_error("unknown family '{}' in <ip>", family.unwrap_or_default());
        address.is_none() || family.is_some_and(|family| (family == "ipv6") != v6) =>
            DOMAIN.xml_error("Invalid address '{text}' in <ip>");
        ip.prefix.is_some_and(|prefix| prefix > most) =>
            DOMAIN.xml_error("Invalid prefix value '{}' in <ip>", ip.prefix.unwrap_or_default());
        peer.is_some_and(|peer| peer.is_none_or(|peer| peer.is_ipv6() != v6)) =>
            DOMAIN.invalid_arg("Invalid peer '{}' in <ip>", ip.peer.as_deref().unwrap_or_default());
    }
    Ok(())
}

/// Whether an address ends in zeros behind its prefix.
fn is_network(address: IpAddr, prefix: u32) -> bool {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_shl(prefix).unwrap_or(0) == 0,
        IpAddr::V6(v6) => u128::from(v6).checked_shl(prefix).unwrap_or(0) == 0,
    }
}

/// A route, of something that errors call `whose`.
pub(in super::super) fn route(route: &InterfaceRoute, whose: &str) -> Result {
    let parse = |text: &Option<String>| text.as_deref().map(str::parse::<IpAddr>);
    let (address, gateway, mask) = (parse(&route.address), parse(&route.gateway), parse(&route.netmask));
    let shown = |text: &Option<String>| text.clone().unwrap_or_default();
    let of_v4 = matches!(route.family.as_deref(), None | Some("ipv4"));
    let (Some(address), Some(gateway)) = (address, gateway) else {
        let what = if route.address.is_none() { "address" } else { "gateway" };
        return Err(
            NETWORK.xml_error(format_args!("{whose}: Missing required {what} attribute in route definition"))
        );
    };
    let six = |ip: &std::result::Result<IpAddr, _>| matches!(ip, Ok(IpAddr::V6(_)));
    let prefix = route.prefix.unwrap_or(match &mask {
        Some(Ok(IpAddr::V4(mask))) => mask.to_bits().leading_ones(),
        // What is all zeros is everything, anything else of the old classes.
        _ => match &address {
            Ok(ip) if ip.is_unspecified() => 0,
            Ok(IpAddr::V4(v4)) => match v4.octets()[0] {
                0..128 => 8,
                128..192 => 16,
                192..224 => 24,
                _ => 32,
            },
            _ => 64,
        },
    });
    refuse! {
        address.is_err() =>
            NETWORK.xml_error("{whose}: Bad network address '{}' in route definition", shown(&route.address));
        gateway.is_err() =>
            NETWORK.xml_error("{whose}: Bad gateway address '{}' in route definition", shown(&route.gateway));
        route.family.is_none() && six(&address) => NETWORK.xml_error(
            "{whose}: No family specified for non-IPv4 address '{}' in route definition", shown(&route.address));
        route.family.is_none() && six(&gateway) => NETWORK.xml_error(
            "{whose}: No family specified for non-IPv4 gateway '{}' in route definition", shown(&route.address));
        of_v4 && six(&address) => NETWORK.xml_error(
            "{whose}: IPv4 family specified for non-IPv4 address '{}' in route definition", shown(&route.address));
        of_v4 && six(&gateway) => NETWORK.xml_error(
            "{whose}: ipv4 family specified for non-IPv4 gateway '{}' in route definition", shown(&route.gateway));
        !of_v4 && !six(&address) => NETWORK.xml_error(
            "{whose}: ipv6 family specified for non-IPv6 address '{}' in route definition", shown(&route.address));
        !of_v4 && !six(&gateway) => NETWORK.xml_error(
            "{whose}: ipv6 specified for non-IPv6 gateway address '{}' in route definition", shown(&route.gateway));
        address.as_ref().is_ok_and(|address| !is_network(*address, prefix)) => NETWORK.xml_error(
            "{whose}: Address '{}' in route definition is not a network address", shown(&route.address));
    }
    Ok(())
}

/// Kilobytes at once are counted in bytes, in 32 bits.
const MOST_BURST: u64 = (u32::MAX / 1024) as u64;

fn bandwidth(bandwidth: &Bandwidth, classes: bool) -> Result {
    let rates = [&bandwidth.inbound, &bandwidth.outbound];
    let mut rates = rates.into_iter().flatten();
    let burst = rates.clone().filter_map(|rate| rate.burst).find(|burst| *burst > MOST_BURST);
    let floor = bandwidth.outbound.as_ref().is_some_and(|rate| rate.floor.is_some());
    refuse! {
        bandwidth.class_id.is_some() && !classes =>
            NONE.xml_detail("classID attribute not supported on <bandwidth> in this usage context");
        rates.any(|rate| rate.average.is_none() && rate.floor.is_none()) =>
            NONE.xml_detail("Missing mandatory average or floor attributes");
        burst.is_some() => NONE.overflow(
            "value '{}' is too big for 'burst' parameter, maximum is '{MOST_BURST}'", burst.unwrap_or_default());
        floor => NONE.xml_detail("'floor' attribute allowed only in <inbound> element");
    }
    Ok(())
}

/// What no driver could do.
pub(super) fn check(_around: &Around<'_>, it: &Interface) -> Result {
    let kind = it.type_;
    let passt = it.backend.as_ref().and_then(|backend| backend.type_.as_deref()) == Some("passt");
    let isolated = it.port.as_ref().is_some_and(|port| port.isolated == Some(YesNo::Yes));
    let switch = it.virtualport.as_ref().and_then(|port| port.type_.as_deref());
    let far = it.source.as_ref().is_some_and(|source| !source.ip.is_empty() || !source.route.is_empty());
    let own = it.target.as_ref().and_then(|target| target.managed);
    let mac = it.mac.as_ref().and_then(|mac| mac.address).unwrap_or_default();
    let persistent = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Persistent);
    let transient = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Transient);
    let name = it.teaming.as_ref().and_then(|teaming| teaming.persistent.as_deref());
    let named = name.is_some_and(|name| !name.is_empty());
    let rates = it.bandwidth.iter().flat_map(|bandwidth| [&bandwidth.inbound, &bandwidth.outbound]).flatten();
    let mut rates = rates;
    refuse! {
        far && kind != InterfaceType::Ethernet => DOMAIN.config_unsupported(
            "Invalid attempt to set network interface host-side IP route and/or address info on interface of type '{kind}'. This is only supported on interfaces of type 'ethernet'"
        );
        passt && !matches!(kind, InterfaceType::User | InterfaceType::Vhostuser) => DOMAIN.config_unsupported(
            "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"
        );
        !it.port_forward.is_empty() && !passt => DOMAIN.config_unsupported(
            "The <portForward> element can only be used with the 'passt' backend of interface type='user' or type='vhostuser'"
        );
        isolated && !matches!(kind, InterfaceType::Network | InterfaceType::Bridge) => DOMAIN.config_unsupported(
            "interface {mac} - <port isolated='yes'/> is not supported for network interfaces with type='{kind}'"
        );
        isolated && switch.is_some() => DOMAIN.config_unsupported(
            "interface {mac} - <port isolated='yes'/> is not supported for network interfaces with virtualport type='{}'",
            switch.unwrap_or_default()
        );
        persistent && named => DOMAIN.config_unsupported(
            "teaming persistent attribute not allowed if teaming type is 'persistent'"
        );
        transient && !named =>
            DOMAIN.config_unsupported("teaming persistent attribute must be set if teaming type is 'transient'");
        it.bandwidth.iter().filter_map(|width| width.inbound.as_ref()).any(|rate| rate.floor.is_some())
            && kind != InterfaceType::Network => NONE.config_unsupported(
            "floor attribute is not supported for this config");
        rates.any(|rate| (rate.peak.is_some() || rate.burst.is_some()) && rate.average.is_none()) =>
            NONE.config_unsupported("'peak' and 'burst' require 'average' attribute");
        own == Some(YesNo::No) && kind != InterfaceType::Ethernet => DOMAIN.config_unsupported(
            "unmanaged target dev is not supported on interfaces of type '{kind}'");
    }
    let model = it.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
    let virtio =
        model.starts_with("virtio") || matches!(kind, InterfaceType::Vdpa | InterfaceType::Vhostuser);
    it.driver.iter().try_for_each(|driver| small::misplaced(&driver.virtio, virtio))
}

/// QEMU's own network has an address of each family, and room for what is in it.
const PREFIXES: std::ops::RangeInclusive<u32> = 4..=27;
const PREFIX_V6: u32 = 64;

fn addresses(it: &Interface) -> Result {
    let v6 = |ip: &&InterfaceIp| ip.family.as_deref() == Some("ipv6");
    let said = |prefix: Option<u32>| prefix.filter(|prefix| *prefix != 0);
    let user = matches!(it.type_, InterfaceType::User | InterfaceType::Vhostuser);
    let sixes = || it.ip.iter().filter(v6);
    let fours = || it.ip.iter().filter(|ip| !v6(ip));
    let long = sixes().filter_map(|ip| said(ip.prefix)).find(|prefix| *prefix != PREFIX_V6);
    refuse! {
        user && it.ip.iter().any(|ip| ip.peer.is_some()) =>
            QEMU.config_unsupported("Invalid attempt to set peer IP for guest");
        user && fours().count() > 1 =>
            QEMU.config_unsupported("Only one IPv4 address per interface is allowed");
        user && sixes().count() > 1 =>
            QEMU.config_unsupported("Only one IPv6 address per interface is allowed");
        user && fours().filter_map(|ip| said(ip.prefix)).any(|prefix| !PREFIXES.contains(&prefix)) =>
            QEMU.xml_error("invalid prefix, must be in range of {}-{}", PREFIXES.start(), PREFIXES.end());
        user && long.is_some() => QEMU.config_unsupported(
            "unsupported IPv6 address prefix='{}' - must be {PREFIX_V6}", long.unwrap_or_default());
    }
    Ok(())
}

/// What QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>, it: &Interface) -> Result {
    let kind = it.type_;
    let wired = matches!(
        kind,
        InterfaceType::Network
            | InterfaceType::Bridge
            | InterfaceType::Ethernet
            | InterfaceType::Vhostuser
            | InterfaceType::Vdpa
    );
    let sized = it.mtu.as_ref().is_some_and(|mtu| mtu.size.is_some_and(|size| size != 0));
    let transient = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Transient);
    let model = it.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
    let named = if forms::CARDS.contains(&model) { model } else { "unknown" };
    let odd = |size: fn(&InterfaceDriver) -> Option<u32>| {
        let size = it.driver.as_ref().and_then(size).unwrap_or(0);
        size != 0 && !size.is_power_of_two()
    };
    addresses(it)?;
    refuse! {
        matches!(kind, InterfaceType::Vdpa | InterfaceType::Vhostuser) && !model.starts_with("virtio") =>
            QEMU.config_unsupported(
                "invalid model for interface of type '{kind}': '{named}' - must be 'virtio'");
        sized && !wired => QEMU.config_unsupported("setting MTU on interface type {kind} is not supported yet");
        transient && !matches!(kind, InterfaceType::Hostdev | InterfaceType::Network) => QEMU.config_unsupported(
            "virtio-net teaming transient interface must be type='hostdev', not '{kind}'"
        );
        it.teaming.is_some() && !transient && !model.starts_with("virtio") => QEMU.config_unsupported(
            "virtio-net teaming persistent interface must be <model type='virtio'/>, not '{}'",
            if model.is_empty() { "(null)" } else { model }
        );
        !it.route.is_empty() => QEMU.config_unsupported(
            "Invalid attempt to set network interface guest-side IP route, not supported by QEMU");
        !it.ip.is_empty() && !matches!(kind, InterfaceType::User | InterfaceType::Vhostuser) => QEMU.config_unsupported(
            "Invalid attempt to set network interface guest-side IP address info, not supported by QEMU"
        );
        it.coalesce.is_some() && !matches!(kind, InterfaceType::Network | InterfaceType::Bridge | InterfaceType::Ethernet) =>
            QEMU.config_unsupported("coalesce settings on interface type {kind} are not supported");
        odd(|driver| driver.rx_queue_size) =>
            QEMU.config_unsupported("rx_queue_size has to be a power of two");
        odd(|driver| driver.tx_queue_size) =>
            QEMU.config_unsupported("tx_queue_size has to be a power of two");
        kind == InterfaceType::Vhostuser && !around.shares_memory() =>
            QEMU.config_unsupported("'interface' requires shared memory");
    }
    Ok(())
}
