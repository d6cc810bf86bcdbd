//! How a guest begins: it boots, or goes on from what was in its memory.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::features::Cpu;
use virtwire_conf::snapshot::SnapshotDisk;

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::{Ending, Guest};
use crate::migration::Incoming;
use crate::save::Stream;
use crate::snapshot;
use crate::state::{Lifecycle, State};

/// How a guest begins.
pub(crate) struct Begin {
    /// It does not run yet.
    pub(crate) paused: bool,
    pub(crate) memory: Memory,
}

/// What is in a guest's memory when it begins.
pub(crate) enum Memory {
    /// Nothing: it boots.
    Fresh,
    /// What it was at a snapshot, which is on these disks.
    Snapshot { name: String, disks: Vec<SnapshotDisk> },
    /// What a file holds from where it stands.
    Saved(Stream),
    /// What it was at a snapshot, which a file holds from where it stands.
    Outside(Stream),
    /// What another host sends.
    Incoming(Box<Incoming>),
}

impl Memory {
    /// The state that a guest is in then, and the events of coming there.
    pub(crate) fn leads_to(&self, paused: bool) -> (State, &'static [Lifecycle]) {
        match (self, paused) {
            (Self::Fresh, true) => {
                (State::PAUSED_USER, &[Lifecycle::STARTED_BOOTED, Lifecycle::SUSPENDED_PAUSED])
            }
            (Self::Fresh, false) => {
                (State::RUNNING_BOOTED, &[Lifecycle::RESUMED_UNPAUSED, Lifecycle::STARTED_BOOTED])
            }
            (Self::Snapshot { .. } | Self::Outside(_), true) => (
                State::PAUSED_FROM_SNAPSHOT,
                &[Lifecycle::STARTED_FROM_SNAPSHOT, Lifecycle::SUSPENDED_FROM_SNAPSHOT],
            ),
            (Self::Snapshot { .. } | Self::Outside(_), false) => (
                State::RUNNING_FROM_SNAPSHOT,
                &[Lifecycle::STARTED_FROM_SNAPSHOT, Lifecycle::RESUMED_FROM_SNAPSHOT],
            ),
            (Self::Saved(_), true) => {
                (State::PAUSED_MIGRATION, &[Lifecycle::STARTED_RESTORED, Lifecycle::SUSPENDED_RESTORED])
            }
            (Self::Saved(_), false) => {
                (State::RUNNING_RESTORED, &[Lifecycle::STARTED_RESTORED, Lifecycle::RESUMED_FROM_SNAPSHOT])
            }
            (Self::Incoming(_), _) => (State::PAUSED_MIGRATION, &[Lifecycle::STARTED_MIGRATED]),
        }
    }

    /// Whether QEMU has to be started so that it waits for it.
    pub(crate) fn comes_in(&self) -> bool {
        matches!(self, Self::Saved(_) | Self::Outside(_) | Self::Incoming(_))
    }

    /// Why a guest ends whose memory it has not become.
    pub(crate) fn missed(&self) -> Ending {
        match self {
            Self::Incoming(_) => Ending::Failed,
            _ => Ending::Destroyed,
        }
    }

    /// The processor that what comes in needs.
    pub(crate) fn cpu(&self) -> Option<&Cpu> {
        match self {
            Self::Incoming(incoming) => incoming.cpu.as_ref(),
            _ => None,
        }
    }
}

impl Qemu {
    /// Starts a guest; the caller holds its job, or is the only one who knows it.
    pub(crate) async fn start(&self, guest: &Arc<Guest>, paused: bool) -> Result<()> {
        let stored = {
            let inner = guest.lock();
            if inner.live.is_some() {
                return Err(QEMU.operation_invalid("domain is already running"));
            }
            inner.persistent.as_ref().map(|definition| Arc::clone(&definition.domain))
        };
        let stored = stored.ok_or_else(|| QEMU.internal_error("the guest has no definition"))?;
        if self.start_saved(guest, paused).await? {
            return Ok(());
        }
        self.start_from(guest, &stored, paused).await
    }

    /// Boots a guest as `stored` says.
    pub(crate) async fn start_from(&self, guest: &Arc<Guest>, stored: &Domain, paused: bool) -> Result<()> {
        self.begin(guest, stored, Begin { paused, memory: Memory::Fresh }).await
    }

    /// Fills the memory of a guest that has just been started.
    pub(crate) async fn fill(&self, guest: &Guest, memory: Memory) -> Result<()> {
        let live = guest.live()?;
        match memory {
            Memory::Fresh => Ok(()),
            Memory::Snapshot { name, disks } => snapshot::load_memory(&live, &name, &disks).await,
            Memory::Saved(stream) | Memory::Outside(stream) => stream.drain(&live.monitor).await,
            Memory::Incoming(incoming) => incoming.wait(guest).await,
        }
    }
}
