//! The small devices, and what all devices say of themselves.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::{Around, Result, unknown_cause};
use crate::YesNo;
use crate::complete::board::Chipset;
use crate::domain::chardev::{Smartcard, SmartcardMode, UsbDevFilter};
use crate::domain::device::{Address, DeviceInfo, PciAddress, VirtioOptions};
use crate::domain::disk::{Lease, VirtioModel};
use crate::domain::misc::{
    Crypto, Iommu, IommuDriver, IommuModel, NvramDevice, Panic, PanicModel, Pstore, Shmem, Tpm,
    TpmBackendType, TpmModel, Watchdog, WatchdogModel,
};
use crate::table::c_number;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What a device says of itself.
pub(super) fn read(info: &DeviceInfo) -> Result {
    let rom = info.rom.as_ref();
    refuse! {
        rom.is_some_and(|rom| rom.enabled == Some(YesNo::No) && (rom.bar.is_some() || rom.file.is_some())) =>
            DOMAIN.config_unsupported("ROM tuning is not supported when ROM is disabled");
    }
    Ok(())
}

/// Only a device of the host may be kept back.
pub(super) fn about(_around: &Around<'_>, info: &DeviceInfo) -> Result {
    refuse! {
        matches!(info.address, Some(Address::Unassigned(_))) =>
            DOMAIN.config_unsupported("address of type 'unassigned' is supported only for hostdevs");
    }
    Ok(())
}

/// What is said of the place of a device is known there.
pub(super) fn about_qemu(around: &Around<'_>, info: &DeviceInfo) -> Result {
    let pci = matches!(info.address, Some(Address::Pci(_)));
    let elsewhere = info.address.is_some() && !pci;
    let index = info.acpi.as_ref().and_then(|acpi| acpi.index).unwrap_or(0);
    let machine = around.domain.os.type_.as_ref().and_then(|kind| kind.machine.as_deref());
    refuse! {
        matches!(info.address, Some(Address::Ccw(_))) && !matches!(around.chipset, Chipset::Ccw | Chipset::Other) =>
            QEMU.config_unsupported(
                "CCW addresses are not supported by machine type '{}'", machine.unwrap_or_default());
        matches!(&info.address, Some(Address::Pci(at)) if at.zpci.is_some()) && around.chipset != Chipset::Ccw =>
            QEMU.config_unsupported("This QEMU binary doesn't support zPCI");
        index != 0 && elsewhere => QEMU.config_unsupported("ACPI index is only supported for PCI devices");
        info.rom.is_some() && elsewhere => QEMU.config_unsupported("ROM tuning is only supported for PCI devices");
    }
    Ok(())
}

pub(super) fn on_usb(info: &DeviceInfo) -> Result {
    refuse! {
        !matches!(info.address, None | Some(Address::Usb(_))) =>
            DOMAIN.xml_error("Invalid address for a USB device");
    }
    Ok(())
}

pub(super) fn shmem(_around: &Around<'_>, shmem: &Shmem) -> Result {
    refuse! {
        shmem.name.as_deref().is_some_and(|name| name.contains('/')) =>
            DOMAIN.config_unsupported("shmem name cannot include '/' character");
    }
    Ok(())
}

pub(super) fn iommu(_around: &Around<'_>, iommu: &Iommu) -> Result {
    let model = iommu.model;
    let said = iommu.driver.as_ref().is_some_and(|it| *it != IommuDriver::default());
    refuse! {
        model != IommuModel::Virtio && iommu.info.address.is_some() =>
            DOMAIN.xml_error("iommu model '{}' can't have address", model.as_str());
        model == IommuModel::Smmuv3 && iommu.driver.is_some() || model == IommuModel::Virtio && said =>
            DOMAIN.xml_error("iommu model '{}' doesn't support additional attributes", model.as_str());
    }
    Ok(())
}

