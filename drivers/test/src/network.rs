//! Virtual networks.

mod metadata;

use std::net::Ipv4Addr;
use virtwire_conf::{FormatOptions, ParseOptions};
use virtwire_driver_api::{NetworkDriver, passes, serve};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::{self as wire, Event, *};

use crate::domain::guest::affect;
use crate::driver::TestConnection;
use crate::error::{Result, TEST, check_flags, uuid_text};
use crate::host::Host;
use crate::registry::{Object, Registry, Uuid};

/// Errors about definitions and updates come from the code that all network drivers share.
const NETWORK: ErrorDomain = ErrorDomain::NETWORK;

/// `virNetworkEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Defined = 0,
    Undefined = 1,
    Started = 2,
    Stopped = 3,
}

/// A network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) definition: virtwire_conf::Network,
    /// A new definition, from the next start on.
    pub(crate) next: Option<virtwire_conf::Network>,
    pub(crate) active: bool,
    persistent: bool,
    autostart: bool,
}

impl Object for Network {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn uuid(&self) -> Option<Uuid> {
        Some(self.definition.uuid.map(|uuid| *uuid.as_bytes()).unwrap_or_default())
    }

    fn is_active(&self) -> bool {
        self.active
    }
}

impl Network {
    /// A network that runs and stays, as those of a node file.
    pub(crate) fn started(definition: virtwire_conf::Network) -> Self {
        Self { definition, next: None, active: true, persistent: true, autostart: false }
    }

    pub(crate) fn wire(&self) -> wire::NonnullNetwork {
        wire::NonnullNetwork { name: self.name().into(), uuid: self.uuid().unwrap_or_default() }
    }

    fn event(&self, what: Lifecycle) -> Event {
        let msg = wire::NetworkEventLifecycleMsg {
            callback_id: 0,
            net: self.wire(),
            event: what as i32,
            detail: 0,
        };
        Event::NetworkLifecycle(msg)
    }

    /// Which definitions `flags` (see [`affect`]) mean: that of the running network, the stored one.
    pub(crate) fn affected(&self, flags: u32) -> Result<(bool, bool)> {
        let (live, config) = (flags & affect::LIVE != 0, flags & affect::CONFIG != 0);
        if config && !self.persistent {
            return Err(NETWORK.operation_invalid("cannot change persistent config of a transient network"));
        }
        if live && !self.active {
            return Err(NETWORK.operation_invalid("network is not running"));
        }
        Ok(if live || config { (live, config) } else { (self.active, !self.active) })
    }

    fn stop(&mut self) -> Event {
        self.active = false;
        if let Some(next) = self.next.take() {
            self.definition = next;
        }
        self.event(Lifecycle::Stopped)
    }

    /// The address from which guests are counted, and its prefix: where its DHCP range starts, else its own.
    pub(crate) fn first_address(&self) -> Option<(Ipv4Addr, u32)> {
        let ip = self.definition.ips.iter().find(|ip| ip.family.as_deref().unwrap_or("ipv4") == "ipv4")?;
        let own: Ipv4Addr = ip.address.as_deref()?.parse().ok()?;
        let mask =
            || ip.netmask.as_deref()?.parse::<Ipv4Addr>().ok().map(|mask| u32::from(mask).count_ones());
        let range = ip.dhcp.as_ref().and_then(|dhcp| dhcp.ranges.first()?.start.as_deref()?.parse().ok());
        Some((range.unwrap_or(own), ip.prefix.or_else(mask).unwrap_or(24)))
    }
}

impl Host {
    /// The network of that name.
    pub(crate) fn network_by_name(&self, name: &str) -> Result<&Network> {
        let found = self.networks.by_name(name);
        found.ok_or_else(|| TEST.no_network(format_args!("no network with matching name '{name}'")))
    }

