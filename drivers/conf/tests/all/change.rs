//! Devices that come, change and go in a stored definition, and what libvirt 11.3's QEMU driver said to it.

use std::sync::Arc;

use virtwire_conf::domain::one::Device;
use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost};
use virtwire_protocol::VirtError;

fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)))
}

fn base() -> Domain {
    let xml = "<domain type='qemu'><name>a</name><maxMemory slots='2' unit='MiB'>1024</maxMemory>
        <memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
        <cpu><numa><cell id='0' cpus='0-1' memory='512' unit='MiB'/></numa></cpu><devices/></domain>";
    Domain::parse(xml, &options()).unwrap()
}

fn xml(domain: &Domain) -> String {
    domain.to_xml(&FormatOptions::from_flags(3))
}

fn parse(xml: &str) -> Device {
    Device::parse(xml).unwrap()
}

fn said(result: Result<Domain, VirtError>) -> String {
    result.map_or_else(|e| format!("{} {} {}", e.code.0, e.domain.0, e.message), |_| "done".to_owned())
}

const MISSING: &str = "99 10 device not found: device not present in domain configuration";
const PRESENT: &str = "55 10 Requested operation is not valid: device is already in the domain configuration";

/// A device; what is said when it goes before it is there, comes a second time, and is changed.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "<disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/></disk>",
        "99 10 device not found: no target device vda",
        "55 10 Requested operation is not valid: target vda already exists",
        "done",
    ),
    (
        "<lease><lockspace>s</lockspace><key>k</key><target path='/x'/></lease>",
        "99 10 device not found: Lease k in lockspace s does not exist",
        "55 10 Requested operation is not valid: Lease k in lockspace s already exists",
        "84 10 Operation not supported: persistent update of device 'lease' is not supported",
    ),
    (
        "<controller type='scsi' index='0' model='virtio-scsi'/>",
        MISSING,
        "55 10 Requested operation is not valid: controller index='0' already exists",
        "84 10 Operation not supported: persistent update of device 'controller' is not supported",
    ),
    (
        "<filesystem type='mount'><source dir='/a'/><target dir='t'/></filesystem>",
        "99 10 device not found: no matching filesystem device was found",
        "55 10 Requested operation is not valid: Target already exists",
        "84 10 Operation not supported: persistent update of device 'filesystem' is not supported",
    ),
    (
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
        "99 20 device not found: no device found at address '(<null>)' matching MAC address '52:54:00:00:00:01' and alias '(<null>)'",
        "done",
        "done",
    ),
    (
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0x5678'/></source></hostdev>",
        MISSING,
        PRESENT,
        "84 10 Operation not supported: persistent update of device 'hostdev' is not supported",
    ),
    (
        "<input type='tablet' bus='usb'/>",
        "99 10 device not found: matching input device not found",
        "done",
        "84 10 Operation not supported: persistent update of device 'input' is not supported",
    ),
    (
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "99 10 device not found: no matching RNG device was found",
        "done",
        "84 10 Operation not supported: persistent update of device 'rng' is not supported",
    ),
    (
        "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>",
        "99 10 device not found: matching memory device was not found",
        "done",
        "8 10 invalid argument: memory not found",
    ),
    (
        "<shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
        "99 10 device not found: matching shmem device was not found",
        PRESENT,
        "84 10 Operation not supported: persistent update of device 'shmem' is not supported",
    ),
    (
        "<vsock model='virtio'><cid auto='no' address='4'/></vsock>",
        "9 10 operation failed: matching vsock device not found",
        "55 10 Requested operation is not valid: domain already has a vsock device",
        "84 10 Operation not supported: persistent update of device 'vsock' is not supported",
    ),
    (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
        "8 10 invalid argument: device not present in domain configuration",
        "55 10 Requested operation is not valid: chardev already exists",
        "84 10 Operation not supported: persistent update of device 'chr' is not supported",
    ),
    (
        "<serial type='pty'><target port='1'/></serial>",
        "8 10 invalid argument: device not present in domain configuration",
        "55 10 Requested operation is not valid: chardev already exists",
        "84 10 Operation not supported: persistent update of device 'chr' is not supported",
    ),
];

