//! What the two daemons of a migration tell each other, by way of whoever manages it: one XML document with every step.

use uuid::Uuid;
use virtwire_conf::FormatOptions;
use virtwire_conf::xml::{Document, Node, Raw, Writer};
use virtwire_protocol::error::ErrorDomain;

use super::capabilities::Capability;
use super::stats::Stats;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};

/// The name of the document.
const ROOT: &str = "qemu-migration";
/// What the reader of a cookie has to understand, if it says so; how disks are locked is what there is none of here.
const FEATURES: [&str; 4] = ["lockstate", "persistent", "memory-hotplug", "cpu-hotplug"];

/// What is said of disks whose content goes too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nbd {
    /// Where the target waits for it.
    pub(super) port: Option<u16>,
    /// How many bytes the source's disks have.
    pub(super) disks: Vec<(String, u64)>,
}

/// A cookie.
#[derive(Clone, Debug, Default)]
pub(super) struct Cookie {
    /// The guest, by its name where it comes from.
    pub(super) name: String,
    pub(super) uuid: Uuid,
    /// Who wrote it.
    host: String,
    host_uuid: Uuid,
    /// What its reader has to understand.
    pub(super) features: Vec<&'static str>,
    /// The processor of the run, as XML.
    pub(super) cpu: Option<String>,
    /// What the hypervisor of who wrote it can do.
    pub(super) capabilities: Vec<Capability>,
    /// The definition that is to be kept, as XML.
    pub(super) persistent: Option<String>,
    pub(super) nbd: Option<Nbd>,
    pub(super) stats: Option<Stats>,
}

impl Cookie {
    /// One of this host.
    pub(super) fn new(driver: &Qemu, name: &str, uuid: Uuid) -> Self {
        Self {
            name: name.to_owned(),
            uuid,
            host: driver.shared.host.name(),
            host_uuid: driver.shared.host_uuid,
            ..Self::default()
        }
    }

    /// Its bytes, with the zero at their end that libvirt wants.
    pub(super) fn write(&self) -> Vec<u8> {
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        out.open(ROOT);
        out.leaf("name", &self.name);
        out.leaf("uuid", &self.uuid.hyphenated().to_string());
        out.leaf("hostname", &self.host);
        out.leaf("hostuuid", &self.host_uuid.hyphenated().to_string());
        for feature in &self.features {
            out.open("feature");
            out.attribute("name", feature);
            out.close("feature");
        }
        if let Some(xml) = &self.persistent {
            out.verbatim(xml);
        }
        if let Some(nbd) = &self.nbd {
            nbd.write(&mut out);
        }
        if let Some(xml) = &self.cpu {
            out.verbatim(xml);
        }
        if !self.capabilities.is_empty() {
            out.open("capabilities");
            for capability in &self.capabilities {
                out.open("cap");
                out.attribute("name", &capability.name);
                out.attribute("auto", if capability.auto { "yes" } else { "no" });
                out.close("cap");
            }
            out.close("capabilities");
        }
        if let Some(stats) = &self.stats {
            stats.write(&mut out);
        }
        out.close(ROOT);
        let mut bytes = out.finish().into_bytes();
        bytes.push(0);
        bytes
    }

