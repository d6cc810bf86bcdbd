//! Virtual networks, in libvirt's own layout: their definitions, and those that run, with a bridge, rules of the packet
//! filter and dnsmasq.

mod bridge;
mod changes;
mod dnsmasq;
mod firewall;
mod functions;
mod leases;
mod listing;
mod metadata;
mod ports;
mod run;
mod serve;
mod subnet;
mod virtualport;

use std::io;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use virtwire_conf::{Network as Definition, ParseOptions};
use virtwire_driver_api::{EventHub, Kept, async_trait};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;
use virtwire_store::{self as store, Found, Place};

use run::Live;

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const NETWORK: ErrorDomain = ErrorDomain::NETWORK;

/// Where networks are kept.
#[derive(Clone, Debug)]
pub struct Places {
    /// What is stored.
    pub config: PathBuf,
    /// What runs.
    pub run: PathBuf,
    /// What dnsmasq reads and writes.
    pub state: PathBuf,
}

impl Places {
    #[cfg(test)]
    fn below(dir: &Path) -> Self {
        Self { config: dir.join("config"), run: dir.join("run"), state: dir.join("state") }
    }

    fn definition(&self, name: &str) -> PathBuf {
        self.config.join(format!("{name}.xml"))
    }

    fn autostart_link(&self, name: &str) -> PathBuf {
        self.config.join("autostart").join(format!("{name}.xml"))
    }

    fn status(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.xml"))
    }

    fn ports(&self, name: &str) -> PathBuf {
        self.run.join(name).join("ports")
    }

    /// Is there once those that start with the host have been started.
    fn autostarted(&self) -> PathBuf {
        self.run.join("autostarted")
    }
}

/// The networks of the machine or of one user.
pub struct Networks {
    places: Places,
    events: Arc<EventHub>,
    all: Mutex<Vec<Network>>,
    /// Held by whoever changes what runs or is stored: that takes more than a moment.
    changes: tokio::sync::Mutex<()>,
}

/// A network: stored, running, or both.
struct Network {
    name: String,
    uuid: Uuid,
    stored: Option<Definition>,
    live: Option<Live>,
    autostart: bool,
}

impl Network {
    fn new(definition: &Definition) -> Self {
        let (name, uuid) = (definition.name.clone(), definition.uuid.unwrap_or_default());
        Self { name, uuid, stored: None, live: None, autostart: false }
    }

    /// The definition by which it runs, or will.
    fn definition(&self) -> Option<&Definition> {
        self.live.as_ref().map(|live| &live.definition).or(self.stored.as_ref())
    }

    fn bridge(&self) -> Option<&str> {
        self.definition()?.bridge.as_ref()?.name.as_deref()
    }

    fn handle(&self) -> NonnullNetwork {
        NonnullNetwork { name: self.name.as_str().into(), uuid: self.uuid.into_bytes() }
    }

    fn live(&self) -> Result<&Live> {
        self.live.as_ref().ok_or_else(|| self.inactive())
    }

    fn inactive(&self) -> VirtError {
        NETWORK.operation_invalid(format_args!("network '{}' is not active", self.name))
    }
}

