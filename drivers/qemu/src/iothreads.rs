//! Threads of a guest for I/O: added, removed, set up and pinned.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{Iothread, IothreadIds, IothreadPin, IothreadPoll};
use virtwire_conf::table::Positive;
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{ObjectAdd, ObjectDel, QomSet, QueryIothreads};
use virtwire_qmp::replies::IoThreadInfo;

use crate::affect::{Affected, CONFIG, LIVE, edit_live, store};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Live;
use crate::info::{map_len, one_definition};
use crate::pin::{affinity, everywhere, of_map, pin_thread, pinned};
use crate::tune::place_iothread;

/// The numbers of a guest's threads.
pub(crate) fn numbers(domain: &Domain) -> Vec<u32> {
    let mut numbers: Vec<u32> = domain.all_iothreads().iter().map(|thread| thread.id.get()).collect();
    numbers.sort_unstable();
    numbers
}

fn set(domain: &mut Domain, iothread: Vec<Iothread>) {
    domain.iothreads = (!iothread.is_empty()).then_some(iothread.len() as u32);
    domain.iothreadids = (!iothread.is_empty()).then_some(IothreadIds { iothread });
}

/// QEMU's name of a thread.
fn name(id: u32) -> String {
    format!("iothread{id}")
}

/// The thread of the host that one is.
async fn on_host(live: &Live, id: u32) -> Result<Option<u32>> {
    let known = live.monitor.execute(&QueryIothreads {}).await.map_err(monitor)?;
    Ok(known.iter().find(|thread| thread.id == name(id)).map(|thread| thread.thread_id))
}

pub(crate) async fn info(driver: &Qemu, args: DomainGetIothreadInfoArgs) -> Result<DomainGetIothreadInfoRet> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetIOThreadInfo")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let live = guest.lock().live.clone().filter(|_| args.flags & CONFIG == 0);
    let bytes = map_len(driver.shared.host.cpus().len());
    let info = match &live {
        Some(live) => of_run(live, driver, bytes).await?,
        None => of_definition(&domain, driver, bytes),
    };
    Ok(DomainGetIothreadInfoRet { ret: info.len() as u32, info })
}

/// What a definition says of its threads.
fn of_definition(domain: &Domain, driver: &Qemu, bytes: usize) -> Vec<DomainIothreadInfo> {
    let pin = |id: u32| {
        let mut pins = domain.cputune.iter().flat_map(|tune| &tune.iothreadpin);
        Some(pins.find(|pin| pin.iothread == id)?.cpuset.as_ref()?.to_map(bytes))
    };
    let cpumap = |id| pin(id).unwrap_or_else(|| everywhere(driver, bytes));
    let all = numbers(domain).into_iter();
    all.map(|iothread_id| DomainIothreadInfo { iothread_id, cpumap: cpumap(iothread_id) }).collect()
}

/// Where the threads of a running guest are, in QEMU's order.
async fn of_run(live: &Live, driver: &Qemu, bytes: usize) -> Result<Vec<DomainIothreadInfo>> {
    let known = live.monitor.execute(&QueryIothreads {}).await.map_err(monitor)?;
    let info = |thread: IoThreadInfo| {
        let iothread_id = thread.id.strip_prefix("iothread")?.parse().ok()?;
        let cpumap = affinity(thread.thread_id, bytes).unwrap_or_else(|| everywhere(driver, bytes));
        Some(DomainIothreadInfo { iothread_id, cpumap })
    };
    Ok(known.into_iter().filter_map(info).collect())
}

/// How the threads of a running guest wait for work.
pub(crate) async fn stats(live: &Live) -> Vec<TypedParam> {
    let Ok(said) = live.monitor.execute_raw("query-iothreads", &Map::new()).await else { return Vec::new() };
    let all: Vec<Value> = serde_json::from_str(said.get()).unwrap_or_default();
    if all.is_empty() {
        return Vec::new();
    }
    let mut params = vec![TypedParam::new("iothread.count", all.len() as u32)];
    for thread in &all {
        let Some(id) = thread["id"].as_str().and_then(|id| id.strip_prefix("iothread")) else { continue };
        let number = |name: &str| thread[name].as_u64().unwrap_or_default();
        params.push(TypedParam::new(format!("iothread.{id}.poll-max-ns"), number("poll-max-ns")));
        params.push(TypedParam::new(format!("iothread.{id}.poll-grow"), number("poll-grow") as u32));
        params.push(TypedParam::new(format!("iothread.{id}.poll-shrink"), number("poll-shrink") as u32));
    }
    params
}

fn check_number(id: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(id).ok_or_else(|| QEMU.invalid_arg("invalid value of 0 for iothread_id"))
}

fn check_new(domain: &Domain, id: u32) -> Result<()> {
    if numbers(domain).contains(&id) {
        let text = format_args!("an IOThread is already using iothread_id '{id}'");
        return Err(ErrorDomain::DOMAIN.invalid_arg(text));
    }
    Ok(())
}

