//! Our own definitions, and what libvirt 11.3 made of them: `NAME.test.out` its test driver, `NAME.qemu.out` its QEMU,
//! network and storage drivers with QEMU 10.0.

use std::path::Path;
use std::sync::Arc;

use virtwire_conf::{
    Capabilities, Domain, FormatOptions, Network, ParseOptions, QemuHost, StoragePool, StorageVol,
};
use virtwire_protocol::VirtError;

use crate::corpus::{difference, files};

fn check(kind: &str, flavor: &str, define: impl Fn(&str) -> Result<String, VirtError>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(kind);
    let mut failures = Vec::new();
    for file in files(&directory, &[".xml"]) {
        let input = std::fs::read_to_string(&file).unwrap();
        let Ok(expected) = std::fs::read_to_string(file.with_extension(format!("{flavor}.out"))) else {
            continue;
        };
        let actual =
            define(&input).unwrap_or_else(|e| format!("error {} {} {}", e.code.0, e.domain.0, e.message));
        if actual.trim_end() != expected.trim_end() {
            let lines = difference(&expected, &actual).join("\n");
            failures.push(format!("{}:\n{lines}", file.file_name().unwrap().display()));
        }
    }
    assert!(failures.is_empty(), "{kind} of the {flavor} driver:\n{}", failures.join("\n"));
}

fn qemu() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)))
}

#[test]
fn domains_of_the_test_driver() {
    check("domain", "test", |xml| {
        Ok(Domain::parse(xml, &ParseOptions::test())?.to_xml(&FormatOptions::from_flags(3)))
    });
}

#[test]
fn domains_of_the_qemu_driver() {
    check("domain", "qemu", |xml| {
        let xml = xml.replacen("type='test'", "type='qemu'", 1);
        Ok(Domain::parse(&xml, &qemu())?.to_xml(&FormatOptions::from_flags(3)))
    });
}

#[test]
fn capabilities() {
    let expected = include_str!("../data/capabilities.out");
    let read = Capabilities::parse(expected).unwrap();
    assert_eq!(read.guests.len(), 2);
    assert_eq!(read.to_xml().trim_end(), expected.trim_end());
    let Some(corpus) = crate::corpus::corpus() else { return };
    for file in files(&corpus.join("conn"), &["/capabilities.out.xml"]) {
        let expected = crate::corpus::placeholders(&std::fs::read_to_string(&file).unwrap());
        let actual = Capabilities::parse(&expected).unwrap().to_xml();
        let lines = difference(&expected, &actual);
        assert!(actual.trim_end() == expected.trim_end(), "{}: {lines:?}", file.display());
    }
}

#[test]
fn networks() {
    for (flavor, options) in [("test", ParseOptions::test()), ("qemu", qemu())] {
        check("network", flavor, |xml| {
            let mut network = Network::parse(xml, &options)?;
            // Which bridge is free, is the network driver's to know.
            if let Some(bridge) = network.bridge.as_mut().filter(|_| flavor == "qemu") {
                bridge.name.get_or_insert_with(|| "virbr0".to_owned());
            }
            Ok(network.to_xml(&FormatOptions::from_flags(2)))
        });
    }
}

#[test]
fn pools() {
    for (flavor, options) in [("test", ParseOptions::test()), ("qemu", qemu())] {
        check("pool", flavor, |xml| Ok(StoragePool::parse(xml, &options)?.to_xml(&FormatOptions::default())));
    }
}

#[test]
fn volumes() {
    check("volume", "test", |xml| {
        let mut volume = StorageVol::parse(xml, &ParseOptions::test())?;
        // Where the volume is, is the driver's to say.
        let path = format!("/default-pool/{}", volume.name.clone().unwrap_or_default());
        volume.target.get_or_insert_default().path = Some(path.clone());
        volume.key = Some(path);
        Ok(volume.to_xml(&FormatOptions::default()))
    });
}
