//! The virtual processors of a guest, how many and each alone, changed.

use std::time::Duration;

use serde_json::{Map, Value};
use virtwire_conf::domain::tune::{Vcpu, VcpuState, Vcpus};
use virtwire_conf::table::Cpuset;
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{DeviceDel, QueryCpusFast};

use crate::affect::{Affected, edit_live, store};
use crate::agent;
use crate::audit;
use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::info::one_definition;
use crate::tune::place_vcpu;

/// `VIR_DOMAIN_VCPU_…`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const MAXIMUM: u32 = 4;
const GUEST: u32 = 8;
const HOTPLUGGABLE: u32 = 16;

pub(crate) async fn set(driver: &Qemu, args: DomainSetVcpusArgs) -> Result<()> {
    set_flags(driver, DomainSetVcpusFlagsArgs { dom: args.dom, nvcpus: args.nvcpus, flags: LIVE }).await
}

pub(crate) async fn set_flags(driver: &Qemu, args: DomainSetVcpusFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG | MAXIMUM | GUEST | HOTPLUGGABLE, "qemuDomainSetVcpusFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    one_definition(&guest.lock(), args.flags)?;
    let live = guest.lock().live.clone();
    if args.flags & GUEST != 0 {
        agent::check(&guest)?;
        let (current, _) = counts(&guest.live()?.domain);
        if args.nvcpus > current {
            return Err(QEMU.invalid_arg(format_args!(
                "requested vcpu count is greater than the count of enabled vcpus in the domain: {} > {current}",
                args.nvcpus
            )));
        }
        return agent::set_vcpu_count(&guest, args.nvcpus).await;
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
            let mut changed = Domain::clone(&stored);
            with_current(&mut changed, args.nvcpus, args.flags & HOTPLUGGABLE != 0);
            Some(changed)
        }
        None => None,
    };
    if let Some(live) = &live {
        let (old, new) = (counts(&live.domain).0.into(), args.nvcpus.into());
        let done = to_count(driver, &guest, live, args.nvcpus).await;
        driver.audit(&guest.handle(), done.is_ok(), [audit::count("vcpu", "update", old, new)]);
        done?;
    }
    changed.map_or(Ok(()), |changed| replace(driver, &guest, changed))
}

/// How many processors a guest has, and how many it can have.
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

/// The most processors of which a definition says something of each alone.
const MOST: u32 = 4096;

/// Each processor alone; where the definition does not say it, the first are there and the others can come.
fn each(domain: &Domain) -> Vec<VcpuState> {
    let (current, maximum) = counts(domain);
    let derived = || {
        (0..maximum.min(MOST)).map(|id| VcpuState {
            id,
            enabled: yes_no(id < current),
            hotpluggable: Some(yes_no(id >= current)),
            ..VcpuState::default()
        })
    };
    domain.vcpus.as_ref().map_or_else(|| derived().collect(), |vcpus| vcpus.vcpu.clone())
}

fn yes_no(is: bool) -> YesNo {
    if is { YesNo::Yes } else { YesNo::No }
}

fn is_on(vcpu: &VcpuState) -> bool {
    vcpu.enabled == YesNo::Yes
}

/// The processors that a running guest has.
pub(crate) fn running(domain: &Domain) -> impl Iterator<Item = u32> {
    each(domain).into_iter().filter(is_on).map(|vcpu| vcpu.id)
}

fn can_come(vcpu: &VcpuState) -> bool {
    vcpu.hotpluggable == Some(YesNo::Yes)
}

/// Writes down how many processors there are.
fn put_count(domain: &mut Domain, count: u32) {
    let (_, maximum) = counts(domain);
    let vcpu = domain.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    vcpu.current = (count < maximum).then_some(count);
}

/// A definition with each processor as it is in a list.
fn put(domain: &mut Domain, vcpus: Vec<VcpuState>) {
    let count = vcpus.iter().filter(|vcpu| is_on(vcpu)).count();
    put_count(domain, u32::try_from(count).unwrap_or(u32::MAX));
    domain.vcpus = Some(Vcpus { vcpu: vcpus });
}

