//! Where descriptions of checkpoints are kept: `checkpoint/GUEST/NAME.xml`.

use std::fs;
use std::io;
use std::path::PathBuf;

use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::{Checkpoint, FormatOptions, ParseOptions};
use virtwire_store as store;

use super::with_parent;
use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::error::{Result, file};
use crate::guest::Guest;

fn path(dirs: &Dirs, guest: &str, name: &str) -> PathBuf {
    dirs.checkpoints(guest).join(format!("{name}.xml"))
}

/// Puts the descriptions of some of a guest's checkpoints on disk.
///
/// # Errors
/// One cannot be written.
pub(super) fn save(driver: &Qemu, guest: &Guest, names: &[&str]) -> Result<()> {
    let dirs = &driver.shared.dirs;
    let inner = guest.lock();
    let write = |moment: &Moment<Checkpoint>| {
        let options = FormatOptions { secure: true, ..FormatOptions::default() };
        let xml = with_parent(moment).to_xml(&options);
        store::make_dir(&dirs.checkpoints(&guest.name), 0o755)?;
        let text = store::with_warning("checkpoint-edit", &xml);
        store::write(&path(dirs, &guest.name, &moment.name), &text)
    };
    for moment in names.iter().filter_map(|name| inner.checkpoints.get(name)) {
        let path = path(dirs, &guest.name, &moment.name);
        write(moment)
            .map_err(|error| file(&error, format_args!("failed to create file '{}'", path.display())))?;
    }
    Ok(())
}

/// Removes the description of a checkpoint.
///
/// # Errors
/// It cannot be removed.
pub(super) fn forget(driver: &Qemu, guest: &str, name: &str) -> Result<()> {
    let path = path(&driver.shared.dirs, guest, name);
    store::remove(&path).map_err(|error| file(&error, format_args!("Failed to unlink {}", path.display())))
}

/// Removes the descriptions of all checkpoints of a guest.
pub(crate) fn forget_all(dirs: &Dirs, guest: &str) {
    // What is not there needs no removal, and what stays is read by nobody without its guest.
    let _ = fs::remove_dir_all(dirs.checkpoints(guest));
}

/// The checkpoints of a guest that are on disk. One that cannot be read is left alone, with a line in the log.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn load(dirs: &Dirs, guest: &str) -> io::Result<Moments<Checkpoint>> {
    let mut waiting = Vec::new();
    for (name, text) in store::read_all(&dirs.checkpoints(guest))? {
        let read = text.map_err(|error| error.to_string());
        let read = read.and_then(|text| {
            Checkpoint::parse(&text, &ParseOptions::default()).map_err(|error| error.message)
        });
        match read {
            Ok(mut checkpoint) => {
                let parent = checkpoint.parent.take().map(|parent| parent.name);
                waiting.push(Moment { name, parent, data: checkpoint });
            }
            Err(error) => tracing::warn!(guest, checkpoint = name, error, "its description cannot be read"),
        }
    }
    let mut moments = Moments::from_unsorted(waiting);
    // The next one follows the only one that nothing follows.
    let leaves: Vec<_> =
        moments.iter().filter(|moment| moments.children(Some(&moment.name)).next().is_none()).collect();
    moments.current = match leaves.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    Ok(moments)
}
