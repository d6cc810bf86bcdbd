//! Boards other than PCs: what libvirt 11.3 gave to small guests of QEMU 10.0.

use std::sync::Arc;

use virtwire_conf::{Domain, Emulator, FormatOptions, Machine, ParseOptions, QemuHost};

fn options() -> ParseOptions {
    let boards = [
        ("aarch64", "virt-10.0", "virt", "cortex-a15-arm-cpu", true),
        ("riscv64", "virt", "virt", "rv64-riscv-cpu", true),
        ("s390x", "s390-ccw-virtio-10.0", "s390-ccw-virtio", "qemu-s390x-cpu", false),
        ("ppc64", "pseries-10.0", "pseries", "power10_v2.0-powerpc64-cpu", false),
        ("mips", "malta", "malta", "24Kf-mips-cpu", false),
        ("armv7l", "vexpress-a9", "vexpress-a9", "cortex-a9-arm-cpu", false),
        ("loongarch64", "virt", "virt", "la464-loongarch-cpu", true),
        ("sparc", "SS-5", "SS-5", "Fujitsu-MB86904-sparc-cpu", false),
    ];
    let emulators = boards.map(|(arch, name, alias, cpu, acpi)| {
        let (name, alias, cpu) = (name.to_owned(), Some(alias.to_owned()), Some(cpu.to_owned()));
        let machines = vec![Machine { name, alias, cpu, acpi, vcpus: None }];
        let path = format!("/usr/bin/qemu-system-{arch}");
        Emulator { arch: arch.to_owned(), path, machines, ..Emulator::default() }
    });
    ParseOptions::qemu(Arc::new(QemuHost { emulators: emulators.to_vec(), ..QemuHost::default() }))
}

fn document(arch: &str, beside: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><memory>1048576</memory><os><type arch='{arch}'>hvm</type></os>{beside}\
         <devices>{devices}</devices></domain>"
    )
}

#[track_caller]
fn shows(arch: &str, devices: &str, lines: &[&str]) {
    let domain = Domain::parse(&document(arch, "", devices), &options()).unwrap();
    let text = domain.to_xml(&FormatOptions::from_flags(2));
    let missing: Vec<_> = lines.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}

#[test]
fn arm_has_no_devices_of_which_nothing_is_said() {
    let lines = ["<gic version='2'/>", "<model fallback='forbid'>cortex-a15</model>", "model='pcie-root'/>"];
    shows("aarch64", "", &lines);
    let domain = Domain::parse(&document("aarch64", "", ""), &options()).unwrap();
    assert!(domain.devices.memballoon.is_none() && domain.devices.inputs.is_empty());
}

#[test]
fn risc_v_is_pci_express() {
    let lines = [
        "<controller type='pci' index='2' model='pcie-root-port'>",
        "<target type='system-serial' port='0'>",
        "<model name='16550a'/>",
        "<model type='virtio'/>",
    ];
    shows("riscv64", "<serial type='pty'/><interface type='user'/>", &lines);
}

#[test]
fn s390_has_channels_and_numbers_its_pci_devices() {
    let lines = [
        "<controller type='scsi' index='0' model='virtio-scsi'>\n      <address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0002'/>",
        "<model type='virtio'/>\n      <address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0000'/>",
        "<address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'>\n        <zpci uid='0x0001' fid='0x00000000'/>",
        "<panic model='s390'/>",
    ];
    let disk = "<disk type='file'><source file='/d'/><target dev='sda' bus='scsi'/></disk>";
    let devices = format!("{disk}<interface type='user'/><sound model='virtio'/><sound model='ac97'/>");
    shows("s390x", &devices, &lines);
}

