//! What clients ask about networks.

use uuid::Uuid;
use virtwire_conf::FormatOptions;
use virtwire_driver_api::{check_flags, passes};
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::*;

use crate::{NETWORK, Network, Networks, Result};

/// `virConnectListAllNetworksFlags`
fn matches(network: &Network, flags: u32) -> bool {
    passes(flags, 2, 1, network.live.is_some())
        && passes(flags, 4, 8, network.stored.is_some())
        && passes(flags, 16, 32, network.autostart)
}

/// The names of those that run, or of those that don't.
fn names(networks: &Networks, running: bool) -> Vec<XdrString> {
    let all = networks.all();
    all.iter()
        .filter(|network| network.live.is_some() == running)
        .map(|network| network.name.as_str().into())
        .collect()
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

pub(crate) async fn count_active(networks: &Networks) -> Result<ConnectNumOfNetworksRet> {
    Ok(ConnectNumOfNetworksRet { num: names(networks, true).len() as i32 })
}

pub(crate) async fn active(
    networks: &Networks,
    args: ConnectListNetworksArgs,
) -> Result<ConnectListNetworksRet> {
    let mut names = names(networks, true);
    names.truncate(usize::try_from(args.maxnames).unwrap_or_default());
    Ok(ConnectListNetworksRet { names })
}

pub(crate) async fn count_inactive(networks: &Networks) -> Result<ConnectNumOfDefinedNetworksRet> {
    Ok(ConnectNumOfDefinedNetworksRet { num: names(networks, false).len() as i32 })
}

pub(crate) async fn inactive(
    networks: &Networks,
    args: ConnectListDefinedNetworksArgs,
) -> Result<ConnectListDefinedNetworksRet> {
    let mut names = names(networks, false);
    names.truncate(usize::try_from(args.maxnames).unwrap_or_default());
    Ok(ConnectListDefinedNetworksRet { names })
}

pub(crate) async fn by_name(
    networks: &Networks,
    args: NetworkLookupByNameArgs,
) -> Result<NetworkLookupByNameRet> {
    let name = args.name.to_str_lossy();
    let found = networks.all().iter().find(|network| network.name == name).map(Network::handle);
    let missing = || NETWORK.no_network(format_args!("no network with matching name '{name}'"));
    Ok(NetworkLookupByNameRet { net: found.ok_or_else(missing)? })
}

pub(crate) async fn by_uuid(
    networks: &Networks,
    args: NetworkLookupByUuidArgs,
) -> Result<NetworkLookupByUuidRet> {
    let uuid = Uuid::from_bytes(args.uuid);
    let found = networks.all().iter().find(|network| network.uuid == uuid).map(Network::handle);
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
        let stored = network.stored.as_ref().filter(|_| args.flags & INACTIVE != 0);
        let inactive = stored.is_some() || network.live.is_none();
        let options = FormatOptions { inactive, ..FormatOptions::default() };
        let definition = match &network.live {
            Some(live) if stored.is_none() => Some(live.shown()),
            _ => network.stored.clone(),
        };
        Ok(NetworkGetXmlDescRet { xml: definition.unwrap_or_default().to_xml(&options).into() })
    })
}

pub(crate) async fn bridge_name(
    networks: &Networks,
    args: NetworkGetBridgeNameArgs,
) -> Result<NetworkGetBridgeNameRet> {
    networks.with(&args.net, |network| {
        let none = || {
            NETWORK.internal_error(format_args!("network '{}' does not have a bridge name.", network.name))
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

pub(crate) async fn is_active(networks: &Networks, args: NetworkIsActiveArgs) -> Result<NetworkIsActiveRet> {
    networks.with(&args.net, |network| Ok(NetworkIsActiveRet { active: network.live.is_some().into() }))
}

pub(crate) async fn is_persistent(
    networks: &Networks,
    args: NetworkIsPersistentArgs,
) -> Result<NetworkIsPersistentRet> {
    networks
        .with(&args.net, |network| Ok(NetworkIsPersistentRet { persistent: network.stored.is_some().into() }))
}
