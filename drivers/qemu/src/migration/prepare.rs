//! The second step, at the target: a door is opened for the guest.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::features::Cpu;
use virtwire_conf::table::Element;
use virtwire_conf::xml::Document;
use virtwire_driver_api::CallCx;
use virtwire_protocol::error::ErrorDomain;
use virtwire_qmp::commands::MigrateIncoming;
use virtwire_qmp::{Monitor, QmpError};

use super::capabilities::{self, Capability, Side};
use super::cookie::Cookie;
use super::params::{Asked, flag, name};
use super::place::Door;
use super::{Moving, Phase, Way};
use crate::begin::{Begin, Memory};
use crate::define::{check_name, transient};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::Guest;

/// A guest that is about to come in: what its QEMU has to know.
pub(crate) struct Incoming {
    asked: Asked,
    /// Where, in QEMU's words.
    uri: String,
    /// What the other QEMU can do.
    other: Vec<Capability>,
    /// The processor that it has there.
    pub(crate) cpu: Option<Cpu>,
}

/// Starts a QEMU that waits for a guest. Returns the cookie for the source, and where it is to send the guest, unless
/// it knows.
///
/// # Errors
/// The guest cannot come here.
pub(super) async fn prepare(
    driver: &Qemu,
    cx: &CallCx,
    asked: &Asked,
    cookie: &[u8],
) -> Result<(Vec<u8>, Option<String>)> {
    let xml = asked.text(name::DEST_XML).ok_or_else(|| QEMU.internal_error("no domain XML passed"))?;
    let mut domain = Domain::parse(&xml, driver.options().await?)?;
    let (origin, uuid) = (domain.name.clone(), domain.uuid.unwrap_or_default());
    let cookie = Cookie::read(driver, cookie, &origin, uuid)?;
    if let Some(name) = asked.text(name::DEST_NAME) {
        domain.name = name;
        check_name(&domain.name)?;
    }
    let coming = Coming { cx, asked, cookie, origin, domain };
    let mut tries = 1;
    loop {
        let door = Door::open(&driver.shared.entrance, &driver.shared.host.name(), asked)?;
        let elsewhere = matches!(door, Door::Leased(..)) && tries < TRIES;
        match coming.prepare(driver, door).await {
            // What else listens there is seen the next time.
            Err(error) if elsewhere && error.message.ends_with(IN_USE) => tries += 1,
            prepared => return prepared,
        }
    }
}

/// What QEMU says of a port that somebody else has taken since it was found free. It cannot be asked to listen elsewhere
/// then, and is of no more use.
const IN_USE: &str = "Address already in use";
/// How many ports are tried.
const TRIES: u32 = 8;

/// A guest that is to come in.
struct Coming<'a> {
    cx: &'a CallCx,
    asked: &'a Asked,
    cookie: Cookie,
    /// Its name at the source.
    origin: String,
    domain: Domain,
}

impl Coming<'_> {
    async fn prepare(&self, driver: &Qemu, door: Door) -> Result<(Vec<u8>, Option<String>)> {
        let Self { cx, asked, cookie, origin, domain } = self;
        let uuid = domain.uuid.unwrap_or_default();
        let (uri, told) = (door.incoming(), door.told());
        let guest = transient(driver, domain).await?;
        let job = guest.turn().await?;
        let mut moving = Moving::new(driver, Way::In, Phase::Prepared, asked, cx, job);
        moving.origin.clone_from(origin);
        let mut answer = Cookie::new(driver, origin, uuid);
        if asked.has(flag::OFFLINE) {
            moving.offline = Some(Arc::new(domain.clone()));
            guest.set_moving(Some(moving));
            return Ok((answer.write(), told));
        }
        moving._door = Some(door);
        guest.set_moving(Some(moving));
        let cpu = cookie.cpu.as_deref().map(processor).transpose()?;
        let incoming = Incoming { asked: (*asked).clone(), uri, other: cookie.capabilities.clone(), cpu };
        let begin = Begin { paused: true, memory: Memory::Incoming(Box::new(incoming)) };
        if let Err(error) = driver.begin(&guest, domain, begin).await {
            guest.set_moving(None);
            if guest.lock().persistent.is_none() {
                driver.remove(&guest);
            }
            return Err(error);
        }
        let capabilities = match guest.live() {
            Ok(live) => capabilities::of(&live.monitor, Side::Target).await,
            Err(_) => Err(QEMU.operation_failed("domain is no longer running")),
        };
        match capabilities {
            Ok(capabilities) => answer.capabilities = capabilities,
            Err(error) => {
                driver.turn_away(&guest).await;
                return Err(error);
            }
        }
        // The client may have gone meanwhile.
        if guest.with_moving(Way::In, |moving| moving.abandoned) != Some(false) {
            driver.turn_away(&guest).await;
        }
        Ok((answer.write(), told))
    }
}

/// The processor of a cookie.
fn processor(xml: &str) -> Result<Cpu> {
    let document = Document::parse_root(xml, "cpu", ErrorDomain::QEMU)?;
    Cpu::read(document.root())
}

impl Incoming {
    /// Has QEMU wait for the guest.
    ///
    /// # Errors
    /// What QEMU says.
    pub(crate) async fn wait(&self, guest: &Guest) -> Result<()> {
        let live = guest.live()?;
        let own = capabilities::of(&live.monitor, Side::Target).await?;
        let before = capabilities::set(&live.monitor, &self.asked, Side::Target, &own, &self.other).await?;
        guest.with_moving(Way::In, |moving| moving.before = before);
        guest.told.send_replace(String::new());
        listen(&live.monitor, self.uri.clone()).await.map_err(monitor)
    }
}

/// Has QEMU listen. What fails then is asked of QEMU, which has to stay for that; older ones only go.
async fn listen(qemu: &Monitor, uri: String) -> Result<(), QmpError> {
    let stays = MigrateIncoming { uri: uri.clone(), exit_on_error: Some(false) };
    match qemu.execute(&stays).await {
        Err(QmpError::Command(error)) if error.desc.contains("exit-on-error") => {
            qemu.execute(&MigrateIncoming { uri, exit_on_error: None }).await.map(drop)
        }
        listens => listens.map(drop),
    }
}
