//! Definitions of domain, network, pool, volume and the rest: XML in, XML out.
//!
//! Every definition is a struct made from a [table](crate::table).

pub mod domain;
pub mod table;
pub mod xml;

pub use domain::{Domain, ParseOptions};

keywords! {
    /// A switch in words.
    pub enum OnOff { On = "on", Off = "off", _ = "default" }
    /// An answer.
    pub enum YesNo { Yes = "yes", No = "no", _ = "default" }
}

/// What a document shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FormatOptions {
    /// Secrets too (`VIR_DOMAIN_XML_SECURE`).
    pub secure: bool,
    /// Only what is stored (`VIR_DOMAIN_XML_INACTIVE`).
    pub inactive: bool,
    /// The processor as the host would provide it (`VIR_DOMAIN_XML_UPDATE_CPU`).
    pub update_cpu: bool,
    /// What older hosts understand (`VIR_DOMAIN_XML_MIGRATABLE`).
    pub migratable: bool,
}

impl FormatOptions {
    /// From the flags of `virDomainGetXMLDesc`: SECURE 1, INACTIVE 2, UPDATE_CPU 4, MIGRATABLE 8.
    pub const fn from_flags(flags: u32) -> Self {
        Self {
            secure: flags & 1 != 0,
            inactive: flags & 2 != 0,
            update_cpu: flags & 4 != 0,
            migratable: flags & 8 != 0,
        }
    }

    /// Whether to show secrets.
    pub const fn secure(&self) -> bool {
        self.secure
    }

    /// Whether to show what belongs to one run of the guest.
    pub const fn live(&self) -> bool {
        !self.inactive
    }
}
