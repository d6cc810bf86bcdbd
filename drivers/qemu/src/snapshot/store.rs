//! How snapshots are kept: `snapshot/GUEST/NAME.xml`, the current one marked in its file.

use std::path::PathBuf;

use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::snapshot::Parent;
use virtwire_conf::{FormatOptions, ParseOptions, Snapshot};

use crate::dirs::Dirs;
use crate::error::Result;
use crate::guest::Inner;
use crate::kept::Kept;

/// A snapshot's document, with the parent that it has now.
pub(super) fn with_parent(moment: &Moment<Snapshot>) -> Snapshot {
    let parent = moment.parent.clone().map(|name| Parent { name });
    Snapshot { parent, ..moment.data.clone() }
}

impl Kept for Snapshot {
    const COMMAND: &'static str = "snapshot-edit";

    fn dir(dirs: &Dirs, guest: &str) -> PathBuf {
        dirs.snapshots(guest)
    }

    fn all(inner: &Inner) -> &Moments<Self> {
        &inner.snapshots
    }

    fn document(moment: &Moment<Self>, current: bool) -> String {
        let snapshot = Self { active: current.then_some(1), ..with_parent(moment) };
        snapshot.to_xml(&FormatOptions { secure: true, ..FormatOptions::default() })
    }

    fn read(text: &str) -> Result<(Self, Option<String>, bool)> {
        let mut snapshot = Self::parse(text, &ParseOptions::default())?;
        let parent = snapshot.parent.take().map(|parent| parent.name);
        let current = snapshot.active.take() == Some(1);
        Ok((snapshot, parent, current))
    }
}
