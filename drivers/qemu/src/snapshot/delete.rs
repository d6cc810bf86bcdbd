//! Snapshots are deleted.

use virtwire_conf::moments::Delete;
use virtwire_conf::{Domain, Snapshot};
use virtwire_protocol::remote::DomainSnapshotDeleteArgs;
use virtwire_qmp::commands::SnapshotDelete;

use super::disks::file;
use super::image::{job, qemu_img};
use super::{create, external, find, guest_of, is_external};
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Guest;
use crate::kept;
use virtwire_conf::snapshot::SnapshotLocation;

/// `VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY`
const METADATA_ONLY: u32 = 2;
/// With `…_CHILDREN` and `…_CHILDREN_ONLY`.
const KNOWN: u32 = 7;

pub(crate) async fn delete(driver: &Qemu, args: DomainSnapshotDeleteArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSnapshotDelete")?;
    let guest = guest_of(driver, &args.snap)?;
    let _job = guest.turn().await?;
    let (name, what) = (args.snap.name.to_string(), Delete::from_flags(args.flags));
    let gone = {
        let inner = guest.lock();
        find(&inner, &name)?;
        // Children first: whatever happens in between, what is left is a tree.
        let mut gone = inner.snapshots.affected(&name, what);
        gone.reverse();
        if what != Delete::OnlyChildren {
            gone.rotate_left(1);
        }
        let data = |name: &String| Some((name.clone(), inner.snapshots.get(name)?.data.clone()));
        gone.iter().filter_map(data).collect::<Vec<_>>()
    };
    let metadata_only = args.flags & METADATA_ONLY != 0;
    let outside = |(_, snapshot): &(String, Snapshot)| is_external(snapshot);
    if what != Delete::One && !metadata_only && gone.iter().any(outside) {
        let children = gone.iter().any(|one| one.0 != name && outside(one));
        let which = if children { "children disk snapshots" } else { "disk snapshots with children" };
        let text = format_args!("deletion of external {which} not supported");
        return Err(QEMU.config_unsupported(text));
    }
    for (name, snapshot) in &gone {
        match is_external(snapshot) {
            _ if metadata_only => {}
            true => external::merge(driver, &guest, name).await?,
            false => {
                check_images(&guest, name, snapshot)?;
                discard(&guest, name, snapshot).await?;
            }
        }
        kept::forget::<Snapshot>(driver, &guest.name, name)?;
    }
    let changed = {
        let mut inner = guest.lock();
        inner.snapshots.delete(&name, what);
        // Children may have another parent now, and another may be the current one.
        inner.snapshots.iter().map(|moment| moment.name.clone()).collect::<Vec<_>>()
    };
    kept::save::<Snapshot>(driver, &guest, &changed.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Checks that the images that a snapshot is in are those that the guest has.
fn check_images(guest: &Guest, name: &str, snapshot: &Snapshot) -> Result<()> {
    let Some(now) = guest.lock().current() else { return Ok(()) };
    let disks = snapshot.disks.iter().flat_map(|disks| &disks.disk);
    for disk in disks.filter(|disk| disk.snapshot == Some(SnapshotLocation::Internal)) {
        let image = |domain: &Domain| {
            let own = domain.devices.disks.iter().find(|own| target(own) == disk.name)?;
            file(own).map(str::to_owned)
        };
        if snapshot.domain.as_deref().and_then(image) != image(&now) {
            let text = format_args!(
                "disk image '{}' for internal snapshot '{name}' is not the same as disk image currently used by VM",
                disk.name
            );
            return Err(QEMU.operation_unsupported(text));
        }
    }
    Ok(())
}

/// Takes a snapshot out of the images that it is in.
async fn discard(guest: &Guest, name: &str, snapshot: &Snapshot) -> Result<()> {
    let disks = snapshot.disks.iter().flat_map(|disks| &disks.disk);
    let disks: Vec<_> = disks.filter(|disk| disk.snapshot == Some(SnapshotLocation::Internal)).collect();
    if let Ok(live) = guest.live() {
        let devices = create::nodes(&live, &disks).await?;
        let (job_id, tag) = (format!("snapdelete-{name}"), name.to_owned());
        live.monitor
            .execute(&SnapshotDelete { job_id: job_id.clone(), tag, devices })
            .await
            .map_err(monitor)?;
        return job(&live.monitor, &job_id).await;
    }
    for path in super::revert::images(snapshot) {
        // One that is not in the image is gone already.
        if let Err(error) = qemu_img(&["snapshot", "-d", name, &path]).await {
            tracing::warn!(guest = guest.name, snapshot = name, %error, "is not taken out of an image");
        }
    }
    Ok(())
}
