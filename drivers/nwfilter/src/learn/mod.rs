//! Learning the address that a port has, from what goes through it.

mod frames;
mod leases;
mod socket;

use std::net::Ipv4Addr;
use std::sync::{MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use virtwire_protocol::error::VirtError;

use self::frames::Lease;
pub(crate) use self::leases::Leases;
use self::socket::Frames;
use crate::rules::Learn;
use crate::{NWFILTER, Nwfilters, Result};

/// The most addresses that a port may have been given at a time.
const MOST_LEASES: usize = 64;

/// How long a port has to wait between two changes of what it is known to have: each costs the host more than the guest.
const PAUSE: Duration = Duration::from_millis(200);

/// Someone who waits for the address of a port. It ends with this.
pub(crate) struct Learner {
    pub(crate) how: Learn,
    task: JoinHandle<()>,
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that is listened to.
pub(crate) struct Listener {
    filters: Weak<Nwfilters>,
    how: Learn,
    port: String,
    mac: [u8; 6],
    /// Whose the leases are.
    owner: String,
    frames: Frames,
}

impl Listener {
    /// Listens to a port from now on.
    ///
    /// # Errors
    /// There is no such port, or nobody may.
    pub(crate) fn of(
        filters: Weak<Nwfilters>,
        how: Learn,
        port: &str,
        mac: [u8; 6],
        owner: String,
    ) -> Result<Self> {
        let wanted = (how == Learn::Any).then_some(mac);
        let cannot = |error| {
            let text = format_args!("cannot listen to the packets of '{port}' for its IP address");
            VirtError::system(NWFILTER, &error, text)
        };
        let frames = Frames::of(port, wanted).map_err(cannot)?;
        Ok(Self { filters, how, port: port.to_owned(), mac, owner, frames })
    }

    /// Learns what there is to learn.
    pub(crate) fn start(self) -> Learner {
        let how = self.how;
        let task = tokio::spawn(async move {
            let port = self.port.clone();
            let ended = match self.how {
                Learn::Any => self.any().await,
                Learn::Dhcp => self.dhcp().await,
            };
            if let Err(error) = ended {
                tracing::error!(port, %error, "its address is not learned");
            }
        });
        Learner { how, task }
    }

    /// The first address is the port's for good.
    async fn any(self) -> std::io::Result<()> {
        let mut buffer = Frames::buffer();
        loop {
            let (length, _) = self.frames.next(&mut buffer).await?;
            let frame = buffer.get(..length).unwrap_or_default();
            if let Some(address) = frames::any(frame, self.mac) {
                if let Some(filters) = self.filters.upgrade() {
                    filters.learned(&self.port, vec![address]).await;
                }
                return Ok(());
            }
        }
    }

    /// The port has what a server has given it, for as long.
    async fn dhcp(self) -> std::io::Result<()> {
        let mut buffer = Frames::buffer();
        let mut known: Option<Vec<Ipv4Addr>> = None;
        loop {
            let Some(filters) = self.filters.upgrade() else { return Ok(()) };
            let addresses = filters.leases().of(&self.owner);
            if known.as_ref().is_some_and(|known| *known != addresses) {
                filters.learned(&self.port, addresses.clone()).await;
                tokio::time::sleep(PAUSE).await;
            }
            known = Some(addresses);
            let next = filters.leases().next_end(&self.owner);
            drop(filters);
            let end = async {
                match next {
                    Some((expiry, _)) => tokio::time::sleep(leases::until(expiry)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = self.frames.next(&mut buffer) => {
                    let (length, is_to_guest) = frame?;
                    let frame = buffer.get(..length).unwrap_or_default();
                    if let Some(lease) = frames::lease(frame, self.mac, is_to_guest) {
                        self.note(lease);
                    }
                }
                () = end => {
                    if let Some((_, address)) = next {
                        self.note(Lease::Ended(address));
                    }
                }
            }
        }
    }

    fn note(&self, lease: Lease) {
        let Some(filters) = self.filters.upgrade() else { return };
        let mut leases = filters.leases();
        let own = leases.of(&self.owner);
        match lease {
            Lease::Given { address, seconds, server } => {
                if own.contains(&address) || own.len() < MOST_LEASES {
                    leases.put(&self.owner, address, leases::expiry(seconds), server);
                }
            }
            Lease::Ended(address) => {
                if leases.has(&self.owner, address) {
                    leases.put(&self.owner, address, 0, Ipv4Addr::UNSPECIFIED);
                }
            }
        }
    }
}

impl Nwfilters {
    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
