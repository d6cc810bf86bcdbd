//! Checkpoints are deleted.

use virtwire_conf::Checkpoint;
use virtwire_conf::moments::Delete;
use virtwire_protocol::remote::DomainCheckpointDeleteArgs;

use super::bitmaps::{self, Bitmaps, followed};
use super::{CHECKPOINT, find, guest_of};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags};
use crate::guest::Guest;
use crate::kept;

/// `VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN`, `…_METADATA_ONLY`, `…_CHILDREN_ONLY`
const CHILDREN: u32 = 1;
const METADATA_ONLY: u32 = 2;
const CHILDREN_ONLY: u32 = 4;

pub(crate) async fn delete(driver: &Qemu, args: DomainCheckpointDeleteArgs) -> Result<()> {
    check_flags(args.flags, CHILDREN | METADATA_ONLY | CHILDREN_ONLY, "qemuCheckpointDelete")?;
    if args.flags & CHILDREN != 0 && args.flags & CHILDREN_ONLY != 0 {
        let text = "Flags 'VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN' and \
                    'VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY' are mutually exclusive";
        return Err(bad_flags(CHECKPOINT, "virDomainCheckpointDelete", text));
    }
    let guest = guest_of(driver, &args.checkpoint)?;
    let _job = guest.job.lock().await;
    let (name, what) = (args.checkpoint.name.to_string(), Delete::from_flags(args.flags));
    let metadata_only = args.flags & METADATA_ONLY != 0;
    let gone = {
        let inner = guest.lock();
        if !metadata_only && inner.live.is_none() {
            return Err(QEMU.operation_unsupported("cannot delete checkpoint for inactive domain"));
        }
        find(&inner, &name)?;
        // Children first: whatever happens in between, what is left is a tree.
        let mut gone = inner.checkpoints.affected(&name, what);
        gone.reverse();
        if what != Delete::OnlyChildren {
            gone.rotate_left(1);
        }
        let data = |name: &String| Some((name.clone(), inner.checkpoints.get(name)?.data.clone()));
        gone.iter().filter_map(data).collect::<Vec<_>>()
    };
    for (name, checkpoint) in &gone {
        if !metadata_only {
            discard(&guest, checkpoint).await?;
        }
        kept::forget::<Checkpoint>(driver, &guest.name, name)?;
    }
    let changed = {
        let mut inner = guest.lock();
        inner.checkpoints.delete(&name, what);
        inner.checkpoints.iter().map(|moment| moment.name.clone()).collect::<Vec<_>>()
    };
    kept::save::<Checkpoint>(driver, &guest, &changed.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Has QEMU forget what changed since a checkpoint.
async fn discard(guest: &Guest, checkpoint: &Checkpoint) -> Result<()> {
    let live = guest.live()?;
    let all = Bitmaps::read(&live).await?;
    let mut actions = Vec::new();
    for (disk, bitmap) in followed(checkpoint) {
        let Some(own) = bitmaps::disk(&live, &disk.name) else { continue };
        let found = all.of(own, bitmap);
        if found.is_empty() {
            let text = format_args!("bitmap '{bitmap}' not found in backing chain of '{}'", disk.name);
            return Err(QEMU.internal_error(text));
        }
        // Images below the guest's own cannot be written to: what they have goes with them.
        let top = bitmaps::images(own).into_iter().next();
        let own = found.iter().filter(|(node, _)| Some(node) == top.as_ref());
        actions.extend(own.map(|(node, bitmap)| bitmaps::remove(node, &bitmap.name)));
    }
    bitmaps::change(&live, actions).await
}
