//! Files that clients have opened for a guest: a group of descriptors has a name, by which a disk's source asks for it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtwire_driver_api::CallCx;
use virtwire_protocol::remote::DomainFdAssociateArgs;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;

/// `VIR_DOMAIN_FD_ASSOCIATE_…`: what becomes of the files' labels, which are not touched here.
const LABELS: u32 = 1 | 2;

/// Groups that one client may have: each keeps as many descriptors as a call carries.
const GROUPS: usize = 128;

/// A group of descriptors.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The connection that it ends with.
    pub(crate) client: u64,
    /// The files.
    pub fds: Arc<[OwnedFd]>,
}

pub(crate) async fn associate(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainFdAssociateArgs,
    fds: Vec<OwnedFd>,
) -> Result<()> {
    check_flags(args.flags, LABELS, "qemuDomainFDAssociate")?;
    let guest = driver.guest(&args.dom)?;
    let name = args.name.to_string();
    let has = driver.groups_of(cx.client, |of, group| of.uuid != guest.uuid || group.name != name);
    if has >= GROUPS {
        let text = format_args!("too many groups of file descriptors of one client: {GROUPS}");
        return Err(QEMU.operation_failed(text));
    }
    let mut inner = guest.lock();
    inner.fds.retain(|group| group.name != name);
    inner.fds.push(Group { name, client: cx.client, fds: fds.into() });
    Ok(())
}

impl Qemu {
    /// How many groups of a client's count.
    fn groups_of(&self, client: u64, counts: impl Fn(&Guest, &Group) -> bool) -> usize {
        let of_guest = |guest: &Arc<Guest>| {
            let inner = guest.lock();
            inner.fds.iter().filter(|group| group.client == client && counts(guest, group)).count()
        };
        self.all().iter().map(of_guest).sum()
    }

    /// Closes what a client has opened for guests.
    pub(crate) fn close_groups(&self, client: u64) {
        for guest in self.all() {
            guest.lock().fds.retain(|group| group.client != client);
        }
    }
}
