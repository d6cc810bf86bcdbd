//! Which model comes nearest to a set of features.

use crate::set::FeatureSet;
use crate::x86::{Model, X86};

/// A model that a hypervisor offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usable {
    /// The name.
    pub name: String,
    /// Features of the model that can't be had here.
    pub blockers: FeatureSet,
}

/// A set of features told as a model and what differs from it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The model.
    pub model: &'static Model,
    /// What comes on top.
    pub require: FeatureSet,
    /// What the model has and must not be seen.
    pub disable: FeatureSet,
    /// What the model had once and must not be seen; told last.
    pub removed: FeatureSet,
}

impl Decoded {
    /// How far the model is from the features. A disabled feature counts more than an added one, and the more the more
    /// there are, by pairs; so the daemon's answers have it.
    fn distance(&self) -> usize {
        let disabled = self.disable.len() + self.removed.len();
        let pairs = disabled.div_ceil(2);
        2 * (self.require.len() + disabled) + pairs * (pairs + 2)
    }

    fn of(model: &'static Model, features: FeatureSet, blockers: FeatureSet) -> Self {
        let require = features.difference(model.features);
        let missing = model.features.difference(features);
        // What the hypervisor's model has and ours lacks has to be turned off as well.
        let disable = missing.union(blockers.difference(require));
        Self { model, require, disable, removed: model.removed.difference(features).difference(disable) }
    }

    fn has_signature(&self, signature: Option<(u32, u32)>) -> bool {
        signature.is_some_and(|signature| self.model.signatures.contains(&signature))
    }
}

/// Tells the features of a guest's CPU. A model called `preferred` is taken if there is one; else models with the
/// signature of the CPU before others, and of those the nearest. `usable` are the hypervisor's models, all where it is
/// not given. `None` if there is no model for the vendor.
pub fn decode_guest(
    features: FeatureSet,
    vendor: Option<&str>,
    signature: Option<(u32, u32)>,
    preferred: Option<&str>,
    usable: Option<&[Usable]>,
) -> Option<Decoded> {
    let candidates = candidates(vendor).filter(|model| model.for_guests).filter_map(|model| {
        let blockers = match usable {
            None => FeatureSet::default(),
            Some(list) => list.iter().find(|usable| usable.name == model.name)?.blockers,
        };
        Some(Decoded::of(model, features, blockers))
    });
    nearest(candidates, signature, preferred)
}

/// Tells the features of a host's CPU: as [`decode_guest`], but a model must not have what the host lacks.
pub fn decode_host(
    features: FeatureSet,
    vendor: Option<&str>,
    signature: Option<(u32, u32)>,
) -> Option<Decoded> {
    let candidates = candidates(vendor).filter(|model| model.for_hosts);
    let decoded = candidates.map(|model| Decoded::of(model, features, FeatureSet::default()));
    nearest(
        decoded.filter(|decoded| decoded.disable.is_empty() && decoded.removed.is_empty()),
        signature,
        None,
    )
}

/// The models, last ones first: of equally near ones the later wins.
fn candidates(vendor: Option<&str>) -> impl Iterator<Item = &'static Model> {
    let fits = move |model: &Model| vendor.is_none() || model.vendor.is_none() || model.vendor == vendor;
    X86::table().models().iter().rev().filter(move |model| fits(model))
}

fn nearest(
    candidates: impl Iterator<Item = Decoded>,
    signature: Option<(u32, u32)>,
    preferred: Option<&str>,
) -> Option<Decoded> {
    candidates.min_by_key(|decoded| {
        (preferred != Some(decoded.model.name), !decoded.has_signature(signature), decoded.distance())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(model: &str, more: &[&str]) -> FeatureSet {
        let table = X86::table();
        table.model(model).unwrap().features.union(table.set(more.iter().copied()))
    }

    #[test]
    fn the_model_itself_is_nearest() {
        let table = X86::table();
        for name in ["Penryn", "Haswell-noTSX", "EPYC", "kvm64"] {
            let decoded = decode_guest(features(name, &["vmx"]), None, None, None, None).unwrap();
            assert_eq!((decoded.model.name, table.names(&decoded.require)), (name, vec!["vmx"]));
        }
    }

    #[test]
    fn a_preferred_model_is_told_by_what_it_lacks() {
        let decoded = decode_guest(features("Conroe", &[]), None, None, Some("Penryn"), None).unwrap();
        assert_eq!(X86::table().names(&decoded.disable), ["cx16", "sse4.1"]);
    }

    #[test]
    fn what_the_hypervisor_blocks_is_disabled() {
        let table = X86::table();
        let usable = [Usable { name: "Penryn".into(), blockers: table.set(["ssse3", "avx"]) }];
        let decoded = decode_guest(features("Penryn", &[]), None, None, None, Some(&usable)).unwrap();
        assert_eq!(table.names(&decoded.disable), ["ssse3", "avx"]);
    }

    #[test]
    fn a_host_has_all_of_its_model() {
        let decoded = decode_host(features("Conroe", &["aes"]), Some("Intel"), Some((6, 44))).unwrap();
        assert!(decoded.disable.is_empty());
        assert_eq!(decoded.model.name, "Conroe-v1");
    }
}
