//! Snapshots and checkpoints.

use virtwire_protocol::remote::{NonnullDomainCheckpoint, NonnullDomainSnapshot};

use super::table::{object, text};
use super::*;

object! {
    /// A state of a guest that it can go back to.
    Snapshot(NonnullDomainSnapshot)
}

object! {
    /// A point in time since which a guest's changes to its disks are noted.
    Checkpoint(NonnullDomainCheckpoint)
}

impl Snapshot {
    fn handle(&self) -> NonnullDomainSnapshot {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// The guest.
    pub fn domain(&self) -> Domain {
        object(&self.connection, self.raw.dom.clone())
    }
}

methods! { Snapshot [snap = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String =
        domain_snapshot_get_xml_desc DomainSnapshotGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Takes the guest back to it.
    fn revert(flags: SnapshotRevertFlags) = domain_revert_to_snapshot DomainRevertToSnapshotArgs;
    /// Deletes it.
    fn delete(flags: SnapshotDeleteFlags) = domain_snapshot_delete DomainSnapshotDeleteArgs;
    /// Whether the guest's state has grown from it.
    fn is_current(flags: u32) -> bool =
        domain_snapshot_is_current DomainSnapshotIsCurrentArgs |_, ret| ret.current != 0;
    /// The snapshot that it has grown from.
    fn parent(flags: u32) -> Snapshot =
        domain_snapshot_get_parent DomainSnapshotGetParentArgs |c, ret| object(c, ret.snap);
} }

lists! { Snapshot [snapshot = handle] {
    /// Snapshots that have grown from it.
    fn children(SnapshotListFlags) -> Snapshot =
        domain_snapshot_list_all_children DomainSnapshotListAllChildrenArgs snapshots;
} }

impl Checkpoint {
    fn handle(&self) -> NonnullDomainCheckpoint {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// The guest.
    pub fn domain(&self) -> Domain {
        object(&self.connection, self.raw.dom.clone())
    }
}

methods! { Checkpoint [checkpoint = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String =
        domain_checkpoint_get_xml_desc DomainCheckpointGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Deletes it.
    fn delete(flags: CheckpointDeleteFlags) = domain_checkpoint_delete DomainCheckpointDeleteArgs;
    /// The checkpoint before it.
    fn parent(flags: u32) -> Checkpoint =
        domain_checkpoint_get_parent DomainCheckpointGetParentArgs |c, ret| object(c, ret.parent);
} }

lists! { Checkpoint [checkpoint = handle] {
    /// Checkpoints behind it; flags are `VIR_DOMAIN_CHECKPOINT_LIST_…`.
    fn children(u32) -> Checkpoint =
        domain_checkpoint_list_all_children DomainCheckpointListAllChildrenArgs checkpoints;
} }
