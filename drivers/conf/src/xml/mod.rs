//! The XML underneath: a bounded reader into a borrowed tree, and a writer in libvirt's layout.
//!
//! Clients see what libvirt's parser says about a broken document, word for word and with the position, and libvirt
//! accepts some things that stricter parsers refuse (undeclared prefixes, a document type declaration). So the reader
//! is our own: one pass, no recursion, elements nested at most [`MAX_DEPTH`] deep, entities never expanded more
//! than once. Tests hold its trees against `roxmltree`'s.

mod declaration;
mod parse;
mod raw;
mod write;

pub use declaration::utf8;
pub use parse::MAX_DEPTH;
pub use raw::Raw;
pub(crate) use raw::spaces;
pub use write::{Mark, Writer};

use std::borrow::Cow;

use virtwire_protocol::{ErrorDomain, VirtError};

/// Name spaces of libvirt's own extensions, with the prefixes it gives them.
pub const NAMESPACES: &[(&str, &str)] = &[
    ("qemu", "http://libvirt.org/schemas/domain/qemu/1.0"),
    ("dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0"),
    ("fs", "http://libvirt.org/schemas/storagepool/fs/1.0"),
    ("rbd", "http://libvirt.org/schemas/storagepool/rbd/1.0"),
];

/// The name space that one of libvirt's prefixes stands for.
pub(crate) fn namespace_of(prefix: &str) -> Option<String> {
    NAMESPACES.iter().find(|(known, _)| *known == prefix).map(|(_, uri)| (*uri).to_owned())
}

/// A parsed document; owns the nodes, borrows the text.
#[derive(Debug)]
pub struct Document<'i> {
    nodes: Vec<NodeData<'i>>,
    attributes: Vec<Attribute<'i>>,
}

/// One attribute as written; namespace declarations are attributes too.
#[derive(Debug, Clone)]
pub struct Attribute<'i> {
    /// The name, prefix included.
    pub name: &'i str,
    /// The value with references replaced and white space normalised.
    pub value: Cow<'i, str>,
}

#[derive(Debug)]
struct NodeData<'i> {
    kind: Kind<'i>,
    parent: u32,
    first_child: u32,
    last_child: u32,
    next: u32,
}

