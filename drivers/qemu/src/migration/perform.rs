//! The third step, at the source: the guest is sent.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::TcpStream;
use virtwire_driver_api::{CallCx, Tunnel};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{NonnullDomain, TypedParam};
use virtwire_qmp::commands::{Getfd, Migrate, MigrateCancel, MigrateContinue, QueryMigrate};

use super::capabilities::{self, Side};
use super::cookie::Cookie;
use super::params::{Asked, flag, name};
use super::place::{CONNECTION, Goal, bracketed};
use super::tunnel::Outlet;
use super::{FOR_EVER, Moving, Phase, Stats, Way, allowed, begin, confirm, mirrors, tls};
use crate::define::text;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::jobs::NO_LIMIT;
use crate::process::connect;
use crate::save::replacement;

/// `VIR_DOMAIN_XML_SECURE`, `…_INACTIVE` and `…_MIGRATABLE`
const SECURE_INACTIVE: u32 = 1 | 2;
const MIGRATABLE: u32 = 8;

/// Sends a guest. Where that fails it runs here again: no client comes for the last step then.
///
/// # Errors
/// It is called off, or cannot be sent; it is at the source still.
pub(super) async fn perform(
    driver: &Qemu,
    cx: &CallCx,
    dom: &NonnullDomain,
    asked: Asked,
    cookie: Vec<u8>,
) -> Result<Vec<u8>> {
    let guest = driver.guest(dom)?;
    if asked.has(flag::TUNNELLED) {
        let text = "cannot perform tunnelled migration without using peer2peer flag";
        return Err(QEMU.operation_invalid(text));
    }
    enter(driver, &guest, cx, &asked).await?;
    let sent = send(driver, &guest, &asked, &cookie, None).await;
    if sent.is_err() {
        confirm::stay(driver, &guest).await;
        return sent;
    }
    let abandoned = guest.with_moving(Way::Out, |moving| {
        moving.phase = Phase::Performed;
        moving.abandoned
    });
    driver.save_status(&guest);
    if abandoned == Some(true) {
        driver.unmanaged(cx.client).await;
    }
    sent
}

/// Goes on from the first step, or begins without it.
async fn enter(driver: &Qemu, guest: &Arc<Guest>, cx: &CallCx, asked: &Asked) -> Result<()> {
    let begun = guest.with_moving(Way::Out, |moving| {
        let begun = moving.phase == Phase::Begun;
        if begun {
            moving.phase = Phase::Performing;
        }
        begun
    });
    match begun {
        Some(true) => {}
        Some(false) => {
            let name = &guest.name;
            return Err(QEMU.operation_invalid(format_args!(
                "another migration job is already running for domain '{name}'"
            )));
        }
        None if asked.has(flag::CHANGE_PROTECTION) => {
            return Err(QEMU.operation_invalid("domain is not being migrated"));
        }
        None => {
            let job = guest.turn().await?;
            guest.live()?;
            allowed::leave(driver, guest, asked)?;
            guest.set_moving(Some(Moving::new(driver, Way::Out, Phase::Performing, asked, cx, job)));
        }
    }
    driver.save_status(guest);
    Ok(())
}

/// Sends a guest, through a tunnel or to where the client says.
///
/// # Errors
/// It is called off, or cannot be sent.
pub(super) async fn send(
    driver: &Qemu,
    guest: &Arc<Guest>,
    asked: &Asked,
    cookie: &[u8],
    tunnel: Option<Box<dyn Tunnel>>,
) -> Result<Vec<u8>> {
    let live = guest.live()?;
    let uuid = uuid::Uuid::from_bytes(guest.uuid);
    let cookie = Cookie::read(driver, cookie, &guest.name, uuid)?;
    let goal = match &tunnel {
        Some(_) => None,
        None => {
            let uri = asked.text(name::URI).ok_or_else(|| QEMU.internal_error("no URI to migrate to"))?;
            Some(Goal::parse(&uri)?)
        }
    };
    if !asked.has(flag::POSTCOPY_RESUME) {
        tls::Keys::of(driver, asked).await?.give(&live, asked, Side::Source).await?;
        tell(guest, &live, (asked, goal.as_ref()), &cookie).await?;
    }
    let port = cookie.nbd.as_ref().and_then(|nbd| nbd.port);
    let sent = match (tunnel, &goal) {
        (Some(tunnel), _) => through(driver, guest, &live, asked, tunnel).await,
        (None, Some(goal)) => pass(driver, guest, &live, asked, goal, port).await,
        (None, None) => Err(QEMU.internal_error("no way to migrate by")),
    };
    if sent.is_err() {
        mirrors::take_back(driver, guest, &live).await;
    }
    sent?;
    let mut left = Cookie::new(driver, &guest.name, uuid);
    let stats = guest.lock().moving.as_ref().map(|moving| moving.stats.clone()).unwrap_or_default();
    let mut stats = stats.ask(guest, &live).await?;
    stats.sent();
    guest.with_moving(Way::Out, |moving| moving.stats = stats.clone());
    left.stats = Some(stats);
    left.nbd = begin::sizes(&live, asked, None).await?;
    if asked.has(flag::PERSIST_DEST) {
        left.features.push("persistent");
        left.persistent = Some(kept(driver, guest, asked).await?);
    }
    Ok(left.write())
}

