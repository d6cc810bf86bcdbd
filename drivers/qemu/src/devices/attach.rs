//! A device comes to a guest that runs.
//!
//! Whatever kind it is, the steps are the same: it gets a name and a place, the host makes what it needs, QEMU is told
//! what the command line would say of it, and the definition of the run has it. What one step has begun is taken back
//! when a later one fails.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::change::Plugged;
use virtwire_conf::domain::Devices;
use virtwire_conf::domain::chardev::{CharMode, CharType};
use virtwire_conf::domain::device::Alias;
use virtwire_conf::domain::misc::HostdevType;
use virtwire_conf::domain::one::Device;
use virtwire_protocol::remote::{DomainEventCallbackDeviceAddedMsg, Event};
use virtwire_protocol::{ErrorDomain, VirtError};
use virtwire_qmp::commands::{QueryChardev, SetLink};

use super::say::{line_of, run};
use super::update::media;
use super::{is_up, rules};
use crate::argv::{self, Made};
use crate::dirs::make_secret;
use crate::driver::Qemu;
use crate::error::{Result, file, monitor};
use crate::guest::{Guest, Live};
use crate::plug::{self, Owner};
use crate::{audit, chain, live, modules, overlay, prepare, usb, virtiofs};

/// Plugs a device into a running guest, after the controllers that it needs.
pub(super) async fn attach(driver: &Qemu, guest: &Arc<Guest>, device: &Device) -> Result<()> {
    let live = guest.live()?;
    let options = driver.options().await?;
    let completed = live.domain.with_defaults(device, options)?;
    if let Device::Disk(new) = &completed
        && let Some(old) = media::drive(&live.domain, new)
    {
        return media::change(driver, guest, old, new.clone(), false).await;
    }
    // What a run adds is compared too.
    let mut prepared = alone(&live.domain, &completed);
    live::prepare(&mut prepared, &driver.shared.dirs, &driver.shared.policy);
    let prepared = completed.newest(&prepared.devices).unwrap_or(completed);
    rules::may_come(&live.domain, &prepared)?;
    let Plugged { device, controllers } = live.domain.plugged(device, options)?;
    for controller in controllers {
        plug(driver, guest, &Device::Controller(controller)).await?;
    }
    plug(driver, guest, &device).await
}

/// A guest that has the controllers of another, and this device alone.
pub(super) fn alone(domain: &Domain, device: &Device) -> Domain {
    let known = &domain.devices;
    let devices = Devices {
        emulator: known.emulator.clone(),
        controllers: known.controllers.clone(),
        redirfilter: known.redirfilter.clone(),
        ..Devices::default()
    };
    let mut alone = Domain { devices, ..domain.clone() };
    alone.os.boot.clear();
    device.clone().put(&mut alone.devices);
    alone
}

/// Gives the device that is alone a name that no device of the guest has.
fn name(domain: &Domain, device: &Device, alone: &mut Domain) {
    live::name_devices(alone);
    let name = |device: &Device| Some(device.info()?.alias.as_ref()?.name.clone());
    let Some(own) = device.newest(&alone.devices).as_ref().and_then(name) else { return };
    if domain.devices.named(&own).is_none() && !rules::is_counted(device) {
        return;
    }
    let word = own.trim_end_matches(|c: char| c.is_ascii_digit());
    let siblings = device.siblings(&domain.devices);
    let number = |name: String| {
        let number = name.strip_prefix(word).or_else(|| {
            // The first console is the first serial port.
            name.strip_prefix("serial").filter(|_| word == "console")
        });
        number?.parse().ok()
    };
    let numbers = siblings.iter().filter_map(name).filter_map(number);
    let next = numbers.max().map_or(0, |last: u32| last + 1);
    if let Some(info) = device.newest_info(&mut alone.devices)
        && info.alias.as_ref().is_none_or(|alias| !alias.name.starts_with("ua-"))
    {
        info.alias = Some(Alias { name: format!("{word}{next}") });
    }
}

async fn plug(driver: &Qemu, guest: &Arc<Guest>, device: &Device) -> Result<()> {
    let live = guest.live()?;
    let mut alone = alone(&live.domain, device);
    name(&live.domain, device, &mut alone);
    live::prepare(&mut alone, &driver.shared.dirs, &driver.shared.policy);
    live::number_vsock(&mut alone, &driver.vsocks());
    let made = make(driver, guest, &live, &mut alone).await?;
    let dac = driver.shared.security.as_ref();
    let said = async {
        let found = prepare::volumes(driver, &alone).await?;
        let given = driver.give_devices(&live, &found.devices)?;
        if let Some(dir) = live::own_channel_dir(&alone, &driver.shared.dirs).filter(|dir| !dir.exists()) {
            make_secret(&dir)
                .map_err(|e| file(&e, format_args!("cannot create directory '{}'", dir.display())))?;
            dac.map_or(Ok(()), |dac| dac.give_own(&live.domain, &dir))?;
        }
        let line = line_of(driver, &live, &alone, |line, found, context| {
            let device = device.newest(&found.devices);
            device.map_or(Ok(()), |device| argv::one(line, found, &device, context, made))
        });
        let line = line.await?;
        for socket in line.sockets() {
            dac.map_or(Ok(()), |dac| dac.give_own(&live.domain, socket))?;
        }
        run(&live.monitor, line).await?;
        Ok::<_, VirtError>(given)
    };
    let said = said.await;
    let new = device.newest(&alone.devices).unwrap_or_else(|| device.clone());
    driver.audit(&guest.handle(), said.is_ok(), audit::device(&new, "attach"));
    match said {
        Ok(given) => given.keep(),
        Err(error) => {
            unmake(driver, &live.domain, &alone.devices).await;
            return Err(error);
        }
    }
    let settled = settle(&live, device, &mut alone).await;
    added(driver, guest, device, alone);
    settled
}

