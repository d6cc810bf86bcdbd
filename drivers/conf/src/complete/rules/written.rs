//! What shows of a guest as soon as its definition is read: the parts that are no devices, one by one.

use std::collections::BTreeSet;

use virtwire_protocol::ErrorDomain;

use super::{Result, unknown_cause};
use crate::ARCHITECTURES;
use crate::domain::features::{CpuCacheMode, CpuMode};
use crate::domain::os::{AcpiTableType, PERF_EVENTS, Sysinfo};
use crate::domain::{Domain, LaunchSecurityType, VirtType};
use crate::table::parse_uuid;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;
const CPU: ErrorDomain = ErrorDomain::CPU;

/// Characters of the name of a processor's maker.
const VENDOR: usize = 12;
/// Levels of caches.
const LEVELS: std::ops::RangeInclusive<u32> = 1..=3;
/// Bytes of the name by which a fabric knows a guest.
const LONGEST_ID: usize = 128;
/// Operating system types libvirt knows.
const OS_TYPES: &[&str] = &["hvm", "xen", "linux", "exe", "uml", "xenpvh"];

/// A guest has a name.
pub(super) fn identity(domain: &Domain) -> Result {
    if domain.name.is_empty() {
        return Err(DOMAIN.no_name(""));
    }
    Ok(())
}

/// Who runs it, and what machine it sees.
pub(super) fn kind(domain: &Domain) -> Result {
    let kind = domain.os.type_.as_ref();
    let name = kind.map_or("", |kind| kind.name.as_str());
    let arch = kind.and_then(|kind| kind.arch.as_deref());
    refuse! {
        domain.type_ == VirtType::None => DOMAIN.internal_error("missing domain type attribute");
        name.is_empty() && domain.bootloader.is_none() => DOMAIN.xml_error("an os <type> must be specified");
        !name.is_empty() && !OS_TYPES.contains(&name) => DOMAIN.config_unsupported("unknown OS type '{name}'");
        arch.is_some_and(|arch| !ARCHITECTURES.contains(&arch)) =>
            DOMAIN.config_unsupported("Unknown architecture {}", arch.unwrap_or_default());
    }
    Ok(())
}

/// A title is one line.
pub(super) fn title(domain: &Domain) -> Result {
    refuse! {
        domain.title.as_deref().is_some_and(|title| title.contains('\n')) =>
            DOMAIN.xml_error("Domain title can't contain newlines");
    }
    Ok(())
}

/// The processor, as far as it is no matter of the host's.
pub(super) fn processor(domain: &Domain) -> Result {
    let Some(cpu) = &domain.cpu else { return Ok(()) };
    let vendor = cpu.model.as_ref().and_then(|model| model.vendor_id.as_ref());
    let whole = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
    refuse! {
        cpu.migratable.is_some() && !whole => CPU.config_unsupported(
            "Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode");
        vendor.is_some_and(|vendor| vendor.len() != VENDOR) =>
            CPU.xml_error("vendor_id must be exactly {VENDOR} characters long");
    }
    Ok(())
}

/// A maker is one of a model's.
pub(super) fn vendor(domain: &Domain) -> Result {
    let Some(cpu) = &domain.cpu else { return Ok(()) };
    let named = cpu.model.as_ref().is_some_and(|model| model.name.is_some());
    refuse! {
        cpu.vendor.is_some() && !named => CPU.xml_error("CPU vendor specified without CPU model");
    }
    Ok(())
}

/// Caches have levels.
pub(super) fn cache(domain: &Domain) -> Result {
    let level = domain.cpu.as_ref().and_then(|cpu| cpu.cache.as_ref()?.level);
    refuse! {
        level.is_some_and(|level| !LEVELS.contains(&level)) => CPU.xml_error(
            "invalid CPU cache level, must be in range [{},{}]", LEVELS.start(), LEVELS.end());
    }
    Ok(())
}

