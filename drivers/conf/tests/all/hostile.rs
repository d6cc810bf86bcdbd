//! Documents that mean harm. Each is refused in libvirt's words or taken as libvirt takes it, with nothing read beside it.

use std::sync::Arc;

use virtwire_conf::xml::utf8;
use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost};
use virtwire_protocol::ErrorDomain;

fn qemu() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)))
}

fn guest(name: &str, memory: &str, devices: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><memory>{memory}</memory>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
    )
}

#[track_caller]
fn refused(document: &str) -> String {
    Domain::parse(document, &qemu()).expect_err("a refusal").message
}

#[test]
fn an_entity_bomb_is_not_expanded() {
    let levels: String =
        (1..10).map(|n| format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(10))).collect();
    let document = format!("<!DOCTYPE d [<!ENTITY e0 'x'>{levels}]><domain><name>&e9;</name></domain>");
    assert!(refused(&document).contains("Detected an entity reference loop"));
}

#[test]
fn an_external_entity_is_not_fetched() {
    for place in ["SYSTEM 'file:///etc/hostname'", "PUBLIC 'p' 'http://192.0.2.1/x'"] {
        let document = format!("<!DOCTYPE d [<!ENTITY x {place}>]>{}", guest("&x;", "65536", ""));
        assert!(refused(&document).contains("missing name information"), "{place}");
    }
}

#[test]
fn an_external_document_type_is_not_fetched() {
    let document = format!("<!DOCTYPE domain SYSTEM 'file:///dev/zero'>{}", guest("a", "65536", ""));
    assert_eq!(Domain::parse(&document, &qemu()).unwrap().name, "a");
}

#[test]
fn deep_nesting_ends_at_the_limit() {
    let nested = format!("{}{}", "<a>".repeat(1 << 20), "</a>".repeat(1 << 20));
    assert!(refused(&nested).contains("Excessive depth in document: 256"));
}

#[test]
fn an_error_on_a_line_of_4_mib_is_short() {
    let document = format!("<domain type='kvm'><name>{}</nam></domain>", "n".repeat(4 << 20));
    let text = refused(&document);
    assert!(text.contains("Opening and ending tag mismatch"), "{}", &text[..100]);
    assert!(text.len() <= virtwire_protocol::error::TEXT_MAX + 64, "{}", text.len());
}

#[test]
fn a_place_that_two_devices_name_is_nobodys() {
    let card =
        "<interface type='user'><address type='pci' domain='0' bus='0' slot='9' function='0'/></interface>";
    let text = refused(&guest("a", "65536", &card.repeat(2)));
    assert_eq!(text, "XML error: Attempted double use of PCI Address 0000:00:09.0");
}

#[test]
fn a_name_leads_to_no_other_directory() {
    for name in ["a/b", "../a", "/etc/passwd"] {
        assert_eq!(refused(&guest(name, "65536", "")), format!("XML error: name {name} cannot contain '/'"));
    }
}

#[test]
fn a_long_name_is_kept_as_it_is() {
    let name = "n".repeat(255);
    assert_eq!(Domain::parse(&guest(&name, "65536", ""), &qemu()).unwrap().name, name);
}

#[test]
fn numbers_out_of_range_are_none() {
    for number in ["-1", "18446744073709551616", "-9223372036854775809", "0x10", "1e3"] {
        let expected = format!("XML error: Invalid value '{number}' for element or attribute './memory[1]'");
        assert_eq!(refused(&guest("a", number, "")), expected);
    }
    let text = refused(&guest("a", "18446744073709551615", ""));
    assert_eq!(text, "numerical overflow: value too large: 18446744073709551615");
}

#[test]
fn another_encoding_is_not_believed() {
    // Strings on the wire are UTF-8 by the time that they are read; what a document says of itself changes nothing.
    for encoding in ["ISO-8859-1", "UTF-16", "UTF-7"] {
        let document = format!("<?xml version='1.0' encoding='{encoding}'?>{}", guest("ä", "65536", ""));
        assert_eq!(Domain::parse(&document, &qemu()).unwrap().name, "ä", "{encoding}");
    }
    let wide: String = guest("a", "65536", "").chars().flat_map(|c| [c, '\0']).collect();
    assert!(Domain::parse(&wide, &qemu()).is_err());
}

