//! `<domain>`: a guest.

mod bandwidth;
pub mod chardev;
pub mod device;
pub mod disk;
pub mod display;
pub mod features;
mod metadata;
pub mod misc;
pub mod net;
pub mod one;
pub mod os;
pub mod private;
mod throttle;
pub mod tune;

pub use metadata::MetadataKind;
use std::collections::HashSet;

use uuid::Uuid;
use virtwire_protocol::ErrorDomain;

use crate::table::{Bad, Element, KiB, Result, Value, parse_uuid};
use crate::xml::{Node, Raw, Writer, spaces};
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// Who runs the guest.
    pub enum VirtType {
        None = "none", Qemu = "qemu", Kqemu = "kqemu", Kvm = "kvm", Xen = "xen", Lxc = "lxc", Uml = "uml", Openvz = "openvz",
        Test = "test", Vmware = "vmware", Hyperv = "hyperv", Vbox = "vbox", Phyp = "phyp", Parallels = "parallels",
        Bhyve = "bhyve", Vz = "vz", Hvf = "hvf", _ = "",
    }
    /// What happens when the guest powers off or reboots.
    pub enum LifecycleAction {
        Destroy = "destroy", Restart = "restart", RenameRestart = "rename-restart", Preserve = "preserve",
        CoredumpDestroy = "coredump-destroy", CoredumpRestart = "coredump-restart",
    }
    /// What happens when a lock is lost.
    pub enum LockFailure { Poweroff = "poweroff", Restart = "restart", Pause = "pause", Ignore = "ignore", _ = "default" }
    /// What keeps a guest's memory from the host.
    pub enum LaunchSecurityType { Sev = "sev", SevSnp = "sev-snp", S390Pv = "s390-pv" }
    /// Who makes a security label.
    pub enum SeclabelType { None = "none", Dynamic = "dynamic", Static = "static" }
}

