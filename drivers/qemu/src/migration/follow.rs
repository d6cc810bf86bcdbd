//! What is seen of a migration while it goes on, and what clients may do about it.

use std::sync::Arc;

use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{MigrateCancel, MigratePause, MigrateStartPostcopy};
use virtwire_qmp::events::EventKind;

use super::params::flag;
use super::{Moving, Phase, Stats, Way};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};

/// `VIR_DOMAIN_JOB_…`: one whose end nobody can tell, and how one has ended.
const UNBOUNDED: i32 = 2;
pub(super) const COMPLETED: i32 = 3;

impl Moving {
    /// `VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN` and `…_OUT`
    pub(super) fn operation(way: Way) -> i32 {
        match way {
            Way::In => 4,
            Way::Out => 5,
        }
    }

    /// Whether QEMU is at work.
    fn is_under_way(&self) -> bool {
        self.way == Way::Out && self.phase == Phase::Performing
    }
}

impl Guest {
    /// What the CPUs of a guest that QEMU has stopped stand still for, and the event of it.
    pub(crate) fn stops(&self) -> (State, Lifecycle) {
        let mut inner = self.lock();
        let by_client = inner.pausing;
        match &mut inner.moving {
            Some(moving) if moving.way == Way::Out => {
                moving.stopped = true;
                moving.stats.stopped = Some(super::stats::now());
                if moving.post_copy {
                    (State::PAUSED_POSTCOPY, Lifecycle::SUSPENDED_POSTCOPY)
                } else {
                    (State::PAUSED_MIGRATION, Lifecycle::SUSPENDED_MIGRATED)
                }
            }
            _ if by_client => (State::PAUSED_USER, Lifecycle::SUSPENDED_PAUSED),
            _ => (State::PAUSED_UNKNOWN, Lifecycle::SUSPENDED_PAUSED),
        }
    }

    /// What the CPUs of a guest run for that QEMU has let run, and the event of it.
    pub(crate) fn resumes(&self) -> (State, Lifecycle) {
        match &self.lock().moving {
            Some(moving) if moving.way == Way::In && moving.post_copy => {
                (State::RUNNING_POSTCOPY, Lifecycle::RESUMED_POSTCOPY)
            }
            Some(moving) if moving.way == Way::In => (State::RUNNING_MIGRATED, Lifecycle::RESUMED_MIGRATED),
            Some(moving) if moving.phase == Phase::Staying => {
                (State::RUNNING_MIGRATION_CANCELED, Lifecycle::RESUMED_MIGRATED)
            }
            _ => (State::RUNNING_UNPAUSED, Lifecycle::RESUMED_UNPAUSED),
        }
    }
}

impl Qemu {
    /// What an event of QEMU's means for a migration.
    pub(crate) fn heed_migration(&self, guest: &Arc<Guest>, event: &EventKind) {
        match event {
            EventKind::Migration { status } => {
                match status.as_str() {
                    "postcopy-active" => self.post_copy_is(guest, true),
                    "completed" => self.post_copy_ends(guest),
                    "postcopy-paused" => self.post_copy_is(guest, false),
                    _ => {}
                }
                guest.told.send_replace(status.clone());
            }
            EventKind::MigrationPass { pass } if guest.lock().moving.is_some() => {
                let msg = DomainEventCallbackMigrationIterationMsg {
                    callback_id: 0,
                    dom: guest.handle(),
                    iteration: *pass as i32,
                };
                self.emit(Event::DomainMigrationIteration(msg));
            }
            _ => {}
        }
    }

    /// A client has gone: what it managed comes to an end.
    pub(crate) async fn unmanaged(&self, client: u64) {
        for guest in self.all() {
            let left = {
                let mut inner = guest.lock();
                let Some(moving) = inner.moving.as_mut().filter(|moving| moving.client == client) else {
                    continue;
                };
                moving.abandoned = true;
                (moving.way, moving.phase)
            };
            if matches!(left.1, Phase::Begun | Phase::Prepared | Phase::Performed)
                && self.stays_broken(&guest)
            {
                continue;
            }
            match left {
                (Way::Out, Phase::Performing) => {
                    let _ = cancel(&guest).await;
                }
                (Way::Out, Phase::Begun | Phase::Performed) => {
                    if left.1 == Phase::Performed {
                        // Whether the guest runs at the target nobody here can tell: it must not run here as well.
                        tracing::warn!(
                            guest = guest.name,
                            "its migration was left when all was sent; it stays paused"
                        );
                    }
                    guest.set_moving(None);
                    self.save_status(&guest);
                }
                (Way::In, Phase::Prepared) => self.turn_away(&guest).await,
                _ => {}
            }
        }
    }