#[test]
fn power_has_registers() {
    let lines = [
        "<model name='spapr-pci-host-bridge'/>",
        "<address type='spapr-vio' reg='0x30001000'/>",
        "<address type='spapr-vio' reg='0x00003000'/>",
        "<input type='keyboard' bus='usb'>",
        "<model type='vga' vram='16384' heads='1' primary='yes'/>",
        "<model fallback='forbid'>POWER10</model>",
        "<panic model='pseries'/>",
    ];
    shows("ppc64", "<serial type='pty'/><serial type='pty'/><nvram/><graphics type='vnc'/>", &lines);
}

#[test]
fn old_boards_are_like_old_pcs() {
    let lines = [
        "<controller type='usb' index='0' model='piix3-uhci'>",
        "<controller type='pci' index='0' model='pci-root'/>",
        "<model type='rtl8139'/>",
        "<target port='0'/>",
        "<input type='mouse' bus='usb'>",
        "<model type='cirrus' vram='16384' heads='1' primary='yes'/>",
    ];
    shows("mips", "<interface type='user'/><serial type='pty'/><input type='mouse'/><video/>", &lines);
    assert!(Domain::parse(&document("mips", "", ""), &options()).unwrap().cpu.is_none());
}

#[test]
fn virtio_is_in_memory_where_there_is_no_pci() {
    let lines = [
        "<target dev='vda' bus='virtio'/>\n      <address type='virtio-mmio'/>",
        "<model type='lan9118'/>\n    </interface>",
    ];
    let disk = "<disk type='file'><source file='/d'/><target dev='vda'/></disk>";
    shows("armv7l", &format!("{disk}<interface type='user'/>"), &lines);
}

#[test]
fn loongarch_is_pci_express() {
    let lines = [
        "<model name='16550a'/>",
        "model='pcie-root'/>",
        "<controller type='scsi' index='0' model='virtio-scsi'>",
    ];
    shows("loongarch64", "<serial type='pty'/><controller type='scsi'/>", &lines);
}

#[test]
fn what_a_board_does_not_have_is_refused() {
    let cases = [
        (
            "aarch64",
            "",
            "<input type='tablet' bus='usb'/>",
            "USB is disabled for this domain, but USB devices are present in the domain XML",
        ),
        ("s390x", "", "<parallel type='pty'/>", "parallel ports are not supported"),
        ("ppc64", "<cpu mode='maximum'/>", "", "maximum CPU is not supported by QEMU binary"),
        (
            "s390x",
            "",
            "<watchdog model='ib700'/>",
            "ib700 model of watchdog cannot be used with this machine type",
        ),
        (
            "ppc64",
            "",
            "<panic model='hyperv'/>",
            "only i686 and x86_64 guests support panic device of model 'hyperv'",
        ),
        (
            "riscv64",
            "<features><pvspinlock state='on'/></features>",
            "",
            "The 'pvspinlock' feature is not supported for architecture 'riscv64' or machine type 'virt'",
        ),
        (
            "aarch64",
            "<clock offset='utc'><timer name='hpet' present='yes'/></clock>",
            "",
            "hpet timer is not supported by this architecture",
        ),
        ("aarch64", "<features><acpi/></features>", "", "ACPI requires UEFI on this architecture"),
        (
            "s390x",
            "<features><acpi/></features>",
            "",
            "machine type 's390-ccw-virtio-10.0' does not support ACPI",
        ),
        (
            "riscv64",
            "",
            "<panic/>",
            "no panic model provided, and no default for the architecture and machine type",
        ),
        (
            "ppc64",
            "<features><pmu state='off'/></features>",
            "",
            "PMU is always enabled for architecture 'ppc64'",
        ),
        (
            "s390x",
            "<features><ras state='on'/></features>",
            "",
            "ras feature is only supported with ARM Virt machines",
        ),
    ];
    for (arch, beside, devices, expected) in cases {
        let error = Domain::parse(&document(arch, beside, devices), &options()).unwrap_err();
        assert_eq!(error.message, format!("unsupported configuration: {expected}"));
    }
    let error = Domain::parse(&document("sparc", "", "<interface type='user'/>"), &options()).unwrap_err();
    assert_eq!(error.message, "XML error: No PCI buses available");
}
