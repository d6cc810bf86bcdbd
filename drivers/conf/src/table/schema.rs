//! Whether a document says only what its tables know (`VIR_…_VALIDATE`).

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Field, Result};
use crate::xml::Node;

/// Checks that every attribute and element of a document is a line of its table. What no table describes may say anything.
///
/// # Errors
/// `VIR_ERR_XML_INVALID_SCHEMA`, which names the part of the document that has something else in it.
pub(crate) fn check(root: Node<'_>, fields: &[Field], schema: &str) -> Result<()> {
    if is_open(fields) {
        return Ok(());
    }
    if !root.attributes().iter().all(|attribute| is_attribute(fields, attribute.name)) {
        return Err(invalid(schema, root.name(), None));
    }
    let single = schema == "domain";
    let fits = |child: &Node<'_>| lines(fields).any(|line| line_fits(&line, *child, single));
    let bad = root.children().find(|child| !fits(child)).map(|child| child.name());
    let twice = || twice(root, fields).filter(|_| single);
    match bad.or_else(twice) {
        Some(part) => Err(invalid(schema, root.name(), Some(part))),
        None => Ok(()),
    }
}

/// The error for a document that has something wrong in `part`, or in its root element itself.
pub(crate) fn invalid(schema: &str, root: &str, part: Option<&str>) -> VirtError {
    let part = part.map(|part| format!("Extra element {part} in interleave\n")).unwrap_or_default();
    ErrorDomain::XML.xml_invalid_schema(format_args!(
        "Unable to validate doc against /usr/share/libvirt/schemas/{schema}.rng\n{part}Element {root} failed to validate content\n"
    ))
}

/// The lines of a table, those of other tables that it takes in included.
fn lines(fields: &[Field]) -> Box<dyn Iterator<Item = Field> + '_> {
    Box::new(fields.iter().flat_map(|field| match field.kind {
        "flat" => lines((field.fields)()),
        _ => Box::new(std::iter::once(*field)),
    }))
}

/// Whether some part of a table is written by hand and may take anything.
fn is_open(fields: &[Field]) -> bool {
    fields.is_empty() || fields.iter().any(|field| field.kind == "flat" && is_open((field.fields)()))
}

fn is_attribute(fields: &[Field], name: &str) -> bool {
    is_open(fields)
        || name.starts_with("xmlns")
        || name.contains(':')
        || lines(fields)
            .any(|line| matches!(line.kind, "attr" | "attr_default" | "loose") && line.name == name)
}

fn line_fits(line: &Field, child: Node<'_>, single: bool) -> bool {
    match line.kind {
        "leaf" | "flag" => child.is(line.name),
        "child" | "sole" | "kept" | "pair" => child.is(line.name) && fits(child, (line.fields)(), single),
        _ => false,
    }
}

fn fits(node: Node<'_>, fields: &[Field], single: bool) -> bool {
    is_open(fields)
        || node.attributes().iter().all(|attribute| is_attribute(fields, attribute.name))
            && node.children().all(|child| {
                child.name().contains(':') && !lines(fields).any(|line| child.is(line.name))
                    || lines(fields).any(|line| line_fits(&line, child, single))
            })
            && !(single && twice(node, fields).is_some())
}

/// Devices of which there is only one, though the schema takes more.
const ALIKE: [&str; 6] = ["memballoon", "vsock", "iommu", "nvram", "redirfilter", "pstore"];

/// What is there twice that may be there once.
fn twice<'d>(node: Node<'d>, fields: &[Field]) -> Option<&'d str> {
    let children = || node.children().filter(|child| !ALIKE.contains(&child.name()));
    let line_of = |name: &str| {
        let mut own =
            lines(fields).filter(|line| !matches!(line.kind, "attr" | "attr_default" | "loose" | "text"));
        own.find(|line| line.name == name)
    };
    children().map(|child| child.name()).find(|name| {
        children().filter(|child| child.is(name)).count() > 1 && line_of(name).is_some_and(|line| !line.many)
    })
}
