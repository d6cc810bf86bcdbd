//! Whether a host's CPU runs guests of another.

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::arch::{Kind, kind};
use crate::decode::Usable;
use crate::definition::{Cpu, Policy};
use crate::set::FeatureSet;
use crate::x86::X86;

/// The CPU against which others are held: the host's own, or what a hypervisor makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// The architecture.
    pub arch: String,
    /// The vendor, by libvirt's name; where there is none, any will do.
    pub vendor: Option<String>,
    /// What it has.
    pub features: FeatureSet,
}

/// The outcome, as `virCPUCompareResult` counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// 0: the host can't; why, as `VIR_ERR_CPU_INCOMPATIBLE`'s detail.
    Incompatible(String),
    /// 1: the two are the same.
    Identical,
    /// 2: the host can do more.
    Superset,
}

impl Comparison {
    /// The number that the call returns.
    ///
    /// # Errors
    /// `VIR_ERR_CPU_INCOMPATIBLE` in place of 0, where `fail` asks for it.
    pub fn result(self, fail: bool) -> Result<i32, VirtError> {
        match self {
            Self::Incompatible(why) if fail => Err(ErrorDomain::CPU.cpu_incompatible(why)),
            Self::Incompatible(_) => Ok(0),
            Self::Identical => Ok(1),
            Self::Superset => Ok(2),
        }
    }
}

/// What a definition asks for, by policy.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    required: FeatureSet,
    forced: FeatureSet,
    optional: FeatureSet,
    forbidden: FeatureSet,
}

/// Holds `cpu` against `host`.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` for a model or feature that is not known; `VIR_ERR_NO_SUPPORT` where the host's own CPU can't
/// be judged.
pub fn compare(host: &HostCpu, cpu: &Cpu) -> Result<Comparison, VirtError> {
    if kind(&host.arch).flatten() != Some(Kind::X86) {
        let arch = &host.arch;
        return Err(ErrorDomain::CPU.no_support(format_args!("cannot compare CPUs of {arch} architecture")));
    }
    if let Some(arch) = &cpu.arch
        && kind(arch).flatten() != Some(Kind::X86)
    {
        return Ok(Comparison::Incompatible(format!("CPU arch {arch} does not match host arch")));
    }
    if let (Some(vendor), Some(own)) = (&cpu.vendor, &host.vendor)
        && vendor != own
    {
        return Ok(Comparison::Incompatible(format!(
            "host CPU vendor does not match required CPU vendor {vendor}"
        )));
    }
    let Some(model) = &cpu.model else { return Ok(Comparison::Superset) };
    let table = X86::table();
    let wanted = wanted(table, model, cpu)?;

    let list = |set: FeatureSet| table.names(&set).join(", ");
    let forbidden = host.features.intersection(wanted.forbidden);
    if !forbidden.is_empty() {
        return Ok(Comparison::Incompatible(format!(
            "Host CPU provides forbidden features: {}",
            list(forbidden)
        )));
    }
    let missing = wanted.required.difference(host.features);
    if !missing.is_empty() {
        return Ok(Comparison::Incompatible(format!(
            "Host CPU does not provide required features: {}",
            list(missing)
        )));
    }
    let asked = wanted.required.union(wanted.forced).union(wanted.optional);
    let extra = host.features.difference(asked);
    if cpu.strict && !extra.is_empty() {
        let list = list(extra);
        let why = format!("Host CPU does not strictly match guest CPU: Extra features: {list}");
        return Ok(Comparison::Incompatible(why));
    }
    Ok(if extra.is_empty() { Comparison::Identical } else { Comparison::Superset })
}

