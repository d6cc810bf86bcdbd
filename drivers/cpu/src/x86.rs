//! The table of x86: features and models.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::set::FeatureSet;

/// The text of the table; its head explains the lines.
const TABLE: &str = include_str!("../data/x86.txt");

/// Who made a CPU, where that matters.
pub type Vendor = &'static str;

/// Vendors by libvirt's names, and what the CPU itself says.
pub(crate) const VENDORS: &[(Vendor, &str)] =
    &[("Intel", "GenuineIntel"), ("AMD", "AuthenticAMD"), ("Hygon", "HygonGenuine")];

/// libvirt's name for the vendor that a CPU itself names so.
pub fn vendor_name(id: &str) -> Option<Vendor> {
    VENDORS.iter().find(|(_, known)| *known == id).map(|(name, _)| *name)
}

/// Features that the operating system or the kernel's resource control turns on: no guest's CPU has them of its own.
const NOT_FOR_GUESTS: &[&str] = &["cmt", "mbm_total", "mbm_local", "osxsave", "ospke"];

/// Features that keep a guest from being migrated: what is said of hosts, and what QEMU says of its guests.
const NOT_MIGRATABLE: &[&str] = &["invtsc", "xsaves"];
const NOT_MIGRATABLE_BY_QEMU: &[&str] = &["invtsc"];

/// The table, read.
#[derive(Debug)]
pub struct X86 {
    features: Vec<(&'static str, FeatureAt)>,
    numbers: HashMap<&'static str, usize>,
    models: Vec<Model>,
    /// See [`NOT_FOR_GUESTS`].
    pub(crate) not_for_guests: FeatureSet,
    /// See [`NOT_MIGRATABLE`].
    pub(crate) not_migratable: FeatureSet,
    /// See [`NOT_MIGRATABLE_BY_QEMU`].
    pub(crate) not_migratable_by_qemu: FeatureSet,
}

/// Where a feature shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureAt {
    /// A bit of what the CPUID instruction answers.
    Cpuid {
        /// EAX before.
        leaf: u32,
        /// ECX before.
        subleaf: u32,
        /// EAX, EBX, ECX, EDX after: 0 to 3.
        register: usize,
        /// The bit.
        bit: u32,
    },
    /// A bit of a model specific register.
    Msr {
        /// The register.
        index: u32,
        /// The bit.
        bit: u32,
    },
    /// Known by name alone, as QEMU tells it.
    Named,
}

/// A CPU model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name.
    pub name: &'static str,
    /// The vendor of CPUs that may be told as this model; `None` for any.
    pub vendor: Option<Vendor>,
    /// What it has.
    pub features: FeatureSet,
    /// What it had once: whoever knows the model by an older definition has to be told that it is disabled.
    pub removed: FeatureSet,
    /// Families and models of the CPUs that it stands for.
    pub signatures: Vec<(u32, u32)>,
    /// A guest's features may be told as this model.
    pub for_guests: bool,
    /// A host's features may be told as this model.
    pub for_hosts: bool,
}

impl X86 {
    /// The table.
    pub fn table() -> &'static Self {
        static TABLE_READ: LazyLock<X86> =
            LazyLock::new(|| read(TABLE).expect("data/x86.txt is well formed"));
        &TABLE_READ
    }

    /// The models, in the order in which they are listed.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `name`.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The number of the feature called `name`.
    pub fn feature(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// The name of a feature.
    pub fn name(&self, feature: usize) -> &'static str {
        self.features.get(feature).map_or("", |(name, _)| name)
    }

    /// Whether a hypervisor shows a feature to its guests.
    pub fn is_for_guests(&self, feature: usize) -> bool {
        !self.not_for_guests.contains(feature)
    }

    /// Whether a guest that has a feature can go to another host.
    pub fn is_migratable(&self, feature: usize) -> bool {
        !self.not_migratable_by_qemu.contains(feature)
    }

    /// Whether a feature shows in a model specific register, not to the CPUID instruction.
    pub fn shows_in_register(&self, feature: usize) -> bool {
        matches!(self.features.get(feature), Some((_, FeatureAt::Msr { .. })))
    }

    /// The names of the features in a set, in the table's order.
    pub fn names(&self, set: &FeatureSet) -> Vec<&'static str> {
        set.iter().map(|feature| self.name(feature)).collect()
    }

    /// The features in `names` that are known.
    pub fn set<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> FeatureSet {
        names.into_iter().filter_map(|name| self.feature(name)).collect()
    }

    /// The set of features of a CPU whose CPUID instruction and model specific registers answer so. `cpuid` is given a
    /// leaf and a subleaf and returns EAX, EBX, ECX and EDX; what there is not is zeroes.
    pub fn features_of(
        &self,
        mut cpuid: impl FnMut(u32, u32) -> [u32; 4],
        mut msr: impl FnMut(u32) -> u64,
    ) -> FeatureSet {
        let shows = |at: FeatureAt| match at {
            FeatureAt::Cpuid { leaf, subleaf, register, bit } => {
                cpuid(leaf, subleaf)[register] >> bit & 1 == 1
            }
            FeatureAt::Msr { index, bit } => msr(index) >> bit & 1 == 1,
            FeatureAt::Named => false,
        };
        let shown: Vec<bool> = self.features.iter().map(|(_, at)| *at).map(shows).collect();
        (0..shown.len()).filter(|&feature| shown[feature]).collect()
    }

    /// The feature by the name that QEMU has for it. QEMU writes `-` where libvirt may write `_`, and some names differ.
    pub fn feature_of_qemu(&self, name: &str) -> Option<usize> {
        let ours = match name {
            "pclmulqdq" => "pclmuldq",
            "sse3" => "pni",
            "i64" => "lm",
            "xd" => "nx",
            "ffxsr" => "fxsr_opt",
            "ds-cpl" => "ds_cpl",
            "vnmi" => "vnmi",
            other => other,
        };
        self.feature(ours).or_else(|| self.feature(&ours.replace('-', "_")))
    }
}

