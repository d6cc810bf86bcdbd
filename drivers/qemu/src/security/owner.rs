//! Owners of files, and the former ones, which stand in the files' own attributes as libvirt writes them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use virtwire_protocol::error::{ErrorDomain, VirtError};

use super::label::{self, Ids};
use crate::error::Result;
use crate::written;

/// The owner that a file had.
const OWNER: &str = "trusted.libvirt.security.dac";
/// How many guests have the file.
const USERS: &str = "trusted.libvirt.security.ref_dac";
/// When the host was booted; what was written before that holds no more.
const BOOTED: &str = "trusted.libvirt.security.timestamp_dac";
/// Longer values are not ours.
const VALUE_MAX: usize = 128;
/// How far two readings of the time of booting may lie apart, in seconds.
const BOOTED_APART: i64 = 2;

/// What a file's attributes say.
struct Memory {
    owner: Ids,
    users: u32,
}

/// Makes a file somebody's.
///
/// # Errors
/// It is in use as somebody else's, is not there or cannot be given away.
pub(super) fn give(path: &Path, to: Ids, remember: bool) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| {
        VirtError::system(
            ErrorDomain::SECURITY,
            &error,
            format_args!("Cannot access storage file '{}'", path.display()),
        )
    })?;
    let now = Ids { user: metadata.uid(), group: metadata.gid() };
    if remember {
        let users = match recall(path) {
            Ok(Some(_)) if now != to => {
                return Err(ErrorDomain::SECURITY.operation_invalid(format_args!(
                    "Setting different DAC user or group on {} which is already in use",
                    path.display()
                )));
            }
            Ok(Some(memory)) => Ok((memory.owner, memory.users.saturating_add(1))),
            Ok(None) => Ok((now, 1)),
            Err(error) => Err(error),
        };
        // A file system without attributes remembers nothing.
        if let Ok((owner, users)) = users {
            let _ = write_down(path, owner, users);
        }
    }
    if now == to {
        return Ok(());
    }
    change(path, to).inspect_err(|_| forget(path))
}

/// Gives a file back to whom it was before; to root, where that is not known.
///
/// # Errors
/// The system refuses.
pub(super) fn take_back(path: &Path, remembered: bool) -> io::Result<()> {
    let memory = if remembered { recall(path).unwrap_or_default() } else { None };
    let owner = match memory {
        Some(memory) if memory.users > 1 => {
            return Ok(write_down(path, memory.owner, memory.users - 1)?);
        }
        Some(memory) => memory.owner,
        None => Ids { user: 0, group: 0 },
    };
    forget(path);
    match chown(path, owner) {
        // What is gone needs no owner.
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether a file's former owner is known.
pub(super) fn is_written_down(path: &Path) -> bool {
    matches!(recall(path), Ok(Some(_)))
}

/// Changes the owner of what belongs to a guest's run itself.
///
/// # Errors
/// The system refuses.
pub(super) fn change_own(path: &Path, to: Ids) -> Result<()> {
    changed(written::give(path, to), path, to)
}

/// Changes the owner, where the file system has owners.
fn change(path: &Path, to: Ids) -> Result<()> {
    changed(chown(path, to), path, to)
}

fn changed(done: Result<(), Errno>, path: &Path, to: Ids) -> Result<()> {
    match done {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ROFS) => Ok(()),
        Err(error) => Err(VirtError::system(
            ErrorDomain::SECURITY,
            &error.into(),
            format_args!(
                "unable to set user and group to '{}:{}' on '{}'",
                to.user,
                to.group,
                path.display()
            ),
        )),
    }
}

fn chown(path: &Path, to: Ids) -> Result<(), Errno> {
    rustix::fs::chown(path, Some(Uid::from_raw(to.user)), Some(Gid::from_raw(to.group)))
}

/// What is written down at a file since the host was booted.
fn recall(path: &Path) -> Result<Option<Memory>, Errno> {
    let text = |name: &str| {
        let mut value = [0; VALUE_MAX];
        match getxattr(path, name, &mut value) {
            Ok(length) => {
                Ok(value.get(..length).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let owner = text(OWNER)?.and_then(|owner| label::parse(&owner).ok());
    let users = text(USERS)?.and_then(|users| users.parse().ok());
    let booted = text(BOOTED)?.and_then(|time| time.parse::<i64>().ok());
    let holds = |time: i64| time.abs_diff(boot_time()) <= BOOTED_APART.unsigned_abs();
    Ok(match (owner, users, booted) {
        (Some(owner), Some(users), Some(time)) if holds(time) => Some(Memory { owner, users }),
        _ => None,
    })
}

fn write_down(path: &Path, owner: Ids, users: u32) -> Result<(), Errno> {
    let set = |name, value: String| setxattr(path, name, value.as_bytes(), XattrFlags::empty());
    set(OWNER, owner.to_string())?;
    set(USERS, users.to_string())?;
    set(BOOTED, boot_time().to_string())
}

fn forget(path: &Path) {
    for name in [OWNER, USERS, BOOTED] {
        let _ = removexattr(path, name);
    }
}

/// When the host was booted, in seconds since 1970.
fn boot_time() -> i64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs_f64() - up).round() as i64
}