pub(super) fn iommu_qemu(around: &Around<'_>, iommu: &Iommu) -> Result {
    let acpi = around.domain.features.as_ref().is_some_and(|features| features.acpi);
    let chipset = around.chipset;
    let virtio = iommu.model == IommuModel::Virtio;
    let bus = match &iommu.info.address {
        Some(Address::Pci(PciAddress { bus: Some(bus), .. })) => bus.0,
        _ => 0,
    };
    refuse! {
        iommu.model == IommuModel::Smmuv3 && !matches!(chipset, Chipset::ArmVirt | Chipset::Other) =>
            QEMU.config_unsupported("IOMMU device: 'smmuv3' is only supported with ARM Virt machines");
        chipset == Chipset::ArmVirt && virtio && !acpi =>
            QEMU.config_unsupported("IOMMU device: 'virtio' requires ACPI");
        iommu.model == IommuModel::Intel && chipset != Chipset::Q35 =>
            QEMU.config_unsupported("IOMMU device: 'intel' is only supported with Q35 machines");
        virtio && !matches!(chipset, Chipset::Q35 | Chipset::ArmVirt) =>
            QEMU.config_unsupported("IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines");
        virtio && !matches!(iommu.info.address, None | Some(Address::Pci(_))) =>
            QEMU.config_unsupported("IOMMU device: 'virtio' needs a PCI address");
        virtio && bus != 0 =>
            DOMAIN.xml_error("The device at PCI address 0000:{bus:02x}:00.0 needs to be an integrated device (bus=0)");
    }
    Ok(())
}

/// Only interrupts of a server's are messages.
pub(super) fn read_shmem(shmem: &Shmem) -> Result {
    refuse! {
        shmem.name.is_none() => DOMAIN.xml_error("shmem element must contain 'name' attribute");
        shmem.msi.is_some() && shmem.server.is_none() =>
            DOMAIN.xml_error("msi option is only supported with a server");
    }
    Ok(())
}

/// A card made of certificates has three.
pub(super) fn smartcard(card: &Smartcard) -> Result {
    const CERTIFICATES: usize = 3;
    let database = card.database.as_deref().filter(|_| card.mode == SmartcardMode::HostCertificates);
    refuse! {
        card.mode == SmartcardMode::HostCertificates && card.certificate.len() != CERTIFICATES =>
            DOMAIN.xml_error("host-certificates mode needs exactly three certificates");
        database.is_some_and(|path| !path.starts_with('/')) =>
            DOMAIN.xml_error("expecting absolute path: {}", database.unwrap_or_default());
        card.mode == SmartcardMode::Passthrough && card.type_.is_none() =>
            DOMAIN.xml_error("passthrough mode requires a character device type attribute");
    }
    Ok(())
}

/// A device is described by numbers of its kind's size.
pub(super) fn usb_rule(rule: &UsbDevFilter) -> Result {
    let class = rule.class.as_deref().and_then(c_number);
    let version = rule.version.as_deref();
    let fits = |version: &str| {
        let parts = version.split_once('.').filter(|(major, minor)| major.len() <= 2 && minor.len() <= 3);
        parts.is_some_and(|(major, minor)| {
            [major, minor]
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
        })
    };
    let said = [("class", &rule.class), ("vendor", &rule.vendor), ("product", &rule.product)];
    let odd =
        |text: &Option<String>| text.as_deref().is_some_and(|text| c_number(text).is_none() && text != "-1");
    let wrong = said.into_iter().find(|(_, text)| odd(text));
    refuse! {
        wrong.is_some() => XML.xml_error(
            "Invalid value for attribute '{}' in element 'usbdev': '{}'. Expected integer value",
            wrong.map(|(name, _)| name).unwrap_or_default(),
            wrong.and_then(|(_, text)| text.as_deref()).unwrap_or_default());
        class.is_some_and(|class| class > 0xff) => DOMAIN.internal_error(
            "Invalid USB Class code 0x{:x}", class.unwrap_or_default());
        version.is_some_and(|version| !fits(version)) => DOMAIN.xml_error(
            "Cannot parse USB device version {}", version.unwrap_or_default());
    }
    Ok(())
}

pub(super) fn read_pstore(pstore: &Pstore) -> Result {
    refuse! {
        pstore.size.is_none() => XML.xml_error("missing element or attribute './size'");
    }
    Ok(())
}

