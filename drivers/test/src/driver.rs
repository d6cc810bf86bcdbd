//! The driver: which URIs it serves, and what a connection holds.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use virtwire_driver_api::{CallCx, Connection, Driver, EventHub, async_trait, uri_path};
use virtwire_protocol::VirtError;

use crate::defaults;
use crate::error::{Result, TEST};
use crate::host::Host;
use crate::node_file;

/// Serves `test:///default` and `test:///path/to/node.xml`.
#[derive(Default)]
pub struct TestDriver {
    /// The host of `test:///default`: all connections share it, and it is gone with the last of them.
    shared: Mutex<Weak<World>>,
}

/// A host and those who listen to it.
struct World {
    host: tokio::sync::Mutex<Host>,
    events: Arc<EventHub>,
}

impl World {
    fn new(host: Host) -> Arc<Self> {
        Arc::new(Self { host: tokio::sync::Mutex::new(host), events: EventHub::new() })
    }
}

/// One connection to an imaginary host.
pub struct TestConnection {
    world: Arc<World>,
}

impl TestConnection {
    /// Does one thing to the host and tells of what it led to, in the same order as others see the changes. Who has to
    /// wait while another's document is read holds up no thread.
    pub(crate) async fn run<T>(&self, work: impl FnOnce(&mut Host) -> Result<T>) -> Result<T> {
        let mut host = match self.world.host.try_lock() {
            Ok(host) => host,
            Err(_) => self.world.host.lock().await,
        };
        let result = work(&mut host);
        for event in host.take_events() {
            self.world.events.emit(event);
        }
        result
    }
}

impl TestDriver {
    /// A driver; hosts come to be as they are opened.
    pub fn new() -> Self {
        Self::default()
    }

    fn shared(&self) -> Result<Arc<World>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return Ok(world);
        }
        let world = World::new(defaults::host()?);
        *shared = Arc::downgrade(&world);
        Ok(world)
    }
}

/// `VIR_DRV_FEATURE_TYPED_PARAM_STRING` and `VIR_DRV_FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER`
const FEATURES: [i32; 2] = [9, 16];

#[async_trait]
impl Driver for TestDriver {
    fn name(&self) -> &'static str {
        "test"
    }

    async fn open(&self, _: &CallCx, uri: &str) -> std::result::Result<Connection, VirtError> {
        let world = match uri_path(uri) {
            "" | "/" => return Err(TEST.invalid_arg("testOpen: supply a path or use test:///default")),
            "/default" => self.shared()?,
            file => World::new(node_file::read(file)?),
        };
        let events = Arc::clone(&world.events);
        let connection = Arc::new(TestConnection { world });
        Ok(Connection {
            network: Some(connection.clone()),
            storage: Some(connection.clone()),
            interface: Some(connection.clone()),
            node_device: Some(connection.clone()),
            features: &FEATURES,
            ..Connection::new(uri, connection, events)
        })
    }
}
