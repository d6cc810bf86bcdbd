//! How QEMU is started, and the first words with it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use virtwire_conf::Domain;
use virtwire_conf::domain::LifecycleAction;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_qmp::commands::{QueryChardev, SetAction, SetLink};
use virtwire_qmp::events::Event as QmpEvent;
use virtwire_qmp::{Monitor, QmpError};

use crate::argv;
use crate::cgroup::Group;
use crate::command::{CommandLine, shell};
use crate::devices::{is_up, set_password};
use crate::dirs::{make_secret, short};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, file, monitor};
use crate::log::GuestLog;
use crate::namespace::MARK;
use crate::probe::check_program;
use crate::process::{Process, Start, connect, listen};
use crate::state::State;
use crate::{cpu, hugepages, live, lock, memory, modules, plug, prepare, sysinfo, tpm, tune, virtiofs};

/// A QEMU whose guest could run.
pub(crate) struct Launched {
    pub(crate) process: Process,
    /// What holds it to its shares of the host.
    pub(crate) group: Arc<Group>,
    pub(crate) monitor: Monitor,
    pub(crate) events: mpsc::Receiver<QmpEvent>,
    /// The next number of a set of descriptors.
    pub(crate) sets: u32,
}

impl Qemu {
    /// Starts QEMU and talks to it until the guest could run. What was made before an error is left behind, for
    /// [`tear_down`](Self::tear_down).
    pub(crate) async fn launch(&self, domain: &mut Domain, dir: &Path, incoming: bool) -> Result<Launched> {
        let program = domain.devices.emulator.clone().map(PathBuf::from);
        let program = program.ok_or_else(|| QEMU.internal_error("the guest has no emulator"))?;
        let socket = dir.join("monitor.sock");
        let (found, mut line) = self.make_line(domain, &program, dir, &socket).await?;
        if incoming {
            line.option("-incoming", "defer");
        }
        let files = self
            .shared
            .security
            .as_ref()
            .map(|dac| dac.give(&found, self.shared.dev.is_some()))
            .transpose()?;
        domain.devices.disks.iter_mut().for_each(live::end_chain);
        let sets = line.sets();
        let (process, log) = self.spawn(&found, &program, dir, line)?;

        // A daemon that comes after this one, killed now, would not know of it otherwise.
        if let Err(error) =
            self.write_status(domain, self.dev_mark(), State::PAUSED_STARTING_UP, process.pid(), dir)
        {
            process.signal(Signal::KILL);
            let path = self.shared.dirs.status(&domain.name);
            let what = format_args!("Failed to create file '{}.new'", path.display());
            return Err(VirtError::system(ErrorDomain::NONE, &error, what));
        }

        let short = short(domain.id.unwrap_or(-1), &domain.name);
        let group = match tune::force(&self.shared.cgroups, domain, &short, process.pid()) {
            Ok(group) => group,
            Err(error) => return Err(why_not(&process, &log, &domain.name, error).await),
        };
        let asked = domain.cpu.clone();
        let (monitor, events) = match self.greet(domain, &socket, &process).await {
            Ok(talk) => talk,
            Err(error) => {
                group.remove_when_empty();
                return Err(why_not(&process, &log, &domain.name, monitor(error)).await);
            }
        };
        let fits = match cpu::check_full(asked.as_ref(), domain.cpu.as_ref()) {
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
        Ok(Launched { process, group, monitor, events, sets })
    }

    /// Makes what has to be there before QEMU. Returns QEMU's command line, and the guest with all that only this host
    /// knows, of which that line was made.
    async fn make_line(
        &self,
        domain: &mut Domain,
        program: &Path,
        dir: &Path,
        socket: &Path,
    ) -> Result<(Domain, CommandLine)> {
        check_program(program)?;
        make_place(dir)?;
        let caps = self.caps_of(program).await?;
        cpu::resolve(self, domain, &caps).await?;
        argv::refused::check(domain, &self.shared.host)?;
        crate::listen::on_networks(self, domain).await?;
        prepare::variables(domain)?;
        let taps = plug::connect(self, domain).await?;
        let mut found = prepare::volumes(self, domain).await?.into_owned();
        sysinfo::tell(self, &mut found).await?;
        tpm::begin(self, &mut found).await?;
        virtiofs::begin(self, &found).await?;
        let vault = prepare::unlock(self, &found, argv::Vault::new()).await?;
        write_key(&dir.join(prepare::KEY_FILE), vault.key())
            .map_err(|e| file(&e, "cannot write the guest's key"))?;
        let listener = listen(socket).map_err(|e| file(&e, "Unable to create the monitor's socket"))?;
        let memory = self.make_places(domain, dir)?;
        let opened = self.by_name(&domain.name).map_or_else(Vec::new, |guest| guest.lock().fds.clone());
        let context = argv::Context {
            dir,
            memory: &memory,
            caps: &caps,
            monitor: Some(OwnedFd::from(listener)),
            vault,
            policy: &self.shared.policy,
            taps,
            opened,
        };
        let line = argv::build(&found, context)?;
        if let Some(dac) = &self.shared.security {
            line.sockets().iter().try_for_each(|socket| dac.give_own(domain, socket))?;
        }
        Ok((found, line))
    }

    /// Makes the other directories of a run, and gives all to who the guest runs as. Returns the one for its memory.
    fn make_places(&self, domain: &Domain, dir: &Path) -> Result<PathBuf> {
        let channels = live::own_channel_dir(domain, &self.shared.dirs);
        let memory = self.shared.dirs.domain_memory(domain.id.unwrap_or(-1), &domain.name);
        let in_files = argv::memory::is_in_files(domain).then_some(&memory);
        let more = || channels.iter().chain(in_files).map(PathBuf::as_path);
        more().try_for_each(make_place)?;
        let huge = hugepages::make(self.shared.policy.hugepages.as_deref(), domain, &memory);
        let huge = huge.map_err(|e| file(&e, "cannot create a directory in huge pages"))?;
        if let Some(dac) = &self.shared.security {
            let key = dir.join(prepare::KEY_FILE);
            [dir, &key]
                .into_iter()
                .chain(more())
                .chain(huge.iter().map(PathBuf::as_path))
                .try_for_each(|own| dac.give_own(domain, own))?;
        }
        Ok(memory)
    }

    /// What a status file says of the devices that guests see.
    pub(crate) fn dev_mark(&self) -> &'static str {
        if self.shared.dev.is_some() { MARK } else { "" }
    }

