//! `<capabilities>`: what a host and its hypervisor can do. It is only ever written by a daemon.

use uuid::Uuid;

use crate::domain::features::CpuTopology;
use crate::table::{Cpuset, Element, KiB, write_document};
use crate::{FormatOptions, OnOff, YesNo, element};

element! {
    /// `<capabilities>`.
    pub struct Capabilities {
        child host: CapsHost;
        child guests "guest": Vec<CapsGuest>;
    }

    /// `<host>`.
    pub struct CapsHost {
        leaf uuid: Option<Uuid>;
        child cpu: Option<HostCpu>;
        kept power_management: Option<PowerManagement>;
        child iommu: Option<IommuSupport>;
        child migration_features: Option<MigrationFeatures>;
        child topology: Option<HostTopology>;
        child cache: Option<HostCache>;
        child secmodels "secmodel": Vec<Secmodel>;
    }

    /// `<cpu>` of the host.
    pub struct HostCpu {
        leaf arch: String;
        leaf model: Option<String>;
        leaf vendor: Option<String>;
        child microcode: Option<Microcode>;
        child signature: Option<Signature>;
        child counter: Option<Counter>;
        child topology: Option<CpuTopology>;
        child maxphysaddr: Option<HostPhysAddr>;
        child feature: Vec<HostFeature>;
        child features: Option<HostFeatures>;
        child pages: Vec<HostPages>;
    }

    /// `<microcode>`.
    pub struct Microcode {
        attr version: u32;
    }

    /// `<signature>`.
    pub struct Signature {
        attr family: u32;
        attr model: u32;
        attr stepping: u32;
    }

    /// `<counter>`: Hz.
    pub struct Counter {
        attr name: String;
        attr frequency: u64;
        attr scaling: Option<YesNo>;
    }

    /// `<maxphysaddr>`.
    pub struct HostPhysAddr {
        attr mode: String;
        attr bits: u32;
    }

    /// `<feature>` of a processor.
    pub struct HostFeature {
        attr name: String;
    }

    /// `<features>` of a processor.
    pub struct HostFeatures {
        flag pae;
        flag nonpae;
    }

    /// `<pages>`: a page size in KiB, and how many there are.
    pub struct HostPages {
        attr unit: String;
        attr size: u64;
        text count: Option<u64>;
    }

    /// `<power_management>`.
    pub struct PowerManagement {
        flag suspend_mem;
        flag suspend_disk;
        flag suspend_hybrid;
    }

    /// `<iommu>`.
    pub struct IommuSupport {
        attr support: YesNo;
    }

    /// `<migration_features>`.
    pub struct MigrationFeatures {
        flag live;
        child uri_transports: Option<UriTransports>;
    }

    /// `<uri_transports>`.
    pub struct UriTransports {
        leaf uri_transport: Vec<String>;
    }

    /// `<topology>` of the host.
    pub struct HostTopology {
        child cells: Option<HostCells>;
    }

    /// `<cells>`: the host's memory nodes.
    pub struct HostCells {
        attr num: u32;
        child cell: Vec<HostCell>;
    }

    /// `<cell>`: one node.
    pub struct HostCell {
        attr id: u32;
        child memory: Option<KiB>;
        child pages: Vec<HostPages>;
        child distances: Option<crate::domain::features::Distances>;
        child cpus: Option<HostCpus>;
    }

    /// `<cpus>` of a node.
    pub struct HostCpus {
        attr num: u32;
        child cpu: Vec<HostCpuId>;
    }

    /// `<cpu>` of a node.
    pub struct HostCpuId {
        attr id: u32;
        attr socket_id: Option<u32>;
        attr die_id: Option<u32>;
        attr cluster_id: Option<u32>;
        attr core_id: Option<u32>;
        attr siblings: Option<Cpuset>;
    }

    /// `<cache>`.
    pub struct HostCache {
        child bank: Vec<CacheBank>;
    }

    /// `<bank>` of cache.
    pub struct CacheBank {
        attr id: u32;
        attr level: u32;
        attr type_ "type": String;
        attr size: u64;
        attr unit: String;
        attr cpus: Option<Cpuset>;
    }

    /// `<secmodel>`: a security driver.
    pub struct Secmodel {
        leaf model: String;
        leaf doi: String;
        child baselabel: Vec<Baselabel>;
    }

    /// `<baselabel>`.
    pub struct Baselabel {
        attr type_ "type": String;
        text label: String;
    }

    /// `<guest>`: what guests of one architecture may be.
    pub struct CapsGuest {
        leaf os_type: String;
        child arch: CapsArch;
        child features: Option<GuestFeatures>;
    }

    /// `<arch>` of a guest.
    pub struct CapsArch {
        attr name: String;
        leaf wordsize: u32;
        leaf emulator: Option<String>;
        leaf loader: Option<String>;
        child machine: Vec<CapsMachine>;
        child domain: Vec<CapsDomain>;
    }

    /// `<machine>`.
    pub struct CapsMachine {
        attr canonical: Option<String>;
        attr max_cpus "maxCpus": Option<u32>;
        attr deprecated: Option<YesNo>;
        text name: String;
    }

    /// `<domain>`: an accelerator, with machines and emulator of its own where they differ.
    pub struct CapsDomain {
        attr type_ "type": String;
        leaf emulator: Option<String>;
        child machine: Vec<CapsMachine>;
    }

    /// `<features>` of a guest.
    pub struct GuestFeatures {
        flag pae;
        flag nonpae;
        flag ia64_be;
        kept acpi: Option<GuestToggle>;
        kept apic: Option<GuestToggle>;
        flag cpuselection;
        flag deviceboot;
        kept disksnapshot: Option<GuestToggle>;
        kept external_snapshot "externalSnapshot": Option<GuestToggle>;
        kept hap: Option<GuestToggle>;
    }

    /// A feature that may be switched.
    pub struct GuestToggle {
        attr default: Option<OnOff>;
        attr toggle: Option<YesNo>;
    }
}

impl Capabilities {
    /// The capabilities as text, a blank line around each part.
    pub fn to_xml(&self) -> String {
        let text = write_document("capabilities", self, &FormatOptions::default());
        let mut out = String::with_capacity(text.len() + 64);
        for line in text.lines() {
            out.push_str(line);
            out.push('\n');
            if matches!(line, "<capabilities>" | "  </host>" | "  </guest>") {
                out.push('\n');
            }
        }
        out
    }

    /// Reads capabilities, as in a configuration of the test driver.
    ///
    /// # Errors
    /// Malformed or bad content.
    pub fn parse(xml: &str) -> crate::table::Result<Self> {
        let domain = virtwire_protocol::ErrorDomain::CAPABILITIES;
        Self::read(crate::xml::Document::parse_root(xml, "capabilities", domain)?.root())
    }
}
