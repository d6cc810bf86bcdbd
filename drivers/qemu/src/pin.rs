//! Where a guest's threads run on the host.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{EmulatorPin, VcpuPin};
use virtwire_conf::table::Cpuset;
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::QueryCpusFast;

use crate::affect::{Affected, CONFIG, LIVE, edit_live, store, tell};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Guest;
use crate::info::one_definition;
use crate::vcpus::counts;

/// The set that a map stands for.
///
/// # Errors
/// There is nothing in it.
pub(crate) fn of_map(map: &[u8]) -> Result<Cpuset> {
    let set = Cpuset::from_map(map);
    if set.0.is_empty() {
        return Err(QEMU.invalid_arg("Empty cpu list for pinning"));
    }
    Ok(set)
}

/// Every processor of the host, in a map of so many bytes.
pub(crate) fn everywhere(driver: &Qemu, bytes: usize) -> Vec<u8> {
    Cpuset::first(driver.shared.host.cpus().len() as u32).to_map(bytes)
}

fn thread_of(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Where a thread of the host may run, as a map of so many bytes.
pub(crate) fn affinity(thread: u32, bytes: usize) -> Option<Vec<u8>> {
    let set = sched_getaffinity(thread_of(thread)).ok()?;
    let mut map = vec![0; bytes];
    for (at, byte) in map.iter_mut().enumerate() {
        *byte = (0..8).filter(|bit| set.is_set(at * 8 + bit)).fold(0, |byte, bit| byte | 1 << bit);
    }
    Some(map)
}

/// Says where a thread of a process may run.
///
/// # Errors
/// The host has none of these processors, or the process has no such thread: a QEMU that a guest has taken over may name
/// any.
pub(crate) fn pin_thread(process: u32, thread: u32, cpuset: &Cpuset) -> Result<()> {
    let mut set = CpuSet::new();
    cpuset.iter().filter(|cpu| (*cpu as usize) < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu as usize));
    let own = std::fs::exists(format!("/proc/{process}/task/{thread}")).unwrap_or(false);
    let moved = match thread_of(thread).filter(|_| own) {
        Some(thread) => sched_setaffinity(Some(thread), &set),
        None => Err(rustix::io::Errno::SRCH),
    };
    moved.map_err(|error| {
        VirtError::system(
            ErrorDomain::NONE,
            &error.into(),
            format_args!("cannot set CPU affinity on process {thread}"),
        )
    })
}

/// Tells that a thread of a run is pinned.
pub(crate) fn pinned(driver: &Qemu, guest: &Guest, what: &str, cpuset: &Cpuset) {
    tell(driver, guest, vec![TypedParam::new(format!("cputune.{what}"), cpuset.to_string())]);
}

pub(crate) async fn vcpu(driver: &Qemu, args: DomainPinVcpuArgs) -> Result<()> {
    let DomainPinVcpuArgs { dom, vcpu, cpumap } = args;
    vcpu_flags(driver, DomainPinVcpuFlagsArgs { dom, vcpu, cpumap, flags: LIVE }).await
}

pub(crate) async fn vcpu_flags(driver: &Qemu, args: DomainPinVcpuFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainPinVcpuFlags")?;
    let number = args.vcpu;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let beyond = |which: &str, count: u32| match number < count {
        true => Ok(()),
        false => Err(QEMU.invalid_arg(format_args!(
            "vcpu {} is out of range of {which} cpu count {count}",
            number as i32
        ))),
    };
    if let Some(live) = &live {
        beyond("live", counts(&live.domain).1)?;
    }
    if let Some(stored) = &stored {
        beyond("persistent", counts(stored).0)?;
    }
    let cpuset = of_map(&args.cpumap)?;
    let change = |domain: &mut Domain| {
        let pins = &mut domain.cputune.get_or_insert_default().vcpupin;
        pins.retain(|pin| pin.vcpu != number);
        pins.push(VcpuPin { vcpu: number, cpuset: Some(cpuset.clone()) });
        pins.sort_by_key(|pin| pin.vcpu);
    };
    if let Some(live) = live {
        let threads = live.monitor.execute(&QueryCpusFast {}).await.map_err(monitor)?;
        if let Some(thread) = threads.iter().find(|thread| thread.cpu_index == number) {
            live.group.part(&format!("vcpu{number}")).set_cpus(&cpuset)?;
            pin_thread(live.process.pid(), thread.thread_id, &cpuset)?;
        }
        edit_live(driver, &guest, change);
        pinned(driver, &guest, &format!("vcpupin{number}"), &cpuset);
    }
    store(driver, &guest, stored, |domain| {
        change(domain);
        Ok(())
    })
}

pub(crate) async fn emulator(driver: &Qemu, args: DomainPinEmulatorArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainPinEmulator")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let cpuset = of_map(&args.cpumap)?;
    let change = |domain: &mut Domain| {
        let pin = EmulatorPin { cpuset: Some(cpuset.clone()) };
        domain.cputune.get_or_insert_default().emulatorpin = Some(pin);
    };
    if let Some(live) = live {
        crate::tune::pin_emulator(&live.group, live.process.pid(), &cpuset)?;
        edit_live(driver, &guest, change);
        pinned(driver, &guest, "emulatorpin", &cpuset);
    }
    store(driver, &guest, stored, |domain| {
        change(domain);
        Ok(())
    })
}

pub(crate) async fn emulator_info(
    driver: &Qemu,
    args: DomainGetEmulatorPinInfoArgs,
) -> Result<DomainGetEmulatorPinInfoRet> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetEmulatorPinInfo")?;
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let bytes = usize::try_from(args.maplen).unwrap_or_default();
    let own = domain.cputune.as_ref().and_then(|tune| tune.emulatorpin.as_ref()?.cpuset.as_ref());
    let cpumaps = map_of(driver, &domain, own, bytes);
    Ok(DomainGetEmulatorPinInfoRet { cpumaps, ret: 1 })
}

/// Where a thread is pinned, or where the whole guest is.
fn map_of(driver: &Qemu, domain: &Domain, own: Option<&Cpuset>, bytes: usize) -> Vec<u8> {
    let of_guest = domain.vcpu.as_ref().and_then(|vcpu| vcpu.cpuset.as_ref());
    own.or(of_guest).map_or_else(|| everywhere(driver, bytes), |set| set.to_map(bytes))
}

pub(crate) async fn vcpu_info(
    driver: &Qemu,
    args: DomainGetVcpuPinInfoArgs,
) -> Result<DomainGetVcpuPinInfoRet> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetVcpuPinInfo")?;
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let count = counts(&domain).1.min(args.ncpumaps.try_into().unwrap_or_default());
    let bytes = usize::try_from(args.maplen).unwrap_or_default();
    let pin = |number: u32| {
        let mut pins = domain.cputune.iter().flat_map(|tune| &tune.vcpupin);
        pins.find(|pin| pin.vcpu == number).and_then(|pin| pin.cpuset.as_ref())
    };
    let cpumaps = (0..count).flat_map(|number| map_of(driver, &domain, pin(number), bytes)).collect();
    Ok(DomainGetVcpuPinInfoRet { cpumaps, num: count as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let own = std::process::id();
        let may = of_map(&affinity(own, 128).unwrap()).unwrap();
        let one = Cpuset(may.0.first().map(|(first, _)| (*first, *first)).into_iter().collect());
        pin_thread(own, own, &one).unwrap();
        assert_eq!(of_map(&affinity(own, 128).unwrap()).unwrap(), one);
        pin_thread(own, own, &may).unwrap();
        assert!(pin_thread(own, 1, &may).is_err(), "another's thread");
    }
}
