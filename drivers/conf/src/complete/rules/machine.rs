//! The machine: processor, firmware, buses, security, what happens at its end.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::YesNo;
use crate::complete::board::Chipset;
use crate::domain::features::{CpuCacheMode, CpuMode, FeatureValue, Hpt};
use crate::domain::os::{AcpiTableType, Firmware, IdmapEntry, LoaderType, Sysinfo, SysinfoType};
use crate::domain::{Domain, LaunchSecurityType, LifecycleAction, VirtType};
use crate::table::Positive;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// The longest wait for who boots by hand, in milliseconds.
const MOST_TIMEOUT: u32 = 65535;

/// What is chosen is not asked for piece by piece, and nothing is asked for where nothing is chosen.
pub(in super::super) fn firmware(domain: &Domain) -> Result {
    let os = &domain.os;
    let chosen = os.firmware.is_some();
    let bios = os.firmware == Some(Firmware::Bios);
    let said = os.loader.as_ref().and_then(|loader| loader.stateless);
    let (stateless, keeps) = (said == Some(YesNo::Yes), said == Some(YesNo::No));
    let kind = os.loader.as_ref().and_then(|loader| loader.type_);
    let variables = os.nvram.as_ref();
    let path = os.loader.as_ref().is_some_and(|loader| loader.path.is_some());
    refuse! {
        bios && variables.is_some() => DOMAIN.xml_detail("firmware type 'bios' does not support nvram");
        !chosen && os.firmware_features.as_ref().is_some_and(|f| !f.feature.is_empty()) => DOMAIN.xml_detail(
            "cannot use feature-based firmware autoselection when firmware autoselection is disabled");
        !chosen && !path && (variables.is_some() || os.loader.is_some()) =>
            DOMAIN.xml_detail("no loader path specified and firmware auto selection disabled");
        bios && keeps => DOMAIN.xml_detail("Only EFI firmware permits NVRAM");
        !chosen && keeps && kind != Some(LoaderType::Pflash) =>
            DOMAIN.xml_detail("Only pflash loader type permits NVRAM");
        stateless && variables.is_some_and(|nvram| nvram.template.is_some()) =>
            DOMAIN.xml_detail("NVRAM template is not permitted when loader is stateless");
        stateless && variables.is_some_and(|nvram| nvram.path.is_some() || nvram.source.is_some()) =>
            DOMAIN.xml_detail("NVRAM is not permitted when loader is stateless");
    }
    Ok(())
}

/// A guest's addresses are no wider than the host's.
pub(in super::super) fn check_width(domain: &Domain, most: Option<u32>) -> Result {
    let width = domain.cpu.as_ref().and_then(|cpu| cpu.maxphysaddr.as_ref());
    let bits = width.filter(|width| width.mode == CpuCacheMode::Emulate).and_then(|width| width.bits);
    refuse! {
        bits.zip(most).is_some_and(|(bits, most)| bits > most) => QEMU.config_unsupported(
            "The number of virtual CPU address bits cannot exceed the number supported by the host CPU");
    }
    Ok(())
}

/// What no driver could do with a machine; libvirt looks at this last.
pub(super) fn check(domain: &Domain) -> Result {
    let cores = [Some(LifecycleAction::CoredumpDestroy), Some(LifecycleAction::CoredumpRestart)];
    let ends = [("poweroff", domain.on_poweroff), ("reboot", domain.on_reboot)];
    let dumps = ends.into_iter().find(|(_, action)| cores.contains(action));
    refuse! {
        dumps.is_some() => DOMAIN.config_unsupported(
            "Lifecycle event '{}' doesn't support '{}' action",
            dumps.map(|(event, _)| event).unwrap_or_default(),
            dumps.and_then(|(_, action)| action).unwrap_or_default().as_str());
    }
    Ok(())
}

