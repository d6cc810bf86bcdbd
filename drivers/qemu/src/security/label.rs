//! Labels: a user and a group, by name or number.

use std::fmt;

use nix::unistd::{Group, User};
use rustix::process::{DumpableBehavior, Gid, Uid, dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use virtwire_protocol::error::ErrorDomain;

use crate::error::Result;

/// Users that packages of distributions make for guests, with a group of the same name or of their own.
const USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The label, by numbers.
impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}:+{}", self.user, self.group)
    }
}

/// Whom guests run as where nothing is configured: root where no package has made a user for them.
pub(super) fn of_guests() -> Ids {
    let known = |name: &&str| User::from_name(name).ok().flatten();
    let found = USERS.iter().find_map(|name| Some((name, known(name)?)));
    found.map_or(Ids { user: 0, group: 0 }, |(name, user)| Ids {
        user: user.uid.as_raw(),
        group: group(name).unwrap_or_else(|_| user.gid.as_raw()),
    })
}

/// A user by name, or by number; a number behind `+` is never a name.
///
/// # Errors
/// There is none.
pub(super) fn user(text: &str) -> Result<u32> {
    id(text, "user", |name| Some(User::from_name(name).ok()??.uid.as_raw()))
}

/// A group by name, or by number.
///
/// # Errors
/// There is none.
pub(super) fn group(text: &str) -> Result<u32> {
    id(text, "group", |name| Some(Group::from_name(name).ok()??.gid.as_raw()))
}

fn id(text: &str, what: &str, by_name: impl Fn(&str) -> Option<u32>) -> Result<u32> {
    let (name, number) = match text.strip_prefix('+') {
        Some(number) => (None, number),
        None => (Some(text), text),
    };
    // The largest number means nobody in system calls.
    let by_number = || number.parse().ok().filter(|id| *id != u32::MAX);
    name.and_then(by_name)
        .or_else(by_number)
        .ok_or_else(|| ErrorDomain::NONE.invalid_arg(format_args!("Failed to parse {what} '{text}'")))
}

/// A label's user and group.
///
/// # Errors
/// It is no label, or one of the two is not there.
pub(super) fn parse(label: &str) -> Result<Ids> {
    match label.split_once(':') {
        Some((name, of)) => Ok(Ids { user: user(name)?, group: group(of)? }),
        None => {
            let text = format_args!("Failed to parse uid and gid from '{label}'");
            Err(ErrorDomain::NONE.invalid_arg(text))
        }
    }
}

/// Whom a process runs as.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) ids: Ids,
    groups: Vec<u32>,
}

impl Ids {
    /// With all groups of the user.
    pub(crate) fn credentials(self) -> Credentials {
        let user = User::from_uid(self.user.into()).ok().flatten();
        let own = |user: User| {
            let name = std::ffi::CString::new(user.name).ok()?;
            nix::unistd::getgrouplist(&name, user.gid).ok()
        };
        let groups = user.and_then(own).unwrap_or_default();
        let mut groups: Vec<_> = groups.iter().map(|group| group.as_raw()).collect();
        if !groups.contains(&self.group) {
            groups.push(self.group);
        }
        Credentials { ids: self, groups }
    }
}

impl Credentials {
    /// Does something as this user, in a thread of its own: on Linux each thread has its own user, and a process
    /// started by it has that user too.
    ///
    /// # Errors
    /// The system does not let us be this user, or what `work` says.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> std::io::Result<T> {
        self.run_after(|| Ok(()), work)
    }

    /// The same, after something else in that thread, which takes more than this user may.
    ///
    /// # Errors
    /// Also what `first` says.
    pub(crate) fn run_after<T: Send>(
        &self,
        first: impl FnOnce() -> std::io::Result<()> + Send,
        work: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> std::io::Result<T> {
        let before = dumpable_behavior();
        let result = std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                first()?;
                self.become_user()?;
                work()
            });
            done.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread has ended early")))
        });
        // To the kernel, the memory of a process that has changed its user must not be dumped.
        if let Ok(before @ DumpableBehavior::Dumpable) = before {
            let _ = set_dumpable_behavior(before);
        }
        result
    }

    fn become_user(&self) -> std::io::Result<()> {
        let groups: Vec<_> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (user, group) = (Uid::from_raw(self.ids.user), Gid::from_raw(self.ids.group));
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        Ok(set_thread_res_uid(user, user, user)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(parse("root:+7").unwrap(), Ids { user: 0, group: 7 });
        assert_eq!(parse("12:root").unwrap().to_string(), "+12:+0");
        for (label, said) in [
            ("root", "invalid argument: Failed to parse uid and gid from 'root'"),
            ("nosuch:0", "invalid argument: Failed to parse user 'nosuch'"),
            ("0:+4294967295", "invalid argument: Failed to parse group '+4294967295'"),
            ("+root:0", "invalid argument: Failed to parse user '+root'"),
        ] {
            assert_eq!(parse(label).unwrap_err().message, said);
        }
    }
}
