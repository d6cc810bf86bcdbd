//! The first step, at the source: what leaves, and whether it may.

use std::sync::Arc;

use virtwire_conf::table::write_document;
use virtwire_conf::{Domain, FormatOptions};
use virtwire_driver_api::CallCx;
use virtwire_protocol::remote::NonnullDomain;

use super::capabilities::{self, Side};
use super::cookie::{Cookie, Nbd};
use super::params::{Asked, flag, name};
use super::{Moving, Phase, Way, alike, allowed, broken, copied, tunnel};
use crate::argv::storage::top_node;
use crate::blockjob::virtual_size;
use crate::define::text;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, not_running};
use crate::guest::{Guest, Live};
use crate::snapshot::of_run;

/// `VIR_DOMAIN_XML_SECURE`, `…_INACTIVE` and `…_MIGRATABLE`: all of it, nothing of this run, for hosts that may be older.
const LEAVES: u32 = 1 | 2 | 8;

/// Says what leaves: the cookie for the target, and the definition there.
///
/// # Errors
/// The guest may not leave.
pub(super) async fn begin(
    driver: &Qemu,
    cx: &CallCx,
    dom: &NonnullDomain,
    asked: &Asked,
) -> Result<(Vec<u8>, String)> {
    let guest = driver.guest(dom)?;
    if asked.has(flag::POSTCOPY_RESUME) {
        broken::take_up(driver, &guest, (Way::Out, Phase::Begun), cx, asked)?;
        return again(driver, &guest).await;
    }
    let job = guest.turn().await?;
    let begun = describe(driver, &guest, asked).await?;
    if asked.has(flag::CHANGE_PROTECTION) {
        guest.set_moving(Some(Moving::new(driver, Way::Out, Phase::Begun, asked, cx, job)));
        driver.save_status(&guest);
    }
    Ok(begun)
}

/// What is said of a guest that runs at the target already.
pub(super) async fn again(driver: &Qemu, guest: &Arc<Guest>) -> Result<(Vec<u8>, String)> {
    let live = guest.live()?;
    let domain = leaving(guest, Some(&live))?;
    let mut cookie = Cookie::new(driver, &guest.name, domain.uuid.unwrap_or_default());
    cookie.capabilities = capabilities::of(&live.monitor, Side::Source).await?;
    Ok((cookie.write(), text(&domain, LEAVES)))
}

/// What [`begin`] says; the caller has the guest's job.
pub(super) async fn describe(driver: &Qemu, guest: &Arc<Guest>, asked: &Asked) -> Result<(Vec<u8>, String)> {
    let live = guest.lock().live.clone().filter(|_| !asked.has(flag::OFFLINE));
    if live.is_none() && !asked.has(flag::OFFLINE) {
        return Err(not_running());
    }
    if asked.has(flag::OFFLINE) && !asked.has(flag::PERSIST_DEST) {
        let text = "offline migration must be specified with the persistent flag set";
        return Err(QEMU.operation_invalid(text));
    }
    if asked.has(flag::OFFLINE) && (asked.has(flag::NON_SHARED_DISK) || asked.has(flag::NON_SHARED_INC)) {
        return Err(QEMU.operation_invalid("offline migration cannot handle non-shared storage"));
    }
    if asked.has(flag::OFFLINE) && asked.has(flag::TUNNELLED) {
        return Err(QEMU.operation_invalid("tunnelled offline migration does not make sense"));
    }
    tunnel::fits(asked)?;
    allowed::leave(driver, guest, asked)?;
    if let Some(live) = &live {
        copied::check(&live.domain, asked)?;
    }
    if let Some(live) = &live {
        allowed::by_qemu(&live.monitor).await?;
    }
    let domain = leaving(guest, live.as_ref())?;
    let domain = match asked.text(name::DEST_XML) {
        Some(xml) => {
            let new = Domain::parse(&xml, driver.options().await?)?;
            alike::check(&domain, &new)?;
            new
        }
        None => domain,
    };
    let uuid = domain.uuid.unwrap_or_default();
    let mut cookie = Cookie::new(driver, &guest.name, uuid);
    cookie.features.push("lockstate");
    if let Some(live) = &live {
        cookie.cpu =
            live.domain.cpu.as_ref().map(|cpu| write_document("cpu", cpu, &FormatOptions::default()));
        cookie.capabilities = capabilities::of(&live.monitor, Side::Source).await?;
        cookie.nbd = sizes(live, asked, None).await?;
    }
    Ok((cookie.write(), text(&domain, LEAVES)))
}

/// How large the disks are whose content goes.
pub(super) async fn sizes(live: &Live, asked: &Asked, port: Option<u16>) -> Result<Option<Nbd>> {
    if !copied::any(asked) {
        return Ok(None);
    }
    let mut disks = Vec::new();
    for disk in copied::of(&live.domain, asked) {
        let size = virtual_size(live, &top_node(disk).unwrap_or_default()).await?;
        disks.push((target(disk).to_owned(), size));
    }
    Ok(Some(Nbd { port, disks }))
}

/// The definition of what leaves.
fn leaving(guest: &Guest, live: Option<&Live>) -> Result<Domain> {
    match live {
        Some(live) => Ok(of_run(live)),
        None => guest.lock().next().map(|domain| (*domain).clone()).ok_or_else(not_running),
    }
}
