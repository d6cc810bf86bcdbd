//! What devices have in common: where they sit, what they are called, when they boot.

use crate::table::{Element, Hex, Positive, Result, Wide, optional_attr};
use crate::xml::{Node, Writer};
use crate::{OnOff, YesNo, choice, element};

element! {
    /// What every device may say about itself, after everything of its own.
    pub struct DeviceInfo {
        child boot: Option<Boot>;
        child alias: Option<Alias>;
        child master: Option<UsbMaster>;
        child rom: Option<Rom>;
        child acpi: Option<AcpiIndex>;
        child address: Option<Address>;
    }

    /// `<boot>`: the place in the boot order.
    pub struct Boot {
        attr order: Positive;
        attr loadparm: Option<String>;
    }

    /// `<master>`: the first port of a companion USB controller.
    pub struct UsbMaster {
        attr startport: u32;
    }

    /// `<rom>`: a PCI device's option ROM.
    pub struct Rom {
        attr enabled: Option<YesNo>;
        attr bar: Option<OnOff>;
        attr file: Option<String>;
    }

    /// `<acpi>`: the device's index for predictable names in the guest.
    pub struct AcpiIndex {
        attr index: Option<u32>;
    }

    /// A PCI address; also where it stands without a type.
    pub struct PciAddress {
        attr domain: Option<Hex<4>>;
        attr bus: Option<Hex<2>>;
        attr slot: Option<Hex<2>>;
        attr function: Option<Hex<1>>;
        attr multifunction: Option<OnOff>;
        child zpci: Option<Zpci>;
    }

    /// `<zpci>`: an s390 PCI address.
    pub struct Zpci {
        attr uid: Option<Hex<4>>;
        attr fid: Option<Hex<8>>;
    }

    /// A place on a disk controller.
    pub struct DriveAddress {
        attr_default controller: u32;
        attr_default bus: u32;
        attr_default target: u32;
        attr_default unit: u32;
    }

    /// A port of a virtio-serial controller.
    pub struct VirtioSerialAddress {
        attr_default controller: u32;
        attr_default bus: u32;
        attr_default port: u32;
    }

    /// A slot of a smart card controller.
    pub struct CcidAddress {
        attr_default controller: u32;
        attr_default slot: u32;
    }

    /// A USB port, dotted through hubs.
    pub struct UsbAddress {
        attr_default bus: u32;
        attr port: Option<String>;
    }

    /// A register of the sPAPR virtual bus.
    pub struct SpaprVioAddress {
        attr reg: Option<Hex<8>>;
    }

    /// An s390 channel address.
    pub struct CcwAddress {
        attr cssid: Option<Hex<1>>;
        attr ssid: Option<Hex<1>>;
        attr devno: Option<Hex<4>>;
    }

    /// ISA ports.
    pub struct IsaAddress {
        attr iobase: Option<Hex<1>>;
        attr irq: Option<Hex<1>>;
    }

    /// A memory slot.
    pub struct DimmAddress {
        attr_default slot: u32;
        attr base: Option<Wide>;
    }

    /// An address that has no parts.
    pub struct NoParts {}
}

choice! {
    /// `<address>`: where a device is plugged in.
    pub enum Address by "type" {
        Pci(PciAddress) = "pci",
        Drive(DriveAddress) = "drive",
        VirtioSerial(VirtioSerialAddress) = "virtio-serial",
        Ccid(CcidAddress) = "ccid",
        Usb(UsbAddress) = "usb",
        SpaprVio(SpaprVioAddress) = "spapr-vio",
        VirtioS390(NoParts) = "virtio-s390",
        Ccw(CcwAddress) = "ccw",
        VirtioMmio(NoParts) = "virtio-mmio",
        Isa(IsaAddress) = "isa",
        Dimm(DimmAddress) = "dimm",
        Unassigned(NoParts) = "unassigned",
    }
}

/// Domain, bus, slot and function of a PCI device.
pub(crate) type PciParts = (u64, u64, u64, u64);

impl PciAddress {
    /// The whole address.
    pub fn new(bus: u8, slot: u8, function: u8) -> Self {
        Self {
            domain: Some(Hex(0)),
            bus: Some(Hex(bus.into())),
            slot: Some(Hex(slot.into())),
            function: Some(Hex(function.into())),
            ..Self::default()
        }
    }

    /// Its parts, 0 for what it does not say.
    pub(crate) fn parts(&self) -> PciParts {
        fn part<const DIGITS: usize>(part: Option<Hex<DIGITS>>) -> u64 {
            part.map_or(0, |part| part.0)
        }
        (part(self.domain), part(self.bus), part(self.slot), part(self.function))
    }

    /// In the notation of the kernel and of QEMU.
    pub fn shown(&self) -> String {
        let (domain, bus, slot, function) = self.parts();
        format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    }
}

/// `<alias>`: the device's name. Names that begin with `ua-` are the user's and stay; all others belong to one run
/// of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alias {
    /// The name.
    pub name: String,
}

impl Element for Alias {
    fn read(node: Node<'_>) -> Result<Self> {
        Ok(Self { name: node.attribute("name").unwrap_or_default().to_owned() })
    }

    fn write(&self, out: &mut Writer<'_>) {
        if out.options.live() || self.name.starts_with("ua-") {
            out.attribute("name", &self.name);
        }
    }
}

element! {
    /// What virtio devices add to `<driver>`.
    pub struct VirtioOptions {
        attr iommu: Option<OnOff>;
        attr ats: Option<OnOff>;
        attr packed: Option<OnOff>;
        attr page_per_vq: Option<OnOff>;
    }

    /// `<driver>` of a device that has only the options of virtio.
    pub struct VirtioDriver {
        flat virtio: VirtioOptions;
    }

    /// `<seclabel>` of a file or socket.
    pub struct DeviceSeclabel {
        attr model: Option<String>;
        attr labelskip: Option<YesNo>;
        attr relabel: Option<YesNo>;
        leaf label: Option<String>;
    }
}

/// Whether a disk says that it can be taken out. QEMU is told of disks of which that is not shown, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ejectable(pub Option<OnOff>);

impl Element for Ejectable {
    fn read(node: Node<'_>) -> Result<Self> {
        optional_attr(node, "removable", None).map(Self)
    }

    fn write(&self, _out: &mut Writer<'_>) {}
}
