//! The second step, at the target: a door is opened for the guest.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;
use virtwire_conf::Domain;
use virtwire_conf::domain::features::Cpu;
use virtwire_conf::table::Element;
use virtwire_conf::xml::Document;
use virtwire_driver_api::{CallCx, StreamEnd};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_qmp::commands::{Getfd, MigrateIncoming, MigrateRecover};
use virtwire_qmp::{Monitor, QmpError};

use super::capabilities::{self, Capability, Side};
use super::cookie::Cookie;
use super::exports::{self, Server};
use super::params::{Asked, flag, name};
use super::place::{CONNECTION, Door};
use super::tls::Keys;
use super::tunnel::{self, Inlet};
use super::{Moving, Phase, Way, begin, broken, room};
use crate::begin::{Begin, Memory};
use crate::define::{check_name, transient};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor, no_name};
use crate::guest::Guest;

/// A guest that is about to come in: what its QEMU has to know.
pub(crate) struct Incoming {
    asked: Asked,
    /// Where, in QEMU's words.
    uri: String,
    /// By what, where it has come already.
    connection: Option<OwnedFd>,
    keys: Keys,
    /// Where the content of its disks comes in, in QEMU's words.
    disks: Option<Value>,
    /// What the other QEMU can do.
    other: Vec<Capability>,
    /// The processor that it has there.
    pub(crate) cpu: Option<Cpu>,
}

/// Starts a QEMU that waits for a guest, at the end of a tunnel if there is one. Returns the cookie for the source, and
/// where it is to send the guest, unless it knows.
///
/// # Errors
/// The guest cannot come here.
pub(super) async fn prepare(
    driver: &Qemu,
    cx: &CallCx,
    asked: &Asked,
    cookie: &[u8],
    tunnel: Option<StreamEnd>,
) -> Result<(Vec<u8>, Option<String>)> {
    tunnel::is_meant(asked, tunnel.is_some())?;
    let xml = asked.text(name::DEST_XML).ok_or_else(|| QEMU.internal_error("no domain XML passed"))?;
    let mut domain = Domain::parse(&xml, driver.options().await?)?;
    let (origin, uuid) = (domain.name.clone(), domain.uuid.unwrap_or_default());
    let cookie = Cookie::read(driver, cookie, &origin, uuid)?;
    if let Some(name) = asked.text(name::DEST_NAME) {
        domain.name = name;
        check_name(&domain.name)?;
    }
    if asked.has(flag::POSTCOPY_RESUME) {
        return again(driver, cx, asked, &domain.name, origin).await;
    }
    let (inlet, connection) = tunnel.map(Inlet::open).transpose()?.unzip();
    let made = room::make(driver, &domain, asked, cookie.nbd.as_ref()).await?;
    let coming = Coming { cx, asked, cookie, origin, domain };
    let prepared = match connection {
        Some(connection) => coming.prepare(driver, (Door::Tunnel, Some(connection)), None).await,
        None => coming.find_door(driver).await,
    };
    match (&prepared, inlet) {
        (Err(_), _) => room::remove(driver, made).await,
        (Ok(_), inlet) => inlet.into_iter().for_each(Inlet::flow),
    }
    prepared
}

/// Opens another door for a guest that runs here already, while some of its memory is at the source.
async fn again(
    driver: &Qemu,
    cx: &CallCx,
    asked: &Asked,
    name: &str,
    origin: String,
) -> Result<(Vec<u8>, Option<String>)> {
    let guest = driver.by_name(name).ok_or_else(|| no_name(name))?;
    let door = Door::open(&driver.shared.entrance, &driver.shared.host.name(), asked)?;
    broken::take_up(driver, &guest, (Way::In, Phase::Prepared), cx, asked)?;
    let (uri, told) = (door.incoming(), door.told());
    let opened = async {
        let live = guest.live()?;
        guest.told.send_replace(String::new());
        live.monitor.execute(&MigrateRecover { uri }).await.map_err(monitor)?;
        let mut answer = Cookie::new(driver, &origin, Uuid::from_bytes(guest.uuid));
        answer.capabilities = capabilities::of(&live.monitor, Side::Target).await?;
        Ok::<_, VirtError>(answer.write())
    };
    let answer = match opened.await {
        Ok(answer) => answer,
        Err(error) => {
            driver.stays_broken(&guest);
            return Err(error);
        }
    };
    guest.with_moving(Way::In, |moving| {
        moving.origin = origin;
        moving._door = Some((door, None));
    });
    Ok((answer, told))
}

