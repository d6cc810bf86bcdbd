//! Migration between peers: this daemon manages it, as a client of the target's.

use std::sync::Arc;

use virtwire_driver_api::{CallCx, Far, Tunnel};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::{
    DomainMigrateFinish3ParamsArgs, DomainMigratePrepare3ParamsArgs, DomainMigratePrepareTunnel3ParamsArgs,
    NonnullDomain, TypedParam,
};

use super::params::{Asked, flag, name};
use super::{Moving, Phase, Way, begin, broken, confirm, perform};
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::Guest;
use crate::state::State;

/// `VIR_DRV_FEATURE_…`: migration between peers, of guests that do not run, and with parameters.
const PEERS: i32 = 4;
const OFFLINE: i32 = 12;
const PARAMS: i32 = 13;

/// Takes all steps. The client may go meanwhile.
///
/// # Errors
/// The first step that fails; the guest goes on here.
pub(super) async fn migrate(
    driver: &Qemu,
    cx: &CallCx,
    dom: &NonnullDomain,
    asked: Asked,
    uri: &str,
) -> Result<()> {
    let none = || QEMU.operation_unsupported("migration between peers is switched off");
    let reach = driver.reach().ok_or_else(none)?;
    let guest = driver.guest(dom)?;
    let far = reach.open(uri).await?;
    if !far.supports(PEERS).await? || !far.supports(PARAMS).await? {
        let text = "Destination libvirt does not support peer-to-peer migration protocol";
        return Err(QEMU.operation_failed(text));
    }
    if asked.has(flag::OFFLINE) && !far.supports(OFFLINE).await? {
        let text = "offline migration is not supported by the destination host";
        return Err(QEMU.argument_unsupported(text));
    }
    // Of no client: who has asked for it need not wait for it.
    let nobody = CallCx { client: broken::NOBODY, ..cx.clone() };
    let paused = guest.lock().state == State::PAUSED_USER;
    let (cookie, xml) = if asked.has(flag::POSTCOPY_RESUME) {
        broken::take_up(driver, &guest, (Way::Out, Phase::Begun), &nobody, &asked)?;
        begin::again(driver, &guest).await?
    } else {
        let job = guest.turn().await?;
        let begun = begin::describe(driver, &guest, &asked).await?;
        guest.set_moving(Some(Moving::new(driver, Way::Out, Phase::Begun, &asked, &nobody, job)));
        driver.save_status(&guest);
        begun
    };
    let course = Course { driver, guest: &guest, far: &*far, asked, paused };
    let gone = course.run(cookie, &xml).await;
    let sent = guest.with_moving(Way::Out, |moving| moving.phase >= Phase::Performed) == Some(true);
    match &gone {
        Ok(()) => {}
        Err(error) if sent && error.domain == ErrorDomain::RPC => {
            if driver.stays_broken(&guest) {
                return gone;
            }
            // The way was lost, and with it the word whether the guest runs there: it must not run here as well.
            tracing::warn!(guest = guest.name, %error, "whether it runs elsewhere is not known; it stays paused");
            guest.set_moving(None);
            driver.save_status(&guest);
        }
        Err(_) => confirm::stay(driver, &guest).await,
    }
    gone
}

/// A migration that this daemon manages.
struct Course<'a> {
    driver: &'a Qemu,
    guest: &'a Arc<Guest>,
    far: &'a dyn Far,
    asked: Asked,
    paused: bool,
}

impl Course<'_> {
    async fn run(mut self, cookie: Vec<u8>, xml: &str) -> Result<()> {
        let flags = self.flags();
        let xml = vec![TypedParam::new(name::DEST_XML, xml)];
        let params = self.asked.with(xml.clone()).params;
        let (cookie, tunnel) = self.prepare(params, cookie, flags).await?;
        self.guest.with_moving(Way::Out, |moving| moving.phase = Phase::Performing);
        self.driver.save_status(self.guest);
        let offline = self.asked.has(flag::OFFLINE);
        let sent = if offline {
            Ok(Vec::new())
        } else {
            perform::send(self.driver, self.guest, &self.asked, &cookie, tunnel).await
        };
        self.guest.with_moving(Way::Out, |moving| {
            if sent.is_ok() {
                moving.phase = Phase::Performed;
            }
        });
        let named = self.asked.text(name::DEST_NAME).unwrap_or_else(|| self.guest.name.clone());
        let mut others = xml;
        others.push(TypedParam::new(name::DEST_NAME, named.as_str()));
        let finish = DomainMigrateFinish3ParamsArgs {
            params: self.asked.with(others).params,
            cookie_in: sent.as_ref().cloned().unwrap_or_default(),
            flags,
            cancelled: sent.is_err().into(),
        };
        let finished = self.far.finish(finish).await;
        // The first of the errors is the one that tells what happened.
        sent?;
        let finished = finished?;
        if offline {
            self.guest.set_moving(None);
            return confirm::forget(self.driver, self.guest, &self.asked);
        }
        self.guest.with_moving(Way::Out, |moving| moving.phase = Phase::Confirming);
        self.driver.save_status(self.guest);
        confirm::leave(self.driver, self.guest, &self.asked, &finished.cookie_out).await
    }

    /// Has the target wait for the guest. Returns its cookie, and the tunnel if the guest is to go by one.
    async fn prepare(
        &mut self,
        params: Vec<TypedParam>,
        cookie_in: Vec<u8>,
        flags: u32,
    ) -> Result<(Vec<u8>, Option<Box<dyn Tunnel>>)> {
        if self.asked.has(flag::TUNNELLED) {
            let args = DomainMigratePrepareTunnel3ParamsArgs { params, cookie_in, flags };
            let (prepared, tunnel) = self.far.prepare_tunnel(args).await?;
            return Ok((prepared.cookie_out, Some(tunnel)));
        }
        let args = DomainMigratePrepare3ParamsArgs { params, cookie_in, flags };
        let prepared = self.far.prepare(args).await?;
        if let Some(uri) = prepared.uri_out {
            let uri = TypedParam::new(name::URI, &*uri.to_str_lossy());
            self.asked = self.asked.with(vec![uri]);
        }
        Ok((prepared.cookie_out, None))
    }

    /// What the target is asked.
    fn flags(&self) -> u32 {
        if self.paused { self.asked.flags | flag::PAUSED } else { self.asked.flags }
    }
}
