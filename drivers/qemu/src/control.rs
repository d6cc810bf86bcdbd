//! What clients do to running guests.

use std::sync::Arc;

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::xml::utf8;
use virtwire_driver_api::CallCx;
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Cont, InjectNmi, SendKey, Stop, SystemPowerdown, SystemReset};

use crate::agent::{self, Way};
use crate::define::transient;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::guest::{Ending, Guest};
use crate::rotation;
use crate::state::{Lifecycle, State};

/// `VIR_DOMAIN_START_PAUSED`
const PAUSED: u32 = 1;
/// `VIR_DOMAIN_START_AUTODESTROY`
const AUTODESTROY: u32 = 2;
/// `VIR_DOMAIN_START_FORCE_BOOT`
const FORCE_BOOT: u32 = 8;
/// Flags of starting that make no difference here: bypass the cache, force a boot, validate, reset NVRAM.
const START_HARMLESS: u32 = 4 | FORCE_BOOT | 16 | 32;

pub(crate) async fn create_xml(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainCreateXmlArgs,
) -> Result<DomainCreateXmlRet> {
    check_flags(args.flags, PAUSED | AUTODESTROY | START_HARMLESS, "qemuDomainCreateXML")?;
    let domain =
        Domain::parse(utf8(args.xml_desc.as_bytes(), ErrorDomain::DOMAIN)?, driver.options().await?)?;
    let guest = transient(driver, &domain).await?;
    let _job = guest.job.lock().await;
    if let Err(error) = driver.start_from(&guest, &domain, args.flags & PAUSED != 0).await {
        if guest.lock().persistent.is_none() {
            driver.remove(&guest);
        }
        return Err(error);
    }
    if args.flags & AUTODESTROY != 0 {
        driver.bind(&guest, cx.client);
    }
    Ok(DomainCreateXmlRet { dom: guest.handle() })
}

pub(crate) async fn create(driver: &Qemu, args: DomainCreateArgs) -> Result<()> {
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    driver.start(&guest, false).await
}

pub(crate) async fn create_with_flags(
    driver: &Qemu,
    cx: &CallCx,
    args: DomainCreateWithFlagsArgs,
) -> Result<DomainCreateWithFlagsRet> {
    check_flags(args.flags, PAUSED | AUTODESTROY | START_HARMLESS, "qemuDomainCreateWithFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    if args.flags & FORCE_BOOT != 0 {
        driver.forget_saved(&guest)?;
    }
    driver.start(&guest, args.flags & PAUSED != 0).await?;
    if args.flags & AUTODESTROY != 0 {
        driver.bind(&guest, cx.client);
    }
    Ok(DomainCreateWithFlagsRet { dom: guest.handle() })
}

pub(crate) async fn suspend(driver: &Qemu, args: DomainSuspendArgs) -> Result<()> {
    let guest = driver.guest(&args.dom)?;
    let _turn = guest.turn_aside().await?;
    let live = guest.live()?;
    if guest.lock().state == State::PMSUSPENDED {
        return Err(QEMU.operation_invalid("domain is pmsuspended"));
    }
    if guest.lock().state.state == State::PAUSED_USER.state {
        return Ok(());
    }
    // Known before QEMU's own event comes, which may be before its answer.
    guest.lock().pausing = true;
    let stopped = live.monitor.execute(&Stop {}).await;
    guest.lock().pausing = false;
    stopped.map_err(monitor)?;
    // Of a guest that goes to another host, this is the end of its time here.
    let (state, event) = match guest.stops() {
        (State::PAUSED_UNKNOWN, event) => (State::PAUSED_USER, event),
        stops => stops,
    };
    driver.change(&guest, State::runs, state, event);
    Ok(())
}

pub(crate) async fn resume(driver: &Qemu, args: DomainResumeArgs) -> Result<()> {
    let guest = driver.guest(&args.dom)?;
    let _turn = guest.turn_aside().await?;
    let live = guest.live()?;
    match guest.lock().state {
        State::PMSUSPENDED => return Err(QEMU.operation_invalid("domain is pmsuspended")),
        state if state.runs() => return Err(QEMU.operation_invalid("domain is already running")),
        _ => {}
    }
    live.monitor.execute(&Cont {}).await.map_err(monitor)?;
    driver.change(&guest, |state| !state.runs(), State::RUNNING_UNPAUSED, Lifecycle::RESUMED_UNPAUSED);
    Ok(())
}

pub(crate) async fn shutdown(driver: &Qemu, args: DomainShutdownArgs) -> Result<()> {
    shutdown_flags(driver, DomainShutdownFlagsArgs { dom: args.dom, flags: 0 }).await
}

