//! Documents that libvirt 11.3's test driver refuses, and in which words.
//!
//! `refused.txt` has three lines for each: code, domain and message; the document; an empty line. Line breaks within are
//! written `\n`. `refused-others.txt` has the kind of definition first; its secrets come from libvirt's own secret driver.

use std::path::Path;
use std::sync::Arc;

use virtwire_conf::{
    Domain, Interface, Network, NodeDevice, ParseOptions, QemuHost, Secret, Snapshot, StoragePool, StorageVol,
};

fn plain(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\r", "\r")
}

#[test]
fn refusals_are_those_of_libvirt() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/refused.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut same, mut all, mut failures) = (0, 0, Vec::new());
    for record in text.split("\n\n").filter(|record| !record.is_empty()) {
        let (expected, document) = record.split_once('\n').unwrap_or((record, ""));
        let (expected, document) = (plain(expected), plain(document.trim_end_matches('\n')));
        all += 1;
        let actual = match Domain::parse(&document, &ParseOptions::test()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => format!("{} {} {}", error.code.0, error.domain.0, error.message),
        };
        if actual == expected {
            same += 1;
        } else {
            failures.push(format!("{document}\n  libvirt: {expected}\n  here:    {actual}"));
        }
    }
    println!("refused in the same words: {same} of {all}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a small guest may not say, beside its devices or as one: `refused-qemu.txt` has the answers of libvirt's QEMU driver
/// on x86-64 to each.
#[test]
fn qemus_refusals_are_those_of_libvirt() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/refused-qemu.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let mut host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true);
    // What Debian's QEMU has without its modules, as far as the answers depend on it.
    let devices = "VGA cirrus-vga virtio-gpu-pci pvpanic pvpanic-pci ich9-ahci lsi53c895a mptsas1068 megasas pvscsi acpi-erst \
                   ivshmem-plain ivshmem-doorbell";
    host.emulators[0].devices = devices.split_whitespace().map(str::to_owned).collect();
    let options = ParseOptions::qemu(Arc::new(host));
    let mut failures = Vec::new();
    for record in text.split("\n\n").filter(|record| !record.trim().is_empty()) {
        let (expected, part) = record.split_once('\n').unwrap_or((record, ""));
        let part = part.trim_end();
        let beside = BESIDE.iter().any(|name| part.starts_with(&format!("<{name}")));
        let (beside, device) = if beside { (part, "") } else { ("", part) };
        let document = format!(
            "<domain type='kvm'><name>a</name><uuid>6f1c2d4e-0b7a-4c52-8a3d-9e1f00aa55cc</uuid>\
             <memory unit='MiB'>1024</memory><vcpu>4</vcpu>{beside}<os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <features><acpi/></features><devices>{device}</devices></domain>"
        );
        let actual = match Domain::parse(&document, &options) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => format!("{} {} {}", error.code.0, error.domain.0, error.message),
        };
        if actual != plain(expected) {
            failures.push(format!("{part}\n  libvirt: {expected}\n  here:    {actual}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What libvirt's QEMU driver says of memory modules of a guest with one node and room for them.
#[test]
fn modules_are_what_their_model_can_be() {
    let options = ParseOptions::qemu(Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)));
    let refused = |model: &str, source: &str, target: &str| {
        let document = format!(
            "<domain type='kvm'><name>a</name><maxMemory slots='1' unit='GiB'>8</maxMemory><memory unit='MiB'>1024</memory>\
             <vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0-3' memory='1' unit='GiB'/></numa></cpu>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os><devices><memory model='{model}'>{source}\
             <target><size unit='KiB'>524288</size>{target}</target></memory></devices></domain>"
        );
        let error = Domain::parse(&document, &options).err();
        error.map(|error| format!("{} {} {}", error.code.0, error.domain.0, error.message))
    };
    let path = "<source><path>/p</path></source>";
    let label = |kib: u32| format!("<node>0</node><label><size unit='KiB'>{kib}</size></label>");
    let block = |block: u32, asked: u32| {
        format!("<node>0</node><block unit='KiB'>{block}</block><requested unit='KiB'>{asked}</requested>")
    };
    for (model, source, target) in [
        ("dimm", "", "<node>0</node>".to_owned()),
        ("nvdimm", path, label(128)),
        ("virtio-pmem", path, String::new()),
        ("virtio-mem", "", block(2048, 4096)),
    ] {
        assert_eq!(refused(model, source, &target), None, "{model}");
    }
    for (model, source, target, expected) in [
        (
            "dimm",
            "",
            String::new(),
            "67 10 unsupported configuration: target NUMA node needs to be specified for memory device",
        ),
        ("nvdimm", "", "<node>0</node>".to_owned(), "35 20 path is required for model 'nvdimm'"),
        ("nvdimm", path, label(64), "27 20 XML error: nvdimm label must be at least 128KiB"),
        ("nvdimm", path, label(524_288), "27 20 XML error: label size must be smaller than NVDIMM size"),
        ("virtio-pmem", "", String::new(), "35 20 path is required for model 'virtio-pmem'"),
        (
            "virtio-pmem",
            path,
            "<node>0</node>".to_owned(),
            "67 20 unsupported configuration: virtio-pmem does not support NUMA nodes",
        ),
        ("virtio-mem", "", block(3, 0), "35 20 block size must be a power of two"),
        ("virtio-mem", "", block(1024, 0), "35 20 block size too small, must be at least 2048KiB"),
        (
            "virtio-mem",
            "",
            block(4096, 2048),
            "35 20 requested size must be an integer multiple of block size",
        ),
        (
            "virtio-mem",
            "",
            block(2048, 999_999),
            "35 20 requested size must be smaller than or equal to @size (524288KiB)",
        ),
    ] {
        assert_eq!(refused(model, source, &target).as_deref(), Some(expected), "{model} {target}");
    }
}

/// Parts of a definition that are no devices.
const BESIDE: &[&str] = &[
    "cpu",
    "numatune",
    "memoryBacking",
    "iothreads",
    "on_",
    "clock",
    "sysinfo",
    "launchSecurity",
    "keywrap",
    "perf",
    "idmap",
    "seclabel",
    "bootloader",
    "cputune",
    "memtune",
    "blkiotune",
    "throttlegroups",
    "resource",
];

#[test]
fn hostile_documents_are_refused_in_bounded_time() {
    let nested = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
    let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]><domain><name>&b;</name></domain>";
    let external = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><domain type='test'><name>&x;</name></domain>";
    let long = format!("<domain type='test'><name>{}</name></domain>", "n".repeat(4 << 20));
    let many = format!("<domain type='test'>{}</domain>", "<x y='1'/>".repeat(200_000));
    let attributes: String = (0..400_000).map(|n| format!(" a{n}=''")).collect();
    let wide = format!("<domain{attributes}/>");
    let cases = [
        (nested(100_000), "Excessive depth in document: 256 use XML_PARSE_HUGE option"),
        (bomb.to_owned(), "Detected an entity reference loop"),
        (external.to_owned(), "missing name information"),
        (long, "an os <type> must be specified"),
        (many, "missing name information"),
        (wide, "missing name information"),
        ("<domain type='test'><name>a</name>\0</domain>".replace("\\0", "\0"), "PCDATA invalid Char value 0"),
    ];
    for (document, expected) in cases {
        let error = Domain::parse(&document, &ParseOptions::test()).unwrap_err();
        assert!(error.message.contains(expected), "{}", &error.message[..error.message.len().min(200)]);
        assert!(error.message.len() <= virtwire_protocol::error::TEXT_MAX + 64);
    }
}

