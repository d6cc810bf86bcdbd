//! What happens when a guest powers off, reboots or crashes, changed after its definition.

use virtwire_conf::Domain;
use virtwire_conf::domain::LifecycleAction;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::DomainSetLifecycleActionArgs;
use virtwire_qmp::commands::SetAction;

use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};

/// `VIR_DOMAIN_AFFECT_…`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// `VIR_DOMAIN_LIFECYCLE_…`
const EVENTS: &[&str] = &["poweroff", "reboot", "crash"];
/// `VIR_DOMAIN_LIFECYCLE_ACTION_…`
const ACTIONS: &[LifecycleAction] = &[
    LifecycleAction::Destroy,
    LifecycleAction::Restart,
    LifecycleAction::RenameRestart,
    LifecycleAction::Preserve,
    LifecycleAction::CoredumpDestroy,
    LifecycleAction::CoredumpRestart,
];
const CRASH: usize = 2;

pub(crate) async fn set(driver: &Qemu, args: DomainSetLifecycleActionArgs) -> Result<()> {
    let (event, action) = meant(args.r#type, args.action)?;
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetLifecycleAction")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (live, stored) = {
        let inner = guest.lock();
        (inner.live.clone(), inner.persistent.as_ref().map(|stored| Domain::clone(&stored.domain)))
    };
    let current = args.flags & (LIVE | CONFIG) == 0;
    let to_live = args.flags & LIVE != 0 || (current && live.is_some());
    let to_stored = args.flags & CONFIG != 0 || (current && live.is_none());
    if to_live && live.is_none() {
        return Err(ErrorDomain::DOMAIN.operation_invalid("domain is not running"));
    }
    if to_stored && stored.is_none() {
        let text = "transient domains do not have any persistent config";
        return Err(ErrorDomain::DOMAIN.operation_invalid(text));
    }
    let changed = |domain: &Domain| change(domain, event, action);
    let of_run = match live.filter(|_| to_live) {
        Some(live) => Some((changed(&live.domain)?, live)),
        None => None,
    };
    let of_next = stored.filter(|_| to_stored).as_ref().map(changed).transpose()?;
    if let Some((domain, live)) = of_run {
        let end = domain.on_reboot == Some(LifecycleAction::Destroy);
        if end != (live.domain.on_reboot == Some(LifecycleAction::Destroy)) {
            let reboot = Some(if end { "shutdown" } else { "reset" }.to_owned());
            live.monitor.execute(&SetAction { reboot, ..SetAction::default() }).await.map_err(monitor)?;
        }
        guest.lock().live.as_mut().ok_or_else(not_running)?.domain = domain.into();
        driver.save_status(&guest);
    }
    of_next.map_or(Ok(()), |domain| replace(driver, &guest, domain))
}

/// What the client's numbers mean, where they go together.
fn meant(event: u32, action: u32) -> Result<(usize, LifecycleAction)> {
    let refused = |what: &str, number| {
        Err(ErrorDomain::DOMAIN.invalid_arg(format_args!("invalid lifecycle {what} '{number}'")))
    };
    let event_at = event as usize;
    let Some(word) = EVENTS.get(event_at) else { return refused("type", event) };
    let Some(&meant) = ACTIONS.get(action as usize) else { return refused("action", action) };
    if event_at != CRASH
        && matches!(meant, LifecycleAction::CoredumpDestroy | LifecycleAction::CoredumpRestart)
    {
        let text = format_args!("Lifecycle event '{word}' doesn't support '{}' action", meant.as_str());
        return Err(ErrorDomain::DOMAIN.config_unsupported(text));
    }
    Ok((event_at, meant))
}

/// A definition with the action in it, if QEMU has such a thing.
fn change(domain: &Domain, event: usize, action: LifecycleAction) -> Result<Domain> {
    let mut changed = domain.clone();
    let place = match event {
        0 => &mut changed.on_poweroff,
        1 => &mut changed.on_reboot,
        _ => &mut changed.on_crash,
    };
    *place = Some(action);
    if event != CRASH && matches!(action, LifecycleAction::Preserve | LifecycleAction::RenameRestart) {
        return Err(QEMU.config_unsupported(format_args!(
            "qemu driver doesn't support the '{}' action for 'on_reboot'/'on_poweroff'",
            action.as_str()
        )));
    }
    if changed.on_reboot == Some(LifecycleAction::Destroy)
        && changed.on_poweroff == Some(LifecycleAction::Restart)
    {
        return Err(QEMU.config_unsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'",
        ));
    }
    Ok(changed)
}