/// The width of addresses is limited where it is the host's.
pub(super) fn width(domain: &Domain) -> Result {
    let width = domain.cpu.as_ref().and_then(|cpu| cpu.maxphysaddr.as_ref());
    refuse! {
        width.is_some_and(|it| it.mode != CpuCacheMode::Passthrough && it.limit.is_some()) => CPU.config_unsupported(
            "attribute 'limit' is only supported for maxphysaddr mode 'passthrough'");
    }
    Ok(())
}

/// A guest is in a control group, or known to a fabric.
pub(super) fn resource(domain: &Domain) -> Result {
    let Some(resource) = &domain.resource else { return Ok(()) };
    let id = resource.fibrechannel.as_ref().map(|channel| channel.appid.as_deref().unwrap_or_default());
    if resource.partition.is_none() && id.is_none_or(str::is_empty) {
        return Err(unknown_cause());
    }
    refuse! {
        id.is_some_and(|id| id.len() > LONGEST_ID) => DOMAIN.invalid_arg(
            "Fibre Channel 'appid' string length must be between [1, {LONGEST_ID}]");
    }
    Ok(())
}

/// What is counted of a guest is known, and said once.
pub(super) fn events(domain: &Domain) -> Result {
    let mut seen = BTreeSet::new();
    for event in domain.perf.iter().flat_map(|perf| &perf.event) {
        let name = event.name.as_str();
        refuse! {
            !PERF_EVENTS.contains(&name) =>
                XML.xml_error("Invalid value for attribute 'name' in element 'event': '{name}'.");
            !seen.insert(name) => DOMAIN.xml_error("perf event '{name}' was already specified");
        }
    }
    Ok(())
}

/// Variables of a kind of storage are somewhere.
pub(super) fn variables(domain: &Domain) -> Result {
    match &domain.os.nvram {
        Some(nvram) if nvram.type_.is_some() && nvram.source.is_none() => Err(unknown_cause()),
        _ => Ok(()),
    }
}

/// There is one table of each kind that has a name.
pub(super) fn tables(domain: &Domain) -> Result {
    let mut kinds = BTreeSet::new();
    for kind in domain.os.acpi.iter().flat_map(|acpi| &acpi.table).map(|table| table.type_) {
        refuse! {
            kind != AcpiTableType::Raw && !kinds.insert(kind) =>
                DOMAIN.xml_error("ACPI table type '{}' may only appear once", kind.as_str());
        }
    }
    Ok(())
}

/// What an s390 guest's loader is told.
pub(super) fn parameters(domain: &Domain) -> Result {
    let boots = domain.devices.infos().into_iter().filter_map(|info| info.boot.as_ref());
    for text in boots.filter_map(|boot| boot.loadparm.as_deref()).map(str::to_ascii_uppercase) {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ' ');
        refuse! {
            !(1..=8).contains(&text.len()) =>
                DOMAIN.internal_error("loadparm value '{text}' must be between 1 and 8 characters");
            !text.chars().all(known) => DOMAIN.internal_error(
                "invalid loadparm value '{text}', expecting chars in set of [a-zA-Z0-9.] and blank spaces");
        }
    }
    Ok(())
}

/// Whoever keeps a guest's memory from the host says how.
pub(super) fn launch_policy(domain: &Domain) -> Result {
    let security = domain.launch_security.as_ref();
    let security = security.filter(|security| security.type_ != LaunchSecurityType::S390Pv);
    refuse! {
        security.is_some_and(|security| security.policy.is_none()) =>
            DOMAIN.xml_error("failed to get launch security policy");
    }
    Ok(())
}

/// What firmware tells the guest.
pub(super) fn told(domain: &Domain) -> Result {
    domain.sysinfo.iter().try_for_each(|info| {
        files(info)?;
        dates(info)?;
        number(domain, info)
    })
}

/// A file of fw_cfg has a content.
fn files(sysinfo: &Sysinfo) -> Result {
    refuse! {
        sysinfo.entry.iter().any(|entry| entry.value.is_none() && entry.file.is_none()) =>
            DOMAIN.xml_error("Firmware entry must have either value or 'file' attribute");
    }
    Ok(())
}