/// A stored definition with so many processors: the first that are not there come, the last go.
fn with_current(domain: &mut Domain, count: u32, hotpluggable: bool) {
    if domain.vcpus.is_none() && !hotpluggable {
        return put_count(domain, count);
    }
    let mut vcpus = each(domain);
    let on = vcpus.iter().filter(|vcpu| is_on(vcpu)).count();
    let (more, fewer) = ((count as usize).saturating_sub(on), on.saturating_sub(count as usize));
    for vcpu in vcpus.iter_mut().filter(|vcpu| !is_on(vcpu)).take(more) {
        vcpu.enabled = YesNo::Yes;
        vcpu.hotpluggable = Some(yes_no(hotpluggable));
    }
    for vcpu in vcpus.iter_mut().rev().filter(|vcpu| is_on(vcpu)).take(fewer) {
        vcpu.enabled = YesNo::No;
        vcpu.hotpluggable = Some(YesNo::Yes);
    }
    let before = domain.vcpus.take();
    put_count(domain, count);
    // What goes without saying is not said.
    if before.is_some() || vcpus != each(domain) {
        put(domain, vcpus);
    }
}

/// The most that the stored guest may have; those that it has stay, as far as they can.
fn maximum(driver: &Qemu, guest: &Guest, count: u32) -> Result<()> {
    let stored = guest.lock().next().ok_or_else(not_running)?;
    let (current, _) = counts(&stored);
    let mut changed = (*stored).clone();
    let vcpu = changed.vcpu.get_or_insert_with(Vcpu::default);
    vcpu.count = count;
    vcpu.current = (current < count).then_some(current);
    changed.vcpus = None;
    replace(driver, guest, changed)
}

fn none_fits() -> VirtError {
    let text = "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count";
    QEMU.config_unsupported(text)
}

/// Plugs processors into a running guest, or takes out some that were plugged in, until it has `count`.
async fn to_count(driver: &Qemu, guest: &Guest, live: &Live, count: u32) -> Result<()> {
    let (current, _) = counts(&live.domain);
    let vcpus = each(&live.domain);
    let more = count.saturating_sub(current) as usize;
    let fewer = current.saturating_sub(count) as usize;
    let coming = vcpus.iter().filter(|vcpu| !is_on(vcpu) && can_come(vcpu)).take(more);
    let coming: Vec<_> = coming.map(|vcpu| vcpu.id).collect();
    let going = vcpus.iter().rev().filter(|vcpu| is_on(vcpu) && can_come(vcpu)).take(fewer);
    let going: Vec<_> = going.map(|vcpu| vcpu.id).collect();
    if coming.len() < more || going.len() < fewer {
        return Err(none_fits());
    }
    for id in coming {
        plug(driver, guest, live, id).await?;
    }
    for id in going {
        unplug(guest, live, id).await?;
    }
    Ok(())
}

/// The name of a processor that was plugged in.
fn alias(id: u32) -> String {
    format!("vcpu{id}")
}

/// Plugs in a processor.
async fn plug(driver: &Qemu, guest: &Guest, live: &Live, id: u32) -> Result<()> {
    let slots = live.monitor.execute_raw("query-hotpluggable-cpus", &Map::new()).await.map_err(monitor)?;
    let slots: Vec<Value> = serde_json::from_str(slots.get()).map_err(|error| QEMU.internal_error(error))?;
    // QEMU lists the last one first.
    let mut first = 0;
    let slot = slots.iter().rev().find(|slot| {
        let own = slot["vcpus-count"].as_u64().unwrap_or(1).max(1);
        first += own;
        first > u64::from(id)
    });
    let slot = slot.filter(|slot| slot.get("qom-path").is_none()).ok_or_else(none_fits)?;
    let mut device = slot["props"].as_object().cloned().unwrap_or_default();
    device.insert("driver".to_owned(), slot["type"].clone());
    device.insert("id".to_owned(), alias(id).into());
    live.monitor.execute_raw("device_add", &device).await.map_err(monitor)?;
    let threads = live.monitor.execute(&QueryCpusFast {}).await.map_err(monitor)?;
    if let Some(thread) = threads.iter().find(|thread| thread.cpu_index == id) {
        place_vcpu(&live.group, &live.domain, live.process.pid(), id, thread.thread_id).await?;
    }
    edit_live(driver, guest, |domain| switch(domain, id, true));
    Ok(())
}