pub(super) fn pstore(_around: &Around<'_>, pstore: &Pstore) -> Result {
    let size = pstore.size.map_or(0, |size| size.0);
    refuse! {
        pstore.backend == "acpi-erst" && !(size.is_power_of_two() && size >= 4) =>
            DOMAIN.xml_error("invalid size of ACPI ERST pstore device");
    }
    Ok(())
}

pub(super) fn pstore_qemu(around: &Around<'_>, pstore: &Pstore) -> Result {
    refuse! {
        !around.has("acpi-erst") =>
            QEMU.config_unsupported("acpi-erst backend of pstore device is not supported");
        !matches!(pstore.info.address, None | Some(Address::Pci(_))) =>
            QEMU.config_unsupported("ACPI ERST device must reside on a PCI bus");
    }
    Ok(())
}

pub(super) fn nvram(around: &Around<'_>, _nvram: &NvramDevice) -> Result {
    let arch = around.domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref()).unwrap_or_default();
    refuse! {
        !arch.starts_with("ppc64") => QEMU.config_unsupported("nvram device is only supported for PPC64");
    }
    Ok(())
}

/// How many there can be of what there is one of.
pub(super) fn check_numbers(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    let chips = devices.tpms.iter().filter(|tpm| tpm.model != Some(TpmModel::SpaprTpmProxy)).count();
    let mut models = BTreeSet::new();
    let again = devices.panics.iter().filter_map(|panic| panic.model).find(|model| !models.insert(*model));
    refuse! {
        again.is_some() => DOMAIN.xml_error(
            "Multiple panic devices with model '{}'", again.unwrap_or_default().as_str());
        chips > 1 => QEMU.config_unsupported("only a single TPM non-proxy device is supported");
    }
    devices.panics.iter().try_for_each(|device| panic(around, device))
}

pub(super) fn watchdog(around: &Around<'_>, watchdog: &Watchdog) -> Result {
    let address = watchdog.info.address.as_ref();
    let pci = matches!(address, Some(Address::Pci(_)));
    // Several of one kind are told apart by their places.
    let all = &around.domain.devices.watchdogs;
    let single = watchdog.model != WatchdogModel::I6300esb;
    let twice =
        single && around.whole() && all.iter().filter(|other| other.model == watchdog.model).count() > 1;
    let action = all.first().map(|first| first.action);
    refuse! {
        twice => QEMU.config_unsupported(
            "domain can only have one watchdog with model '{}'", watchdog.model.as_str());
        Some(watchdog.action) != action =>
            QEMU.config_unsupported("watchdogs with different actions are not supported with this QEMU binary");
        watchdog.model == WatchdogModel::I6300esb && address.is_some() && !pci =>
            QEMU.config_unsupported("i6300esb model of watchdog can go only on PCI bus");
        watchdog.model == WatchdogModel::Ib700 && address.is_some() =>
            QEMU.config_unsupported("ib700 model of watchdog does not support configuring the address");
        watchdog.model == WatchdogModel::Ib700 && (around.is_q35() || around.chipset.is_foreign()) =>
            QEMU.config_unsupported("ib700 model of watchdog cannot be used with this machine type");
        watchdog.model == WatchdogModel::Diag288 && address.is_some() =>
            QEMU.config_unsupported("diag288 model of watchdog is virtual and cannot go on any bus.");
        watchdog.model == WatchdogModel::Diag288 && !matches!(around.chipset, Chipset::Ccw | Chipset::Other) =>
            QEMU.config_unsupported("diag288 model of watchdog is allowed for s390 and s390x only");
        watchdog.model == WatchdogModel::Itco && address.is_some() => QEMU.config_unsupported(
            "itco model of watchdog is part of the machine and cannot have any address set."
        );
        watchdog.model == WatchdogModel::Itco && !around.is_q35() =>
            QEMU.config_unsupported("itco model of watchdog is only part of q35 machine");
    }
    Ok(())
}

