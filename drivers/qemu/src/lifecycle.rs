//! How guests start and end.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use virtwire_conf::domain::LifecycleAction;
use virtwire_conf::{Checkpoint, Domain, FormatOptions, Snapshot};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::NonnullDomain;
use virtwire_qmp::commands::{Cont, QueryChardev, SetAction, SetLink};
use virtwire_qmp::events::Event as QmpEvent;
use virtwire_qmp::{Monitor, QmpError};

use crate::agent::has_agent;
use crate::argv;
use crate::backup;
use crate::begin::{Begin, Memory};
use crate::blockjob;
use crate::cgroup::Group;
use crate::chain;
use crate::command::shell;
use crate::devices::{is_up, set_password};
use crate::dirs::{make_secret, short};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, file, monitor};
use crate::guest::{Ending, Guest, Live};
use crate::log::GuestLog;
use crate::migration::{Moving, Phase, Record};
use crate::plug::{self, Owner};
use crate::probe::check_program;
use crate::process::{Process, Start, connect, listen, write_pid};
use crate::security;
use crate::state::{Lifecycle, State};
use crate::status;
use crate::{
    kept, live, lock, memory, modules, overlay, prepare, screens, startup, tpm, tune, usb, virtiofs,
};

/// How long a QEMU that was asked to end may take before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(10);

