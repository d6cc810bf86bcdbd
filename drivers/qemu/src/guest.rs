//! One guest: its definitions, and what runs of it.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout;
use virtwire_conf::moments::Moments;
use virtwire_conf::{Checkpoint, Domain, FormatOptions, Snapshot};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::{NonnullDomain, TypedParam};
use virtwire_qmp::Monitor;

use crate::agent;
use crate::backup::Running;
use crate::blockjob::BlockJob;
use crate::cgroup;
use crate::devices::Leaving;
use crate::error::{Result, not_running};
use crate::fds::Group;
use crate::migration::{Mirrors, Moving, TURN, Way};
use crate::ports::Lease;
use crate::process::Process;
use crate::state::State;

/// A guest. Its name and UUID never change.
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) uuid: [u8; 16],
    /// Held by whoever changes the guest's life, across all its waits.
    pub(crate) job: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever changes what may be changed also while the guest goes to another host.
    aside: tokio::sync::Mutex<()>,
    /// Whether it goes to another host.
    leaves: watch::Sender<bool>,
    /// Its agent, whom nobody but those who ask it waits for.
    pub(crate) agent: agent::Channel,
    /// Held while it is cleared away after its end.
    pub(crate) ending: tokio::sync::Mutex<()>,
    /// The device that is to leave it.
    pub(crate) leaving: Leaving,
    /// The processor that has left it last.
    pub(crate) vcpu_gone: watch::Sender<Option<u32>>,
    /// What the last dump of its memory failed with, once that has ended.
    pub(crate) dumped: watch::Sender<Option<String>>,
    /// What QEMU has told last of a migration.
    pub(crate) told: watch::Sender<String>,
    /// What copies its disks to another host.
    pub(crate) mirrors: Mirrors,
    /// Whether a backup of its disks goes on.
    backs_up: watch::Sender<bool>,
    /// Held while its status file is written.
    pub(crate) status: Mutex<()>,
    inner: Mutex<Inner>,
}

/// What changes. Locked for moments, never across a wait.
pub(crate) struct Inner {
    /// What is stored; `None` for a transient guest.
    pub(crate) persistent: Option<Definition>,
    /// Whether it starts with the daemon.
    pub(crate) autostart: bool,
    /// Whether it starts with the first daemon after the host's next boot.
    pub(crate) autostart_once: bool,
    /// `VIR_DOMAIN_TAINT_…`: what has been done to the running guest that libvirt does not answer for, by number.
    pub(crate) taint: u32,
    pub(crate) state: State,
    /// A client is pausing it.
    pub(crate) pausing: bool,
    pub(crate) live: Option<Live>,
    /// The stored definition was changed while it ran.
    pub(crate) updated: bool,
    /// Its memory is in a file, from which it starts the next time.
    pub(crate) saved: bool,
    pub(crate) snapshots: Moments<Snapshot>,
    pub(crate) checkpoints: Moments<Checkpoint>,
    /// It goes to another host, or comes from one.
    pub(crate) moving: Option<Moving>,
    /// MiB per second that a migration may take, if somebody has said so.
    pub(crate) migration_speed: Option<u64>,
    /// How the last job on it that was completed has ended (`VIR_DOMAIN_JOB_…`), and its figures.
    pub(crate) completed: Option<(i32, Vec<TypedParam>)>,
    /// How long its agent may take, seconds; negative numbers are `VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_…`.
    pub(crate) agent_timeout: i32,
    /// What clients have opened for it.
    pub(crate) fds: Vec<Group>,
}

/// A definition and its text, which is made once.
pub(crate) struct Definition {
    pub(crate) domain: Arc<Domain>,
    pub(crate) xml: Arc<str>,
}

impl Definition {
    pub(crate) fn new(domain: Domain) -> Self {
        let xml = domain.to_xml(&FormatOptions { inactive: true, ..FormatOptions::default() }).into();
        Self { domain: Arc::new(domain), xml }
    }
}

/// A running guest.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) id: i32,
    /// With aliases and everything else of this run.
    pub(crate) domain: Arc<Domain>,
    /// The definition that this run began with, or the last one that was stored.
    pub(crate) stored: Arc<Domain>,
    pub(crate) monitor: Monitor,
    pub(crate) process: Arc<Process>,
    /// What holds it to its shares of the host.
    pub(crate) group: Arc<cgroup::Group>,
    pub(crate) dir: PathBuf,
    /// Those of its screens.
    pub(crate) _ports: Arc<[Lease]>,
    /// The next time it powers off, it starts again.
    pub(crate) restart: bool,
    /// The highest number that the source of a disk was given in this run.
    pub(crate) last_source: u32,
    /// The next number of a set of descriptors.
    pub(crate) sets: Arc<AtomicU32>,
    /// What is written down of it beside all this ([`crate::handover`]).
    pub(crate) beside: Arc<str>,
    /// Work on the images of its disks.
    pub(crate) block_jobs: Vec<BlockJob>,
    /// A backup of its disks.
    pub(crate) backup: Option<Running>,
    /// Why it will end, if somebody has decided that.
    pub(crate) ending: Option<Ending>,
}