fn panic(around: &Around<'_>, panic: &Panic) -> Result {
    let model = panic.model.unwrap_or_default();
    let address = panic.info.address.as_ref();
    refuse! {
        model == PanicModel::S390 && around.chipset != Chipset::Ccw =>
            QEMU.config_unsupported("only S390 guests support panic device of model 's390'");
        model == PanicModel::Pseries && around.chipset != Chipset::Pseries =>
            QEMU.config_unsupported("only pSeries guests support panic device of model 'pseries'");
        model == PanicModel::Hyperv && around.chipset.is_foreign() => QEMU.config_unsupported(
            "only i686 and x86_64 guests support panic device of model 'hyperv'");
        model == PanicModel::Pvpanic && !around.has("pvpanic-pci") =>
            QEMU.config_unsupported("the QEMU binary does not support the PCI pvpanic device");
        model == PanicModel::Hyperv && address.is_some() =>
            QEMU.config_unsupported("setting the panic device address is not supported for model 'hyperv'");
        model == PanicModel::Isa && around.chipset.is_foreign() && !around.has("pvpanic") =>
            QEMU.config_unsupported("the QEMU binary does not support the ISA panic device");
        model == PanicModel::Isa && !matches!(address, None | Some(Address::Isa(_))) =>
            QEMU.config_unsupported("panic is supported only with ISA address type");
        model == PanicModel::Pvpanic && !matches!(address, None | Some(Address::Pci(_))) =>
            QEMU.config_unsupported("pvpanic is supported only with PCI address type");
    }
    Ok(())
}

pub(super) fn shmem_qemu(_around: &Around<'_>, shmem: &Shmem) -> Result {
    let model = shmem.model.as_ref().map_or("ivshmem", |model| model.type_.as_str());
    let odd = shmem.size.is_some_and(|size| !size.0.is_power_of_two());
    refuse! {
        odd => QEMU.xml_error("shmem size must be a power of 2 and at least 1 MiB (1024 KiB)");
        model == "ivshmem" => QEMU.config_unsupported("ivshmem device is no longer supported");
    }
    Ok(())
}

/// There is one chip, and what gives access to one.
pub(super) fn few_chips(chips: &[Tpm]) -> Result {
    refuse! {
        chips.len() > 2 => DOMAIN.xml_error(
            "a maximum of two TPM devices is supported, one of them being a TPM Proxy device");
    }
    Ok(())
}

/// What a chip of the host, or one outside of it, needs to say.
pub(super) fn read_tpm(tpm: &Tpm) -> Result {
    let Some(backend) = &tpm.backend else { return Err(DOMAIN.xml_error("missing TPM device backend")) };
    let source = backend.source.as_ref();
    let mode = source.and_then(|source| source.mode.as_deref());
    refuse! {
        backend.type_ == TpmBackendType::External && source.is_none_or(|source| source.type_.is_none()) =>
            DOMAIN.xml_error("missing external TPM backend source type");
        backend.type_ == TpmBackendType::Emulator && source.is_some_and(|source| source.path.is_none()) =>
            DOMAIN.xml_error("missing TPM source path");
        backend.type_ == TpmBackendType::External && source.is_some_and(|source| source.path.is_none()) =>
            DOMAIN.xml_error("missing external TPM backend source path");
        backend.type_ == TpmBackendType::External
            && source.is_some_and(|source| source.type_.as_deref().is_some_and(|kind| kind != "unix")) =>
            DOMAIN.xml_error("only source type 'unix' is supported for external TPM device");
        backend.type_ == TpmBackendType::External && mode.is_some_and(|mode| mode != "connect") =>
            DOMAIN.xml_error("only 'connect' mode is supported for external TPM device");
    }
    Ok(())
}

