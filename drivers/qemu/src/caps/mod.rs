//! What clients ask about CPUs and about what guests may have.

pub(crate) mod cpus;
mod domain;
pub(crate) mod host;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtwire_conf::domain::VirtType;
use virtwire_conf::table::Value;
use virtwire_cpu::{
    Baseline, Cpu, Expect, HostCpu, Kind, X86, baseline, compare, hypervisor_baseline, hypervisor_compare,
    kind, model_names, vendor_name,
};
use virtwire_protocol::remote::*;
use virtwire_protocol::{ErrorDomain, XdrString};
use virtwire_qmp::replies::MachineInfo;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::probe::{QemuCaps, check_program, find_program};
use cpus::GuestCpus;

/// The most virtual CPUs that KVM runs on x86 (`KVM_CAP_MAX_VCPUS`).
pub(crate) const KVM_MAX_VCPUS: u32 = 1024;

const EXPAND_FEATURES: u32 = 1;
const MIGRATABLE: u32 = 2;
const FAIL_INCOMPATIBLE: u32 = 1;
const VALIDATE_XML: u32 = 2;

/// The program, machine type and kind of virtualization that a client means, after defaults.
pub(crate) struct Chosen {
    caps: Arc<QemuCaps>,
    arch: String,
    machine: MachineInfo,
    kvm: bool,
}

impl Chosen {
    fn virt(&self) -> &'static str {
        if self.kvm { "kvm" } else { "qemu" }
    }

    fn max_vcpus(&self) -> u32 {
        if self.kvm { self.machine.cpu_max.min(KVM_MAX_VCPUS) } else { self.machine.cpu_max }
    }
}

/// What a client names; each may be left out.
struct Wanted {
    emulator: Option<XdrString>,
    arch: Option<XdrString>,
    machine: Option<XdrString>,
    virttype: Option<XdrString>,
}

async fn choose(driver: &Qemu, wanted: Wanted) -> Result<Chosen> {
    let text = |word: Option<XdrString>| word.map(|word| word.to_string());
    let (emulator, arch) = (text(wanted.emulator), text(wanted.arch));
    let (machine, virttype) = (text(wanted.machine), text(wanted.virttype));
    if let Some(virt) = &virttype
        && VirtType::parse(virt).is_err()
    {
        return Err(QEMU.invalid_arg(format_args!("unknown virttype: {virt}")));
    }
    if let Some(arch) = &arch
        && kind(arch).is_none()
    {
        return Err(QEMU.invalid_arg(format_args!("unknown architecture: {arch}")));
    }
    let host = std::env::consts::ARCH;
    let arch_or_host = arch.clone().unwrap_or_else(|| host.to_owned());
    let program = match &emulator {
        Some(path) => PathBuf::from(path),
        None => find_program(&arch_or_host).ok_or_else(|| {
            let detail = format_args!("unable to find any emulator to serve '{arch_or_host}' architecture");
            QEMU.config_unsupported(detail)
        })?,
    };
    check_program(&program)?;
    let caps = driver.caps_of(&program).await?;
    let own = if caps.arch == "i386" { "i686" } else { &caps.arch };
    let runs = own == arch_or_host || (own == "x86_64" && arch_or_host == "i686");
    if !runs {
        let path = program.display();
        return Err(QEMU.invalid_arg(match &arch {
            Some(arch) if kind(arch).flatten() != kind(own).flatten() => {
                format!("architecture from emulator '{own}' doesn't match given architecture '{arch}'")
            }
            _ => format!("Emulator '{path}' does not support arch '{arch_or_host}'"),
        }));
    }
    let kvm = match virttype.as_deref() {
        None => caps.kvm,
        Some("qemu") => false,
        Some("kvm") if caps.kvm => true,
        Some(other) => {
            let path = program.display();
            let detail = format_args!("Emulator '{path}' does not support virt type '{other}'");
            return Err(QEMU.invalid_arg(detail));
        }
    };
    let machine = match &machine {
        Some(name) => caps.machine(name).cloned().ok_or_else(|| {
            let path = program.display();
            QEMU.invalid_arg(format_args!("the machine '{name}' is not supported by emulator '{path}'"))
        })?,
        None => {
            let default = caps.machines.iter().find(|machine| machine.is_default);
            let first = default.or(caps.machines.first()).cloned();
            first.ok_or_else(|| QEMU.internal_error("the emulator has no machine types"))?
        }
    };
    Ok(Chosen { caps, arch: arch_or_host, machine, kvm })
}