/// Holds `cpu` against what a hypervisor makes of the host's CPU. A model that the hypervisor has whole is taken as it
/// is, whatever else the definition says, unless it asks for features.
///
/// # Errors
/// As [`compare`].
pub fn hypervisor_compare(host: &HostCpu, cpu: &Cpu, usable: &[Usable]) -> Result<Comparison, VirtError> {
    let whole = |usable: &Usable| cpu.model.as_ref() == Some(&usable.name) && usable.blockers.is_empty();
    // A host that names the version of its model says no more than that.
    let versioned =
        cpu.model.as_deref().and_then(|name| name.rsplit_once("-v")).is_some_and(|(_, version)| {
            !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit())
        });
    let asks = !cpu.features.is_empty() && (cpu.arch.is_none() || !versioned);
    if !asks && usable.iter().any(whole) {
        return Ok(Comparison::Superset);
    }
    compare(host, cpu)
}

fn wanted(table: &X86, model: &str, cpu: &Cpu) -> Result<Wanted, VirtError> {
    let mut wanted = Wanted { required: model_features(table, model)?, ..Wanted::default() };
    for feature in &cpu.features {
        let number = table.feature(&feature.name).ok_or_else(|| {
            ErrorDomain::CPU.internal_error(format_args!("Unknown CPU feature {}", feature.name))
        })?;
        wanted.required.remove(number);
        let set = match feature.policy {
            Policy::Require => &mut wanted.required,
            Policy::Force => &mut wanted.forced,
            Policy::Optional => &mut wanted.optional,
            Policy::Forbid => &mut wanted.forbidden,
            Policy::Disable => continue,
        };
        set.insert(number);
    }
    Ok(wanted)
}

/// The features of a model.
pub(crate) fn model_features(table: &X86, model: &str) -> Result<FeatureSet, VirtError> {
    let known = table.model(model).map(|known| known.features);
    known.ok_or_else(|| ErrorDomain::CPU.internal_error(format_args!("Unknown CPU model {model}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Expect;

    fn ask(xml: &str) -> Comparison {
        let table = X86::table();
        let mut features = table.model("Penryn").unwrap().features;
        features.insert(table.feature("aes").unwrap());
        let host = HostCpu { arch: "x86_64".into(), vendor: Some("Intel".into()), features };
        compare(&host, &Cpu::parse(xml, Expect::Either).unwrap()).unwrap()
    }

    #[test]
    fn more_less_and_the_same() {
        assert_eq!(ask("<cpu><model>Conroe</model></cpu>"), Comparison::Superset);
        let same = "<cpu><model>Penryn</model><feature policy='require' name='aes'/></cpu>";
        assert_eq!(ask(same), Comparison::Identical);
        let missing =
            Comparison::Incompatible("Host CPU does not provide required features: sse4.2, popcnt".into());
        assert_eq!(ask("<cpu><model>Nehalem</model></cpu>"), missing);
    }

    #[test]
    fn policies_and_match() {
        let forced = "<cpu><model>Penryn</model><feature policy='force' name='avx'/></cpu>";
        assert_eq!(ask(forced), Comparison::Superset);
        let forbidden = "<cpu><model>Conroe</model><feature policy='forbid' name='aes'/></cpu>";
        assert_eq!(
            ask(forbidden),
            Comparison::Incompatible("Host CPU provides forbidden features: aes".into())
        );
        let why = "Host CPU does not strictly match guest CPU: Extra features: aes";
        assert_eq!(
            ask("<cpu match='strict'><model>Penryn</model></cpu>"),
            Comparison::Incompatible(why.into())
        );
    }

    #[test]
    fn other_vendors_and_architectures() {
        let amd = ask("<cpu><model>Conroe</model><vendor>AMD</vendor></cpu>");
        let why = "host CPU vendor does not match required CPU vendor AMD";
        assert_eq!(amd, Comparison::Incompatible(why.into()));
        assert_eq!(amd.clone().result(false).unwrap(), 0);
        assert_eq!(amd.result(true).unwrap_err().code, virtwire_protocol::ErrorCode::CPU_INCOMPATIBLE);
        let ppc = ask("<cpu><arch>ppc64</arch><model>POWER7</model></cpu>");
        assert_eq!(ppc, Comparison::Incompatible("CPU arch ppc64 does not match host arch".into()));
    }
}
