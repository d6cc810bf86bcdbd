//! Virtual processors: how many, and where they run.

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{EmulatorPin, VcpuPin};
use virtwire_conf::table::Cpuset;
use virtwire_protocol::remote as wire;

use super::guest::{Guest, affect};
use crate::clock::Now;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::node::MAX_VCPUS;

/// `VIR_DOMAIN_VCPU_MAXIMUM`
const MAXIMUM: u32 = 4;
/// The flags that all procedures about processors know.
const KNOWN: u32 = affect::LIVE | affect::CONFIG;

/// Where processor `vcpu` may run; `None` is everywhere.
fn pin(domain: &Domain, vcpu: u32) -> Option<&Cpuset> {
    domain.cputune.as_ref()?.vcpupin.iter().find(|pin| pin.vcpu == vcpu)?.cpuset.as_ref()
}

pub(crate) fn set(host: &mut Host, args: wire::DomainSetVcpusArgs) -> Result<()> {
    set_flags(host, wire::DomainSetVcpusFlagsArgs { dom: args.dom, nvcpus: args.nvcpus, flags: affect::LIVE })
}

pub(crate) fn set_flags(host: &mut Host, args: wire::DomainSetVcpusFlagsArgs) -> Result<()> {
    check_flags(args.flags, KNOWN | MAXIMUM, "testDomainSetVcpusFlags")?;
    let wanted = args.nvcpus;
    if wanted > MAX_VCPUS as u32 {
        let shown = wanted as i32;
        let text =
            format_args!("requested cpu amount exceeds maximum supported amount ({shown} > {MAX_VCPUS})");
        return Err(TEST.invalid_arg(text));
    }
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        let (now, most) = Guest::vcpus(domain);
        let vcpu = domain.vcpu.get_or_insert_default();
        let (now, most) = if args.flags & MAXIMUM != 0 {
            (now.min(wanted), wanted)
        } else if wanted > most {
            let text = format_args!("requested cpu amount exceeds maximum ({wanted} > {most})");
            return Err(TEST.invalid_arg(text));
        } else {
            (wanted, most)
        };
        vcpu.count = most;
        vcpu.current = (now != most).then_some(now);
        Ok(())
    })
}

pub(crate) fn get_flags(
    host: &mut Host,
    args: wire::DomainGetVcpusFlagsArgs,
) -> Result<wire::DomainGetVcpusFlagsRet> {
    check_flags(args.flags, KNOWN | MAXIMUM, "testDomainGetVcpusFlags")?;
    let definition = host.guest(&args.dom)?.one_definition(args.flags)?;
    let (now, most) = Guest::vcpus(definition.domain());
    Ok(wire::DomainGetVcpusFlagsRet { num: if args.flags & MAXIMUM != 0 { most } else { now } as i32 })
}

pub(crate) fn max(host: &mut Host, args: wire::DomainGetMaxVcpusArgs) -> Result<wire::DomainGetMaxVcpusRet> {
    let definition = host.guest(&args.dom)?.one_definition(affect::LIVE)?;
    Ok(wire::DomainGetMaxVcpusRet { num: Guest::vcpus(definition.domain()).1 as i32 })
}

/// How many maps of a guest's processors a client wants, and how many bytes of each.
fn sizes(maps: i32, bytes: i32, vcpus: u32) -> (u32, usize) {
    (u32::try_from(maps).unwrap_or(0).min(vcpus), usize::try_from(bytes).unwrap_or(0))
}

