//! Guests of the machine that people make today: what libvirt 11.3 gave to small ones on QEMU 10.0.

use std::sync::Arc;

use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost};

fn shown(attributes: &str, beside: &str, devices: &str) -> String {
    let document = format!(
        "<domain type='kvm'{attributes}><name>a</name><memory unit='MiB'>1024</memory><vcpu>4</vcpu>{beside}\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
    );
    let host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true);
    Domain::parse(&document, &ParseOptions::qemu(Arc::new(host)))
        .unwrap()
        .to_xml(&FormatOptions::from_flags(3))
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}

#[test]
fn buses_below_one_that_is_named_are_there() {
    let text = shown("", "", "<controller type='pci' index='3' model='pcie-to-pci-bridge'/>");
    shows(
        &text,
        &[
            "<controller type='pci' index='1' model='pcie-root-port'>",
            "<controller type='pci' index='2' model='pcie-root-port'>",
            "index='3' model='pcie-to-pci-bridge'>\n      <model name='pcie-pci-bridge'/>\n      \
             <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>",
        ],
    );
}

#[test]
fn interfaces_that_are_passed_through_come_behind_the_others() {
    let source = "<source><address type='pci' domain='0' bus='3' slot='1' function='0'/></source>";
    let devices =
        format!("<interface type='hostdev'>{source}</interface><controller type='virtio-serial' index='0'/>");
    let text = shown("", "", &devices);
    let own = "</source>\n      <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>";
    shows(
        &text,
        &[
            "<controller type='virtio-serial' index='0'>\n      <address type='pci' domain='0x0000' bus='0x01'",
            own,
        ],
    );
}

#[test]
fn the_last_screen_with_a_way_for_sound_decides() {
    let audio = |screens: &[&str]| {
        let devices: String = screens.iter().map(|kind| format!("<graphics type='{kind}'/>")).collect();
        let text = shown("", "", &devices);
        text.lines().find(|line| line.contains("<audio")).map(|line| line.trim().to_owned())
    };
    let none = Some("<audio id='1' type='none'/>".to_owned());
    let spice = Some("<audio id='1' type='spice'/>".to_owned());
    for (screens, expected) in [
        (&[][..], &none),
        (&["vnc", "egl-headless"], &none),
        (&["sdl", "vnc"], &none),
        (&["vnc", "sdl"], &None),
        (&["vnc", "spice"], &spice),
        (&["spice", "vnc"], &none),
    ] {
        assert_eq!(audio(screens), *expected, "{screens:?}");
    }
}

#[test]
fn name_spaces_of_metadata_are_declared_where_it_begins() {
    let text = shown(" xmlns:a='urn:a' xmlns:b='urn:b'", "<metadata><a:x b:q='1'/></metadata>", "");
    shows(&text, &["  <metadata xmlns:a=\"urn:a\" xmlns:b=\"urn:b\">\n    <a:x b:q=\"1\"/>"]);
    let text = shown("", "<metadata xmlns:a='urn:a'><a:x/><c:y xmlns:c='urn:c'/></metadata>", "");
    shows(&text, &["  <metadata xmlns:a=\"urn:a\">\n    <a:x/>\n    <c:y xmlns:c=\"urn:c\"/>"]);
}

#[test]
fn what_is_said_short_is_shown_whole() {
    let features = "<features><acpi/><hap/><pmu/><vmport/><smm><tseg/></smm></features>";
    let backing = "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>";
    let vcpus = "<vcpus><vcpu id='0' enabled='yes' order='1'/></vcpus>";
    let parts = format!("{features}{backing}{vcpus}<cputune><period>0</period></cputune>");
    let text = shown(
        "",
        &parts,
        "<tpm><backend type='emulator'/></tpm><graphics type='vnc'/><video><model type='qxl'/></video>",
    );
    shows(
        &text,
        &[
            "<hap state='on'/>",
            "<pmu state='on'/>",
            "<vmport state='on'/>",
            "<smm state='on'/>",
            "<page size='2048' unit='KiB'/>",
            "<vcpu placement='static' current='1'>4</vcpu>",
            "<vcpu id='3' enabled='no' hotpluggable='yes'/>",
            "<backend type='emulator' version='1.2'/>",
            "vgamem='16384'",
        ],
    );
    assert!(!text.contains("cputune"), "{text}");
}

#[test]
fn the_usb_controllers_of_ich9_are_where_ich9_has_them() {
    let set = |index: u32| {
        ["ehci1", "uhci1", "uhci2"]
            .map(|model| format!("<controller type='usb' index='{index}' model='ich9-{model}'/>"))
            .concat()
    };
    let at = |slot: &str, function: u32| {
        format!("<address type='pci' domain='0x0000' bus='0x00' slot='{slot}' function='0x{function}'")
    };
    let text = shown("", "", &(set(0) + &set(1) + &set(2)));
    shows(&text, &["0x1d", "0x1a"].map(|slot| at(slot, 7)).each_ref().map(String::as_str));
    shows(&text, &["0x1d", "0x1a"].map(|slot| at(slot, 0)).each_ref().map(String::as_str));
    // A third set is as any device.
    shows(&text, &["bus='0x02' slot='0x01' function='0x7'"]);
    // Who has one of the slots keeps it, and a fast one alone is as any device, too.
    let taken =
        "<sound model='ich6'><address type='pci' domain='0' bus='0' slot='0x1d' function='0'/></sound>";
    shows(&shown("", "", &(set(0) + taken)), &[&at("0x1a", 7)]);
    let alone = "<controller type='usb' index='0' model='ich9-ehci1'/>";
    shows(&shown("", "", alone), &["bus='0x02' slot='0x01' function='0x7'"]);
}
