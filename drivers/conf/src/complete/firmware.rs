//! Firmware: the one that is named, or the first of the host's that can do what is asked.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::QemuHost;
use crate::domain::Domain;
use crate::domain::features::Smm;
use crate::domain::os::{
    Firmware, FirmwareFeature, FirmwareFeatures, FirmwareFormat, Loader, LoaderType, Nvram, Os,
};
use crate::{OnOff, YesNo};

const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// A firmware that the host has, as its descriptor file tells.
#[derive(Debug, Clone, Default)]
pub struct FirmwareImage {
    /// What it is to the guest.
    pub interfaces: Vec<Firmware>,
    /// Its file.
    pub path: String,
    /// The format of the file.
    pub format: FirmwareFormat,
    /// Where it is put.
    pub mapping: FirmwareMapping,
    /// Architectures, and patterns of machines that it runs on.
    pub targets: Vec<(String, Vec<String>)>,
    /// What it can and what it needs (`secure-boot`, `requires-smm`).
    pub features: Vec<String>,
}

/// Where firmware is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FirmwareMapping {
    /// In flash memory, with a file of variables beside it, made from a template.
    Split {
        /// The template.
        template: String,
        /// The template's format.
        format: FirmwareFormat,
    },
    /// In flash memory, variables and all.
    Combined,
    /// In flash memory, and without variables.
    Stateless,
    /// In memory, as ROMs are.
    #[default]
    Memory,
}

impl FirmwareImage {
    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    fn runs_on(&self, arch: &str, machine: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => machine.starts_with(beginning),
            None => machine == pattern,
        };
        self.targets.iter().any(|(of, machines)| of == arch && machines.iter().any(fits))
    }

    /// Whether it is what the definition asks for, as far as that says anything.
    fn fits(&self, os: &Os, smm: Option<OnOff>) -> bool {
        let kind = os.type_.as_ref();
        let arch = kind.and_then(|kind| kind.arch.as_deref()).unwrap_or_default();
        let machine = kind.and_then(|kind| kind.machine.as_deref()).unwrap_or_default();
        let asked = |wish: Option<bool>, has: bool| wish.is_none_or(|wish| wish == has);
        os.firmware.is_none_or(|firmware| self.interfaces.contains(&firmware))
            && self.runs_on(arch, machine)
            && os.loader.as_ref().is_none_or(|loader| self.fits_loader(loader))
            && os.nvram.as_ref().is_none_or(|nvram| self.fits_nvram(nvram))
            && asked(wish(os, "secure-boot"), self.has("secure-boot"))
            && asked(wish(os, "enrolled-keys"), self.has("enrolled-keys"))
            && !(smm == Some(OnOff::Off) && self.has("requires-smm"))
    }

    fn fits_loader(&self, loader: &Loader) -> bool {
        let in_flash = self.mapping != FirmwareMapping::Memory;
        let kind = if in_flash { LoaderType::Pflash } else { LoaderType::Rom };
        let is = |answer: Option<YesNo>, truth: bool| answer.is_none_or(|a| (a == YesNo::Yes) == truth);
        loader.path.as_ref().is_none_or(|path| *path == self.path)
            && loader.type_.is_none_or(|type_| type_ == kind)
            && loader.format.is_none_or(|format| format == self.format)
            && is(loader.readonly, self.mapping != FirmwareMapping::Combined)
            && is(loader.stateless, self.mapping == FirmwareMapping::Stateless)
            && is(loader.secure, self.is_secure())
    }

    fn fits_nvram(&self, nvram: &Nvram) -> bool {
        match &self.mapping {
            FirmwareMapping::Split { template, format } => {
                nvram.template.as_ref().is_none_or(|asked| asked == template)
                    && nvram.template_format.is_none_or(|asked| asked == *format)
                    && nvram.format.is_none_or(|asked| asked == *format)
            }
            _ => false,
        }
    }

    /// Whether nobody but the firmware can write to its flash memory.
    fn is_secure(&self) -> bool {
        self.has("secure-boot") && self.has("requires-smm")
    }

    fn apply(&self, domain: &mut Domain) {
        let os = &mut domain.os;
        os.firmware = self.interfaces.first().copied();
        if os.firmware == Some(Firmware::Efi) {
            let told = |name: &str| FirmwareFeature {
                enabled: if self.has(name) { YesNo::Yes } else { YesNo::No },
                name: name.to_owned(),
            };
            let feature = ["enrolled-keys", "secure-boot"].map(told).to_vec();
            os.firmware_features = Some(FirmwareFeatures { feature });
        }
        let loader = os.loader.get_or_insert_default();
        loader.path = Some(self.path.clone());
        if self.mapping == FirmwareMapping::Memory {
            loader.type_ = Some(LoaderType::Rom);
        } else {
            loader.type_ = Some(LoaderType::Pflash);
            loader.format = Some(self.format);
            let read_only = self.mapping != FirmwareMapping::Combined;
            loader.readonly = Some(if read_only { YesNo::Yes } else { YesNo::No });
        }
        if self.is_secure() {
            loader.secure = Some(YesNo::Yes);
        }
        if let FirmwareMapping::Split { template, format } = &self.mapping {
            let nvram = os.nvram.get_or_insert_default();
            nvram.template = Some(template.clone());
            nvram.template_format = Some(*format);
            nvram.format = Some(*format);
        }
        if self.has("requires-smm") {
            let smm = domain.features.get_or_insert_default().smm.get_or_insert_default();
            smm.state = Some(OnOff::On);
        }
    }
}