/// Why a guest will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A client destroys it, and QEMU ends when it is asked to.
    Destroyed,
    /// A client destroys it, and QEMU had to be killed.
    Killed,
    /// It has powered off.
    Shutdown,
    /// Its kernel gave up.
    Crashed,
    /// Its memory has gone into a file.
    Saved,
    /// Its memory has been put into a file for others to look at.
    Dumped,
    /// It goes back to a snapshot, or was to end with one.
    FromSnapshot,
    /// It runs on another host.
    Migrated,
    /// It did not come in from another host.
    Failed,
}

impl Guest {
    pub(crate) fn new(name: String, uuid: [u8; 16], persistent: Option<Definition>, autostart: bool) -> Self {
        let state = State::SHUTOFF_UNKNOWN;
        let inner = Inner {
            persistent,
            autostart,
            autostart_once: false,
            taint: 0,
            state,
            pausing: false,
            live: None,
            updated: false,
            saved: false,
            snapshots: Moments::default(),
            checkpoints: Moments::default(),
            moving: None,
            migration_speed: None,
            completed: None,
            agent_timeout: agent::BLOCK,
            fds: Vec::new(),
        };
        let (job, aside, ending) = (Arc::default(), Default::default(), Default::default());
        let agent = agent::Channel::default();
        let (vcpu_gone, dumped) = (watch::Sender::new(None), watch::Sender::new(None));
        let (told, leaves) = (watch::Sender::default(), watch::Sender::default());
        let leaving = Leaving::default();
        let (backs_up, status, inner) = (watch::Sender::new(false), Mutex::default(), Mutex::new(inner));
        Self {
            name,
            uuid,
            job,
            aside,
            leaves,
            agent,
            ending,
            leaving,
            vcpu_gone,
            dumped,
            told,
            mirrors: Mirrors::default(),
            backs_up,
            status,
            inner,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest as the wire names it.
    pub(crate) fn handle(&self) -> NonnullDomain {
        self.handle_of(&self.lock())
    }

    pub(crate) fn handle_of(&self, inner: &Inner) -> NonnullDomain {
        let id = inner.live.as_ref().map_or(-1, |live| live.id);
        NonnullDomain { name: self.name.as_str().into(), uuid: self.uuid, id }
    }

    /// Waits for a turn with what may be done also while the guest goes to another host.
    ///
    /// # Errors
    /// Somebody else has it for too long.
    pub(crate) async fn turn_aside(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let mut leaves = self.leaves.subscribe();
        let leaving = async { leaves.wait_for(|leaves| *leaves).await.is_ok() };
        let turn = async {
            tokio::select! {
                turn = self.job.lock() => turn,
                true = leaving => self.aside.lock().await,
            }
        };
        let turn = timeout(TURN, turn).await;
        turn.map_err(|_| ErrorDomain::NONE.operation_timeout("cannot acquire state change lock"))
    }

    /// Something else goes on with the guest.
    pub(crate) fn set_moving(&self, moving: Option<Moving>) -> Option<Moving> {
        self.leaves.send_replace(moving.as_ref().is_some_and(|moving| moving.way == Way::Out));
        std::mem::replace(&mut self.lock().moving, moving)
    }

    /// Takes the job for what cannot be while a backup goes on; its end is waited for, as is whoever has the job.
    ///
    /// # Errors
    /// `VIR_ERR_OPERATION_TIMEOUT` where it does not end for a while.
    pub(crate) async fn turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        let mut backs_up = self.backs_up.subscribe();
        let turn = async {
            loop {
                // The sender is this guest's own.
                let _ = backs_up.wait_for(|backs_up| !backs_up).await;
                let job = Arc::clone(&self.job).lock_owned().await;
                if !*backs_up.borrow() {
                    return job;
                }
            }
        };
        let turn = timeout(TURN, turn).await;
        turn.map_err(|_| {
            let holder = match *self.backs_up.borrow() {
                true => " (held by monitor=remoteDispatchDomainBackupBegin)",
                false => "",
            };
            ErrorDomain::NONE.operation_timeout(format_args!("cannot acquire state change lock{holder}"))
        })
    }

    /// A backup of the guest's disks goes on, or none.
    pub(crate) fn set_backup(&self, backup: Option<Running>) {
        self.backs_up.send_replace(backup.is_some());
        if let Some(live) = &mut self.lock().live {
            live.backup = backup;
        }
    }

    /// What runs of it.
    pub(crate) fn live(&self) -> Result<Live> {
        self.lock().live.clone().ok_or_else(not_running)
    }
}

impl Inner {
    /// The definition that counts now: of the run, or what is stored.
    pub(crate) fn current(&self) -> Option<Arc<Domain>> {
        let live = self.live.as_ref().map(|live| &live.domain);
        live.or(self.persistent.as_ref().map(|definition| &definition.domain)).map(Arc::clone)
    }

    /// The definition for the next start.
    pub(crate) fn next(&self) -> Option<Arc<Domain>> {
        let stored = self.persistent.as_ref().map(|definition| &definition.domain);
        stored.or(self.live.as_ref().map(|live| &live.stored)).cloned()
    }
}
