//! Guests that run at the target while the way to the rest of their memory is lost. They wait for another way: nothing of
//! them can run anywhere else.

use std::sync::Arc;

use virtwire_driver_api::CallCx;
use virtwire_qmp::commands::QueryMigrate;

use super::params::Asked;
use super::{Moving, Phase, Way};
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};

impl Qemu {
    /// What QEMU's word on post-copy means for a guest: that it goes on, or that the way is lost.
    pub(super) fn post_copy_is(&self, guest: &Guest, whole: bool) {
        let Some(way) = guest.lock().moving.as_mut().map(|moving| {
            moving.post_copy = true;
            if !whole {
                moving.phase = Phase::PostCopyFailed;
            }
            moving.way
        }) else {
            return;
        };
        let (state, event) = match (way, whole) {
            (Way::Out, true) => (State::PAUSED_POSTCOPY, Lifecycle::SUSPENDED_POSTCOPY),
            (Way::Out, false) => (State::PAUSED_POSTCOPY_FAILED, Lifecycle::SUSPENDED_POSTCOPY_FAILED),
            (Way::In, true) => (State::RUNNING_POSTCOPY, Lifecycle::RESUMED_POSTCOPY),
            (Way::In, false) => (State::RUNNING_POSTCOPY_FAILED, Lifecycle::RESUMED_POSTCOPY_FAILED),
        };
        // A target that does not run yet is told to by the last step but one.
        let from = |now: State| now != state && now.runs() == (way == Way::In);
        self.change(guest, from, state, event);
        self.save_status(guest);
    }

    /// QEMU has sent or received the last of a guest's memory, with nobody who waits for that.
    pub(super) fn post_copy_ends(&self, guest: &Arc<Guest>) {
        let waits = |moving: &mut Moving| moving.phase == Phase::PostCopyFailed;
        let Some(moving) = guest.lock().moving.take_if(waits) else { return };
        if moving.way == Way::In {
            guest.lock().state = State::RUNNING_MIGRATED;
            self.emit(Lifecycle::RESUMED_MIGRATED.of(guest.handle()));
            self.save_status(guest);
            return;
        }
        // In a task of its own: whoever takes a monitor's events must not wait for its replies.
        let (driver, guest) = (self.clone(), Arc::clone(guest));
        tokio::spawn(async move {
            driver.kill(&guest, Ending::Migrated).await;
            drop(moving);
        });
    }

    /// A guest of an earlier daemon waits for another way, or for the rest to follow. Whoever has its job gives it up.
    pub(super) fn waits_again(&self, guest: &Arc<Guest>, way: Way) {
        let (driver, guest) = (self.clone(), Arc::clone(guest));
        tokio::spawn(async move {
            let job = Arc::clone(&guest.job).lock_owned().await;
            let (cx, asked) = (CallCx { client: NOBODY, ..CallCx::default() }, Asked::default());
            let mut moving = Moving::new(&driver, way, Phase::PostCopyFailed, &asked, &cx, job);
            moving.post_copy = true;
            moving.origin.clone_from(&guest.name);
            guest.set_moving(Some(moving));
            driver.save_status(&guest);
            let Ok(live) = guest.live() else { return };
            let now = live.monitor.execute(&QueryMigrate {}).await;
            if now.is_ok_and(|now| now.status.as_deref() == Some("completed")) {
                driver.post_copy_ends(&guest);
            }
        });
    }

    /// Leaves a guest whose memory is in two places as it is, for whoever comes with another way.
    pub(super) fn stays_broken(&self, guest: &Guest) -> bool {
        let broken = guest.lock().moving.as_mut().filter(|moving| moving.post_copy).map(|moving| {
            moving.phase = Phase::PostCopyFailed;
            moving.client = NOBODY;
        });
        if broken.is_none() {
            return false;
        }
        self.post_copy_is(guest, false);
        true
    }
}

/// No client has this number.
pub(super) const NOBODY: u64 = u64::MAX;

/// Takes up the migration of a guest that waits for another way.
///
/// # Errors
/// It does not.
pub(super) fn take_up(
    driver: &Qemu,
    guest: &Guest,
    (way, phase): (Way, Phase),
    cx: &CallCx,
    asked: &Asked,
) -> Result<()> {
    let name = &guest.name;
    let taken = guest.lock().moving.as_mut().filter(|moving| moving.way == way).map(|moving| {
        let waits = moving.phase == Phase::PostCopyFailed;
        if waits {
            (moving.phase, moving.client, moving.abandoned) = (phase, cx.client, false);
            moving.flags = asked.flags;
        }
        waits
    });
    match taken {
        Some(true) => {
            driver.managing().insert(cx.client);
            driver.save_status(guest);
            Ok(())
        }
        Some(false) => Err(QEMU.operation_invalid(format_args!(
            "migration of domain {name} is being actively monitored by another thread"
        ))),
        None => Err(QEMU.operation_invalid(format_args!("domain '{name}' is not being migrated"))),
    }
}
