//! What clients ask about networks. None is ever active.

use uuid::Uuid;
use virtwire_conf::FormatOptions;
use virtwire_driver_api::{check_flags, passes};
use virtwire_protocol::remote::*;

use crate::{NETWORK, Network, Networks, Result};

/// `virConnectListAllNetworksFlags`; all networks are persistent.
fn matches(network: &Network, flags: u32) -> bool {
    passes(flags, 2, 1, false) && passes(flags, 4, 8, true) && passes(flags, 16, 32, network.autostart)
}

pub(crate) async fn all(
    networks: &Networks,
    args: ConnectListAllNetworksArgs,
) -> Result<ConnectListAllNetworksRet> {
    check_flags(NETWORK, args.flags, (1 << 6) - 1, "networkConnectListAllNetworks")?;
    let all = networks.all();
    let found: Vec<_> =
        all.iter().filter(|network| matches(network, args.flags)).map(Network::handle).collect();
    let ret = found.len() as u32;
    Ok(ConnectListAllNetworksRet { nets: if args.need_results != 0 { found } else { Vec::new() }, ret })
}

pub(crate) async fn count_active(_: &Networks) -> Result<ConnectNumOfNetworksRet> {
    Ok(ConnectNumOfNetworksRet { num: 0 })
}

pub(crate) async fn active(_: &Networks, _: ConnectListNetworksArgs) -> Result<ConnectListNetworksRet> {
    Ok(ConnectListNetworksRet { names: Vec::new() })
}

pub(crate) async fn count_inactive(networks: &Networks) -> Result<ConnectNumOfDefinedNetworksRet> {
    Ok(ConnectNumOfDefinedNetworksRet { num: networks.all().len() as i32 })
}

pub(crate) async fn inactive(
    networks: &Networks,
    args: ConnectListDefinedNetworksArgs,
) -> Result<ConnectListDefinedNetworksRet> {
    let most = usize::try_from(args.maxnames).unwrap_or_default();
    let all = networks.all();
    Ok(ConnectListDefinedNetworksRet {
        names: all.iter().take(most).map(|network| network.name().into()).collect(),
    })
}

pub(crate) async fn by_name(
    networks: &Networks,
    args: NetworkLookupByNameArgs,
) -> Result<NetworkLookupByNameRet> {
    let name = args.name.to_str_lossy();
    let found = networks.all().iter().find(|network| network.name() == name).map(Network::handle);
    let missing = || NETWORK.no_network(format_args!("no network with matching name '{name}'"));
    Ok(NetworkLookupByNameRet { net: found.ok_or_else(missing)? })
}

pub(crate) async fn by_uuid(
    networks: &Networks,
    args: NetworkLookupByUuidArgs,
) -> Result<NetworkLookupByUuidRet> {
    let uuid = Uuid::from_bytes(args.uuid);
    let found = networks.all().iter().find(|network| network.uuid() == uuid).map(Network::handle);
    let missing = || NETWORK.no_network(format_args!("no network with matching uuid '{uuid}'"));
    Ok(NetworkLookupByUuidRet { net: found.ok_or_else(missing)? })
}

pub(crate) async fn xml_desc(
    networks: &Networks,
    args: NetworkGetXmlDescArgs,
) -> Result<NetworkGetXmlDescRet> {
    const INACTIVE: u32 = 1;
    check_flags(NETWORK, args.flags, INACTIVE, "networkGetXMLDesc")?;
    networks.with(&args.net, |network| {
        let options = FormatOptions { inactive: true, ..FormatOptions::default() };
        Ok(NetworkGetXmlDescRet { xml: network.definition.to_xml(&options).into() })
    })
}

pub(crate) async fn bridge_name(
    networks: &Networks,
    args: NetworkGetBridgeNameArgs,
) -> Result<NetworkGetBridgeNameRet> {
    networks.with(&args.net, |network| {
        let none = || {
            NETWORK.internal_error(format_args!("network '{}' does not have a bridge name.", network.name()))
        };
        Ok(NetworkGetBridgeNameRet { name: network.bridge().ok_or_else(none)?.into() })
    })
}

pub(crate) async fn autostart(
    networks: &Networks,
    args: NetworkGetAutostartArgs,
) -> Result<NetworkGetAutostartRet> {
    networks.with(&args.net, |network| Ok(NetworkGetAutostartRet { autostart: network.autostart.into() }))
}

/// Answers that are the same for every network.
macro_rules! always {
    ($($name:ident($args:ident $net:ident) -> $ret:expr;)*) => {
        $(pub(crate) async fn $name(networks: &Networks, args: $args) -> Result<always!(@ret $args)> {
            networks.with(&args.$net, |_| Ok($ret))
        })*
    };
    (@ret NetworkIsActiveArgs) => { NetworkIsActiveRet };
    (@ret NetworkIsPersistentArgs) => { NetworkIsPersistentRet };
    (@ret NetworkGetDhcpLeasesArgs) => { NetworkGetDhcpLeasesRet };
    (@ret NetworkListAllPortsArgs) => { NetworkListAllPortsRet };
}

always! {
    is_active(NetworkIsActiveArgs net) -> NetworkIsActiveRet { active: 0 };
    is_persistent(NetworkIsPersistentArgs net) -> NetworkIsPersistentRet { persistent: 1 };
    leases(NetworkGetDhcpLeasesArgs net) -> NetworkGetDhcpLeasesRet::default();
    ports(NetworkListAllPortsArgs network) -> NetworkListAllPortsRet::default();
}
