//! Nodes of devices, and links to them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::DEV;
use crate::security::Ids;

/// How many links in a row are followed, as by the kernel.
const LINKS: usize = 40;

/// Something below `/dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Where, below it.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A link, to there.
    Link(PathBuf),
    /// A device: which, and whose it is.
    Device { kind: FileType, number: u64, mode: u32, owner: Ids },
}

/// Whether a path leads to a device's node in `/dev` itself, not in a file system of its own below that.
pub(crate) fn is_node(path: &Path) -> bool {
    let on_dev = |found: &fs::Metadata| fs::metadata(DEV).is_ok_and(|dev| dev.dev() == found.dev());
    path.starts_with(DEV) && fs::metadata(path).is_ok_and(|found| is_device(&found) && on_dev(&found))
}

fn is_device(found: &fs::Metadata) -> bool {
    found.file_type().is_block_device() || found.file_type().is_char_device()
}

/// What a path consists of: links, and the device at their end. Nothing where it does not lead to a device in `/dev`.
pub(super) fn describe(path: &Path, owner: Option<Ids>) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut path = plain(path);
    for _ in 0..LINKS {
        let (Ok(below), Ok(found)) = (path.strip_prefix(DEV), fs::symlink_metadata(&path)) else { break };
        let below = below.to_owned();
        if found.is_symlink() {
            let Ok(target) = fs::read_link(&path) else { break };
            path = joined(path.parent().unwrap_or(Path::new(DEV)), &target);
            nodes.push(Node { path: below, kind: Kind::Link(target) });
            continue;
        }
        if !is_device(&found) || !is_node(&path) {
            break;
        }
        let kind = if found.file_type().is_block_device() {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        let own = Ids { user: found.uid(), group: found.gid() };
        let (number, mode) = (found.rdev(), found.mode() & 0o7777);
        let kind = Kind::Device { kind, number, mode, owner: owner.unwrap_or(own) };
        nodes.push(Node { path: below, kind });
        return nodes;
    }
    Vec::new()
}

/// A path without steps back, by the words alone.
pub(super) fn plain(path: &Path) -> PathBuf {
    joined(Path::new("/"), path)
}

/// Where a link in a directory leads, by the words alone.
fn joined(dir: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in dir.join(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// Makes nodes that are not there, below a directory that stands for `/dev`. Returns which, as paths below `/dev`.
///
/// # Errors
/// One cannot be made; those before it are gone again.
pub(super) fn put(root: &Path, nodes: &[Node]) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for node in nodes {
        match put_one(root, node) {
            Ok(true) => made.push(node.path.clone()),
            Ok(false) => {}
            Err(error) => {
                let _ = remove(root, &made);
                return Err(error);
            }
        }
    }
    Ok(made)
}

fn put_one(root: &Path, node: &Node) -> io::Result<bool> {
    let path = root.join(&node.path);
    if let Some(dir) = path.parent() {
        make_dirs(root, dir)?;
    }
    if !is_ours(root, &path) {
        return Ok(false);
    }
    let made = match &node.kind {
        Kind::Link(target) => symlink(target, &path),
        Kind::Device { kind, number, .. } => {
            mknodat(CWD, &path, *kind, Mode::empty(), *number).map_err(io::Error::from)
        }
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made?,
    }
    if let Kind::Device { mode, owner, .. } = &node.kind {
        let settled = lchown(&path, Some(owner.user), Some(owner.group))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(*mode)));
        if let Err(error) = settled {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
    }
    Ok(true)
}

/// Makes directories that everybody may look into, whatever this process's mask is.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    if dir == root || dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dirs(root, above)?;
    }
    fs::create_dir(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// Whether a path is on the file system of the directory that stands for `/dev`: others below it are everybody's.
fn is_ours(root: &Path, path: &Path) -> bool {
    let on = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    path.parent().is_some_and(|dir| on(dir).is_some_and(|own| on(root) == Some(own)))
}

/// Removes nodes, as far as they are there.
///
/// # Errors
/// One cannot be removed.
pub(super) fn remove(root: &Path, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths.iter().map(|path| root.join(path)) {
        let removable =
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink() || is_device(&found));
        if !removable || !is_ours(root, &path) {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtwire_store::Scratch;

    use super::*;

    #[test]
    fn links_are_followed_by_their_words() {
        assert_eq!(joined(Path::new("/dev/disk/by-id"), Path::new("../../sdb")), Path::new("/dev/sdb"));
        assert_eq!(joined(Path::new("/dev/mapper"), Path::new("/dev/./dm-0")), Path::new("/dev/dm-0"));
    }

    #[test]
    fn what_is_no_device_has_no_nodes() {
        for path in ["/dev", "/dev/shm", "/dev/nowhere", "/etc/passwd", "/dev/../etc/passwd"] {
            assert_eq!(describe(Path::new(path), None), [], "{path}");
        }
        assert!(is_node(Path::new("/dev/null")) && !is_node(Path::new("/etc/passwd")));
        let null = describe(Path::new("/dev/null"), Some(Ids { user: 7, group: 8 }));
        let [Node { path, kind: Kind::Device { kind, mode, owner, .. } }] = null.as_slice() else {
            panic!("{null:?}")
        };
        assert_eq!(
            (path.as_path(), *kind, mode & 0o666),
            (Path::new("null"), FileType::CharacterDevice, 0o666)
        );
        assert_eq!(*owner, Ids { user: 7, group: 8 });
    }

    #[test]
    fn links_are_made_once_and_removed() {
        let root = Scratch::new();
        let link = |path: &str, target: &str| Node { path: path.into(), kind: Kind::Link(target.into()) };
        let nodes = [link("disk/by-id/x", "../../sdx"), link("sdx", "sdy")];
        let made = put(root.path(), &nodes).unwrap();
        assert_eq!(made, [PathBuf::from("disk/by-id/x"), PathBuf::from("sdx")]);
        assert!(put(root.path(), &nodes).unwrap().is_empty(), "they are there");
        remove(root.path(), &made).unwrap();
        assert!(fs::symlink_metadata(root.path().join("sdx")).is_err());
        fs::write(root.path().join("file"), "").unwrap();
        remove(root.path(), &["file".into(), "none".into()]).unwrap();
        assert!(root.path().join("file").exists(), "it is no device");
    }
}