/// Sends the memory through a tunnel.
async fn through(
    driver: &Qemu,
    guest: &Guest,
    live: &Live,
    asked: &Asked,
    tunnel: Box<dyn Tunnel>,
) -> Result<()> {
    let (outlet, connection) = Outlet::open(tunnel)?;
    give(live, connection).await?;
    start(guest, live, asked, format!("fd:{CONNECTION}")).await?;
    match driver.watch(guest, live).await {
        Ok(()) => outlet.arrives().await,
        Err(error) if guest.with_moving(Way::Out, |moving| moving.canceled) == Some(true) => Err(error),
        Err(error) => Err(outlet.failure().unwrap_or(error)),
    }
}

/// Copies disks, and sends the memory.
async fn pass(
    driver: &Qemu,
    guest: &Guest,
    live: &Live,
    asked: &Asked,
    goal: &Goal,
    disks: Option<u16>,
) -> Result<()> {
    if asked.has(flag::POSTCOPY_RESUME) {
        start(guest, live, asked, connect_to(live, asked, goal).await?).await?;
        return driver.watch(guest, live).await;
    }
    mirrors::begin(driver, guest, live, asked, goal, disks).await?;
    start(guest, live, asked, connect_to(live, asked, goal).await?).await?;
    driver.watch(guest, live).await
}

/// The definition that is to be kept at the target.
async fn kept(driver: &Qemu, guest: &Guest, asked: &Asked) -> Result<String> {
    if let Some(xml) = asked.text(name::PERSIST_XML) {
        let stored = guest.lock().next().ok_or_else(not_running)?;
        let new = replacement(driver, &stored, &xml).await?;
        return Ok(text(&new, SECURE_INACTIVE));
    }
    let stored = guest.lock().next().ok_or_else(not_running)?;
    Ok(text(&stored, SECURE_INACTIVE | MIGRATABLE))
}

/// Tells QEMU how it is to send.
async fn tell(
    guest: &Guest,
    live: &Live,
    (asked, goal): (&Asked, Option<&Goal>),
    cookie: &Cookie,
) -> Result<()> {
    let own = capabilities::of(&live.monitor, Side::Source).await?;
    let limit = guest.lock().migration_speed.unwrap_or(NO_LIMIT);
    let usual = TypedParam::new(name::BANDWIDTH, limit);
    let asked = asked.or(usual);
    let (asked, other) = ((&asked, goal), &cookie.capabilities);
    let before = capabilities::set(&live.monitor, asked, Side::Source, &own, other).await?;
    guest.with_moving(Way::Out, |moving| moving.before = before);
    Ok(())
}

/// Where a guest goes, in QEMU's words.
async fn connect_to(live: &Live, asked: &Asked, goal: &Goal) -> Result<String> {
    // Several connections, or one that may be made anew, are QEMU's own business.
    let by_itself = asked.has(flag::PARALLEL) || asked.has(flag::POSTCOPY);
    Ok(match goal {
        Goal::Tcp(host, Some(port)) if by_itself => {
            format!("tcp:{}:{port}", bracketed(host))
        }
        Goal::Unix(path) if by_itself => format!("unix:{path}"),
        goal => {
            give(live, dial(goal).await?).await?;
            format!("fd:{CONNECTION}")
        }
    })
}

/// Gives QEMU a connection.
async fn give(live: &Live, connection: OwnedFd) -> Result<()> {
    let name = Getfd { fdname: CONNECTION.to_owned() };
    live.monitor.execute_with_fds(&name, vec![connection]).await.map_err(monitor)?;
    Ok(())
}

/// Has QEMU begin.
async fn start(guest: &Guest, live: &Live, asked: &Asked, uri: String) -> Result<()> {
    if guest.with_moving(Way::Out, |moving| moving.canceled).unwrap_or(true) {
        return Err(QEMU.operation_aborted("migration out: canceled by client"));
    }
    guest.told.send_replace(String::new());
    let resume = asked.has(flag::POSTCOPY_RESUME).then_some(true);
    live.monitor.execute(&Migrate { uri, resume }).await.map_err(monitor)?;
    Ok(())
}

