//! The CPUs that a QEMU program can give its guests, with KVM or without.

use serde::{Deserialize, Serialize};
use serde_json::json;
use virtwire_cpu::{FeatureSet, HostCpu, Usable, X86, decode_guest};
use virtwire_protocol::error::VirtError;
use virtwire_qmp::commands::{QueryCpuDefinitions, QueryCpuModelExpansion};
use virtwire_qmp::replies::{CpuDefinition, CpuModelExpansion};
use virtwire_qmp::{Monitor, QmpError};

use crate::error::QEMU;

/// The models, and what the whole of the host's CPU comes to.
#[derive(Clone, Debug)]
pub(crate) struct GuestCpus {
    definitions: Vec<CpuDefinition>,
    features: FeatureSet,
    vendor: Option<&'static str>,
    signature: Option<(u32, u32)>,
    /// Guests are of 32 bits.
    narrow: bool,
}

/// The host's CPU, told as a guest's.
#[derive(Clone, Debug)]
pub(crate) struct HostModel {
    pub(crate) model: &'static str,
    pub(crate) vendor: Option<&'static str>,
    pub(crate) require: Vec<&'static str>,
    pub(crate) disable: Vec<&'static str>,
    features: FeatureSet,
}

/// The same in QEMU's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CpusTold {
    definitions: Vec<CpuDefinition>,
    whole: CpuModelExpansion,
}

impl CpusTold {
    /// Asks over a monitor. `whole` is the model that has all there is: `host` with KVM, `max` without.
    pub(crate) async fn ask(monitor: &Monitor, whole: &str) -> Result<Self, QmpError> {
        // What can't be migrated is a matter for whoever asks.
        let model = match whole {
            "host" => json!({"name": whole, "props": {"migratable": false}}),
            _ => json!({"name": whole}),
        };
        let expansion = QueryCpuModelExpansion { kind: "full".to_owned(), model };
        let (definitions, whole) =
            tokio::try_join!(monitor.execute(&QueryCpuDefinitions {}), monitor.execute(&expansion))?;
        Ok(Self { definitions, whole })
    }
}

impl GuestCpus {
    /// What was told by a program whose guests are of 32 bits, or of more.
    pub(crate) fn new(told: CpusTold, narrow: bool) -> Self {
        let table = X86::table();
        let props = &told.whole.model.props;
        let on = props.iter().flatten().filter(|(_, value)| value.as_bool() == Some(true));
        let number =
            |name: &str| props.as_ref()?.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
        let vendor = props.as_ref().and_then(|props| props.get("vendor")?.as_str()).unwrap_or_default();
        Self {
            features: on.filter_map(|(name, _)| table.feature_of_qemu(name)).collect(),
            vendor: virtwire_cpu::vendor_name(vendor),
            signature: number("family").zip(number("model")),
            definitions: told.definitions,
            narrow,
        }
    }

    /// The models that libvirt knows too, sorted, with what the host lacks for each.
    pub(super) fn usable(&self) -> Vec<(&CpuDefinition, Usable)> {
        let table = X86::table();
        let known = self.definitions.iter().filter(|definition| table.model(&definition.name).is_some());
        let mut models: Vec<_> = known
            .map(|definition| {
                let lacking = definition.unavailable_features.iter().flatten();
                let blockers = lacking.filter_map(|name| table.feature_of_qemu(name)).collect();
                (definition, Usable { name: definition.name.clone(), blockers })
            })
            .collect();
        models.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        models
    }

    /// The same, without QEMU's own words.
    pub(crate) fn models(&self) -> Vec<Usable> {
        self.usable().into_iter().map(|(_, usable)| usable).collect()
    }

    /// The host's CPU as a guest's: `None` if no model fits.
    pub(crate) fn host_model(&self) -> Option<HostModel> {
        let table = X86::table();
        // Registers of 64 bits are nothing to guests of 32.
        let shown = |feature: &usize| !self.narrow || !table.shows_in_register(*feature);
        let features = self.features.iter().filter(shown).collect();
        let models = self.models();
        let decoded = decode_guest(features, self.vendor, self.signature, None, Some(&models))?;
        let mut disable = table.names(&decoded.disable);
        disable.extend(table.names(&decoded.removed));
        Some(HostModel {
            model: decoded.model.name,
            vendor: self.vendor,
            require: table.names(&decoded.require),
            disable,
            features,
        })
    }

    /// The CPU that others are held against.
    pub(crate) fn as_host(&self, arch: &str) -> Result<HostCpu, VirtError> {
        let model = self.host_model();
        let model =
            model.ok_or_else(|| QEMU.operation_failed("the host's CPU is not known to the hypervisor"))?;
        let vendor = model.vendor.map(str::to_owned);
        Ok(HostCpu { arch: arch.to_owned(), vendor, features: model.features })
    }

    /// Features that registers of the host show: what the CPUID instruction does not tell.
    pub(crate) fn features(&self) -> FeatureSet {
        self.features
    }
}
