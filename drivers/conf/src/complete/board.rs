//! Boards: what a kind of machine has built in, and what its guests get where nothing is said.

use crate::domain::Domain;
use crate::domain::chardev::SerialTargetType;
use crate::domain::display::{InputBus, VideoType};
use crate::domain::misc::PanicModel;

/// The chipset, which decides what is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chipset {
    /// i440FX with PIIX3: one conventional PCI bus.
    I440fx,
    /// Q35 with ICH9: PCI Express.
    Q35,
    /// QEMU's board for ARM.
    ArmVirt,
    /// QEMU's board for RISC-V.
    RiscvVirt,
    /// s390 with virtio on channels.
    Ccw,
    /// sPAPR: IBM's POWER.
    Pseries,
    /// No PCI, or a machine that isn't known here.
    Other,
}

/// What a board has, and what its guests get where nothing is said.
pub(super) struct Board {
    chipset: Chipset,
    /// The model of its first PCI controller.
    pub(super) root: Option<&'static str>,
    /// The USB controller that every guest has.
    pub(super) usb: Option<&'static str>,
    /// The model of a USB controller of which none is said.
    pub(super) usb_model: &'static str,
    /// Its serial port, and the device that it is.
    pub(super) serial: (SerialTargetType, &'static str),
    /// The model of an interface.
    pub(super) network: &'static str,
    /// The video card.
    pub(super) video: VideoType,
    /// The model of a SCSI controller.
    pub(super) scsi: &'static str,
    /// Where keyboards and mice are plugged in.
    pub(super) input: Option<InputBus>,
    /// Whether guests have a balloon.
    pub(super) balloon: bool,
    /// How a guest says that its kernel gave up.
    pub(super) panic: Option<PanicModel>,
}

const fn pc(chipset: Chipset, root: Option<&'static str>, usb: Option<&'static str>) -> Board {
    Board {
        chipset,
        root,
        usb,
        usb_model: "piix3-uhci",
        serial: (SerialTargetType::IsaSerial, "isa-serial"),
        network: "rtl8139",
        video: VideoType::Cirrus,
        scsi: "lsilogic",
        input: None,
        balloon: true,
        panic: Some(PanicModel::Isa),
    }
}

const ARM: Board = Board {
    chipset: Chipset::ArmVirt,
    root: Some("pcie-root"),
    usb: None,
    usb_model: "qemu-xhci",
    serial: (SerialTargetType::SystemSerial, "pl011"),
    network: "virtio",
    video: VideoType::Virtio,
    scsi: "lsilogic",
    input: Some(InputBus::Usb),
    balloon: false,
    panic: Some(PanicModel::Pvpanic),
};

/// As libvirt 11.3 has them.
const BOARDS: [Board; 7] = [
    pc(Chipset::Other, None, None),
    pc(Chipset::I440fx, Some("pci-root"), Some("piix3-uhci")),
    pc(Chipset::Q35, Some("pcie-root"), Some("qemu-xhci")),
    ARM,
    Board {
        chipset: Chipset::RiscvVirt,
        usb_model: "piix3-uhci",
        serial: (SerialTargetType::SystemSerial, "16550a"),
        balloon: true,
        panic: None,
        ..ARM
    },
    Board {
        chipset: Chipset::Ccw,
        root: Some("pci-root"),
        usb_model: "none",
        serial: (SerialTargetType::SclpSerial, "sclpconsole"),
        scsi: "virtio-scsi",
        input: Some(InputBus::Virtio),
        balloon: true,
        panic: Some(PanicModel::S390),
        ..ARM
    },
    Board {
        chipset: Chipset::Pseries,
        root: Some("pci-root"),
        usb: Some("qemu-xhci"),
        serial: (SerialTargetType::SpaprVioSerial, "spapr-vty"),
        network: "rtl8139",
        video: VideoType::Vga,
        scsi: "ibmvscsi",
        balloon: true,
        panic: Some(PanicModel::Pseries),
        ..ARM
    },
];

impl Chipset {
    /// Whether it is that of a PC with PCI.
    pub(super) const fn is_pc(self) -> bool {
        matches!(self, Self::I440fx | Self::Q35)
    }

    /// Whether its PCI is PCI Express.
    pub(super) const fn is_express(self) -> bool {
        matches!(self, Self::Q35 | Self::ArmVirt | Self::RiscvVirt)
    }

    /// Whether it is none of x86.
    pub(super) const fn is_foreign(self) -> bool {
        !self.is_pc() && !matches!(self, Self::Other)
    }

    /// The board with it.
    pub(super) fn board(self) -> &'static Board {
        BOARDS.iter().find(|board| board.chipset == self).unwrap_or(&BOARDS[0])
    }
}

/// The chipset of a guest's machine.
pub(super) fn chipset(domain: &Domain) -> Chipset {
    let kind = domain.os.type_.as_ref();
    let machine = kind.and_then(|t| t.machine.as_deref()).unwrap_or_default();
    let arch = kind.and_then(|t| t.arch.as_deref()).unwrap_or_default();
    let is =
        |name: &str| machine == name || machine.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    match arch {
        "aarch64" | "armv7l" | "armv6l" if is("virt") => Chipset::ArmVirt,
        "riscv64" | "riscv32" if is("virt") => Chipset::RiscvVirt,
        "s390x" | "s390" if is("s390-ccw-virtio") || machine == "s390-ccw" => Chipset::Ccw,
        "ppc64" | "ppc64le" if is("pseries") => Chipset::Pseries,
        _ if is("pc-q35") || machine == "q35" => Chipset::Q35,
        _ if is("pc-i440fx") || machine == "pc" || is("pc-0") || is("pc-1") || is("rhel6") => Chipset::I440fx,
        _ => Chipset::Other,
    }
}
