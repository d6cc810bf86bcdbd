//! What libvirt knows of CPUs by architecture.

use virtwire_conf::ARCHITECTURES;

use crate::x86::X86;

/// How CPUs of an architecture are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Models are sets of features.
    X86,
    /// Models are names from a list.
    Ppc64,
    /// Any name may be a model.
    Arm,
    /// Any name may be a model; nothing can be said of several.
    Other,
}

/// The models of 64 bit PowerPC.
const PPC64_MODELS: &[&str] =
    &["POWER6", "POWER7", "POWER8", "POWER9", "POWER10", "POWERPC_e5500", "POWERPC_e6500"];

/// How CPUs of `arch` are handled: `None` for what is no architecture, `Some(None)` for one whose CPUs can't be handled.
pub fn kind(arch: &str) -> Option<Option<Kind>> {
    Some(match arch {
        "i686" | "x86_64" => Some(Kind::X86),
        "ppc64" | "ppc64le" => Some(Kind::Ppc64),
        "armv6l" | "armv7l" | "armv7b" | "aarch64" => Some(Kind::Arm),
        "loongarch64" | "riscv32" | "riscv64" | "s390x" => Some(Kind::Other),
        _ if ARCHITECTURES.contains(&arch) => None,
        _ => return None,
    })
}

/// The models of an architecture; none where any name may be one.
pub fn model_names(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::X86 => X86::table().models().iter().map(|model| model.name).collect(),
        Kind::Ppc64 => PPC64_MODELS.to_vec(),
        Kind::Arm | Kind::Other => Vec::new(),
    }
}
