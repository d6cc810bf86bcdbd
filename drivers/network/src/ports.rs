//! What guests have of networks: one port for each of their interfaces.

use uuid::Uuid;
use virtwire_conf::domain::net::Bandwidth;
use virtwire_conf::network::{ForwardMode, Portgroup};
use virtwire_conf::network_port::{Plug, PlugType};
use virtwire_conf::{FormatOptions, Network as Definition, NetworkPort, ParseOptions, YesNo};
use virtwire_driver_api::check_flags;
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::error::{ErrorCode, VirtError};
use virtwire_protocol::remote::*;

use crate::run::{self, Live};
use crate::{NETWORK, Network, Networks, Result, dnsmasq, virtualport};

/// `VIR_NETWORK_PORT_CREATE_RECLAIM`: the guest has it already.
const RECLAIM: u32 = 1;
/// `VIR_NETWORK_PORT_CREATE_VALIDATE`
const VALIDATE: u32 = 2;

pub(crate) async fn all(
    networks: &Networks,
    args: NetworkListAllPortsArgs,
) -> Result<NetworkListAllPortsRet> {
    check_flags(NETWORK, args.flags, 0, "networkListAllPorts")?;
    networks.with(&args.network, |network| {
        let ports: Vec<NonnullNetworkPort> =
            network.live()?.ports.keys().map(|uuid| handle(network, *uuid)).collect();
        let ret = ports.len() as u32;
        Ok(NetworkListAllPortsRet { ports: if args.need_results != 0 { ports } else { Vec::new() }, ret })
    })
}

pub(crate) async fn by_uuid(
    networks: &Networks,
    args: NetworkPortLookupByUuidArgs,
) -> Result<NetworkPortLookupByUuidRet> {
    networks.with(&args.network, |network| {
        let uuid = Uuid::from_bytes(args.uuid);
        find(network, uuid)?;
        Ok(NetworkPortLookupByUuidRet { port: handle(network, uuid) })
    })
}

pub(crate) async fn create(
    networks: &Networks,
    args: NetworkPortCreateXmlArgs,
) -> Result<NetworkPortCreateXmlRet> {
    check_flags(NETWORK, args.flags, RECLAIM | VALIDATE, "networkPortCreateXML")?;
    let options = ParseOptions::default().validating(args.flags & VALIDATE != 0);
    let mut port = NetworkPort::parse(&args.xml.to_str_lossy(), &options)?;
    networks.with(&args.network, |network| {
        network.live()?;
        let uuid = port.uuid.unwrap_or_default();
        let (name, created) = (network.name.clone(), handle(network, uuid));
        let Some(live) = &mut network.live else { return Err(network.inactive()) };
        if live.ports.contains_key(&uuid) {
            let text = format_args!("network port already exists with uuid {uuid}");
            return Err(VirtError::new(NETWORK, ErrorCode::NETWORK_PORT_EXIST, text));
        }
        if args.flags & RECLAIM == 0 {
            allot(live, &mut port)?;
        }
        run::remember_port(&networks.places, &name, &port)?;
        live.ports.insert(uuid, port);
        Ok(NetworkPortCreateXmlRet { port: created })
    })
}

pub(crate) async fn xml_desc(
    networks: &Networks,
    args: NetworkPortGetXmlDescArgs,
) -> Result<NetworkPortGetXmlDescRet> {
    check_flags(NETWORK, args.flags, 0, "networkPortGetXMLDesc")?;
    networks.with(&args.port.net, |network| {
        let port = find(network, Uuid::from_bytes(args.port.uuid))?;
        Ok(NetworkPortGetXmlDescRet { xml: port.to_xml(&FormatOptions::default()).into() })
    })
}

pub(crate) async fn delete(networks: &Networks, args: NetworkPortDeleteArgs) -> Result<()> {
    check_flags(NETWORK, args.flags, 0, "networkPortDelete")?;
    networks.with(&args.port.net, |network| {
        let uuid = Uuid::from_bytes(args.port.uuid);
        find(network, uuid)?;
        run::forget_port(&networks.places, &network.name, uuid);
        network.live.as_mut().map(|live| live.ports.remove(&uuid));
        Ok(())
    })
}

pub(crate) async fn parameters(
    networks: &Networks,
    args: NetworkPortGetParametersArgs,
) -> Result<NetworkPortGetParametersRet> {
    check_flags(NETWORK, args.flags, 0, "networkPortGetParameters")?;
    networks.with(&args.port.net, |network| {
        let port = find(network, Uuid::from_bytes(args.port.uuid))?;
        let bandwidth = port.bandwidth.clone().unwrap_or_default();
        // A direction without a limit has no parts.
        let is_said = |part: &&str| match part.starts_with("inbound") {
            true => bandwidth.inbound.is_some(),
            false => bandwidth.outbound.is_some(),
        };
        let value = |part: &str| TypedParam::new(part, bandwidth.part(part).unwrap_or_default() as u32);
        let all = Bandwidth::PARTS.into_iter().filter(is_said).map(value).collect();
        let (params, nparams) = params::answer(all, args.nparams, 0);
        Ok(NetworkPortGetParametersRet { params, nparams })
    })
}