#[test]
fn devices_come_and_go() {
    let base = base();
    for (device, missing, twice, update) in CASES {
        let device = parse(device);
        assert_eq!(said(base.detach(&device, &options())), *missing, "{device:?}");
        let with = base.attach(device.clone(), &options()).unwrap();
        assert_ne!(xml(&with), xml(&base), "{device:?}");
        assert_eq!(said(with.attach(device.clone(), &options())), *twice, "{device:?}");
        assert_eq!(said(with.update(device.clone(), &options())), *update, "{device:?}");
        let without = with.detach(&device, &options()).unwrap();
        assert_eq!(said(without.detach(&device, &options())), *missing, "{device:?}");
    }
}

#[test]
fn some_devices_neither_come_nor_go() {
    let base = base();
    for (device, attach) in [
        (
            "<panic model='isa'/>",
            "84 10 Operation not supported: persistent attach of device 'panic' is not supported",
        ),
        ("<audio id='1' type='none'/>", "27 20 XML error: audio ID 1 is used multiple times"),
        (
            "<video><model type='vga'/></video>",
            "67 10 unsupported configuration: video type 'vga' is only valid as primary video device",
        ),
        (
            "<smartcard mode='host'/>",
            "67 10 unsupported configuration: this QEMU binary lacks multiple smartcard support",
        ),
        ("<nvram/>", "67 10 unsupported configuration: nvram device is only supported for PPC64"),
        ("<console type='pty'/>", "84 10 Operation not supported: attaching serial console is not supported"),
    ] {
        assert_eq!(said(base.attach(parse(device), &options())), attach, "{device}");
    }
    let graphics = parse("<graphics type='vnc'/>");
    let text = "8 10 invalid argument: cannot find existing graphics type 'vnc' device to modify";
    assert_eq!(said(base.update(graphics, &options())), text);
    let error = Device::parse("<redirfilter/>").unwrap_err();
    assert_eq!(error.message, "unsupported configuration: unknown device type 'redirfilter'");
}

#[test]
fn a_changed_disk_is_a_new_one_in_its_place() {
    let disk =
        "<disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/><serial>s</serial></disk>";
    let with = base().attach(parse(disk), &options()).unwrap();
    let cdrom = "<disk type='file' device='cdrom'><source file='/y'/><target dev='vda' bus='sata'/></disk>";
    let changed = with.update(parse(cdrom), &options()).unwrap();
    let [disk] = changed.devices.disks.as_slice() else { panic!("{:?}", changed.devices.disks) };
    assert!(disk.readonly && disk.serial.is_none(), "{disk:?}");
    assert_eq!(disk.info.address.as_ref().map(|address| address.kind()), Some("drive"));
}

#[test]
fn memory_that_comes_is_the_guests() {
    let size = "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>";
    let with = base().attach(parse(size), &options()).unwrap();
    assert!(xml(&with).contains("<currentMemory unit='KiB'>786432</currentMemory>"), "{}", xml(&with));
    let full = with.attach(parse(size), &options()).unwrap();
    let text = "67 20 unsupported configuration: Attaching memory device with size '262144' would exceed domain's maxMemory config size '1048576'";
    assert_eq!(said(full.attach(parse(size), &options())), text);
}

#[test]
fn an_address_is_one_devices() {
    let rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
    let with = base().attach(parse(rng), &options()).unwrap();
    let address = "<address type='pci' domain='0' bus='3' slot='0' function='0'/>";
    let net = format!("<interface type='user'>{address}</interface>");
    let text = "27 20 XML error: Attempted double use of PCI Address 0000:03:00.0";
    assert_eq!(said(with.attach(parse(&net), &options())), text);
    let rng = rng.replace("</rng>", &format!("{address}</rng>"));
    let text = "67 10 unsupported configuration: a device with the same address already exists ";
    assert_eq!(said(with.attach(parse(&rng), &options())), text);
}

#[test]
fn a_new_root_port_takes_no_place_of_another() {
    let ports = "<controller type='pci' model='pcie-root-port'/>".repeat(8);
    let xml = format!(
        "<domain type='qemu'><name>a</name><memory>65536</memory><os><type machine='q35'>hvm</type></os>
         <devices><controller type='pci' index='0' model='pcie-root'/>{ports}</devices></domain>"
    );
    let base = Domain::parse(&xml, &options()).unwrap();
    // A conventional card brings a bridge and a port.
    let card =
        parse("<interface type='user'><mac address='52:54:00:00:00:02'/><model type='rtl8139'/></interface>");
    let with = base.attach(card.clone(), &options()).unwrap();
    assert_eq!(said(with.detach(&card, &options())), "done");
}

