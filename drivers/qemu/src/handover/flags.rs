//! What QEMU can do, in libvirt's words for it. libvirtd takes over no guest whose status file lacks them, and believes them
//! as long as the guest runs.

use crate::probe::QemuCaps;

/// What each QEMU can do that Virtwire starts.
const ALWAYS: &[&str] = &[
    "acpi-index",
    "aio.io_uring",
    "blockdev.nbd.tls-hostname",
    "calc-dirty-rate",
    "chardev-reconnect",
    "chardev.qemu-vdagent",
    "confidential-guest-support",
    "cpu-max",
    "dbus-vmstate",
    "device.json+hotplug",
    "dirtyrate-param.mode",
    "display-dbus",
    "display-reload",
    "drive-nvme",
    "egl-headless",
    "egl-headless.rendernode",
    "fsdev.multidevs",
    "input-linux",
    "iothread.thread-pool-max",
    "memory-backend-file.pmem",
    "memory-backend-file.prealloc-threads",
    "memory-backend-file.reserve",
    "memory-backend-file.x-use-canonical-path-for-ramblock-id",
    "memory-backend-memfd",
    "memory-backend-memfd.hugetlb",
    "migrate-rdma",
    "migration-file-drop-cache",
    "migration.blocked-reasons",
    "nbd-tls",
    "netdev.json",
    "netdev.stream",
    "netdev.user",
    "netdev.vhost-vdpa",
    "numa.hmat",
    "pr-manager-helper",
    "query-dirty-rate",
    "rbd-encryption",
    "rng-builtin",
    "rng-egd",
    "rng-random",
    "rotation-rate",
    "screendump_device",
    "screenshot-format-png",
    "scsi-disk.channel",
    "sdl",
    "seccomp-sandbox",
    "set-action",
    "sev-guest-kernel-hashes",
    "smp-clusters",
    "smp-dies",
    "tcg",
    "thread-context",
    "tpm-emulator",
    "tpm-passthrough",
    "vnc",
    "vnc-power-control",
];

/// What came with a release.
const SINCE: &[(u32, u32, &[&str])] = &[
    (
        8,
        0,
        &["machine-hpet", "netdev.stream.reconnect", "rbd-encryption-layering", "rbd-encryption-luks-any"],
    ),
    (8, 1, &["qcow2-discard-no-unref", "run-with.async-teardown"]),
    (8, 2, &["virtio-mem-pci.dynamic-memslots"]),
    (9, 0, &["blockjob.backing-mask-protocol", "virtio-blk.iothread-mapping"]),
    (9, 1, &["migrate-incoming.exit-on-error"]),
    (9, 2, &["chardev-reconnect-miliseconds", "netdev-stream-reconnect-miliseconds"]),
    (10, 0, &["shim", "virtio-scsi.iothread-mapping"]),
];

/// What is there with a command of the monitor of the same name.
const COMMANDS: &[&str] = &[
    "blockdev-set-active",
    "query-cpu-definitions",
    "query-cpu-model-expansion",
    "query-stats",
    "query-stats-schemas",
    "rtc-reset-reinjection",
    "sev-inject-launch-secret",
];