    /// The network that a client means, by its UUID.
    fn network_by_uuid_mut(&mut self, net: &wire::NonnullNetwork) -> Result<&mut Network> {
        let missing =
            || TEST.no_network(format_args!("no network with matching uuid '{}'", uuid_text(&net.uuid)));
        self.networks.by_uuid_mut(&net.uuid).ok_or_else(missing)
    }

    /// The network that a client means, by its name.
    fn network_mut(&mut self, net: &wire::NonnullNetwork) -> Result<&mut Network> {
        let name = net.name.to_str_lossy();
        let found = self.networks.by_name_mut(&name);
        found.ok_or_else(|| TEST.no_network(format_args!("no network with matching name '{name}'")))
    }
}

/// A definition may only replace a network that has both its name and its UUID.
pub(crate) fn check_same(networks: &Registry<Network>, new: &virtwire_conf::Network) -> Result<()> {
    let uuid = new.uuid.map(|uuid| *uuid.as_bytes()).unwrap_or_default();
    match (networks.by_uuid(&uuid), networks.by_name(&new.name)) {
        (Some(old), _) if old.name() != new.name => Err(NETWORK.operation_failed(format_args!(
            "network '{}' is already defined with uuid {}",
            old.name(),
            uuid_text(&uuid)
        ))),
        (None, Some(old)) => Err(NETWORK.operation_failed(format_args!(
            "network '{}' already exists with uuid {}",
            new.name,
            uuid_text(&old.uuid().unwrap_or_default())
        ))),
        _ => Ok(()),
    }
}

fn parse(host: &Host, xml: &str) -> Result<virtwire_conf::Network> {
    let new = virtwire_conf::Network::parse(xml, &ParseOptions::test())?;
    check_same(&host.networks, &new)?;
    Ok(new)
}

fn define(host: &mut Host, xml: &str) -> Result<wire::NonnullNetwork> {
    let new = parse(host, xml)?;
    let network = match host.networks.by_name_mut(&new.name) {
        Some(old) => {
            old.persistent = true;
            if old.active {
                old.next = Some(new);
            } else {
                old.definition = new;
            }
            old.clone()
        }
        None => {
            let network = Network { active: false, ..Network::started(new) };
            host.networks.insert(network.clone());
            network
        }
    };
    host.emit(network.event(Lifecycle::Defined));
    Ok(network.wire())
}

fn create_xml_of(host: &mut Host, xml: &str) -> Result<wire::NonnullNetwork> {
    let new = parse(host, xml)?;
    let old = host.networks.by_name(&new.name);
    if let Some(old) = old.filter(|old| old.active) {
        let text = format_args!("network is already active as '{}'", old.name());
        return Err(NETWORK.operation_invalid(text));
    }
    let network = match host.networks.by_name_mut(&new.name) {
        Some(old) => {
            old.next = Some(std::mem::replace(&mut old.definition, new));
            old.active = true;
            old.clone()
        }
        None => {
            let network = Network { persistent: false, ..Network::started(new) };
            host.networks.insert(network.clone());
            network
        }
    };
    host.emit(network.event(Lifecycle::Started));
    Ok(network.wire())
}

/// `virConnectListAllNetworksFlags`: pairs of active, persistent, autostart.
const LIST_KNOWN: u32 = (1 << 6) - 1;

fn list_all(host: &mut Host, args: ConnectListAllNetworksArgs) -> Result<ConnectListAllNetworksRet> {
    check_flags(args.flags, LIST_KNOWN, "testConnectListAllNetworks")?;
    let found = host.networks.iter().filter(|network| {
        passes(args.flags, 2, 1, network.active)
            && passes(args.flags, 4, 8, network.persistent)
            && passes(args.flags, 16, 32, network.autostart)
    });
    let nets: Vec<_> = found.map(Network::wire).collect();
    let ret = nets.len() as u32;
    Ok(ConnectListAllNetworksRet { nets: if args.need_results == 0 { Vec::new() } else { nets }, ret })
}

fn count_active(host: &mut Host) -> Result<ConnectNumOfNetworksRet> {
    Ok(ConnectNumOfNetworksRet { num: host.networks.count(true) })
}

