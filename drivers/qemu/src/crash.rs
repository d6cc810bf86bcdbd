//! Guests that gave up: their kernels have, or their watchdogs say that they have. What was in their memory is put into a
//! file where they are to be looked at.

use std::sync::Arc;

use chrono::Local;
use virtwire_conf::domain::LifecycleAction;
use virtwire_conf::domain::misc::WatchdogAction;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{Cont, SystemReset};

use crate::dirs::short;
use crate::driver::Qemu;
use crate::dump;
use crate::error::Result;
use crate::events;
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};

impl Qemu {
    /// The kernel of a guest has given up. What takes long is done in a task of its own: whoever takes a monitor's events
    /// must not wait for its replies.
    pub(crate) async fn panicked(&self, guest: &Arc<Guest>) {
        let action = {
            let mut inner = guest.lock();
            let Some(live) = &inner.live else { return };
            let action = live.domain.on_crash;
            inner.state = State::CRASHED_PANICKED;
            action
        };
        self.emit(Lifecycle::CRASHED_PANICKED.of(guest.handle()));
        self.save_status(guest);
        let (driver, guest) = (self.clone(), Arc::clone(guest));
        match action {
            Some(LifecycleAction::Preserve) => {}
            Some(LifecycleAction::Restart) => drop(tokio::spawn(async move { driver.revive(&guest).await })),
            Some(LifecycleAction::CoredumpRestart) => drop(tokio::spawn(async move {
                driver.keep_memory(&guest).await;
                driver.revive(&guest).await;
            })),
            Some(LifecycleAction::CoredumpDestroy) => drop(tokio::spawn(async move {
                driver.keep_memory(&guest).await;
                driver.bury(&guest).await;
            })),
            _ => self.bury(&guest).await,
        }
    }

    /// A watchdog of a guest has run out.
    pub(crate) fn barked(&self, guest: &Arc<Guest>, action: &str) {
        self.emit(events::watchdog(guest.handle(), action));
        if action != "pause" {
            return;
        }
        self.change(guest, State::runs, State::PAUSED_WATCHDOG, Lifecycle::SUSPENDED_WATCHDOG);
        let dumps = |guest: &Guest| {
            let live = guest.live().ok()?;
            live.domain.devices.watchdogs.last().map(|watchdog| watchdog.action == WatchdogAction::Dump)
        };
        if dumps(guest) == Some(true) {
            let (driver, guest) = (self.clone(), Arc::clone(guest));
            tokio::spawn(async move {
                driver.keep_memory(&guest).await;
                let Ok(live) = guest.live() else { return };
                // Somebody may have had it go on, or have paused it for another reason.
                if guest.lock().state == State::PAUSED_WATCHDOG
                    && let Err(error) = live.monitor.execute(&Cont {}).await
                {
                    tracing::warn!(guest = guest.name, %error, "it does not go on");
                }
            });
        }
    }

    /// Puts what is in a guest's memory where the administrator wants to find it (`auto_dump_path`).
    async fn keep_memory(&self, guest: &Guest) {
        if let Err(error) = self.try_to_keep_memory(guest).await {
            tracing::error!(guest = guest.name, %error, "what is in its memory is not kept");
        }
    }

    async fn try_to_keep_memory(&self, guest: &Guest) -> Result<()> {
        let _job = guest.turn().await?;
        let live = guest.live()?;
        let name = format!("{}-{}", short(live.id, &guest.name), Local::now().format("%Y-%m-%d-%H:%M:%S"));
        let dir = self.shared.policy.dumps.clone().unwrap_or_else(|| self.shared.dirs.lib.join("dump"));
        dump::memory(self, guest, &live, &dir.join(name)).await
    }

    /// Resets a guest whose kernel has given up.
    async fn revive(&self, guest: &Guest) {
        let Ok(live) = guest.live() else { return };
        let reset = start_again(&live.monitor).await;
        if reset {
            let crashed = |state: State| state == State::CRASHED_PANICKED;
            self.change(guest, crashed, State::RUNNING_CRASHED, Lifecycle::RESUMED_UNPAUSED);
        }
    }

    /// Ends a guest whose kernel has given up.
    async fn bury(&self, guest: &Guest) {
        if let Some(live) = &mut guest.lock().live {
            live.ending = Some(Ending::Crashed);
        }
        self.end_process(guest).await;
    }
}

/// Resets a guest and lets it run; whether it does.
pub(crate) async fn start_again(monitor: &Monitor) -> bool {
    let reset = monitor.execute(&SystemReset {}).await;
    let begun = reset.and(monitor.execute(&Cont {}).await);
    if let Err(error) = &begun {
        tracing::warn!(%error, "a guest could not be started again");
    }
    begun.is_ok()
}
