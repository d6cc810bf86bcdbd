//! Definitions of virtual networks, kept in libvirt's own layout. Starting one would take bridges, packet filters and
//! dnsmasq; that is refused by name.

mod listing;
mod metadata;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use virtwire_conf::{FormatOptions, Network as Definition, ParseOptions, QemuHost};
use virtwire_driver_api::{EventHub, check_flags};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_store as store;

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const NETWORK: ErrorDomain = ErrorDomain::NETWORK;

/// `virNetworkEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Defined = 0,
    Undefined = 1,
}

/// The networks of the machine or of one user.
pub struct Networks {
    config: PathBuf,
    events: Arc<EventHub>,
    all: Mutex<Vec<Network>>,
}

/// A network.
struct Network {
    definition: Definition,
    autostart: bool,
}

impl Network {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn uuid(&self) -> Uuid {
        self.definition.uuid.unwrap_or_default()
    }

    fn bridge(&self) -> Option<&str> {
        self.definition.bridge.as_ref()?.name.as_deref()
    }

    fn handle(&self) -> NonnullNetwork {
        NonnullNetwork { name: self.name().into(), uuid: self.uuid().into_bytes() }
    }
}

impl Networks {
    /// The networks that `config` keeps; it is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(config: PathBuf, events: Arc<EventHub>) -> io::Result<Self> {
        for dir in [&config, &config.join("autostart")] {
            store::make_dir(dir, 0o755)?;
        }
        let mut all = Vec::new();
        for (name, text) in store::read_all(&config)? {
            let definition = text.map_err(|error| error.to_string()).and_then(|text| {
                Definition::parse(&text, &ParseOptions::default()).map_err(|error| error.message)
            });
            match definition {
                Ok(definition) if definition.name == name => {
                    let autostart = config.join("autostart").join(format!("{name}.xml")).is_symlink();
                    all.push(Network { definition, autostart });
                }
                Ok(_) => tracing::warn!(file = name, "the file is not named like its network"),
                Err(error) => tracing::warn!(file = name, error, "a network cannot be read"),
            }
        }
        Ok(Self { config, events, all: Mutex::new(all) })
    }

    fn all(&self) -> MutexGuard<'_, Vec<Network>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn definition_file(&self, name: &str) -> PathBuf {
        self.config.join(format!("{name}.xml"))
    }

    fn autostart_link(&self, name: &str) -> PathBuf {
        self.config.join("autostart").join(format!("{name}.xml"))
    }

    /// Does something with the network that a client means.
    fn with<T>(&self, net: &NonnullNetwork, act: impl FnOnce(&mut Network) -> Result<T>) -> Result<T> {
        let uuid = Uuid::from_bytes(net.uuid);
        let missing =
            || NETWORK.no_network(format_args!("no network with matching uuid '{uuid}' ({})", net.name));
        act(self.all().iter_mut().find(|known| known.uuid() == uuid).ok_or_else(missing)?)
    }

    fn define(&self, xml: &str, validate: bool) -> Result<NonnullNetwork> {
        let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(validate);
        let mut definition = Definition::parse(xml, &options)?;
        let uuid = definition.uuid.unwrap_or_default();
        let mut all = self.all();
        if let Some(other) = all.iter().find(|other| other.uuid() == uuid && other.name() != definition.name)
        {
            let text = format_args!("network '{}' is already defined with uuid {uuid}", other.name());
            return Err(NETWORK.operation_failed(text));
        }
        if let Some(other) = all.iter().find(|other| other.name() == definition.name && other.uuid() != uuid)
        {
            let text = format_args!("network '{}' already exists with uuid {}", other.name(), other.uuid());
            return Err(NETWORK.operation_failed(text));
        }
        let others: Vec<&str> =
            all.iter().filter(|other| other.uuid() != uuid).filter_map(Network::bridge).collect();
        name_bridge(&mut definition, &others)?;
        self.write(&definition)?;
        let old = all.iter().position(|other| other.uuid() == uuid);
        let autostart = old.is_some_and(|at| all.remove(at).autostart);
        let network = Network { definition, autostart };
        let handle = network.handle();
        all.push(network);
        drop(all);
        self.tell(handle.clone(), Lifecycle::Defined);
        Ok(handle)
    }

    fn write(&self, definition: &Definition) -> Result<()> {
        let path = self.definition_file(&definition.name);
        let xml = definition.to_xml(&FormatOptions { inactive: true, ..FormatOptions::default() });
        let text = store::with_warning(&format!("net-edit {}", definition.name), &xml);
        let cannot = |e| {
            VirtError::system(NETWORK, &e, format_args!("Failed to create file '{}.new'", path.display()))
        };
        store::write(&path, &text).map_err(cannot)
    }

    fn tell(&self, net: NonnullNetwork, event: Lifecycle) {
        let msg = NetworkEventLifecycleMsg { callback_id: 0, net, event: event as i32, detail: 0 };
        self.events.emit(Event::NetworkLifecycle(msg));
    }
}