/// How a guest boots.
pub(super) fn check_boot(domain: &Domain) -> Result {
    let menu = domain.os.bootmenu.as_ref().and_then(|menu| menu.timeout);
    let timeout = domain.os.bios.as_ref().and_then(|bios| bios.reboot_timeout);
    refuse! {
        menu.is_some_and(|timeout| timeout > MOST_TIMEOUT) => DOMAIN.config_unsupported(
            "invalid value for boot menu timeout, must be in range [0,{MOST_TIMEOUT}]");
        timeout.is_some_and(|timeout| !(-1..=65535).contains(&timeout)) =>
            DOMAIN.config_unsupported("invalid value for rebootTimeout, must be in range [-1,65535]");
    }
    Ok(())
}

/// Users of a container are users of the host, its root first.
pub(super) fn check_users(domain: &Domain) -> Result {
    let Some(map) = &domain.idmap else { return Ok(()) };
    let first = |ranges: &[IdmapEntry]| ranges.iter().map(|range| range.start).min();
    let mut first = [first(&map.uid), first(&map.gid)].into_iter().flatten();
    refuse! {
        map.uid.is_empty() != map.gid.is_empty() =>
            DOMAIN.config_unsupported("uid and gid should be mapped both");
        first.any(|start| start != 0) =>
            DOMAIN.config_unsupported("You must map the root user of container");
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let domain = around.domain;
    runs(around)?;
    refuse! {
        domain.os.acpi.iter().flat_map(|acpi| &acpi.table).any(|table| table.type_ == AcpiTableType::Rawset) =>
            QEMU.config_unsupported("ACPI table type 'rawset' is not supported");
        domain.bootloader.is_some() || domain.bootloader_args.is_some() => QEMU.config_unsupported("bootloader is not supported by QEMU");
    }
    features(around)?;
    processor(domain)?;
    ends(domain)?;
    security(around)?;
    domain.sysinfo.iter().try_for_each(files)?;
    buses(domain)
}

/// Whether the emulator runs such guests at all.
fn runs(around: &Around<'_>) -> Result {
    let domain = around.domain;
    let kind = domain.os.type_.clone().unwrap_or_default();
    let path = domain.devices.emulator.as_deref().unwrap_or_default();
    let known = match domain.type_ {
        VirtType::Qemu => true,
        VirtType::Kvm => around.emulator.is_some_and(|emulator| emulator.kvm),
        _ => false,
    };
    let name = kind.machine.as_deref().unwrap_or_default();
    let most = around.emulator.and_then(|emulator| emulator.machine(name)).and_then(|machine| machine.vcpus);
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let serial = domain.os.bios.as_ref().is_some_and(|bios| bios.useserial == Some(YesNo::Yes));
    let secure = domain.os.loader.as_ref().is_some_and(|loader| loader.secure == Some(YesNo::Yes));
    let smm = domain.features.as_ref().and_then(|features| features.smm.as_ref());
    refuse! {
        kind.name != "hvm" => QEMU.config_unsupported("Emulator '{path}' does not support os type '{}'", kind.name);
        around.emulator.is_none() => QEMU.config_unsupported(
            "Emulator '{path}' does not support arch '{}'", kind.arch.unwrap_or_default());
        !known => QEMU.config_unsupported("Emulator '{path}' does not support virt type '{}'", domain.type_);
        around.emulator.is_some_and(|emulator| emulator.is_known() && emulator.machine(name).is_none()) =>
            QEMU.config_unsupported("Emulator '{path}' does not support machine type '{name}'");
        most.is_some_and(|most| vcpus > most) => QEMU.config_unsupported(
            "Maximum CPUs greater than specified machine type limit {}", most.unwrap_or_default());
        serial && domain.devices.serials.is_empty() =>
            QEMU.xml_error("need at least one serial port to use BIOS serial output");
        secure && smm.is_none_or(|smm| smm.state != Some(crate::OnOff::On)) =>
            QEMU.config_unsupported("Secure boot requires SMM feature enabled");
        domain.memtune.as_ref().is_some_and(|tune| tune.min_guarantee.is_some()) =>
            QEMU.config_unsupported("Parameter 'min_guarantee' not supported by QEMU.");
    }
    Ok(())
}

/// Features of machines of other kinds.
fn features(around: &Around<'_>) -> Result {
    let Some(features) = &around.domain.features else { return Ok(()) };
    let kind = around.domain.os.type_.clone().unwrap_or_default();
    let (name, arch) = (kind.machine.unwrap_or_default(), kind.arch.unwrap_or_default());
    let (chipset, arm) = (around.chipset, around.chipset == Chipset::ArmVirt);
    let (pseries, foreign) = (chipset == Chipset::Pseries, chipset.is_foreign());
    let said = |value: &Option<FeatureValue>| value.as_ref().is_some_and(|value| value.value.is_some());
    // Each with whether the machine has it; of a machine that isn't known here nothing is said.
    let of_some = [
        ("htm", features.htm.is_some(), pseries),
        ("nested-hv", features.nested_hv.is_some(), pseries),
        ("ccf-assist", features.ccf_assist.is_some(), pseries),
        ("cfpc", said(&features.cfpc), pseries),
        ("sbbc", said(&features.sbbc), pseries),
        ("ibs", said(&features.ibs), pseries),
        ("gic", features.gic.is_some(), arm),
        ("ioapic", features.ioapic.is_some(), !foreign),
        ("hpt", features.hpt.as_ref().is_some_and(|hpt| *hpt != Hpt::default()), pseries),
    ];
    let known = chipset != Chipset::Other;
    let unsuitable = of_some.into_iter().find(|(_, said, fits)| *said && !fits && known);
    let machine = around.emulator.and_then(|emulator| emulator.machine(&name));
    refuse! {
        features.acpi && foreign && machine.is_some_and(|machine| !machine.acpi) =>
            QEMU.config_unsupported("machine type '{name}' does not support ACPI");
        features.ras.is_some() && !arm && known =>
            QEMU.config_unsupported("ras feature is only supported with ARM Virt machines");
        features.aia.is_some() && chipset != Chipset::RiscvVirt =>
            QEMU.config_unsupported("aia feature is only supported with RISC-V Virt machines");
        unsuitable.is_some() => QEMU.config_unsupported(
            "The '{}' feature is not supported for architecture '{arch}' or machine type '{name}'",
            unsuitable.map(|(feature, ..)| feature).unwrap_or_default()
        );
        foreign && features.vmport.is_some() =>
            QEMU.config_unsupported("vmport is not available with this QEMU binary");
        foreign && !around.has("vmcoreinfo") && features.vmcoreinfo.is_some() =>
            QEMU.config_unsupported("vmcoreinfo is not available with this QEMU binary");
        pseries && features.pmu.as_ref().is_some_and(|pmu| pmu.state == Some(crate::OnOff::Off)) =>
            QEMU.config_unsupported("PMU is always enabled for architecture '{arch}'");
    }
    Ok(())
}

fn processor(domain: &Domain) -> Result {
    let cache = domain.cpu.as_ref().and_then(|cpu| cpu.cache.as_ref());
    let (mode, level) = cache.map_or((CpuCacheMode::Disable, None), |cache| (cache.mode, cache.level));
    let topology = domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let whole = matches!(
        domain.cpu.as_ref().and_then(|cpu| cpu.mode),
        Some(CpuMode::HostPassthrough | CpuMode::Maximum)
    );
    let count = topology.and_then(|topology| {
        let all = [Some(topology.sockets), topology.dies, topology.clusters, Some(topology.cores)];
        let all = all.into_iter().flatten().chain([topology.threads]);
        all.map(Positive::get).try_fold(1_u32, u32::checked_mul)
    });
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    refuse! {
        topology.is_some() && count != Some(vcpus) =>
            QEMU.config_unsupported("CPU topology doesn't match maximum vcpu count");
    }
    let width = domain.cpu.as_ref().and_then(|cpu| cpu.maxphysaddr.as_ref());
    let (kind, bits, limit) =
        width.map_or((CpuCacheMode::Emulate, None, None), |w| (w.mode, w.bits, w.limit));
    refuse! {
        kind == CpuCacheMode::Passthrough && bits.is_some() => QEMU.config_unsupported(
            "CPU maximum physical address bits number specification cannot be used with mode='passthrough'");
        kind == CpuCacheMode::Emulate && limit.is_some() => QEMU.config_unsupported(
            "CPU maximum physical address bits limit specification cannot be used with mode='emulate'");
        mode == CpuCacheMode::Passthrough && !whole => QEMU.config_unsupported(
            "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs");
        mode == CpuCacheMode::Emulate && level != Some(3) =>
            QEMU.config_unsupported("CPU cache mode 'emulate' can only be used with level='3'");
        mode != CpuCacheMode::Emulate && level.is_some() =>
            QEMU.config_unsupported("unsupported CPU cache level for mode '{}'", mode.as_str());
    }
    Ok(())
}

/// What QEMU can make of the ends of a run.
fn ends(domain: &Domain) -> Result {
    use LifecycleAction::{Destroy, Preserve, RenameRestart, Restart};
    let action = |action: Option<LifecycleAction>, usual| action.unwrap_or(usual);
    let off = action(domain.on_poweroff, Destroy);
    let reboot = action(domain.on_reboot, Restart);
    let crash = action(domain.on_crash, Destroy);
    refuse! {
        reboot == Preserve || off == Preserve => QEMU.config_unsupported(
            "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'");
        [reboot, off, crash].contains(&RenameRestart) => QEMU.config_unsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'");
        reboot == Destroy && off == Restart => QEMU.config_unsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'");
    }
    Ok(())
}

fn security(around: &Around<'_>) -> Result {
    let Some(security) = &around.domain.launch_security else { return Ok(()) };
    let (device, name) = match security.type_ {
        LaunchSecurityType::Sev => ("sev-guest", "sev"),
        LaunchSecurityType::SevSnp => ("sev-snp-guest", "sev-snp"),
        LaunchSecurityType::S390Pv => ("s390-pv-guest", "s390-pv"),
    };
    refuse! {
        !around.emulator.is_some_and(|emulator| emulator.devices.contains(device)) =>
            QEMU.config_unsupported("'{name}' launch security is not supported with this QEMU binary");
    }
    Ok(())
}

/// Files of fw_cfg are below `opt/`, and QEMU's own are QEMU's.
fn files(sysinfo: &Sysinfo) -> Result {
    for entry in sysinfo.entry.iter().filter(|_| sysinfo.type_ == SysinfoType::Fwcfg) {
        let name = entry.name.as_deref().unwrap_or_default();
        refuse! {
            name.is_empty() => QEMU.config_unsupported("firmware entry is missing 'name' attribute");
            !name.starts_with("opt/") => QEMU.config_unsupported("Invalid firmware name");
            name.starts_with("opt/ovmf/") || name.starts_with("opt/org.qemu/") =>
                QEMU.config_unsupported("That firmware name is reserved");
        }
    }
    Ok(())
}

/// A bus of a node is of a node that there is.
fn buses(domain: &Domain) -> Result {
    let nodes = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).flat_map(|numa| &numa.cell).count();
    for controller in &domain.devices.controllers {
        let model = controller.model.as_deref().unwrap_or_default();
        let Some(node) = controller.target.as_ref().and_then(|target| target.node) else { continue };
        refuse! {
            model.ends_with("expander-bus") && node as usize >= nodes => QEMU.xml_error(
                "{model} with index {} is configured for a NUMA node ({node}) not present in the domain's <cpu><numa> array ({nodes})",
                controller.index.unwrap_or_default()
            );
        }
    }
    Ok(())
}
