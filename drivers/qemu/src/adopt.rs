//! Guests that outlived the daemon which started them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use virtwire_qmp::commands::{QueryChardev, QueryStatus};
use virtwire_qmp::{Command, Monitor, QmpError};

use crate::driver::Qemu;
use crate::filter;
use crate::guest::{Guest, Live};
use crate::live;
use crate::migration::{Phase, Record, Way};
use crate::namespace;
use crate::plug::{self, Owner};
use crate::process::{self, Process, connect};
use crate::state::State;
use crate::status;

/// How long the daemon waits with its first answer for guests that are slow to say what has changed.
const PATIENCE: Duration = Duration::from_millis(300);

impl Qemu {
    /// Finds the guests that an earlier daemon left running. One that does not answer at once is what it was, and is
    /// waited for in the background, where nobody can change it.
    pub(crate) async fn adopt_all(&self) {
        let found = match virtwire_store::read_all(&self.shared.dirs.run) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "guests that run already are not found");
                return;
            }
        };
        let found: Vec<_> = found
            .into_iter()
            .map(|(name, text)| {
                let status = text.map_err(|error| error.to_string()).and_then(|text| status::read(&text));
                (name, status)
            })
            .collect();
        let dirs = found.iter().map(|(_, status)| Some(status.as_ref().ok()?.monitor.parent()?.to_owned()));
        // Where a status cannot be read, who belongs to it cannot be told from who belongs to none.
        if let Some(dirs) = dirs.collect() {
            self.end_strays(&dirs).await;
        }
        let mut adoptions = tokio::task::JoinSet::new();
        for (name, status) in found {
            let driver = self.clone();
            if let Ok(status) = &status {
                self.ids_from(status.domain.id.unwrap_or_default());
            }
            adoptions.spawn(async move {
                let adopted = match status {
                    Ok(status) => {
                        let (domain, own_dev) = (status.domain.clone(), namespace::is_own(&status.beside));
                        let adopted = driver.adopt(&name, status).await;
                        if adopted.is_err() {
                            let owner = Owner::of(&domain);
                            plug::give_up(&driver, &owner, &domain.devices.interfaces).await;
                            if let Some(dac) = &driver.shared.security {
                                dac.take_back(&domain, own_dev);
                            }
                        }
                        adopted.map_err(|error| error.to_string())
                    }
                    Err(error) => {
                        // Whoever can read it may find the guest again.
                        tracing::error!(
                            guest = name,
                            error,
                            "what is written down of a running guest is not understood"
                        );
                        return;
                    }
                };
                if let Err(error) = adopted {
                    tracing::warn!(guest = name, error, "it ran once and does so no more");
                    driver.forget_status(&name);
                }
            });
        }
        let all = async { while adoptions.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(guests = adoptions.len(), "their monitors do not answer");
            adoptions.detach_all();
        }
    }

    async fn adopt(&self, name: &str, mut status: status::Status) -> std::io::Result<()> {
        let id = status.domain.id.unwrap_or_default();
        let word = format!("guest={},", crate::command::escape(name));
        let is_right =
            |line: &[u8]| line.split(|&byte| byte == 0).any(|arg| arg.starts_with(word.as_bytes()));
        process::settled(status.pid).await;
        let process = Process::adopt_if(status.pid, is_right)?;
        if status.state == State::PAUSED_STARTING_UP {
            // Nobody was told that it had started.
            process.signal(Signal::KILL);
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        if status.moving == Some(Record { way: Way::In, phase: Phase::Prepared }) {
            // It is where it came from.
            process.signal(Signal::KILL);
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let stored = self.by_name(name);
        let guest = match &stored {
            Some(guest) => Arc::clone(guest),
            None => {
                let uuid = status.domain.uuid.unwrap_or_default().into_bytes();
                let guest = Arc::new(Guest::new(name.to_owned(), uuid, None, false));
                self.add(Arc::clone(&guest)).map_err(std::io::Error::other)?;
                guest
            }
        };
        let _job = guest.job.lock().await;
        if status.beside.is_empty() {
            // An older virtwired has started it.
            status.beside = self.beside(&status.domain, &status.domain).await;
        }
        let connected = async {
            let stream = connect(&status.monitor).await?;
            Monitor::resume(name, stream, self.shared.answer_limit)
        };
        filter::bind_again(self, &status.domain).await;
        let (monitor, events) = match connected.await {
            Ok(connected) => connected,
            Err(error) => {
                // Alive without a monitor, it could not be told from one that is off, and started twice.
                process.signal(Signal::KILL);
                if stored.is_none() {
                    self.remove(&guest);
                }
                return Err(std::io::Error::other(error.to_string()));
            }
        };
        {
            let mut inner = guest.lock();
            let of_run = Arc::new(status.domain);
            inner.live = Some(Live {
                id,
                // Another daemon's start: what it began with is not known.
                stored: inner.persistent.as_ref().map_or(&of_run, |definition| &definition.domain).clone(),
                domain: Arc::clone(&of_run),
                monitor: monitor.clone(),
                group: self.shared.cgroups.of_process(process.pid()),
                process: Arc::new(process),
                dir: status.monitor.parent().map(Path::to_owned).unwrap_or_default(),
                // QEMU listens at them.
                _ports: Arc::default(),
                restart: false,
                last_source: crate::blockjob::last_number(&of_run).max(status.counters.nodes),
                sets: Arc::new(status.counters.sets.into()),
                beside: status.beside.into(),
                block_jobs: status.block_jobs,
                backup: None,
                ending: None,
            });
            inner.state = status.state;
            inner.taint = status.counters.taint;
            inner.agent_timeout = status.counters.agent;
        }
        guest.set_backup(status.backup);
        // If it has gone meanwhile, its end is noticed like any other.
        if let Err(error) = catch_up(&guest, &monitor).await {
            tracing::debug!(guest = name, %error, "it does not say what has changed");
        }
        self.follow(&guest, id, events);
        self.find_gone(&guest).await;
        self.resume_jobs(&guest).await;
        if let Some(moving) = status.moving {
            self.recover(&guest, moving).await;
        }
        Ok(())
    }
}

/// Sees what has changed while no daemon looked.
async fn catch_up(guest: &Guest, monitor: &Monitor) -> Result<(), QmpError> {
    let running = patiently(monitor, &QueryStatus {}).await?.running;
    // A port may have been opened or closed.
    let chardevs = patiently(monitor, &QueryChardev {}).await?;
    let mut inner = guest.lock();
    inner.state = match (running, inner.state.runs()) {
        (true, true) | (false, false) => inner.state,
        (true, false) => State::RUNNING_UNPAUSED,
        (false, true) => State::PAUSED_UNKNOWN,
    };
    if let Some(live) = &mut inner.live {
        let is_stored = Arc::ptr_eq(&live.stored, &live.domain);
        live::fill_in_ports(Arc::make_mut(&mut live.domain), &chardevs);
        if is_stored {
            live.stored = Arc::clone(&live.domain);
        }
    }
    Ok(())
}

/// Asks, however long it takes: a guest that hangs is no reason to lose it.
async fn patiently<C: Command>(monitor: &Monitor, command: &C) -> Result<C::Return, QmpError> {
    loop {
        match monitor.execute(command).await {
            Err(QmpError::Silent { .. }) => {}
            answer => return answer,
        }
    }
}