    /// Starts QEMU, whose output goes to the guest's log.
    fn spawn(
        &self,
        domain: &Domain,
        program: &Path,
        dir: &Path,
        line: CommandLine,
    ) -> Result<(Process, GuestLog)> {
        let policy = &self.shared.policy;
        let run_as = self.shared.security.as_ref().map(|dac| dac.credentials(domain)).transpose()?;
        let env = argv::environment(domain, dir, policy);
        let path = self.shared.dirs.log(&domain.name);
        let cannot = |e| file(&e, format_args!("failed to open '{}'", path.display()));
        let mut log = GuestLog::open(&path).map_err(cannot)?;
        let version = env!("CARGO_PKG_VERSION");
        let shown = shell(&env, &program.to_string_lossy(), line.args());
        log.note(&format!("starting up virtwire version: {version}\n{shown}")).map_err(cannot)?;
        let output = Stdio::from(log.output().map_err(cannot)?);
        let errors = Stdio::from(log.output().map_err(cannot)?);
        let lock = lock::limit(domain);
        let dev = self.shared.dev.as_ref().map(|dev| dev.with(domain, &line, self.shared.security.as_ref()));
        let dev = dev.transpose()?;
        let start = Start { program, line, env, run_as, dev, output, lock, limits: policy.limits };
        let process = Process::start(start, errors)
            .map_err(|e| file(&e, format_args!("Cannot run '{}'", program.display())))?;
        Ok((process, log))
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
            cpu::settle(domain, &monitor).await?;
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
}

/// A directory of a run.
fn make_place(dir: &Path) -> Result<()> {
    make_secret(dir).map_err(|e| file(&e, format_args!("cannot create directory '{}'", dir.display())))
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
