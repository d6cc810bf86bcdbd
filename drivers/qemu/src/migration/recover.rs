//! Guests that an earlier daemon was sending or receiving when it ended.

use std::sync::Arc;

use virtwire_qmp::commands::{Cont, MigrateCancel, QueryMigrate};

use super::{FOR_EVER, Phase, Record, Way};
use crate::driver::Qemu;
use crate::error::{Result, monitor, not_running};
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};

impl Qemu {
    /// Brings to an end what an earlier daemon has left; the caller has the guest's job.
    pub(crate) async fn recover(&self, guest: &Arc<Guest>, record: Record) {
        match (record.way, record.phase) {
            // It runs at the target: that was why the source was to end it.
            (Way::Out, Phase::Confirming) => self.kill(guest, Ending::Migrated).await,
            (Way::Out, Phase::Performing | Phase::Staying) => {
                if let Err(error) = self.call_back(guest).await {
                    tracing::warn!(guest = guest.name, %error, "it does not go on where it was");
                }
            }
            (way, Phase::PostCopyFailed) => self.waits_again(guest, way),
            (Way::Out, Phase::Performed) => {
                tracing::warn!(guest = guest.name, "whether it runs elsewhere is not known; it stays paused");
            }
            _ => {}
        }
        self.save_status(guest);
    }

    /// Has a guest go on that was being sent.
    async fn call_back(&self, guest: &Guest) -> Result<()> {
        let live = guest.live()?;
        self.end_mirrors(guest, &live).await;
        live.monitor.execute(&MigrateCancel {}).await.map_err(monitor)?;
        let mut told = guest.told.subscribe();
        loop {
            let now = live.monitor.execute(&QueryMigrate {}).await.map_err(monitor)?;
            if !matches!(
                now.status.as_deref(),
                Some("setup" | "active" | "pre-switchover" | "device" | "cancelling")
            ) {
                break;
            }
            tokio::select! {
                changed = told.changed() => changed.map_err(|_| not_running())?,
                true = live.process.ended_within(FOR_EVER) => return Err(not_running()),
            }
        }
        if !guest.lock().state.runs() && guest.lock().state != State::PAUSED_USER {
            live.monitor.execute(&Cont {}).await.map_err(monitor)?;
            let (state, event) = (State::RUNNING_MIGRATION_CANCELED, Lifecycle::RESUMED_MIGRATED);
            self.change(guest, |state| !state.runs(), state, event);
        }
        Ok(())
    }
}