#[test]
fn a_disks_format_is_raw_until_somebody_says_otherwise() {
    let disk = "<disk type='file'><source file='/etc/hostname'/><target dev='vda' bus='virtio'/></disk>";
    let domain = Domain::parse(&guest("a", "65536", disk), &qemu()).unwrap();
    let text = domain.to_xml(&FormatOptions::default());
    assert!(text.contains("<driver name='qemu' type='raw'/>"), "{text}");
}

#[test]
fn as_much_metadata_as_fits_into_a_text_is_read() {
    let one = |n: u32| format!("<a xmlns='urn:{n}'/>");
    let all: String = (0..200_000).map(one).collect();
    let document =
        guest("a", "65536", "").replace("<os>", &format!("<metadata>{all}{}</metadata><os>", one(7)));
    assert!((4 << 20..5 << 20).contains(&document.len()));
    let text = Domain::parse(&document, &qemu()).unwrap().to_xml(&FormatOptions::default());
    assert_eq!(text.matches("xmlns=").count(), 200_000);
}

#[test]
fn many_disks_are_put_in_order() {
    let letters = |n: u32| [n / 26, n % 26].map(|n| char::from(b'a' + n as u8)).iter().collect::<String>();
    let disk = |n: u32| format!("<disk type='file' device='cdrom'><target dev='sd{}'/></disk>", letters(n));
    let text = guest("a", "65536", &(0..600).rev().map(disk).collect::<String>());
    let domain = Domain::parse(&text, &qemu()).unwrap();
    let order = domain.devices.disks.iter().map(|disk| disk.target.clone().unwrap().dev.unwrap());
    assert!(order.eq((0..600).map(|n| format!("sd{}", letters(n)))));
}

#[test]
fn a_guest_has_so_many_devices_and_no_more() {
    let serials = |count: usize| guest("a", "65536", &"<serial type='null'/>".repeat(count));
    assert_eq!(Domain::parse(&serials(4096), &ParseOptions::test()).unwrap().devices.serials.len(), 4096);
    assert_eq!(refused(&serials(4097)), "XML error: too many devices: 4097, at most 4096 are allowed");
}

#[test]
fn an_encoding_that_nobody_knows_is_refused() {
    let said = |declaration: &str| {
        let text = format!("{declaration}<domain type='test'><name>a</name><memory>1</memory></domain>");
        Domain::parse(&text, &ParseOptions::test()).unwrap_err().message
    };
    for (declaration, expected) in [
        ("<?xml version='1.0' encoding='foo'?>", "at line 1: Unsupported encoding foo\n"),
        ("<?xml version='1.0' encoding=''?>", "at line 1: Invalid XML encoding name\n"),
        ("<?xml version='2.0'?>", "at line 1: Unsupported version '2.0'\n"),
        ("<?xml encoding='utf-8'?>", "at line 1: Malformed declaration expecting version\n"),
        ("<?xml version='1.0' standalone='x'?>", "at line 1: standalone accepts only 'yes' or 'no'\n"),
        ("<?xml version='1.0' encoding='ISO-8859-15' standalone='no' ?>", "XML error: an os <type>"),
    ] {
        assert!(said(declaration).starts_with(expected), "{declaration}: {}", said(declaration));
    }
}

#[test]
fn bytes_that_are_none_of_utf8_are_shown_with_their_place() {
    let error = utf8(b"<a>\n<b>\xe9</b></a>", ErrorDomain::DOMAIN).unwrap_err();
    let expected = "at line 2: Input is not proper UTF-8, indicate encoding !\nBytes: 0xE9 0x3C 0x2F 0x62\n";
    assert!(error.message.starts_with(expected), "{error}");
    assert!(error.message.ends_with("\n---^"), "{error}");
    assert_eq!(utf8("<a>é</a>".as_bytes(), ErrorDomain::DOMAIN).unwrap(), "<a>é</a>");
}