/// What is there with a device, where it is not called as the device is.
const DEVICES: &[(&str, &[&str])] = &[
    ("PIIX4_PM", &["piix4.acpi-root-pci-hotplug"]),
    ("VGA", &["VGA", "VGA.vgamem_mb"]),
    ("ccid-card-emulated", &["ccid-emulated"]),
    ("ccid-card-passthru", &["ccid-passthru"]),
    ("i8042", &["i8042", "machine-i8042-opt"]),
    ("i82801b11-bridge", &["dmi-to-pci-bridge"]),
    (
        "intel-iommu",
        &[
            "intel-iommu",
            "intel-iommu.aw-bits",
            "intel-iommu.caching-mode",
            "intel-iommu.device-iotlb",
            "intel-iommu.dma-translation",
            "intel-iommu.eim",
            "intel-iommu.intremap",
        ],
    ),
    ("kvm-pit", &["kvm-pit-lost-tick-policy"]),
    ("lsi53c895a", &["lsi"]),
    ("mch", &["mch", "mch.extended-tseg-mbytes"]),
    ("nvdimm", &["nvdimm", "nvdimm.unarmed"]),
    ("pcie-root-port", &["pcie-root-port", "pcie-root-port.hotplug"]),
    ("usb-host", &["usb-host.guest-resets-all", "usb-host.hostdevice"]),
    ("usb-redir", &["usb-redir", "usb-redir.filter"]),
    ("vhost-scsi-pci", &["vhost-scsi"]),
    ("vhost-user-fs-device", &["vhost-user-fs", "vhost-user-fs.bootindex"]),
    ("vhost-vsock-device", &["vhost-vsock"]),
    ("virtio-balloon-pci", &["virtio-balloon-pci.deflate-on-oom", "virtio-balloon.free-page-reporting"]),
    ("virtio-blk-device", &["virtio-blk.queue-size"]),
    ("virtio-blk-pci-non-transitional", &["virtio-pci-non-transitional"]),
    ("virtio-crypto-device", &["virtio-crypto"]),
    ("virtio-gpu-device", &["virtio-gpu", "virtio-gpu.blob"]),
    ("virtio-input-host-device", &["virtio-input-host"]),
    ("virtio-iommu-pci", &["virtio-iommu-pci", "virtio-iommu.boot-bypass"]),
    ("virtio-keyboard-device", &["virtio-keyboard"]),
    ("virtio-mem-pci", &["virtio-mem-pci", "virtio-mem-pci.prealloc"]),
    ("virtio-mouse-device", &["virtio-mouse"]),
    ("virtio-net-device", &["virtio-net", "virtio-net.rss"]),
    ("virtio-rng-device", &["virtio-rng"]),
    ("virtio-sound-device", &["virtio-sound"]),
    ("virtio-tablet-device", &["virtio-tablet"]),
    ("vmport", &["machine-vmport-opt"]),
    ("vmware-svga", &["vmware-svga", "vmware-svga.vgamem_mb"]),
];

/// What is there with a device of the same name.
const SAME: &[&str] = &[
    "acpi-erst",
    "am53c974",
    "bochs-display",
    "cirrus-vga",
    "dc390",
    "e1000",
    "hda-duplex",
    "hda-micro",
    "hda-output",
    "ich9-ahci",
    "ich9-intel-hda",
    "ich9-usb-ehci1",
    "ioh3420",
    "isa-serial",
    "ivshmem-doorbell",
    "ivshmem-plain",
    "megasas",
    "mptsas1068",
    "nec-usb-xhci",
    "pc-dimm",
    "pci-bridge",
    "pci-ohci",
    "pci-serial",
    "pcie-pci-bridge",
    "piix3-usb-uhci",
    "piix4-usb-uhci",
    "pvpanic",
    "pvpanic-pci",
    "pvscsi",
    "pxb",
    "pxb-pcie",
    "qemu-xhci",
    "ramfb",
    "rtl8139",
    "scsi-block",
    "tpm-crb",
    "tpm-tis",
    "usb-audio",
    "usb-ehci",
    "usb-hub",
    "usb-kbd",
    "usb-mtp",
    "usb-serial",
    "usb-storage",
    "vfio-pci",
    "vhost-user-blk",
    "vhost-user-gpu",
    "vhost-user-vga",
    "virtio-mmio",
    "virtio-pmem-pci",
    "virtio-scsi-pci",
    "virtio-vga",
    "vmcoreinfo",
    "vmgenid",
    "x3130-upstream",
    "xio3130-downstream",
];

/// What is there with the processors of this architecture.
const X86_64: &[&str] =
    &["canonical-cpu-features", "cpu-unavailable-features", "cpu.migratable", "x86-max-cpu"];

/// libvirt's words for what this QEMU can do.
pub(super) fn of(caps: &QemuCaps) -> Vec<&'static str> {
    let version = (caps.version.qemu.major, caps.version.qemu.minor);
    let since = SINCE.iter().filter(|(major, minor, _)| (*major, *minor) <= version);
    let devices = DEVICES.iter().filter(|(device, _)| caps.has_device(device));
    let mut flags: Vec<_> = if caps.kvm { vec!["kvm"] } else { Vec::new() };
    flags.extend(ALWAYS);
    flags.extend(since.flat_map(|row| row.2));
    flags.extend(COMMANDS.iter().filter(|command| caps.commands.contains(**command)));
    flags.extend(devices.flat_map(|row| row.1));
    flags.extend(SAME.iter().filter(|device| caps.has_device(device)));
    if caps.arch == "x86_64" {
        flags.extend(X86_64);
    }
    flags
}
