//! The fourth step, at the target: the guest runs there.

use std::sync::Arc;

use uuid::Uuid;
use virtwire_conf::Domain;
use virtwire_protocol::remote::NonnullDomain;
use virtwire_qmp::commands::{Cont, QueryMigrate};

use super::cookie::Cookie;
use super::exports;
use super::follow::COMPLETED;
use super::params::{Asked, flag, name};
use super::{FOR_EVER, Moving, Phase, Stats, Way};
use crate::define;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor, no_name, not_running};
use crate::guest::{Definition, Guest, Live};
use crate::state::{Lifecycle, State};

/// Lets a guest run that has come in, or ends it where it has not.
///
/// # Errors
/// It has not; the guest is at the source still.
pub(super) async fn finish(
    driver: &Qemu,
    asked: &Asked,
    cookie: &[u8],
    canceled: bool,
) -> Result<(NonnullDomain, Vec<u8>)> {
    let name = asked.text(name::DEST_NAME).ok_or_else(|| QEMU.internal_error("missing domain name"))?;
    let guest = driver.by_name(&name).ok_or_else(|| no_name(&name))?;
    let begun = guest.with_moving(Way::In, |moving| {
        if moving.phase != Phase::Prepared {
            return None;
        }
        moving.phase = Phase::Finishing;
        Some((moving.origin.clone(), moving.offline.clone()))
    });
    let Some(Some((origin, offline))) = begun else {
        return Err(
            QEMU.operation_failed(format_args!("domain '{name}' is not processing incoming migration"))
        );
    };
    driver.save_status(&guest);
    if canceled {
        if !driver.stays_broken(&guest) {
            driver.turn_away(&guest).await;
        }
        return Err(QEMU.migrate_finish_ok("migration was canceled"));
    }
    let done = match &offline {
        Some(domain) => keep(driver, &guest, domain).await.map(|()| None),
        None => arrive(driver, &guest, asked, cookie, &origin).await.map(Some),
    };
    match done {
        Ok(stats) => {
            let mut answer = Cookie::new(driver, &origin, Uuid::from_bytes(guest.uuid));
            if let Some(stats) = &stats {
                guest.lock().completed = Some((COMPLETED, stats.params(Moving::operation(Way::In))));
            }
            answer.stats = stats;
            let handle = guest.handle();
            let before = guest.set_moving(None).map(|moving| moving.before);
            if let (Some(before), Ok(live)) = (before, guest.live())
                && let Err(error) = before.again(&live.monitor).await
            {
                tracing::debug!(guest = guest.name, %error, "QEMU keeps what it was told of the migration");
            }
            driver.save_status(&guest);
            Ok((handle, answer.write()))
        }
        Err(error) => {
            if !driver.stays_broken(&guest) {
                driver.turn_away(&guest).await;
            }
            Err(error)
        }
    }
}

/// The guest comes in, and runs.
async fn arrive(
    driver: &Qemu,
    guest: &Arc<Guest>,
    asked: &Asked,
    cookie: &[u8],
    origin: &str,
) -> Result<Stats> {
    let live = guest.live().map_err(|_| QEMU.operation_failed("domain is no longer running"))?;
    let cookie = Cookie::read(driver, cookie, origin, Uuid::from_bytes(guest.uuid))?;
    let mut stats = cookie.stats.unwrap_or_default();
    stats.arrived();
    come_in(guest, &live).await?;
    let again = asked.has(flag::POSTCOPY_RESUME);
    if !again {
        exports::stop(&live, asked).await?;
    }
    if asked.has(flag::PERSIST_DEST) && !again {
        let stored = match &cookie.persistent {
            Some(xml) => {
                let mut domain = Domain::parse(xml, driver.options().await?)?;
                domain.name.clone_from(&guest.name);
                domain
            }
            None => guest.lock().next().map(|stored| (*stored).clone()).ok_or_else(not_running)?,
        };
        keep(driver, guest, &stored).await?;
    }
    let post_copy = guest.with_moving(Way::In, |moving| moving.post_copy) == Some(true);
    if asked.has(flag::PAUSED) && !post_copy {
        guest.lock().state = State::PAUSED_USER;
        driver.emit(Lifecycle::SUSPENDED_PAUSED.of(guest.handle()));
    } else {
        if !guest.lock().state.runs() {
            live.monitor.execute(&Cont {}).await.map_err(monitor)?;
            let (state, event) = guest.resumes();
            driver.change(guest, |state| !state.runs(), state, event);
        }
        if post_copy {
            all_in(guest, &live).await?;
            guest.lock().state = State::RUNNING_MIGRATED;
            driver.emit(Lifecycle::RESUMED_MIGRATED.of(guest.handle()));
        }
    }
    stats.complete();
    Ok(stats)
}

/// Waits until a guest could run.
async fn come_in(guest: &Guest, live: &Live) -> Result<()> {
    wait_for(guest, live, &["completed", "postcopy-active"]).await
}

/// Waits until all of its memory is here.
async fn all_in(guest: &Guest, live: &Live) -> Result<()> {
    wait_for(guest, live, &["completed"]).await
}

async fn wait_for(guest: &Guest, live: &Live, words: &[&str]) -> Result<()> {
    let mut told = guest.told.subscribe();
    loop {
        let status = told.borrow_and_update().clone();
        if words.contains(&status.as_str()) {
            return Ok(());
        }
        if status == "postcopy-paused" {
            return Err(QEMU.operation_failed("job 'migration in' failed in post-copy phase"));
        }
        if status == "failed" {
            let told = live.monitor.execute(&QueryMigrate {}).await.ok();
            let said =
                told.and_then(|told| told.error_desc).unwrap_or_else(|| "unexpectedly failed".to_owned());
            return Err(QEMU.operation_failed(format_args!("job 'migration in' failed: {said}")));
        }
        tokio::select! {
            changed = told.changed() => changed.map_err(|_| not_running())?,
            true = live.process.ended_within(FOR_EVER) => {
                return Err(QEMU.operation_failed("domain is no longer running"));
            }
        }
    }
}

/// Keeps a definition of a guest that has come in.
async fn keep(driver: &Qemu, guest: &Arc<Guest>, domain: &Domain) -> Result<()> {
    let new = guest.lock().persistent.is_none();
    let definition = Definition::new(domain.clone());
    define::write(driver, &guest.name, &definition.xml)?;
    guest.lock().persistent = Some(definition);
    let event = if new { Lifecycle::DEFINED_ADDED } else { Lifecycle::DEFINED_UPDATED };
    driver.emit(event.of(guest.handle()));
    Ok(())
}
