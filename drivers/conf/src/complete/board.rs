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
    /// QEMU's board for LoongArch.
    LoongVirt,
    /// One conventional PCI bus, and what x86 guests had at that time.
    OldPci,
    /// The same for 64-bit POWER.
    PowerPci,
    /// The same for ARM.
    ArmPci,
    /// ARM without PCI; virtio is found in memory.
    ArmMmio,
    /// ARM without PCI; a device is where QEMU puts it.
    ArmBare,
    /// RISC-V without PCI; a device is where QEMU puts it.
    RiscvBare,
    /// No PCI, and no PC.
    NoPci,
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
    /// Its serial port and the device that it is, if they have names.
    pub(super) serial: Option<(SerialTargetType, &'static str)>,
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
        serial: Some((SerialTargetType::IsaSerial, "isa-serial")),
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
    serial: Some((SerialTargetType::SystemSerial, "pl011")),
    network: "virtio",
    video: VideoType::Virtio,
    scsi: "lsilogic",
    input: Some(InputBus::Usb),
    balloon: false,
    panic: Some(PanicModel::Pvpanic),
};

/// Boards of other architectures that are like old PCs.
const OLD: Board = Board {
    serial: None,
    input: Some(InputBus::Usb),
    panic: None,
    ..pc(Chipset::OldPci, Some("pci-root"), Some("piix3-uhci"))
};

/// Boards of ARM that have nothing by themselves.
const BARE: Board =
    Board { chipset: Chipset::ArmBare, root: None, usb: None, network: "lan9118", balloon: false, ..OLD };

/// As libvirt 11.3 has them.
const BOARDS: [Board; 15] = [
    pc(Chipset::Other, None, None),
    pc(Chipset::I440fx, Some("pci-root"), Some("piix3-uhci")),
    pc(Chipset::Q35, Some("pcie-root"), Some("qemu-xhci")),
    ARM,
    Board {
        chipset: Chipset::RiscvVirt,
        usb_model: "piix3-uhci",
        serial: Some((SerialTargetType::SystemSerial, "16550a")),
        balloon: true,
        panic: None,
        ..ARM
    },
    Board {
        chipset: Chipset::Ccw,
        root: Some("pci-root"),
        usb_model: "none",
        serial: Some((SerialTargetType::SclpSerial, "sclpconsole")),
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
        serial: Some((SerialTargetType::SpaprVioSerial, "spapr-vty")),
        network: "rtl8139",
        video: VideoType::Vga,
        scsi: "ibmvscsi",
        balloon: true,
        panic: Some(PanicModel::Pseries),
        ..ARM
    },
    Board {
        chipset: Chipset::LoongVirt,
        serial: Some((SerialTargetType::SystemSerial, "16550a")),
        scsi: "virtio-scsi",
        panic: None,
        ..ARM
    },
    OLD,
    Board {
        chipset: Chipset::PowerPci,
        usb: Some("qemu-xhci"),
        usb_model: "qemu-xhci",
        video: VideoType::Vga,
        ..OLD
    },
    Board { chipset: Chipset::ArmPci, usb: Some("pci-ohci"), network: "scm91c111", balloon: false, ..OLD },
    Board { chipset: Chipset::ArmMmio, ..BARE },
    BARE,
    Board { chipset: Chipset::RiscvBare, network: "rtl8139", balloon: true, ..BARE },
    Board { chipset: Chipset::NoPci, network: "rtl8139", ..BARE },
];

impl Chipset {
    /// Whether it is that of a PC with PCI.
    pub(super) const fn is_pc(self) -> bool {
        matches!(self, Self::I440fx | Self::Q35)
    }

    /// Whether its PCI is PCI Express.
    pub(super) const fn is_express(self) -> bool {
        matches!(self, Self::Q35 | Self::ArmVirt | Self::RiscvVirt | Self::LoongVirt)
    }

    /// Whether it is none of x86.
    pub(super) const fn is_foreign(self) -> bool {
        !self.is_pc() && !matches!(self, Self::Other)
    }

