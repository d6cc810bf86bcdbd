//! `<features>` and `<cpu>`.

use virtwire_protocol::ErrorDomain;

use crate::domain::os::State;
use crate::table::{Cpuset, Element, KiB, Positive, Result, unit};
use crate::xml::{Node, Writer};
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// Which Hyper-V enlightenments a guest gets.
    pub enum HypervMode { Custom = "custom", Passthrough = "passthrough", _ = "none" }
    /// Where the I/O APIC lives.
    pub enum IoapicDriver { Kvm = "kvm", Qemu = "qemu" }
    /// The GIC's version.
    pub enum GicVersion { Two = "2", Three = "3", Host = "host" }
    /// What becomes of registers that the processor does not have.
    pub enum MsrsUnknown { Ignore = "ignore", Fault = "fault" }
    /// Which of RISC-V's interrupt architectures.
    pub enum AiaValue { None = "none", Aplic = "aplic", AplicImsic = "aplic-imsic" }
    /// What a guest may do with a capability or call.
    pub enum CapabilityPolicy { Default = "default", Allow = "allow", Deny = "deny" }
}

element! {
    /// `<features>`: what the machine has.
    pub struct Features {
        flat known: KnownFeatures;
        flag acpi;
        kept apic: Option<Apic>;
        flag pae;
        kept hap: Option<State>;
        flag viridian;
        flag privnet;
        pair hyperv: Option<Hyperv>;
        pair kvm: Option<KvmFeatures>;
        kept pvspinlock: Option<State>;
        kept capabilities: Option<Capabilities>;
        kept pmu: Option<State>;
        kept vmport: Option<State>;
        kept gic: Option<Gic>;
        kept smm: Option<Smm>;
        child ioapic: Option<Ioapic>;
        child hpt: Option<Hpt>;
        kept vmcoreinfo: Option<State>;
        kept htm: Option<Switch>;
        kept nested_hv "nested-hv": Option<Switch>;
        child msrs: Option<Msrs>;
        kept ccf_assist "ccf-assist": Option<Switch>;
        pair xen: Option<XenFeatures>;
        child cfpc: Option<FeatureValue>;
        child sbbc: Option<FeatureValue>;
        child ibs: Option<FeatureValue>;
        child tcg: Option<TcgFeatures>;
        kept async_teardown "async-teardown": Option<AsyncTeardown>;
        kept ras: Option<Switch>;
        kept ps2: Option<Switch>;
        kept aia: Option<Aia>;
    }

    /// `<apic>`.
    pub struct Apic {
        attr eoi: Option<OnOff>;
    }

    /// `<smm>`: system management mode.
    pub struct Smm {
        attr state: Option<OnOff>;
        child tseg: Option<Scaled>;
    }

    /// A size shown as it was given.
    pub struct Scaled {
        attr unit: Option<String>;
        text value: Option<String>;
    }

    /// How well a processor of POWER is guarded against a weakness.
    pub struct FeatureValue {
        attr value: Option<String> | "broken" | "workaround" | "fixed" | "fixed-ibs" | "fixed-ccd" | "fixed-na";
    }

    /// `<async-teardown>`.
    pub struct AsyncTeardown {
        attr enabled: Option<YesNo>;
    }

    /// `<gic>`.
    pub struct Gic {
        attr version: Option<GicVersion>;
    }

    /// `<ioapic>`.
    pub struct Ioapic {
        attr driver: Option<IoapicDriver>;
    }

    /// `<capabilities>`: what a container's processes may do.
    pub struct Capabilities {
        attr policy: Option<CapabilityPolicy>;
        child audit_control: Option<Switch>;
        child audit_write: Option<Switch>;
        child block_suspend: Option<Switch>;
        child chown: Option<Switch>;
        child dac_override: Option<Switch>;
        child dac_read_search: Option<Switch>;
        child fowner: Option<Switch>;
        child fsetid: Option<Switch>;
        child ipc_lock: Option<Switch>;
        child ipc_owner: Option<Switch>;
        child kill: Option<Switch>;
        child lease: Option<Switch>;
        child linux_immutable: Option<Switch>;
        child mac_admin: Option<Switch>;
        child mac_override: Option<Switch>;
        child mknod: Option<Switch>;
        child net_admin: Option<Switch>;
        child net_bind_service: Option<Switch>;
        child net_broadcast: Option<Switch>;
        child net_raw: Option<Switch>;
        child setgid: Option<Switch>;
        child setfcap: Option<Switch>;
        child setpcap: Option<Switch>;
        child setuid: Option<Switch>;
        child sys_admin: Option<Switch>;
        child sys_boot: Option<Switch>;
        child sys_chroot: Option<Switch>;
        child sys_module: Option<Switch>;
        child sys_nice: Option<Switch>;
        child sys_pacct: Option<Switch>;
        child sys_ptrace: Option<Switch>;
        child sys_rawio: Option<Switch>;
        child sys_resource: Option<Switch>;
        child sys_time: Option<Switch>;
        child sys_tty_config: Option<Switch>;
        child syslog: Option<Switch>;
        child wake_alarm: Option<Switch>;
    }

    /// `<msrs>`: what becomes of registers that the processor does not have.
    pub struct Msrs {
        attr unknown: MsrsUnknown;
    }

    /// `<aia>`: the interrupt architecture of a RISC-V guest.
    pub struct Aia {
        attr value: AiaValue;
    }

    /// `<hpt>`: a POWER guest's page table.
    pub struct Hpt {
        attr resizing: Option<String> | "enabled" | "disabled" | "required";
        child maxpagesize: Option<KiB>;
    }

    /// `<hyperv>`: enlightenments.
    pub struct Hyperv {
        flat known: KnownEnlightenments;
        attr mode: Option<HypervMode>;
        child relaxed: Option<Switch>;
        child vapic: Option<Switch>;
        child spinlocks: Option<Spinlocks>;
        child vpindex: Option<Switch>;
        child runtime: Option<Switch>;
        child synic: Option<Switch>;
        child stimer: Option<Stimer>;
        child reset: Option<Switch>;
        child vendor_id: Option<VendorId>;
        child frequencies: Option<Switch>;
        child reenlightenment: Option<Switch>;
        child tlbflush: Option<Tlbflush>;
        child ipi: Option<Switch>;
        child evmcs: Option<Switch>;
        child avic: Option<Switch>;
        child emsr_bitmap: Option<Switch>;
        child xmm_input: Option<Switch>;
    }

    /// Something that is on or off.
    pub struct Switch {
        attr state: OnOff;
    }

    /// `<spinlocks>`.
    pub struct Spinlocks {
        attr state: OnOff;
        attr retries: Option<u32>;
    }

    /// `<stimer>`.
    pub struct Stimer {
        attr state: OnOff;
        child direct: Option<Switch>;
    }

    /// `<tlbflush>`.
    pub struct Tlbflush {
        attr state: OnOff;
        child direct: Option<Switch>;
        child extended: Option<Switch>;
    }

    /// `<vendor_id>`.
    pub struct VendorId {
        attr state: OnOff;
        attr value: Option<String>;
    }

    /// `<kvm>`.
    pub struct KvmFeatures {
        flat known: KnownKvmFeatures;
        child hidden: Option<Switch>;
        child hint_dedicated "hint-dedicated": Option<Switch>;
        child poll_control "poll-control": Option<Switch>;
        child pv_ipi "pv-ipi": Option<Switch>;
        child dirty_ring "dirty-ring": Option<DirtyRing>;
    }

    /// `<dirty-ring>`.
    pub struct DirtyRing {
        attr state: OnOff;
        attr size: Option<u32>;
    }

    /// `<xen>`.
    pub struct XenFeatures {
        child e820_host: Option<Switch>;
        child passthrough: Option<XenPassthrough>;
    }

    /// `<passthrough>` of Xen.
    pub struct XenPassthrough {
        attr state: OnOff;
        attr mode: Option<String> | "sync_pt" | "share_pt";
    }

    /// `<tcg>`.
    pub struct TcgFeatures {
        child tb_cache "tb-cache": Option<KiB>;
    }
}

