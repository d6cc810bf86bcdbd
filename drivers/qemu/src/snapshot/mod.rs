//! Snapshots: what a guest was at a moment, to go back to. Where they are kept is libvirt's own layout.

mod create;
mod delete;
mod disks;
mod external;
mod image;
mod list;
mod revert;
mod store;

use std::sync::Arc;

use virtwire_conf::Snapshot;
use virtwire_conf::moments::{Moment, list as flag};
use virtwire_conf::snapshot::{SnapshotLocation, SnapshotState};
use virtwire_protocol::remote::{NonnullDomain, NonnullDomainSnapshot};

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::{Guest, Inner};

pub(crate) use create::{cookie, create_xml, of_run, upon};
pub(crate) use delete::delete;
pub(crate) use image::{job, overlay, qemu_img};
pub(crate) use list::{
    children, children_names, count, count_children, current, has_current, has_metadata, is_current, lookup,
    names, of_guest, parent, xml_desc,
};
pub(crate) use revert::{load_memory, revert};

/// The snapshot of a name.
fn find<'g>(inner: &'g Inner, name: &str) -> Result<&'g Moment<Snapshot>> {
    inner.snapshots.get(name).ok_or_else(|| {
        QEMU.no_domain_snapshot(format_args!("no domain snapshot with matching name '{name}'"))
    })
}

/// The guest that a snapshot is of.
fn guest_of(driver: &Qemu, snap: &NonnullDomainSnapshot) -> Result<Arc<Guest>> {
    driver.guest(&snap.dom)
}

fn on_wire(dom: &NonnullDomain, name: &str) -> NonnullDomainSnapshot {
    NonnullDomainSnapshot { name: name.into(), dom: dom.clone() }
}

/// Whether parts of a snapshot are in files of their own.
fn is_external(snapshot: &Snapshot) -> bool {
    let memory = snapshot.memory.iter().filter_map(|memory| memory.snapshot);
    let disks = snapshot.disks.iter().flat_map(|disks| &disks.disk).filter_map(|disk| disk.snapshot);
    memory.chain(disks).any(|place| place == SnapshotLocation::External)
}

/// Which lists a snapshot is in by what it is.
fn kind(snapshot: &Snapshot) -> u32 {
    let state = match snapshot.state {
        Some(SnapshotState::Shutoff) => flag::INACTIVE,
        Some(SnapshotState::DiskSnapshot) => flag::DISK_ONLY,
        _ => flag::ACTIVE,
    };
    state | if is_external(snapshot) { flag::EXTERNAL } else { flag::INTERNAL }
}
