//! A device changes while the guest runs: as far as QEMU and the host let it, and in libvirt's words where they do not.

mod disk;
mod fields;
mod interface;
pub(super) mod media;
mod module;
pub(crate) mod screen;

use std::sync::Arc;

use virtwire_conf::change::{called, find_interface};
use virtwire_conf::domain::one::Device;
use virtwire_conf::{Domain, ParseOptions};

use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::Guest;

/// Changes a device of a running guest; `force` where what the guest holds does not matter.
///
/// # Errors
/// There is no such device, or it cannot be changed so.
pub(super) async fn update(driver: &Qemu, guest: &Arc<Guest>, device: &Device, force: bool) -> Result<()> {
    let live = guest.live()?;
    let options = driver.options().await?;
    let domain = &live.domain;
    let at = match device {
        Device::Disk(disk) => {
            let name = target(disk);
            let at = domain.devices.disks.iter().position(|other| target(other) == name);
            at.ok_or_else(|| QEMU.internal_error(format_args!("disk '{name}' not found")))?
        }
        Device::Interface(wanted) => find_interface(domain, wanted)?,
        Device::Graphics(screen) => {
            screen::check(screen)?;
            let at = domain.devices.graphics.iter().position(|other| other.type_ == screen.type_);
            let kind = screen.type_;
            let text = format_args!("cannot find existing graphics device to modify of type '{kind}'");
            at.ok_or_else(|| QEMU.device_missing(text))?
        }
        Device::Memory(module) => module::find(domain, module)?,
        other => {
            domain.with_defaults(other, options)?;
            let text = format_args!("live update of device '{}' is not supported", called(other));
            return Err(QEMU.config_unsupported(text));
        }
    };
    let old = device.siblings(&domain.devices).into_iter().nth(at);
    match (&old, &domain.with_defaults(device, options)?) {
        (Some(Device::Disk(old)), Device::Disk(new)) => disk::stays_in_place(old, new)?,
        (Some(Device::Graphics(old)), Device::Graphics(new)) => screen::keeps_ways(old, new)?,
        _ => {}
    }
    let new = candidate(domain, device, at, options)?;
    match (old, new) {
        (Some(Device::Disk(old)), Device::Disk(new)) => disk::update(driver, guest, &old, new, force).await,
        (Some(Device::Interface(old)), Device::Interface(new)) => {
            let Device::Interface(asked) = device else { return Ok(()) };
            interface::update(driver, guest, (&old, asked), new).await
        }
        (Some(Device::Graphics(old)), Device::Graphics(new)) => {
            screen::update(driver, guest, &old, new).await
        }
        (Some(Device::Memory(old)), Device::Memory(new)) => module::update(driver, guest, &old, new).await,
        _ => Err(QEMU.internal_error("the device was lost")),
    }
}

/// The device as it would be in the place of the one that it means, in a definition that could be.
fn candidate(domain: &Domain, device: &Device, at: usize, options: &ParseOptions) -> Result<Device> {
    let mut changed = domain.clone();
    let mut device = device.clone();
    let place = device.siblings(&domain.devices).into_iter().nth(at);
    let place = place.and_then(|old| old.info().and_then(|info| info.address.clone()));
    if let Some(info) = device.info_mut()
        && info.address.is_none()
    {
        info.address = place;
    }
    device.clone().replace(&mut changed.devices, at);
    changed.complete(options)?;
    let all = device.siblings(&changed.devices);
    let found = match &device {
        Device::Disk(disk) => {
            all.into_iter().find(|it| matches!(it, Device::Disk(it) if target(it) == target(disk)))
        }
        _ => all.into_iter().nth(at),
    };
    found.ok_or_else(|| QEMU.internal_error("the device was lost"))
}
