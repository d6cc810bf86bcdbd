//! Controllers, passed-through devices and the small devices.

use uuid::Uuid;

use crate::domain::device::{DeviceInfo, PciAddress, VirtioDriver, VirtioOptions};
use crate::domain::disk::{DiskIothreads, Initiator, StorageAuth, StorageHost, VirtioModel};
use crate::domain::net::Teaming;
use crate::table::{AnyBase, Cpuset, Element, Hex, KiB, Result, Value, Wide};
use crate::xml::{Node, Writer};
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// What a controller is for.
    pub enum ControllerType {
        Ide = "ide", Fdc = "fdc", Scsi = "scsi", Sata = "sata", VirtioSerial = "virtio-serial", Ccid = "ccid",
        Usb = "usb", Pci = "pci", Xenbus = "xenbus", Isa = "isa",
    }
    /// How a device is passed through.
    pub enum HostdevMode { Subsystem = "subsystem", Capabilities = "capabilities" }
    /// What is passed through.
    pub enum HostdevType {
        Usb = "usb", Pci = "pci", Scsi = "scsi", ScsiHost = "scsi_host", Mdev = "mdev", Storage = "storage",
        Misc = "misc", Net = "net",
    }
    /// A balloon.
    pub enum MemballoonModel {
        Virtio = "virtio", Xen = "xen", None = "none", VirtioTransitional = "virtio-transitional",
        VirtioNonTransitional = "virtio-non-transitional",
    }
    /// A watchdog.
    pub enum WatchdogModel { I6300esb = "i6300esb", Ib700 = "ib700", Diag288 = "diag288", Itco = "itco" }
    /// What a watchdog does when it isn't fed.
    pub enum WatchdogAction {
        Reset = "reset", Shutdown = "shutdown", Poweroff = "poweroff", Pause = "pause", Dump = "dump", None = "none",
        InjectNmi = "inject-nmi",
    }
    /// How a guest reports panics.
    pub enum PanicModel {
        Isa = "isa", Pseries = "pseries", Hyperv = "hyperv", S390 = "s390", Pvpanic = "pvpanic", _ = "default",
    }
    /// A TPM.
    pub enum TpmModel {
        TpmTis = "tpm-tis", TpmCrb = "tpm-crb", TpmSpapr = "tpm-spapr", SpaprTpmProxy = "spapr-tpm-proxy",
        _ = "default",
    }
    /// What is behind a TPM.
    pub enum TpmBackendType { Passthrough = "passthrough", Emulator = "emulator", External = "external" }
    /// A memory module.
    pub enum MemoryModel {
        Dimm = "dimm", Nvdimm = "nvdimm", VirtioPmem = "virtio-pmem", VirtioMem = "virtio-mem", SgxEpc = "sgx-epc",
    }
    /// An IOMMU.
    pub enum IommuModel { Intel = "intel", Smmuv3 = "smmuv3", Virtio = "virtio" }
    /// A hub.
    pub enum HubType { Usb = "usb" }
}

/// An amount of memory in MiB, with a unit in XML; 0 for what is not whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MiB(pub u64);

impl Element for MiB {
    fn read(node: Node<'_>) -> Result<Self> {
        KiB::read(node).map(|size| Self(if size.0.is_multiple_of(1024) { size.0 / 1024 } else { 0 }))
    }

    fn is_nothing(node: Node<'_>) -> bool {
        KiB::is_nothing(node)
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.attribute("unit", "M");
        out.text(&self.0.to_string());
    }
}

