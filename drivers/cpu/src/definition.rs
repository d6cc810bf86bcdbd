//! `<cpu>` as the comparison and baseline calls take and give it.

use std::fmt::Write as _;

use virtwire_conf::xml::{Document, Node};
use virtwire_protocol::{ErrorDomain, VirtError};

use crate::arch;

/// A CPU: a host's, or what a guest wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The architecture; a host's CPU has one, a guest's none.
    pub arch: Option<String>,
    /// `custom`, `host-model`, `host-passthrough` or `maximum`; guests only.
    pub mode: Option<String>,
    /// A guest that must not have more than it asks for: `match='strict'`.
    pub strict: bool,
    /// The model.
    pub model: Option<String>,
    /// Whether another model may stand in.
    pub fallback: bool,
    /// The vendor, by libvirt's name.
    pub vendor: Option<String>,
    /// Family, model and stepping.
    pub signature: Option<Signature>,
    /// What it has or has not beyond the model.
    pub features: Vec<Feature>,
}

/// What a CPU says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The family.
    pub family: u32,
    /// The model.
    pub model: u32,
    /// The stepping.
    pub stepping: u32,
}

/// `<feature>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name.
    pub name: String,
    /// What is asked of it.
    pub policy: Policy,
}

/// What is asked of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The guest sees it whether or not the host has it.
    Force,
    /// It must be there; what a host says of its own features is read as this too.
    Require,
    /// The guest sees it if the host has it.
    Optional,
    /// The guest does not see it.
    Disable,
    /// The host must not have it.
    Forbid,
}

/// Which of the two forms a text must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A host's.
    Host,
    /// A host's where it names an architecture, else a guest's.
    Either,
}

const POLICIES: &[(&str, Policy)] = &[
    ("force", Policy::Force),
    ("require", Policy::Require),
    ("optional", Policy::Optional),
    ("disable", Policy::Disable),
    ("forbid", Policy::Forbid),
];

impl Cpu {
    /// Reads `<cpu>`.
    ///
    /// # Errors
    /// `VIR_ERR_XML_DETAIL`, `VIR_ERR_XML_ERROR` and `VIR_ERR_CONFIG_UNSUPPORTED` as libvirt has them.
    pub fn parse(text: &str, expect: Expect) -> Result<Self, VirtError> {
        let document = Document::parse(text, ErrorDomain::CPU)?;
        let root = document.root();
        if !root.is("cpu") {
            return Err(ErrorDomain::CPU.xml_error("XML does not contain expected 'cpu' element"));
        }
        Self::read(root, expect)
    }

    /// Reads the element.
    ///
    /// # Errors
    /// As [`Cpu::parse`].
    pub fn read(root: Node<'_>, expect: Expect) -> Result<Self, VirtError> {
        let host = expect == Expect::Host || root.child("arch").is_some();
        let mut cpu = Self { fallback: true, ..Self::default() };
        if let Some(mode) = root.attribute("mode") {
            if host {
                return Err(
                    ErrorDomain::CPU.config_unsupported("Attribute mode is only allowed for guest CPU")
                );
            }
            if !["custom", "host-model", "host-passthrough", "maximum"].contains(&mode) {
                return Err(
                    ErrorDomain::CPU.config_unsupported(format_args!("Invalid mode attribute '{mode}'"))
                );
            }
            cpu.mode = Some(mode.to_owned());
        }
        if host {
            cpu.arch = Some(read_arch(root)?);
            cpu.signature = read_signature(root)?;
        } else {
            cpu.strict = one_of(root, "cpu", "match", &["minimum", "exact", "strict"])? == Some("strict");
            one_of(root, "cpu", "check", &["none", "partial", "full"])?;
        }
        let text = |name: &str| {
            let text = root.child(name).map(|node| node.text().into_owned());
            text.filter(|text| !text.is_empty())
        };
        cpu.model = text("model");
        if !host && let Some(model) = root.child("model") {
            match model.attribute("fallback") {
                None | Some("allow") => {}
                Some("forbid") => cpu.fallback = false,
                Some(_) => return Err(ErrorDomain::CPU.config_unsupported("Invalid fallback attribute")),
            }
            if model.attribute("vendor_id").is_some_and(|id| id.len() != 12) {
                return Err(ErrorDomain::CPU.xml_error("vendor_id must be exactly 12 characters long"));
            }
        }
        if host && cpu.model.is_none() {
            return Err(ErrorDomain::CPU.xml_error("Missing CPU model name"));
        }
        cpu.vendor = text("vendor");
        if let Some(topology) = root.child("topology") {
            for name in ["sockets", "cores", "threads"] {
                check_count(topology, name)?;
            }
        }
        cpu.read_features(root, host)?;
        Ok(cpu)
    }

