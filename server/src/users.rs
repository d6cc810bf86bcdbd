//! Names of users and groups, as the host knows them: from `/etc/passwd` and `/etc/group`, or wherever `nsswitch.conf`
//! says.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use virtwire_driver_api::Peer;

/// How long names are believed. Rules are asked for every object, and a directory service takes its time.
const FRESH: Duration = Duration::from_secs(5);

/// The user's name.
pub(crate) fn user(id: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(id)).ok()??.name)
}

/// The group's name.
pub(crate) fn group(id: u32) -> Option<String> {
    Some(Group::from_gid(Gid::from_raw(id)).ok()??.name)
}

/// The group's id.
pub(crate) fn group_id(name: &str) -> Option<u32> {
    Some(Group::from_name(name).ok()??.gid.as_raw())
}

/// What a client's user and groups are called.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// `None` where the user has no name.
    pub(crate) user: Option<String>,
    /// The group of its process first.
    pub(crate) groups: Vec<String>,
}

/// Names by user and group, each since when it is known.
type Known = BTreeMap<(u32, u32), (Instant, Arc<Names>)>;

impl Names {
    fn look_up(uid: u32, gid: u32) -> Self {
        let user = user(uid);
        let name = user.as_deref().and_then(|name| CString::new(name).ok());
        let others = name.and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok()).unwrap_or_default();
        let mut ids = vec![gid];
        ids.extend(others.iter().map(|id| id.as_raw()).filter(|id| *id != gid));
        Self { user, groups: ids.into_iter().filter_map(group).collect() }
    }

    /// Those of a process. Who else is served goes on meanwhile, however long the host takes.
    pub(crate) async fn of(peer: Peer) -> Arc<Self> {
        static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.uid, peer.gid);
        if let Some((since, names)) = known().get(&key)
            && since.elapsed() < FRESH
        {
            return Arc::clone(names);
        }
        let names =
            tokio::task::spawn_blocking(move || Self::look_up(key.0, key.1)).await.unwrap_or_default();
        let names = Arc::new(names);
        let mut known = known();
        known.retain(|_, (since, _)| since.elapsed() < FRESH);
        known.insert(key, (Instant::now(), Arc::clone(&names)));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids() {
        assert_eq!((user(0), group(0)), (Some("root".into()), Some("root".into())));
        assert_eq!((user(u32::MAX - 1), group_id("root"), group_id("no such")), (None, Some(0), None));
    }

    #[tokio::test]
    async fn a_process_has_the_group_it_runs_in_and_its_users() {
        let names = Names::of(Peer { pid: 1, uid: 0, gid: 1 }).await;
        assert_eq!(names.user.as_deref(), Some("root"));
        assert_eq!(names.groups.first(), group(1).as_ref());
        let nobody = Names::of(Peer { pid: 1, uid: u32::MAX - 1, gid: 0 }).await;
        assert_eq!((&nobody.user, &nobody.groups[..]), (&None, &["root".to_owned()][..]));
    }
}
