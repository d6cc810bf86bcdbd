//! What clients ask about one guest.

use std::sync::Arc;

use virtwire_conf::domain::GuestMemory;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::QueryCpusFast;
use virtwire_qmp::replies::CpuInfo;

use crate::define::text;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor, not_running};
use crate::migration;
use crate::pin::{affinity, everywhere};
use crate::security;
use crate::state::State;
use crate::stats::{cpu_time, thread_time};
use crate::{agent, backup};

/// `VIR_DOMAIN_XML_…`
const XML_INACTIVE: u32 = 2;
const XML_UPDATE_CPU: u32 = 4;
const XML_MIGRATABLE: u32 = 8;
const XML_FLAGS: u32 = 15;

pub(crate) async fn info(driver: &Qemu, args: DomainGetInfoArgs) -> Result<DomainGetInfoRet> {
    let guest = driver.guest(&args.dom)?;
    let (domain, state, live) = {
        let inner = guest.lock();
        (inner.current(), inner.state, inner.live.clone())
    };
    let domain = domain.ok_or_else(not_running)?;
    let maximum = domain.memory.as_ref().map_or(0, GuestMemory::kib);
    let mut current = domain.current_memory.map_or(maximum, |memory| memory.0);
    if let Some(live) = &live
        && let Some(actual) = live.balloon().await
    {
        current = actual;
    }
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.current.unwrap_or(vcpu.count));
    Ok(DomainGetInfoRet {
        state: state.state as u8,
        max_mem: maximum,
        memory: current,
        nr_virt_cpu: vcpus.try_into().unwrap_or(u16::MAX),
        cpu_time: live.map_or(0, |live| cpu_time(live.process.pid()).unwrap_or_default().total()),
    })
}

pub(crate) async fn state(driver: &Qemu, args: DomainGetStateArgs) -> Result<DomainGetStateRet> {
    check_flags(args.flags, 0, "qemuDomainGetState")?;
    let State { state, reason } = driver.guest(&args.dom)?.lock().state;
    Ok(DomainGetStateRet { state, reason })
}

pub(crate) async fn control_info(
    driver: &Qemu,
    args: DomainGetControlInfoArgs,
) -> Result<DomainGetControlInfoRet> {
    check_flags(args.flags, 0, "qemuDomainGetControlInfo")?;
    driver.guest(&args.dom)?.live()?;
    Ok(DomainGetControlInfoRet::default())
}

/// The text of a stored definition is made once; asking for it is a copy.
pub(crate) async fn xml_desc(driver: &Qemu, args: DomainGetXmlDescArgs) -> Result<DomainGetXmlDescRet> {
    check_flags(args.flags, XML_FLAGS, "qemuDomainGetXMLDesc")?;
    let (mut domain, runs) = match described(driver, &args)? {
        Described::Stored(xml) => return Ok(DomainGetXmlDescRet { xml: (&*xml).into() }),
        Described::Apart(domain, runs) => (domain, runs),
    };
    if args.flags & XML_UPDATE_CPU != 0 && !runs {
        domain = Arc::new(crate::cpu::updated(driver, (*domain).clone()).await?);
    }
    Ok(DomainGetXmlDescRet { xml: text(&domain, args.flags).into() })
}

/// What a client is shown of a guest.
enum Described {
    /// The text that is kept.
    Stored(Arc<str>),
    /// A definition, and whether the guest runs.
    Apart(Arc<virtwire_conf::Domain>, bool),
}

fn described(driver: &Qemu, args: &DomainGetXmlDescArgs) -> Result<Described> {
    let guest = driver.guest(&args.dom)?;
    let inner = guest.lock();
    // What another host needs to know of a running guest is nothing of this run.
    let stored = inner.live.is_none() || args.flags & (XML_INACTIVE | XML_MIGRATABLE) != 0;
    if let (true, Some(definition)) = (stored, &inner.persistent)
        && args.flags & !XML_INACTIVE == 0
    {
        return Ok(Described::Stored(Arc::clone(&definition.xml)));
    }
    let domain = if stored { inner.next() } else { inner.current() };
    let mut domain = domain.ok_or_else(not_running)?;
    if let (0, true, Some(live)) = (args.flags & XML_INACTIVE, stored, &inner.live) {
        // Of the run, but for this.
        Arc::make_mut(&mut domain).resource.clone_from(&live.domain.resource);
    }
    Ok(Described::Apart(domain, inner.live.is_some()))
}

