//! What several CPUs have in common.

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::arch::{Kind, kind, model_names};
use crate::compare::model_features;
use crate::decode::{Decoded, Usable, decode_guest};
use crate::definition::{Cpu, Feature, Policy};
use crate::set::FeatureSet;
use crate::x86::{VENDORS, X86};

/// How a baseline is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Name all features, those of the model too, sorted.
    pub expand: bool,
    /// Leave out what can't be migrated. A hypervisor that only emulates has no such features.
    pub migratable: bool,
}

/// The CPU that runs on every host of `cpus`, by the hosts' own descriptions.
///
/// # Errors
/// `VIR_ERR_OPERATION_FAILED` for CPUs that have nothing in common, `VIR_ERR_INTERNAL_ERROR` for unknown names,
/// `VIR_ERR_NO_SUPPORT` for architectures whose CPUs can't be judged.
pub fn baseline(cpus: &[Cpu], how: Baseline) -> Result<Cpu, VirtError> {
    let first = cpus.first().ok_or_else(|| no_model(0))?;
    let arch = first.arch.as_deref().unwrap_or_default();
    match kind(arch).flatten() {
        Some(Kind::X86) => x86(cpus, None, how),
        Some(Kind::Ppc64) => ppc64(cpus),
        Some(Kind::Arm) => Ok(Cpu { model: first.model.clone(), fallback: true, ..Cpu::default() }),
        Some(Kind::Other) => {
            let detail = format_args!("cannot compute baseline CPU of {arch} architecture");
            Err(ErrorDomain::CPU.no_support(detail))
        }
        None => {
            let detail = format_args!("'{arch}' architecture is not supported by CPU driver");
            Err(ErrorDomain::CPU.no_support(detail))
        }
    }
}

/// The CPU that a hypervisor with these models can give to guests on every host of `cpus`.
///
/// # Errors
/// As [`baseline`]; `VIR_ERR_INVALID_ARG` for a CPU without a model.
pub fn hypervisor_baseline(cpus: &[Cpu], usable: &[Usable], how: Baseline) -> Result<Cpu, VirtError> {
    if let Some(index) = cpus.iter().position(|cpu| cpu.model.is_none()) {
        return Err(no_model(index));
    }
    x86(cpus, Some(usable), how)
}

fn no_model(index: usize) -> VirtError {
    ErrorDomain::CPU.invalid_arg(format_args!("no CPU model specified at index {index}"))
}

fn x86(cpus: &[Cpu], usable: Option<&[Usable]>, how: Baseline) -> Result<Cpu, VirtError> {
    let table = X86::table();
    let mut common: Option<FeatureSet> = None;
    let mut vendor: Option<&str> = None;
    for cpu in cpus {
        let features = features(table, cpu)?;
        common = Some(common.map_or(features, |common| common.intersection(features)));
        if let Some(named) = cpu.vendor.as_deref() {
            if !VENDORS.iter().any(|(known, _)| *known == named) {
                return Err(ErrorDomain::CPU.operation_failed(format_args!("Unknown CPU vendor {named}")));
            }
            if vendor.is_some_and(|vendor| vendor != named) {
                return Err(ErrorDomain::CPU.operation_failed("CPU vendors do not match"));
            }
            vendor = Some(named);
        }
    }
    let mut common = common.unwrap_or_default().difference(table.not_for_guests);
    if how.migratable {
        let not = if usable.is_some() { table.not_migratable_by_qemu } else { table.not_migratable };
        common = common.difference(not);
    }
    if common.is_empty() {
        return Err(ErrorDomain::CPU.operation_failed("CPUs are incompatible"));
    }
    let preferred = cpus[0].model.as_deref().filter(|_| cpus.iter().all(|cpu| cpu.model == cpus[0].model));
    let decoded = decode_guest(common, vendor, None, preferred, usable)
        .ok_or_else(|| ErrorDomain::CPU.internal_error("Cannot find suitable CPU model for given data"))?;
    Ok(Cpu {
        model: Some(decoded.model.name.to_owned()),
        fallback: usable.is_none() && preferred != Some(decoded.model.name),
        vendor: vendor.filter(|_| cpus.iter().all(|cpu| cpu.vendor.is_some())).map(str::to_owned),
        features: told(table, &decoded, how.expand),
        ..Cpu::default()
    })
}