fn count_inactive(host: &mut Host) -> Result<ConnectNumOfDefinedNetworksRet> {
    Ok(ConnectNumOfDefinedNetworksRet { num: host.networks.count(false) })
}

fn active(host: &mut Host, args: ConnectListNetworksArgs) -> Result<ConnectListNetworksRet> {
    Ok(ConnectListNetworksRet { names: host.networks.names(true, args.maxnames).map(Into::into).collect() })
}

fn inactive(host: &mut Host, args: ConnectListDefinedNetworksArgs) -> Result<ConnectListDefinedNetworksRet> {
    Ok(ConnectListDefinedNetworksRet {
        names: host.networks.names(false, args.maxnames).map(Into::into).collect(),
    })
}

fn by_name(host: &mut Host, args: NetworkLookupByNameArgs) -> Result<NetworkLookupByNameRet> {
    Ok(NetworkLookupByNameRet { net: host.network_by_name(&args.name.to_str_lossy())?.wire() })
}

fn by_uuid(host: &mut Host, args: NetworkLookupByUuidArgs) -> Result<NetworkLookupByUuidRet> {
    let found = host.networks.by_uuid(&args.uuid).ok_or_else(|| {
        TEST.no_network(format_args!("no network with matching uuid '{}'", uuid_text(&args.uuid)))
    });
    Ok(NetworkLookupByUuidRet { net: found?.wire() })
}

fn define_xml(host: &mut Host, args: NetworkDefineXmlArgs) -> Result<NetworkDefineXmlRet> {
    Ok(NetworkDefineXmlRet { net: define(host, &args.xml.to_str_lossy())? })
}

/// `VIR_NETWORK_DEFINE_VALIDATE` and `VIR_NETWORK_CREATE_VALIDATE`
const VALIDATE: u32 = 1;

fn define_xml_flags(host: &mut Host, args: NetworkDefineXmlFlagsArgs) -> Result<NetworkDefineXmlFlagsRet> {
    check_flags(args.flags, VALIDATE, "testNetworkDefineXMLFlags")?;
    Ok(NetworkDefineXmlFlagsRet { net: define(host, &args.xml.to_str_lossy())? })
}

fn create_xml(host: &mut Host, args: NetworkCreateXmlArgs) -> Result<NetworkCreateXmlRet> {
    Ok(NetworkCreateXmlRet { net: create_xml_of(host, &args.xml.to_str_lossy())? })
}

fn create_xml_flags(host: &mut Host, args: NetworkCreateXmlFlagsArgs) -> Result<NetworkCreateXmlFlagsRet> {
    check_flags(args.flags, VALIDATE, "testNetworkCreateXMLFlags")?;
    Ok(NetworkCreateXmlFlagsRet { net: create_xml_of(host, &args.xml.to_str_lossy())? })
}

fn create(host: &mut Host, args: NetworkCreateArgs) -> Result<()> {
    let network = host.network_mut(&args.net)?;
    if network.active {
        let text = format_args!("Network '{}' is already running", network.name());
        return Err(TEST.operation_invalid(text));
    }
    network.active = true;
    let event = network.event(Lifecycle::Started);
    host.emit(event);
    Ok(())
}

fn destroy(host: &mut Host, args: NetworkDestroyArgs) -> Result<()> {
    let network = host.network_mut(&args.net)?;
    let event = network.stop();
    if !network.persistent {
        host.networks.remove(&args.net.name.to_str_lossy());
    }
    host.emit(event);
    Ok(())
}

fn undefine(host: &mut Host, args: NetworkUndefineArgs) -> Result<()> {
    let network = host.network_mut(&args.net)?;
    if network.active {
        let text = format_args!("Network '{}' is still running", network.name());
        return Err(TEST.operation_invalid(text));
    }
    let event = network.event(Lifecycle::Undefined);
    host.networks.remove(&args.net.name.to_str_lossy());
    host.emit(event);
    Ok(())
}