/// What the host makes for a device before QEMU has it.
async fn make(driver: &Qemu, guest: &Guest, live: &Live, alone: &mut Domain) -> Result<Made> {
    // The nodes of a disk that is on its way out may still be there: numbers are not used again.
    let number = argv::storage::last_number(&live.domain).max(live.last_source) + 1;
    if let Some(disk) = alone.devices.disks.first_mut() {
        media::numbered(guest, number);
        if let Some(path) = crate::disks::path_of(disk) {
            std::fs::metadata(path)
                .map_err(|e| file(&e, format_args!("Cannot access storage file '{path}'")))?;
        }
        chain::find(disk)?;
        let last = live::number_chain(disk, number);
        media::numbered(guest, last);
        if disk.transient.is_some() {
            media::numbered(guest, last + 1);
            overlay::lay(&live.domain.name, disk, last + 1).await?;
        }
    }
    reachable(alone)?;
    usb::find_all(alone)?;
    virtiofs::find_all(alone)?;
    if alone.devices.hostdevs.iter().any(|hostdev| hostdev.type_ == HostdevType::Scsi) {
        media::numbered(guest, number);
    }
    let mut ends = plug::connect(driver, alone).await?;
    virtiofs::begin(driver, alone).await?;
    Ok(Made { end: ends.pop_first().map(|(_, end)| end), number })
}

/// Whether the sockets are there that QEMU shall connect to.
fn reachable(alone: &Domain) -> Result<()> {
    let devices = &alone.devices;
    let serials = devices.serials.iter().map(|serial| &serial.chardev);
    let chardevs = serials.chain(devices.channels.iter().map(|channel| &channel.chardev));
    for source in
        chardevs.filter(|chardev| chardev.type_ == CharType::Unix).flat_map(|chardev| &chardev.source)
    {
        if let (Some(CharMode::Connect), Some(path)) = (source.mode, source.path.as_deref()) {
            let found = std::fs::metadata(path);
            found.map_err(|e| {
                VirtError::system(ErrorDomain::NONE, &e, format_args!("unable to stat: {path}"))
            })?;
        }
    }
    Ok(())
}

/// Gives up what the host has made for devices that a guest does not have, or has no longer.
pub(super) async fn unmake(driver: &Qemu, domain: &Domain, devices: &Devices) {
    devices.disks.iter().for_each(|disk| overlay::remove(&domain.name, disk));
    for socket in live::listening(devices) {
        let _ = std::fs::remove_file(socket);
    }
    plug::give_up(driver, &Owner::of(domain), &devices.interfaces).await;
    let filesystems = devices.filesystems.clone();
    let gone = Devices { filesystems, ..Devices::default() };
    virtiofs::end(driver, &Domain { devices: gone, ..domain.clone() });
}

/// What only QEMU knows of a device that it has, and what is said of one only when it is there.
async fn settle(live: &Live, device: &Device, alone: &mut Domain) -> Result<()> {
    match device {
        Device::Serial(_) | Device::Channel(_) | Device::Console(_) => {
            let chardevs = live.monitor.execute(&QueryChardev {}).await.map_err(monitor)?;
            live::fill_in_terminals(alone, &chardevs);
            // As in libvirt, only consoles of a start say it twice.
            alone.devices.consoles.iter_mut().for_each(|console| console.chardev.tty = None);
        }
        Device::Memory(_) => modules::settle(alone, &live.monitor).await.map_err(monitor)?,
        Device::Interface(net) if !is_up(net) => {
            let name = device
                .newest(&alone.devices)
                .as_ref()
                .and_then(Device::info)
                .map(argv::alias)
                .unwrap_or_default()
                .to_owned();
            live.monitor.execute(&SetLink { name, up: false }).await.map_err(monitor)?;
        }
        Device::Disk(_) => alone.devices.disks.iter_mut().for_each(live::end_chain),
        _ => {}
    }
    Ok(())
}

/// The definition of the run has a device more, and everybody is told.
fn added(driver: &Qemu, guest: &Arc<Guest>, device: &Device, alone: Domain) {
    let Some(new) = device.newest(&alone.devices) else { return };
    let name = match (&new, new.info().map(argv::alias)) {
        (_, None) => None,
        // libvirt tells of what is behind it.
        (Device::Memory(_), Some(name)) => Some(format!("mem{name}")),
        (_, name) => name.map(str::to_owned),
    };
    if let Some(live) = &mut guest.lock().live {
        // Not in the place of what it was: QEMU may have told something meanwhile.
        let now = Arc::make_mut(&mut live.domain);
        modules::counted(now, &new, true);
        now.put_plugged(new);
    }
    driver.save_status(guest);
    if let Some(name) = name {
        let (dom, dev_alias) = (guest.handle(), name.as_str().into());
        let msg = DomainEventCallbackDeviceAddedMsg { callback_id: 0, dom, dev_alias };
        driver.emit(Event::DomainDeviceAdded(msg));
    }
}