pub(crate) async fn os_type(driver: &Qemu, args: DomainGetOsTypeArgs) -> Result<DomainGetOsTypeRet> {
    let domain = driver.guest(&args.dom)?.lock().current().ok_or_else(not_running)?;
    let name = domain.os.type_.as_ref().map_or("hvm", |os| os.name.as_str());
    Ok(DomainGetOsTypeRet { r#type: name.into() })
}

pub(crate) async fn is_active(driver: &Qemu, args: DomainIsActiveArgs) -> Result<DomainIsActiveRet> {
    let active = driver.guest(&args.dom)?.lock().live.is_some();
    Ok(DomainIsActiveRet { active: active.into() })
}

pub(crate) async fn is_persistent(
    driver: &Qemu,
    args: DomainIsPersistentArgs,
) -> Result<DomainIsPersistentRet> {
    let persistent = driver.guest(&args.dom)?.lock().persistent.is_some();
    Ok(DomainIsPersistentRet { persistent: persistent.into() })
}

pub(crate) async fn is_updated(driver: &Qemu, args: DomainIsUpdatedArgs) -> Result<DomainIsUpdatedRet> {
    let updated = driver.guest(&args.dom)?.lock().updated;
    Ok(DomainIsUpdatedRet { updated: updated.into() })
}

pub(crate) async fn security_label(
    driver: &Qemu,
    args: DomainGetSecurityLabelArgs,
) -> Result<DomainGetSecurityLabelRet> {
    driver.guest(&args.dom)?;
    // Lists of characters end with a NUL.
    Ok(DomainGetSecurityLabelRet { label: vec![0], enforcing: 0 })
}

pub(crate) async fn security_labels(
    driver: &Qemu,
    args: DomainGetSecurityLabelListArgs,
) -> Result<DomainGetSecurityLabelListRet> {
    let guest = driver.guest(&args.dom)?;
    let live = guest.lock().live.as_ref().map(|live| Arc::clone(&live.domain));
    let labels = security::labels(driver.shared.security.as_ref(), live.as_deref());
    let ret = labels.len() as i32;
    let text =
        |label: String| DomainGetSecurityLabelRet { label: [label.as_bytes(), &[0]].concat(), enforcing: 0 };
    Ok(DomainGetSecurityLabelListRet { labels: labels.into_iter().map(text).collect(), ret })
}

/// `VIR_DOMAIN_TAINT_…`, as bits.
pub(crate) const TAINT_CUSTOM_MONITOR: u32 = 1 << 1;
const TAINTS: &[(u32, &str)] = &[(TAINT_CUSTOM_MONITOR, "custom monitor control commands issued")];

pub(crate) async fn messages(driver: &Qemu, args: DomainGetMessagesArgs) -> Result<DomainGetMessagesRet> {
    check_flags(args.flags, 3, "qemuDomainGetMessages")?;
    /// `VIR_DOMAIN_MESSAGE_DEPRECATION` and `…_TAINTING`: one or the other, both where none is named.
    const TAINTING: u32 = 2;
    let taint = driver.guest(&args.dom)?.lock().taint;
    let wanted = args.flags == 0 || args.flags & TAINTING != 0;
    let set = TAINTS.iter().filter(|(bit, _)| wanted && taint & bit != 0);
    let msgs = set.map(|(_, text)| format!("tainted: {text}").into());
    Ok(DomainGetMessagesRet { msgs: msgs.collect() })
}

pub(crate) async fn scheduler_type(
    driver: &Qemu,
    args: DomainGetSchedulerTypeArgs,
) -> Result<DomainGetSchedulerTypeRet> {
    driver.guest(&args.dom)?;
    Ok(DomainGetSchedulerTypeRet { r#type: "posix".into(), nparams: crate::tune::SCHEDULER_PARAMETERS })
}

pub(crate) async fn job_info(driver: &Qemu, args: DomainGetJobInfoArgs) -> Result<DomainGetJobInfoRet> {
    let guest = driver.guest(&args.dom)?;
    match backup::info(&guest.live()?).await? {
        Some(told) => Ok(told),
        None => migration::info(&guest).await,
    }
}

/// Bytes of a map of this many processors.
pub(crate) fn map_len(cpus: usize) -> usize {
    cpus.div_ceil(8)
}

pub(crate) async fn vcpus(driver: &Qemu, args: DomainGetVcpusArgs) -> Result<DomainGetVcpusRet> {
    let guest = driver.guest(&args.dom)?;
    let live = guest
        .live()
        .map_err(|_| QEMU.operation_invalid("cannot retrieve vcpu information on inactive domain"))?;
    let count = live.domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count) as usize;
    let count = count.min(args.maxinfo.try_into().unwrap_or_default());
    let maplen: usize = args.maplen.try_into().unwrap_or_default();
    let mut threads = live.monitor.execute(&QueryCpusFast {}).await.map_err(monitor)?;
    threads.truncate(count);
    let info = threads.iter().map(|thread| {
        let (time, cpu) = thread_time(live.process.pid(), thread.thread_id).unwrap_or_default();
        VcpuInfo { number: thread.cpu_index, state: 1, cpu_time: time, cpu }
    });
    let info: Vec<_> = info.collect();
    let map =
        |thread: &CpuInfo| affinity(thread.thread_id, maplen).unwrap_or_else(|| everywhere(driver, maplen));
    let mut cpumaps: Vec<u8> = threads.iter().flat_map(map).collect();
    cpumaps.resize(count.saturating_mul(maplen), 0);
    Ok(DomainGetVcpusRet { info, cpumaps })
}

/// `VIR_DOMAIN_AFFECT_…` and `VIR_DOMAIN_VCPU_…`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const MAXIMUM: u32 = 4;
const GUEST: u32 = 8;

pub(crate) async fn vcpus_flags(
    driver: &Qemu,
    args: DomainGetVcpusFlagsArgs,
) -> Result<DomainGetVcpusFlagsRet> {
    check_flags(args.flags, LIVE | CONFIG | MAXIMUM | GUEST, "qemuDomainGetVcpusFlags")?;
    let guest = driver.guest(&args.dom)?;
    if args.flags & GUEST != 0 {
        return Ok(DomainGetVcpusFlagsRet { num: agent::count_vcpus(&guest).await? });
    }
    let domain = one_definition(&guest.lock(), args.flags)?;
    let vcpu = domain.vcpu.as_ref();
    let count = vcpu.map_or(1, |vcpu| match args.flags & MAXIMUM {
        0 => vcpu.current.unwrap_or(vcpu.count),
        _ => vcpu.count,
    });
    Ok(DomainGetVcpusFlagsRet { num: count as i32 })
}

/// The definition that LIVE, CONFIG or neither means.
pub(crate) fn one_definition(
    inner: &crate::guest::Inner,
    flags: u32,
) -> Result<std::sync::Arc<virtwire_conf::Domain>> {
    if flags & LIVE != 0 && inner.live.is_none() {
        return Err(not_running());
    }
    if flags & CONFIG != 0 && inner.persistent.is_none() {
        return Err(QEMU.operation_invalid("transient domains do not have any persistent config"));
    }
    let domain = if flags & CONFIG != 0 { inner.next() } else { inner.current() };
    domain.ok_or_else(not_running)
}

pub(crate) async fn max_vcpus(driver: &Qemu, args: DomainGetMaxVcpusArgs) -> Result<DomainGetMaxVcpusRet> {
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), LIVE)?;
    Ok(DomainGetMaxVcpusRet { num: domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count) as i32 })
}