fn read(text: &'static str) -> Option<X86> {
    let mut table = X86 {
        features: Vec::new(),
        numbers: HashMap::new(),
        models: Vec::new(),
        not_for_guests: FeatureSet::default(),
        not_migratable: FeatureSet::default(),
        not_migratable_by_qemu: FeatureSet::default(),
    };
    for line in logical_lines(text) {
        match line[0] {
            "model" => {
                let model = read_model(&table, &line[1..])?;
                table.models.push(model);
            }
            kind => read_features(&mut table, kind, &line[1..])?,
        }
    }
    table.not_for_guests = table.set(NOT_FOR_GUESTS.iter().copied());
    table.not_migratable = table.set(NOT_MIGRATABLE.iter().copied());
    table.not_migratable_by_qemu = table.set(NOT_MIGRATABLE_BY_QEMU.iter().copied());
    (table.features.len() <= FeatureSet::CAPACITY).then_some(table)
}

/// The words of each line; a line that begins with a space goes on with the one before.
fn logical_lines(text: &'static str) -> Vec<Vec<&'static str>> {
    let mut lines: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => last.extend(line.split_whitespace()),
            _ => lines.push(line.split_whitespace().collect()),
        }
    }
    lines
}

/// `cpuid LEAF SUBLEAF REGISTER: NAME=BIT …`, `msr INDEX: NAME=BIT …` or `qemu: NAME …`.
fn read_features(table: &mut X86, kind: &str, words: &[&'static str]) -> Option<()> {
    let number = |word: &str| u32::from_str_radix(word.trim_end_matches(':').strip_prefix("0x")?, 16).ok();
    let (head, list) = match kind {
        "cpuid" => words.split_at_checked(3)?,
        "msr" => words.split_at_checked(1)?,
        _ => words.split_at_checked(0)?,
    };
    for word in list {
        let (name, bit) = word.split_once('=').unwrap_or((word, "0"));
        let bit = bit.parse().ok().filter(|&bit: &u32| bit < 32)?;
        let at = match *head {
            [leaf, subleaf, register] => FeatureAt::Cpuid {
                leaf: number(leaf)?,
                subleaf: number(subleaf)?,
                register: ["eax:", "ebx:", "ecx:", "edx:"].iter().position(|known| *known == register)?,
                bit,
            },
            [index] => FeatureAt::Msr { index: number(index)?, bit },
            _ => FeatureAt::Named,
        };
        table.numbers.insert(name, table.features.len());
        table.features.push((name, at));
    }
    Some(())
}

/// `NAME VENDOR USE SIGNATURES [= MODEL] [+FEATURE …] [-FEATURE …] [!FEATURE …]`.
fn read_model(table: &X86, words: &[&'static str]) -> Option<Model> {
    let [name, vendor, usage, signatures, rest @ ..] = words else { return None };
    let (base, changes) = match rest {
        ["=", base, changes @ ..] => (table.model(base)?.features, changes),
        changes => (FeatureSet::default(), changes),
    };
    let mut features = base;
    let mut removed = FeatureSet::default();
    for change in changes {
        match change.split_at_checked(1)? {
            ("+", name) => features.insert(table.feature(name)?),
            ("-", name) => features.remove(table.feature(name)?),
            ("!", name) => removed.insert(table.feature(name)?),
            _ => return None,
        }
    }
    let pair = |text: &str| {
        let (family, model) = text.split_once('/')?;
        Some((family.parse().ok()?, model.parse().ok()?))
    };
    Some(Model {
        name,
        vendor: (*vendor != "-").then_some(vendor),
        features,
        removed,
        signatures: signatures.split(',').filter_map(pair).collect(),
        for_guests: usage.contains('g'),
        for_hosts: usage.contains('h'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = X86::table();
        let penryn = table.model("Penryn").unwrap();
        assert!(penryn.features.contains(table.feature("sse4.1").unwrap()));
        assert!(!penryn.features.contains(table.feature("sse4.2").unwrap()));
        assert_eq!(penryn.vendor, Some("Intel"));
        assert_eq!(table.model("486").unwrap().features, table.set(["fpu", "vme", "pse"]));
        assert!(table.models().len() > 100);
    }

    #[test]
    fn features_are_found_where_the_cpu_shows_them() {
        let table = X86::table();
        let found = table.features_of(
            |leaf, subleaf| match (leaf, subleaf) {
                (1, 0) => [0, 0, 1, 1 << 4],
                (0x8000_0001, 0) => [0, 0, 0, 1 << 29],
                _ => [0; 4],
            },
            |index| if index == 0x10a { 1 } else { 0 },
        );
        assert_eq!(table.names(&found), ["pni", "tsc", "lm", "rdctl-no"]);
    }

    #[test]
    fn qemu_spells_features_its_own_way() {
        let table = X86::table();
        for (theirs, ours) in
            [("pclmulqdq", "pclmuldq"), ("lahf-lm", "lahf_lm"), ("tsc-adjust", "tsc_adjust")]
        {
            assert_eq!(table.feature_of_qemu(theirs), table.feature(ours), "{theirs}");
        }
        assert_eq!(table.feature_of_qemu("kvm-pv-eoi"), None);
    }
}
