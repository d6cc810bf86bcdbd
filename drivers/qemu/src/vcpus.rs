//! How many virtual processors a guest has, changed.

use serde_json::{Map, Value};
use virtwire_conf::Domain;
use virtwire_conf::domain::tune::Vcpu;
use virtwire_protocol::remote::*;

use crate::absent::no_agent;
use crate::audit;
use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::info::one_definition;

/// `VIR_DOMAIN_VCPU_…`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const MAXIMUM: u32 = 4;
const GUEST: u32 = 8;

pub(crate) async fn set(driver: &Qemu, args: DomainSetVcpusArgs) -> Result<()> {
    set_flags(driver, DomainSetVcpusFlagsArgs { dom: args.dom, nvcpus: args.nvcpus, flags: LIVE }).await
}

pub(crate) async fn set_flags(driver: &Qemu, args: DomainSetVcpusFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG | MAXIMUM | GUEST, "qemuDomainSetVcpusFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    one_definition(&guest.lock(), args.flags)?;
    let live = guest.lock().live.clone();
    if args.flags & GUEST != 0 {
        return Err(no_agent(&guest.live()?.domain));
    }
    if args.flags & MAXIMUM != 0 {
        return maximum(driver, &guest, args.nvcpus);
    }
    let to_live = args.flags & LIVE != 0 || args.flags & CONFIG == 0;
    let (stored, live) = (guest.lock().next(), live.filter(|_| to_live));
    let changes_stored = args.flags & CONFIG != 0 || live.is_none();
    if let Some(live) = &live {
        check(&live.domain, args.nvcpus, "live")?;
    }
    let changed = match stored.filter(|_| changes_stored) {
        Some(stored) => {
            check(&stored, args.nvcpus, "persistent")?;
            Some(with_current(&stored, args.nvcpus))
        }
        None => None,
    };
    if let Some(live) = &live {
        let plugged = plug(live, args.nvcpus).await;
        let (old, new) = (counts(&live.domain).0.into(), args.nvcpus.into());
        driver.audit(&guest.handle(), plugged.is_ok(), [audit::count("vcpu", "update", old, new)]);
        plugged?;
        if let Some(of_guest) = &mut guest.lock().live {
            of_guest.domain = with_current(&live.domain, args.nvcpus).into();
        }
        driver.save_status(&guest);
    }
    changed.map_or(Ok(()), |changed| replace(driver, &guest, changed))
}

pub(crate) fn counts(domain: &Domain) -> (u32, u32) {
    let maximum = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    (domain.vcpu.as_ref().and_then(|vcpu| vcpu.current).unwrap_or(maximum), maximum)
}

fn check(domain: &Domain, count: u32, which: &str) -> Result<()> {
    let (_, maximum) = counts(domain);
    if count > maximum {
        return Err(QEMU.invalid_arg(format_args!(
            "requested vcpus is greater than max allowable vcpus for the {which} domain: {count} > {maximum}"
        )));
    }
    Ok(())
}

fn with_current(domain: &Domain, count: u32) -> Domain {
    let mut domain = domain.clone();
    let (_, maximum) = counts(&domain);
    let vcpu = domain.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    vcpu.current = (count < maximum).then_some(count);
    domain
}

/// The most that the stored guest may have; those that it has stay, as far as they can.
fn maximum(driver: &Qemu, guest: &Guest, count: u32) -> Result<()> {
    let stored = guest.lock().next().ok_or_else(not_running)?;
    let (current, _) = counts(&stored);
    let mut changed = (*stored).clone();
    let vcpu = changed.vcpu.get_or_insert_with(Vcpu::default);
    vcpu.count = count;
    vcpu.current = (current < count).then_some(current);
    replace(driver, guest, changed)
}

/// Plugs processors into a running guest until it has `count`. Those that it started with cannot be taken out.
async fn plug(live: &Live, count: u32) -> Result<()> {
    let (mut current, _) = counts(&live.domain);
    let none = || {
        QEMU.config_unsupported(
            "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count",
        )
    };
    if count < current {
        return Err(none());
    }
    if count == current {
        return Ok(());
    }
    let slots = live.monitor.execute_raw("query-hotpluggable-cpus", &Map::new()).await.map_err(monitor)?;
    let slots: Vec<Value> = serde_json::from_str(slots.get()).map_err(|error| QEMU.internal_error(error))?;
    let mut free: Vec<&Value> = slots.iter().filter(|slot| slot.get("qom-path").is_none()).collect();
    // QEMU lists the last one first.
    free.reverse();
    let mut free = free.into_iter();
    while current < count {
        let slot = free.next().ok_or_else(none)?;
        let mut device = slot["props"].as_object().cloned().unwrap_or_default();
        device.insert("driver".to_owned(), slot["type"].clone());
        device.insert("id".to_owned(), format!("vcpu{current}").into());
        live.monitor.execute_raw("device_add", &device).await.map_err(monitor)?;
        let own = slot["vcpus-count"].as_u64().and_then(|count| u32::try_from(count).ok());
        current += own.unwrap_or(1).max(1);
    }
    Ok(())
}
