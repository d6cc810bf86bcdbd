//! The devices of the host, read from sysfs and from udev's database. They are read when first asked for, and kept up
//! to date by the kernel's own messages, or by udev's where it runs. Nothing is made or taken away here.

mod kind;
mod mdev;
mod names;
mod net;
mod others;
mod pci;
mod scsi;
mod serve;
mod storage;
mod sysfs;
mod uevent;
mod usb;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use tokio::sync::OnceCell;
use uuid::Uuid;
use virtwire_conf::NodeDevice;
use virtwire_driver_api::EventHub;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{
    Event, NodeDeviceEventLifecycleMsg, NodeDeviceEventUpdateMsg, NonnullNodeDevice,
};

pub use sysfs::Places;

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const NODEDEV: ErrorDomain = ErrorDomain::NODEDEV;

/// `virNodeDeviceEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Created = 0,
    Deleted = 1,
}

/// The devices of the host.
pub struct NodeDevices {
    inner: Arc<Inner>,
}

struct Inner {
    places: Places,
    uuid: Uuid,
    events: Arc<EventHub>,
    /// By name.
    all: OnceCell<RwLock<BTreeMap<String, Device>>>,
}

/// A device, and where it really is.
#[derive(Clone)]
struct Device {
    path: PathBuf,
    definition: NodeDevice,
}

impl NodeDevices {
    /// The devices described at some places. `uuid` is that of the host.
    pub fn new(places: Places, uuid: Uuid, events: Arc<EventHub>) -> Self {
        Self { inner: Arc::new(Inner { places, uuid, events, all: OnceCell::new() }) }
    }

    /// Follows what comes and goes, as long as this is there. Where the host does not tell, the devices stay those that
    /// were there when they were first asked for.
    pub fn follow(&self) {
        let inner: Weak<Inner> = Arc::downgrade(&self.inner);
        match uevent::Messages::open() {
            Ok(messages) => drop(tokio::spawn(messages.follow(inner))),
            Err(error) => tracing::warn!(%error, "devices that come and go are not noticed"),
        }
    }

    /// All devices, by name; they are read if nobody has asked yet.
    async fn all(&self) -> &RwLock<BTreeMap<String, Device>> {
        let inner = &self.inner;
        inner
            .all
            .get_or_init(|| async {
                let reader = Arc::clone(inner);
                let read = tokio::task::spawn_blocking(move || reader.read_all()).await;
                RwLock::new(read.unwrap_or_default())
            })
            .await
    }

