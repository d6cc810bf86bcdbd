//! The bitmaps that QEMU keeps.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use virtwire_conf::Checkpoint;
use virtwire_conf::domain::disk::{BackingStore, Disk};
use virtwire_conf::snapshot::{CheckpointDisk, CheckpointType};
use virtwire_qmp::commands::Transaction;

use crate::error::{QEMU, Result, monitor};
use crate::guest::Live;

/// A bitmap as QEMU tells of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Bitmap {
    pub(crate) name: String,
    /// Bytes that changed since.
    #[serde(default)]
    pub(crate) count: u64,
    /// How much of an image a bit stands for, bytes.
    #[serde(default)]
    pub(crate) granularity: u64,
    /// It cannot be trusted: QEMU did not end as it should.
    #[serde(default)]
    pub(crate) inconsistent: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    node_name: Option<String>,
    #[serde(default)]
    dirty_bitmaps: Vec<Bitmap>,
}

/// The bitmaps of all images of a guest, by QEMU's name of the image.
pub(crate) struct Bitmaps(HashMap<String, Vec<Bitmap>>);

impl Bitmaps {
    /// # Errors
    /// What QEMU says.
    pub(crate) async fn read(live: &Live) -> Result<Self> {
        let flat = Map::from_iter([("flat".to_owned(), json!(true))]);
        let answer = live.monitor.execute_raw("query-named-block-nodes", &flat).await.map_err(monitor)?;
        let nodes: Vec<Node> = serde_json::from_str(answer.get()).map_err(|error| {
            QEMU.internal_error(format_args!("QEMU's images are not understood: {error}"))
        })?;
        Ok(Self(nodes.into_iter().filter_map(|node| Some((node.node_name?, node.dirty_bitmaps))).collect()))
    }

    /// The bitmaps of a name in a disk's images, each with QEMU's name of the image.
    pub(crate) fn of<'b>(&'b self, disk: &Disk, name: &'b str) -> Vec<(String, &'b Bitmap)> {
        let found = |node: String| {
            let bitmap = self.0.get(&node)?.iter().find(|bitmap| bitmap.name == name)?;
            Some((node, bitmap))
        };
        images(disk).into_iter().filter_map(found).collect()
    }
}

/// The numbers of a disk's images, that of the one that is written to first.
pub(crate) fn indexes(disk: &Disk) -> impl Iterator<Item = u32> {
    let below = std::iter::successors(disk.backing_store.as_deref(), |below: &&BackingStore| {
        below.backing_store.as_deref()
    });
    let own = disk.source.as_ref().and_then(|source| source.index);
    own.into_iter().chain(below.filter_map(|below| below.index))
}

/// QEMU's names of a disk's images, the one that is written to first.
pub(crate) fn images(disk: &Disk) -> Vec<String> {
    indexes(disk).map(|index| format!("libvirt-{index}-format")).collect()
}

/// A guest's disk by its target.
pub(crate) fn disk<'l>(live: &'l Live, name: &str) -> Option<&'l Disk> {
    let is = |disk: &&Disk| disk.target.as_ref().is_some_and(|target| target.dev.as_deref() == Some(name));
    live.domain.devices.disks.iter().find(is)
}

/// The disks of a checkpoint that have a bitmap, with its name.
pub(crate) fn followed(checkpoint: &Checkpoint) -> impl Iterator<Item = (&CheckpointDisk, &str)> {
    let disks = checkpoint.disks.iter().flat_map(|disks| &disks.disk);
    disks
        .filter(|disk| disk.checkpoint != Some(CheckpointType::No))
        .filter_map(|disk| Some((disk, disk.bitmap.as_deref()?)))
}

/// Begins to remember what changes on an image.
pub(crate) fn add(node: &str, name: &str) -> Value {
    json!({"type": "block-dirty-bitmap-add", "data": {"node": node, "name": name, "persistent": true}})
}

/// Forgets it.
pub(crate) fn remove(node: &str, name: &str) -> Value {
    json!({"type": "block-dirty-bitmap-remove", "data": {"node": node, "name": name}})
}

/// Does all of it or nothing.
///
/// # Errors
/// What QEMU says.
pub(crate) async fn change(live: &Live, actions: Vec<Value>) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    live.monitor.execute(&Transaction { actions }).await.map_err(monitor)?;
    Ok(())
}

/// The names of the bitmaps that checkpoints have on the image that a disk is written to.
///
/// # Errors
/// What QEMU says.
pub(crate) async fn in_use(live: &Live, disk: &Disk) -> Result<Vec<String>> {
    let Some(top) = images(disk).into_iter().next() else { return Ok(Vec::new()) };
    let mut all = Bitmaps::read(live).await?;
    let usable = all.0.remove(&top).unwrap_or_default().into_iter().filter(|bitmap| !bitmap.inconsistent);
    Ok(usable.map(|bitmap| bitmap.name).collect())
}