    fn read_features(&mut self, root: Node<'_>, host: bool) -> Result<(), VirtError> {
        let by_host = matches!(self.mode.as_deref(), Some("host-passthrough" | "host-model" | "maximum"));
        for node in root.children().filter(|node| node.is("feature")) {
            if self.model.is_none() && !by_host {
                return Err(ErrorDomain::CPU.xml_error("Non-empty feature list specified without CPU model"));
            }
            let policy = match node.attribute("policy").filter(|_| !host) {
                None => Policy::Require,
                Some(word) => POLICIES
                    .iter()
                    .find(|(known, _)| *known == word)
                    .map(|(_, policy)| *policy)
                    .ok_or_else(|| ErrorDomain::CPU.config_unsupported("Invalid CPU feature policy"))?,
            };
            let name = node.attribute("name").filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| ErrorDomain::CPU.xml_error("Invalid CPU feature name"))?;
            if self.features.iter().any(|known| known.name == name) {
                let detail = format_args!("CPU feature '{name}' specified more than once");
                return Err(ErrorDomain::CPU.xml_error(detail));
            }
            self.features.push(Feature { name: name.to_owned(), policy });
        }
        Ok(())
    }

    /// The text of a guest's CPU as the baseline calls answer it.
    pub fn guest_xml(&self) -> String {
        let mut text = String::from("<cpu mode='custom' match='exact'>\n");
        let fallback = if self.fallback { "allow" } else { "forbid" };
        // Writing to a string can't fail.
        if let Some(model) = &self.model {
            let _ = writeln!(text, "  <model fallback='{fallback}'>{model}</model>");
        }
        if let Some(vendor) = &self.vendor {
            let _ = writeln!(text, "  <vendor>{vendor}</vendor>");
        }
        for Feature { name, policy } in &self.features {
            let policy = POLICIES.iter().find(|(_, known)| known == policy).map_or("", |(word, _)| word);
            let _ = writeln!(text, "  <feature policy='{policy}' name='{name}'/>");
        }
        text.push_str("</cpu>\n");
        text
    }
}

fn read_arch(root: Node<'_>) -> Result<String, VirtError> {
    let arch = root.child("arch").map(|node| node.text().into_owned()).unwrap_or_default();
    if arch.is_empty() {
        return Err(ErrorDomain::CPU.xml_error("Missing CPU architecture"));
    }
    if arch::kind(&arch).is_none() {
        return Err(ErrorDomain::CPU.config_unsupported(format_args!("Unknown architecture {arch}")));
    }
    Ok(arch)
}

fn read_signature(root: Node<'_>) -> Result<Option<Signature>, VirtError> {
    let Some(node) = root.child("signature") else { return Ok(None) };
    let number = |name: &str| {
        let text = node.attribute(name).ok_or_else(|| missing("signature", name))?;
        text.parse().map_err(|_| invalid("signature", name, text))
    };
    Ok(Some(Signature { family: number("family")?, model: number("model")?, stepping: number("stepping")? }))
}

/// An attribute that may be left out, but not have any other value than these.
fn one_of<'n>(
    node: Node<'n>,
    element: &str,
    name: &str,
    known: &[&str],
) -> Result<Option<&'n str>, VirtError> {
    match node.attribute(name) {
        Some(word) if !known.contains(&word) => Err(invalid(element, name, word)),
        word => Ok(word),
    }
}

fn check_count(topology: Node<'_>, name: &str) -> Result<(), VirtError> {
    let text = topology.attribute(name).ok_or_else(|| missing("topology", name))?;
    match text.parse::<u32>() {
        Ok(0) => {
            let detail =
                format!("Invalid value for attribute '{name}' in element 'topology': Zero is not permitted");
            Err(ErrorDomain::XML.xml_error(detail))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(invalid("topology", name, text)),
    }
}

fn missing(element: &str, name: &str) -> VirtError {
    ErrorDomain::XML.xml_error(format_args!("Missing required attribute '{name}' in element '{element}'"))
}

fn invalid(element: &str, name: &str, value: &str) -> VirtError {
    let detail = format!("Invalid value for attribute '{name}' in element '{element}': '{value}'.");
    ErrorDomain::XML.xml_error(detail)
}
