//! Guests that go to another host while they run, and guests that come from one.
//!
//! Five steps, of which a client asks one after the other: the source says what leaves ([`begin`]), the target opens a
//! door ([`prepare`]), the source sends ([`perform`]), the target lets the guest run ([`finish`]), and the source ends
//! what is left there, or lets it go on ([`confirm`]). With each step goes a [`cookie`] to the other daemon.
//!
//! What goes on with a guest is its [`Moving`], from the first step to the last; whoever changes a guest's life waits
//! for its end.

mod alike;
mod allowed;
mod begin;
mod broken;
mod capabilities;
mod confirm;
mod cookie;
mod copied;
mod exports;
mod finish;
mod follow;
mod mirrors;
mod params;
mod peers;
mod perform;
mod place;
mod prepare;
mod record;
mod recover;
mod room;
mod stats;
mod tls;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use virtwire_conf::Domain;
use virtwire_driver_api::{CallCx, StreamEnd};
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::Result;
use crate::guest::Guest;
use capabilities::Before;
use exports::Server;
use params::{Asked, Older, flag, older_flags};
use place::Door;

pub(crate) use follow::{abort, info, pause, post_copy, statistics};
pub(crate) use mirrors::Mirrors;
pub(crate) use place::Entrance;
pub(crate) use prepare::Incoming;
pub(crate) use record::{Record, read as read_record};
pub(crate) use stats::Stats;

/// What fuzzing gets to see: a cookie of another host, and where a guest goes.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub(crate) fn cookie(bytes: &[u8]) {
        if let Ok(cookie) = super::cookie::Cookie::parse(bytes) {
            drop(super::cookie::Cookie::parse(&cookie.write()));
        }
    }

    pub(crate) fn goal(text: &str) {
        drop(super::place::Goal::parse(text));
    }
}

/// How long a migration waits for whoever changes the guest's life.
pub(crate) const TURN: Duration = Duration::from_secs(30);

/// Longer than any guest runs.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Which way a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The source has said what leaves.
    Begun,
    /// The source sends.
    Performing,
    /// The source has sent everything, and waits to hear whether it has arrived.
    Performed,
    /// The source ends what is left.
    Confirming,
    /// The source lets the guest go on.
    Staying,
    /// The target waits for the guest.
    Prepared,
    /// The target lets it run.
    Finishing,
    /// It runs at the target, and the way to the rest of its memory is lost.
    PostCopyFailed,
}

/// A migration of a guest.
pub(crate) struct Moving {
    pub(crate) way: Way,
    pub(crate) phase: Phase,
    flags: u32,
    /// The connection of the client that manages it.
    client: u64,
    /// That connection has ended.
    abandoned: bool,
    /// Somebody has called it off.
    canceled: bool,
    /// QEMU stopped the guest for it, and it has to run again where nothing comes of it.
    stopped: bool,
    /// The guest runs at the target already, while parts of its memory are at the source.
    post_copy: bool,
    pub(crate) stats: Stats,
    /// The guest's name at the source.
    origin: String,
    /// What comes of a guest that does not run.
    offline: Option<Arc<Domain>>,
    before: Before,
    /// Where it comes in, and the content of its disks, which is nobody else's meanwhile.
    _door: Option<(Door, Option<Server>)>,
    /// Nobody else changes the guest's life.
    _job: OwnedMutexGuard<()>,
}

impl Moving {
    /// Begins one, of which the driver hears when its client has gone.
    fn new(
        driver: &Qemu,
        way: Way,
        phase: Phase,
        asked: &Asked,
        cx: &CallCx,
        job: OwnedMutexGuard<()>,
    ) -> Self {
        driver.managing().insert(cx.client);
        Self {
            way,
            phase,
            flags: asked.flags,
            client: cx.client,
            abandoned: false,
            canceled: false,
            stopped: false,
            post_copy: false,
            stats: Stats::begin(),
            origin: String::new(),
            offline: None,
            before: Before::default(),
            _door: None,
            _job: job,
        }
    }
}

impl Guest {
    /// Changes what goes on with the guest, if it goes this way.
    fn with_moving<T>(&self, way: Way, change: impl FnOnce(&mut Moving) -> T) -> Option<T> {
        self.lock().moving.as_mut().filter(|moving| moving.way == way).map(change)
    }
}

pub(crate) async fn begin3_params(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigrateBegin3ParamsArgs,
) -> Result<DomainMigrateBegin3ParamsRet> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigrateBegin3Params")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, xml) = begin::begin(driver, cx, &args.dom, &asked).await?;
    Ok(DomainMigrateBegin3ParamsRet { cookie_out, xml: xml.into() })
}

pub(crate) async fn begin3(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigrateBegin3Args,
) -> Result<DomainMigrateBegin3Ret> {
    let older = Older { xml: args.xmlin, name: args.dname, bandwidth: args.resource, uri: None };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigrateBegin3")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, xml) = begin::begin(driver, cx, &args.dom, &asked).await?;
    Ok(DomainMigrateBegin3Ret { cookie_out, xml: xml.into() })
}

pub(crate) async fn prepare3_params(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePrepare3ParamsArgs,
) -> Result<DomainMigratePrepare3ParamsRet> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigratePrepare3Params")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, uri_out) = prepare::prepare(driver, cx, &asked, &args.cookie_in, None).await?;
    Ok(DomainMigratePrepare3ParamsRet { cookie_out, uri_out: uri_out.map(Into::into) })
}