fn get_xml_desc(host: &mut Host, args: NetworkGetXmlDescArgs) -> Result<NetworkGetXmlDescRet> {
    check_flags(args.flags, 0, "testNetworkGetXMLDesc")?;
    let network = host.network_mut(&args.net)?;
    Ok(NetworkGetXmlDescRet { xml: network.definition.to_xml(&FormatOptions::default()).into() })
}

fn bridge_name(host: &mut Host, args: NetworkGetBridgeNameArgs) -> Result<NetworkGetBridgeNameRet> {
    let network = host.network_mut(&args.net)?;
    let name = network.definition.bridge.as_ref().and_then(|bridge| bridge.name.clone());
    let name = name.ok_or_else(|| {
        TEST.internal_error(format_args!("network '{}' does not have a bridge name.", network.name()))
    });
    Ok(NetworkGetBridgeNameRet { name: name?.into() })
}

fn autostart(host: &mut Host, args: NetworkGetAutostartArgs) -> Result<NetworkGetAutostartRet> {
    Ok(NetworkGetAutostartRet { autostart: host.network_mut(&args.net)?.autostart.into() })
}

fn set_autostart(host: &mut Host, args: NetworkSetAutostartArgs) -> Result<()> {
    host.network_mut(&args.net)?.autostart = args.autostart != 0;
    Ok(())
}

fn is_active(host: &mut Host, args: NetworkIsActiveArgs) -> Result<NetworkIsActiveRet> {
    Ok(NetworkIsActiveRet { active: host.network_by_uuid_mut(&args.net)?.active.into() })
}

fn is_persistent(host: &mut Host, args: NetworkIsPersistentArgs) -> Result<NetworkIsPersistentRet> {
    Ok(NetworkIsPersistentRet { persistent: host.network_by_uuid_mut(&args.net)?.persistent.into() })
}

fn update(host: &mut Host, args: NetworkUpdateArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE | affect::CONFIG, "testNetworkUpdate")?;
    let network = host.network_by_uuid_mut(&args.net)?;
    let (live, config) = network.affected(args.flags)?;
    let xml = args.xml.to_str_lossy();
    let change = |definition: &virtwire_conf::Network| {
        definition.update(args.command, args.section, args.parent_index, &xml)
    };
    let stored = network.next.clone().unwrap_or_else(|| network.definition.clone());
    let new_live = live.then(|| change(&network.definition)).transpose()?;
    let new_stored = config.then(|| change(&stored)).transpose()?;
    match (new_live, new_stored) {
        (Some(new), Some(stored)) => {
            network.definition = new;
            network.next = Some(stored);
        }
        (Some(new), None) => {
            network.next.get_or_insert(stored);
            network.definition = new;
        }
        (None, Some(stored)) if network.active => network.next = Some(stored),
        (None, Some(stored)) => network.definition = stored,
        (None, None) => {}
    }
    Ok(())
}

serve! {
    NetworkDriver for TestConnection by run {
        connect_list_all_networks = list_all;
        connect_num_of_networks = count_active;
        connect_list_networks = active;
        connect_num_of_defined_networks = count_inactive;
        connect_list_defined_networks = inactive;
        network_lookup_by_name = by_name;
        network_lookup_by_uuid = by_uuid;
        network_define_xml = define_xml;
        network_define_xml_flags = define_xml_flags;
        network_create_xml = create_xml;
        network_create_xml_flags = create_xml_flags;
        network_create = create;
        network_destroy = destroy;
        network_undefine = undefine;
        network_update = update;
        network_get_xml_desc = get_xml_desc;
        network_get_metadata = metadata::get;
        network_set_metadata = metadata::set;
        network_get_bridge_name = bridge_name;
        network_get_autostart = autostart;
        network_set_autostart = set_autostart;
        network_is_active = is_active;
        network_is_persistent = is_persistent;
    }
}
