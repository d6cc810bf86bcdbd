//! CPU models and features by libvirt's names, and what is asked about them: does one CPU run guests of another
//! ([`compare`]), what do several have in common ([`baseline`]), which model comes nearest to a set of features
//! ([`decode`]).
//!
//! The facts about x86 are a table, `data/x86.txt`; the other architectures have names only. Nothing here touches the
//! host: its features are handed in.

mod arch;
mod baseline;
mod compare;
mod decode;
mod definition;
mod set;
mod x86;

pub use arch::{Kind, kind, model_names};
pub use baseline::{Baseline, baseline, hypervisor_baseline};
pub use compare::{Comparison, HostCpu, compare, hypervisor_compare};
pub use decode::{Decoded, Usable, decode_guest, decode_host};
pub use definition::{Cpu, Expect, Feature, Policy, Signature};
pub use set::FeatureSet;
pub use x86::{FeatureAt, Model, Vendor, X86, vendor_name};