/// `VIR_DOMAIN_SHUTDOWN_…` and `VIR_DOMAIN_REBOOT_…`: the ways that QEMU has.
const ACPI: u32 = 1;
const AGENT: u32 = 2;

/// Has the agent end a guest, where it is there and that is one of the ways; whether that was it.
///
/// # Errors
/// There is no other way.
async fn by_agent(guest: &Guest, flags: u32, way: Way) -> Result<bool> {
    if flags != 0 && flags & AGENT == 0 {
        return Ok(false);
    }
    if flags & AGENT == 0 && agent::check(guest).is_err() {
        return Ok(false);
    }
    match agent::shut_down(guest, way).await {
        Err(error) if flags == AGENT => Err(error),
        asked => Ok(asked.is_ok()),
    }
}

pub(crate) async fn shutdown_flags(driver: &Qemu, args: DomainShutdownFlagsArgs) -> Result<()> {
    check_flags(args.flags, ACPI | AGENT, "qemuDomainShutdownFlags")?;
    let guest = driver.guest(&args.dom)?;
    let off = |_| QEMU.operation_invalid("domain is not running");
    guest.live().map_err(off)?;
    if by_agent(&guest, args.flags, Way::Off).await? {
        return Ok(());
    }
    let live = guest.live()?;
    // Nobody in a paused guest hears the button.
    if !guest.lock().state.runs() {
        return Err(QEMU.operation_invalid("domain is not running"));
    }
    live.monitor.execute(&SystemPowerdown {}).await.map_err(monitor)?;
    Ok(())
}

/// A guest that heeds its power button is turned off and on again.
pub(crate) async fn reboot(driver: &Qemu, args: DomainRebootArgs) -> Result<()> {
    check_flags(args.flags, ACPI | AGENT, "qemuDomainReboot")?;
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    if by_agent(&guest, args.flags, Way::Again).await? {
        return Ok(());
    }
    driver.restart_at_shutdown(&guest);
    live.monitor.execute(&SystemPowerdown {}).await.map_err(monitor)?;
    Ok(())
}

pub(crate) async fn reset(driver: &Qemu, args: DomainResetArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainReset")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    guest.live()?.monitor.execute(&SystemReset {}).await.map_err(monitor)?;
    Ok(())
}

pub(crate) async fn destroy(driver: &Qemu, args: DomainDestroyArgs) -> Result<()> {
    destroy_flags(driver, DomainDestroyFlagsArgs { dom: args.dom, flags: 0 }).await
}

/// `VIR_DOMAIN_DESTROY_GRACEFUL` and `…_REMOVE_LOGS`
const DESTROY_FLAGS: u32 = 1 | 2;

pub(crate) async fn destroy_flags(driver: &Qemu, args: DomainDestroyFlagsArgs) -> Result<()> {
    check_flags(args.flags, DESTROY_FLAGS, "qemuDomainDestroyFlags")?;
    let guest = driver.guest(&args.dom)?;
    // Not behind the job: a guest that hangs must not be able to hold this up.
    if guest.lock().live.is_none() {
        return Err(not_running());
    }
    driver.kill(&guest, Ending::Destroyed).await;
    if args.flags & 2 != 0 {
        rotation::remove(&driver.shared.dirs.log(&guest.name));
    }
    Ok(())
}

pub(crate) async fn inject_nmi(driver: &Qemu, args: DomainInjectNmiArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainInjectNMI")?;
    driver.guest(&args.dom)?.live()?.monitor.execute(&InjectNmi {}).await.map_err(monitor)?;
    Ok(())
}

/// `VIR_KEYCODE_SET_…` whose numbers QEMU takes as they are: Linux, XT, QEMU's own.
const KEYCODE_SETS: &[u32] = &[0, 1, 9];

pub(crate) async fn send_key(driver: &Qemu, args: DomainSendKeyArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainSendKey")?;
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    if !KEYCODE_SETS.contains(&args.codeset) {
        return Err(QEMU.config_unsupported(format_args!("key codes of set {} cannot be sent", args.codeset)));
    }
    let keys = args.keycodes.iter().map(|code| json!({"type": "number", "data": code})).collect();
    let hold_time = (args.holdtime > 0).then(|| args.holdtime.into());
    live.monitor.execute(&SendKey { keys, hold_time }).await.map_err(monitor)?;
    Ok(())
}

impl Qemu {
    /// The next time the guest powers off, it starts again.
    fn restart_at_shutdown(&self, guest: &Arc<Guest>) {
        if let Some(live) = &mut guest.lock().live {
            live.restart = true;
        }
    }
}
