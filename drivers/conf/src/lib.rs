//! Definitions of domain, network, pool, volume and the rest: XML in, XML out.
//!
//! Every definition is a struct made from a [table](crate::table).

pub mod capabilities;
pub mod complete;
pub mod domain;
pub mod interface;
pub mod network;
pub mod nodedev;
pub mod nwfilter;
pub mod secret;
pub mod snapshot;
pub mod storage;
pub mod table;
pub mod xml;

pub use capabilities::Capabilities;
pub use complete::{Emulator, Flavor, ParseOptions, QemuHost};
pub use domain::Domain;
pub use interface::Interface;
pub use network::Network;
pub use nodedev::NodeDevice;
pub use nwfilter::Nwfilter;
pub use secret::Secret;
pub use snapshot::{Checkpoint, Snapshot};
pub use storage::{StoragePool, StorageVol};

use virtwire_protocol::{ErrorDomain, VirtError};

use table::{Element, write_document};
use xml::Document;

keywords! {
    /// A switch in words.
    pub enum OnOff { Off = "off", On = "on" }
    /// An answer.
    pub enum YesNo { No = "no", Yes = "yes" }
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

macro_rules! definitions {
    ($($name:ident $root:literal $domain:ident;)*) => {$(
        impl $name {
            #[doc = concat!("Reads a `<", $root, ">` document.")]
            ///
            /// # Errors
            /// libvirt's: `VIR_ERR_XML_DETAIL` for malformed text, `VIR_ERR_XML_ERROR` and others for bad content.
            pub fn parse(xml: &str, options: &ParseOptions) -> Result<Self, VirtError> {
                let document = Document::parse_root(xml, $root, ErrorDomain::$domain)?;
                let mut definition = Self::read(document.root())?;
                definition.complete(options)?;
                Ok(definition)
            }

            /// The definition as text.
            pub fn to_xml(&self, options: &FormatOptions) -> String {
                write_document($root, self, options)
            }
        }
    )*};
}

definitions! {
    Domain "domain" DOMAIN;
    Network "network" NETWORK;
    StoragePool "pool" STORAGE;
    StorageVol "volume" STORAGE;
    Secret "secret" SECRET;
    Interface "interface" INTERFACE;
    NodeDevice "device" NODEDEV;
    Nwfilter "filter" NWFILTER;
    Snapshot "domainsnapshot" DOMAIN_SNAPSHOT;
    Checkpoint "domaincheckpoint" DOMAIN_CHECKPOINT;
}
