//! Where descriptions of a guest's snapshots and checkpoints are kept: a directory for each guest, a file for each moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use virtwire_conf::moments::{Moment, Moments};
use virtwire_protocol::error::VirtError;
use virtwire_store as store;

use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::error::{Result, file};
use crate::guest::{Guest, Inner};

/// A kind of moment whose descriptions are kept.
pub(crate) trait Kept: Sized {
    /// What virsh changes such a file with.
    const COMMAND: &'static str;
    /// The directory of a guest.
    fn dir(dirs: &Dirs, guest: &str) -> PathBuf;
    /// Those of a guest.
    fn all(inner: &Inner) -> &Moments<Self>;
    /// The document of one, with its parent and whether it is the current one.
    fn document(moment: &Moment<Self>, current: bool) -> String;
    /// What a document says: the moment, its parent, and whether it is the current one.
    ///
    /// # Errors
    /// It is none.
    fn read(text: &str) -> Result<(Self, Option<String>, bool), VirtError>;
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.xml"))
}

/// Puts the descriptions of some of a guest's moments on disk.
///
/// # Errors
/// One cannot be written.
pub(crate) fn save<T: Kept>(driver: &Qemu, guest: &Guest, names: &[&str]) -> Result<()> {
    let dir = T::dir(&driver.shared.dirs, &guest.name);
    let inner = guest.lock();
    let all = T::all(&inner);
    for moment in names.iter().filter_map(|name| all.get(name)) {
        let path = path(&dir, &moment.name);
        let text = T::document(moment, all.current.as_ref() == Some(&moment.name));
        let written = store::make_dir(&dir, 0o755)
            .and_then(|()| store::write(&path, &store::with_warning(T::COMMAND, &text)));
        written.map_err(|error| file(&error, format_args!("failed to create file '{}'", path.display())))?;
    }
    Ok(())
}

/// Removes the description of a moment.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn forget<T: Kept>(driver: &Qemu, guest: &str, name: &str) -> Result<()> {
    let path = path(&T::dir(&driver.shared.dirs, guest), name);
    store::remove(&path).map_err(|error| file(&error, format_args!("Failed to unlink {}", path.display())))
}

/// Removes the descriptions of all moments of a guest.
pub(crate) fn forget_all<T: Kept>(dirs: &Dirs, guest: &str) {
    // What is not there needs no removal, and what stays is read by nobody without its guest.
    let _ = fs::remove_dir_all(T::dir(dirs, guest));
}

/// The moments of a guest that are on disk. One that cannot be read is left alone, with a line in the log.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn load<T: Kept>(dirs: &Dirs, guest: &str) -> io::Result<Moments<T>> {
    let (mut waiting, mut marked) = (Vec::new(), None);
    for (name, text) in store::read_all(&T::dir(dirs, guest))? {
        let read = text.map_err(|error| error.to_string());
        match read.and_then(|text| T::read(&text).map_err(|error| error.message)) {
            Ok((data, parent, current)) => {
                if current {
                    marked = Some(name.clone());
                }
                waiting.push(Moment { name, parent, data });
            }
            Err(error) => tracing::warn!(guest, moment = name, error, "its description cannot be read"),
        }
    }
    let mut moments = Moments::from_unsorted(waiting);
    moments.current = marked;
    Ok(moments)
}