/// Says in which order the processors of a run came, where nothing is said of it.
pub(crate) fn order(vcpus: &mut [VcpuState]) {
    let last = vcpus.iter().filter_map(|vcpu| vcpu.order).max().unwrap_or_default();
    let on = vcpus.iter_mut().filter(|vcpu| is_on(vcpu) && vcpu.order.is_none());
    on.zip(last + 1..).for_each(|(vcpu, order)| vcpu.order = Some(order));
}

/// A processor of the running guest has come or gone.
fn switch(domain: &mut Domain, id: u32, on: bool) {
    let mut vcpus = each(domain);
    order(&mut vcpus);
    let last = vcpus.iter().filter_map(|vcpu| vcpu.order).max().unwrap_or_default();
    if let Some(vcpu) = vcpus.iter_mut().find(|vcpu| vcpu.id == id) {
        vcpu.enabled = yes_no(on);
        vcpu.order = on.then_some(last + 1);
    }
    put(domain, vcpus);
}

/// How long a guest may take to let a processor go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes out a processor, if the guest lets it go.
async fn unplug(guest: &Guest, live: &Live, id: u32) -> Result<()> {
    let mut gone = guest.vcpu_gone.subscribe();
    gone.mark_unchanged();
    live.monitor.execute(&DeviceDel { id: alias(id) }).await.map_err(monitor)?;
    let gone = tokio::time::timeout(PATIENCE, gone.wait_for(|gone| *gone == Some(id))).await;
    let late = "vcpu unplug request timed out. Unplug result must be manually inspected in the domain";
    gone.map(drop).map_err(|_| QEMU.operation_timeout(late))
}

impl Qemu {
    /// A device has left a running guest; if it is a processor, its definition follows.
    pub(crate) fn vcpu_unplugged(&self, guest: &Guest, device: &str) {
        let Some(id) = device.strip_prefix("vcpu").and_then(|id| id.parse().ok()) else { return };
        let known = |live: Live| each(&live.domain).iter().any(|vcpu| vcpu.id == id && is_on(vcpu));
        if guest.live().is_ok_and(known) {
            if let Ok(live) = guest.live() {
                live.group.part(device).remove_when_empty();
            }
            edit_live(self, guest, |domain| switch(domain, id, false));
            guest.vcpu_gone.send_replace(Some(id));
        }
    }
}

