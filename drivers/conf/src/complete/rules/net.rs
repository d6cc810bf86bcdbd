//! Network cards.

use std::net::IpAddr;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result, small};
use crate::domain::Domain;
use crate::domain::net::{Bandwidth, Interface, InterfaceIp, InterfaceRoute, InterfaceType, TeamingType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const NETWORK: ErrorDomain = ErrorDomain::NETWORK;
const NONE: ErrorDomain = ErrorDomain::NONE;

/// What shows of a card by itself, as it is read.
pub(in super::super) fn read(interface: &Interface) -> Result {
    let source = interface.source.iter().flat_map(|source| &source.ip);
    interface.ip.iter().chain(source).try_for_each(ip)?;
    let source = interface.source.iter().flat_map(|source| &source.route);
    interface.route.iter().chain(source).try_for_each(|it| route(it, "guest interface"))?;
    let classes = interface.type_ == InterfaceType::Network;
    interface.bandwidth.iter().try_for_each(|it| bandwidth(it, classes))?;
    let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
    let virtio = model.to_ascii_lowercase().starts_with("virtio") || interface.type_ == InterfaceType::Vdpa;
    interface.driver.iter().try_for_each(|driver| small::misplaced(&driver.virtio, virtio))
}

fn ip(ip: &InterfaceIp) -> Result {
    let Some(text) = &ip.address else { return Ok(()) };
    let address: Option<IpAddr> = text.parse().ok();
    let v6 = address.is_some_and(|address| address.is_ipv6());
    let family = ip.family.as_deref();
    let (most, kind) = if v6 { (128, "IPv6") } else { (32, "IPv4") };
    let peer: Option<Option<IpAddr>> = ip.peer.as_ref().map(|peer| peer.parse().ok());
    refuse! {
        family.is_some_and(|family| !matches!(family, "ipv4" | "ipv6")) =>
            DOMAIN.xml_error("unknown family '{}' in <ip>", family.unwrap_or_default());
        address.is_none() || family.is_some_and(|family| (family == "ipv6") != v6) =>
            DOMAIN.xml_error("Invalid address '{text}' in <ip>");
        ip.prefix.is_some_and(|prefix| prefix > most) =>
            DOMAIN.xml_error("Invalid prefix '{}' in <ip>: must be <= {most} for {kind}", ip.prefix.unwrap_or_default());
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
            "{whose}: No family specified for non-IPv4 gateway '{}' in route definition", shown(&route.gateway));
        of_v4 && six(&address) => NETWORK.xml_error(
            "{whose}: ipv4 family specified for non-IPv4 address '{}' in route definition", shown(&route.address));
        of_v4 && six(&gateway) => NETWORK.xml_error(
            "{whose}: ipv4 family specified for non-IPv4 gateway '{}' in route definition", shown(&route.gateway));
        !of_v4 && !six(&address) => NETWORK.xml_error(
            "{whose}: ipv6 specified for non-IPv6 address '{}' in route definition", shown(&route.address));
        !of_v4 && !six(&gateway) => NETWORK.xml_error(
            "{whose}: ipv6 specified for non-IPv6 gateway address '{}' in route definition", shown(&route.gateway));
        address.as_ref().is_ok_and(|address| !is_network(*address, prefix)) => NETWORK.xml_error(
            "{whose}: Address '{}' in route definition is not a network address", shown(&route.address));
    }
    Ok(())
}

fn bandwidth(bandwidth: &Bandwidth, classes: bool) -> Result {
    let rates = [&bandwidth.inbound, &bandwidth.outbound];
    let mut rates = rates.into_iter().flatten();
    let floor = bandwidth.outbound.as_ref().is_some_and(|rate| rate.floor.is_some());
    refuse! {
        bandwidth.class_id.is_some() && !classes =>
            NONE.xml_detail("classID attribute not supported on <bandwidth> in this usage context");
        rates.any(|rate| rate.average.is_none() && rate.floor.is_none()) =>
            NONE.xml_detail("Missing mandatory average or floor attributes");
        floor => NONE.xml_detail("'floor' attribute allowed only in <inbound> element");
    }
    Ok(())
}

/// Everything in this file that no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    domain.devices.interfaces.iter().try_for_each(interface)
}

fn interface(it: &Interface) -> Result {
    let kind = it.type_;
    let passt = it.backend.as_ref().and_then(|backend| backend.type_.as_deref()) == Some("passt");
    let isolated = it.port.as_ref().is_some_and(|port| port.isolated.is_some());
    let mac = it.mac.as_ref().and_then(|mac| mac.address).unwrap_or_default();
    let persistent = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Persistent);
    let transient = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Transient);
    let named = it.teaming.as_ref().is_some_and(|teaming| teaming.persistent.is_some());
    let rates = it.bandwidth.iter().flat_map(|bandwidth| [&bandwidth.inbound, &bandwidth.outbound]).flatten();
    let mut rates = rates;
    refuse! {
        passt && !matches!(kind, InterfaceType::User | InterfaceType::Vhostuser) => DOMAIN.config_unsupported(
            "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"
        );
        !it.port_forward.is_empty() && !passt => DOMAIN.config_unsupported(
            "The <portForward> element can only be used with the 'passt' backend of interface type='user' or type='vhostuser'"
        );
        isolated && !matches!(kind, InterfaceType::Network | InterfaceType::Bridge) => DOMAIN.config_unsupported(
            "interface {mac} - <port isolated='yes'/> is not supported for network interfaces with type='{kind}'"
        );
        persistent && named => DOMAIN.config_unsupported(
            "teaming persistent attribute not allowed if teaming type is 'persistent'"
        );
        transient && !named =>
            DOMAIN.xml_error("teaming persistent attribute must be set if teaming type is 'transient'");
        rates.any(|rate| (rate.peak.is_some() || rate.burst.is_some()) && rate.average.is_none()) =>
            NONE.config_unsupported("'peak' and 'burst' require 'average' attribute");
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    for it in &around.domain.devices.interfaces {
        let kind = it.type_;
        let wired = matches!(
            kind,
            InterfaceType::Network
                | InterfaceType::Bridge
                | InterfaceType::Ethernet
                | InterfaceType::Direct
                | InterfaceType::Vhostuser
                | InterfaceType::Vdpa
        );
        let sized = it.mtu.as_ref().is_some_and(|mtu| mtu.size.is_some_and(|size| size != 0));
        let transient = it.teaming.as_ref().is_some_and(|teaming| teaming.type_ == TeamingType::Transient);
        let model = it.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
        refuse! {
            transient && !matches!(kind, InterfaceType::Hostdev | InterfaceType::Network) => QEMU.config_unsupported(
                "virtio-net teaming transient interface must be type='hostdev', not '{kind}'"
            );
            it.teaming.is_some() && !transient && !model.starts_with("virtio") => QEMU.config_unsupported(
                "virtio-net teaming persistent interface must be <model type='virtio'/>, not '{model}'"
            );
            !it.ip.is_empty() && !matches!(kind, InterfaceType::User | InterfaceType::Vhostuser) => QEMU.config_unsupported(
                "Invalid attempt to set network interface guest-side IP address info, not supported by QEMU"
            );
            sized && !wired => QEMU.config_unsupported("setting MTU on interface type {kind} is not supported yet");
        }
    }
    Ok(())
}
