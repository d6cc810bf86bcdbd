//! The processor that a running guest really got, in its definition.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::VirtType;
use virtwire_conf::domain::features::{
    Cpu, CpuCheck, CpuFallback, CpuFeature, CpuFeaturePolicy, CpuMatch, CpuMode, CpuModel,
};
use virtwire_cpu::{Feature, FeatureSet, HostCpu, Model, Policy, X86, compare, decode_guest};
use virtwire_protocol::ErrorDomain;
use virtwire_qmp::commands::{QomGet, QueryCpuModelExpansion, QueryCpusFast};
use virtwire_qmp::{Monitor, QmpError};

use crate::caps::cpus::GuestCpus;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::probe::QemuCaps;

/// A feature that QEMU had for a short time and has no more.
const TAKEN_BACK: &str = "pconfig";

/// Says in the definition of a run which processor it is to get: the host's in the words of a model and its features,
/// where it is to be like the host's; a model with what it has lost since it was first defined.
///
/// # Errors
/// A processor that cannot be had here.
pub(crate) async fn resolve(driver: &Qemu, domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    let kvm = domain.type_ == VirtType::Kvm;
    let Some(cpu) = domain.cpu.as_mut().filter(|_| matches!(caps.arch.as_str(), "x86_64" | "i386")) else {
        return Ok(());
    };
    match cpu.mode {
        Some(CpuMode::HostPassthrough) if !kvm => {
            let arch = domain.os.type_.as_ref().and_then(|os| os.arch.as_deref()).unwrap_or_default();
            let text = format_args!(
                "CPU mode 'host-passthrough' for {arch} qemu domain on {} host is not supported by hypervisor",
                std::env::consts::ARCH
            );
            return Err(QEMU.config_unsupported(text));
        }
        Some(CpuMode::HostPassthrough | CpuMode::Maximum) => return Ok(()),
        Some(CpuMode::HostModel | CpuMode::Custom) | None => {}
    }
    let optional = |feature: &CpuFeature| feature.policy == Some(CpuFeaturePolicy::Optional);
    let compared = cpu.check == Some(CpuCheck::Partial) && cpu.mode != Some(CpuMode::HostModel);
    let cpus = if compared || is_like_host(cpu) || cpu.feature.iter().any(optional) {
        Some(driver.guest_cpus(&caps.program, kvm).await?)
    } else {
        None
    };
    check_known(cpu)?;
    if let Some(cpus) = cpus.as_ref().filter(|_| compared) {
        let mut host = HostCpu { arch: caps.arch.clone(), vendor: None, features: cpus.features() };
        if kvm {
            // What the host has counts, even where QEMU would not show it.
            host.features = host.features.union(driver.host_cpu().await?.features);
        }
        compare(&host, &asked_of_host(cpu))?.result(true)?;
    }
    make_exact(cpu, cpus.as_deref(), false)?;
    let kind = |name: &str| format!("{name}-{}-cpu", caps.arch);
    let name = cpu.model.as_ref().and_then(|model| model.name.as_deref());
    match name.and_then(|name| X86::table().model(name)) {
        Some(model) if !caps.has_device(&kind(model.name)) => {
            let cpus = driver.guest_cpus(&caps.program, kvm).await?;
            take_other_model(cpu, model, &cpus)
        }
        _ => Ok(()),
    }
}

/// A definition with the processor that its guest would get (`VIR_DOMAIN_XML_UPDATE_CPU`).
///
/// # Errors
/// A processor of which nothing is known.
pub(crate) async fn updated(driver: &Qemu, mut domain: Domain) -> Result<Domain> {
    let kvm = domain.type_ == VirtType::Kvm;
    let program = PathBuf::from(domain.devices.emulator.clone().unwrap_or_default());
    let Some(cpu) = &mut domain.cpu else { return Ok(domain) };
    if matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum)) {
        return Ok(domain);
    }
    let table = X86::table();
    let name = cpu.model.as_ref().and_then(|model| model.name.as_deref());
    if let Some(name) = name.filter(|name| !is_like_host(cpu) && table.model(name).is_none()) {
        return Err(ErrorDomain::CPU.internal_error(format_args!("Unknown CPU model {name}")));
    }
    if let Some(feature) = cpu.feature.iter().find(|feature| table.feature(&feature.name).is_none()) {
        return Err(ErrorDomain::CPU.internal_error(format_args!("unknown CPU feature {}", feature.name)));
    }
    let like_host = is_like_host(cpu);
    let cpus = driver.guest_cpus(&program, kvm).await?;
    make_exact(cpu, Some(&cpus), true)?;
    if let Some(model) = cpu.model.as_mut().filter(|_| like_host) {
        model.fallback = Some(CpuFallback::Allow);
    }
    Ok(domain)
}

