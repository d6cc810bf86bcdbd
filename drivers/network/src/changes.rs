//! What changes networks: definitions, starts and ends, and entries of them.

use std::path::Path;
use std::sync::Arc;

use virtwire_conf::xml::utf8;
use virtwire_conf::{FormatOptions, Network as Definition, ParseOptions, QemuHost};
use virtwire_driver_api::check_flags;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_store as store;

use crate::run::{self, Live};
use crate::{NETWORK, Network, Networks, Result, functions};

/// `virNetworkEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Defined = 0,
    Undefined = 1,
    Started = 2,
    Stopped = 3,
}

impl Networks {
    /// Reads a definition that no other network is in the way of.
    fn parse(&self, xml: &str, validate: bool) -> Result<Definition> {
        let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(validate);
        let mut definition = Definition::parse(xml, &options)?;
        let uuid = definition.uuid.unwrap_or_default();
        let all = self.all();
        if let Some(other) = all.iter().find(|other| other.uuid == uuid && other.name != definition.name) {
            let text = format_args!("network '{}' is already defined with uuid {uuid}", other.name);
            return Err(NETWORK.operation_failed(text));
        }
        if let Some(other) = all.iter().find(|other| other.name == definition.name && other.uuid != uuid) {
            let text = format_args!("network '{}' already exists with uuid {}", other.name, other.uuid);
            return Err(NETWORK.operation_failed(text));
        }
        let others: Vec<&str> =
            all.iter().filter(|other| other.uuid != uuid).filter_map(Network::bridge).collect();
        name_bridge(&mut definition, &others)?;
        functions::check(&definition, Path::new(functions::DEVICES))?;
        Ok(definition)
    }

    pub(crate) async fn define(&self, xml: &str, validate: bool) -> Result<NonnullNetwork> {
        let _change = self.changes.lock().await;
        let definition = self.parse(xml, validate)?;
        self.write(&definition)?;
        let new = Network::new(&definition);
        let handle = new.handle();
        let mut all = self.all();
        if !all.iter().any(|known| known.uuid == new.uuid) {
            all.push(new);
        }
        drop(all);
        self.with(&handle, |network| {
            network.stored = Some(definition);
            Ok(())
        })?;
        self.tell(handle.clone(), Lifecycle::Defined);
        Ok(handle)
    }

    pub(crate) fn write(&self, definition: &Definition) -> Result<()> {
        let path = self.places.definition(&definition.name);
        let cannot = |e| {
            VirtError::system(NETWORK, &e, format_args!("Failed to create file '{}.new'", path.display()))
        };
        store::write(&path, &stored(definition)).map_err(cannot)
    }

    /// Starts a stored network.
    pub(crate) async fn start(&self, net: &NonnullNetwork) -> Result<()> {
        let _change = self.changes.lock().await;
        let definition = self.with(net, |network| {
            let idle = network.stored.clone().filter(|_| network.live.is_none());
            idle.ok_or_else(|| NETWORK.operation_invalid("network is already active"))
        })?;
        self.run(net, definition).await
    }

    /// Starts a network that is stored nowhere, or otherwise.
    pub(crate) async fn create(&self, xml: &str, validate: bool) -> Result<NonnullNetwork> {
        let _change = self.changes.lock().await;
        let definition = self.parse(xml, validate)?;
        let new = Network::new(&definition);
        let handle = new.handle();
        {
            let mut all = self.all();
            match all.iter().find(|known| known.uuid == new.uuid) {
                Some(known) if known.live.is_some() => {
                    let text = format_args!("network is already active as '{}'", known.name);
                    return Err(NETWORK.operation_invalid(text));
                }
                Some(_) => {}
                None => all.push(new),
            }
        }
        let done = self.run(&handle, definition).await;
        if done.is_err() {
            self.all().retain(|network| network.live.is_some() || network.stored.is_some());
        }
        done.map(|()| handle)
    }

    async fn run(&self, net: &NonnullNetwork, definition: Definition) -> Result<()> {
        let live = Live::new(definition);
        run::up(&self.places, &live.definition).await?;
        if let Err(error) = run::remember(&self.places, &live.definition) {
            run::down(&self.places, &live.definition).await;
            return Err(error);
        }
        self.with(net, |network| {
            network.live = Some(live);
            Ok(())
        })?;
        self.tell(net.clone(), Lifecycle::Started);
        Ok(())
    }

