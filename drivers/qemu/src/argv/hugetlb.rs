//! Where the host has huge pages.

use std::fs;
use std::path::Path;

use virtwire_protocol::VirtError;

use crate::error::QEMU;

/// The directory for huge pages of `kib`, or of the first size that is mounted; `own` is the guest's directory for
/// ordinary files, whose last part names the guest.
///
/// # Errors
/// No such pages are mounted.
pub(super) fn directory(kib: Option<u64>, own: &Path) -> Result<String, VirtError> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts: Vec<(&str, u64)> = mounts.lines().filter_map(mount).collect();
    let found = match kib {
        None => mounts.first(),
        Some(kib) => mounts.iter().find(|(_, size)| *size == kib),
    };
    match (found, kib) {
        (Some((path, _)), _) => {
            let name = own.file_name().unwrap_or_default().to_string_lossy();
            Ok(format!("{path}/libvirt/qemu/{name}"))
        }
        (None, Some(kib)) if !mounts.is_empty() => {
            Err(QEMU.internal_error(format_args!("Unable to find any usable hugetlbfs mount for {kib} KiB")))
        }
        _ => {
            let text = "hugetlbfs filesystem is not mounted or disabled by administrator config";
            Err(QEMU.internal_error(text))
        }
    }
}

/// Path and page size in KiB of a mount of huge pages, from a line of `/proc/mounts`.
fn mount(line: &str) -> Option<(&str, u64)> {
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
    (kind == "hugetlbfs").then_some((path, number.parse::<u64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::mount;

    #[test]
    fn sizes_of_pages_have_units() {
        let huge = "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0";
        assert_eq!(mount(huge), Some(("/dev/hugepages", 2048)));
        assert_eq!(mount("none /big hugetlbfs rw,pagesize=1024M 0 0"), Some(("/big", 1 << 20)));
        assert_eq!(mount("tmpfs /tmp tmpfs rw,size=4M 0 0"), None);
    }
}
