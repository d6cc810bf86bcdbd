//! Where descriptions of snapshots are kept: `snapshot/GUEST/NAME.xml`, the current one marked in its file.

use std::fs;
use std::io;
use std::path::PathBuf;

use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::snapshot::Parent;
use virtwire_conf::{FormatOptions, ParseOptions, Snapshot};
use virtwire_store as store;

use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::error::{Result, file};
use crate::guest::Guest;

fn path(dirs: &Dirs, guest: &str, name: &str) -> PathBuf {
    dirs.snapshots(guest).join(format!("{name}.xml"))
}

/// A snapshot's document, with the parent that it has now.
pub(super) fn with_parent(moment: &Moment<Snapshot>) -> Snapshot {
    let parent = moment.parent.clone().map(|name| Parent { name });
    Snapshot { parent, ..moment.data.clone() }
}

/// Puts the descriptions of some of a guest's snapshots on disk.
///
/// # Errors
/// One cannot be written.
pub(super) fn save(driver: &Qemu, guest: &Guest, names: &[&str]) -> Result<()> {
    let dirs = &driver.shared.dirs;
    let inner = guest.lock();
    let moments = names.iter().filter_map(|name| inner.snapshots.get(name));
    let write = |moment: &Moment<Snapshot>| {
        let options = FormatOptions { secure: true, ..FormatOptions::default() };
        let current = inner.snapshots.current.as_ref() == Some(&moment.name);
        let snapshot = Snapshot { active: current.then_some(1), ..with_parent(moment) };
        let xml = snapshot.to_xml(&options);
        store::make_dir(&dirs.snapshots(&guest.name), 0o755)?;
        store::write(&path(dirs, &guest.name, &moment.name), &store::with_warning("snapshot-edit", &xml))
    };
    for moment in moments {
        let path = path(dirs, &guest.name, &moment.name);
        write(moment)
            .map_err(|error| file(&error, format_args!("failed to create file '{}'", path.display())))?;
    }
    Ok(())
}

/// Removes the description of a snapshot.
///
/// # Errors
/// It cannot be removed.
pub(super) fn forget(driver: &Qemu, guest: &str, name: &str) -> Result<()> {
    let path = path(&driver.shared.dirs, guest, name);
    store::remove(&path).map_err(|error| file(&error, format_args!("Failed to unlink {}", path.display())))
}

/// Removes the descriptions of all snapshots of a guest.
pub(crate) fn forget_all(dirs: &Dirs, guest: &str) {
    // What is not there needs no removal, and what stays is read by nobody without its guest.
    let _ = fs::remove_dir_all(dirs.snapshots(guest));
}

/// The snapshots of a guest that are on disk. One that cannot be read is left alone, with a line in the log.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn load(dirs: &Dirs, guest: &str) -> io::Result<Moments<Snapshot>> {
    let mut waiting = Vec::new();
    let mut marked = None;
    for (name, text) in store::read_all(&dirs.snapshots(guest))? {
        let read = text.map_err(|error| error.to_string());
        let read = read
            .and_then(|text| Snapshot::parse(&text, &ParseOptions::default()).map_err(|error| error.message));
        match read {
            Ok(mut snapshot) => {
                let parent = snapshot.parent.take().map(|parent| parent.name);
                if snapshot.active.take() == Some(1) {
                    marked = Some(name.clone());
                }
                waiting.push(Moment { name, parent, data: snapshot });
            }
            Err(error) => tracing::warn!(guest, snapshot = name, error, "its description cannot be read"),
        }
    }
    let mut moments = Moments::from_unsorted(waiting);
    moments.current = marked;
    Ok(moments)
}
