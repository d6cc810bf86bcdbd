//! Title, description and the elements of other programs, as clients read and change them.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::Domain;
use crate::table::Result;
use crate::xml::{Document, Raw};

/// Where errors about metadata come from.
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// `virDomainMetadataType`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataKind {
    /// `<description>`
    Description,
    /// `<title>`
    Title,
    /// An element of `<metadata>`.
    Element,
}

impl MetadataKind {
    /// The kind of this number.
    ///
    /// # Errors
    /// `VIR_ERR_INVALID_ARG` for a number that stands for none.
    pub fn new(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Self::Description),
            1 => Ok(Self::Title),
            2 => Ok(Self::Element),
            _ => Err(DOMAIN.invalid_arg(format_args!("unknown metadata type '{number}'"))),
        }
    }
}

fn absent() -> VirtError {
    DOMAIN.no_domain_metadata("Requested metadata element is not present")
}

impl Domain {
    /// The text, or the element of the namespace `uri`.
    ///
    /// # Errors
    /// `VIR_ERR_NO_DOMAIN_METADATA` if there is none.
    pub fn metadata_of(&self, kind: MetadataKind, uri: &str) -> Result<String> {
        let found = match kind {
            MetadataKind::Description => self.description.clone(),
            MetadataKind::Title => self.title.clone(),
            MetadataKind::Element => {
                let elements = self.metadata.iter().flat_map(|metadata| &metadata.elements);
                elements
                    .into_iter()
                    .find(|raw| raw.namespace() == Some(uri))
                    .map(|raw| without_prefix(&raw.to_xml(), uri))
            }
        };
        found.ok_or_else(absent)
    }

    /// Sets the text, or the element of the namespace `uri` under the prefix `key`; `None` or an empty text removes
    /// it.
    ///
    /// # Errors
    /// An element that is not well formed.
    pub fn set_metadata(
        &mut self,
        kind: MetadataKind,
        value: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
    ) -> Result<()> {
        let text = || value.filter(|value| !value.is_empty()).map(str::to_owned);
        match kind {
            MetadataKind::Description => self.description = text(),
            MetadataKind::Title => self.title = text(),
            MetadataKind::Element => return set_element(self, value, key, uri.unwrap_or_default()),
        }
        Ok(())
    }
}

/// Puts an element in the place of the one with the same name space, or takes that away.
fn set_element(domain: &mut Domain, xml: Option<&str>, key: Option<&str>, uri: &str) -> Result<()> {
    let raw = xml.map(|xml| {
        Document::parse(xml, DOMAIN)?;
        Raw::parse(&with_prefix(xml, key.unwrap_or_default(), uri))
    });
    let raw = raw.transpose()?;
    let elements = &mut domain.metadata.get_or_insert_default().elements;
    elements.retain(|old| old.namespace() != Some(uri));
    elements.extend(raw);
    domain.metadata.take_if(|metadata| metadata.elements.is_empty());
    Ok(())
}

/// Calls `name` for each tag of well-formed XML, with what stands between `<` and the tag's name, the name and the
/// rest up to the next tag; puts together what it returns.
fn map_tags(xml: &str, mut tag: impl FnMut(&str, &str, &str) -> String) -> String {
    let mut out = String::with_capacity(xml.len() + 64);
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let skipped = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>"), ("!", ">")];
        if let Some((_, end)) = skipped.iter().find(|(start, _)| rest.starts_with(start)) {
            let length = rest.find(end).map_or(rest.len(), |at| at + end.len());
            out.push('<');
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let (slash, name_on) = rest.strip_prefix('/').map_or(("", rest), |after| ("/", after));
        let end =
            name_on.find(|c: char| c.is_whitespace() || matches!(c, '/' | '>')).unwrap_or(name_on.len());
        let (name, after) = name_on.split_at(end);
        let close = end_of_tag(after);
        out.push('<');
        out.push_str(&tag(slash, name, &after[..close]));
        rest = &after[close..];
    }
    out.push_str(rest);
    out
}

/// Where a tag ends: the first `>` outside quotes.
fn end_of_tag(tag: &str) -> usize {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    tag.len()
}

/// The element with `prefix` before all names that have none, and the prefix declared.
fn with_prefix(xml: &str, prefix: &str, uri: &str) -> String {
    let mut declared = false;
    map_tags(xml, |slash, name, rest| {
        let declaration =
            if declared { String::new() } else { format!(" xmlns:{prefix}=\"{}\"", escaped(uri)) };
        declared = true;
        let colon = if name.contains(':') { String::new() } else { format!("{prefix}:") };
        format!("{slash}{colon}{name}{declaration}{rest}")
    })
}

/// The element as it was given: without the prefix that stands for `uri`.
fn without_prefix(xml: &str, uri: &str) -> String {
    let mut prefix: Option<String> = None;
    map_tags(xml, |slash, name, rest| {
        let first = prefix.is_none();
        let prefix = prefix
            .get_or_insert_with(|| name.split_once(':').map_or(String::new(), |(p, _)| format!("{p}:")));
        let name = name.strip_prefix(prefix.as_str()).unwrap_or(name);
        let declaration = format!(" xmlns:{}=\"{}\"", prefix.trim_end_matches(':'), escaped(uri));
        let rest = if first { rest.replacen(&declaration, "", 1) } else { rest.to_owned() };
        format!("{slash}{name}{rest}")
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_and_go() {
        let plain = "<foo a=\"x>y\">\n  <bar/>\n  <x:baz><!-- <no> --></x:baz>\n</foo>";
        let prefixed = with_prefix(plain, "k", "http://x?a&b");
        assert_eq!(
            prefixed,
            "<k:foo xmlns:k=\"http://x?a&amp;b\" a=\"x>y\">\n  <k:bar/>\n  <x:baz><!-- <no> --></x:baz>\n</k:foo>"
        );
        assert_eq!(without_prefix(&prefixed, "http://x?a&b"), plain);
    }

    #[test]
    fn one_element_for_each_name_space() {
        let mut domain = Domain::default();
        set_element(&mut domain, Some("<a/>"), Some("k"), "http://x").unwrap();
        set_element(&mut domain, Some("<b/>"), Some("k"), "http://x").unwrap();
        set_element(&mut domain, Some("<c/>"), Some("k"), "http://y").unwrap();
        let names = |domain: &Domain| -> Vec<String> {
            domain.metadata.iter().flat_map(|m| &m.elements).map(|raw| raw.name().to_owned()).collect()
        };
        assert_eq!(names(&domain), ["k:b", "k:c"]);
        set_element(&mut domain, None, None, "http://x").unwrap();
        assert_eq!(names(&domain), ["k:c"]);
        assert!(set_element(&mut domain, Some("junk"), Some("k"), "http://y").is_err());
    }
}