keywords! {
    /// Where a guest's processor comes from.
    pub enum CpuMode {
        Custom = "custom", HostModel = "host-model", HostPassthrough = "host-passthrough", Maximum = "maximum",
    }
    /// How close the host must come.
    pub enum CpuMatch { Exact = "exact", Minimum = "minimum", Strict = "strict" }
    /// How much is verified at start.
    pub enum CpuCheck { None = "none", Partial = "partial", Full = "full" }
    /// What to do about a model the hypervisor doesn't know.
    pub enum CpuFallback { Allow = "allow", Forbid = "forbid" }
    /// What a feature must be.
    pub enum CpuFeaturePolicy {
        Force = "force", Require = "require", Optional = "optional", Disable = "disable", Forbid = "forbid",
    }
    /// What caches a guest sees.
    pub enum CpuCacheMode { Emulate = "emulate", Passthrough = "passthrough", Disable = "disable" }
    /// Whether memory is shared.
    pub enum MemAccess { Shared = "shared", Private = "private", _ = "default" }
}

element! {
    /// `<cpu>` of a guest.
    pub struct Cpu {
        attr mode: Option<CpuMode> => CPU.config_unsupported "Invalid mode attribute '{}'";
        attr match_ "match": Option<CpuMatch>;
        attr check: Option<CpuCheck>;
        attr migratable: Option<OnOff>;
        attr deprecated_features: Option<OnOff>;
        child model: Option<CpuModel>;
        leaf vendor: Option<String>;
        child topology: Option<CpuTopology>;
        child cache: Option<CpuCache>;
        child maxphysaddr: Option<MaxPhysAddr>;
        child feature: Vec<CpuFeature>;
        child numa: Option<CpuNuma>;
    }

    /// `<model>` of a processor.
    pub struct CpuModel {
        attr fallback: Option<CpuFallback> => CPU.config_unsupported "Invalid fallback attribute";
        attr vendor_id: Option<String>;
        text name: Option<String>;
    }

    /// `<topology>`: how virtual processors are arranged.
    pub struct CpuTopology {
        attr sockets: Positive;
        attr dies: Option<Positive>;
        attr clusters: Option<Positive>;
        attr cores: Positive;
        attr threads: Positive;
    }

    /// `<cache>`.
    pub struct CpuCache {
        attr level: Option<u32>;
        attr mode: CpuCacheMode;
    }

    /// `<maxphysaddr>`: width of physical addresses.
    pub struct MaxPhysAddr {
        attr mode: CpuCacheMode;
        attr bits: Option<u32>;
        attr limit: Option<u32>;
    }

    /// `<feature>` of a processor.
    pub struct CpuFeature {
        attr policy: Option<CpuFeaturePolicy> => CPU.config_unsupported "Invalid CPU feature policy";
        attr name: String => CPU.xml_error "{}", CPU.xml_error "Invalid CPU feature name";
    }

    /// `<numa>`: the guest's memory nodes.
    pub struct CpuNuma {
        child cell: Vec<NumaCell>;
        child interconnects: Option<Interconnects>;
    }

    /// `<cell>`: one node.
    pub struct NumaCell {
        attr id: Option<u32>;
        attr cpus: Option<Cpuset>;
        attr memory: u64 => XML.xml_error "Invalid value for attribute 'memory' in element 'cell': '{}'. Expected non-negative integer value",
            XML.xml_error "missing element or attribute './@memory'";
        attr unit: Option<String>;
        attr mem_access "memAccess": Option<MemAccess>;
        attr discard: Option<YesNo>;
        child distances: Option<Distances>;
        child cache: Vec<NumaCache>;
    }

    /// `<distances>` to the other nodes.
    pub struct Distances {
        child sibling: Vec<Sibling>;
    }

    /// `<sibling>`.
    pub struct Sibling {
        attr id: u32;
        attr value: u32;
    }

    /// `<cache>` of a node.
    pub struct NumaCache {
        attr level: Positive;
        attr associativity: String | "none" | "direct" | "full";
        attr policy: String | "none" | "writeback" | "writethrough";
        child size: Option<CacheSize>;
        child line: Option<CacheSize>;
    }

    /// A size in a cache.
    pub struct CacheSize {
        attr value: u64 => XML.xml_error "Invalid value '{}' for element or attribute './size/@value'",
            XML.xml_error "missing element or attribute './size/@value'";
        attr unit: Option<String>;
    }

    /// `<interconnects>` between nodes.
    pub struct Interconnects {
        child latency: Vec<Interconnect>;
        child bandwidth: Vec<Interconnect>;
    }

    /// `<latency>` or `<bandwidth>`.
    pub struct Interconnect {
        attr initiator: u32;
        attr target: u32;
        attr cache: Option<u32>;
        attr type_ "type": String | "access" | "read" | "write";
        attr value: u64;
        attr unit: Option<String>;
    }
}

