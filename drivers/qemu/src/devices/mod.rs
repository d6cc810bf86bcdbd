//! Devices that come and go: in the stored definition, and in a running guest.

mod attach;
mod detach;
mod rules;
mod say;
mod update;

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::net::{Interface, LinkState};
use virtwire_conf::domain::one::Device;
use virtwire_conf::xml::utf8;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::SetLink;

use crate::affect::{CONFIG, LIVE, which};
use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{Result, check_flags, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::prepare;
use crate::state::Lifecycle;
pub(crate) use detach::Leaving;
pub(crate) use say::{line_of, run};
pub(crate) use update::screen::set_password;

/// `VIR_DOMAIN_DEVICE_MODIFY_FORCE`
const FORCE: u32 = 4;

/// Stores a definition whose devices have changed, and tells of it.
fn redefine(driver: &Qemu, guest: &Guest, stored: Domain) -> Result<()> {
    replace(driver, guest, stored)?;
    driver.emit(Lifecycle::DEFINED_UPDATED.of(guest.handle()));
    Ok(())
}

pub(crate) async fn attach(driver: &Qemu, args: DomainAttachDeviceArgs) -> Result<()> {
    attach_flags(driver, DomainAttachDeviceFlagsArgs { dom: args.dom, xml: args.xml, flags: LIVE }).await
}

pub(crate) async fn attach_flags(driver: &Qemu, args: DomainAttachDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainAttachDeviceLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = which(&guest.lock(), args.flags)?;
    let device = Device::parse(utf8(args.xml.as_bytes(), ErrorDomain::DOMAIN)?)?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => {
            let stored = stored.attach(device.clone(), driver.options().await?)?;
            if let Device::Disk(disk) = &device {
                // A volume has to be there by now.
                prepare::volume(driver, &mut disk.clone()).await?;
            }
            Some(stored)
        }
        None => None,
    };
    if to_live {
        attach::attach(driver, &guest, &device).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

/// The stored definition, if it is to be changed.
fn stored(guest: &Guest, wanted: bool) -> Result<Option<Arc<Domain>>> {
    if !wanted {
        return Ok(None);
    }
    guest.lock().next().ok_or_else(not_running).map(Some)
}

pub(crate) async fn detach(driver: &Qemu, args: DomainDetachDeviceArgs) -> Result<()> {
    detach_flags(driver, DomainDetachDeviceFlagsArgs { dom: args.dom, xml: args.xml, flags: LIVE }).await
}

pub(crate) async fn detach_flags(driver: &Qemu, args: DomainDetachDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDetachDeviceLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = which(&guest.lock(), args.flags)?;
    let device = Device::parse(utf8(args.xml.as_bytes(), ErrorDomain::DOMAIN)?)?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => Some(stored.detach(&device, driver.options().await?)?),
        None => None,
    };
    if to_live {
        let device = rules::find(&guest.live()?.domain, &device, driver.options().await?)?;
        detach::detach(driver, &guest, &device).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

pub(crate) async fn detach_alias(driver: &Qemu, args: DomainDetachDeviceAliasArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDetachDeviceAliasLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = which(&guest.lock(), args.flags)?;
    let alias = args.alias.to_string();
    let none = || ErrorDomain::DOMAIN.internal_error(format_args!("no device found with alias {alias}"));
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => {
            let mut stored = Domain::clone(&stored);
            stored.devices.take_named(&alias).ok_or_else(none)?;
            Some(stored)
        }
        None => None,
    };
    if to_live {
        let device = guest.live()?.domain.devices.named(&alias).ok_or_else(none)?;
        detach::detach(driver, &guest, &device).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

pub(crate) async fn update(driver: &Qemu, args: DomainUpdateDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG | FORCE, "qemuDomainUpdateDeviceFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = which(&guest.lock(), args.flags)?;
    let device = Device::parse(utf8(args.xml.as_bytes(), ErrorDomain::DOMAIN)?)?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => Some(stored.update(device.clone(), driver.options().await?)?),
        None => None,
    };
    if to_live {
        update::update(driver, &guest, &device, args.flags & FORCE != 0).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

async fn set_link(live: &Live, net: &Interface, as_of: &Interface) -> Result<()> {
    let name = net.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
    live.monitor.execute(&SetLink { name, up: is_up(as_of) }).await.map_err(monitor)?;
    Ok(())
}

/// Whether an interface is plugged in; it is if nothing is said.
pub(crate) fn is_up(net: &Interface) -> bool {
    net.link.as_ref().and_then(|link| link.state) != Some(LinkState::Down)
}