element! {
    /// `<domain>`: the definition of a guest.
    pub struct Domain {
        attr_default type_ "type": VirtType => DOMAIN.config_unsupported "invalid domain type {}";
        loose id if live: Option<i32>;
        attr xmlns_qemu "xmlns:qemu": Option<String>;
        leaf name: String;
        leaf uuid: Option<Uuid> => DOMAIN.internal_error "malformed uuid element";
        child genid: Option<Genid>;
        leaf title: Option<String>;
        leaf description: Option<String>;
        kept metadata: Option<Metadata>;
        child max_memory "maxMemory": Option<tune::MaxMemory>;
        kept memory: Option<GuestMemory>;
        kept current_memory "currentMemory": Option<KiB>;
        child blkiotune: Option<tune::Blkiotune>;
        child memtune: Option<tune::Memtune>;
        child memory_backing "memoryBacking": Option<tune::MemoryBacking>;
        child vcpu: Option<tune::Vcpu>;
        child vcpus: Option<tune::Vcpus>;
        leaf iothreads: Option<u32> => DOMAIN.xml_error "invalid iothreads count '{}'";
        child iothreadids: Option<tune::IothreadIds>;
        child defaultiothread: Option<tune::DefaultIothread>;
        child cputune: Option<tune::Cputune>;
        child numatune: Option<tune::Numatune>;
        child throttlegroups: Option<tune::ThrottleGroups>;
        child resource: Option<tune::Resource>;
        child sysinfo: Vec<os::Sysinfo>;
        leaf bootloader: Option<String>;
        leaf bootloader_args: Option<String>;
        child os: os::Os;
        child idmap: Option<os::Idmap>;
        child features: Option<features::Features>;
        child cpu: Option<features::Cpu>;
        child clock: Option<os::Clock>;
        leaf on_poweroff: Option<LifecycleAction> => DOMAIN.config_unsupported "unknown on_poweroff action: {}";
        leaf on_reboot: Option<LifecycleAction> => DOMAIN.config_unsupported "unknown on_reboot action: {}";
        leaf on_crash: Option<LifecycleAction> => DOMAIN.config_unsupported "unknown on_crash action: {}";
        leaf on_lockfailure: Option<LockFailure> => DOMAIN.config_unsupported "unknown on_lockfailure action: {}";
        child pm: Option<os::Pm>;
        child perf: Option<os::Perf>;
        pair devices: Devices;
        child seclabel: Vec<Seclabel>;
        child keywrap: Option<Keywrap>;
        child launch_security "launchSecurity": Option<LaunchSecurity>;
        child qemu_commandline "qemu:commandline": Option<QemuCommandline>;
        child qemu_capabilities "qemu:capabilities": Option<QemuCapabilities>;
        child qemu_override "qemu:override": Option<QemuOverride>;
        child qemu_deprecation "qemu:deprecation": Option<QemuDeprecation>;
    }

    /// `<devices>`.
    pub struct Devices {
        leaf emulator: Option<String>;
        child disks "disk": Vec<disk::Disk>;
        child controllers "controller": Vec<misc::Controller>;
        child leases "lease": Vec<disk::Lease>;
        child filesystems "filesystem": Vec<disk::Filesystem>;
        child interfaces "interface": Vec<net::Interface>;
        child smartcards "smartcard": Vec<chardev::Smartcard>;
        child serials "serial": Vec<chardev::Serial>;
        child parallels "parallel": Vec<chardev::Parallel>;
        child consoles "console": Vec<chardev::Console>;
        child channels "channel": Vec<chardev::Channel>;
        child inputs "input": Vec<display::Input>;
        child tpms "tpm": Vec<misc::Tpm>;
        child graphics: Vec<display::Graphics>;
        child sounds "sound": Vec<display::Sound>;
        child audios "audio": Vec<display::Audio>;
        child videos "video": Vec<display::Video>;
        child hostdevs "hostdev": Vec<misc::Hostdev>;
        child redirdevs "redirdev": Vec<chardev::Redirdev>;
        sole redirfilter: Option<chardev::Redirfilter>
            => DOMAIN.internal_error "only one set of redirection filter rule is supported";
        child hubs "hub": Vec<misc::Hub>;
        child watchdogs "watchdog": Vec<misc::Watchdog>;
        sole memballoon: Option<misc::Memballoon>
            => DOMAIN.internal_error "only a single memory balloon device is supported";
        child rngs "rng": Vec<chardev::Rng>;
        sole nvram: Option<misc::NvramDevice>
            => DOMAIN.internal_error "only a single nvram device is supported";
        child panics "panic": Vec<misc::Panic>;
        child shmems "shmem": Vec<misc::Shmem>;
        child memories "memory": Vec<misc::Memory>;
        child cryptos "crypto": Vec<misc::Crypto>;
        sole iommu: Option<misc::Iommu> => DOMAIN.xml_error "only a single IOMMU device is supported";
        sole vsock: Option<misc::Vsock> => DOMAIN.xml_error "only a single vsock device is supported";
        sole pstore: Option<misc::Pstore> => DOMAIN.xml_error "only a single pstore device is supported";
    }

    /// `<memory>`: how much memory the guest has.
    pub struct GuestMemory {
        attr dump_core "dumpCore": Option<OnOff>;
        flat size: KiB;
    }

    /// `<seclabel>` of a guest.
    pub struct Seclabel {
        attr type_ "type": Option<SeclabelType>;
        attr model: Option<String>;
        attr relabel: Option<YesNo>;
        leaf label: Option<String>;
        leaf imagelabel if live: Option<String>;
        leaf baselabel: Option<String>;
    }

    /// `<keywrap>`: wrapped keys of an s390 guest.
    pub struct Keywrap {
        child cipher: Vec<KeywrapCipher>;
    }

    /// `<cipher>` of `<keywrap>`.
    pub struct KeywrapCipher {
        attr name: String | "aes" | "dea";
        attr state: crate::OnOff;
    }

    /// `<launchSecurity>`: memory that the host cannot read.
    pub struct LaunchSecurity {
        attr type_ "type": LaunchSecurityType;
        attr kernel_hashes "kernelHashes": Option<YesNo>;
        attr author_key "authorKey": Option<YesNo>;
        attr vcek: Option<YesNo>;
        leaf cbitpos: Option<u32> => DOMAIN.xml_error "Invalid format for launch security cbitpos";
        leaf reduced_phys_bits "reducedPhysBits": Option<u32> => DOMAIN.xml_error "Invalid format for launch security reduced-phys-bits";
        leaf policy: Option<Policy> => DOMAIN.xml_error "failed to get launch security policy";
        leaf dh_cert "dhCert": Option<String>;
        leaf session: Option<String>;
        leaf guest_visible_workarounds "guestVisibleWorkarounds": Option<String>;
        leaf id_block "idBlock": Option<String>;
        leaf id_auth "idAuth": Option<String>;
        leaf host_data "hostData": Option<String>;
    }

    /// `<qemu:commandline>`: words for QEMU's command line.
    pub struct QemuCommandline {
        child arg "qemu:arg": Vec<QemuArg>;
        child env "qemu:env": Vec<QemuEnv>;
    }

    /// `<qemu:arg>`.
    pub struct QemuArg {
        attr value: String => QEMU.internal_error "{}", QEMU.internal_error "No qemu command-line argument specified";
    }

    /// `<qemu:env>`.
    pub struct QemuEnv {
        attr name: String => QEMU.internal_error "{}", QEMU.internal_error "No qemu environment name specified";
        attr value: Option<String>;
    }

    /// `<qemu:capabilities>`: what to believe QEMU can do.
    pub struct QemuCapabilities {
        child add "qemu:add": Vec<QemuCapability>;
        child del "qemu:del": Vec<QemuCapability>;
    }

    /// `<qemu:add>` or `<qemu:del>`.
    pub struct QemuCapability {
        attr capability: String => QEMU.internal_error "{}", QEMU.internal_error "missing capability name";
    }

    /// `<qemu:override>`: properties of devices.
    pub struct QemuOverride {
        child device "qemu:device": Vec<QemuDevice>;
    }

    /// `<qemu:device>`.
    pub struct QemuDevice {
        attr alias: String => QEMU.xml_error "{}", QEMU.xml_error "missing 'alias' attribute for qemu:device";
        child frontend "qemu:frontend": Option<QemuFrontend>;
    }

    /// `<qemu:frontend>`.
    pub struct QemuFrontend {
        child property "qemu:property": Vec<QemuProperty>;
    }

    /// `<qemu:property>`.
    pub struct QemuProperty {
        attr name: String;
        attr type_ "type": String;
        attr value: Option<String>;
    }

    /// `<qemu:deprecation>`.
    pub struct QemuDeprecation {
        attr behavior: Option<String>;
    }
}

