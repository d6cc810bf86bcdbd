//! The last step, at the source: it ends what is left there, or lets the guest go on.

use std::sync::Arc;

use uuid::Uuid;
use virtwire_protocol::remote::{DomainEventCallbackJobCompletedMsg, Event, NonnullDomain};
use virtwire_qmp::commands::Cont;

use super::cookie::Cookie;
use super::follow::COMPLETED;
use super::params::{Asked, flag};
use super::{Moving, Phase, Way, perform};
use crate::define;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};

/// Ends what is left of a guest that has gone, or lets it go on where nothing came of it.
///
/// # Errors
/// The guest is not being sent.
pub(super) async fn confirm(
    driver: &Qemu,
    dom: &NonnullDomain,
    asked: &Asked,
    cookie: &[u8],
    canceled: bool,
) -> Result<()> {
    let guest = driver.guest(dom)?;
    let phase = guest.with_moving(Way::Out, |moving| moving.phase);
    if asked.has(flag::OFFLINE) {
        guest.set_moving(None);
        if !canceled {
            forget(driver, &guest, asked)?;
        }
        return Ok(());
    }
    let Some(phase) = phase else {
        return Err(QEMU.operation_invalid("domain is not being migrated"));
    };
    if canceled || phase < Phase::Performed {
        stay(driver, &guest).await;
        return Ok(());
    }
    guest.with_moving(Way::Out, |moving| moving.phase = Phase::Confirming);
    driver.save_status(&guest);
    leave(driver, &guest, asked, cookie).await
}

/// The guest has gone.
pub(super) async fn leave(driver: &Qemu, guest: &Arc<Guest>, asked: &Asked, cookie: &[u8]) -> Result<()> {
    let live = guest.live()?;
    let mut stats = guest.lock().moving.as_ref().map(|moving| moving.stats.clone()).unwrap_or_default();
    if guest.with_moving(Way::Out, |moving| moving.post_copy) == Some(true) {
        stats = match perform::followed(guest, &live).await {
            Ok(stats) => stats,
            Err(error) => {
                driver.stays_broken(guest);
                return Err(error);
            }
        };
    }
    if let Ok(cookie) = Cookie::read(driver, cookie, &guest.name, Uuid::from_bytes(guest.uuid)) {
        stats = cookie.stats.unwrap_or(stats);
    }
    let params = stats.params(Moving::operation(Way::Out));
    guest.lock().completed = Some((COMPLETED, params.clone()));
    driver.kill(guest, Ending::Migrated).await;
    guest.set_moving(None);
    let msg = DomainEventCallbackJobCompletedMsg { callback_id: 0, dom: guest.handle(), params };
    driver.emit(Event::DomainJobCompleted(msg));
    forget(driver, guest, asked)
}

/// A guest that is not to stay known here is not.
pub(super) fn forget(driver: &Qemu, guest: &Arc<Guest>, asked: &Asked) -> Result<()> {
    if !asked.has(flag::UNDEFINE_SOURCE) || guest.lock().persistent.is_none() {
        return Ok(());
    }
    // No event tells of it: the guest has not gone, it is elsewhere.
    define::remove(driver, guest, 0).map(drop)
}

/// The guest goes on here, unless it runs at the target already.
pub(super) async fn stay(driver: &Qemu, guest: &Arc<Guest>) {
    if driver.stays_broken(guest) {
        return;
    }
    let stopped = guest.with_moving(Way::Out, |moving| {
        moving.phase = Phase::Staying;
        (moving.stopped, std::mem::take(&mut moving.before))
    });
    let Some((stopped, before)) = stopped else { return };
    if let Ok(live) = guest.live() {
        if let Err(error) = before.again(&live.monitor).await {
            tracing::debug!(guest = guest.name, %error, "QEMU keeps what it was told of the migration");
        }
        let paused = guest.lock().state == State::PAUSED_MIGRATION;
        if stopped && paused && live.monitor.execute(&Cont {}).await.is_ok() {
            driver.change(
                guest,
                |state| !state.runs(),
                State::RUNNING_MIGRATION_CANCELED,
                Lifecycle::RESUMED_MIGRATED,
            );
        }
    }
    guest.set_moving(None);
    driver.save_status(guest);
}