/// Says a model that QEMU does not have in the words of one that it has.
fn take_other_model(cpu: &mut Cpu, model: &Model, cpus: &GuestCpus) -> Result<()> {
    let table = X86::table();
    let fallback = cpu.model.as_ref().and_then(|model| model.fallback);
    let of = |on: bool| {
        let policy = if on { CpuFeaturePolicy::Require } else { CpuFeaturePolicy::Disable };
        let named = cpu.feature.iter().filter(move |feature| feature.policy == Some(policy));
        named.filter_map(|feature| table.feature(&feature.name)).collect::<FeatureSet>()
    };
    let features = model.features.union(of(true)).difference(of(false));
    let usable = cpus.models();
    let other = decode_guest(features, model.vendor, None, None, Some(&usable));
    let Some(other) = other.filter(|_| fallback != Some(CpuFallback::Forbid)) else {
        let text = format_args!("CPU model {} is not supported by hypervisor", model.name);
        return Err(ErrorDomain::CPU.config_unsupported(text));
    };
    let mut exact = Vec::new();
    table.names(&other.require).iter().for_each(|name| set(&mut exact, name, true));
    let off = table.names(&other.disable).into_iter().chain(table.names(&other.removed));
    off.for_each(|name| set(&mut exact, name, false));
    let said = std::mem::take(&mut cpu.feature);
    let off = said.into_iter().filter(|feature| feature.policy == Some(CpuFeaturePolicy::Disable));
    off.for_each(|feature| set(&mut exact, &feature.name, false));
    cpu.feature = exact;
    if let Some(model) = &mut cpu.model {
        model.name = Some(other.model.name.to_owned());
    }
    Ok(())
}

/// Whether the guest gets all that the host has.
fn is_like_host(cpu: &Cpu) -> bool {
    cpu.mode == Some(CpuMode::HostModel) || cpu.match_ == Some(CpuMatch::Minimum)
}

fn check_known(cpu: &Cpu) -> Result<()> {
    let table = X86::table();
    if let Some(feature) = cpu.feature.iter().find(|feature| table.feature(&feature.name).is_none()) {
        let text = format_args!("unknown CPU feature: {}", feature.name);
        return Err(ErrorDomain::CPU.config_unsupported(text));
    }
    match cpu.model.as_ref().and_then(|model| model.name.as_deref()) {
        Some(name) if !is_like_host(cpu) && table.model(name).is_none() => {
            Err(ErrorDomain::CPU.internal_error(format_args!("Unknown CPU model {name}")))
        }
        _ => Ok(()),
    }
}

/// The same, as the comparison takes it.
fn asked_of_host(cpu: &Cpu) -> virtwire_cpu::Cpu {
    let policy = |feature: &CpuFeature| match feature.policy {
        Some(CpuFeaturePolicy::Force) => Policy::Force,
        Some(CpuFeaturePolicy::Optional) => Policy::Optional,
        Some(CpuFeaturePolicy::Disable) => Policy::Disable,
        Some(CpuFeaturePolicy::Forbid) => Policy::Forbid,
        Some(CpuFeaturePolicy::Require) | None => Policy::Require,
    };
    let features = cpu.feature.iter();
    virtwire_cpu::Cpu {
        strict: cpu.match_ == Some(CpuMatch::Strict),
        model: cpu.model.as_ref().and_then(|model| model.name.clone()),
        vendor: cpu.vendor.clone(),
        features: features
            .map(|feature| Feature { name: feature.name.clone(), policy: policy(feature) })
            .collect(),
        ..virtwire_cpu::Cpu::default()
    }
}