impl From<KiB> for GuestMemory {
    fn from(size: KiB) -> Self {
        Self { dump_core: None, size }
    }
}

impl GuestMemory {
    /// KiB.
    pub const fn kib(&self) -> u64 {
        self.size.0
    }
}

/// How a guest's memory is kept from the host: bits, said in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy(pub u64);

impl Value for Policy {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        let digits = text.trim().trim_start_matches("0x");
        u64::from_str_radix(digits, 16).map(|bits| Some(Self(bits))).map_err(|_| Bad::Keyword)
    }

    fn show(&self) -> std::borrow::Cow<'_, str> {
        format!("{:#06x}", self.0).into()
    }
}

/// `<genid>`: changes whenever the guest's execution is rewound; made up where the element is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Genid(pub Uuid);

impl Element for Genid {
    fn read(node: Node<'_>) -> Result<Self> {
        let text = node.text();
        if text.is_empty() {
            return Ok(Self(Uuid::new_v4()));
        }
        let malformed = || ErrorDomain::DOMAIN.internal_error("malformed genid element");
        parse_uuid(&text).map(Self).ok_or_else(malformed)
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.text(&self.0.hyphenated().to_string());
    }
}

/// `<metadata>`: elements of other programs, one for each name space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Prefixes and their name spaces.
    pub spaces: Vec<(String, String)>,
    /// The elements.
    pub elements: Vec<Raw>,
}

impl Element for Metadata {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut seen = HashSet::new();
        // An element without a name space, or a second one of the same, belongs to nobody.
        let is_first = |raw: &Raw| raw.namespace().is_some_and(|space| seen.insert(space.to_owned()));
        let elements = node.children().map(Raw::read).filter(is_first).collect();
        Ok(Self { spaces: spaces(node), elements })
    }

    fn is_nothing(node: Node<'_>) -> bool {
        node.children().next().is_none()
    }

    fn write(&self, out: &mut Writer<'_>) {
        for (name, space) in self.spaces.iter().filter(|_| !self.elements.is_empty()) {
            out.namespace(name, space);
        }
        for element in &self.elements {
            element.write(out);
        }
    }
}