pub(crate) fn get(host: &mut Host, args: wire::DomainGetVcpusArgs) -> Result<wire::DomainGetVcpusRet> {
    let cpus = host.node.cpus();
    let guest = host.guest(&args.dom)?;
    if !guest.is_running() {
        return Err(TEST.operation_invalid("cannot list vcpus for an inactive domain"));
    }
    let domain = guest.definition().domain();
    let (shown, bytes) = sizes(args.maxinfo, args.maplen, Guest::vcpus(domain).0);
    let cpu_time = Now::read().every(10);
    let everywhere = Cpuset::first(cpus);
    let (mut info, mut cpumaps) = (Vec::new(), Vec::new());
    for number in 0..shown {
        let set = pin(domain, number).unwrap_or(&everywhere);
        // It runs on the last processor that it may run on.
        let cpu = set.iter().last().map_or(-1, |cpu| cpu as i32);
        info.push(wire::VcpuInfo { number, state: 1, cpu_time, cpu });
        cpumaps.extend(set.to_map(bytes));
    }
    Ok(wire::DomainGetVcpusRet { info, cpumaps })
}

pub(crate) fn pin_vcpu(host: &mut Host, args: wire::DomainPinVcpuArgs) -> Result<()> {
    let wire::DomainPinVcpuArgs { dom, vcpu, cpumap } = args;
    pin_vcpu_flags(host, wire::DomainPinVcpuFlagsArgs { dom, vcpu, cpumap, flags: 0 })
}

pub(crate) fn pin_vcpu_flags(host: &mut Host, args: wire::DomainPinVcpuFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainPinVcpuFlags")?;
    let guest = host.guest_mut(&args.dom)?;
    if !guest.is_running() {
        return Err(TEST.operation_invalid("cannot pin vcpus on an inactive domain"));
    }
    let definition = guest.one_definition_mut(affect::LIVE)?;
    if args.vcpu >= Guest::vcpus(definition.domain()).0 {
        let text = format_args!("requested vcpu '{}' is not present in the domain", args.vcpu as i32);
        return Err(TEST.invalid_arg(text));
    }
    let pins = &mut definition.edit().cputune.get_or_insert_default().vcpupin;
    pins.retain(|pin| pin.vcpu != args.vcpu);
    pins.push(VcpuPin { vcpu: args.vcpu, cpuset: Some(Cpuset::from_map(&args.cpumap)) });
    pins.sort_by_key(|pin| pin.vcpu);
    Ok(())
}

pub(crate) fn pin_info(
    host: &mut Host,
    args: wire::DomainGetVcpuPinInfoArgs,
) -> Result<wire::DomainGetVcpuPinInfoRet> {
    check_flags(args.flags, KNOWN | MAXIMUM, "testDomainGetVcpuPinInfo")?;
    let everywhere = Cpuset::first(host.node.cpus());
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let (shown, bytes) = sizes(args.ncpumaps, args.maplen, Guest::vcpus(domain).1);
    let cpumaps = (0..shown).flat_map(|n| pin(domain, n).unwrap_or(&everywhere).to_map(bytes)).collect();
    Ok(wire::DomainGetVcpuPinInfoRet { cpumaps, num: shown as i32 })
}

pub(crate) fn pin_emulator(host: &mut Host, args: wire::DomainPinEmulatorArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testDomainPinEmulator")?;
    host.guest_mut(&args.dom)?.change_one(args.flags, |domain| {
        let cpuset = Some(Cpuset::from_map(&args.cpumap));
        domain.cputune.get_or_insert_default().emulatorpin = Some(EmulatorPin { cpuset });
        Ok(())
    })
}

pub(crate) fn emulator_pin_info(
    host: &mut Host,
    args: wire::DomainGetEmulatorPinInfoArgs,
) -> Result<wire::DomainGetEmulatorPinInfoRet> {
    check_flags(args.flags, KNOWN, "testDomainGetEmulatorPinInfo")?;
    let everywhere = Cpuset::first(host.node.cpus());
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let set = domain.cputune.as_ref().and_then(|tune| tune.emulatorpin.as_ref()?.cpuset.as_ref());
    let (_, bytes) = sizes(1, args.maplen, 1);
    Ok(wire::DomainGetEmulatorPinInfoRet { cpumaps: set.unwrap_or(&everywhere).to_map(bytes), ret: 1 })
}