/// A running machine with as many root ports as it needs, and one more.
fn running() -> Domain {
    let xml = "<domain type='qemu' id='1'><name>a</name><memory unit='MiB'>64</memory>
        <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
        <controller type='pci' index='1' model='pcie-root-port'/><controller type='usb' model='qemu-xhci'/>
        <controller type='pci' index='2' model='pcie-root-port'/><memballoon model='none'/>
        <controller type='pci' index='3' model='pcie-root-port'/></devices></domain>";
    Domain::parse(xml, &options()).unwrap()
}

#[test]
fn a_running_machine_has_the_room_it_was_built_with() {
    let mut domain = running();
    let plug = |domain: &Domain, xml: &str| domain.plugged(&parse(xml), &options());
    let rng = "<rng model='virtio'><backend model='builtin'/></rng>";
    let mut places = Vec::new();
    let refused = loop {
        match plug(&domain, rng) {
            Ok(plugged) => {
                assert!(plugged.controllers.is_empty());
                places.push(plugged.device.info().and_then(|info| info.address.clone()));
                domain.put_plugged(plugged.device);
            }
            Err(error) => break error.message,
        }
    };
    assert_eq!(refused, "internal error: No more available PCI slots");
    assert!(!places.is_empty() && places.iter().all(Option::is_some), "{places:?}");
    places.dedup();
    assert_eq!(places.len(), domain.devices.rngs.len());
    // USB has ports left.
    let tablet = plug(&domain, "<input type='tablet' bus='usb'/>").unwrap();
    assert!(tablet.device.info().is_some_and(|info| info.address.is_some()));
}

#[test]
fn a_device_that_comes_brings_the_controller_that_it_sits_on() {
    let disk = "<disk type='file'><source file='/x'/><target dev='sda' bus='scsi'/></disk>";
    // Its usual controller is one for conventional PCI.
    let xml = "<domain type='qemu' id='1'><name>a</name><memory unit='MiB'>64</memory>
        <os><type arch='x86_64' machine='pc'>hvm</type></os><devices/></domain>";
    let board = Domain::parse(xml, &options()).unwrap();
    let plugged = board.plugged(&parse(disk), &options()).unwrap();
    let kinds: Vec<_> = plugged.controllers.iter().map(|controller| controller.type_.as_str()).collect();
    assert_eq!((kinds, plugged.device.kind()), (vec!["scsi"], "disk"));
    let lost = "<channel type='null'><target type='virtio' name='x'/>\
                <address type='virtio-serial' controller='4' bus='0' port='1'/></channel>";
    let refused = running().plugged(&parse(lost), &options()).unwrap_err();
    assert_eq!(refused.message, "XML error: virtio serial controller 4 is missing");
}

#[test]
fn what_a_run_adds_does_not_make_another_device() {
    let mut domain = base();
    let live = "<channel type='unix'><source mode='bind' path='/run/a' tls='no'/>\
                <target type='virtio' name='x' state='connected'/><alias name='channel0'/></channel>";
    parse(live).put(&mut domain.devices);
    let same =
        "<channel type='unix'><source mode='bind' path='/run/a'/><target type='virtio' name='x'/></channel>";
    assert!(domain.holds(&parse(same)));
    assert!(!domain.holds(&parse(&same.replace("/run/a", "/run/b"))));
    assert!(domain.devices.named("channel0").is_some());
    assert!(domain.devices.take_named("channel0").is_some() && domain.devices.channels.is_empty());
}

/// What is said to whoever adds, changes and removes a device that cannot be, or is not there: `changed.txt` has the device
/// and the three answers of libvirt 11.3's QEMU driver.
#[test]
fn a_device_is_judged_before_what_is_done_with_it() {
    let text = include_str!("../data/changed.txt");
    let base = base();
    let mut failures = Vec::new();
    for record in text.trim_end().split("\n\n") {
        let lines: Vec<&str> = record.lines().collect();
        let [xml, expected @ ..] = lines.as_slice() else { panic!("{record}") };
        let device = parse(xml);
        let actual = [
            said(base.attach(device.clone(), &options())),
            said(base.update(device.clone(), &options())),
            said(base.detach(&device, &options())),
        ];
        if actual != expected {
            failures.push(format!("{xml}\n  libvirt: {expected:#?}\n  here:    {actual:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn memory_that_changes_stays_where_it_is() {
    let device = parse(
        "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>\
         <requested unit='MiB'>64</requested><address base='0x150000000'/></target>\
         <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></memory>",
    );
    let with = base().attach(device.clone(), &options()).unwrap();
    assert_eq!(said(with.update(device, &options())), "done");
}
