//! Where descriptions of snapshots are kept: `snapshot/GUEST/NAME.xml`, the current one marked in its file.

use std::fs;
use std::io;
use std::path::PathBuf;

use virtwire_conf::moments::{Moment, Moments};
use virtwire_conf::snapshot::Parent;
use virtwire_conf::xml::Document;
use virtwire_conf::{FormatOptions, ParseOptions, Snapshot};
use virtwire_protocol::error::ErrorDomain;
use virtwire_store as store;

use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::error::{Result, file};
use crate::guest::Guest;

/// What the file of the current snapshot has before its end.
const ACTIVE: &str = "  <active>1</active>\n";
const END: &str = "</domainsnapshot>\n";

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
        let mut xml = with_parent(moment).to_xml(&options);
        if inner.snapshots.current.as_ref() == Some(&moment.name) {
            xml.truncate(xml.rfind(END.trim_end()).unwrap_or(xml.len()));
            xml.push_str(ACTIVE);
            xml.push_str(END);
        }
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
        let read = text.map_err(|error| error.to_string()).and_then(|text| read(&text));
        match read {
            Ok((mut snapshot, current)) => {
                let parent = snapshot.parent.take().map(|parent| parent.name);
                if current {
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

/// A description, and whether it is that of the current snapshot.
fn read(text: &str) -> Result<(Snapshot, bool), String> {
    let document = Document::parse_root(text, "domainsnapshot", ErrorDomain::DOMAIN_SNAPSHOT);
    let document = document.map_err(|error| error.message)?;
    let current =
        document.root().children().any(|child| child.name() == "active" && child.text().trim() == "1");
    let snapshot = Snapshot::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
    Ok((snapshot, current))
}