/// The system's number is the guest's.
fn number(domain: &Domain, info: &Sysinfo) -> Result {
    let entries = info.system.iter().flat_map(|system| &system.entry);
    let told = entries
        .filter(|entry| entry.name.as_deref() == Some("uuid"))
        .filter_map(|e| e.value.as_deref())
        .next();
    let number = told.and_then(parse_uuid);
    refuse! {
        told.is_some() && number.is_none() => DOMAIN.xml_detail("malformed <sysinfo> uuid element");
        told.is_some() && domain.uuid.is_some() && number != domain.uuid =>
            DOMAIN.xml_detail("UUID mismatch between <uuid> and <sysinfo>");
    }
    Ok(())
}

/// A date is month, day and year between slashes.
fn dates(sysinfo: &Sysinfo) -> Result {
    let entries = sysinfo.bios.iter().flat_map(|bios| &bios.entry);
    let date =
        entries.filter(|entry| entry.name.as_deref() == Some("date")).filter_map(|e| e.value.as_deref());
    let number = |part: Option<&str>, range: std::ops::RangeInclusive<u32>| {
        part.is_some_and(|part| part.parse().is_ok_and(|n| range.contains(&n)))
    };
    for text in date {
        let mut parts = text.split('/');
        let good = number(parts.next(), 1..=12) && number(parts.next(), 1..=31);
        let year = parts.next().filter(|year| matches!(year.len(), 2 | 4));
        let good = good && number(year, 0..=9999) && parts.next().is_none();
        refuse! {
            !good => DOMAIN.xml_detail("Invalid BIOS 'date' format");
        }
    }
    Ok(())
}

/// A key is wrapped in one way.
pub(super) fn ciphers(domain: &Domain) -> Result {
    let mut seen = BTreeSet::new();
    for cipher in domain.keywrap.iter().flat_map(|keywrap| &keywrap.cipher) {
        refuse! {
            !seen.insert(&cipher.name) => DOMAIN.internal_error(
                "A domain definition can have no more than one cipher node with name {}", cipher.name);
        }
    }
    Ok(())
}

/// QEMU's environment has the form of one.
pub(super) fn environment(domain: &Domain) -> Result {
    for variable in domain.qemu_commandline.iter().flat_map(|more| &more.env) {
        let name = variable.name.as_str();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        refuse! {
            name.starts_with(|c: char| c.is_ascii_digit()) || !name.starts_with(word) => QEMU.internal_error(
                "Invalid environment name, it must begin with a letter or underscore");
            !name.chars().all(word) => QEMU.internal_error(
                "Invalid environment name, it must contain only alphanumerics and underscore");
        }
    }
    Ok(())
}

/// What is said of QEMU's devices has a type and fits it.
pub(super) fn properties(domain: &Domain) -> Result {
    let devices = domain.qemu_override.iter().flat_map(|all| &all.device);
    for property in devices.filter_map(|device| device.frontend.as_ref()).flat_map(|end| &end.property) {
        let (kind, value) = (property.type_.as_str(), property.value.as_deref());
        let fits = |value: &str| match kind {
            "signed" => value.parse::<i64>().is_ok(),
            "unsigned" => value.parse::<u64>().is_ok(),
            "bool" => matches!(value, "true" | "false"),
            _ => true,
        };
        refuse! {
            !matches!(kind, "string" | "signed" | "unsigned" | "bool" | "remove") => XML.xml_error(
                "Invalid value for attribute 'type' in element 'property': '{kind}'.");
            kind == "remove" && value.is_some() => QEMU.xml_error(
                "setting 'value' attribute of 'qemu:property' doesn't make sense with 'remove' type");
            kind != "remove" && value.is_none() => QEMU.xml_error("missing 'value' attribute for 'qemu:property'");
            value.is_some_and(|value| !fits(value)) => QEMU.xml_error(
                "invalid value '{}' of 'value' attribute of 'qemu:property'", value.unwrap_or_default());
        }
    }
    Ok(())
}

/// A container has something to begin with.
pub(super) fn init(domain: &Domain) -> Result {
    let container = domain.os.type_.as_ref().is_some_and(|kind| kind.name == "exe");
    refuse! {
        container && domain.os.init.is_none() => DOMAIN.xml_error("init binary must be specified");
    }
    Ok(())
}
