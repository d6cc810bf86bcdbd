//! `<device>`: a device of the host.

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use crate::domain::device::{NoParts, PciAddress};
use crate::table::Hex;
use crate::{choice, element};

/// The domain of errors about devices.
const NODEDEV: ErrorDomain = ErrorDomain::NODEDEV;

element! {
    /// `<device>` of the host.
    pub struct NodeDevice {
        leaf name: Option<String>;
        leaf path: Option<String>;
        child devnodes "devnode": Vec<Devnode>;
        leaf parent: Option<String>;
        child driver: Option<NodeDriver>;
        pair capabilities "capability": Vec<Capability>;
    }

    /// `<devnode>`: a file for the device.
    pub struct Devnode {
        attr type_ "type": String;
        text path: String;
    }

    /// `<driver>`.
    pub struct NodeDriver {
        leaf name: Option<String>;
    }

    /// The host itself.
    pub struct SystemCapability {
        leaf product: Option<String>;
        child hardware: Option<Hardware>;
        pair firmware: Option<FirmwareInfo>;
    }

    /// `<hardware>`.
    pub struct Hardware {
        leaf vendor: Option<String>;
        leaf version: Option<String>;
        leaf serial: Option<String>;
        leaf uuid: Option<Uuid> => NODEDEV.internal_error "malformed uuid element for 'new device'";
    }

    /// `<firmware>`.
    pub struct FirmwareInfo {
        leaf vendor: Option<String>;
        leaf version: Option<String>;
        leaf release_date: Option<String>;
    }

    /// A PCI device.
    pub struct PciCapability {
        leaf class: Option<Hex<6>>;
        leaf domain: Option<u32>;
        leaf bus: Option<u32>;
        leaf slot: Option<u32>;
        leaf function: Option<u32>;
        child product: Option<Identifier>;
        child vendor: Option<Identifier>;
        child capabilities "capability": Vec<Capability>;
        child iommu_group "iommuGroup": Option<IommuGroup>;
        child numa: Option<NumaNode>;
        kept pci_express "pci-express": Option<PciExpress>;
    }

    /// A vendor or product.
    pub struct Identifier {
        attr id: Option<String>;
        text name: Option<String>;
    }

    /// `<iommuGroup>`.
    pub struct IommuGroup {
        attr number: u32;
        child address: Vec<PciAddress>;
    }

    /// `<numa>`.
    pub struct NumaNode {
        attr node: Option<i32>;
    }

    /// `<pci-express>`.
    pub struct PciExpress {
        child link: Vec<PciLink>;
    }

    /// `<link>` of PCI Express.
    pub struct PciLink {
        attr validity: String;
        attr port: Option<u32>;
        attr speed: Option<String>;
        attr width: Option<u32>;
    }

    /// Virtual or physical functions.
    pub struct Functions {
        attr max_count "maxCount": Option<u32>;
        child address: Vec<PciAddress>;
    }

    /// Types of mediated devices.
    pub struct MdevTypes {
        child type_ "type": Vec<MdevType>;
    }

    /// `<type>` of mediated devices.
    pub struct MdevType {
        attr id: String;
        leaf name: Option<String>;
        leaf device_api "deviceAPI": Option<String>;
        leaf available_instances "availableInstances": Option<u32>;
    }

    /// A USB device.
    pub struct UsbDeviceCapability {
        leaf bus: Option<u32>;
        leaf device: Option<u32>;
        child product: Option<Identifier>;
        child vendor: Option<Identifier>;
    }

    /// A USB interface.
    pub struct UsbCapability {
        leaf number: Option<u32>;
        leaf class: Option<u32>;
        leaf subclass: Option<u32>;
        leaf protocol: Option<u32>;
        leaf description: Option<String>;
    }

    /// A network interface.
    pub struct NetCapability {
        leaf interface: Option<String>;
        leaf address: Option<String>;
        child link: Option<crate::interface::HostLink>;
        child feature: Vec<NetFeature>;
        child capabilities "capability": Vec<Capability>;
    }

    /// `<feature>` of an interface.
    pub struct NetFeature {
        attr name: String;
    }

    /// A SCSI host.
    pub struct ScsiHostCapability {
        leaf host: Option<u32>;
        leaf unique_id: Option<i32>;
        child capabilities "capability": Vec<Capability>;
    }

    /// A Fibre Channel host.
    pub struct FcHost {
        leaf wwnn: Option<String>;
        leaf wwpn: Option<String>;
        leaf fabric_wwn: Option<String>;
    }

    /// What virtual ports a host has.
    pub struct VportOps {
        leaf max_vports: Option<i32>;
        leaf vports: Option<i32>;
    }

    /// A SCSI target.
    pub struct ScsiTargetCapability {
        leaf target: Option<String>;
        child capabilities "capability": Vec<Capability>;
    }

    /// A Fibre Channel port.
    pub struct FcRemotePort {
        leaf rport: Option<String>;
        leaf wwpn: Option<String>;
    }

    /// A SCSI device.
    pub struct ScsiCapability {
        leaf host: Option<u32>;
        leaf bus: Option<u32>;
        leaf target: Option<u32>;
        leaf lun: Option<u32>;
        leaf type_ "type": Option<String>;
    }

    /// A disk.
    pub struct StorageCapability {
        leaf block: Option<String>;
        leaf bus: Option<String>;
        leaf drive_type: Option<String>;
        leaf model: Option<String>;
        leaf vendor: Option<String>;
        leaf serial: Option<String>;
        leaf size: Option<u64>;
        leaf logical_block_size: Option<u64>;
        leaf num_blocks: Option<u64>;
        child capabilities "capability": Vec<Capability>;
    }

    /// A medium that can be taken out.
    pub struct Removable {
        leaf media_available: Option<u32>;
        leaf media_size: Option<u64>;
        leaf media_label: Option<String>;
        leaf logical_block_size: Option<u64>;
        leaf num_blocks: Option<u64>;
    }

    /// A generic SCSI device.
    pub struct ScsiGeneric {
        leaf char_ "char": Option<String>;
    }

    /// A graphics device.
    pub struct Drm {
        leaf type_ "type": Option<String>;
    }

    /// A mediated device.
    pub struct Mdev {
        child type_ "type": Option<MdevTypeId>;
        leaf uuid: Option<Uuid>;
        leaf parent_addr: Option<String>;
        child iommu_group "iommuGroup": Option<IommuGroup>;
        child attr: Vec<MdevAttr>;
    }

    /// `<type>` of a mediated device.
    pub struct MdevTypeId {
        attr id: String
            => NODEDEV.config_unsupported "{}",
            NODEDEV.config_unsupported "missing type id attribute for 'new device'";
    }

    /// `<attr>` of a mediated device.
    pub struct MdevAttr {
        attr name: String;
        attr value: Option<String>;
    }

    /// An s390 device.
    pub struct CcwCapability {
        leaf state: Option<String>;
        leaf cssid: Option<Hex<1>>;
        leaf ssid: Option<Hex<1>>;
        leaf devno: Option<Hex<4>>;
        child channel_dev_addr: Option<ChannelAddress>;
        child capabilities "capability": Vec<Capability>;
    }

    /// `<channel_dev_addr>`.
    pub struct ChannelAddress {
        leaf cssid: Option<Hex<1>>;
        leaf ssid: Option<Hex<1>>;
        leaf devno: Option<Hex<4>>;
    }

    /// Membership of a group of s390 devices.
    pub struct CcwgroupMember {
        leaf group_device: Option<String>;
    }

    /// A vDPA device.
    pub struct VdpaCapability {
        leaf chardev: Option<String>;
    }

    /// An adapter of crypto cards.
    pub struct ApCapability {
        leaf ap_adapter "ap-adapter": Option<String>;
        leaf ap_domain "ap-domain": Option<String>;
        child capabilities "capability": Vec<Capability>;
    }
}