fn with(domain: &mut Domain, id: NonZeroU32) {
    let mut all = domain.all_iothreads();
    all.push(Iothread { id: Positive(id), ..Iothread::default() });
    set(domain, all);
}

pub(crate) async fn add(driver: &Qemu, args: DomainAddIothreadArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainAddIOThread")?;
    let id = check_number(args.iothread_id)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if let Some(live) = live {
        check_new(&live.domain, id.get())?;
        let object = json!({"qom-type": "iothread", "id": name(id.get())});
        let object = object.as_object().cloned().unwrap_or_default();
        live.monitor.execute(&ObjectAdd(object)).await.map_err(monitor)?;
        if let Some(thread) = on_host(&live, id.get()).await? {
            place_iothread(&live.group, &live.domain, live.process.pid(), id.get(), thread).await?;
        }
        edit_live(driver, &guest, |domain| with(domain, id));
    }
    store(driver, &guest, stored, |domain| {
        check_new(domain, id.get())?;
        with(domain, id);
        Ok(())
    })
}

/// A thread that there is, and that nothing needs.
fn check_free(domain: &Domain, id: u32) -> Result<()> {
    let refused = |text: std::fmt::Arguments<'_>| Err(ErrorDomain::DOMAIN.invalid_arg(text));
    if !numbers(domain).contains(&id) {
        return refused(format_args!("cannot find IOThread '{id}' in iothreadids list"));
    }
    for disk in &domain.devices.disks {
        if disk.driver.as_ref().and_then(|driver| driver.iothread) == Some(id) {
            let target = disk.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
            return refused(format_args!(
                "cannot remove IOThread {id} since it is being used by disk '{target}'"
            ));
        }
    }
    for controller in &domain.devices.controllers {
        if controller.driver.as_ref().and_then(|driver| driver.iothread) == Some(id) {
            let index = controller.index.unwrap_or_default();
            return refused(format_args!(
                "cannot remove IOThread {id} since it is being used by controller '{index}'"
            ));
        }
    }
    Ok(())
}

fn without(domain: &mut Domain, id: u32) {
    let left = domain.all_iothreads().into_iter().filter(|thread| thread.id.get() != id).collect();
    set(domain, left);
    if let Some(tune) = &mut domain.cputune {
        tune.iothreadpin.retain(|pin| pin.iothread != id);
    }
}

pub(crate) async fn delete(driver: &Qemu, args: DomainDelIothreadArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDelIOThread")?;
    let id = check_number(args.iothread_id)?.get();
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if let Some(live) = live {
        check_free(&live.domain, id)?;
        live.monitor.execute(&ObjectDel { id: name(id) }).await.map_err(monitor)?;
        live.group.part(&name(id)).remove_when_empty();
        edit_live(driver, &guest, |domain| without(domain, id));
    }
    store(driver, &guest, stored, |domain| {
        check_free(domain, id)?;
        without(domain, id);
        Ok(())
    })
}

const PARAMS: [(&str, Kind); 5] = [
    ("poll_max_ns", Kind::Ullong),
    ("poll_grow", Kind::Uint),
    ("poll_shrink", Kind::Uint),
    ("thread_pool_min", Kind::Int),
    ("thread_pool_max", Kind::Int),
];

/// What a client wants of a thread; what it does not name stays.
struct Wanted {
    poll: [Option<u64>; 3],
    pool: [Option<i32>; 2],
}

impl Wanted {
    fn read(all: &[TypedParam]) -> Result<Self> {
        params::validate(all, &PARAMS)?;
        let number = |name| params::number(all, name);
        let int = |name| params::int(all, name);
        Ok(Self {
            poll: ["poll_max_ns", "poll_grow", "poll_shrink"].map(number),
            pool: ["thread_pool_min", "thread_pool_max"].map(int),
        })
    }

    /// The thread as it is to be.
    fn applied(&self, thread: &Iothread) -> Result<Iothread> {
        let mut thread = thread.clone();
        let [max, grow, shrink] = self.poll;
        if self.poll.iter().any(Option::is_some) {
            let poll = thread.poll.get_or_insert_with(IothreadPoll::default);
            poll.max = max.or(poll.max);
            poll.grow = grow.or(poll.grow);
            poll.shrink = shrink.or(poll.shrink);
        }
        let [min, max] = self.pool;
        thread.thread_pool_min = min.or(thread.thread_pool_min);
        thread.thread_pool_max = max.or(thread.thread_pool_max);
        // -1 is what is not said.
        let (least, most) = (thread.thread_pool_min.unwrap_or(-1), thread.thread_pool_max.unwrap_or(-1));
        if self.pool.iter().any(Option::is_some) && least > most {
            let text =
                format_args!("thread_pool_min ({least}) can't be greater than thread_pool_max ({most})");
            return Err(QEMU.operation_invalid(text));
        }
        Ok(thread)
    }

    fn change(&self, domain: &mut Domain, id: u32) -> Result<()> {
        let mut all = domain.all_iothreads();
        let thread = all.iter_mut().find(|thread| thread.id.get() == id).ok_or_else(|| missing(id))?;
        *thread = self.applied(thread)?;
        set(domain, all);
        Ok(())
    }