/// What QEMU says of a port that somebody else has taken since it was found free. It cannot be asked to listen elsewhere
/// then, and is of no more use.
const IN_USE: &str = "Address already in use";
/// Where QEMU asks for pages that it is yet to be sent, of a guest that runs.
const FAULTS: &str = "/dev/userfaultfd";
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
    async fn find_door(&self, driver: &Qemu) -> Result<(Vec<u8>, Option<String>)> {
        let Self { asked, .. } = self;
        let mut tries = 1;
        loop {
            let door = Door::open(&driver.shared.entrance, &driver.shared.host.name(), asked)?;
            let disks = Server::open(&driver.shared.entrance, asked)?;
            let leased = matches!(door, Door::Leased(..)) || disks.as_ref().is_some_and(Server::is_leased);
            let elsewhere = leased && tries < TRIES;
            match self.prepare(driver, (door, None), disks).await {
                // What else listens there is seen the next time.
                Err(error) if elsewhere && error.message.ends_with(IN_USE) => tries += 1,
                prepared => return prepared,
            }
        }
    }

    async fn prepare(
        &self,
        driver: &Qemu,
        (door, connection): (Door, Option<OwnedFd>),
        disks: Option<Server>,
    ) -> Result<(Vec<u8>, Option<String>)> {
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
        let address = disks.as_ref().map(Server::address);
        let port = disks.as_ref().and_then(Server::port);
        moving._door = Some((door, disks));
        guest.set_moving(Some(moving));
        let cpu = cookie.cpu.as_deref().map(processor).transpose()?;
        let (other, keys) = (cookie.capabilities.clone(), Keys::of(driver, asked).await?);
        let asked_for = (*asked).clone();
        let incoming = Incoming { asked: asked_for, uri, connection, keys, disks: address, other, cpu };
        let security = driver.shared.security.as_ref().filter(|_| asked.has(flag::POSTCOPY));
        let lent = security.map_or(Ok(()), |dac| dac.lend(domain, Path::new(FAULTS)));
        let begin = Begin { paused: true, memory: Memory::Incoming(Box::new(incoming)) };
        let begun = match lent {
            Ok(()) => driver.begin(&guest, domain, begin).await,
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            guest.set_moving(None);
            if guest.lock().persistent.is_none() {
                driver.remove(&guest);
            }
            return Err(error);
        }
        if let Err(error) = describe(&guest, asked, port, &mut answer).await {
            driver.turn_away(&guest).await;
            return Err(error);
        }
        // The client may have gone meanwhile.
        if guest.with_moving(Way::In, |moving| moving.abandoned) != Some(false) {
            driver.turn_away(&guest).await;
        }
        Ok((answer.write(), told))
    }
}

/// What the source is told of the QEMU that waits.
async fn describe(guest: &Guest, asked: &Asked, port: Option<u16>, answer: &mut Cookie) -> Result<()> {
    let live = guest.live().map_err(|_| QEMU.operation_failed("domain is no longer running"))?;
    answer.capabilities = capabilities::of(&live.monitor, Side::Target).await?;
    answer.nbd = begin::sizes(&live, asked, port).await?;
    Ok(())
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
        self.keys.give(&live, &self.asked, Side::Target).await?;
        let before =
            capabilities::set(&live.monitor, (&self.asked, None), Side::Target, &own, &self.other).await?;
        guest.with_moving(Way::In, |moving| moving.before = before);
        guest.told.send_replace(String::new());
        if let Some(address) = &self.disks {
            exports::serve(&live, &self.asked, address).await?;
        }
        if let Some(connection) = &self.connection {
            let name = Getfd { fdname: CONNECTION.to_owned() };
            let connection = connection.try_clone().map_err(|error| tunnel::broken(&error))?;
            live.monitor.execute_with_fds(&name, vec![connection]).await.map_err(monitor)?;
        }
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