pub(super) fn tpm(around: &Around<'_>, tpm: &Tpm) -> Result {
    let Some(backend) = &tpm.backend else { return Ok(()) };
    let source = backend.source.as_ref();
    let emulator = around.domain.devices.emulator.as_deref().unwrap_or_default();
    let model = tpm.model.unwrap_or_default();
    let chip: &[&str] = match model {
        // Every PC has these.
        TpmModel::TpmTis | TpmModel::TpmCrb if !around.chipset.is_foreign() => &[],
        TpmModel::TpmTis => &["tpm-tis", "tpm-tis-device"],
        TpmModel::TpmCrb => &["tpm-crb", "tpm-crb-device"],
        TpmModel::TpmSpapr => &["tpm-spapr"],
        TpmModel::SpaprTpmProxy => &["spapr-tpm-proxy"],
    };
    refuse! {
        backend.type_ == TpmBackendType::Emulator && around.emulator.is_some_and(|emulator| !emulator.tpm) =>
            QEMU.config_unsupported("TPM version '{}' is not supported", backend.version.as_deref().unwrap_or("2.0"));
        backend.type_ == TpmBackendType::External && !around.emulator.is_none_or(|emulator| emulator.tpm)
            && source.is_some_and(|source| source.path.is_some()) => QEMU.config_unsupported(
            "The QEMU executable {emulator} does not support TPM backend type external"
        );
        around.chipset.is_foreign() && backend.type_ == TpmBackendType::Passthrough
            && !["tpm-tis", "tpm-spapr", "tpm-tis-device"].into_iter().any(|chip| around.has(chip)) =>
            QEMU.config_unsupported("The QEMU executable {emulator} does not support TPM backend type passthrough");
        backend.version.as_deref() == Some("1.2") && model == TpmModel::TpmCrb =>
            QEMU.config_unsupported("TPM 1.2 is not supported for model 'tpm-crb'");
        backend.version.as_deref() != Some("2.0") && backend.active_pcr_banks.is_some() =>
            DOMAIN.xml_error("<active_pcr_banks/> requires TPM version '2.0'");
        backend.version.as_deref() != Some("2.0") && backend.profile.is_some() =>
            DOMAIN.xml_error("<profile/> requires TPM version '2.0'");
        !chip.is_empty() && !chip.iter().any(|device| around.has(device)) => QEMU.config_unsupported(
            "The QEMU executable {emulator} does not support TPM model {}", model.as_str()
        );
    }
    Ok(())
}

pub(super) fn read_crypto(crypto: &Crypto) -> Result {
    refuse! {
        crypto.backend.is_none() => DOMAIN.xml_error("only one crypto backend is supported");
    }
    Ok(())
}

pub(super) fn crypto(_around: &Around<'_>, crypto: &Crypto) -> Result {
    let backend = crypto.backend.as_ref().map(|backend| backend.model.as_str()).unwrap_or_default();
    refuse! {
        backend == "lkcf" => QEMU.config_unsupported("crypto backend lkcf is not supported");
    }
    Ok(())
}

/// Whether an option of virtio's is said to a device that is none.
pub(super) fn misplaced(options: &VirtioOptions, virtio: bool) -> Result {
    let said = [
        ("iommu", options.iommu),
        ("ats", options.ats),
        ("packed", options.packed),
        ("page_per_vq", options.page_per_vq),
    ];
    let first = said.into_iter().find(|(_, value)| value.is_some()).filter(|_| !virtio);
    refuse! {
        first.is_some_and(|(name, _)| name == "page_per_vq") =>
            DOMAIN.config_unsupported("page_per_vq option is only supported for virtio devices");
        first.is_some() => DOMAIN.config_unsupported(
            "{} driver option is only supported for virtio devices",
            first.map(|(name, _)| name).unwrap_or_default()
        );
    }
    Ok(())
}

/// Whether a model of virtio that is not simply virtio is asked of something that has none.
pub(super) fn is_special(model: Option<VirtioModel>) -> bool {
    matches!(model, Some(VirtioModel::VirtioTransitional | VirtioModel::VirtioNonTransitional))
}

/// A lease says what of which space it is on, and where that is kept.
pub(super) fn read_lease(lease: &Lease) -> Result {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if empty(&lease.lockspace) {
        return Err(unknown_cause());
    }
    refuse! {
        empty(&lease.key) => DOMAIN.xml_error("Missing 'key' element for lease");
        lease.target.is_none() => DOMAIN.xml_error("Missing 'target' element for lease");
        lease.target.as_ref().is_some_and(|target| target.path.is_none()) =>
            DOMAIN.xml_error("Missing 'path' attribute to 'target' element for lease");
    }
    Ok(())
}