impl Qemu {
    pub(crate) async fn guest_cpus(&self, program: &Path, kvm: bool) -> Result<Arc<GuestCpus>> {
        self.shared.caps.cpus(program, kvm).await.map_err(|error| error.refusal(program))
    }

    /// The host's own CPU: what the instruction tells, and what QEMU tells of the registers.
    pub(crate) async fn host_cpu(&self) -> Result<HostCpu> {
        let table = X86::table();
        let mut features = table.features_of(cpuid, |_| 0);
        if let Ok(caps) = self.caps().await
            && caps.kvm
        {
            let told = self.guest_cpus(&caps.program, true).await?.features();
            let by_register = told.iter().filter(|&feature| table.shows_in_register(feature));
            features = features.union(by_register.collect());
        }
        let vendor = self.shared.host.cpuinfo("vendor_id").and_then(|id| vendor_name(&id));
        Ok(HostCpu { arch: std::env::consts::ARCH.to_owned(), vendor: vendor.map(str::to_owned), features })
    }
}

/// Leaves that are not there answer zeroes.
#[cfg(target_arch = "x86_64")]
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    use std::arch::x86_64::__cpuid_count;
    if leaf > __cpuid_count(leaf & 0x8000_0000, 0).eax {
        return [0; 4];
    }
    let found = __cpuid_count(leaf, subleaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid(_: u32, _: u32) -> [u32; 4] {
    [0; 4]
}

pub(crate) async fn domain_capabilities(
    driver: &Qemu,
    args: ConnectGetDomainCapabilitiesArgs,
) -> Result<ConnectGetDomainCapabilitiesRet> {
    check_flags(args.flags, 1, "qemuConnectGetDomainCapabilities")?;
    let wanted = Wanted {
        emulator: args.emulatorbin,
        arch: args.arch,
        machine: args.machine,
        virttype: args.virttype,
    };
    let chosen = choose(driver, wanted).await?;
    let cpus = driver.guest_cpus(&chosen.caps.program, chosen.kvm).await?;
    let bits = address_bits().unwrap_or(0);
    let xml = domain::to_xml(&chosen, &cpus, bits, std::env::consts::ARCH);
    Ok(ConnectGetDomainCapabilitiesRet { capabilities: xml.into() })
}

pub(crate) async fn cpu_model_names(
    _: &Qemu,
    args: ConnectGetCpuModelNamesArgs,
) -> Result<ConnectGetCpuModelNamesRet> {
    check_flags(args.flags, 0, "qemuConnectGetCPUModelNames")?;
    let arch = args.arch.to_string();
    let names = match kind(&arch) {
        None => return Err(QEMU.invalid_arg(format_args!("cannot find architecture {arch}"))),
        Some(None) => {
            let detail = format_args!("'{arch}' architecture is not supported by CPU driver");
            return Err(ErrorDomain::CPU.no_support(detail));
        }
        Some(Some(kind)) => model_names(kind),
    };
    let ret = names.len() as i32;
    let models =
        if args.need_results != 0 { names.into_iter().map(XdrString::from).collect() } else { Vec::new() };
    Ok(ConnectGetCpuModelNamesRet { models, ret })
}

pub(crate) async fn compare_cpu(driver: &Qemu, args: ConnectCompareCpuArgs) -> Result<ConnectCompareCpuRet> {
    check_flags(args.flags, FAIL_INCOMPATIBLE | VALIDATE_XML, "qemuConnectCompareCPU")?;
    let cpu = Cpu::parse(&args.xml.to_string(), Expect::Either)?;
    let outcome = compare(&driver.host_cpu().await?, &cpu)?;
    Ok(ConnectCompareCpuRet { result: outcome.result(args.flags & FAIL_INCOMPATIBLE != 0)? })
}

pub(crate) async fn compare_hypervisor_cpu(
    driver: &Qemu,
    args: ConnectCompareHypervisorCpuArgs,
) -> Result<ConnectCompareHypervisorCpuRet> {
    check_flags(args.flags, FAIL_INCOMPATIBLE | VALIDATE_XML, "qemuConnectCompareHypervisorCPU")?;
    let wanted =
        Wanted { emulator: args.emulator, arch: args.arch, machine: args.machine, virttype: args.virttype };
    let chosen = choose(driver, wanted).await?;
    let cpu = Cpu::parse(&args.xml_cpu.to_string(), Expect::Either)?;
    let cpus = driver.guest_cpus(&chosen.caps.program, chosen.kvm).await?;
    let outcome = hypervisor_compare(&cpus.as_host(&chosen.arch)?, &cpu, &cpus.models())?;
    Ok(ConnectCompareHypervisorCpuRet { result: outcome.result(args.flags & FAIL_INCOMPATIBLE != 0)? })
}

fn parse_all(texts: &[XdrString], expect: Expect) -> Result<Vec<Cpu>> {
    texts.iter().map(|xml| Cpu::parse(&xml.to_string(), expect)).collect()
}

pub(crate) async fn baseline_cpu(_: &Qemu, args: ConnectBaselineCpuArgs) -> Result<ConnectBaselineCpuRet> {
    check_flags(args.flags, EXPAND_FEATURES | MIGRATABLE, "qemuConnectBaselineCPU")?;
    let how =
        Baseline { expand: args.flags & EXPAND_FEATURES != 0, migratable: args.flags & MIGRATABLE != 0 };
    let common = baseline(&parse_all(&args.xml_cpus, Expect::Host)?, how)?;
    Ok(ConnectBaselineCpuRet { cpu: common.guest_xml().into() })
}

pub(crate) async fn baseline_hypervisor_cpu(
    driver: &Qemu,
    args: ConnectBaselineHypervisorCpuArgs,
) -> Result<ConnectBaselineHypervisorCpuRet> {
    check_flags(args.flags, EXPAND_FEATURES | MIGRATABLE | 4, "qemuConnectBaselineHypervisorCPU")?;
    let texts = parse_all(&args.xml_cpus, Expect::Either)?;
    let wanted =
        Wanted { emulator: args.emulator, arch: args.arch, machine: args.machine, virttype: args.virttype };
    let chosen = choose(driver, wanted).await?;
    if kind(&chosen.arch).flatten() != Some(Kind::X86) {
        let arch = &chosen.arch;
        let detail = format_args!("computing baseline hypervisor CPU is not supported for arch {arch}");
        return Err(QEMU.config_unsupported(detail));
    }
    let cpus = driver.guest_cpus(&chosen.caps.program, chosen.kvm).await?;
    let how = Baseline {
        expand: args.flags & EXPAND_FEATURES != 0,
        migratable: chosen.kvm && args.flags & MIGRATABLE != 0,
    };
    let common = hypervisor_baseline(&texts, &cpus.models(), how)?;
    Ok(ConnectBaselineHypervisorCpuRet { cpu: common.guest_xml().into() })
}

/// How wide the addresses of this host's memory are, in bits; `None` where its processor does not say.
pub(crate) fn address_bits() -> Option<u32> {
    let [bits, ..] = cpuid(0x8000_0008, 0);
    Some(bits & 0xff).filter(|bits| *bits != 0)
}