pub(crate) async fn set_one(driver: &Qemu, args: DomainSetVcpuArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetVcpu")?;
    let on = args.state == 1;
    if !matches!(args.state, 0 | 1) {
        return Err(QEMU.invalid_arg("unsupported state value"));
    }
    let text = args.cpumap.to_str_lossy();
    let wrong = || QEMU.invalid_arg(format_args!("Failed to parse bitmap '{text}'"));
    let wanted: Vec<_> = Cpuset::parse_text(&text).ok_or_else(wrong)?.iter().collect();
    if wanted.is_empty() {
        return Err(QEMU.invalid_arg("no vcpus selected for modification"));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let next = stored.as_ref().map(|stored| chosen(&each(stored), &wanted, on)).transpose()?;
    if let Some(live) = &live {
        let id = single(&each(&live.domain), &wanted, on)?;
        match on {
            true => plug(driver, &guest, live, id).await?,
            false => unplug(&guest, live, id).await?,
        }
    }
    store(driver, &guest, stored, |domain| {
        put(domain, next.unwrap_or_default());
        Ok(())
    })
}

fn missing(id: u32, which: &str) -> VirtError {
    QEMU.invalid_arg(format_args!("vcpu {id} is not present in {which} config"))
}

/// A processor of the running guest, if it is to be switched.
fn to_switch(vcpus: &[VcpuState], id: u32, on: bool) -> Result<&VcpuState> {
    let vcpu = vcpus.iter().find(|vcpu| vcpu.id == id).ok_or_else(|| missing(id, "live"))?;
    match is_on(vcpu) == on {
        true => Err(QEMU.invalid_arg(format_args!("vcpu '{id}' is already in requested state"))),
        false => Ok(vcpu),
    }
}

/// The one processor that comes to a running guest, or goes.
fn single(vcpus: &[VcpuState], wanted: &[u32], on: bool) -> Result<u32> {
    let mut found = None;
    for &id in wanted {
        let vcpu = to_switch(vcpus, id, on)?;
        if !on && !can_come(vcpu) {
            return Err(QEMU.operation_unsupported(format_args!("vcpu '{id}' can't be unplugged")));
        }
        if found.replace(id).is_some() {
            let text = "only one hotpluggable entity can be selected";
            return Err(QEMU.operation_unsupported(text));
        }
    }
    found.ok_or_else(none_fits)
}

/// The processors of a stored definition, some of them switched.
fn chosen(vcpus: &[VcpuState], wanted: &[u32], on: bool) -> Result<Vec<VcpuState>> {
    let mut new = vcpus.to_vec();
    for &id in wanted {
        if id == 0 {
            return Err(QEMU.invalid_arg("vCPU '0' can't be modified"));
        }
        if !vcpus.iter().any(|vcpu| vcpu.id == id) {
            return Err(missing(id, "persistent"));
        }
        let fixed =
            |vcpu: &&VcpuState| vcpu.id > id && is_on(vcpu) && !can_come(vcpu) && !wanted.contains(&vcpu.id);
        if vcpus.iter().any(|vcpu| fixed(&vcpu)) {
            return Err(QEMU.invalid_arg(format_args!(
                "vcpu '{id}' can't be modified as it is followed by non-hotpluggable online vcpus"
            )));
        }
        for vcpu in new.iter_mut().filter(|vcpu| vcpu.id == id) {
            vcpu.enabled = yes_no(on);
            vcpu.hotpluggable = Some(YesNo::Yes);
            vcpu.order = None;
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(current: u32, maximum: u32) -> Domain {
        let current = Some(current).filter(|current| *current < maximum);
        Domain { vcpu: Some(Vcpu { count: maximum, current, ..Vcpu::default() }), ..Domain::default() }
    }

    /// Each processor as a letter: there, could be there, both together; with its order.
    fn shown(vcpus: &[VcpuState]) -> String {
        let one = |vcpu: &VcpuState| match (is_on(vcpu), can_come(vcpu)) {
            (true, false) => format!("on{}", vcpu.order.unwrap_or(0)),
            (true, true) => format!("in{}", vcpu.order.unwrap_or(0)),
            (false, _) => "off".to_owned(),
        };
        vcpus.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn processors_that_come_to_a_run_are_counted() {
        let mut domain = domain(1, 3);
        assert_eq!(shown(&each(&domain)), "on0 off off");
        switch(&mut domain, 2, true);
        assert_eq!((shown(&each(&domain)), counts(&domain)), ("on1 off in2".to_owned(), (2, 3)));
        switch(&mut domain, 1, true);
        switch(&mut domain, 2, false);
        assert_eq!((shown(&each(&domain)), counts(&domain)), ("on1 in3 off".to_owned(), (2, 3)));
    }

    #[test]
    fn a_stored_definition_says_of_each_only_what_it_must() {
        let mut domain = domain(1, 3);
        with_current(&mut domain, 2, false);
        assert_eq!((domain.vcpus.is_none(), counts(&domain)), (true, (2, 3)));
        with_current(&mut domain, 3, true);
        assert_eq!(shown(&each(&domain)), "on0 on0 in0");
        with_current(&mut domain, 1, false);
        assert_eq!((shown(&each(&domain)), counts(&domain)), ("on0 off off".to_owned(), (1, 3)));
    }

    #[test]
    fn what_cannot_be_switched_is_refused() {
        let all = each(&domain(2, 4));
        let stored =
            |wanted: &[u32], on| chosen(&all, wanted, on).map(|it| shown(&it)).map_err(|e| e.message);
        assert_eq!(stored(&[2, 3], true), Ok("on0 on0 in0 in0".to_owned()));
        assert_eq!(stored(&[1], false), Ok("on0 off off off".to_owned()));
        assert!(stored(&[0], false).unwrap_err().contains("can't be modified"));
        assert_eq!(stored(&[1], true), Ok("on0 in0 off off".to_owned()));
        assert!(stored(&[9], true).unwrap_err().contains("not present in persistent config"));
        let three = chosen(&each(&domain(3, 4)), &[1], false);
        assert!(three.unwrap_err().message.contains("followed by non-hotpluggable online vcpus"));
        let live = |wanted: &[u32], on| single(&all, wanted, on).map_err(|e| e.message);
        assert_eq!(live(&[2], true), Ok(2));
        assert!(live(&[1], true).unwrap_err().contains("already in requested state"));
        assert!(live(&[1], false).unwrap_err().contains("can't be unplugged"));
        assert!(live(&[2, 3], true).unwrap_err().contains("only one hotpluggable entity"));
    }
}
