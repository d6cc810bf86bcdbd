//! Checkpoints: moments from which on QEMU remembers, in bitmaps within the images, what changed on a guest's disks.

pub(crate) mod bitmaps;
mod create;
mod delete;
mod list;
mod store;

use std::sync::Arc;

use virtwire_conf::Checkpoint;
use virtwire_conf::moments::Moment;
use virtwire_conf::snapshot::Parent;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::{NonnullDomain, NonnullDomainCheckpoint};

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::{Guest, Inner};

pub(crate) use create::{actions, create_xml, described, read, remember};
pub(crate) use delete::delete;
pub(crate) use list::{children, lookup, of_guest, parent, xml_desc};
pub(crate) use store::load;

/// The domain of errors about their descriptions.
const CHECKPOINT: ErrorDomain = ErrorDomain::DOMAIN_CHECKPOINT;

/// The checkpoint of a name.
fn find<'g>(inner: &'g Inner, name: &str) -> Result<&'g Moment<Checkpoint>> {
    inner.checkpoints.get(name).ok_or_else(|| {
        QEMU.no_domain_checkpoint(format_args!("no domain checkpoint with matching name '{name}'"))
    })
}

/// The guest that a checkpoint is of.
fn guest_of(driver: &Qemu, checkpoint: &NonnullDomainCheckpoint) -> Result<Arc<Guest>> {
    driver.guest(&checkpoint.dom)
}

fn on_wire(dom: &NonnullDomain, name: &str) -> NonnullDomainCheckpoint {
    NonnullDomainCheckpoint { name: name.into(), dom: dom.clone() }
}

/// A checkpoint's document, with the parent that it has now.
fn with_parent(moment: &Moment<Checkpoint>) -> Checkpoint {
    let parent = moment.parent.clone().map(|name| Parent { name });
    Checkpoint { parent, ..moment.data.clone() }
}
