//! Everything there is: the node, its guests, networks, pools, interfaces and devices.

use virtwire_protocol::VirtError;
use virtwire_protocol::remote::{self as wire, Event};

use crate::domain::guest::Guest;
use crate::error::{Result, TEST, uuid_text};
use crate::interface::Interface;
use crate::network::Network;
use crate::node::Node;
use crate::nodedev::Device;
use crate::registry::Registry;
use crate::storage::Pool;

/// One imaginary host. All calls change it one after the other.
#[derive(Default)]
pub(crate) struct Host {
    /// Processors and memory.
    pub(crate) node: Node,
    /// Guests.
    pub(crate) guests: Registry<Guest>,
    /// Networks.
    pub(crate) networks: Registry<Network>,
    /// Storage pools.
    pub(crate) pools: Registry<Pool>,
    /// Host interfaces.
    pub(crate) interfaces: Registry<Interface>,
    /// Host interfaces as they were before the change under way.
    pub(crate) interfaces_before: Option<Registry<Interface>>,
    /// Devices of the host.
    pub(crate) devices: Registry<Device>,
    /// The id that the last guest to start got.
    last_id: i32,
    /// What happened since the last call.
    events: Vec<Event>,
}

impl Host {
    /// A host with nothing on it.
    pub(crate) fn new(node: Node) -> Self {
        Self { node, ..Self::default() }
    }

    /// A fresh id for a guest that starts. Ids are never used twice.
    pub(crate) fn next_id(&mut self) -> i32 {
        self.last_id = self.last_id.saturating_add(1);
        self.last_id
    }

    /// Notes what happened.
    pub(crate) fn emit(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What happened since this was last asked, in order.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The guest that a client means: its UUID decides.
    pub(crate) fn guest(&self, dom: &wire::NonnullDomain) -> Result<&Guest> {
        self.guests.by_uuid(&dom.uuid).ok_or_else(|| no_guest(dom))
    }

    /// The same guest, to be changed.
    pub(crate) fn guest_mut(&mut self, dom: &wire::NonnullDomain) -> Result<&mut Guest> {
        self.guests.by_uuid_mut(&dom.uuid).ok_or_else(|| no_guest(dom))
    }
}

#[cold]
fn no_guest(dom: &wire::NonnullDomain) -> VirtError {
    TEST.no_domain(format_args!("no domain with matching uuid '{}' ({})", uuid_text(&dom.uuid), dom.name))
}
