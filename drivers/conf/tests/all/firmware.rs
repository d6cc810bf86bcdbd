//! What becomes of firmware that is named or asked for: libvirt 11.3's answers with QEMU 10.0, on a host without descriptors of
//! firmware.

use std::sync::Arc;

use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost, Snapshot};

fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)))
}

/// What a definition is answered with: the parts of `<os>` behind its type, or code, domain and text of the error.
fn answer(attributes: &str, parts: &str) -> String {
    let document = format!(
        "<domain type='kvm'><name>a</name><memory unit='MiB'>1024</memory><os{attributes}>\
         <type arch='x86_64' machine='q35'>hvm</type>{parts}</os><features><acpi/></features></domain>"
    );
    match Domain::parse(&document, &options()) {
        Ok(domain) => {
            let text = domain.to_xml(&FormatOptions::from_flags(3));
            let (_, rest) = text.split_once("</type>").unwrap();
            rest.split_once("<boot").unwrap().0.split('\n').map(str::trim).collect()
        }
        Err(error) => format!("{} {} {}", error.code.0, error.domain.0, error.message),
    }
}

#[test]
fn firmware_is_what_libvirt_makes_of_it() {
    let cases = [
        (" firmware='bios'", "<nvram>/v</nvram>", "35 20 firmware type 'bios' does not support nvram"),
        (
            " firmware='bios'",
            "<loader type='pflash' stateless='no'/>",
            "35 20 Only EFI firmware permits NVRAM",
        ),
        ("", "<loader type='rom' stateless='no'>/l</loader>", "35 20 Only pflash loader type permits NVRAM"),
        ("", "<loader type='rom'>/l</loader>", "<loader type='rom'>/l</loader>"),
        ("", "<loader>/l</loader>", "<loader type='rom' format='raw'>/l</loader>"),
        (
            "",
            "<loader type='pflash' readonly='no'>/l</loader><nvram>/v</nvram>",
            "<loader readonly='no' type='pflash' format='raw'>/l</loader><nvram>/v</nvram>",
        ),
        (
            "",
            "<loader type='pflash' readonly='yes' format='qcow2'>/l</loader><nvram template='/t'>/v</nvram>",
            "<loader readonly='yes' type='pflash' format='qcow2'>/l</loader><nvram template='/t' format='qcow2'>/v</nvram>",
        ),
        (
            "",
            "<loader type='pflash' readonly='yes' stateless='yes'>/l</loader><nvram template='/t'/>",
            "35 20 NVRAM template is not permitted when loader is stateless",
        ),
        (
            "",
            "<loader type='pflash' readonly='yes'>/l</loader><nvram type='file'/>",
            "1 0 An error occurred, but the cause is unknown",
        ),
        (
            "",
            "<nvram type='none-such'/>",
            "27 5 XML error: Invalid value for attribute 'type' in element 'nvram': 'none-such'.",
        ),
        ("", "<nvram>/v</nvram>", "35 20 no loader path specified and firmware auto selection disabled"),
    ];
    for (attributes, parts, expected) in cases {
        assert_eq!(answer(attributes, parts), expected, "{attributes} {parts}");
    }
}

/// Boards that nobody knows, and places that belong to others.
#[test]
fn machines_are_refused_as_libvirt_does() {
    let missing = "27 20 XML error: No PCI buses available";
    let old = "1 10 internal error: Bus 0 must be PCI for integrated PIIX3 USB or IDE controllers";
    let none = "<memballoon model='none'/>";
    let place = |kind: &str, function: u32| {
        format!(
            "<controller type='{kind}' index='0'><address type='pci' domain='0' bus='0' slot='1' function='{function}'/></controller>"
        )
    };
    let cases = [
        ("microvm", none.to_owned(), missing),
        ("none-such", none.to_owned(), missing),
        ("q35", place("usb", 2), old),
        ("q35", place("ide", 1), old),
    ];
    for (machine, devices, expected) in cases {
        let document = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>1024</memory><os><type arch='x86_64' machine='{machine}'>hvm</type>\
             </os><devices>{devices}</devices></domain>"
        );
        let error = Domain::parse(&document, &options()).unwrap_err();
        let actual = format!("{} {} {}", error.code.0, error.domain.0, error.message);
        assert_eq!(actual, expected, "{machine} {devices}");
    }
}

/// Each of these needs to know something of the host.
#[test]
fn the_host_is_asked_in_time() {
    let mut host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true);
    host.address_bits = Some(46);
    host.check_program = Some(|program| {
        let missing = || virtwire_protocol::ErrorDomain::QEMU.internal_error(format_args!("no {program}"));
        if program.ends_with("none") { Err(missing()) } else { Ok(()) }
    });
    let options = ParseOptions::qemu(Arc::new(host));
    let answer = |cpu: &str, emulator: &str, memory: &str| {
        let document = format!(
            "<domain type='kvm'><name>a</name>{memory}<os><type arch='x86_64' machine='q35'>hvm</type></os>{cpu}\
             <devices><emulator>{emulator}</emulator></devices></domain>"
        );
        Domain::parse(&document, &options).map_err(|error| error.message)
    };
    let (memory, usual) = ("<memory>65536</memory>", "/usr/bin/qemu-system-x86_64");
    let wide = |bits: u32| format!("<cpu mode='maximum'><maxphysaddr mode='emulate' bits='{bits}'/></cpu>");
    assert!(answer(&wide(46), usual, memory).is_ok());
    let refused = answer(&wide(47), usual, memory).unwrap_err();
    assert!(refused.contains("virtual CPU address bits cannot exceed"), "{refused}");
    // Whether there is a program comes before what it could do, and behind what does not read.
    assert_eq!(answer("", "/none", "").unwrap_err(), "internal error: no /none");
    assert!(answer("<cpu mode='none-such'/>", "/none", "").unwrap_err().contains("Invalid mode attribute"));
    let other = answer("", "/usr/bin/qemu-system-i386", memory).unwrap_err();
    assert!(other.ends_with("does not support arch 'x86_64'"), "{other}");
}

#[test]
fn a_snapshot_of_a_guest_that_runs_nowhere_has_none() {
    let snapshot = |kind: &str| {
        let xml = format!(
            "<domainsnapshot><name>s</name><domain{kind}><name>a</name><memory>65536</memory>\
             <os><type>hvm</type></os></domain></domainsnapshot>"
        );
        Snapshot::parse(&xml, &options()).unwrap().domain.is_some()
    };
    assert!(snapshot(" type='kvm'"));
    assert!(!snapshot(""));
}