impl Qemu {
    /// Starts a guest as `stored` says.
    pub(crate) async fn begin(&self, guest: &Arc<Guest>, stored: &Domain, begin: Begin) -> Result<()> {
        let id = self.next_id();
        let (state, changes) = begin.memory.leads_to(begin.paused);
        let mut domain = live::domain(stored, id, &self.shared.dirs, &self.shared.policy);
        let shared = &self.shared;
        let ports = screens::place(&mut domain, &shared.dirs, &shared.policy, &shared.ports)?;
        live::number_vsock(&mut domain, &self.vsocks());
        if let Some(cpu) = begin.memory.cpu() {
            domain.cpu = Some(cpu.clone());
        }
        let cold = matches!(begin.memory, Memory::Fresh);
        for missing in startup::drop_missing(&mut domain, cold) {
            self.emit(missing.told(guest.handle()));
        }
        let found = domain.devices.disks.iter_mut().try_for_each(chain::find);
        let last_source = live::number_sources(&mut domain);
        let prepared = found.and_then(|()| security::prepare(self.shared.security.as_ref(), &mut domain));
        let prepared = prepared.and_then(|()| usb::find_all(&mut domain));
        let prepared = prepared.and_then(|()| virtiofs::find_all(&mut domain));
        let prepared = match prepared {
            Ok(()) => overlay::lay_all(&mut domain).await,
            Err(error) => Err(error),
        };
        if let Err(error) = prepared {
            self.audit_start(&guest.handle(), &domain, changes, None);
            return Err(error);
        }
        let dir = self.shared.dirs.domain(id, &guest.name);
        let started = self.launch(&mut domain, &dir, begin.memory.comes_in()).await;
        let (process, group, monitor_of, events) = match started {
            Ok(started) => started,
            Err(error) => {
                plug::disconnect(self, &Owner::of(&domain), &domain.devices.interfaces).await;
                overlay::remove_all(&domain);
                tpm::end(self, &domain);
                virtiofs::end(self, &domain);
                let _ = fs::remove_dir_all(&dir);
                let _ = fs::remove_dir_all(self.shared.dirs.domain_channels(id, &guest.name));
                let _ = fs::remove_dir_all(self.shared.dirs.domain_memory(id, &guest.name));
                self.forget_status(&guest.name);
                guest.lock().state = State::SHUTOFF_FAILED;
                self.audit_start(&guest.handle(), &domain, changes, None);
                return Err(error);
            }
        };
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
            self.emit(status::agent_lifecycle(guest.handle(), false, true));
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

    /// Starts QEMU and talks to it until the guest could run.
    async fn launch(
        &self,
        domain: &mut Domain,
        dir: &Path,
        incoming: bool,
    ) -> Result<(Process, Arc<Group>, Monitor, mpsc::Receiver<QmpEvent>)> {
        let program = domain.devices.emulator.clone().map(PathBuf::from);
        let program = program.ok_or_else(|| QEMU.internal_error("the guest has no emulator"))?;
        check_program(&program)?;
        make_secret(dir)
            .map_err(|e| file(&e, format_args!("cannot create directory '{}'", dir.display())))?;
        let caps = self.caps_of(&program).await?;
        crate::cpu::resolve(self, domain, &caps).await?;
        argv::refused::check(domain, &self.shared.host)?;
        crate::listen::on_networks(self, domain).await?;
        prepare::variables(domain)?;
        let taps = plug::connect(self, domain).await?;
        let mut found = prepare::volumes(self, domain).await?.into_owned();
        tpm::begin(self, &mut found).await?;
        virtiofs::begin(self, &found).await?;
        let vault = prepare::unlock(self, &found, argv::Vault::new()).await?;
        write_key(&dir.join(prepare::KEY_FILE), vault.key())
            .map_err(|e| file(&e, "cannot write the guest's key"))?;
        let socket = dir.join("monitor.sock");
        if let Some(dir) = live::own_channel_dir(domain, &self.shared.dirs) {
            make_secret(&dir)
                .map_err(|e| file(&e, format_args!("cannot create directory '{}'", dir.display())))?;
        }
        let listener = listen(&socket).map_err(|e| file(&e, "Unable to create the monitor's socket"))?;
        let memory = self.shared.dirs.domain_memory(domain.id.unwrap_or(-1), &domain.name);
        if argv::memory::is_in_files(domain) {
            make_secret(&memory)
                .map_err(|e| file(&e, format_args!("cannot create directory '{}'", memory.display())))?;
        }
        if let Some(dac) = &self.shared.security {
            let channels = live::own_channel_dir(domain, &self.shared.dirs);
            let memory = Some(memory.clone()).filter(|dir| dir.exists());
            for own in
                [Some(dir.to_owned()), Some(dir.join(prepare::KEY_FILE)), channels, memory].iter().flatten()
            {
                dac.give_own(domain, own)?;
            }
        }
        let opened = self.by_name(&domain.name).map_or_else(Vec::new, |guest| guest.lock().fds.clone());
        let listener = Some(listener.into());
        let policy = &self.shared.policy;
        let context = argv::Context {
            dir,
            memory: &memory,
            caps: &caps,
            monitor: listener,
            vault,
            policy,
            taps,
            opened,
        };
        let mut line = argv::build(&found, context)?;
        if incoming {
            line.option("-incoming", "defer");
        }
        let security = self.shared.security.as_ref();
        let files = security.map(|dac| dac.give(&found)).transpose()?;
        domain.devices.disks.iter_mut().for_each(live::end_chain);
        let run_as = security.map(|dac| dac.credentials(domain)).transpose()?;
        if let Some(dac) = security {
            line.sockets().iter().try_for_each(|socket| dac.give_own(domain, socket))?;
        }

        let env = argv::environment(domain, dir, policy);
        let path = self.shared.dirs.log(&domain.name);
        let cannot = |e| file(&e, format_args!("failed to open '{}'", path.display()));
        let mut log = GuestLog::open(&path).map_err(cannot)?;
        let version = env!("CARGO_PKG_VERSION");
        let shown = shell(&env, &program.to_string_lossy(), line.args());
        log.note(&format!("starting up virtwire version: {version}\n{shown}")).map_err(cannot)?;
        let output = log.output().map_err(cannot)?;
        let errors = log.output().map_err(cannot)?;
        let (output, lock) = (Stdio::from(output), lock::limit(domain));
        let start = Start { program: &program, line, env, run_as, output, lock, limits: policy.limits };
        let process = Process::start(start, Stdio::from(errors))
            .map_err(|e| file(&e, format_args!("Cannot run '{}'", program.display())))?;

        // A daemon that comes after this one, killed now, would not know of it otherwise.
        if let Err(error) = self.write_status(domain, "", State::PAUSED_STARTING_UP, process.pid(), dir) {
            process.signal(Signal::KILL);
            let path = self.shared.dirs.status(&domain.name);
            let what = format_args!("Failed to create file '{}.new'", path.display());
            return Err(VirtError::system(ErrorDomain::NONE, &error, what));
        }

        let short = short(domain.id.unwrap_or(-1), &domain.name);
        let group = tune::force(&self.shared.cgroups, domain, &short, process.pid());
        let group = match group {
            Ok(group) => group,
            Err(error) => return Err(why_not(&process, &log, &domain.name, error).await),
        };
        let asked = domain.cpu.clone();
        match self.greet(domain, &socket, &process).await {
            Ok((monitor, events)) => {
                let fits = match crate::cpu::check_full(asked.as_ref(), domain.cpu.as_ref()) {
                    Ok(()) => tune::settle(&group, domain, process.pid(), &monitor).await,
                    Err(misfit) => Err(misfit),
                };
                if let Err(error) = fits {
                    process.signal(Signal::KILL);
                    group.remove_when_empty();
                    return Err(error);
                }
                if let Some(files) = files {
                    files.keep();
                }
                Ok((process, group, monitor, events))
            }
            Err(error) => {
                group.remove_when_empty();
                Err(why_not(&process, &log, &domain.name, monitor(error)).await)
            }
        }
    }

    /// The first words with a new QEMU.
    async fn greet(
        &self,
        domain: &mut Domain,
        socket: &Path,
        process: &Process,
    ) -> Result<(Monitor, mpsc::Receiver<QmpEvent>), QmpError> {
        let limit = self.shared.answer_limit;
        let name = domain.name.clone();
        let talk = async {
            let (monitor, events) = Monitor::connect_to(&name, connect(socket).await?, limit).await?;
            let chardevs = monitor.execute(&QueryChardev {}).await?;
            live::fill_in_terminals(domain, &chardevs);
            live::fill_in_ports(domain, &chardevs);
            crate::cpu::settle(domain, &monitor).await?;
            modules::settle(domain, &monitor).await?;
            for net in domain.devices.interfaces.iter().filter(|net| !is_up(net)) {
                let name = net.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
                monitor.execute(&SetLink { name, up: false }).await?;
            }
            let reports = domain.devices.memballoon.as_ref().and_then(|balloon| balloon.stats.as_ref());
            if let Some(period) = reports.map(|stats| stats.period).filter(|period| *period > 0) {
                memory::poll(domain, &monitor, period).await?;
            }
            if domain.on_reboot == Some(LifecycleAction::Destroy) {
                let reboot = Some("shutdown".to_owned());
                monitor.execute(&SetAction { reboot, ..SetAction::default() }).await?;
            }
            for graphics in &domain.devices.graphics {
                set_password(&monitor, graphics, &self.shared.policy).await?;
            }
            Ok((monitor, events))
        };
        // A QEMU that has ended will never answer.
        tokio::select! {
            result = tokio::time::timeout(limit, talk) => result.unwrap_or_else(|_| {
                Err(QmpError::Silent { command: "qmp_capabilities".to_owned(), limit })
            }),
            true = process.ended_within(limit) => Err(QmpError::Closed),
        }
    }

    /// The numbers of the sockets between host and guests that are taken.
    pub(crate) fn vsocks(&self) -> Vec<u32> {
        let of = |guest: &Arc<Guest>| {
            guest.lock().live.as_ref()?.domain.devices.vsock.as_ref()?.cid.as_ref()?.address
        };
        self.all().iter().filter_map(of).collect()
    }

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
            let (state, event) = match live.ending {
                Some(Ending::Destroyed | Ending::Killed) => {
                    (State::SHUTOFF_DESTROYED, Lifecycle::STOPPED_DESTROYED)
                }
                Some(Ending::Shutdown) => (State::SHUTOFF_SHUTDOWN, Lifecycle::STOPPED_SHUTDOWN),
                Some(Ending::Crashed | Ending::Dumped) => {
                    (State::SHUTOFF_CRASHED, Lifecycle::STOPPED_CRASHED)
                }
                Some(Ending::Saved) => (State::SHUTOFF_SAVED, Lifecycle::STOPPED_SAVED),
                Some(Ending::FromSnapshot) => {
                    (State::SHUTOFF_FROM_SNAPSHOT, Lifecycle::STOPPED_FROM_SNAPSHOT)
                }
                Some(Ending::Migrated) => (State::SHUTOFF_MIGRATED, Lifecycle::STOPPED_MIGRATED),
                Some(Ending::Failed) => (State::SHUTOFF_FAILED, Lifecycle::STOPPED_FAILED),
                // Without a word before: it must have crashed.
                None => (State::SHUTOFF_CRASHED, Lifecycle::STOPPED_FAILED),
            };
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
                Ok(found) => dac.take_back(&found),
                Err(_) => dac.take_back(&live.domain),
            }
        }
        plug::disconnect(self, &Owner::of(&live.domain), &live.domain.devices.interfaces).await;
        overlay::remove_all(&live.domain);
        tpm::end(self, &live.domain);
        virtiofs::end(self, &live.domain);
        live.group.remove_when_empty();
        for socket in live::listening(&live.domain.devices) {
            let _ = fs::remove_file(socket);
        }
        let _ = fs::remove_dir_all(&live.dir);
        let _ = fs::remove_dir_all(self.shared.dirs.domain_channels(id, &guest.name));
        let _ = fs::remove_dir_all(self.shared.dirs.domain_memory(id, &guest.name));
        self.forget_status(&guest.name);
        if transient {
            if live.ending != Some(Ending::FromSnapshot) {
                kept::forget_all::<Snapshot>(&self.shared.dirs, &guest.name);
                kept::forget_all::<Checkpoint>(&self.shared.dirs, &guest.name);
                tpm::forget(self, &live.domain, 0);
            }
            self.remove(guest);
        }
        if matches!(
            live.ending,
            Some(
                Ending::Destroyed
                    | Ending::Saved
                    | Ending::Dumped
                    | Ending::FromSnapshot
                    | Ending::Migrated
                    | Ending::Failed
            )
        ) {
            // QEMU announces an end that it is asked for; its own word may come too late to be heard.
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

    /// Writes down what a daemon that comes after this one needs to find the guest again.
    pub(crate) fn save_status(&self, guest: &Guest) {
        // What is read here is older than what the next one reads, and is to be written before it.
        let _one = guest.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (live, state, moving) = {
            let inner = guest.lock();
            let Some(live) = &inner.live else { return };
            (live.clone(), inner.state, inner.moving.as_ref().map(Record::from))
        };
        let pid = live.process.pid();
        let moving = moving.map(|moving| moving.write()).unwrap_or_default();
        let work = moving + &blockjob::write(&live.block_jobs) + &backup::write(live.backup.as_ref());
        if let Err(error) = self.write_status(&live.domain, &work, state, pid, &live.dir) {
            tracing::warn!(guest = guest.name, %error, "its status cannot be saved");
        }
    }

    fn write_status(
        &self,
        domain: &Domain,
        work: &str,
        state: State,
        pid: u32,
        dir: &Path,
    ) -> std::io::Result<()> {
        let xml = domain.to_xml(&FormatOptions { secure: true, ..FormatOptions::default() });
        let text = status::write(state, pid, &dir.join("monitor.sock"), work, &xml);
        let dirs = &self.shared.dirs;
        virtwire_store::write(&dirs.status(&domain.name), &text)?;
        write_pid(&dirs.pid(&domain.name), pid)
    }

    pub(crate) fn forget_status(&self, name: &str) {
        let _ = fs::remove_file(self.shared.dirs.status(name));
        let _ = fs::remove_file(self.shared.dirs.pid(name));
    }
}

/// Ends a QEMU that has just been started and is of no use. Returns why: what it says itself, where it has ended, or what
/// was found.
async fn why_not(process: &Process, log: &GuestLog, name: &str, found: VirtError) -> VirtError {
    let ended = process.ended_within(Duration::from_millis(500)).await;
    process.signal(Signal::KILL);
    let said = log.excerpt();
    if !ended || said.is_empty() {
        return found;
    }
    QEMU.internal_error(format_args!("QEMU unexpectedly closed the monitor (vm='{name}'): {said}"))
}

/// The key that secrets of this run are encrypted with.
fn write_key(path: &Path, value: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut key = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    key.write_all(value)
}