    /// Whether a device without a place is where QEMU puts it.
    pub(super) const fn is_bare(self) -> bool {
        matches!(self, Self::ArmMmio | Self::ArmBare | Self::RiscvBare)
    }

    /// Whether it is one of ARM's.
    pub(super) const fn is_arm(self) -> bool {
        matches!(self, Self::ArmVirt | Self::ArmPci | Self::ArmMmio | Self::ArmBare)
    }

    /// The board with it.
    pub(super) fn board(self) -> &'static Board {
        BOARDS.iter().find(|board| board.chipset == self).unwrap_or(&BOARDS[0])
    }
}

/// Whether a guest's machine has a controller for keyboard and mouse, and with it VMware's port.
pub(super) fn has_ps2(domain: &Domain) -> bool {
    domain.os.type_.as_ref().and_then(|kind| kind.machine.as_deref()) != Some("microvm")
}

/// Whether a guest's machine has a controller for IDE.
pub(super) fn has_ide(domain: &Domain) -> bool {
    let machine = domain.os.type_.as_ref().and_then(|kind| kind.machine.as_deref()).unwrap_or_default();
    match chipset(domain) {
        Chipset::I440fx => true,
        Chipset::Other => has_ps2(domain),
        Chipset::OldPci => matches!(machine, "malta" | "sun4u" | "g3beige"),
        _ => false,
    }
}

/// The model of a USB controller of which none is said; a guest of 32-bit ARM has an older one.
pub(super) fn usb_model(domain: &Domain) -> &'static str {
    let arch = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref());
    match chipset(domain) {
        chipset if chipset.is_arm() && arch != Some("aarch64") => "piix3-uhci",
        chipset if chipset.is_arm() => "qemu-xhci",
        chipset => chipset.board().usb_model,
    }
}

/// The chipset of a guest's machine.
pub(super) fn chipset(domain: &Domain) -> Chipset {
    let kind = domain.os.type_.as_ref();
    let machine = kind.and_then(|t| t.machine.as_deref()).unwrap_or_default();
    let arch = kind.and_then(|t| t.arch.as_deref()).unwrap_or_default();
    let is =
        |name: &str| machine == name || machine.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let old = machine.starts_with("pc-0.") || machine.starts_with("pc-1.");
    match arch {
        "aarch64" | "armv7l" | "armv6l" if is("virt") => Chipset::ArmVirt,
        "riscv64" | "riscv32" if is("virt") => Chipset::RiscvVirt,
        "s390x" | "s390" if is("s390-ccw-virtio") || machine == "s390-ccw" => Chipset::Ccw,
        "ppc64" | "ppc64le" if is("pseries") => Chipset::Pseries,
        "aarch64" | "armv7l" | "armv6l" if machine.starts_with("vexpress-") => Chipset::ArmMmio,
        "aarch64" | "armv7l" | "armv6l" if is("versatilepb") => Chipset::ArmPci,
        "aarch64" | "armv7l" | "armv6l" => Chipset::ArmBare,
        "riscv64" | "riscv32" => Chipset::RiscvBare,
        "loongarch64" if is("virt") => Chipset::LoongVirt,
        "ppc64" | "ppc64le" => Chipset::PowerPci,
        "mips" | "mipsel" | "mips64" | "mips64el" if is("malta") => Chipset::OldPci,
        "ppc" | "alpha" | "sparc64" | "sh4" | "sh4eb" | "parisc" => Chipset::OldPci,
        "sparc" | "m68k" | "xtensa" | "xtensaeb" | "microblaze" | "microblazeel" | "s390x" | "s390" => {
            Chipset::NoPci
        }
        _ if is("pc-q35") || machine == "q35" => Chipset::Q35,
        _ if is("pc-i440fx") || machine == "pc" || old || is("rhel6") => Chipset::I440fx,
        _ => Chipset::Other,
    }
}