/// Whether a feature is asked for, or asked to be absent.
fn wish(os: &Os, name: &str) -> Option<bool> {
    let features = os.firmware_features.iter().flat_map(|features| &features.feature);
    features.filter(|feature| feature.name == name).map(|feature| feature.enabled == YesNo::Yes).next_back()
}

/// Enrolled keys are of no use to firmware that does not check signatures.
fn contradicts_itself(os: &Os) -> bool {
    wish(os, "enrolled-keys") == Some(true) && wish(os, "secure-boot") == Some(false)
}

/// Code and template of variables that are known without a descriptor.
const KNOWN: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),
];

/// Chooses the firmware, and fills in what follows from it.
pub(super) fn complete(domain: &mut Domain, host: &QemuHost) -> Result<(), VirtError> {
    let smm =
        domain.features.as_ref().and_then(|features| features.smm.as_ref()).and_then(|smm: &Smm| smm.state);
    let named = domain.os.loader.as_ref().and_then(|loader| loader.path.as_ref()).is_some();
    let asked = domain.os.firmware;
    if asked.is_some() || (named && in_flash(&domain.os)) {
        let found = host.firmware.iter().find(|image| image.fits(&domain.os, smm));
        match (found, asked) {
            (Some(image), _) => image.apply(domain),
            // What contradicts itself is refused for that, and later.
            (None, Some(_)) if contradicts_itself(&domain.os) => {}
            (None, Some(firmware)) => {
                return Err(QEMU.operation_failed(format_args!(
                    "Unable to find '{}' firmware that is compatible with the current configuration",
                    firmware.as_str()
                )));
            }
            (None, None) => {}
        }
    }
    formats(&mut domain.os);
    variables(domain, host);
    let acpi = domain.features.as_ref().is_some_and(|features| features.acpi);
    let arch = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref());
    if in_flash(&domain.os) && !acpi && matches!(arch, Some("x86_64" | "i686")) {
        return Err(QEMU.config_unsupported("UEFI requires ACPI on this architecture"));
    }
    if acpi && !in_flash(&domain.os) && arch == Some("aarch64") {
        return Err(QEMU.config_unsupported("ACPI requires UEFI on this architecture"));
    }
    Ok(())
}

fn in_flash(os: &Os) -> bool {
    os.loader.as_ref().and_then(|loader| loader.type_) == Some(LoaderType::Pflash)
}

fn formats(os: &mut Os) {
    let flash = in_flash(os);
    if let Some(loader) = os.loader.as_mut().filter(|loader| flash && loader.path.is_some()) {
        loader.format.get_or_insert(FirmwareFormat::Raw);
    }
}

/// A guest's variables are in a file of its own.
fn variables(domain: &mut Domain, host: &QemuHost) {
    let os = &mut domain.os;
    let Some(loader) = os.loader.as_ref().filter(|loader| loader.type_ == Some(LoaderType::Pflash)) else {
        return;
    };
    if loader.readonly != Some(YesNo::Yes) || loader.stateless == Some(YesNo::Yes) {
        return;
    }
    let known = KNOWN.iter().find(|(code, _)| loader.path.as_deref() == Some(*code));
    let format = loader.format.unwrap_or_default();
    let nvram = os.nvram.get_or_insert_default();
    if let Some((_, template)) = known
        && nvram.template.is_none()
    {
        nvram.template = Some((*template).to_owned());
        nvram.template_format.get_or_insert(FirmwareFormat::Raw);
    }
    let format = *nvram.format.get_or_insert(format);
    if nvram.path.is_none() && nvram.source.is_none() {
        let end = if format == FirmwareFormat::Qcow2 { "qcow2" } else { "fd" };
        nvram.path = Some(format!("{}/{}_VARS.{end}", host.nvram_dir, domain.name));
    }
}
