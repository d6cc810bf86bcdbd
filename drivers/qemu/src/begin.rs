//! How a guest begins: it boots, or goes on from what was in its memory.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::features::Cpu;
use virtwire_conf::snapshot::SnapshotDisk;
use virtwire_qmp::commands::Cont;

use crate::agent::has_agent;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::{Ending, Guest, Live};
use crate::launch::Launched;
use crate::migration::Incoming;
use crate::save::Stream;
use crate::state::{Lifecycle, State};
use crate::{chain, events, live, overlay, screens, security, snapshot, startup, usb, virtiofs};

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

    /// Starts a guest as `stored` says.
    pub(crate) async fn begin(&self, guest: &Arc<Guest>, stored: &Domain, begin: Begin) -> Result<()> {
        let id = self.next_id();
        let (state, changes) = begin.memory.leads_to(begin.paused);
        let shared = &self.shared;
        let mut domain = live::domain(stored, id, &shared.dirs, &shared.policy);
        let ports = screens::place(&mut domain, &shared.dirs, &shared.policy, &shared.ports)?;
        live::number_vsock(&mut domain, &self.vsocks());
        if let Some(cpu) = begin.memory.cpu() {
            domain.cpu = Some(cpu.clone());
        }
        let cold = matches!(begin.memory, Memory::Fresh);
        for missing in startup::drop_missing(&mut domain, cold) {
            self.emit(missing.told(guest.handle()));
        }
        let last_source = match self.find_devices(&mut domain).await {
            Ok(last) => last,
            Err(error) => {
                self.audit_start(&guest.handle(), &domain, changes, None);
                return Err(error);
            }
        };
        let dir = shared.dirs.domain(id, &guest.name);
        let Launched { process, group, monitor: monitor_of, events, sets } =
            match self.launch(&mut domain, &dir, begin.memory.comes_in()).await {
                Ok(launched) => launched,
                Err(error) => {
                    self.tear_down(&domain, &dir).await;
                    guest.lock().state = State::SHUTOFF_FAILED;
                    self.audit_start(&guest.handle(), &domain, changes, None);
                    return Err(error);
                }
            };
        let beside = self.dev_mark().to_owned() + &self.beside(stored, &domain).await;
        let live = Live {
            id,
            domain: Arc::new(domain),
            stored: Arc::new(stored.clone()),
            monitor: monitor_of.clone(),
            process: Arc::new(process),
            group,
            dir,
            _ports: ports.into(),
            restart: false,
            last_source,
            sets: Arc::new(sets.into()),
            beside: beside.into(),
            block_jobs: Vec::new(),
            backup: None,
            ending: None,
        };
        {
            let mut inner = guest.lock();
            inner.live = Some(live);
            inner.state = State::PAUSED_STARTING_UP;
        }
        self.follow(guest, id, events);
        if has_agent(&guest.live()?.domain) {
            self.emit(events::agent_lifecycle(guest.handle(), false, true));
        }
        let ending = begin.memory.missed();
        let mut begun = self.fill(guest, begin.memory).await;
        if begun.is_ok() && !begin.paused {
            begun = monitor_of.execute(&Cont {}).await.map(drop).map_err(monitor);
        }
        if let Err(error) = begun {
            self.kill(guest, ending).await;
            return Err(error);
        }
        guest.lock().state = state;
        changes.iter().for_each(|event| self.emit(event.of(guest.handle())));
        self.save_status(guest);
        if let Ok(live) = guest.live() {
            self.audit_start(&guest.handle(), &live.domain, changes, Some(live.process.pid()));
        }
        Ok(())
    }

    /// Finds what the devices of a guest are on this host, and lays an image over each disk that forgets. Returns the
    /// highest number of an image.
    async fn find_devices(&self, domain: &mut Domain) -> Result<u32> {
        domain.devices.disks.iter_mut().try_for_each(chain::find)?;
        let last_source = live::number_sources(domain);
        security::prepare(self.shared.security.as_ref(), domain)?;
        usb::find_all(domain)?;
        virtiofs::find_all(domain)?;
        overlay::lay_all(domain).await?;
        Ok(last_source)
    }

    /// The numbers of the sockets between host and guests that are taken.
    pub(crate) fn vsocks(&self) -> Vec<u32> {
        let of = |guest: &Arc<Guest>| {
            guest.lock().live.as_ref()?.domain.devices.vsock.as_ref()?.cid.as_ref()?.address
        };
        self.all().iter().filter_map(of).collect()
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
