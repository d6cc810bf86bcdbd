//! How shares and limits are put into force when a guest starts.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{NumaMode, Scheduler};
use virtwire_conf::table::Cpuset;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{QueryCpusFast, QueryIothreads};

use super::memory::limits;
use super::numa::memory_of;
use super::scheduler::LIMITED;
use crate::cgroup::{Cgroups, Controller, Group, Memory, again};
use crate::error::{QEMU, Result, child, file, monitor};
use crate::pin::pin_thread;
use crate::process::helper;

/// Puts a guest that has just been started into its groups, and these under its limits.
///
/// # Errors
/// The kernel's; time is to be limited where nothing can.
pub(crate) fn force(cgroups: &Cgroups, domain: &Domain, short: &str, pid: u32) -> Result<Arc<Group>> {
    let group = cgroups.enter(domain, short, pid)?;
    match limit(&group, domain) {
        Ok(()) => Ok(group),
        Err(error) => {
            group.remove_when_empty();
            Err(error)
        }
    }
}

fn limit(group: &Group, domain: &Domain) -> Result<()> {
    let then = limits(domain.memtune.as_ref());
    group.set_memory(Memory::USUAL, then)?;
    if let Some(tune) = &domain.blkiotune {
        tune.weight.map_or(Ok(()), |weight| group.set_blkio_weight(weight))?;
        tune.device.iter().try_for_each(|device| group.limit_device(device))?;
    }
    if let Some(nodes) = nodes(domain) {
        group.set_nodes(nodes)?;
    }
    let Some(tune) = &domain.cputune else { return Ok(()) };
    tune.shares.map_or(Ok(()), |shares| group.set_shares(shares))?;
    for limited in &LIMITED {
        let (period, quota) = limited.of(tune);
        if (period, quota) == (None, None) {
            continue;
        }
        if !group.has(Controller::Cpu) {
            return Err(QEMU.config_unsupported("cgroup cpu is required for scheduler tuning"));
        }
        if limited.name == "global" {
            group.set_bandwidth(period, quota)?;
        }
    }
    Ok(())
}

/// The nodes that all memory of a guest is to be from.
fn nodes(domain: &Domain) -> Option<&Cpuset> {
    let memory = memory_of(domain)?;
    let kept = matches!(memory.mode.unwrap_or_default(), NumaMode::Strict | NumaMode::Restrictive);
    memory.nodeset.as_ref().filter(|_| kept)
}

/// A kind of threads of a guest.
#[derive(Clone, Copy)]
enum Kind {
    Emulator,
    Vcpu(u32),
    Iothread(u32),
}

impl Kind {
    /// The name of its group.
    fn group(self) -> String {
        match self {
            Self::Emulator => "emulator".to_owned(),
            Self::Vcpu(id) => format!("vcpu{id}"),
            Self::Iothread(id) => format!("iothread{id}"),
        }
    }

    /// The processors of the host that it is to run on.
    fn cpus(self, domain: &Domain) -> Option<&Cpuset> {
        let tune = domain.cputune.as_ref();
        let own = match self {
            Self::Emulator => tune.and_then(|tune| tune.emulatorpin.as_ref()?.cpuset.as_ref()),
            Self::Vcpu(id) => {
                tune.and_then(|tune| tune.vcpupin.iter().find(|pin| pin.vcpu == id)?.cpuset.as_ref())
            }
            Self::Iothread(id) => {
                tune.and_then(|tune| tune.iothreadpin.iter().find(|pin| pin.iothread == id)?.cpuset.as_ref())
            }
        };
        own.or_else(|| domain.vcpu.as_ref()?.cpuset.as_ref())
    }

    /// How the kernel is to treat it.
    fn scheduler(self, domain: &Domain) -> Option<(Scheduler, i32)> {
        let tune = domain.cputune.as_ref()?;
        let has =
            |set: &Option<Cpuset>, id: u32| set.as_ref().is_some_and(|set| set.iter().any(|one| one == id));
        let (scheduler, priority) = match self {
            Self::Emulator => tune.emulatorsched.as_ref().map(|sched| (sched.scheduler, sched.priority)),
            Self::Vcpu(id) => {
                let sched = tune.vcpusched.iter().find(|sched| has(&sched.vcpus, id));
                sched.map(|sched| (sched.scheduler, sched.priority))
            }
            Self::Iothread(id) => {
                let sched = tune.iothreadsched.iter().find(|sched| has(&sched.iothreads, id));
                sched.map(|sched| (sched.scheduler, sched.priority))
            }
        }?;
        Some((scheduler, priority.unwrap_or_default()))
    }