choice! {
    /// `<capability>`: what a device is.
    pub enum Capability by "type" {
        System(SystemCapability) = "system",
        Pci(PciCapability) = "pci",
        UsbDevice(UsbDeviceCapability) = "usb_device",
        Usb(UsbCapability) = "usb",
        Net(NetCapability) = "net",
        Wireless(NoParts) = "80211",
        Wired(NoParts) = "80203",
        ScsiHost(ScsiHostCapability) = "scsi_host",
        FcHost(FcHost) = "fc_host",
        VportOps(VportOps) = "vport_ops",
        ScsiTarget(ScsiTargetCapability) = "scsi_target",
        FcRemotePort(FcRemotePort) = "fc_remote_port",
        Scsi(ScsiCapability) = "scsi",
        Storage(StorageCapability) = "storage",
        Removable(Removable) = "removable",
        Hotpluggable(NoParts) = "hotpluggable",
        ScsiGeneric(ScsiGeneric) = "scsi_generic",
        Drm(Drm) = "drm",
        MdevTypes(MdevTypes) = "mdev_types",
        Mdev(Mdev) = "mdev",
        VirtFunctions(Functions) = "virt_functions",
        PhysFunction(Functions) = "phys_function",
        PciBridge(NoParts) = "pci-bridge",
        CardbusBridge(NoParts) = "cardbus-bridge",
        Ccw(CcwCapability) = "ccw",
        Css(CcwCapability) = "css",
        CcwgroupMember(CcwgroupMember) = "ccwgroup_member",
        Vdpa(VdpaCapability) = "vdpa",
        ApCard(ApCapability) = "ap_card",
        ApQueue(ApCapability) = "ap_queue",
        ApMatrix(ApCapability) = "ap_matrix",
    }
}