    /// What `look` makes of all devices.
    async fn with<T>(&self, look: impl FnOnce(&BTreeMap<String, Device>) -> T) -> T {
        look(&self.all().await.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn get(&self, name: &str) -> Result<Device> {
        let found = self.with(|all| all.get(name).cloned()).await;
        found
            .ok_or_else(|| NODEDEV.no_node_device(format_args!("no node device with matching name '{name}'")))
    }

    /// A device as it is now.
    async fn fresh(&self, name: &str) -> Result<NodeDevice> {
        let known = self.get(name).await?;
        let inner = Arc::clone(&self.inner);
        let path = known.path.clone();
        let read = tokio::task::spawn_blocking(move || kind::device(&inner.places, &path)).await;
        let now = read.ok().flatten().filter(|now| now.name == known.definition.name);
        Ok(match now {
            Some(now) => NodeDevice { parent: known.definition.parent, ..now },
            None => known.definition,
        })
    }
}

impl Inner {
    fn read_all(&self) -> BTreeMap<String, Device> {
        let computer = Device { path: PathBuf::new(), definition: kind::computer(&self.places, self.uuid) };
        let mut all = BTreeMap::from([(kind::COMPUTER.to_owned(), computer)]);
        for path in self.places.devices() {
            let parent = parent(&all, &path);
            self.insert(&mut all, &path, parent);
        }
        all
    }

    /// Reads the device at a path; returns its name.
    fn insert(&self, all: &mut BTreeMap<String, Device>, path: &Path, parent: String) -> Option<String> {
        let mut definition = kind::device(&self.places, path)?;
        definition.parent = Some(parent);
        let name = definition.name.clone()?;
        all.insert(name.clone(), Device { path: path.to_owned(), definition });
        Some(name)
    }

    /// Something has become of the device at a path.
    fn changed(&self, path: &Path) {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // Whoever asks for the first time after this reads it anyway.
        let Some(all) = self.all.get() else { return };
        let (before, now) = {
            let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
            let before =
                all.values().find(|device| device.path == path).and_then(|it| it.definition.name.clone());
            if let Some(name) = &before {
                all.remove(name);
            }
            let parent = parent(&all, &path);
            let now = self.insert(&mut all, &path, parent);
            (before, now)
        };
        match (before, now) {
            (Some(before), Some(now)) if before == now => self.events.emit(updated(&now)),
            (before, now) => {
                for (name, what) in [(before, Lifecycle::Deleted), (now, Lifecycle::Created)] {
                    name.iter().for_each(|name| self.events.emit(lifecycle(name, what)));
                }
            }
        }
    }
}

/// The nearest device that the one at `path` is within.
fn parent(all: &BTreeMap<String, Device>, path: &Path) -> String {
    let at = |path: &Path| all.iter().find(|(_, device)| device.path == path).map(|(name, _)| name.clone());
    path.ancestors().skip(1).find_map(at).unwrap_or_else(|| kind::COMPUTER.to_owned())
}

fn lifecycle(name: &str, what: Lifecycle) -> Event {
    Event::NodeDeviceLifecycle(NodeDeviceEventLifecycleMsg {
        callback_id: 0,
        dev: NonnullNodeDevice { name: name.into() },
        event: what as i32,
        detail: 0,
    })
}

fn updated(name: &str) -> Event {
    Event::NodeDeviceUpdate(NodeDeviceEventUpdateMsg {
        callback_id: 0,
        dev: NonnullNodeDevice { name: name.into() },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;

    use virtwire_driver_api::EventSink;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<virtwire_driver_api::Event>>);

    impl EventSink for Told {
        fn deliver(&self, event: &virtwire_driver_api::Event) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    /// An interface in the tree at `root`.
    fn put(root: &Path, name: &str, address: &str) -> PathBuf {
        let path = root.join("devices/virtual/net").join(name);
        fs::create_dir_all(&path).unwrap();
        fs::create_dir_all(root.join("class/net")).unwrap();
        fs::write(path.join("uevent"), format!("INTERFACE={name}\nIFINDEX=7\n")).unwrap();
        fs::write(path.join("address"), format!("{address}\n")).unwrap();
        let _ = symlink("../../../../class/net", path.join("subsystem"));
        path
    }

    #[tokio::test]
    async fn devices_that_come_change_and_go_are_told_of() {
        let scratch = virtwire_store::Scratch::new();
        let root = fs::canonicalize(scratch.path()).unwrap();
        let places = Places::new(root.clone(), root.join("udev"), root.join("ids"));
        let events = EventHub::new();
        let told = Arc::new(Told::default());
        events.subscribe(&(Arc::clone(&told) as Arc<dyn EventSink>));
        let devices = NodeDevices::new(places, Uuid::nil(), events);
        let inner = Arc::clone(&devices.inner);
        assert_eq!(devices.with(BTreeMap::len).await, 1);

        let path = put(&root, "e0", "02:00:00:00:00:01");
        inner.changed(&path);
        inner.changed(&path);
        put(&root, "e0", "02:00:00:00:00:02");
        inner.changed(&path);
        fs::remove_dir_all(&path).unwrap();
        inner.changed(&path);
        let (one, two) = ("net_e0_02_00_00_00_00_01", "net_e0_02_00_00_00_00_02");
        let expected = [
            lifecycle(one, Lifecycle::Created),
            updated(one),
            lifecycle(one, Lifecycle::Deleted),
            lifecycle(two, Lifecycle::Created),
            lifecycle(two, Lifecycle::Deleted),
        ];
        assert_eq!(*told.0.lock().unwrap(), expected.map(virtwire_driver_api::Event::from));
        assert_eq!(devices.get(two).await.map(|_| ()).unwrap_err().code.0, 53);
    }
}
