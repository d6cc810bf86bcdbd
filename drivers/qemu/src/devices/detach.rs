//! A device leaves a guest that runs: QEMU is asked, the guest lets go of it or not, and what was behind it is removed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use virtwire_conf::domain::one::Device;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{DeviceDel, QomList};
use virtwire_qmp::{ErrorClass, QmpError};

use super::attach::{alone, unmake};
use super::rules;
use super::say::{Behind, is_known};
use crate::affect::edit_live;
use crate::argv;
use crate::blockjob::check_idle;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::{Guest, Live};
use crate::{audit, modules, prepare};

/// How long a client waits for a guest to let a device go.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a guest has made of the wish that it let a device go.
enum Answer {
    /// The device is gone, with all that was behind it.
    Gone,
    /// The guest keeps it.
    Kept,
}

/// The device that somebody waits for.
#[derive(Default)]
pub(crate) struct Leaving(Mutex<Option<(String, oneshot::Sender<Answer>)>>);

impl Leaving {
    fn wait_for(&self, alias: &str) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((alias.to_owned(), sender));
        receiver
    }

    fn tell(&self, alias: &str, answer: Answer) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = waits.take_if(|(known, _)| known == alias) {
            let _ = sender.send(answer);
        }
    }

    /// The guest keeps a device.
    pub(crate) fn kept(&self, alias: &str) {
        self.tell(alias, Answer::Kept);
    }
}

/// Asks a running guest to let a device go.
///
/// # Errors
/// It cannot be taken out, or the guest keeps it. One that is silent may still let it go later.
pub(super) async fn detach(driver: &Qemu, guest: &Arc<Guest>, device: &Device) -> Result<()> {
    let live = guest.live()?;
    rules::may_go(&live.domain, device)?;
    if let Device::Disk(disk) = device {
        check_idle(&live, target(disk))?;
    }
    let alias = device.info().map(argv::alias).unwrap_or_default().to_owned();
    if device.info().is_none() {
        // QEMU knows nothing of it.
        edit_live(driver, guest, |domain| {
            let all = device.siblings(&domain.devices);
            all.iter()
                .position(|other| other == device)
                .into_iter()
                .for_each(|at| device.take(&mut domain.devices, at));
        });
        return Ok(());
    }
    let answer = guest.leaving.wait_for(&alias);
    match live.monitor.execute(&DeviceDel { id: alias.clone() }).await {
        // It went by itself, and nobody saw that.
        Err(QmpError::Command(error)) if error.class == ErrorClass::DeviceNotFound => {
            driver.unplugged(guest, &alias);
        }
        asked => _ = asked.map_err(monitor)?,
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Answer::Kept)) => {
            driver.audit(&guest.handle(), false, audit::device(device, "detach"));
            Err(QEMU.operation_failed(format_args!("unplug of device was rejected by the guest")))
        }
        _ => Ok(()),
    }
}

impl Qemu {
    /// A device has left a running guest.
    pub(crate) fn unplugged(&self, guest: &Arc<Guest>, alias: &str) {
        let (live, device) = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            let now = Arc::make_mut(&mut live.domain);
            let Some(device) = now.devices.take_named(alias) else { return };
            modules::counted(now, &device, false);
            (live.clone(), device)
        };
        // In a task of its own: whoever takes a monitor's events must not wait for its replies.
        let (driver, guest, alias) = (self.clone(), Arc::clone(guest), alias.to_owned());
        tokio::spawn(async move {
            driver.clear_away(&guest, &live, &device).await;
            driver.save_status(&guest);
            let msg = DomainEventDeviceRemovedMsg { dom: guest.handle(), dev_alias: alias.as_str().into() };
            let msg = DomainEventCallbackDeviceRemovedMsg { callback_id: 0, msg };
            driver.emit(Event::DomainDeviceRemoved(msg));
            guest.leaving.tell(&alias, Answer::Gone);
        });
    }

    /// Of the devices of a guest that an earlier daemon started, those that have left it meanwhile are taken out.
    pub(crate) async fn find_gone(&self, guest: &Arc<Guest>) {
        let Ok(live) = guest.live() else { return };
        let list = QomList { path: "/machine/peripheral".to_owned() };
        let Ok(there) = live.monitor.execute(&list).await else { return };
        for name in live.domain.devices.infos().into_iter().map(argv::alias) {
            let Some(device) = live.domain.devices.named(name) else { continue };
            if !there.iter().any(|known| known.name == name) && is_known(self, &live.domain, &device).await {
                self.unplugged(guest, name);
            }
        }
    }

    /// Removes what was behind a device.
    async fn clear_away(&self, guest: &Guest, live: &Live, device: &Device) {
        let alone = alone(&live.domain, device);
        Behind::of(self, &alone, device).await.remove(&live.monitor).await;
        let found = prepare::volumes(self, &alone).await;
        self.take_back_devices(live, found.as_ref().map_or(&alone.devices, |found| &found.devices));
        unmake(self, &live.domain, &alone.devices).await;
        self.audit(&guest.handle(), true, audit::device(device, "detach"));
    }
}