pub(crate) async fn set_parameters(networks: &Networks, args: NetworkPortSetParametersArgs) -> Result<()> {
    check_flags(NETWORK, args.flags, 0, "networkPortSetParameters")?;
    params::validate(&args.params, &Bandwidth::PARTS.map(|part| (part, Kind::Uint)))?;
    networks.with(&args.port.net, |network| {
        let uuid = Uuid::from_bytes(args.port.uuid);
        let mut port = find(network, uuid)?.clone();
        // What is not said any more holds no more.
        port.bandwidth = Bandwidth::changed(None, |part| params::number(&args.params, part));
        check_floor(network, &port)?;
        run::remember_port(&networks.places, &network.name, &port)?;
        network.live.as_mut().map(|live| live.ports.insert(uuid, port));
        Ok(())
    })
}

/// Only a network that has a limit itself can guarantee its guests a part of it.
fn check_floor(network: &Network, port: &NetworkPort) -> Result<()> {
    let inbound = port.bandwidth.as_ref().and_then(|bandwidth| bandwidth.inbound.as_ref());
    let net = &network.live()?.definition;
    let limited = net.bandwidth.as_ref().is_some_and(|bandwidth| bandwidth.inbound.is_some());
    if limited || inbound.is_none_or(|rate| rate.floor.is_none()) {
        return Ok(());
    }
    let mac = port.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string()).unwrap_or_default();
    Err(NETWORK.operation_unsupported(format_args!(
        "Invalid use of 'floor' on interface with MAC address {mac} - network '{}' has no inbound QoS set",
        net.name
    )))
}

fn handle(network: &Network, uuid: Uuid) -> NonnullNetworkPort {
    NonnullNetworkPort { net: network.handle(), uuid: uuid.into_bytes() }
}

fn find(network: &Network, uuid: Uuid) -> Result<&NetworkPort> {
    let missing = || {
        let text = format_args!("Network port with UUID {uuid} does not exist");
        VirtError::new(NETWORK, ErrorCode::NO_NETWORK_PORT, text)
    };
    network.live()?.ports.get(&uuid).ok_or_else(missing)
}

/// Says into what of the network a guest's interface is plugged, and what the network and the port's group say of it.
fn allot(live: &Live, port: &mut NetworkPort) -> Result<()> {
    let net = &live.definition;
    let group = group(net, port.group.as_deref())?;
    let of_group = group.and_then(|group| group.virtualport.as_ref());
    port.virtualport = virtualport::merged(port.virtualport.take(), [net.virtualport.as_ref(), of_group])?;
    if port.vlan.is_none() {
        port.vlan = group.and_then(|group| group.vlan.clone()).or_else(|| net.vlan.clone());
    }
    if port.bandwidth.is_none() {
        port.bandwidth = group.and_then(|group| group.bandwidth.clone());
    }
    if port.port.is_none() {
        port.port = group.and_then(|group| group.port.clone()).or_else(|| net.port.clone());
    }
    let bridge = net.bridge.clone().unwrap_or_default();
    let bridged = |type_| Plug {
        type_,
        bridge: bridge.name.clone(),
        mac_table_manager: bridge.mac_table_manager,
        ..Plug::default()
    };
    let plug = match dnsmasq::mode(net) {
        ForwardMode::None | ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open => {
            bridged(PlugType::Network)
        }
        ForwardMode::Bridge if bridge.name.is_some() => bridged(PlugType::Bridge),
        mode
        @ (ForwardMode::Bridge | ForwardMode::Private | ForwardMode::Vepa | ForwardMode::Passthrough) => {
            Plug {
                type_: PlugType::Direct,
                dev: Some(device(live, mode)?),
                mode: Some(mode.to_string()),
                ..Plug::default()
            }
        }
        ForwardMode::Hostdev => {
            let text = format_args!(
                "network '{}' requires exclusive access to interfaces, but none are available",
                net.name
            );
            return Err(NETWORK.internal_error(text));
        }
    };
    virtualport::check(port.virtualport.as_ref(), plug.type_, &net.name)?;
    port.plug = Some(plug);
    Ok(())
}

/// The group of this name, or the one for ports without a name.
fn group<'a>(net: &'a Definition, name: Option<&str>) -> Result<Option<&'a Portgroup>> {
    match name {
        None => Ok(net.portgroups.iter().find(|group| group.default == Some(YesNo::Yes))),
        Some(name) => {
            let found = net.portgroups.iter().find(|group| group.name.as_deref() == Some(name));
            let missing =
                || NETWORK.internal_error(format_args!("network '{}' has no portgroup '{name}'", net.name));
            found.map(Some).ok_or_else(missing)
        }
    }
}