/// Puts a model with features that are on or off in the place of whatever was asked for; with `all`, also features that no
/// guest has.
fn make_exact(cpu: &mut Cpu, cpus: Option<&GuestCpus>, all: bool) -> Result<()> {
    let table = X86::table();
    let mut exact: Vec<CpuFeature> = Vec::new();
    let host = cpus.and_then(GuestCpus::host_model);
    if is_like_host(cpu) {
        let none = || QEMU.operation_failed("the host's CPU is not known to the hypervisor");
        let host = host.as_ref().ok_or_else(none)?;
        let vendor_id = cpu.model.take().and_then(|model| model.vendor_id);
        cpu.model = Some(CpuModel {
            fallback: Some(CpuFallback::Forbid),
            vendor_id,
            name: Some(host.model.to_owned()),
        });
        cpu.vendor = cpu.vendor.take().or_else(|| host.vendor.map(str::to_owned));
        let migratable = |name: &&&str| table.feature(name).is_none_or(|number| table.is_migratable(number));
        host.require.iter().filter(migratable).for_each(|name| set(&mut exact, name, true));
        host.disable.iter().for_each(|name| set(&mut exact, name, false));
    }
    for feature in &cpu.feature {
        let number = table.feature(&feature.name);
        // What no hypervisor shows is neither on nor off.
        if !all && (number.is_some_and(|number| !table.is_for_guests(number)) || feature.name == TAKEN_BACK) {
            continue;
        }
        let has = || number.zip(cpus).is_some_and(|(number, cpus)| cpus.features().contains(number));
        let on = match feature.policy {
            Some(CpuFeaturePolicy::Disable | CpuFeaturePolicy::Forbid) => false,
            Some(CpuFeaturePolicy::Optional) => has(),
            Some(CpuFeaturePolicy::Force | CpuFeaturePolicy::Require) | None => true,
        };
        set(&mut exact, &feature.name, on);
    }
    let model = cpu.model.as_ref().and_then(|model| table.model(model.name.as_deref()?));
    let mut removed = model.map(|model| table.names(&model.removed)).unwrap_or_default();
    removed.sort_unstable();
    for name in removed {
        if name != TAKEN_BACK && !exact.iter().any(|feature| feature.name == name) {
            set(&mut exact, name, false);
        }
    }
    cpu.feature = exact;
    cpu.mode = Some(CpuMode::Custom);
    cpu.match_ = Some(CpuMatch::Exact);
    Ok(())
}

/// Turns a feature on or off: in its place, or as the last one.
fn set(features: &mut Vec<CpuFeature>, name: &str, on: bool) {
    let policy = Some(if on { CpuFeaturePolicy::Require } else { CpuFeaturePolicy::Disable });
    match features.iter_mut().find(|feature| feature.name == name) {
        Some(feature) => feature.policy = policy,
        None => features.push(CpuFeature { policy, name: name.to_owned() }),
    }
}

/// QEMU's name of a feature.
pub(crate) fn qemu_feature(name: &str) -> String {
    match name {
        "pclmuldq" => "pclmulqdq".to_owned(),
        other => other.replace('_', "-"),
    }
}

/// Says in the definition of a run how its processor differs from the model that was asked for. A model that is not in
/// the table stays as it is.
pub(crate) async fn settle(domain: &mut Domain, monitor: &Monitor) -> std::result::Result<(), QmpError> {
    let Some(cpu) = domain.cpu.as_mut().filter(|cpu| cpu.mode == Some(CpuMode::Custom)) else {
        return Ok(());
    };
    let name = cpu.model.as_ref().and_then(|model| model.name.as_deref());
    let Some(model) = name.and_then(|name| X86::table().model(name)) else { return Ok(()) };
    let props = asked(&cpu.feature);
    let Some(got) = got(monitor, model.name, props).await? else { return Ok(()) };
    cpu.feature = features(&cpu.feature, model.features, got);
    cpu.check = Some(CpuCheck::Full);
    Ok(())
}

/// Whether the guest got exactly the processor that was asked for, where the definition insists on it (`check='full'`).
///
/// # Errors
/// `VIR_ERR_OPERATION_FAILED` with what it has beyond that, and what it lacks.
pub(crate) fn check_full(asked: Option<&Cpu>, got: Option<&Cpu>) -> Result<()> {
    let Some((asked, got)) = asked.filter(|cpu| cpu.check == Some(CpuCheck::Full)).zip(got) else {
        return Ok(());
    };
    let table = X86::table();
    let name = asked.model.as_ref().and_then(|model| model.name.as_deref());
    let Some(model) = name.and_then(|name| table.model(name)) else { return Ok(()) };
    let is_on = |feature: &CpuFeature| {
        !matches!(feature.policy, Some(CpuFeaturePolicy::Disable | CpuFeaturePolicy::Forbid))
    };
    let all_of = |cpu: &Cpu| {
        let named = |on: bool| {
            let features = cpu.feature.iter().filter(move |feature| is_on(feature) == on);
            features.filter_map(|feature| table.feature(&feature.name)).collect::<FeatureSet>()
        };
        model.features.union(named(true)).difference(named(false))
    };
    let (asked, got) = (all_of(asked), all_of(got));
    let names = |set: FeatureSet| set.iter().map(|number| table.name(number)).collect::<Vec<_>>().join(",");
    let (extra, missing) = (names(got.difference(asked)), names(asked.difference(got)));
    let text = match (extra.as_str(), missing.as_str()) {
        ("", "") => return Ok(()),
        (extra, "") => format!("extra features: {extra}"),
        ("", missing) => format!("missing features: {missing}"),
        (extra, missing) => format!("extra features: {extra}, missing features: {missing}"),
    };
    Err(QEMU.operation_failed(format_args!("guest CPU doesn't match specification: {text}")))
}