/// A bridge of its own has a name of its own: what is said, or the first `virbrN` that neither another network nor the
/// host has.
fn name_bridge(definition: &mut Definition, others: &[&str]) -> Result<()> {
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
            let taken = |name: &String| {
                others.contains(&name.as_str()) || Path::new("/sys/class/net").join(name).exists()
            };
            let mut names = (0..=256).map(|number| template.replacen("%d", &number.to_string(), 1));
            let free = names.find(|name| !taken(name));
            let none = || NETWORK.internal_error("Bridge generation exceeded max id 256");
            bridge.name = Some(free.ok_or_else(none)?);
        }
    }
    Ok(())
}

async fn define(networks: &Networks, args: NetworkDefineXmlArgs) -> Result<NetworkDefineXmlRet> {
    Ok(NetworkDefineXmlRet { net: networks.define(&args.xml.to_str_lossy(), false)? })
}

async fn define_flags(
    networks: &Networks,
    args: NetworkDefineXmlFlagsArgs,
) -> Result<NetworkDefineXmlFlagsRet> {
    const VALIDATE: u32 = 1;
    check_flags(NETWORK, args.flags, VALIDATE, "networkDefineXMLFlags")?;
    let validate = args.flags & VALIDATE != 0;
    Ok(NetworkDefineXmlFlagsRet { net: networks.define(&args.xml.to_str_lossy(), validate)? })
}

/// Changes one entry of a stored network; none runs here.
async fn update(networks: &Networks, args: NetworkUpdateArgs) -> Result<()> {
    const LIVE: u32 = 1;
    const CONFIG: u32 = 2;
    check_flags(NETWORK, args.flags, LIVE | CONFIG, "networkUpdate")?;
    networks.with(&args.net, |network| {
        if args.flags & LIVE != 0 {
            return Err(NETWORK.operation_invalid("network is not running"));
        }
        let xml = args.xml.to_str_lossy();
        let changed = network.definition.update(args.command, args.section, args.parent_index, &xml)?;
        networks.write(&changed)?;
        network.definition = changed;
        Ok(())
    })
}

async fn undefine(networks: &Networks, args: NetworkUndefineArgs) -> Result<()> {
    let name = networks.with(&args.net, |network| Ok(network.name().to_owned()))?;
    for path in [networks.autostart_link(&name), networks.definition_file(&name)] {
        let cannot = |e| VirtError::system(NETWORK, &e, format_args!("cannot remove '{}'", path.display()));
        store::remove(&path).map_err(cannot)?;
    }
    networks.all().retain(|network| network.name() != name);
    networks.tell(args.net, Lifecycle::Undefined);
    Ok(())
}

async fn create(networks: &Networks, args: NetworkCreateArgs) -> Result<()> {
    networks.with(&args.net, |network| {
        Err(NETWORK.config_unsupported(format_args!("network '{}' cannot be started here", network.name())))
    })
}

async fn destroy(networks: &Networks, args: NetworkDestroyArgs) -> Result<()> {
    networks.with(&args.net, |network| {
        Err(NETWORK.operation_invalid(format_args!("network '{}' is not active", network.name())))
    })
}

async fn set_autostart(networks: &Networks, args: NetworkSetAutostartArgs) -> Result<()> {
    networks.with(&args.net, |network| {
        let (link, wanted) = (networks.autostart_link(network.name()), args.autostart != 0);
        let file = networks.definition_file(network.name());
        let done = if wanted { store::link(&file, &link) } else { store::remove(&link) };
        let cannot =
            |e| VirtError::system(NETWORK, &e, format_args!("Failed to create symlink '{}'", link.display()));
        done.map_err(cannot)?;
        network.autostart = wanted;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Networks {
        Networks::open(dir.to_owned(), EventHub::new()).unwrap()
    }

    #[test]
    fn networks_outlive_the_daemon_and_have_bridges_of_their_own() {
        let scratch = store::Scratch::new();
        let networks = open(scratch.path());
        for name in ["a", "b"] {
            networks.define(&format!("<network><name>{name}</name></network>"), false).unwrap();
        }
        let again = open(scratch.path());
        let known: Vec<_> =
            again.all().iter().map(|n| (n.name().to_owned(), n.bridge().map(str::to_owned))).collect();
        assert_eq!((known[0].0.as_str(), known[1].0.as_str()), ("a", "b"));
        assert!(known[0].1.is_some() && known[0].1 != known[1].1, "{known:?}");
        let taken = known[0].1.as_deref().unwrap();
        let xml = format!("<network><name>c</name><bridge name='{taken}'/></network>");
        assert!(again.define(&xml, false).unwrap_err().message.ends_with("already in use."));
    }

    #[test]
    fn a_definition_replaces_only_its_own() {
        let scratch = store::Scratch::new();
        let networks = open(scratch.path());
        networks.define("<network><name>a</name></network>", false).unwrap();
        let error = networks.define("<network><name>a</name></network>", false).unwrap_err();
        assert!(error.message.contains("already exists with uuid"), "{error}");
    }
}