element! {
    /// `<controller>`.
    pub struct Controller {
        attr_default type_ "type": ControllerType;
        attr index: Option<i32>;
        attr model: Option<String>;
        attr ports: Option<i32>;
        attr vectors: Option<i32>;
        attr max_grant_frames "maxGrantFrames": Option<i32>;
        attr max_event_channels "maxEventChannels": Option<i32>;
        sole pci_model "model": Option<PciModel>
            => DOMAIN.xml_error "Multiple <model> elements in controller definition not allowed";
        child target: Option<PciTarget>;
        child driver: Option<ControllerDriver>;
        child pcihole64: Option<KiB>;
        flat info: DeviceInfo;
    }

    /// `<model>` of a PCI controller.
    pub struct PciModel {
        attr name: Option<String> | "pci-bridge" | "i82801b11-bridge" | "ioh3420" | "x3130-upstream"
            | "xio3130-downstream" | "pxb" | "pxb-pcie" | "pcie-root-port" | "spapr-pci-host-bridge"
            | "pcie-pci-bridge";
    }

    /// `<target>` of a PCI controller.
    pub struct PciTarget {
        attr chassis_nr "chassisNr": Option<u32>;
        attr chassis: Option<u32>;
        attr port: Option<Hex<1>>;
        attr bus_nr "busNr": Option<u32>;
        attr index: Option<u32>;
        attr hotplug: Option<OnOff>;
        attr memory_reserve "memReserve": Option<u64>;
        leaf node: Option<u32> => DOMAIN.xml_error "invalid NUMA node in target";
    }

    /// `<driver>` of a controller.
    pub struct ControllerDriver {
        attr queues: Option<u32>;
        attr cmd_per_lun: Option<u32>;
        attr max_sectors: Option<u32>;
        attr ioeventfd: Option<OnOff>;
        attr iothread: Option<u32>;
        flat virtio: VirtioOptions;
        child iothreads: Option<DiskIothreads>;
    }

    /// `<hostdev>`.
    pub struct Hostdev {
        attr_default mode: HostdevMode;
        attr type_ "type": HostdevType;
        loose managed: Option<YesNo>;
        attr sgio: Option<String> | "default" | "filtered" | "unfiltered";
        attr rawio: Option<YesNo>;
        attr model: Option<String>;
        attr display: Option<OnOff>;
        attr ramfb: Option<OnOff>;
        child driver: Option<HostdevDriver>;
        child source: Option<HostdevSource>;
        flag readonly;
        flag shareable;
        child teaming: Option<Teaming>;
        flat info: DeviceInfo;
    }

    /// `<driver>` of a passed-through device.
    pub struct HostdevDriver {
        attr name: Option<String> | "kvm" | "vfio" | "xen";
        attr model: Option<String>;
    }

    /// `<source>` of a passed-through device.
    pub struct HostdevSource {
        attr startup_policy "startupPolicy": Option<String> | "mandatory" | "requisite" | "optional";
        attr guest_reset "guestReset": Option<String> | "off" | "uninitialized" | "on";
        attr protocol: Option<String>;
        attr name: Option<String>;
        attr wwpn: Option<String>;
        attr write_filtering "writeFiltering": Option<YesNo>;
        child vendor: Option<HexId>;
        child product: Option<HexId>;
        child host: Vec<StorageHost>;
        child auth: Option<StorageAuth>;
        child initiator: Option<Initiator>;
        child adapter: Option<Adapter>;
        child address: Option<HostAddress>;
        leaf block: Option<String>;
        leaf char_ "char": Option<String>;
        leaf interface: Option<String>;
    }

    /// A USB vendor or product.
    pub struct HexId {
        attr id: Hex<4>;
    }

    /// `<adapter>`: a SCSI host.
    pub struct Adapter {
        attr name: Option<String>;
    }

    /// `<address>` on the host: PCI, USB, SCSI or a mediated device.
    pub struct HostAddress {
        attr domain: Option<Hex<4>>;
        attr bus: Option<String>;
        attr device: Option<AnyBase>;
        attr port: Option<String>;
        attr slot: Option<Hex<2>>;
        attr function: Option<Hex<1>>;
        attr target: Option<u32>;
        attr unit: Option<u64>;
        attr uuid: Option<Uuid> => DOMAIN.internal_error "Cannot parse uuid attribute of element <address>";
    }

    /// `<hub>`.
    pub struct Hub {
        attr type_ "type": HubType => DOMAIN.config_unsupported "unknown hub device type '{}'",
            DOMAIN.internal_error "missing hub device type";
        flat info: DeviceInfo;
    }

    /// `<watchdog>`.
    pub struct Watchdog {
        attr model: WatchdogModel;
        attr_default action: WatchdogAction;
        flat info: DeviceInfo;
    }

    /// `<memballoon>`.
    pub struct Memballoon {
        attr model: MemballoonModel;
        attr autodeflate: Option<OnOff>;
        attr free_page_reporting "freePageReporting": Option<OnOff>;
        child stats: Option<BalloonStats>;
        flat info: DeviceInfo;
        child driver: Option<VirtioDriver>;
    }

    /// `<stats>`: how often the balloon reports, in seconds.
    pub struct BalloonStats {
        attr period: u32;
    }

    /// `<panic>`.
    pub struct Panic {
        attr model: Option<PanicModel> => DOMAIN.config_unsupported "unknown panic model '{}'";
        flat info: DeviceInfo;
    }

    /// `<nvram>`: a POWER guest's variables.
    pub struct NvramDevice {
        flat info: DeviceInfo;
    }

    /// `<tpm>`.
    pub struct Tpm {
        attr model: Option<TpmModel>;
        sole backend: Option<TpmBackend> => DOMAIN.xml_error "only one TPM backend is supported";
        flat info: DeviceInfo;
    }

    /// `<backend>` of a TPM.
    pub struct TpmBackend {
        attr type_ "type": TpmBackendType;
        attr version: Option<String> | "1.2" | "2.0";
        attr persistent_state: Option<YesNo> => DOMAIN.internal_error
            "Invalid persistent_state value, either 'yes' or 'no'";
        attr debug: Option<u32>;
        child device: Option<TpmDevice>;
        child encryption: Option<TpmEncryption>;
        child source: Option<TpmSource>;
        child profile: Option<TpmProfile>;
        child active_pcr_banks: Option<PcrBanks>;
    }

    /// `<device>` of a TPM.
    pub struct TpmDevice {
        attr path: Option<String>;
    }

    /// `<encryption>` of a TPM.
    pub struct TpmEncryption {
        attr secret: Uuid => DOMAIN.internal_error "Unable to parse secret uuid '{}'";
    }

    /// `<source>` of a TPM.
    pub struct TpmSource {
        attr type_ "type": Option<String>;
        attr mode: Option<String>;
        attr path: Option<String>;
    }

    /// `<profile>` of a TPM.
    pub struct TpmProfile {
        attr source: Option<String>;
        attr remove_disabled "removeDisabled": Option<String>;
        attr name: Option<String>;
    }

    /// `<active_pcr_banks>`.
    pub struct PcrBanks {
        flag sha1;
        flag sha256;
        flag sha384;
        flag sha512;
    }

    /// `<shmem>`.
    pub struct Shmem {
        attr name: Option<String>;
        attr role: Option<String> | "master" | "peer";
        child model: Option<ShmemModel>;
        child size: Option<MiB>;
        kept server: Option<ShmemServer>;
        child msi: Option<Msi>;
        flat info: DeviceInfo;
    }

    /// `<model>` of shared memory.
    pub struct ShmemModel {
        attr type_ "type": String | "ivshmem" | "ivshmem-plain" | "ivshmem-doorbell";
    }

    /// `<server>` of shared memory.
    pub struct ShmemServer {
        attr path: Option<String>;
    }

    /// `<msi>`.
    pub struct Msi {
        attr vectors: Option<u32>;
        attr ioeventfd: Option<OnOff>;
    }

    /// `<memory>`: a module.
    pub struct Memory {
        attr model: MemoryModel;
        attr access: Option<super::features::MemAccess>;
        attr discard: Option<YesNo>;
        leaf uuid: Option<Uuid>;
        child source: Option<MemorySourceDef>;
        child target: Option<MemoryTarget>;
        flat info: DeviceInfo;
    }

    /// `<source>` of a module.
    pub struct MemorySourceDef {
        leaf nodemask: Option<Cpuset>;
        child pagesize: Option<KiB>;
        leaf path: Option<String>;
        child alignsize: Option<KiB>;
        flag pmem;
    }

    /// `<target>` of a module.
    pub struct MemoryTarget {
        attr dynamic_memslots "dynamicMemslots": Option<YesNo>;
        child size: Option<KiB>;
        leaf node: Option<u32> => DOMAIN.xml_error "invalid value of memory device node";
        child label: Option<MemoryLabel>;
        child block: Option<KiB>;
        child requested: Option<KiB>;
        child current if live: Option<KiB>;
        child address: Option<MemoryAddress>;
        flag readonly;
    }

    /// `<label>` of an NVDIMM.
    pub struct MemoryLabel {
        child size: Option<KiB>;
    }

    /// `<address>` of a module's target.
    pub struct MemoryAddress {
        attr base: Option<Wide>;
    }

    /// `<iommu>`.
    pub struct Iommu {
        attr model: IommuModel;
        child driver: Option<IommuDriver>;
        flat info: DeviceInfo;
    }

    /// `<driver>` of an IOMMU.
    pub struct IommuDriver {
        attr intremap: Option<OnOff>;
        attr caching_mode: Option<OnOff>;
        attr eim: Option<OnOff>;
        attr iotlb: Option<OnOff>;
        attr aw_bits: Option<u32>;
        attr dma_translation: Option<OnOff>;
    }

    /// `<vsock>`.
    pub struct Vsock {
        attr model: Option<VirtioModel>;
        child cid: Option<VsockCid>;
        flat info: DeviceInfo;
        child driver: Option<VirtioDriver>;
    }

    /// `<cid>`.
    pub struct VsockCid {
        attr auto: Option<YesNo>;
        attr address: Option<u32>;
    }

    /// `<crypto>`.
    pub struct Crypto {
        attr model: String | "virtio";
        attr type_ "type": String | "qemu";
        sole backend: Option<CryptoBackend> => DOMAIN.xml_error "only one crypto backend is supported";
        child driver: Option<VirtioDriver>;
        flat info: DeviceInfo;
    }

    /// `<backend>` of a crypto device.
    pub struct CryptoBackend {
        attr model: String | "builtin" | "lkcf";
        attr queues: Option<u32>;
    }

    /// `<pstore>`.
    pub struct Pstore {
        attr backend: String | "acpi-erst";
        leaf path: Option<String>;
        child size: Option<KiB>;
        flat info: DeviceInfo;
    }
}

impl HostAddress {
    /// Where a PCI device of the host is.
    pub fn pci(&self) -> PciAddress {
        PciAddress {
            domain: self.domain,
            bus: self.bus.as_deref().and_then(|bus| Hex::parse(bus).ok().flatten()),
            slot: self.slot,
            function: self.function,
            ..PciAddress::default()
        }
    }
}
