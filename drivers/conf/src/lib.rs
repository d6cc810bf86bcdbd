//! Definitions of domain, network, pool, volume and the rest: XML in, XML out.
//!
//! Every definition is a struct made from a [table](crate::table), with libvirt's names in snake case. Reading
//! ([`Domain::parse`] and its like) checks the document and fills in what the driver named by
//! [`ParseOptions`] would; writing ([`Domain::to_xml`]) shows it in libvirt's layout and order.
//!
//! ```
//! use virtwire_conf::{Domain, FormatOptions, ParseOptions};
//!
//! let xml = "<domain type='test'><name>a</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>";
//! let domain = Domain::parse(xml, &ParseOptions::test()).unwrap();
//! assert_eq!(domain.vcpu.as_ref().unwrap().count, 1);
//! assert!(domain.to_xml(&FormatOptions::default()).contains("  <memory unit='KiB'>65536</memory>\n"));
//!
//! let error = Domain::parse("<domain/>", &ParseOptions::test()).unwrap_err();
//! assert_eq!(error.message, "missing name information");
//! ```
//!
//! No I/O, no host, no wire: what must be known about a host comes in as a [`QemuHost`], and libvirt's schemas, where they
//! are installed, by [`schemas::provide`].

mod arch;
pub mod backup;
pub mod blkio;
pub mod capabilities;
pub mod change;
pub mod complete;
pub mod domain;
pub mod image;
pub mod interface;
pub mod moments;
pub mod network;
pub mod network_port;
pub mod nodedev;
pub mod nwfilter;
pub mod relaxng;
pub mod schemas;
pub mod secret;
pub mod snapshot;
pub mod storage;
pub mod table;
pub mod xml;

pub use arch::ARCHITECTURES;
pub use backup::Backup;
pub use capabilities::Capabilities;
pub use complete::{Emulator, Flavor, Machine, ParseOptions, QemuHost};
pub use domain::Domain;
pub use interface::Interface;
pub use network::Network;
pub use network_port::NetworkPort;
pub use nodedev::NodeDevice;
pub use nwfilter::{Nwfilter, NwfilterBinding, NwfilterBindingStatus};
pub use secret::Secret;
pub use snapshot::{Checkpoint, Snapshot};
pub use storage::{StoragePool, StorageVol};

use virtwire_protocol::error::ErrorCode;
use virtwire_protocol::{ErrorDomain, VirtError};

use table::{Element, schema, write_document};
use xml::{Document, Node};

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
    /// What only the status file of a running guest says.
    pub status: bool,
}

impl FormatOptions {
    /// From the flags of `virDomainGetXMLDesc`: SECURE 1, INACTIVE 2, UPDATE_CPU 4, MIGRATABLE 8.
    pub const fn from_flags(flags: u32) -> Self {
        Self {
            secure: flags & 1 != 0,
            inactive: flags & 2 != 0,
            update_cpu: flags & 4 != 0,
            migratable: flags & 8 != 0,
            status: false,
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

    /// Whether to show what only a status file says.
    pub const fn status(&self) -> bool {
        self.status
    }
}

/// What a schema would have found before anybody else: values that are none, and what is missing.
fn of_schema(error: VirtError, options: &ParseOptions, root: Node<'_>, schema: &str) -> VirtError {
    let value = matches!(error.domain, ErrorDomain::XML | ErrorDomain::NONE);
    let finds = error.code == ErrorCode::NO_TARGET
        || value && error.code != ErrorCode::XML_DETAIL
        || error.domain == ErrorDomain::NWFILTER && error.code == ErrorCode::INTERNAL_ERROR
        || error.domain == ErrorDomain::DOMAIN_CHECKPOINT && error.code == ErrorCode::XML_ERROR;
    if !options.validate || !finds || error.code == ErrorCode::XML_INVALID_SCHEMA {
        return error;
    }
    let part = match schema {
        "domain" => Some("devices"),
        "nwfilter" => Some("rule"),
        _ => None,
    };
    schema::invalid(schema, root.name(), part)
}

macro_rules! definitions {
    ($($name:ident $root:literal $schema:literal $domain:ident $($migratable:ident)?;)*) => {$(
        impl $name {
            #[doc = concat!("Reads a `<", $root, ">` document.")]
            ///
            /// # Errors
            /// libvirt's: `VIR_ERR_XML_DETAIL` for malformed text, `VIR_ERR_XML_ERROR` and others for bad content.
            pub fn parse(xml: &str, options: &ParseOptions) -> Result<Self, VirtError> {
                let document = Document::parse_root(xml, $root, ErrorDomain::$domain)?;
                let root = document.root();
                let left = schemas::validate(root, Self::FIELDS, $schema, options)?;
                let options = left.as_ref().unwrap_or(options);
                let mut definition = Self::read(root).map_err(|error| match $schema {
                    // Whatever is no value of its line is none of the schema's.
                    "domain" if options.validate => schema::invalid($schema, root.name(), Some("devices")),
                    "domain" => complete::first_error(xml).unwrap_or(error),
                    _ => of_schema(error, options, root, $schema),
                })?;
                let completed = definition.complete(options);
                completed.map_err(|error| of_schema(error, options, root, $schema))?;
                Ok(definition)
            }

            /// The definition as text.
            pub fn to_xml(&self, options: &FormatOptions) -> String {
                // A guest kept within a snapshot or checkpoint isn't running.
                let kept = matches!($root, "domainsnapshot" | "domaincheckpoint");
                let options = &FormatOptions { inactive: options.inactive || kept, ..*options };
                $(if options.migratable {
                    return write_document($root, &self.$migratable(), options);
                })?
                write_document($root, self, options)
            }
        }
    )*};
}

definitions! {
    Domain "domain" "domain" DOMAIN migratable;
    Network "network" "network" NETWORK;
    NetworkPort "networkport" "networkport" NETWORK;
    StoragePool "pool" "storagepool" STORAGE;
    StorageVol "volume" "storagevol" STORAGE;
    Secret "secret" "secret" SECRET;
    Interface "interface" "interface" INTERFACE;
    NodeDevice "device" "nodedev" NODEDEV;
    Nwfilter "filter" "nwfilter" NWFILTER;
    NwfilterBinding "filterbinding" "nwfilterbinding" NWFILTER;
    NwfilterBindingStatus "filterbindingstatus" "nwfilterbinding" NWFILTER;
    Snapshot "domainsnapshot" "domainsnapshot" DOMAIN_SNAPSHOT;
    Checkpoint "domaincheckpoint" "domaincheckpoint" DOMAIN_CHECKPOINT;
    Backup "domainbackup" "domainbackup" DOMAIN;
}
