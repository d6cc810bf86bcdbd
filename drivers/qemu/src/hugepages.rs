//! Where the host has huge pages, and the directories of guests there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use virtwire_conf::Domain;
use virtwire_protocol::VirtError;

use crate::dirs::make_secret;
use crate::error::QEMU;
use crate::settings::Settings;

/// What the kernel calls such a file system (`statfs(2)`).
const HUGETLBFS: u32 = 0x9584_58f6;

/// A file system of huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    path: PathBuf,
    /// The size of its pages.
    kib: u64,
}

/// Those that `qemu.conf` names (`hugetlbfs_mount`); `None` where it says nothing, an empty text or list for none at all.
///
/// # Errors
/// One is not there, or none of huge pages.
pub(crate) fn named(settings: &Settings) -> io::Result<Option<Vec<Mount>>> {
    const KEY: &str = "hugetlbfs_mount";
    let Some(paths) = settings.one_or_more(KEY)? else { return Ok(None) };
    let measure = |path: String| {
        let found = statfs(&path).map_err(|error| {
            io::Error::other(format!("cannot determine filesystem for '{path}': {error}"))
        })?;
        if found.f_type as u32 != HUGETLBFS {
            return Err(io::Error::other(format!("not a hugetlbfs mount: '{path}'")));
        }
        Ok(Mount { path: path.into(), kib: found.f_bsize as u64 / 1024 })
    };
    paths.into_iter().filter(|path| !path.is_empty()).map(measure).collect::<io::Result<_>>().map(Some)
}

/// Those of the host, unless the administrator has named some.
fn mounts(named: Option<&[Mount]>) -> Vec<Mount> {
    if let Some(named) = named {
        return named.to_vec();
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().filter_map(mount).collect()
}

/// A guest's directory in a mount; `own` is its directory for ordinary files, whose last part names the guest.
fn of_guest(mount: &Mount, own: &Path) -> PathBuf {
    mount.path.join("libvirt/qemu").join(own.file_name().unwrap_or_default())
}

/// The directory for huge pages of `kib`, or of the first size that is mounted; `own` is the guest's directory for
/// ordinary files.
///
/// # Errors
/// No such pages are mounted.
pub(crate) fn directory(named: Option<&[Mount]>, kib: Option<u64>, own: &Path) -> Result<String, VirtError> {
    let mounts = mounts(named);
    let found = match kib {
        None => mounts.first(),
        Some(kib) => mounts.iter().find(|mount| mount.kib == kib),
    };
    match (found, kib) {
        (Some(mount), _) => Ok(of_guest(mount, own).display().to_string()),
        (None, Some(kib)) if !mounts.is_empty() => {
            Err(QEMU.internal_error(format_args!("Unable to find any usable hugetlbfs mount for {kib} KiB")))
        }
        _ => {
            let text = "hugetlbfs filesystem is not mounted or disabled by administrator config";
            Err(QEMU.internal_error(text))
        }
    }
}

/// Makes the directories of a guest that has huge pages, those of the sizes that it does not use as well.
///
/// # Errors
/// One cannot be made.
pub(crate) fn make(named: Option<&[Mount]>, domain: &Domain, own: &Path) -> io::Result<Vec<PathBuf>> {
    let of_all = domain.memory_backing.as_ref().is_some_and(|backing| backing.hugepages.is_some());
    let of_module = domain
        .devices
        .memories
        .iter()
        .any(|module| module.source.as_ref().is_some_and(|source| source.pagesize.is_some()));
    if !of_all && !of_module {
        return Ok(Vec::new());
    }
    let dirs: Vec<_> = mounts(named).iter().map(|mount| of_guest(mount, own)).collect();
    dirs.iter().try_for_each(|dir| make_secret(dir))?;
    Ok(dirs)
}

/// Removes them.
pub(crate) fn remove(named: Option<&[Mount]>, own: &Path) {
    for mount in mounts(named) {
        let _ = fs::remove_dir_all(of_guest(&mount, own));
    }
}

/// A mount of huge pages, from a line of `/proc/mounts`.
fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split(' ').skip(1);
    let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
    let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="))?;
    let (number, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "K" => 1,
        "M" => 1 << 10,
        "G" => 1 << 20,
        _ => return None,
    };
    let kib = number.parse::<u64>().ok()? * factor;
    (kind == "hugetlbfs").then_some(Mount { path: path.into(), kib })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::given;

    fn huge(path: &str, kib: u64) -> Mount {
        Mount { path: path.into(), kib }
    }

    #[test]
    fn sizes_of_pages_have_units() {
        let line = "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0";
        assert_eq!(mount(line), Some(huge("/dev/hugepages", 2048)));
        assert_eq!(mount("none /big hugetlbfs rw,pagesize=1024M 0 0"), Some(huge("/big", 1 << 20)));
        assert_eq!(mount("tmpfs /tmp tmpfs rw,size=4M 0 0"), None);
    }

    #[test]
    fn pages_are_where_the_administrator_says_or_nowhere() {
        let (named, own) = ([huge("/a", 2048), huge("/b", 1 << 20)], Path::new("/ram/7-x"));
        let found = |kib| directory(Some(&named), kib, own);
        assert_eq!(found(None).unwrap(), "/a/libvirt/qemu/7-x");
        assert_eq!(found(Some(1 << 20)).unwrap(), "/b/libvirt/qemu/7-x");
        assert!(found(Some(4)).unwrap_err().message.ends_with("any usable hugetlbfs mount for 4 KiB"));
        assert!(directory(Some(&[]), None, own).unwrap_err().message.contains("disabled by administrator"));
    }

    #[test]
    fn what_is_no_mount_of_huge_pages_is_refused() {
        let said = |text: &str| super::named(&given(text)).map_err(|error| error.to_string());
        assert_eq!(said(""), Ok(None));
        assert_eq!(said("hugetlbfs_mount = ''"), Ok(Some(Vec::new())));
        assert_eq!(said("hugetlbfs_mount = '/proc'"), Err("not a hugetlbfs mount: '/proc'".to_owned()));
        assert!(
            said("hugetlbfs_mount = ['/nosuch']")
                .unwrap_err()
                .starts_with("cannot determine filesystem for '/nosuch'")
        );
        assert!(said("hugetlbfs_mount = 5").is_err());
    }
}
