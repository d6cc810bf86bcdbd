//! Files that must survive anything: written beside, synced, renamed into place, and the directory synced.

mod scratch;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

pub use scratch::Scratch;

/// Puts `text` at `path`, wholly or not at all, readable by its owner only. It is on disk when this returns.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = beside(path);
    let result = write_new(&beside, text).and_then(|()| fs::rename(&beside, path));
    if result.is_err() {
        // What is left of a failed attempt is of no use; the failure itself is what counts.
        let _ = fs::remove_file(&beside);
    }
    result?;
    sync_dir(path)
}

/// Removes `path`; that it is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes `link` point to `target`, in place of what was there.
pub fn link(target: &Path, link: &Path) -> io::Result<()> {
    remove(link)?;
    symlink(target, link)?;
    sync_dir(link)
}

/// The texts of all `NAME.xml` in a directory, by name; a directory that is not there has none.
pub fn read_all(dir: &Path) -> io::Result<Vec<(String, io::Result<String>)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("xml"))
            && path.is_file()
            && let Some(name) = path.file_stem().and_then(OsStr::to_str)
        {
            found.push((name.to_owned(), fs::read_to_string(&path)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// What a file holds.
#[derive(Debug)]
pub struct Found<T> {
    /// The name that the text says.
    pub name: String,
    /// The object.
    pub object: T,
    /// What the file is to say from now on, if something was made up for the object that is to stay the same.
    pub completed: Option<String>,
}

/// What is kept in a directory as `NAME.xml`, each object as `read` understands its text. One that cannot be read, or has
/// another name than its file, is left alone, with a line in the log.
///
/// # Errors
/// The directory cannot be read.
pub fn load<T>(dir: &Path, read: impl Fn(&str) -> Result<Found<T>, String>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for (name, text) in read_all(dir)? {
        let file = dir.join(format!("{name}.xml"));
        match text.map_err(|error| error.to_string()).and_then(|text| read(&text)) {
            Ok(Found { name: own, object, completed }) if own == name => {
                if let Some(Err(error)) = completed.map(|text| write(&file, &text)) {
                    tracing::warn!(?file, %error, "what was made up for it is not kept");
                }
                found.push(object);
            }
            Ok(Found { name: own, .. }) => {
                tracing::warn!(?file, own, "the file is not named like what it defines");
            }
            Err(error) => tracing::warn!(?file, error, "a definition cannot be read"),
        }
    }
    Ok(found)
}

/// Where an object that is read again belongs among those that are known: in the place of one with both its name and its
/// UUID, or behind all. `None`, with a line in the log, if it has one of them in common with another.
pub fn place<'a, U: PartialEq>(
    known: impl IntoIterator<Item = (&'a str, U)>,
    name: &str,
    uuid: &U,
) -> Option<Place> {
    let mut same = known.into_iter().map(|(n, u)| (n == name, u == *uuid)).enumerate();
    match same.find(|(_, (name, uuid))| *name || *uuid) {
        None => Some(Place::Behind),
        Some((at, (true, true))) => Some(Place::Of(at)),
        Some(_) => {
            tracing::warn!(name, "is not read again: another has its name or its UUID");
            None
        }
    }
}

/// Where something belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the place of this one.
    Of(usize),
    /// Behind all.
    Behind,
}

/// A comment before XML that people should not edit in place, with the command that changes it.
pub fn with_warning(command: &str, xml: &str) -> String {
    format!(
        "<!--\n\
         WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\n\
         OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:\n  \
         virsh {}\n\
         or other application using the libvirt API.\n\
         -->\n\n{xml}",
        // Two dashes would end the comment.
        command.replace("--", "- -")
    )
}

/// Makes a directory with its parents, which only its owner can write to (`0o755`) or look into (`0o700`).
pub fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Where the next content of `path` is put together.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // What is left of an earlier attempt, or a link that somebody has put there.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A rename or removal is durable only when its directory is.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_replaced_listed_removed() {
        let dir = Scratch::new();
        let path = dir.path().join("a.xml");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        fs::write(dir.path().join("note.txt"), "").unwrap();
        let all = read_all(dir.path()).unwrap();
        assert_eq!(all.len(), 1, "nothing half-written, nothing that is not XML");
        assert_eq!((all[0].0.as_str(), all[0].1.as_deref().unwrap()), ("a", "two"));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read_all(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_loaded_is_named_like_its_file_and_completed_there() {
        let dir = Scratch::new();
        for (file, text) in [("a", "a"), ("b", "other"), ("c", "bad")] {
            write(&dir.path().join(format!("{file}.xml")), text).unwrap();
        }
        let read = |text: &str| match text {
            "bad" => Err("bad".to_owned()),
            name => {
                let completed = (!name.ends_with('!')).then(|| format!("{name}!"));
                Ok(Found { name: name.trim_end_matches('!').to_owned(), object: name.len(), completed })
            }
        };
        assert_eq!(load(dir.path(), read).unwrap(), [1]);
        assert_eq!(load(dir.path(), read).unwrap(), [2]);
        assert_eq!(std::fs::read_to_string(dir.path().join("b.xml")).unwrap(), "other");
    }

    #[test]
    fn what_is_read_again_takes_no_place_of_another() {
        let known = [("a", 1), ("b", 2)];
        for (name, uuid, expected) in [
            ("b", 2, Some(Place::Of(1))),
            ("c", 3, Some(Place::Behind)),
            ("c", 2, None),
            ("a", 3, None),
            ("a", 2, None),
        ] {
            assert_eq!(place(known, name, &uuid), expected, "{name} {uuid}");
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_text() {
        let dir = Scratch::new();
        let path = dir.path().join("a.xml");
        write(&path, "old").unwrap();
        fs::create_dir(beside(&path)).unwrap();
        assert!(write(&path, "new").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn links_replace_links() {
        let dir = Scratch::new();
        let at = dir.path().join("autostart.xml");
        link(Path::new("/first"), &at).unwrap();
        link(Path::new("/second"), &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), Path::new("/second"));
    }
}
