//! What QEMU tells of a guest while it runs, and what that means.

use std::sync::Arc;

use tokio::sync::mpsc;
use virtwire_conf::domain::LifecycleAction;
use virtwire_conf::table::KiB;
use virtwire_qmp::events::{Event as QmpEvent, EventKind};

use crate::agent::{Deed, agent_ports};
use crate::crash::start_again;
use crate::driver::Qemu;
use crate::graphics::{self, Phase};
use crate::guest::{Ending, Guest};
use crate::state::{Lifecycle, State};
use crate::{events, live, modules};

impl Qemu {
    /// Follows what QEMU tells until it has ended.
    pub(crate) fn follow(&self, guest: &Arc<Guest>, id: i32, mut events: mpsc::Receiver<QmpEvent>) {
        let (driver, guest) = (self.clone(), Arc::clone(guest));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                driver.pass_on(&guest, &event);
                driver.heed(&guest, &event.kind()).await;
            }
            // The daemon's own end is not the guest's.
            let monitor = guest.lock().live.as_ref().map(|live| live.monitor.clone());
            if monitor.is_none_or(|monitor| monitor.is_over()) {
                driver.ended(&guest, id).await;
            }
        });
    }

    /// Changes state and tells of it, if the guest is not in that state already.
    pub(crate) fn change(&self, guest: &Guest, from: impl Fn(State) -> bool, to: State, event: Lifecycle) {
        let handle = {
            let mut inner = guest.lock();
            if inner.live.is_none() || !from(inner.state) {
                return;
            }
            inner.state = to;
            guest.handle_of(&inner)
        };
        self.emit(event.of(handle));
        self.save_status(guest);
    }

    /// What an event of QEMU's means for the guest.
    async fn heed(&self, guest: &Arc<Guest>, event: &EventKind) {
        match event {
            EventKind::Shutdown { guest: by_guest, .. } => {
                guest.agent.does(Deed::ShutDown);
                self.powered_off(guest, *by_guest).await;
            }
            EventKind::Reset { .. } => {
                guest.agent.does(Deed::Reset);
                self.emit(crate::state::reboot(guest.handle()));
            }
            EventKind::Stop {} => {
                let (state, event) = guest.stops();
                self.change(guest, State::runs, state, event);
            }
            EventKind::Resume {} => {
                let paused = |state: State| {
                    state.state == State::PAUSED_USER.state && state != State::PAUSED_STARTING_UP
                };
                let (state, event) = guest.resumes();
                self.change(guest, paused, state, event);
            }
            EventKind::Migration { .. } | EventKind::MigrationPass { .. } => {
                self.heed_migration(guest, event);
            }
            EventKind::Watchdog { action } => self.barked(guest, action),
            EventKind::GuestPanicked { .. } => self.panicked(guest).await,
            EventKind::Suspend {} => {
                guest.agent.does(Deed::Sleep);
                self.emit(events::sleeps(guest.handle()));
                self.change(guest, State::runs, State::PMSUSPENDED, Lifecycle::PMSUSPENDED_MEMORY);
            }
            EventKind::SuspendDisk {} => {
                guest.agent.does(Deed::Sleep);
                self.emit(events::sleeps_on_disk(guest.handle()));
                self.change(guest, State::runs, State::PMSUSPENDED, Lifecycle::PMSUSPENDED_DISK);
            }
            EventKind::Wakeup {} => {
                self.emit(events::wakes(guest.handle()));
                let asleep = |state: State| state == State::PMSUSPENDED;
                self.change(guest, asleep, State::RUNNING_WAKEUP, Lifecycle::STARTED_BOOTED);
            }
            EventKind::DeviceDeleted { device: Some(alias), .. } => {
                self.vcpu_unplugged(guest, alias);
                self.unplugged(guest, alias);
            }
            EventKind::DumpCompleted { error, .. } => drop(guest.dumped.send_replace(error.clone())),
            EventKind::VserportChange { id, open } => self.port_changed(guest, id, *open),
            EventKind::RtcChange { offset } => self.emit(events::rtc_change(guest.handle(), *offset)),
            EventKind::BalloonChange { actual } => {
                if let Some(live) = &mut guest.lock().live {
                    Arc::make_mut(&mut live.domain).current_memory = Some(KiB(*actual / 1024));
                }
                self.emit(events::balloon_change(guest.handle(), *actual / 1024))
            }
            EventKind::BlockWriteThreshold { node_name, amount_exceeded, write_threshold } => {
                self.threshold_passed(guest, node_name, *write_threshold, *amount_exceeded);
            }
            EventKind::JobStatusChange { id, status } => {
                // Who copies disks to another host ends what has ended.
                let is_copy = guest.mirrors.changed(id, status);
                if !is_copy || status == "ready" {
                    self.job_changed(guest, id, status);
                }
            }
            EventKind::BlockIoError { .. } => self.image_failed(guest, event),
            EventKind::DeviceTrayMoved { id, tray_open, .. } => self.tray_moved(guest, id, *tray_open),
            EventKind::DeviceUnplugGuestError { device: Some(alias), .. } => {
                guest.leaving.kept(alias);
                self.emit(events::keeps(guest.handle(), alias));
            }
            EventKind::GuestCrashloaded { .. } => {
                self.emit(Lifecycle::CRASHED_CRASHLOADED.of(guest.handle()));
            }
            EventKind::MemoryFailure { recipient, action, flags } => {
                self.emit(events::memory_failure(guest.handle(), recipient, action, *flags));
            }
            EventKind::MemoryDeviceSizeChange { id: Some(alias), size } => {
                let known = guest
                    .lock()
                    .live
                    .as_mut()
                    .is_some_and(|live| modules::resized(Arc::make_mut(&mut live.domain), alias, *size));
                if known {
                    self.save_status(guest);
                    self.emit(events::memory_size(guest.handle(), alias, *size));
                }
            }
            EventKind::VncConnected { server, client } | EventKind::SpiceConnected { server, client } => {
                self.emit(graphics::told(guest.handle(), Phase::Connect, server, client));
            }
            EventKind::VncInitialized { server, client } | EventKind::SpiceInitialized { server, client } => {
                self.emit(graphics::told(guest.handle(), Phase::Initialize, server, client));
            }
            EventKind::VncDisconnected { server, client }
            | EventKind::SpiceDisconnected { server, client } => {
                self.emit(graphics::told(guest.handle(), Phase::Disconnect, server, client));
            }
            _ => {}
        }
    }

    /// The guest has powered off, or QEMU was told to end; QEMU waits to be ended.
    async fn powered_off(&self, guest: &Arc<Guest>, by_guest: bool) {
        let (restart, monitor) = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            // A client that destroys it has the last word.
            if live.ending.is_some() {
                return;
            }
            let asked = std::mem::take(&mut live.restart);
            let restart = asked || live.domain.on_poweroff == Some(LifecycleAction::Restart);
            let monitor = live.monitor.clone();
            if !restart {
                live.ending = Some(Ending::Shutdown);
                inner.state = State::SHUTDOWN_UNKNOWN;
            }
            (restart, monitor)
        };
        if restart {
            // In a task of its own: whoever takes a monitor's events must not wait for its replies.
            tokio::spawn(async move { start_again(&monitor).await });
            return;
        }
        let event = if by_guest { Lifecycle::SHUTDOWN_GUEST } else { Lifecycle::SHUTDOWN_HOST };
        self.emit(event.of(guest.handle()));
        self.end_process(guest).await;
    }

    /// A program in the guest has opened or closed a channel's port.
    fn port_changed(&self, guest: &Guest, alias: &str, open: bool) {
        let is_agent = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            live::set_channel_state(Arc::make_mut(&mut live.domain), alias, open);
            agent_ports(&live.domain).any(|info| info.alias.as_ref().is_some_and(|known| known.name == alias))
        };
        if is_agent {
            guest.agent.changed();
            self.emit(events::agent_lifecycle(guest.handle(), open, false));
        }
        self.save_status(guest);
    }
}
