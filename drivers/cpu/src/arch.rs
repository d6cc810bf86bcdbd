//! What libvirt knows of CPUs by architecture.

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

/// Architectures by libvirt's names, and how their CPUs are handled.
const ARCHITECTURES: &[(&str, Option<Kind>)] = &[
    ("none", None),
    ("alpha", None),
    ("armv6l", Some(Kind::Arm)),
    ("armv7l", Some(Kind::Arm)),
    ("armv7b", Some(Kind::Arm)),
    ("aarch64", Some(Kind::Arm)),
    ("cris", None),
    ("i686", Some(Kind::X86)),
    ("ia64", None),
    ("lm32", None),
    ("loongarch64", Some(Kind::Other)),
    ("m68k", None),
    ("microblaze", None),
    ("microblazeel", None),
    ("mips", None),
    ("mipsel", None),
    ("mips64", None),
    ("mips64el", None),
    ("openrisc", None),
    ("parisc", None),
    ("parisc64", None),
    ("ppc", None),
    ("ppc64", Some(Kind::Ppc64)),
    ("ppc64le", Some(Kind::Ppc64)),
    ("ppcemb", None),
    ("riscv32", Some(Kind::Other)),
    ("riscv64", Some(Kind::Other)),
    ("s390", None),
    ("s390x", Some(Kind::Other)),
    ("sh4", None),
    ("sh4eb", None),
    ("sparc", None),
    ("sparc64", None),
    ("unicore32", None),
    ("x86_64", Some(Kind::X86)),
    ("xtensa", None),
    ("xtensaeb", None),
];

/// The models of 64 bit PowerPC.
const PPC64_MODELS: &[&str] =
    &["POWER6", "POWER7", "POWER8", "POWER9", "POWER10", "POWERPC_e5500", "POWERPC_e6500"];

/// How CPUs of `arch` are handled: `None` for what is no architecture, `Some(None)` for one whose CPUs can't be handled.
pub fn kind(arch: &str) -> Option<Option<Kind>> {
    ARCHITECTURES.iter().find(|(name, _)| *name == arch && *name != "none").map(|(_, kind)| *kind)
}

/// The models of an architecture; none where any name may be one.
pub fn model_names(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::X86 => X86::table().models().iter().map(|model| model.name).collect(),
        Kind::Ppc64 => PPC64_MODELS.to_vec(),
        Kind::Arm | Kind::Other => Vec::new(),
    }
}
