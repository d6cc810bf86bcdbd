//! What only some boards and architectures have.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::domain::features::{CpuMode, Features};
use crate::domain::misc::{Memballoon, MemballoonModel, Shmem};
use crate::domain::os::TimerName;
use crate::{OnOff, YesNo};

const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// What is asked of the machine itself.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let domain = around.domain;
    let kind = domain.os.type_.clone().unwrap_or_default();
    let (arch, machine) = (kind.arch.unwrap_or_default(), kind.machine.unwrap_or_default());
    domain.features.iter().try_for_each(|it| features(around, it, &arch, &machine))?;
    processor(around, &arch)?;
    clock(around, &arch, &machine)?;
    let sleep =
        domain.pm.as_ref().is_some_and(|pm| pm.suspend_to_mem.is_some() || pm.suspend_to_disk.is_some());
    refuse! {
        around.chipset.is_foreign() && sleep => QEMU.config_unsupported("setting ACPI S3/S4 not supported");
    }
    Ok(())
}

/// A balloon is one of virtio's: other hypervisors have others.
pub(super) fn balloon(_around: &Around<'_>, balloon: &Memballoon) -> Result {
    refuse! {
        balloon.model == MemballoonModel::Xen => QEMU.config_unsupported(
            "Memory balloon device type 'xen' is not supported by this version of qemu");
    }
    Ok(())
}

/// Memory is shared by a device that QEMU has.
pub(super) fn shmem(around: &Around<'_>, shmem: &Shmem) -> Result {
    let model = shmem.model.as_ref().map(|model| model.type_.as_str()).unwrap_or_default();
    refuse! {
        !around.has(model) => QEMU.config_unsupported(
            "shmem model '{model}' is not supported by this QEMU binary");
    }
    Ok(())
}

fn features(around: &Around<'_>, features: &Features, arch: &str, machine: &str) -> Result {
    let foreign = around.chipset.is_foreign();
    let spinlock = features.pvspinlock.is_some();
    refuse! {
        foreign && features.hyperv.is_some() && arch != "aarch64" => QEMU.config_unsupported(
            "Hyperv features are not supported for architecture '{arch}' or machine type '{machine}'");
        foreign && spinlock => QEMU.config_unsupported(
            "The 'pvspinlock' feature is not supported for architecture '{arch}' or machine type '{machine}'");
        foreign && features.ps2.is_some() =>
            QEMU.config_unsupported("ps2 feature is not available with this QEMU binary");
    }
    Ok(())
}

fn processor(around: &Around<'_>, arch: &str) -> Result {
    let Some(cpu) = around.domain.cpu.as_ref().filter(|_| around.chipset.is_foreign()) else { return Ok(()) };
    let power = arch.starts_with("ppc");
    refuse! {
        cpu.mode == Some(CpuMode::HostPassthrough) && cpu.migratable == Some(OnOff::On) => QEMU.config_unsupported(
            "Migratable attribute for host-passthrough CPU is not supported by this QEMU binary");
        cpu.mode == Some(CpuMode::Maximum) && power =>
            QEMU.config_unsupported("maximum CPU is not supported by QEMU binary");
        cpu.cache.is_some() => QEMU.config_unsupported(
            "CPU cache specification is not supported for '{arch}' architecture");
        cpu.maxphysaddr.is_some() => QEMU.config_unsupported(
            "CPU maximum physical address bits specification is not supported for '{arch}' architecture");
    }
    Ok(())
}

fn clock(around: &Around<'_>, arch: &str, machine: &str) -> Result {
    let timers = around.domain.clock.iter().flat_map(|clock| &clock.timer);
    for timer in timers.filter(|_| around.chipset.is_foreign()) {
        let arm = timer.name == TimerName::Armvtimer;
        let own = timer.name == TimerName::Hypervclock || arm;
        let virt = around.domain.type_;
        refuse! {
            own && timer.present != Some(YesNo::No) => QEMU.config_unsupported(
                "Configuring the '{}' timer is not supported for virtType={virt} arch={arch} machine={machine} guests",
                timer.name.as_str());
            timer.name == TimerName::Hpet && timer.present == Some(YesNo::Yes) =>
                QEMU.config_unsupported("hpet timer is not supported by this architecture");
        }
    }
    Ok(())
}
