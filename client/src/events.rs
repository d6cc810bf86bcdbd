//! Events: registering for them, and handing each to those who registered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use virtwire_protocol::codec::{DecodeError, Encode};
use virtwire_protocol::frame::Frame;
use virtwire_protocol::remote::{
    ConnectDomainEventCallbackRegisterAnyArgs, ConnectNetworkEventRegisterAnyArgs,
    ConnectNodeDeviceEventRegisterAnyArgs, ConnectSecretEventRegisterAnyArgs,
    ConnectStoragePoolEventRegisterAnyArgs, NonnullDomain, NonnullNetwork, NonnullNodeDevice, NonnullSecret,
    NonnullStoragePool,
};
use virtwire_protocol::{qemu, remote};

use crate::call::{self, Call, Request};
use crate::link::{Deregister, Link, Purpose};
use crate::{Connection, Error};

/// An event of any program.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What every hypervisor has.
    Remote(remote::Event),
    /// QEMU's own monitor events.
    Qemu(qemu::Event),
}

impl Event {
    fn key(&self) -> Key {
        match self {
            Self::Remote(event) => (event.kind().class, event.callback_id()),
            Self::Qemu(event) => (event.kind().class, event.callback_id()),
        }
    }
}

/// Class and callback id: ids of different classes may be equal.
type Key = (&'static str, i32);

/// The event in a frame; `None` if its message has no callback id.
pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Event>, DecodeError> {
    let (program, procedure) = (frame.header.prog, frame.header.proc);
    if program == remote::PROGRAM.number {
        Ok(remote::Event::decode(remote::Procedure(procedure), frame.payload)?.map(Event::Remote))
    } else if program == qemu::PROGRAM.number {
        Ok(qemu::Event::decode(qemu::Procedure(procedure), frame.payload)?.map(Event::Qemu))
    } else {
        Ok(None)
    }
}

/// Who wants which events.
#[derive(Default)]
pub(crate) struct Registry {
    queues: HashMap<Key, Queue>,
    /// Registrations whose reply has not come.
    pending: usize,
    /// Events that came while there were any: the reply may still name their ids.
    early: Vec<Event>,
}

/// The end of a queue that events go into.
#[derive(Clone)]
struct Queue {
    events: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// A registration on its way.
pub(crate) struct Registration {
    events: mpsc::Receiver<Event>,
    queue: Queue,
    deregister: Deregister,
}

/// Early events that are kept at most.
const EARLY: usize = 1024;

impl Registry {
    /// A registration has been sent.
    pub(crate) fn begin(&mut self) {
        self.pending += 1;
    }

    /// The answer to a registration has come.
    pub(crate) fn answered(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        if self.pending == 0 {
            self.early = Vec::new();
        }
    }

    /// A registration has got its callback id; events that came before it are not lost.
    pub(crate) fn add(&mut self, id: i32, registration: Registration, link: &Arc<Link>) -> EventStream {
        let Registration { events, queue, deregister } = registration;
        let (key, lost) = ((deregister.class, id), Arc::clone(&queue.lost));
        for event in self.early.extract_if(.., |event| event.key() == key) {
            queue.push(event);
        }
        self.queues.insert(key, queue);
        EventStream { link: Arc::clone(link), events, lost, id, deregister }
    }

    pub(crate) fn deliver(&mut self, event: Event) {
        match self.queues.get(&event.key()) {
            Some(queue) => queue.push(event),
            None if self.pending > 0 && self.early.len() < EARLY => self.early.push(event),
            // The last events of a registration that has just ended.
            None => {}
        }
    }

    pub(crate) fn remove(&mut self, class: &'static str, id: i32) {
        self.queues.remove(&(class, id));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Queue {
    fn push(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The events of one registration. Dropping it ends the registration.
pub struct EventStream {
    link: Arc<Link>,
    events: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
    id: i32,
    deregister: Deregister,
}

impl EventStream {
    /// The next event; `None` once the connection has ended, [`Connection::closed`] says why.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// An event that has come already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// How many events were lost since the queue was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The callback id that the daemon gave it.
    pub fn callback_id(&self) -> i32 {
        self.id
    }

    /// Ends the registration and waits for the daemon's word. Events that came before can still be taken.
    pub async fn deregister(&mut self) -> Result<(), Error> {
        self.link.deregistration(self.id, self.deregister).await?;
        self.link.forget_events(self.deregister.class, self.id);
        self.events.close();
        Ok(())
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if !self.events.is_closed() {
            self.link.forget_events(self.deregister.class, self.id);
            self.link.deregistration(self.id, self.deregister).send();
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, deregister, .. } = self;
        f.debug_struct("EventStream")
            .field("class", &deregister.class)
            .field("id", id)
            .finish_non_exhaustive()
    }
}

macro_rules! registrations {
    ($($(#[$doc:meta])* $method:ident($filter:ident: $object:ty) $class:literal $args:ident $register:ident $deregister:ident;)*) => {
        impl Connection {
            $($(#[$doc])*
            ///
            /// An id is registered once per connection and object; a second time is an error of the daemon's.
            pub fn $method(&self, event_id: i32, $filter: Option<&$object>) -> Call<EventStream> {
                let args = $args { event_id, $filter: $filter.cloned() };
                let deregister = Deregister {
                    class: $class,
                    program: &remote::PROGRAM,
                    procedure: remote::Procedure::$deregister.0,
                };
                self.register(remote::Procedure::$register.0, &args, deregister)
            })*
        }
    };
}

registrations! {
    /// Events of a domain, or of all: `VIR_DOMAIN_EVENT_ID_…`, 0 is life cycle.
    register_domain_event(dom: NonnullDomain) "domain" ConnectDomainEventCallbackRegisterAnyArgs
        CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY;
    /// Events of a network, or of all: `VIR_NETWORK_EVENT_ID_…`, 0 is life cycle.
    register_network_event(net: NonnullNetwork) "network" ConnectNetworkEventRegisterAnyArgs
        CONNECT_NETWORK_EVENT_REGISTER_ANY CONNECT_NETWORK_EVENT_DEREGISTER_ANY;
    /// Events of a storage pool, or of all: `VIR_STORAGE_POOL_EVENT_ID_…`, 0 is life cycle.
    register_storage_pool_event(pool: NonnullStoragePool) "storage_pool" ConnectStoragePoolEventRegisterAnyArgs
        CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY;
    /// Events of a host device, or of all: `VIR_NODE_DEVICE_EVENT_ID_…`, 0 is life cycle.
    register_node_device_event(dev: NonnullNodeDevice) "node_device" ConnectNodeDeviceEventRegisterAnyArgs
        CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY;
    /// Events of a secret, or of all: `VIR_SECRET_EVENT_ID_…`, 0 is life cycle.
    register_secret_event(secret: NonnullSecret) "secret" ConnectSecretEventRegisterAnyArgs
        CONNECT_SECRET_EVENT_REGISTER_ANY CONNECT_SECRET_EVENT_DEREGISTER_ANY;
}

impl Connection {
    /// Events of QEMU's monitor: those of one domain or of all, of one name or of all.
    pub fn register_qemu_monitor_event(
        &self,
        dom: Option<&NonnullDomain>,
        event: Option<&str>,
        flags: u32,
    ) -> Call<EventStream> {
        let args = qemu::ConnectDomainMonitorEventRegisterArgs {
            dom: dom.cloned(),
            event: event.map(Into::into),
            flags,
        };
        let deregister = Deregister {
            class: "qemu_monitor",
            program: &qemu::PROGRAM,
            procedure: qemu::Procedure::CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER.0,
        };
        self.register(qemu::Procedure::CONNECT_DOMAIN_MONITOR_EVENT_REGISTER.0, &args, deregister)
    }

    fn register(&self, procedure: i32, args: &dyn Encode, deregister: Deregister) -> Call<EventStream> {
        let (sender, events) = mpsc::channel(self.event_queue());
        let queue = Queue { events: sender, lost: Arc::default() };
        let purpose = Purpose::Events(Registration { events, queue, deregister });
        let request = if self.has_callback_ids() {
            Request::new(deregister.program, procedure, args, Vec::new(), purpose)
        } else {
            Err(Error::Unsupported("callback ids of events"))
        };
        Call::new(Arc::clone(self.link()), request, call::events)
    }
}