    /// Reads the other host's cookie about a guest.
    ///
    /// # Errors
    /// It is none, is about another guest, comes from this very host, or wants what is not understood.
    pub(super) fn read(driver: &Qemu, bytes: &[u8], name: &str, uuid: Uuid) -> Result<Self> {
        let cookie = Self::parse(bytes)?;
        if cookie.name != name {
            let text = format_args!("Incoming cookie data had unexpected name {} vs {name}", cookie.name);
            return Err(QEMU.internal_error(text));
        }
        if cookie.uuid != uuid {
            let (other, own) = (cookie.uuid.hyphenated(), uuid.hyphenated());
            let text = format_args!("Incoming cookie data had unexpected UUID {other} vs {own}");
            return Err(QEMU.internal_error(text));
        }
        if cookie.host_uuid == driver.shared.host_uuid {
            let host = cookie.host_uuid.hyphenated();
            let text = format_args!("Attempt to migrate guest to the same host {host}");
            return Err(QEMU.internal_error(text));
        }
        Ok(cookie)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = bytes.strip_suffix(&[0]);
        let text = text.ok_or_else(|| QEMU.internal_error("Migration cookie was not NULL terminated"))?;
        let text = std::str::from_utf8(text).map_err(|error| QEMU.internal_error(error))?;
        let document = Document::parse_root(text, ROOT, ErrorDomain::QEMU)?;
        let root = document.root();
        let word = |name: &str| {
            let child = root.child(name).map(|child| child.text().into_owned());
            child.ok_or_else(|| QEMU.internal_error(format_args!("missing {name} element in migration data")))
        };
        let uuid = |name: &str| {
            let malformed =
                |_| QEMU.internal_error(format_args!("malformed {name} element in migration data"));
            Uuid::parse_str(&word(name)?).map_err(malformed)
        };
        for feature in root.children().filter(|child| child.name() == "feature") {
            let name = feature.attribute("name").unwrap_or_default();
            if !FEATURES.contains(&name) {
                let text = format_args!("Unknown migration cookie feature {name}");
                return Err(QEMU.internal_error(text));
            }
        }
        let subtree = |name: &str| root.child(name).map(|child| Raw::read(child).to_xml());
        let capabilities = root.child("capabilities").into_iter().flat_map(Node::children);
        let capability = |node: Node<'_>| {
            let auto = node.attribute("auto") == Some("yes");
            Some(Capability { name: node.attribute("name")?.to_owned(), auto })
        };
        Ok(Self {
            name: word("name")?,
            uuid: uuid("uuid")?,
            host: word("hostname")?,
            host_uuid: uuid("hostuuid")?,
            features: Vec::new(),
            cpu: subtree("cpu"),
            capabilities: capabilities.filter_map(capability).collect(),
            persistent: subtree("domain"),
            nbd: root.child("nbd").map(Nbd::read).transpose()?,
            stats: root.child("statistics").map(Stats::read),
        })
    }
}

impl Nbd {
    fn write(&self, out: &mut Writer<'_>) {
        out.open("nbd");
        if let Some(port) = self.port {
            out.attribute("port", &port.to_string());
        }
        for (target, capacity) in &self.disks {
            out.open("disk");
            out.attribute("target", target);
            out.attribute("capacity", &capacity.to_string());
            out.close("disk");
        }
        out.close("nbd");
    }

    fn read(node: Node<'_>) -> Result<Self> {
        let malformed = |what, word: &str| {
            QEMU.internal_error(format_args!("Malformed {what} '{word}' in migration data"))
        };
        let port = node.attribute("port");
        let port = port.map(|word| word.parse().map_err(|_| malformed("nbd port", word))).transpose()?;
        let disk = |node: Node<'_>| {
            let word = node.attribute("capacity").unwrap_or_default();
            let capacity = word.parse().map_err(|_| malformed("disk capacity", word))?;
            Ok((node.attribute("target").unwrap_or_default().to_owned(), capacity))
        };
        let disks = node.children().filter(|child| child.name() == "disk");
        Ok(Self { port, disks: disks.map(disk).collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> Cookie {
        Cookie {
            name: "a".to_owned(),
            host: "here".to_owned(),
            features: vec!["lockstate"],
            cpu: Some("<cpu mode='custom'>\n  <model>x</model>\n</cpu>\n".to_owned()),
            capabilities: vec![Capability { name: "multifd".to_owned(), auto: false }],
            persistent: Some("<domain type='qemu'>\n  <name>a</name>\n</domain>\n".to_owned()),
            nbd: Some(Nbd { port: Some(49153), disks: vec![("vda".to_owned(), 1 << 20)] }),
            ..Cookie::default()
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let read = Cookie::parse(&cookie().write()).unwrap();
        assert_eq!((read.name.as_str(), read.host.as_str()), ("a", "here"));
        assert_eq!((read.capabilities, read.nbd), (cookie().capabilities, cookie().nbd));
        assert!(read.persistent.unwrap().contains("<name>a</name>"));
        assert!(read.cpu.unwrap().contains("<model>x</model>"));
    }

    #[test]
    fn what_is_no_cookie_is_refused() {
        let whole = cookie().write();
        for cut in 0..whole.len() - 1 {
            assert!(Cookie::parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let text = String::from_utf8(whole).unwrap().replace("lockstate", "teleport");
        let error = Cookie::parse(text.as_bytes()).unwrap_err();
        assert!(error.message.ends_with("Unknown migration cookie feature teleport"), "{error}");
    }
}
