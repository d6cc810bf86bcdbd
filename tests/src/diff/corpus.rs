//! Sessions from a folder of XML documents by category, such as a recording of real answers has: here only its inputs
//! are used, and both daemons are asked anew.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Argument, Session, Step};

/// Categories, and what is done; a domain is removed with all flags of the QEMU driver, then with those that all
/// drivers know. `$xml` is the document, `$1` what it needs.
const WAYS: &[(&str, &str, &[&str])] = &[
    ("domain", "", DOMAIN),
    ("domain-generic", "", DOMAIN),
    (
        "network",
        "",
        &[
            "thing = virNetworkDefineXMLFlags $xml 0",
            "virNetworkGetXMLDesc $thing 1",
            "virNetworkGetXMLDesc $thing 0",
            "virNetworkUndefine $thing",
            "thing = virNetworkDefineXMLFlags $xml 1",
            "virNetworkUndefine $thing",
        ],
    ),
    (
        "pool",
        "",
        &[
            "thing = virStoragePoolDefineXML $xml 0",
            "virStoragePoolGetXMLDesc $thing 1",
            "virStoragePoolUndefine $thing",
        ],
    ),
    (
        "nwfilter",
        "",
        &[
            "thing = virNWFilterDefineXMLFlags $xml 0",
            "virNWFilterGetXMLDesc $thing 0",
            "virNWFilterUndefine $thing",
        ],
    ),
    (
        "secret",
        "",
        &["thing = virSecretDefineXML $xml 0", "virSecretGetXMLDesc $thing 0", "virSecretUndefine $thing"],
    ),
    (
        "device",
        "domain.xml",
        &[
            "dom = virDomainDefineXMLFlags $1 0",
            "virDomainAttachDeviceFlags $dom $xml 2",
            "virDomainGetXMLDesc $dom 2",
            "virDomainUpdateDeviceFlags $dom $xml 2",
            "virDomainGetXMLDesc $dom 2",
            "virDomainDetachDeviceFlags $dom $xml 2",
            "virDomainGetXMLDesc $dom 2",
            "virDomainUndefineFlags $dom 31",
            "virDomainUndefineFlags $dom 3",
        ],
    ),
    (
        "snapshot",
        "domain.xml",
        &[
            "dom = virDomainDefineXMLFlags $1 0",
            "thing = virDomainSnapshotCreateXML $dom $xml 1",
            "virDomainSnapshotGetXMLDesc $thing 0",
            "virDomainUndefineFlags $dom 31",
            "virDomainUndefineFlags $dom 3",
        ],
    ),
    (
        "checkpoint",
        "domain.xml",
        &[
            "dom = virDomainDefineXMLFlags $1 0",
            "thing = virDomainCheckpointCreateXML $dom $xml 1",
            "virDomainCheckpointGetXMLDesc $thing 0",
            "virDomainUndefineFlags $dom 31",
            "virDomainUndefineFlags $dom 3",
        ],
    ),
    ("cpu-compare", "", &["virConnectCompareCPU $xml 0"]),
];

const DOMAIN: &[&str] = &[
    "thing = virDomainDefineXMLFlags $xml 0",
    "virDomainGetXMLDesc $thing 3",
    "virDomainGetXMLDesc $thing 0",
    "virDomainGetXMLDesc $thing 8",
    "virDomainUndefineFlags $thing 31",
    "virDomainUndefineFlags $thing 3",
    "thing = virDomainDefineXMLFlags $xml 1",
    "virDomainUndefineFlags $thing 31",
    "virDomainUndefineFlags $thing 3",
];

/// Every `every`th document of each category of a folder.
///
/// # Errors
/// If a folder cannot be read.
pub fn sessions(folder: &Path, every: usize) -> std::io::Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for (category, needs, ways) in WAYS {
        let folder = folder.join(category);
        if !folder.is_dir() {
            continue;
        }
        let mut names: Vec<String> = fs::read_dir(&folder)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| {
                name.strip_suffix(".xml").filter(|name| !name.contains('.')).map(str::to_owned)
            })
            .chain(
                fs::read_dir(&folder)?
                    .filter_map(|entry| dotted(&entry.ok()?.file_name().into_string().ok()?)),
            )
            .collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().step_by(every.max(1)) {
            let Ok(xml) = fs::read_to_string(folder.join(format!("{name}.xml"))) else { continue };
            let first = match *needs {
                "" => String::new(),
                needs => fs::read_to_string(folder.join(format!("{name}.{needs}"))).unwrap_or_default(),
            };
            let steps = ways.iter().map(|way| step(way, &xml, &first)).collect();
            sessions.push(Session { title: format!("{category}/{name}"), steps });
        }
    }
    Ok(sessions)
}

/// A name with a dot in it, told from `NAME.out.xml` by its error file or its input.
fn dotted(file: &str) -> Option<String> {
    let name = file.strip_suffix(".xml")?;
    let (_, kind) = name.rsplit_once('.')?;
    kind.starts_with(|c: char| c.is_ascii_digit()).then(|| name.to_owned())
}

fn step(way: &str, xml: &str, first: &str) -> Step {
    let (bind, call) = match way.split_once(" = ") {
        Some((name, call)) => (Some(name.to_owned()), call),
        None => (None, way),
    };
    let mut words = call.split(' ');
    let api = words.next().unwrap_or_default().to_owned();
    let args = words.map(|word| match word {
        "$xml" => Argument::Value(json!(xml)),
        "$1" => Argument::Value(json!(first)),
        word => match word.strip_prefix('$') {
            Some(name) => Argument::Object(name.to_owned()),
            None => Argument::Value(word.parse().map_or(Value::Null, |number: u32| json!(number))),
        },
    });
    let args = args.collect();
    Step { bind, api, args }
}
