//! What the generated event enums have in common.

use crate::remote::{NonnullDomain, NonnullNetwork, NonnullNodeDevice, NonnullSecret, NonnullStoragePool};

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind<P> {
    /// `domain`, `network`, `storage_pool`, `node_device`, `secret`.
    pub class: &'static str,
    /// The id within its class, such as `VIR_DOMAIN_EVENT_ID_LIFECYCLE` (0).
    pub id: i32,
    /// The message that carries it to clients with callback ids.
    pub procedure: P,
}

/// The object an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A domain.
    Domain(&'a NonnullDomain),
    /// A virtual network.
    Network(&'a NonnullNetwork),
    /// A storage pool.
    StoragePool(&'a NonnullStoragePool),
    /// A host device.
    NodeDevice(&'a NonnullNodeDevice),
    /// A secret.
    Secret(&'a NonnullSecret),
    /// Nothing that has a name.
    None,
}

impl Subject<'_> {
    /// Whether both are the same object: devices go by name, everything else by UUID.
    pub fn is(&self, other: &Subject<'_>) -> bool {
        match (self, other) {
            (Subject::Domain(a), Subject::Domain(b)) => a.uuid == b.uuid,
            (Subject::Network(a), Subject::Network(b)) => a.uuid == b.uuid,
            (Subject::StoragePool(a), Subject::StoragePool(b)) => a.uuid == b.uuid,
            (Subject::NodeDevice(a), Subject::NodeDevice(b)) => a.name == b.name,
            (Subject::Secret(a), Subject::Secret(b)) => a.uuid == b.uuid,
            _ => false,
        }
    }
}
