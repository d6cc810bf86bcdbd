//! Guests that end with the connection of the client that started them.

use std::sync::{Arc, Weak};

use crate::driver::Qemu;
use crate::guest::{Ending, Guest};

/// One run of a guest, and the connection that it must not outlive.
pub(crate) struct Bound {
    client: u64,
    guest: Weak<Guest>,
    id: i32,
}

/// Held by a client's connection; dropped with it.
pub(crate) struct Guard {
    pub(crate) driver: Qemu,
    pub(crate) client: u64,
}

impl Qemu {
    /// Ends what runs of the guest when the client goes.
    pub(crate) fn bind(&self, guest: &Arc<Guest>, client: u64) {
        let Ok(live) = guest.live() else { return };
        let bound = Bound { client, guest: Arc::downgrade(guest), id: live.id };
        let mut all = self.bound();
        // Runs that have ended since are not remembered for ever.
        all.retain(|bound| bound.run().is_some());
        all.push(bound);
    }
}

impl Qemu {
    /// Whether what runs of the guest ends with a client.
    pub(crate) fn is_bound(&self, guest: &Arc<Guest>) -> bool {
        self.bound().iter().filter_map(Bound::run).any(|bound| Arc::ptr_eq(&bound, guest))
    }
}

impl Bound {
    /// The guest, if it is still that run.
    fn run(&self) -> Option<Arc<Guest>> {
        let guest = self.guest.upgrade()?;
        let same = guest.live().is_ok_and(|live| live.id == self.id);
        same.then_some(guest)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.driver.close_groups(self.client);
        let gone: Vec<_> = self.driver.bound().extract_if(.., |bound| bound.client == self.client).collect();
        let managed = self.driver.managing().remove(&self.client);
        if !managed && gone.is_empty() {
            return;
        }
        // Without a runtime the daemon itself ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (driver, client) = (self.driver.clone(), self.client);
        runtime.spawn(async move {
            if managed {
                driver.unmanaged(client).await;
            }
            for guest in gone.iter().filter_map(Bound::run) {
                driver.kill(&guest, Ending::Destroyed).await;
            }
        });
    }
}
