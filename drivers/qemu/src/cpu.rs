//! The processor that a running guest really got, in its definition.

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::features::{CpuCheck, CpuFeature, CpuFeaturePolicy, CpuMode};
use virtwire_cpu::{FeatureSet, X86};
use virtwire_qmp::commands::{QomGet, QueryCpuModelExpansion, QueryCpusFast};
use virtwire_qmp::{Monitor, QmpError};

/// Says in the definition of a run how its processor differs from the model that was asked for. A model that is not in
/// the table stays as it is.
pub(crate) async fn settle(domain: &mut Domain, monitor: &Monitor) -> Result<(), QmpError> {
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
) -> Result<Option<FeatureSet>, QmpError> {
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