    /// Microseconds of each period.
    fn bandwidth(self, domain: &Domain) -> (Option<u64>, Option<i64>) {
        let name = match self {
            Self::Emulator => "emulator",
            Self::Vcpu(_) => "vcpu",
            Self::Iothread(_) => "iothread",
        };
        let tune = domain.cputune.as_ref();
        let limited = LIMITED.iter().find(|limited| limited.name == name);
        limited.zip(tune).map_or((None, None), |(limited, tune)| limited.of(tune))
    }
}

/// Makes the group of some threads, with its limits.
fn part(group: &Group, domain: &Domain, kind: Kind) -> Result<Arc<Group>> {
    let part = group.make_part(&kind.group())?;
    if let Some(nodes) = nodes(domain) {
        part.set_nodes(nodes)?;
    }
    if let Some(cpus) = kind.cpus(domain) {
        part.set_cpus(cpus)?;
    }
    let (period, quota) = kind.bandwidth(domain);
    part.set_bandwidth(period, quota)?;
    Ok(part)
}

/// Puts one thread where it belongs.
async fn place(group: &Group, domain: &Domain, pid: u32, kind: Kind, thread: u32) -> Result<()> {
    // Its group first: in the emulator's it may not be where it is to go.
    again(|| part(group, domain, kind)?.take_thread(thread))?;
    if let Some(cpus) = kind.cpus(domain) {
        pin_thread(pid, thread, cpus)?;
    }
    schedule(domain, kind, thread).await
}

/// Puts a virtual processor where it belongs.
///
/// # Errors
/// The kernel's.
pub(crate) async fn place_vcpu(group: &Group, domain: &Domain, pid: u32, id: u32, thread: u32) -> Result<()> {
    place(group, domain, pid, Kind::Vcpu(id), thread).await
}

/// Puts an I/O thread where it belongs.
///
/// # Errors
/// The kernel's.
pub(crate) async fn place_iothread(
    group: &Group,
    domain: &Domain,
    pid: u32,
    id: u32,
    thread: u32,
) -> Result<()> {
    place(group, domain, pid, Kind::Iothread(id), thread).await
}

/// Puts the emulator's own threads on processors: those of the process that are neither virtual processors nor for I/O.
///
/// # Errors
/// The kernel's.
pub(crate) fn pin_emulator(group: &Group, pid: u32, cpus: &Cpuset) -> Result<()> {
    group.part(&Kind::Emulator.group()).set_cpus(cpus)?;
    pin_thread(pid, pid, cpus)
}

/// Puts the threads of a guest that has just been started where they belong.
///
/// # Errors
/// The kernel's, or QEMU's.
pub(crate) async fn settle(group: &Group, domain: &Domain, pid: u32, qemu: &Monitor) -> Result<()> {
    again(|| part(group, domain, Kind::Emulator)?.take_process(pid))?;
    if let Some(cpus) = Kind::Emulator.cpus(domain) {
        // Threads that QEMU has started already do not follow the first one.
        crate::process::threads_of(pid).into_iter().try_for_each(|thread| pin_thread(pid, thread, cpus))?;
    }
    schedule(domain, Kind::Emulator, pid).await?;
    let vcpus = qemu.execute(&QueryCpusFast {}).await.map_err(monitor)?;
    for vcpu in vcpus {
        place_vcpu(group, domain, pid, vcpu.cpu_index, vcpu.thread_id).await?;
    }
    if domain.iothreads.is_none() {
        return Ok(());
    }
    let iothreads = qemu.execute(&QueryIothreads {}).await.map_err(monitor)?;
    for thread in iothreads {
        if let Some(id) = thread.id.strip_prefix("iothread").and_then(|id| id.parse().ok()) {
            place_iothread(group, domain, pid, id, thread.thread_id).await?;
        }
    }
    Ok(())
}

/// Tells the kernel how to treat a thread: by chrt(1), the C library's call needs unsafe code.
async fn schedule(domain: &Domain, kind: Kind, thread: u32) -> Result<()> {
    let Some((scheduler, priority)) = kind.scheduler(domain) else { return Ok(()) };
    let option = format!("--{}", scheduler.as_str());
    let arguments = [option, "--pid".to_owned(), priority.to_string(), thread.to_string()];
    let output = helper("chrt").args(&arguments).kill_on_drop(true).output().await;
    let output = output.map_err(|error| file(&error, "Cannot run 'chrt'"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(child(&format!("chrt {}", arguments.join(" ")), &output)),
    }
}
