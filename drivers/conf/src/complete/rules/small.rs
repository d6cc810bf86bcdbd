//! The small devices, and what all devices say of themselves.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Around, Result};
use crate::YesNo;
use crate::complete::board::{self, Chipset};
use crate::domain::Domain;
use crate::domain::chardev::{Smartcard, SmartcardMode, UsbDevFilter};
use crate::domain::device::{Address, DeviceInfo};
use crate::domain::disk::VirtioModel;
use crate::domain::display::InputBus;
use crate::domain::misc::{
    Crypto, IommuModel, Panic, PanicModel, Pstore, Shmem, Tpm, TpmBackendType, TpmModel, Watchdog,
    WatchdogModel,
};
use crate::table::c_number;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// Everything in this file that no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    let devices = &domain.devices;
    devices.infos().into_iter().try_for_each(about)?;
    devices.redirdevs.iter().try_for_each(|redirdev| on_usb(&redirdev.info))?;
    devices.pstore.iter().try_for_each(pstore)?;
    let outside = devices.tpms.iter().filter_map(|tpm| tpm.backend.as_ref());
    let outside = outside.filter(|backend| backend.type_ == TpmBackendType::External);
    let mut modes = outside.filter_map(|backend| backend.source.as_ref()?.mode.as_deref());
    refuse! {
        modes.any(|mode| mode != "connect") =>
            DOMAIN.xml_error("only 'connect' mode is supported for external TPM device");
    }
    let iommu = devices.iommu.as_ref();
    let model = iommu.map(|iommu| iommu.model).unwrap_or_default();
    let mut cards = devices.smartcards.iter();
    devices.smartcards.iter().try_for_each(smartcard)?;
    devices.redirfilter.iter().flat_map(|filter| &filter.usbdev).try_for_each(usb_rule)?;
    let mut models = BTreeSet::new();
    let again = devices.panics.iter().filter_map(|panic| panic.model).find(|model| !models.insert(*model));
    let named = devices.shmems.iter().filter_map(|shmem| shmem.name.as_deref());
    refuse! {
        again.is_some() => DOMAIN.xml_error(
            "Multiple panic devices with model '{}'", again.unwrap_or_default().as_str());
        named.into_iter().any(|name| name.contains('/')) =>
            DOMAIN.config_unsupported("shmem name cannot include '/' character");
        devices.inputs.iter().any(|input| input.bus == Some(InputBus::Usb)
            && !matches!(input.info.address, None | Some(Address::Usb(_)))) =>
            DOMAIN.xml_error("Invalid address for a USB device");
    }
    refuse! {
        iommu.is_some() && model != IommuModel::Virtio && iommu.is_some_and(|i| i.info.address.is_some()) =>
            DOMAIN.xml_error("iommu model '{}' can't have address", model.as_str());
        model == IommuModel::Smmuv3 && iommu.is_some_and(|i| i.driver.is_some()) =>
            DOMAIN.xml_error("iommu model 'smmuv3' doesn't support additional attributes");
        cards.any(|card| !matches!(card.info.address, None | Some(Address::Ccid(_)))) =>
            DOMAIN.config_unsupported("Controllers must use the 'ccid' address type");
    }
    Ok(())
}

/// What a device says of itself.
fn about(info: &DeviceInfo) -> Result {
    let rom = info.rom.as_ref();
    refuse! {
        rom.is_some_and(|rom| rom.enabled == Some(YesNo::No) && (rom.bar.is_some() || rom.file.is_some())) =>
            DOMAIN.config_unsupported("ROM tuning is not supported when ROM is disabled");
    }
    Ok(())
}

fn on_usb(info: &DeviceInfo) -> Result {
    refuse! {
        !matches!(info.address, None | Some(Address::Usb(_))) =>
            DOMAIN.xml_error("Invalid address for a USB device");
    }
    Ok(())
}