    pub(crate) async fn stop(&self, net: &NonnullNetwork) -> Result<()> {
        let _change = self.changes.lock().await;
        let definition = self.with(net, |network| Ok(network.live()?.definition.clone()))?;
        run::down(&self.places, &definition).await;
        self.with(net, |network| {
            network.live = None;
            Ok(())
        })?;
        self.all().retain(|network| network.live.is_some() || network.stored.is_some());
        self.tell(net.clone(), Lifecycle::Stopped);
        Ok(())
    }

    /// Changes one entry of what is stored, of what runs, or of both.
    async fn update(&self, args: NetworkUpdateArgs) -> Result<()> {
        const LIVE: u32 = 1;
        const CONFIG: u32 = 2;
        check_flags(NETWORK, args.flags, LIVE | CONFIG, "networkUpdate")?;
        let _change = self.changes.lock().await;
        let xml = args.xml.to_str_lossy();
        let changed =
            |definition: &Definition| definition.update(args.command, args.section, args.parent_index, &xml);
        let (stored, live) = self.with(&args.net, |network| {
            // With neither flag, what there is of the two that counts now.
            let both = args.flags & (LIVE | CONFIG);
            let is_live = if both == 0 { network.live.is_some() } else { both & LIVE != 0 };
            let is_stored = if both == 0 { network.live.is_none() } else { both & CONFIG != 0 };
            if is_live && network.live.is_none() {
                return Err(NETWORK.operation_invalid("network is not running"));
            }
            if is_stored && network.stored.is_none() {
                return Err(
                    NETWORK.operation_invalid("cannot change persistent config of a transient network")
                );
            }
            let old = network.live.as_ref().filter(|_| is_live).map(|live| live.definition.clone());
            let live = old.map(|old| Ok::<_, VirtError>((changed(&old)?, old))).transpose()?;
            let stored = network.stored.as_ref().filter(|_| is_stored).map(changed).transpose()?;
            Ok((stored, live))
        })?;
        if let Some(stored) = stored {
            self.write(&stored)?;
            self.with(&args.net, |network| {
                network.stored = Some(stored);
                Ok(())
            })?;
        }
        if let Some((new, old)) = live {
            run::change(&self.places, &old, &new).await?;
            run::remember(&self.places, &new)?;
            self.with(&args.net, |network| {
                if let Some(live) = &mut network.live {
                    live.definition = new;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    async fn undefine(&self, net: NonnullNetwork) -> Result<()> {
        let _change = self.changes.lock().await;
        let name = self.with(&net, |network| {
            let transient = || NETWORK.operation_invalid("can't undefine transient network");
            network.stored.as_ref().ok_or_else(transient)?;
            Ok(network.name.clone())
        })?;
        for path in [self.places.autostart_link(&name), self.places.definition(&name)] {
            let cannot =
                |e| VirtError::system(NETWORK, &e, format_args!("cannot remove '{}'", path.display()));
            store::remove(&path).map_err(cannot)?;
        }
        self.with(&net, |network| {
            (network.stored, network.autostart) = (None, false);
            Ok(())
        })?;
        self.all().retain(|network| network.live.is_some());
        self.tell(net, Lifecycle::Undefined);
        Ok(())
    }

    fn tell(&self, net: NonnullNetwork, event: Lifecycle) {
        let msg = NetworkEventLifecycleMsg { callback_id: 0, net, event: event as i32, detail: 0 };
        self.events.emit(Event::NetworkLifecycle(msg));
    }
}

/// A bridge of its own has a name of its own: what is said, or the first `virbrN` that neither another network nor the
/// host has. A bridge of the host may be that of many networks.
fn name_bridge(definition: &mut Definition, others: &[&str]) -> Result<()> {
    if !run::has_own_bridge(definition) {
        return Ok(());
    }
    let Some(bridge) = &mut definition.bridge else { return Ok(()) };
    let name = bridge.name.clone().filter(|name| !name.is_empty());
    match name {
        Some(name) if !name.contains("%d") => {
            if others.contains(&name.as_str()) {
                return Err(NETWORK.internal_error(format_args!("bridge name '{name}' already in use.")));
            }
        }
        template => {
            let template = template.unwrap_or_else(|| "virbr%d".to_owned());
            let taken = |name: &String| others.contains(&name.as_str()) || virtwire_link::exists(name);
            let mut names = (0..=256).map(|number| template.replacen("%d", &number.to_string(), 1));
            let free = names.find(|name| !taken(name));
            let none = || NETWORK.internal_error("Bridge generation exceeded max id 256");
            bridge.name = Some(free.ok_or_else(none)?);
        }
    }
    Ok(())
}

/// `VIR_NETWORK_DEFINE_VALIDATE`, `VIR_NETWORK_CREATE_VALIDATE`
const VALIDATE: u32 = 1;

pub(crate) async fn define(networks: &Networks, args: NetworkDefineXmlArgs) -> Result<NetworkDefineXmlRet> {
    Ok(NetworkDefineXmlRet {
        net: networks.define(utf8(args.xml.as_bytes(), ErrorDomain::NETWORK)?, false).await?,
    })
}

pub(crate) async fn define_flags(
    networks: &Networks,
    args: NetworkDefineXmlFlagsArgs,
) -> Result<NetworkDefineXmlFlagsRet> {
    check_flags(NETWORK, args.flags, VALIDATE, "networkDefineXMLFlags")?;
    let validate = args.flags & VALIDATE != 0;
    Ok(NetworkDefineXmlFlagsRet {
        net: networks.define(utf8(args.xml.as_bytes(), ErrorDomain::NETWORK)?, validate).await?,
    })
}

pub(crate) async fn create_xml(
    networks: &Networks,
    args: NetworkCreateXmlArgs,
) -> Result<NetworkCreateXmlRet> {
    Ok(NetworkCreateXmlRet {
        net: networks.create(utf8(args.xml.as_bytes(), ErrorDomain::NETWORK)?, false).await?,
    })
}

pub(crate) async fn create_xml_flags(
    networks: &Networks,
    args: NetworkCreateXmlFlagsArgs,
) -> Result<NetworkCreateXmlFlagsRet> {
    check_flags(NETWORK, args.flags, VALIDATE, "networkCreateXMLFlags")?;
    let validate = args.flags & VALIDATE != 0;
    Ok(NetworkCreateXmlFlagsRet {
        net: networks.create(utf8(args.xml.as_bytes(), ErrorDomain::NETWORK)?, validate).await?,
    })
}

pub(crate) async fn update(networks: &Networks, args: NetworkUpdateArgs) -> Result<()> {
    networks.update(args).await
}

pub(crate) async fn undefine(networks: &Networks, args: NetworkUndefineArgs) -> Result<()> {
    networks.undefine(args.net).await
}

pub(crate) async fn create(networks: &Networks, args: NetworkCreateArgs) -> Result<()> {
    networks.start(&args.net).await
}

pub(crate) async fn destroy(networks: &Networks, args: NetworkDestroyArgs) -> Result<()> {
    networks.stop(&args.net).await
}

pub(crate) async fn set_autostart(networks: &Networks, args: NetworkSetAutostartArgs) -> Result<()> {
    networks.with(&args.net, |network| {
        if network.stored.is_none() {
            return Err(NETWORK.operation_invalid("cannot set autostart for transient network"));
        }
        let (link, wanted) = (networks.places.autostart_link(&network.name), args.autostart != 0);
        let file = networks.places.definition(&network.name);
        let done = if wanted { store::link(&file, &link) } else { store::remove(&link) };
        let cannot =
            |e| VirtError::system(NETWORK, &e, format_args!("Failed to create symlink '{}'", link.display()));
        done.map_err(cannot)?;
        network.autostart = wanted;
        Ok(())
    })
}

/// A network as it is kept.
pub(crate) fn stored(definition: &Definition) -> String {
    let xml = definition.to_xml(&FormatOptions { inactive: true, ..FormatOptions::default() });
    store::with_warning(&format!("net-edit {}", definition.name), &xml)
}