pub(crate) async fn prepare3(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePrepare3Args,
) -> Result<DomainMigratePrepare3Ret> {
    let older =
        Older { xml: Some(args.dom_xml), name: args.dname, uri: args.uri_in, bandwidth: args.resource };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigratePrepare3")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, uri_out) = prepare::prepare(driver, cx, &asked, &args.cookie_in, None).await?;
    Ok(DomainMigratePrepare3Ret { cookie_out, uri_out: uri_out.map(Into::into) })
}

pub(crate) async fn prepare_tunnel3_params(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePrepareTunnel3ParamsArgs,
    stream: StreamEnd,
) -> Result<DomainMigratePrepareTunnel3ParamsRet> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigratePrepareTunnel3Params")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, _) = prepare::prepare(driver, cx, &asked, &args.cookie_in, Some(stream)).await?;
    Ok(DomainMigratePrepareTunnel3ParamsRet { cookie_out })
}

pub(crate) async fn prepare_tunnel3(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePrepareTunnel3Args,
    stream: StreamEnd,
) -> Result<DomainMigratePrepareTunnel3Ret> {
    let older = Older { xml: Some(args.dom_xml), name: args.dname, uri: None, bandwidth: args.resource };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigratePrepareTunnel3")?;
    driver.shared.entrance.check(&asked)?;
    let (cookie_out, _) = prepare::prepare(driver, cx, &asked, &args.cookie_in, Some(stream)).await?;
    Ok(DomainMigratePrepareTunnel3Ret { cookie_out })
}

/// The oldest form, without a cookie.
pub(crate) async fn prepare_tunnel(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePrepareTunnelArgs,
    stream: StreamEnd,
) -> Result<()> {
    let older = Older { xml: Some(args.dom_xml), name: args.dname, uri: None, bandwidth: args.resource };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigratePrepareTunnel")?;
    driver.shared.entrance.check(&asked)?;
    prepare::prepare(driver, cx, &asked, &[], Some(stream)).await.map(drop)
}

pub(crate) async fn perform3_params(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePerform3ParamsArgs,
) -> Result<DomainMigratePerform3ParamsRet> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigratePerform3Params")?;
    driver.shared.entrance.check(&asked)?;
    tunnel::check(&asked)?;
    if let Some(uri) = args.dconnuri.filter(|_| asked.has(flag::PEER2PEER)) {
        peers::migrate(driver, cx, &args.dom, asked, &uri.to_str_lossy()).await?;
        return Ok(DomainMigratePerform3ParamsRet::default());
    }
    let cookie_out = perform::perform(driver, cx, &args.dom, asked, args.cookie_in).await?;
    Ok(DomainMigratePerform3ParamsRet { cookie_out })
}

pub(crate) async fn perform3(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainMigratePerform3Args,
) -> Result<DomainMigratePerform3Ret> {
    let older = Older { xml: args.xmlin, name: args.dname, uri: args.uri, bandwidth: args.resource };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigratePerform3")?;
    driver.shared.entrance.check(&asked)?;
    tunnel::check(&asked)?;
    if let Some(uri) = args.dconnuri.filter(|_| asked.has(flag::PEER2PEER)) {
        peers::migrate(driver, cx, &args.dom, asked, &uri.to_str_lossy()).await?;
        return Ok(DomainMigratePerform3Ret::default());
    }
    let cookie_out = perform::perform(driver, cx, &args.dom, asked, args.cookie_in).await?;
    Ok(DomainMigratePerform3Ret { cookie_out })
}

pub(crate) async fn finish3_params(
    driver: &Qemu,
    args: DomainMigrateFinish3ParamsArgs,
) -> Result<DomainMigrateFinish3ParamsRet> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigrateFinish3Params")?;
    let (dom, cookie_out) = finish::finish(driver, &asked, &args.cookie_in, args.cancelled != 0).await?;
    Ok(DomainMigrateFinish3ParamsRet { dom, cookie_out })
}

pub(crate) async fn finish3(
    driver: &Qemu,
    args: DomainMigrateFinish3Args,
) -> Result<DomainMigrateFinish3Ret> {
    let older = Older { name: Some(args.dname), uri: args.uri, ..Older::default() };
    let asked = Asked::new(older.params(), older_flags(args.flags), "qemuDomainMigrateFinish3")?;
    let (dom, cookie_out) = finish::finish(driver, &asked, &args.cookie_in, args.cancelled != 0).await?;
    Ok(DomainMigrateFinish3Ret { dom, cookie_out })
}

pub(crate) async fn confirm3_params(driver: &Qemu, args: DomainMigrateConfirm3ParamsArgs) -> Result<()> {
    let asked = Asked::new(args.params, args.flags, "qemuDomainMigrateConfirm3Params")?;
    confirm::confirm(driver, &args.dom, &asked, &args.cookie_in, args.cancelled != 0).await
}

pub(crate) async fn confirm3(driver: &Qemu, args: DomainMigrateConfirm3Args) -> Result<()> {
    let asked = Asked::new(Vec::new(), older_flags(args.flags), "qemuDomainMigrateConfirm3")?;
    confirm::confirm(driver, &args.dom, &asked, &args.cookie_in, args.cancelled != 0).await
}