/// The device of the host with the fewest guests; some modes bear only one.
fn device(live: &Live, mode: ForwardMode) -> Result<String> {
    let forward = live.definition.forward.as_ref();
    let devices = forward
        .into_iter()
        .flat_map(|forward| &forward.interface)
        .filter_map(|interface| interface.dev.clone());
    let users = |dev: &str| {
        let plugs = live.ports.values().filter_map(|port| port.plug.as_ref());
        plugs.filter(|plug| plug.dev.as_deref() == Some(dev)).count()
    };
    let free = devices.map(|dev| (users(&dev), dev)).min_by_key(|(users, _)| *users);
    let free = free.filter(|(users, _)| mode != ForwardMode::Passthrough || *users == 0);
    let name = &live.definition.name;
    let none = || {
        NETWORK.internal_error(format_args!(
            "network '{name}' requires exclusive access to interfaces, but none are available"
        ))
    };
    free.map(|(_, dev)| dev).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(xml: &str) -> Live {
        Live::new(Definition::parse(xml, &ParseOptions::default()).unwrap())
    }

    fn plug(live: &mut Live) -> Plug {
        let mut port = NetworkPort { uuid: Some(Uuid::new_v4()), ..NetworkPort::default() };
        allot(live, &mut port).unwrap();
        let plug = port.plug.clone().unwrap();
        live.ports.insert(port.uuid.unwrap(), port);
        plug
    }

    #[test]
    fn a_guest_is_plugged_into_the_bridge() {
        let mut net = live("<network><name>a</name><bridge name='virbr0'/></network>");
        let plug = plug(&mut net);
        assert_eq!((plug.type_, plug.bridge.as_deref()), (PlugType::Network, Some("virbr0")));
    }

    #[test]
    fn guests_share_the_hosts_devices_evenly() {
        let mut net = live(
            "<network><name>a</name><forward mode='private'><interface dev='e0'/><interface dev='e1'/></forward></network>",
        );
        let devices: Vec<_> = (0..4).map(|_| plug(&mut net).dev.unwrap()).collect();
        assert_eq!(devices, ["e0", "e1", "e0", "e1"]);
    }

    #[tokio::test]
    async fn limits_of_a_port_are_told_and_changed_as_a_whole() {
        let scratch = virtwire_store::Scratch::new();
        let networks =
            Networks::open(crate::Places::below(scratch.path()), virtwire_driver_api::EventHub::new());
        let networks = networks.await.unwrap();
        let xml = "<network><name>a</name><forward mode='bridge'/><bridge name='br0'/></network>";
        let network = networks.create(xml, false).await.unwrap();
        let create =
            |xml: &str| NetworkPortCreateXmlArgs { network: network.clone(), xml: xml.into(), flags: 0 };
        let owner = "<owner><name>x</name><uuid>11111111-2222-3333-4444-555555555555</uuid></owner>";
        let named = format!(
            "<networkport><uuid>11111111-2222-3333-4444-666666666666</uuid>{owner}<mac address='52:54:00:00:00:01'/>\
             <bandwidth><inbound average='1'/></bandwidth></networkport>"
        );
        let port = super::create(&networks, create(&named)).await.unwrap().port;
        let told = async || {
            let args = NetworkPortGetParametersArgs { port: port.clone(), nparams: 16, flags: 0 };
            let told = super::parameters(&networks, args).await.unwrap();
            let told: Vec<_> = told.params.iter().map(|param| param.field.to_string()).collect();
            told.join(" ")
        };
        let set = async |params: &[(&str, u32)]| {
            let params = params.iter().map(|(name, value)| TypedParam::new(*name, *value)).collect();
            super::set_parameters(
                &networks,
                NetworkPortSetParametersArgs { port: port.clone(), params, flags: 0 },
            )
            .await
        };
        assert_eq!(told().await, "inbound.average inbound.peak inbound.burst inbound.floor");
        let error = set(&[("inbound.floor", 7)]).await.unwrap_err();
        let text = "Operation not supported: Invalid use of 'floor' on interface with MAC address 52:54:00:00:00:01 - \
                    network 'a' has no inbound QoS set";
        assert_eq!(error.message, text);
        set(&[("outbound.average", 5)]).await.unwrap();
        assert_eq!(told().await, "outbound.average outbound.peak outbound.burst");
        set(&[("inbound.peak", 1)]).await.unwrap();
        assert_eq!(told().await, "");
        assert!(set(&[("average", 1)]).await.is_err());
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error() {
        let net = live(
            "<network><name>a</name><portgroup name='x' default='yes'><vlan><tag id='7'/></vlan></portgroup></network>",
        );
        let mut port = NetworkPort::default();
        allot(&net, &mut port).unwrap();
        assert!(port.vlan.is_some());
        let mut port = NetworkPort { group: Some("y".to_owned()), ..NetworkPort::default() };
        assert!(allot(&net, &mut port).unwrap_err().message.contains("portgroup 'y'"));
    }
}