#[test]
fn a_validated_document_says_only_what_is_known() {
    let options = ParseOptions::test().validating(true);
    let document = |extra: &str| {
        format!(
            "<domain type='test'><name>a</name><memory>65536</memory><os><type>hvm</type></os>{extra}</domain>"
        )
    };
    assert!(Domain::parse(&document("<devices/><x:y xmlns:x='u'/>"), &options).is_err());
    assert!(Domain::parse(&document("<devices><emulator>/bin/true</emulator></devices>"), &options).is_ok());
    for extra in ["<nothing/>", "<devices><disk colour='red'/></devices>", "<vcpu cpuset='red'>1</vcpu>"] {
        let error = Domain::parse(&document(extra), &options).unwrap_err();
        assert_eq!((error.code.0, error.domain.0), (92, 5), "{extra}: {error}");
        assert!(error.message.contains("domain.rng"), "{error}");
    }
}

#[test]
fn names_and_numbers_that_break_things_are_refused() {
    let document = |name: &str, memory: &str| {
        format!(
            "<domain type='test'><name>{name}</name><memory>{memory}</memory><os><type>hvm</type></os></domain>"
        )
    };
    let parse = |name: &str, memory: &str| Domain::parse(&document(name, memory), &ParseOptions::test());
    for (name, text) in [("a/b", "cannot contain '/'"), ("a\nb", "invalid char in name"), ("", "name")] {
        let error = parse(name, "65536").unwrap_err();
        assert!(error.message.contains(text), "{name:?}: {error}");
    }
    for memory in ["-1", "18446744073709551616", "18446744073709551615", "x", "0"] {
        assert!(parse("a", memory).is_err(), "{memory}");
    }
    let long = "n".repeat(255);
    assert_eq!(parse(&long, "65536").unwrap().name, long);
}

#[test]
fn every_cut_of_a_document_is_refused() {
    let document = "<?xml version='1.0'?><!-- c --><domain type='test'><name>a&amp;b</name><memory unit='MiB'>1</memory>        <os><type>hvm</type></os><metadata><x:y xmlns:x='u'><![CDATA[z]]></x:y></metadata></domain>";
    assert!(Domain::parse(document, &ParseOptions::test()).is_ok());
    for end in 0..document.len() {
        assert!(Domain::parse(&document[..end], &ParseOptions::test()).is_err(), "{}", &document[..end]);
    }
}

#[test]
fn other_definitions_are_refused_in_the_same_words() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/refused-others.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let options = ParseOptions::test();
    let mut failures = Vec::new();
    for record in text.split("\n\n") {
        let (expected, document) = record.split_once('\n').unwrap();
        let (kind, expected) = expected.split_once(' ').unwrap();
        let document = document.trim_end_matches('\n');
        let result = match kind {
            "net" => Network::parse(document, &options).map(drop),
            "pool" => StoragePool::parse(document, &options).map(drop),
            "vol" => StorageVol::parse(document, &options).map(drop),
            "snap" => Snapshot::parse(document, &options).map(drop),
            "iface" => Interface::parse(document, &options).map(drop),
            "secret" => Secret::parse(document, &options).map(drop),
            "nodedev" => NodeDevice::parse(document, &options).map(drop),
            _ => panic!("{kind}"),
        };
        let actual = match result {
            Ok(()) => "accepted".to_owned(),
            Err(error) => format!("{} {} {}", error.code.0, error.domain.0, error.message),
        };
        if actual != plain(expected) {
            failures.push(format!("{document}\n  libvirt: {expected}\n  here:    {actual}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