/// What is in an element, as a schema sees it.
#[derive(Debug)]
pub(crate) enum Part<'d> {
    Element(Node<'d>),
    Text(&'d str),
}

/// No such node: the root's index can be nobody's child.
const NONE: u32 = 0;

/// What a node is.
#[derive(Debug, Clone)]
enum Kind<'i> {
    Element { name: &'i str, attributes: std::ops::Range<u32> },
    Text(Cow<'i, str>),
    Comment(&'i str),
    Instruction(&'i str),
}

impl<'i> Document<'i> {
    /// Parses `text`.
    ///
    /// # Errors
    /// `VIR_ERR_XML_DETAIL` from `domain` for text that is not well formed, worded as libvirt does.
    pub fn parse(text: &'i str, domain: ErrorDomain) -> Result<Self, VirtError> {
        parse::parse(text, domain)
    }

    /// Parses `text` and checks the name of its root element.
    ///
    /// # Errors
    /// As [`Document::parse`]; `VIR_ERR_XML_ERROR` from `VIR_FROM_XML` for another root element.
    pub fn parse_root(text: &'i str, root: &str, domain: ErrorDomain) -> Result<Self, VirtError> {
        let document = Self::parse(text, domain)?;
        let name = document.root().name();
        if name == root {
            Ok(document)
        } else {
            Err(ErrorDomain::XML.xml_error(format_args!("expecting root element of '{root}', not '{name}'")))
        }
    }

    /// The root element.
    pub fn root(&self) -> Node<'_> {
        Node { document: self, id: 0 }
    }

    /// The document with those elements alone, of the two levels below the root, whose paths (`os`, `os/type`) `keep` wants.
    pub(crate) fn retain(mut self, keep: impl Fn(&str) -> bool) -> Self {
        for child in self.narrow(0, &keep) {
            if let Kind::Element { name, .. } = &self.nodes[child as usize].kind {
                let name = *name;
                self.narrow(child, |own| keep(&format!("{name}/{own}")));
            }
        }
        self
    }

    /// Leaves of a node's child elements those whose names `keep` wants, and says which nodes are left.
    fn narrow(&mut self, parent: u32, keep: impl Fn(&str) -> bool) -> Vec<u32> {
        let node = Node { document: self, id: parent };
        let wanted = |child: &Node<'_>| !child.is_element() || keep(child.name());
        let left: Vec<u32> = node.nodes().filter(wanted).map(Node::number).collect();
        for pair in left.windows(2) {
            self.nodes[pair[0] as usize].next = pair[1];
        }
        if let Some(last) = left.last() {
            self.nodes[*last as usize].next = NONE;
        }
        let parent = &mut self.nodes[parent as usize];
        parent.first_child = left.first().copied().unwrap_or(NONE);
        parent.last_child = left.last().copied().unwrap_or(NONE);
        left
    }
}

/// A node of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Node<'d> {
    document: &'d Document<'d>,
    id: u32,
}

impl<'d> Node<'d> {
    fn data(self) -> &'d NodeData<'d> {
        &self.document.nodes[self.id as usize]
    }

    fn at(self, id: u32) -> Option<Self> {
        (id != NONE).then_some(Node { document: self.document, id })
    }

    /// The element's name as written, prefix included; empty for what is not an element.
    pub fn name(self) -> &'d str {
        match &self.data().kind {
            Kind::Element { name, .. } => name,
            _ => "",
        }
    }

    /// Whether this element is called `name`. A prefix in `name` is one of [`NAMESPACES`] and stands for its name space,
    /// whatever the document calls it.
    #[inline]
    pub fn is(self, name: &str) -> bool {
        let own = self.name();
        // With or without prefixes, the same names end alike: most children are told apart by that.
        own.as_bytes().last() == name.as_bytes().last() && self.is_called(own, name)
    }

    fn is_called(self, own: &str, name: &str) -> bool {
        let Some(colon) = name.bytes().position(|b| b == b':') else { return own == name };
        let (prefix, local) = (&name[..colon], &name[colon + 1..]);
        let Some((_, uri)) = NAMESPACES.iter().find(|(known, _)| *known == prefix) else { return false };
        let (own_prefix, own_local) = own.split_once(':').unwrap_or(("", own));
        own_local == local && self.namespace(own_prefix) == Some(uri)
    }

    /// Whether this is an element.
    pub fn is_element(self) -> bool {
        matches!(self.data().kind, Kind::Element { .. })
    }

    /// The attributes, namespace declarations included.
    pub fn attributes(self) -> &'d [Attribute<'d>] {
        match &self.data().kind {
            Kind::Element { attributes, .. } => {
                &self.document.attributes[attributes.start as usize..attributes.end as usize]
            }
            _ => &[],
        }
    }

    /// The value of the attribute called `name`.
    pub fn attribute(self, name: &str) -> Option<&'d str> {
        self.attributes().iter().find(|a| a.name == name).map(|a| a.value.as_ref())
    }

    /// The element around this one.
    pub fn parent(self) -> Option<Self> {
        (self.id != 0).then(|| Node { document: self.document, id: self.data().parent })
    }

    /// Child nodes of all kinds, in order.
    fn nodes(self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.at(self.data().first_child), |n| n.at(n.data().next))
    }

    /// Its number, which no other node of the document has.
    pub(crate) fn number(self) -> u32 {
        self.id
    }

    /// Child elements and texts, in order.
    pub(crate) fn parts(self) -> impl Iterator<Item = Part<'d>> {
        self.nodes().filter_map(|node| match &node.data().kind {
            Kind::Element { .. } => Some(Part::Element(node)),
            Kind::Text(text) => Some(Part::Text(text)),
            Kind::Comment(_) | Kind::Instruction(_) => None,
        })
    }

    /// Child elements, in order.
    pub fn children(self) -> impl Iterator<Item = Self> {
        self.nodes().filter(|n| n.is_element())
    }

    /// The first child element called `name`.
    pub fn child(self, name: &str) -> Option<Self> {
        self.children().find(|n| n.is(name))
    }

    /// All text below this element, in order.
    pub fn text(self) -> Cow<'d, str> {
        let mut nodes =
            self.nodes().filter(|n| !matches!(n.data().kind, Kind::Comment(_) | Kind::Instruction(_)));
        match (nodes.next().map(|n| &n.data().kind), nodes.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(Kind::Text(text)), None) => Cow::Borrowed(text.as_ref()),
            _ => {
                let mut all = String::new();
                self.collect_text(&mut all);
                Cow::Owned(all)
            }
        }
    }

    /// Depth is bounded by [`MAX_DEPTH`].
    fn collect_text(self, out: &mut String) {
        for node in self.nodes() {
            match &node.data().kind {
                Kind::Text(text) => out.push_str(text),
                Kind::Element { .. } => node.collect_text(out),
                Kind::Comment(_) | Kind::Instruction(_) => {}
            }
        }
    }

    /// The namespace that `prefix` (empty: the default) stands for here.
    pub fn namespace(self, prefix: &str) -> Option<&'d str> {
        std::iter::successors(Some(self), |n| n.parent()).find_map(|node| {
            node.attributes().iter().find_map(|a| {
                let declared = match a.name.strip_prefix("xmlns") {
                    Some("") => "",
                    Some(rest) => rest.strip_prefix(':')?,
                    None => return None,
                };
                (declared == prefix).then_some(a.value.as_ref())
            })
        })
    }
}
