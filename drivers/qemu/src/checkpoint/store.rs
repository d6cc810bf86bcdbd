//! How checkpoints are kept: `checkpoint/GUEST/NAME.xml`. No file says which is the current one.

use std::io;
use std::path::PathBuf;

use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::{Checkpoint, FormatOptions, ParseOptions};

use super::with_parent;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::guest::Inner;
use crate::kept::{self, Kept};

impl Kept for Checkpoint {
    const COMMAND: &'static str = "checkpoint-edit";

    fn dir(dirs: &Dirs, guest: &str) -> PathBuf {
        dirs.checkpoints(guest)
    }

    fn all(inner: &Inner) -> &Moments<Self> {
        &inner.checkpoints
    }

    fn document(moment: &Moment<Self>, _: bool) -> String {
        with_parent(moment).to_xml(&FormatOptions { secure: true, ..FormatOptions::default() })
    }

    fn read(text: &str) -> Result<(Self, Option<String>, bool)> {
        let mut checkpoint = Self::parse(text, &ParseOptions::default())?;
        let parent = checkpoint.parent.take().map(|parent| parent.name);
        Ok((checkpoint, parent, false))
    }
}

/// The checkpoints of a guest that are on disk; the next one follows the only one that nothing follows.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn load(dirs: &Dirs, guest: &str) -> io::Result<Moments<Checkpoint>> {
    let mut all: Moments<Checkpoint> = kept::load(dirs, guest)?;
    let leaves = all.iter().filter(|moment| all.children(Some(&moment.name)).next().is_none());
    let names: Vec<_> = leaves.map(|moment| moment.name.clone()).collect();
    all.current = match names.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    Ok(all)
}
