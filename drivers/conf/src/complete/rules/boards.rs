//! What only some boards and architectures have.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::complete::board::Chipset;
use crate::domain::chardev::SerialTargetType;
use crate::domain::disk::DiskBus;
use crate::domain::features::{CpuMode, Features};
use crate::domain::misc::{
    ControllerType, IommuModel, MemballoonModel, PanicModel, TpmBackendType, WatchdogModel,
};
use crate::domain::os::TimerName;
use crate::{OnOff, YesNo};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// A SCSI controller: its model, QEMU's device, and what it is called.
const SCSI: [(&str, &str, &str); 4] = [
    ("lsilogic", "lsi53c895a", "LSI 53C895A SCSI"),
    ("lsisas1068", "mptsas1068", "LSI SAS1068 (MPT Fusion)"),
    ("lsisas1078", "megasas", "LSI SAS1078 (MegaRAID)"),
    ("vmpvscsi", "pvscsi", "pvscsi (VMware paravirtual SCSI)"),
];

/// Everything in this file.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let domain = around.domain;
    let kind = domain.os.type_.clone().unwrap_or_default();
    let (arch, machine) = (kind.arch.unwrap_or_default(), kind.machine.unwrap_or_default());
    let pc = !around.chipset.is_foreign();
    domain.features.iter().try_for_each(|it| features(around, it, &arch, &machine))?;
    processor(around, &arch)?;
    clock(around, &arch, &machine)?;
    controllers(around)?;
    let devices = &domain.devices;
    let debug = devices.serials.iter().filter_map(|serial| serial.target.as_ref()?.type_);
    let sleep =
        domain.pm.as_ref().is_some_and(|pm| pm.suspend_to_mem.is_some() || pm.suspend_to_disk.is_some());
    let panics = |model| devices.panics.iter().any(|panic| panic.model == Some(model));
    let dog = |model| devices.watchdogs.iter().any(|dog| dog.model == model);
    let acpi = domain.features.as_ref().is_some_and(|features| features.acpi);
    let virtio = devices.iommu.as_ref().is_some_and(|iommu| iommu.model == IommuModel::Virtio);
    let xen = devices.memballoon.as_ref().is_some_and(|balloon| balloon.model == MemballoonModel::Xen);
    let chip = devices.tpms.iter().filter_map(|tpm| tpm.backend.as_ref());
    let own = chip.into_iter().any(|backend| backend.type_ == TpmBackendType::Passthrough);
    let emulator = devices.emulator.as_deref().unwrap_or_default();
    refuse! {
        !pc && debug.into_iter().any(|kind| kind == SerialTargetType::IsaDebug) =>
            DOMAIN.config_unsupported("isa-debug serial type only valid on x86 architecture");
        !pc && sleep => QEMU.config_unsupported("setting ACPI S3/S4 not supported");
        !pc && panics(PanicModel::Hyperv) => QEMU.config_unsupported(
            "only i686 and x86_64 guests support panic device of model 'hyperv'");
        panics(PanicModel::Pvpanic) && !around.has("pvpanic-pci") =>
            QEMU.config_unsupported("the QEMU binary does not support the PCI pvpanic device");
        !pc && dog(WatchdogModel::Ib700) =>
            QEMU.config_unsupported("ib700 model of watchdog cannot be used with this machine type");
        matches!(around.chipset, Chipset::Ccw | Chipset::Pseries) && !devices.parallels.is_empty() =>
            QEMU.config_unsupported("parallel ports are not supported");
        around.chipset == Chipset::ArmVirt && virtio && !acpi => QEMU.config_unsupported("IOMMU device: 'virtio' requires ACPI");
        !pc && xen => QEMU.config_unsupported(
            "Memory balloon device type 'xen' is not supported by this version of qemu");
        !pc && own && !around.has("tpm-tis") && !around.has("tpm-spapr") && !around.has("tpm-tis-device") =>
            QEMU.config_unsupported(
                "The QEMU executable {emulator} does not support TPM backend type passthrough");
        devices.pstore.is_some() && !around.has("acpi-erst") =>
            QEMU.config_unsupported("acpi-erst backend of pstore device is not supported");
    }
    for shmem in &devices.shmems {
        let model = shmem.model.as_ref().map(|model| model.type_.as_str()).unwrap_or_default();
        refuse! {
            !around.has(model) => QEMU.config_unsupported(
                "shmem model '{model}' is not supported by this QEMU binary");
        }
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

fn controllers(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    let sata = devices.controllers.iter().any(|c| c.type_ == ControllerType::Sata)
        || devices
            .disks
            .iter()
            .any(|disk| disk.target.as_ref().and_then(|target| target.bus) == Some(DiskBus::Sata));
    refuse! {
        sata && !around.has("ich9-ahci") => QEMU.config_unsupported("SATA is not supported with this QEMU binary");
    }
    for controller in devices.controllers.iter().filter(|c| c.type_ == ControllerType::Scsi) {
        let model = controller.model.as_deref().unwrap_or_default();
        let lacking = SCSI.iter().find(|(known, device, _)| *known == model && !around.has(device));
        refuse! {
            lacking.is_some() => QEMU.config_unsupported(
                "This QEMU doesn't support the {} controller", lacking.map(|(.., name)| *name).unwrap_or_default());
        }
    }
    Ok(())
}