impl Networks {
    /// The networks that are kept at these places, which are made if they are not there; those that ran go on.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub async fn open(places: Places, events: Arc<EventHub>) -> io::Result<Self> {
        for dir in [&places.config, &places.config.join("autostart"), &places.run, &places.state] {
            store::make_dir(dir, 0o755)?;
        }
        let networks = Self { places, events, all: Mutex::default(), changes: tokio::sync::Mutex::default() };
        networks.load()?;
        for live in run::remembered(&networks.places).await? {
            let new = Network::new(&live.definition);
            let mut all = networks.all();
            match all.iter_mut().find(|known| known.uuid == new.uuid) {
                Some(known) => known.live = Some(live),
                None => all.push(Network { live: Some(live), ..new }),
            }
        }
        networks.mend().await;
        if !networks.places.autostarted().exists() {
            networks.autostart().await;
            std::fs::write(networks.places.autostarted(), "")?;
        }
        Ok(networks)
    }

    /// Reads the networks that are stored.
    fn load(&self) -> io::Result<()> {
        // libvirt's `default` comes without a UUID.
        let read = |text: &str| {
            let mut definition =
                Definition::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
            let is_nameless = definition.uuid.is_none();
            definition.uuid.get_or_insert_with(Uuid::new_v4);
            let completed = is_nameless.then(|| changes::stored(&definition));
            Ok(Found { name: definition.name.clone(), object: definition, completed })
        };
        let found = store::load(&self.places.config, read)?;
        let mut all = self.all();
        for definition in found {
            let autostart = self.places.autostart_link(&definition.name).is_symlink();
            let new = Network { autostart, ..Network::new(&definition) };
            let known = all.iter().map(|known| (known.name.as_str(), known.uuid));
            let at = match store::place(known, &new.name, &new.uuid) {
                Some(Place::Of(at)) => at,
                Some(Place::Behind) => {
                    all.push(new);
                    all.len() - 1
                }
                None => continue,
            };
            (all[at].stored, all[at].autostart) = (Some(definition), autostart);
        }
        Ok(())
    }

    /// Makes whole again what those that run have lost on the host.
    async fn mend(&self) {
        let running = |network: &Network| network.live.as_ref().map(|live| live.definition.clone());
        let running: Vec<_> = self.all().iter().filter_map(running).collect();
        for definition in running {
            if let Err(error) = run::mend(&self.places, &definition).await {
                tracing::warn!(network = definition.name, %error, "a running network lacks something");
            }
        }
    }

    /// Starts those that start with the host.
    async fn autostart(&self) {
        let wanted = |network: &Network| network.autostart && network.live.is_none();
        let names: Vec<NonnullNetwork> =
            self.all().iter().filter(|network| wanted(network)).map(Network::handle).collect();
        for net in names {
            if let Err(error) = self.start(&net).await {
                tracing::warn!(network = %net.name, %error, "a network does not start with the host");
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Network>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the network that a client means.
    fn with<T>(&self, net: &NonnullNetwork, act: impl FnOnce(&mut Network) -> Result<T>) -> Result<T> {
        let uuid = Uuid::from_bytes(net.uuid);
        let missing =
            || NETWORK.no_network(format_args!("no network with matching uuid '{uuid}' ({})", net.name));
        act(self.all().iter_mut().find(|known| known.uuid == uuid).ok_or_else(missing)?)
    }
}

#[async_trait]
impl Kept for Networks {
    async fn reload(&self) -> io::Result<()> {
        {
            // Nobody changes one while it is read.
            let _change = self.changes.lock().await;
            self.load()?;
            self.mend().await;
        }
        self.autostart().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(dir: &Path) -> Networks {
        Networks::open(Places::below(dir), EventHub::new()).await.unwrap()
    }

    #[tokio::test]
    async fn networks_outlive_the_daemon_and_have_bridges_of_their_own() {
        let scratch = store::Scratch::new();
        let networks = open(scratch.path()).await;
        for name in ["a", "b"] {
            networks.define(&format!("<network><name>{name}</name></network>"), false).await.unwrap();
        }
        let again = open(scratch.path()).await;
        let known: Vec<_> =
            again.all().iter().map(|n| (n.name.clone(), n.bridge().map(str::to_owned))).collect();
        assert_eq!((known[0].0.as_str(), known[1].0.as_str()), ("a", "b"));
        assert!(known[0].1.is_some() && known[0].1 != known[1].1, "{known:?}");
        let taken = known[0].1.as_deref().unwrap();
        let xml = format!("<network><name>c</name><bridge name='{taken}'/></network>");
        assert!(again.define(&xml, false).await.unwrap_err().message.ends_with("already in use."));
        for name in ["d", "e"] {
            let xml =
                format!("<network><name>{name}</name><forward mode='bridge'/><bridge name='br0'/></network>");
            again.define(&xml, false).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_definition_replaces_only_its_own() {
        let scratch = store::Scratch::new();
        let networks = open(scratch.path()).await;
        networks.define("<network><name>a</name></network>", false).await.unwrap();
        let error = networks.define("<network><name>a</name></network>", false).await.unwrap_err();
        assert!(error.message.contains("already exists with uuid"), "{error}");
    }

    #[tokio::test]
    async fn a_network_of_the_hosts_bridge_runs_with_nothing_made_and_goes_on_with_the_next_daemon() {
        let scratch = store::Scratch::new();
        let networks = open(scratch.path()).await;
        let xml = "<network><name>a</name><forward mode='bridge'/><bridge name='br0'/></network>";
        let net = networks.create(xml, false).await.unwrap();
        assert!(networks.create(xml, false).await.unwrap_err().message.contains("already exists"));
        let again = open(scratch.path()).await;
        let kinds =
            again.with(&net, |network| Ok((network.live.is_some(), network.stored.is_some()))).unwrap();
        assert_eq!(kinds, (true, false));
        again.stop(&net).await.unwrap();
        assert!(again.all().is_empty());
        assert!(open(scratch.path()).await.all().is_empty());
    }
}