/// A card made of certificates has three.
fn smartcard(card: &Smartcard) -> Result {
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
fn usb_rule(rule: &UsbDevFilter) -> Result {
    let class = rule.class.as_deref().and_then(c_number);
    let version = rule.version.as_deref();
    let fits = |version: &str| {
        let parts = version.split_once('.').filter(|(major, minor)| major.len() <= 2 && minor.len() <= 2);
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

fn pstore(pstore: &Pstore) -> Result {
    let size = pstore.size.map_or(0, |size| size.0);
    refuse! {
        pstore.size.is_none() => XML.xml_error("missing element or attribute './size'");
        pstore.backend == "acpi-erst" && !(size.is_power_of_two() && size >= 4) =>
            DOMAIN.xml_error("invalid size of ACPI ERST pstore device");
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    addresses(around)?;
    // Several of one kind are told apart by their places.
    let mut singles = devices.watchdogs.iter().filter(|dog| dog.model != WatchdogModel::I6300esb);
    let same = |dog: &Watchdog| devices.watchdogs.iter().filter(|other| other.model == dog.model).count() > 1;
    let twice = singles.find(|dog| same(dog)).map(|dog| dog.model);
    refuse! {
        twice.is_some() => QEMU.config_unsupported(
            "domain can only have one watchdog with model '{}'", twice.unwrap_or_default().as_str());
    }
    devices.watchdogs.iter().try_for_each(|watchdog| check_watchdog(around, watchdog))?;
    devices.panics.iter().try_for_each(|panic| check_panic(around, panic))?;
    devices.shmems.iter().try_for_each(shmem)?;
    devices.tpms.iter().try_for_each(|tpm| check_tpm(around, tpm))?;
    devices.cryptos.iter().try_for_each(crypto)?;
    let chips = devices.tpms.iter().filter(|tpm| tpm.model != Some(TpmModel::SpaprTpmProxy)).count();
    refuse! {
        chips > 1 => QEMU.config_unsupported("only a single TPM non-proxy device is supported");
    }
    let elsewhere =
        devices.pstore.iter().any(|pstore| !matches!(pstore.info.address, None | Some(Address::Pci(_))));
    refuse! {
        elsewhere => QEMU.config_unsupported("ACPI ERST device must reside on a PCI bus");
        (around.chipset.is_foreign() || !board::has_ps2(around.domain))
            && devices.inputs.iter().any(|input| input.bus == Some(InputBus::Ps2)) =>
            QEMU.config_unsupported("ps2 is not supported by this QEMU binary");
        devices.smartcards.len() > 1 || devices.smartcards.iter().any(|card| !is_first(&card.info)) =>
            QEMU.config_unsupported("this QEMU binary lacks multiple smartcard support");
    }
    let smmu = devices.iommu.as_ref().is_some_and(|iommu| iommu.model == IommuModel::Smmuv3);
    refuse! {
        smmu && !matches!(around.chipset, Chipset::ArmVirt | Chipset::Other) =>
            QEMU.config_unsupported("IOMMU device: 'smmuv3' is only supported with ARM Virt machines");
    }
    Ok(())
}

fn addresses(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    let lent: Vec<*const DeviceInfo> =
        devices.hostdevs.iter().map(|hostdev| std::ptr::from_ref(&hostdev.info)).collect();
    for info in devices.infos() {
        let pci = matches!(info.address, Some(Address::Pci(_)));
        let lent = lent.contains(&std::ptr::from_ref(info));
        let index = info.acpi.as_ref().and_then(|acpi| acpi.index).unwrap_or(0);
        refuse! {
            matches!(info.address, Some(Address::Unassigned(_))) && !lent =>
                DOMAIN.config_unsupported("address of type 'unassigned' is supported only for hostdevs");
            index != 0 && !pci => QEMU.config_unsupported("ACPI index is only supported for PCI devices");
            info.rom.is_some() && !pci => QEMU.config_unsupported("ROM tuning is only supported for PCI devices");
        }
    }
    Ok(())
}

/// Whether a smart card is the first one of the first reader.
fn is_first(info: &DeviceInfo) -> bool {
    match &info.address {
        Some(Address::Ccid(at)) => at.controller == 0 && at.slot == 0,
        _ => true,
    }
}

fn check_watchdog(around: &Around<'_>, watchdog: &Watchdog) -> Result {
    let address = watchdog.info.address.as_ref();
    let pci = matches!(address, Some(Address::Pci(_)));
    refuse! {
        watchdog.model == WatchdogModel::I6300esb && address.is_some() && !pci =>
            QEMU.config_unsupported("i6300esb model of watchdog can go only on PCI bus");
        watchdog.model == WatchdogModel::Ib700 && address.is_some() =>
            QEMU.config_unsupported("ib700 model of watchdog does not support configuring the address");
        watchdog.model == WatchdogModel::Ib700 && around.is_q35() =>
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

fn check_panic(around: &Around<'_>, panic: &Panic) -> Result {
    let model = panic.model.unwrap_or_default();
    let address = panic.info.address.as_ref();
    refuse! {
        model == PanicModel::S390 && around.chipset != Chipset::Ccw =>
            QEMU.config_unsupported("only S390 guests support panic device of model 's390'");
        model == PanicModel::Pseries && around.chipset != Chipset::Pseries =>
            QEMU.config_unsupported("only pSeries guests support panic device of model 'pseries'");
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

fn shmem(shmem: &Shmem) -> Result {
    let model = shmem.model.as_ref().map_or("ivshmem", |model| model.type_.as_str());
    let odd = shmem.size.is_some_and(|size| !size.0.is_power_of_two());
    refuse! {
        odd => QEMU.xml_error("shmem size must be a power of 2 and at least 1 MiB (1024 KiB)");
        model == "ivshmem" => QEMU.config_unsupported("ivshmem device is no longer supported");
    }
    Ok(())
}

fn check_tpm(around: &Around<'_>, tpm: &Tpm) -> Result {
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
        backend.type_ == TpmBackendType::External && !around.emulator.is_none_or(|emulator| emulator.tpm)
            && source.is_some_and(|source| source.path.is_some()) => QEMU.config_unsupported(
            "The QEMU executable {emulator} does not support TPM backend type external"
        );
        backend.type_ == TpmBackendType::External && source.is_none_or(|source| source.type_.is_none()) =>
            DOMAIN.xml_error("missing external TPM backend source type");
        backend.type_ == TpmBackendType::Emulator && source.is_some_and(|source| source.path.is_none()) =>
            DOMAIN.xml_error("missing TPM source path");
        backend.type_ == TpmBackendType::External && source.is_some_and(|source| source.path.is_none()) =>
            DOMAIN.xml_error("missing external TPM backend source path");
        backend.type_ == TpmBackendType::External
            && source.is_some_and(|source| source.type_.as_deref().is_some_and(|kind| kind != "unix")) =>
            DOMAIN.xml_error("only source type 'unix' is supported for external TPM device");
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

fn crypto(crypto: &Crypto) -> Result {
    let backend = crypto.backend.as_ref().map(|backend| backend.model.as_str()).unwrap_or_default();
    refuse! {
        crypto.backend.is_none() => DOMAIN.xml_error("only one crypto backend is supported");
        backend == "lkcf" => QEMU.config_unsupported("crypto backend lkcf is not supported");
    }
    Ok(())
}

/// Whether an option of virtio's is said to a device that is none.
pub(super) fn misplaced(
    options: &crate::domain::device::VirtioOptions,
    virtio: bool,
) -> std::result::Result<(), VirtError> {
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