impl Scaled {
    /// The size in MiB; `None` where it is no size.
    pub fn mebibytes(&self) -> Option<u64> {
        let number: u64 = self.value.as_deref()?.trim().parse().ok()?;
        Some(number.checked_mul(unit(self.unit.as_deref(), 1 << 20).ok()?)? >> 20)
    }
}

/// Where a child that no line knows is not dropped but refused.
macro_rules! only_known {
    ($($(#[$meta:meta])* $name:ident: $table:ident $text:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl Element for $name {
            fn read(node: Node<'_>) -> Result<Self> {
                let known = |child: &Node<'_>| $table::FIELDS.iter().any(|field| child.is(field.name));
                match node.children().find(|child| !known(child)) {
                    None => Ok(Self),
                    Some(child) => {
                        Err(ErrorDomain::DOMAIN.config_unsupported(format_args!($text, child.name())))
                    }
                }
            }

            fn write(&self, _: &mut Writer<'_>) {}
        }
    )*};
}

only_known! {
    /// Nothing unknown in `<features>`.
    KnownFeatures: Features "unexpected feature '{}'";
    /// Nothing unknown in `<hyperv>`.
    KnownEnlightenments: Hyperv "unsupported HyperV Enlightenment feature: {}";
    /// Nothing unknown in `<kvm>`.
    KnownKvmFeatures: KvmFeatures "unsupported KVM feature: {}";
}