/// The types of graphics devices.
const DRM_TYPES: [&str; 3] = ["primary", "control", "render"];

impl Capability {
    /// Checks that everything is said that a device of this kind is known by.
    ///
    /// # Errors
    /// `VIR_ERR_INTERNAL_ERROR` or `VIR_ERR_CONFIG_UNSUPPORTED` for the first thing that is missing of the device `name`.
    pub(crate) fn check(&self, name: &str) -> Result<(), VirtError> {
        let no = |there: bool, what: &str| match there {
            true => Ok(()),
            false => Err(NODEDEV.internal_error(format_args!("no {what} supplied for '{name}'"))),
        };
        let missing = |there: bool, what: &str| match there {
            true => Ok(()),
            false => Err(NODEDEV.config_unsupported(format_args!("missing {what} for '{name}'"))),
        };
        let has_id = |identifier: &Option<Identifier>| identifier.as_ref().is_some_and(|it| it.id.is_some());
        match self {
            Self::System(system) => {
                no(system.hardware.as_ref().is_some_and(|hardware| hardware.uuid.is_some()), "system UUID")
            }
            Self::Pci(pci) => {
                no(pci.domain.is_some(), "PCI domain ID")?;
                no(pci.bus.is_some(), "PCI bus ID")?;
                no(pci.slot.is_some(), "PCI slot ID")?;
                no(pci.function.is_some(), "PCI function ID")?;
                no(has_id(&pci.vendor), "PCI vendor ID")?;
                no(has_id(&pci.product), "PCI product ID")
            }
            Self::UsbDevice(usb) => {
                no(usb.bus.is_some(), "USB bus number")?;
                no(usb.device.is_some(), "USB device number")?;
                no(has_id(&usb.vendor), "USB vendor ID")?;
                no(has_id(&usb.product), "USB product ID")
            }
            Self::Usb(usb) => {
                no(usb.number.is_some(), "USB interface number")?;
                no(usb.class.is_some(), "USB interface class")?;
                no(usb.subclass.is_some(), "USB interface subclass")?;
                no(usb.protocol.is_some(), "USB interface protocol")
            }
            Self::Net(net) => no(net.interface.is_some(), "network interface"),
            Self::ScsiTarget(target) => no(target.target.is_some(), "target name"),
            Self::Scsi(scsi) => {
                no(scsi.host.is_some(), "SCSI host ID")?;
                no(scsi.bus.is_some(), "SCSI bus ID")?;
                no(scsi.target.is_some(), "SCSI target ID")?;
                no(scsi.lun.is_some(), "SCSI LUN ID")
            }
            Self::Storage(storage) => {
                let removable = storage.capabilities.iter().any(|it| matches!(it, Self::Removable(_)));
                no(storage.block.is_some(), "block device path")?;
                no(removable || storage.size.is_some(), "size")
            }
            Self::Drm(drm) => match drm.type_.as_deref() {
                Some(known) if DRM_TYPES.contains(&known) => Ok(()),
                other => Err(NODEDEV.config_unsupported(format_args!(
                    "unknown drm type '{}' for '{name}'",
                    other.unwrap_or("(null)")
                ))),
            },
            Self::Mdev(mdev) => missing(mdev.type_.is_some(), "type id attribute"),
            Self::Ccw(ccw) | Self::Css(ccw) => {
                missing(ccw.cssid.is_some(), "cssid value")?;
                missing(ccw.ssid.is_some(), "ssid value")?;
                missing(ccw.devno.is_some(), "devno value")
            }
            Self::ApCard(ap) => missing(ap.ap_adapter.is_some(), "ap-adapter value"),
            Self::ApQueue(ap) => {
                missing(ap.ap_adapter.is_some(), "ap-adapter value")?;
                missing(ap.ap_domain.is_some(), "ap-domain value")
            }
            _ => Ok(()),
        }
    }
}