    /// QEMU's properties, in an order in which each step is possible.
    fn properties(&self, now: &Iothread) -> Vec<(&'static str, Value)> {
        let [max_ns, grow, shrink] = self.poll.map(|value| value.map(Value::from));
        let [min, max] = self.pool.map(|value| value.map(Value::from));
        let shrinks = self.pool[1].is_some_and(|max| max < now.thread_pool_min.unwrap_or(0));
        let mut all = vec![("poll-max-ns", max_ns), ("poll-grow", grow), ("poll-shrink", shrink)];
        all.extend([("thread-pool-max", max), ("thread-pool-min", min)]);
        if shrinks {
            all.swap(3, 4);
        }
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn missing(id: u32) -> VirtError {
    QEMU.invalid_arg(format_args!("cannot find IOThread '{id}' in iothreadids"))
}

pub(crate) async fn set_params(driver: &Qemu, args: DomainSetIothreadParamsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetIOThreadParams")?;
    let id = check_number(args.iothread_id)?.get();
    let wanted = Wanted::read(&args.params)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if let Some(live) = live {
        let all = live.domain.all_iothreads();
        let now = all.iter().find(|thread| thread.id.get() == id).ok_or_else(|| missing(id))?;
        for (name, value) in ["thread_pool_min", "thread_pool_max"].iter().zip(wanted.pool) {
            if let Some(value) = value.filter(|value| *value < 0) {
                let text =
                    format_args!("{name} ({value}) must be equal to or greater than 0 for live change");
                return Err(QEMU.operation_invalid(text));
            }
        }
        let then = wanted.applied(now)?;
        for (property, value) in wanted.properties(now) {
            let set = QomSet { path: format!("/objects/{}", name(id)), property: property.to_owned(), value };
            live.monitor.execute(&set).await.map_err(monitor)?;
        }
        edit_live(driver, &guest, |domain| {
            let mut all = domain.all_iothreads();
            all.iter_mut().filter(|thread| thread.id.get() == id).for_each(|thread| *thread = then.clone());
            set(domain, all);
        });
    }
    store(driver, &guest, stored, |domain| wanted.change(domain, id))
}

pub(crate) async fn pin(driver: &Qemu, args: DomainPinIothreadArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainPinIOThread")?;
    let id = args.iothreads_id;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let cpuset = of_map(&args.cpumap)?;
    let change = |domain: &mut Domain| {
        let pins = &mut domain.cputune.get_or_insert_default().iothreadpin;
        pins.retain(|pin| pin.iothread != id);
        pins.push(IothreadPin { iothread: id, cpuset: Some(cpuset.clone()) });
        pins.sort_by_key(|pin| pin.iothread);
    };
    if let Some(live) = live {
        let none = || QEMU.invalid_arg(format_args!("iothread {id} not found"));
        let known = numbers(&live.domain).contains(&id);
        let thread = if known { on_host(&live, id).await? } else { None };
        let thread = thread.ok_or_else(none)?;
        live.group.part(&name(id)).set_cpus(&cpuset)?;
        pin_thread(live.process.pid(), thread, &cpuset)?;
        edit_live(driver, &guest, change);
        pinned(driver, &guest, &format!("iothreadpin{id}"), &cpuset);
    }
    store(driver, &guest, stored, |domain| {
        if !numbers(domain).contains(&id) {
            return Err(QEMU.invalid_arg(format_args!("iothreadid {id} not found")));
        }
        change(domain);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(ids: &[u32], count: u32) -> Domain {
        let mut domain = Domain::default();
        set(
            &mut domain,
            ids.iter()
                .filter_map(|id| NonZeroU32::new(*id))
                .map(|id| Iothread { id: Positive(id), ..Iothread::default() })
                .collect(),
        );
        domain.iothreads = Some(count);
        domain
    }

    #[test]
    fn threads_that_are_only_counted_get_the_lowest_free_numbers() {
        assert_eq!(numbers(&numbered(&[2, 7], 4)), [1, 2, 3, 7]);
        assert_eq!(numbers(&Domain::default()), [] as [u32; 0]);
    }

    #[test]
    fn the_last_thread_leaves_nothing_behind() {
        let mut domain = numbered(&[3], 1);
        without(&mut domain, 3);
        assert!(domain.iothreads.is_none() && domain.iothreadids.is_none());
        assert!(check_free(&domain, 3).is_err());
    }

    #[test]
    fn a_pool_shrinks_from_below_and_grows_from_above() {
        let wanted = Wanted { poll: [None; 3], pool: [Some(1), Some(2)] };
        let names = |now: &Iothread| wanted.properties(now).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let small = Iothread::default();
        assert_eq!(names(&small), ["thread-pool-max", "thread-pool-min"]);
        let large = Iothread { thread_pool_min: Some(4), ..Iothread::default() };
        assert_eq!(names(&large), ["thread-pool-min", "thread-pool-max"]);
        assert!(Wanted { poll: [None; 3], pool: [Some(5), None] }.applied(&small).is_err());
    }
}