/// What is asked of QEMU's model: features that are on or off for sure.
fn asked(features: &[CpuFeature]) -> Map<String, Value> {
    let on = |policy| match policy {
        None | Some(CpuFeaturePolicy::Require | CpuFeaturePolicy::Force) => Some(true),
        Some(CpuFeaturePolicy::Disable | CpuFeaturePolicy::Forbid) => Some(false),
        Some(CpuFeaturePolicy::Optional) => None,
    };
    features.iter().filter_map(|feature| Some((feature.name.clone(), on(feature.policy)?.into()))).collect()
}

/// The features that the first processor has: all of the model's with this machine and accelerator, but those that
/// could not be had. `None` if this QEMU has no such answer.
async fn got(
    monitor: &Monitor,
    model: &str,
    props: Map<String, Value>,
) -> std::result::Result<Option<FeatureSet>, QmpError> {
    let table = X86::table();
    let model = json!({"name": model, "props": props});
    let expansion = QueryCpuModelExpansion { kind: "full".to_owned(), model };
    let (Ok(expansion), cpus) = tokio::join!(monitor.execute(&expansion), monitor.execute(&QueryCpusFast {}))
    else {
        return Ok(None);
    };
    let Some(first) = cpus?.into_iter().next() else { return Ok(None) };
    let property = "unavailable-features".to_owned();
    let Ok(missing) = monitor.execute(&QomGet { path: first.qom_path, property }).await else {
        return Ok(None);
    };
    let names = missing.as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing: FeatureSet = names.filter_map(|name| table.feature_of_qemu(name)).collect();
    let props = expansion.model.props.unwrap_or_default();
    let on = props.iter().filter(|(_, value)| value.as_bool() == Some(true));
    let on: FeatureSet = on.filter_map(|(name, _)| table.feature_of_qemu(name)).collect();
    Ok(Some(on.difference(missing)))
}

/// What was said of features, and whatever else differs from the model.
fn features(said: &[CpuFeature], model: FeatureSet, got: FeatureSet) -> Vec<CpuFeature> {
    let table = X86::table();
    let mut all: Vec<CpuFeature> = said
        .iter()
        .map(|feature| {
            let has = table.feature(&feature.name).map(|number| got.contains(number));
            let policy = match has {
                Some(true) => Some(CpuFeaturePolicy::Require),
                Some(false) => Some(CpuFeaturePolicy::Disable),
                None => feature.policy,
            };
            CpuFeature { policy, ..feature.clone() }
        })
        .collect();
    let more = got.difference(model).union(model.difference(got));
    for number in more.iter() {
        let name = table.name(number);
        if !all.iter().any(|feature| feature.name == name) {
            let policy =
                if got.contains(number) { CpuFeaturePolicy::Require } else { CpuFeaturePolicy::Disable };
            all.push(CpuFeature { policy: Some(policy), name: name.to_owned() });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_must_be_exact_is_compared() {
        let feature = |name: &str, policy| CpuFeature { policy: Some(policy), name: name.to_owned() };
        let model = CpuModel { fallback: None, vendor_id: None, name: Some("qemu64".to_owned()) };
        let cpu = |check, feature| Cpu { check, feature, model: Some(model.clone()), ..Cpu::default() };
        let (on, off) = (CpuFeaturePolicy::Require, CpuFeaturePolicy::Disable);
        let asked = cpu(Some(CpuCheck::Full), vec![feature("aes", on)]);
        let got = cpu(Some(CpuCheck::Full), vec![feature("aes", off), feature("hypervisor", on)]);
        let error = check_full(Some(&asked), Some(&got)).unwrap_err().message;
        assert_eq!(
            error,
            "operation failed: guest CPU doesn't match specification: extra features: hypervisor, missing features: aes"
        );
        check_full(Some(&asked), Some(&asked)).unwrap();
        check_full(Some(&cpu(Some(CpuCheck::Partial), Vec::new())), Some(&got)).unwrap();
    }

    #[test]
    fn what_differs_from_the_model_is_said() {
        let table = X86::table();
        let said = [CpuFeature { policy: Some(CpuFeaturePolicy::Optional), name: "aes".to_owned() }];
        let (model, got) = (table.set(["pni", "svm", "lm"]), table.set(["aes", "lm", "hypervisor"]));
        let features = features(&said, model, got);
        let shown: Vec<_> = features.iter().map(|f| (f.name.as_str(), f.policy)).collect();
        let (require, disable) = (Some(CpuFeaturePolicy::Require), Some(CpuFeaturePolicy::Disable));
        assert_eq!(shown, [("aes", require), ("pni", disable), ("hypervisor", require), ("svm", disable)]);
    }
}
