//! How guests end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use virtwire_conf::{Checkpoint, Domain, Snapshot};
use virtwire_protocol::remote::NonnullDomain;

use crate::driver::Qemu;
use crate::guest::{Ending, Guest};
use crate::log::GuestLog;
use crate::migration::{Moving, Phase};
use crate::plug::{self, Owner};
use crate::state::{Lifecycle, State};
use crate::{hugepages, kept, live, overlay, prepare, tpm, virtiofs};

/// How long a QEMU that was asked to end may take before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(10);

impl Ending {
    /// The state that a guest is in then, and the event of coming there; without a word before, it must have crashed.
    fn leads_to(ending: Option<Self>) -> (State, Lifecycle) {
        match ending {
            Some(Self::Destroyed | Self::Killed) => (State::SHUTOFF_DESTROYED, Lifecycle::STOPPED_DESTROYED),
            Some(Self::Shutdown) => (State::SHUTOFF_SHUTDOWN, Lifecycle::STOPPED_SHUTDOWN),
            Some(Self::Crashed | Self::Dumped) => (State::SHUTOFF_CRASHED, Lifecycle::STOPPED_CRASHED),
            Some(Self::Saved) => (State::SHUTOFF_SAVED, Lifecycle::STOPPED_SAVED),
            Some(Self::FromSnapshot) => (State::SHUTOFF_FROM_SNAPSHOT, Lifecycle::STOPPED_FROM_SNAPSHOT),
            Some(Self::Migrated) => (State::SHUTOFF_MIGRATED, Lifecycle::STOPPED_MIGRATED),
            Some(Self::Failed) => (State::SHUTOFF_FAILED, Lifecycle::STOPPED_FAILED),
            None => (State::SHUTOFF_CRASHED, Lifecycle::STOPPED_FAILED),
        }
    }

    /// Whether QEMU is asked to end, which it announces; its own word may come too late to be heard.
    fn is_asked_for(self) -> bool {
        match self {
            Self::Destroyed
            | Self::Saved
            | Self::Dumped
            | Self::FromSnapshot
            | Self::Migrated
            | Self::Failed => true,
            Self::Killed | Self::Shutdown | Self::Crashed => false,
        }
    }
}

impl Qemu {
    /// Asks QEMU to end, and kills it if it does not.
    pub(crate) async fn end_process(&self, guest: &Guest) {
        let Ok(live) = guest.live() else { return };
        live.process.signal(Signal::TERM);
        if !live.process.ended_within(END_PATIENCE).await {
            live.process.signal(Signal::KILL);
        }
    }

    /// Ends a guest at once and waits until it is gone.
    pub(crate) async fn kill(&self, guest: &Arc<Guest>, ending: Ending) {
        let live = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            live.ending = Some(ending);
            live.clone()
        };
        live.process.signal(Signal::TERM);
        if !live.process.ended_within(END_PATIENCE).await {
            if let (Some(live), Ending::Destroyed) = (&mut guest.lock().live, ending) {
                live.ending = Some(Ending::Killed);
            }
            live.process.signal(Signal::KILL);
            live.process.ended_within(END_PATIENCE).await;
        }
        self.ended(guest, live.id).await;
    }

    /// QEMU has gone: the guest is off. Whoever notices first does this; the second waits for it and finds nothing to do.
    pub(crate) async fn ended(&self, guest: &Arc<Guest>, id: i32) {
        let _alone = guest.ending.lock().await;
        let (handle, event, transient, live, begun, waited) = {
            let mut inner = guest.lock();
            if inner.live.as_ref().is_none_or(|live| live.id != id) {
                return;
            }
            let handle = guest.handle_of(&inner);
            let Some(live) = inner.live.take() else { return };
            let begun = inner.state != State::PAUSED_STARTING_UP;
            let (state, event) = Ending::leads_to(live.ending);
            inner.state = state;
            inner.updated = false;
            let waits = |moving: &mut Moving| moving.phase == Phase::PostCopyFailed;
            let waited = inner.moving.take_if(waits);
            (handle, event, inner.persistent.is_none(), live, begun, waited)
        };
        // Nobody comes for it any more.
        drop(waited);
        guest.agent.changed();
        // A QEMU that only closed its monitor must not run on behind our back.
        live.process.signal(Signal::KILL);
        let words = guest.lock().state.words();
        if let Ok(mut log) = GuestLog::open(&self.shared.dirs.log(&guest.name)) {
            let _ = log.note(&format!("shutting down, reason={}", words.1));
        }
        if let Some(dac) = &self.shared.security {
            match prepare::volumes(self, &live.domain).await {
                Ok(found) => dac.take_back(&found, live.has_own_dev()),
                Err(_) => dac.take_back(&live.domain, live.has_own_dev()),
            }
        }
        live.group.remove_when_empty();
        for socket in live::listening(&live.domain.devices) {
            let _ = fs::remove_file(socket);
        }
        self.tear_down(&live.domain, &live.dir).await;
        if transient {
            if live.ending != Some(Ending::FromSnapshot) {
                kept::forget_all::<Snapshot>(&self.shared.dirs, &guest.name);
                kept::forget_all::<Checkpoint>(&self.shared.dirs, &guest.name);
                tpm::forget(self, &live.domain, 0);
            }
            self.remove(guest);
        }
        if live.ending.is_some_and(Ending::is_asked_for) {
            self.emit(Lifecycle::SHUTDOWN_HOST.of(handle.clone()));
        }
        self.backup_lost(guest, &handle, &live);
        self.audit_stop(&handle, event);
        let known = matches!(live.ending, Some(Ending::Destroyed | Ending::Migrated | Ending::Failed));
        let id = if known { -1 } else { handle.id };
        // Of one that should have come from elsewhere nobody was told that it had started.
        if begun || live.ending != Some(Ending::Failed) {
            self.emit(event.of(NonnullDomain { id, ..handle }));
        }
    }

    /// Takes away what was made for one run of a guest; `dir` is the directory of that run.
    pub(crate) async fn tear_down(&self, domain: &Domain, dir: &Path) {
        plug::give_up(self, &Owner::of(domain), &domain.devices.interfaces).await;
        overlay::remove_all(domain);
        tpm::end(self, domain);
        virtiofs::end(self, domain);
        let (dirs, id) = (&self.shared.dirs, domain.id.unwrap_or(-1));
        let (channels, memory) =
            (dirs.domain_channels(id, &domain.name), dirs.domain_memory(id, &domain.name));
        for dir in [dir, &channels, &memory] {
            let _ = fs::remove_dir_all(dir);
        }
        hugepages::remove(self.shared.policy.hugepages.as_deref(), &memory);
        self.forget_status(&domain.name);
    }
}