/// What a CPU has by its definition. Features that nobody knows matter only where they are asked for.
fn features(table: &X86, cpu: &Cpu) -> Result<FeatureSet, VirtError> {
    let mut features = model_features(table, cpu.model.as_deref().unwrap_or_default())?;
    for feature in &cpu.features {
        let has = match feature.policy {
            Policy::Require | Policy::Force => true,
            Policy::Disable | Policy::Forbid => false,
            Policy::Optional => continue,
        };
        let number = table.feature(&feature.name).ok_or_else(|| {
            ErrorDomain::CPU.internal_error(format_args!("Unknown CPU feature {}", feature.name))
        })?;
        if has { features.insert(number) } else { features.remove(number) }
    }
    Ok(features)
}

fn told(table: &X86, decoded: &Decoded, expand: bool) -> Vec<Feature> {
    let mut require = decoded.require;
    if expand {
        require = require
            .union(decoded.model.features.difference(decoded.disable))
            .difference(table.not_for_guests);
    }
    let with = |set: FeatureSet, policy| {
        let names = table.names(&set).into_iter();
        names.map(|name| Feature { name: name.to_owned(), policy }).collect::<Vec<_>>()
    };
    let mut features = with(require, Policy::Require);
    features.extend(with(decoded.disable, Policy::Disable));
    features.extend(with(decoded.removed, Policy::Disable));
    if expand {
        features.sort_by(|a, b| a.name.cmp(&b.name));
    }
    features
}

fn ppc64(cpus: &[Cpu]) -> Result<Cpu, VirtError> {
    for cpu in cpus {
        let model = cpu.model.as_deref().unwrap_or_default();
        if !model_names(Kind::Ppc64).contains(&model) {
            return Err(ErrorDomain::CPU.internal_error(format_args!("Unknown CPU model {model}")));
        }
        if let Some(vendor) = cpu.vendor.as_deref().filter(|vendor| *vendor != "IBM") {
            return Err(ErrorDomain::CPU.operation_failed(format_args!("Unknown CPU vendor {vendor}")));
        }
    }
    if cpus.iter().any(|cpu| cpu.model != cpus[0].model) {
        return Err(ErrorDomain::CPU.operation_failed("CPUs are incompatible"));
    }
    Ok(Cpu { model: cpus[0].model.clone(), ..Cpu::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Expect;

    fn host(model: &str, more: &str) -> Cpu {
        let xml = format!("<cpu><arch>x86_64</arch><model>{model}</model>{more}</cpu>");
        Cpu::parse(&xml, Expect::Host).unwrap()
    }

    #[test]
    fn one_model_is_its_own_baseline() {
        let how = Baseline { expand: false, migratable: true };
        let more =
            "<vendor>Intel</vendor><feature name='vmx'/><feature name='invtsc'/><feature name='osxsave'/>";
        let common = baseline(&[host("Penryn", more)], how).unwrap();
        let expected = "<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>Penryn</model>\n  \
                        <vendor>Intel</vendor>\n  <feature policy='require' name='vmx'/>\n</cpu>\n";
        assert_eq!(common.guest_xml(), expected);
    }

    #[test]
    fn the_older_of_two() {
        let common = baseline(&[host("Penryn", ""), host("Nehalem", "")], Baseline::default()).unwrap();
        assert_eq!((common.model.as_deref(), common.fallback), (Some("Penryn"), true));
        assert!(common.features.is_empty());
    }

    #[test]
    fn expanded_features_are_sorted() {
        let how = Baseline { expand: true, migratable: false };
        let common = baseline(&[host("486", "<feature name='aes'/>")], how).unwrap();
        let names: Vec<_> = common.features.iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names, ["aes", "fpu", "pse", "vme"]);
    }

    #[test]
    fn vendors_must_agree() {
        let two = [host("Penryn", "<vendor>Intel</vendor>"), host("Opteron_G3", "<vendor>AMD</vendor>")];
        let error = baseline(&two, Baseline::default()).unwrap_err();
        assert_eq!(error.message, "operation failed: CPU vendors do not match");
    }
}
