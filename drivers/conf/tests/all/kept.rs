//! What a device keeps of what is said of it, by its kind: `kept.txt` has documents of one device each, and what libvirt
//! 11.3's QEMU driver showed of it, in a line.

use std::path::Path;
use std::sync::Arc;

use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost};

/// Lines without what indents them.
fn in_a_line(text: &str) -> String {
    text.lines().map(str::trim_start).collect()
}

#[test]
fn a_device_keeps_what_belongs_to_its_kind() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kept.txt");
    let options = ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)));
    let mut failures = Vec::new();
    for record in std::fs::read_to_string(file).unwrap().trim_end().split("\n\n") {
        let (device, expected) = record.split_once('\n').unwrap();
        let document = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>1024</memory><vcpu>4</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
             <devices>{device}</devices></domain>"
        );
        let shown = match Domain::parse(&document, &options) {
            Ok(domain) => in_a_line(&domain.to_xml(&FormatOptions::from_flags(3))),
            Err(error) => error.message.to_string(),
        };
        if !shown.contains(expected) {
            failures.push(format!("{device}\n  libvirt: {expected}\n  here:    {shown}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