    /// Ends a guest that came in and is not to run.
    pub(super) async fn turn_away(&self, guest: &Arc<Guest>) {
        self.kill(guest, Ending::Failed).await;
        let offline = guest.set_moving(None).is_some_and(|moving| moving.offline.is_some());
        if offline && guest.lock().persistent.is_none() {
            self.remove(guest);
        }
    }
}

/// Has QEMU keep a guest that it sends.
async fn cancel(guest: &Guest) -> Result<()> {
    let live = guest.live()?;
    guest.with_moving(Way::Out, |moving| moving.canceled = true);
    guest.mirrors.wake();
    live.monitor.execute(&MigrateCancel {}).await.map_err(monitor)?;
    Ok(())
}

/// Cuts the way to a guest that runs at the target already: `virDomainAbortJobFlags` with
/// `VIR_DOMAIN_ABORT_JOB_POSTCOPY`.
pub(crate) async fn pause(guest: &Guest) -> Result<()> {
    let live = guest.live()?;
    if guest.with_moving(Way::Out, |moving| moving.post_copy) != Some(true) {
        return Err(QEMU.operation_invalid("current job is not outgoing migration in post-copy mode"));
    }
    live.monitor.execute(&MigratePause {}).await.map_err(monitor)?;
    Ok(())
}

/// `virDomainAbortJob`
pub(crate) async fn abort(guest: &Guest) -> Result<()> {
    guest.live()?;
    let under_way =
        guest.lock().moving.as_ref().map(|moving| (moving.is_under_way(), moving.way, moving.post_copy));
    match under_way {
        None => Err(QEMU.operation_invalid("no job is active on the domain")),
        Some((_, Way::In, _)) => {
            Err(QEMU.operation_invalid("cannot abort incoming migration; use virDomainDestroy instead"))
        }
        Some((_, Way::Out, true)) => Err(QEMU.operation_invalid("cannot abort migration in post-copy mode")),
        Some((true, ..)) => cancel(guest).await,
        // QEMU has nothing to end yet: it is not begun.
        Some((false, ..)) => {
            guest.with_moving(Way::Out, |moving| moving.canceled = true);
            Ok(())
        }
    }
}

/// `virDomainMigrateStartPostCopy`
pub(crate) async fn post_copy(guest: &Guest) -> Result<()> {
    let live = guest.live()?;
    let flags =
        guest.lock().moving.as_ref().filter(|moving| moving.is_under_way()).map(|moving| moving.flags);
    match flags {
        None => {
            let text = "post-copy can only be started while outgoing migration is in progress";
            Err(QEMU.operation_invalid(text))
        }
        Some(flags) if flags & flag::POSTCOPY == 0 => Err(QEMU.operation_invalid(
            "switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag",
        )),
        Some(_) => {
            live.monitor.execute(&MigrateStartPostcopy {}).await.map_err(monitor)?;
            Ok(())
        }
    }
}

/// The kind of a guest's job and its figures, if there is one; QEMU is asked.
async fn now(guest: &Guest) -> Result<Option<(i32, Stats, i32)>> {
    let live = guest.live()?;
    let moving = guest.lock().moving.as_ref().map(|moving| {
        let asks = moving.phase == Phase::Performing || moving.post_copy;
        (moving.way, asks, moving.stats.clone())
    });
    let Some((way, asks, stats)) = moving else { return Ok(None) };
    if way == Way::In {
        return Err(QEMU.operation_unsupported("migration statistics are available only on the source host"));
    }
    let stats = if asks { stats.ask(guest, &live).await? } else { stats };
    Ok(Some((UNBOUNDED, stats, Moving::operation(way))))
}

/// `virDomainGetJobInfo`
pub(crate) async fn info(guest: &Guest) -> Result<DomainGetJobInfoRet> {
    Ok(now(guest).await?.map(|(kind, stats, _)| stats.info(kind)).unwrap_or_default())
}

/// `virDomainGetJobStats` of what goes on.
pub(crate) async fn statistics(guest: &Guest) -> Result<DomainGetJobStatsRet> {
    let now = now(guest).await?;
    Ok(now.map_or_else(DomainGetJobStatsRet::default, |(kind, stats, operation)| DomainGetJobStatsRet {
        r#type: kind,
        params: stats.params(operation),
    }))
}