/// Connects to where the guest goes.
async fn dial(goal: &Goal) -> Result<OwnedFd> {
    match goal {
        Goal::Tcp(host, port) => {
            let port = port.ok_or_else(|| QEMU.internal_error("no port to migrate to"))?;
            let cannot = |error: io::Error| {
                let what = format_args!("unable to connect to server at '{host}:{port}'");
                VirtError::system(ErrorDomain::RPC, &error, what)
            };
            let stream = TcpStream::connect((host.as_str(), port)).await.map_err(cannot)?;
            let stream = stream.into_std().map_err(cannot)?;
            stream.set_nonblocking(false).map_err(cannot)?;
            Ok(stream.into())
        }
        Goal::Unix(path) => {
            let cannot = |error: io::Error| {
                let what = format_args!("Failed to connect socket to '{path}'");
                VirtError::system(ErrorDomain::RPC, &error, what)
            };
            let stream = connect(path.as_ref()).await.map_err(cannot)?.into_std().map_err(cannot)?;
            stream.set_nonblocking(false).map_err(cannot)?;
            Ok(stream.into())
        }
    }
}

fn canceled() -> VirtError {
    QEMU.operation_aborted("job 'migration out' canceled by client")
}

impl Qemu {
    /// Waits until QEMU has sent a guest, or until the guest runs at the target while the rest follows.
    async fn watch(&self, guest: &Guest, live: &Live) -> Result<()> {
        let mut told = guest.told.subscribe();
        loop {
            let status = told.borrow_and_update().clone();
            match status.as_str() {
                "completed" | "postcopy-active" => return Ok(()),
                "failed" | "cancelled" => return Err(why(guest, live).await),
                "postcopy-paused" => {
                    return Err(QEMU.operation_failed("job 'migration out' failed in post-copy phase"));
                }
                "pre-switchover" => {
                    mirrors::end(self, guest, live).await?;
                    let state = "pre-switchover".to_owned();
                    live.monitor.execute(&MigrateContinue { state }).await.map_err(monitor)?;
                }
                _ => {}
            }
            tokio::select! {
                changed = told.changed() => changed.map_err(|_| not_running())?,
                () = guest.mirrors.broken() => return Err(broken(guest, live).await),
                true = live.process.ended_within(FOR_EVER) => {
                    return Err(QEMU.operation_failed("domain is not running"));
                }
            }
        }
    }
}

/// Has QEMU keep a guest whose disks are no longer copied. Says why they are not.
async fn broken(guest: &Guest, live: &Live) -> VirtError {
    let error = mirrors::failure(guest, live).await;
    let mut told = guest.told.subscribe();
    if live.monitor.execute(&MigrateCancel {}).await.is_ok() {
        let over = told.wait_for(|status| matches!(status.as_str(), "failed" | "cancelled" | "completed"));
        tokio::select! {
            _ = over => {}
            _ = live.process.ended_within(FOR_EVER) => {}
        }
    }
    error.unwrap_or_else(canceled)
}

/// Why a guest has not been sent.
async fn why(guest: &Guest, live: &Live) -> VirtError {
    if guest.with_moving(Way::Out, |moving| moving.canceled) == Some(true) {
        return canceled();
    }
    let told = live.monitor.execute(&QueryMigrate {}).await;
    let said = told.ok().and_then(|told| told.error_desc);
    let said = said.unwrap_or_else(|| "unexpectedly failed".to_owned());
    QEMU.operation_failed(format_args!("job 'migration out' failed: {said}"))
}

/// Waits until the last of a guest's memory has followed it.
///
/// # Errors
/// Some of it has not.
pub(super) async fn followed(guest: &Guest, live: &Live) -> Result<Stats> {
    let mut told = guest.told.subscribe();
    loop {
        let status = told.borrow_and_update().clone();
        match status.as_str() {
            "completed" => break,
            "failed" | "cancelled" => return Err(why(guest, live).await),
            "postcopy-paused" => {
                return Err(QEMU.operation_failed("job 'migration out' failed in post-copy phase"));
            }
            _ => {}
        }
        tokio::select! {
            changed = told.changed() => changed.map_err(|_| not_running())?,
            true = live.process.ended_within(FOR_EVER) => return Err(not_running()),
        }
    }
    let stats = guest.lock().moving.as_ref().map(|moving| moving.stats.clone()).unwrap_or_default();
    stats.ask(guest, live).await
}
