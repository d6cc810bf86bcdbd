//! Subtrees that are kept as they are.

use std::collections::HashMap;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Document, Kind, Node, Writer};

/// An element of somebody else's, such as those in `<metadata>`: kept with everything in it, and shown the way
/// libxml2 lays out such a tree (double quotes, CDATA resolved, white space between elements replaced).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    name: String,
    namespace: Option<String>,
    /// Lines and how much deeper than the first they stand. Text may hold line breaks of its own.
    lines: Vec<(usize, String)>,
}

impl Raw {
    /// The element's name, prefix included.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace it belongs to.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Parses one element.
    ///
    /// # Errors
    /// `VIR_ERR_XML_DETAIL` for what is not well formed.
    pub fn parse(xml: &str) -> Result<Self, VirtError> {
        Ok(Self::read(Document::parse(xml, ErrorDomain::NONE)?.root()))
    }

    /// Keeps `node`.
    pub fn read(node: Node<'_>) -> Self {
        let prefix = node.name().split_once(':').map_or("", |(prefix, _)| prefix);
        let mut raw = Self {
            name: node.name().to_owned(),
            namespace: node.namespace(prefix).map(str::to_owned),
            lines: Vec::new(),
        };
        raw.block(node, 0);
        raw
    }

    /// Writes it at the current depth.
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        for (depth, line) in &self.lines {
            out.raw_line(*depth, line);
        }
    }

    /// The element alone, as it stands at the outermost level.
    pub fn to_xml(&self) -> String {
        let mut text = String::new();
        for (n, (depth, line)) in self.lines.iter().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            text.extend(std::iter::repeat_n("  ", *depth));
            text.push_str(line);
        }
        text
    }

    /// A node that starts on a line of its own. Depth is bounded by the parser.
    fn block(&mut self, node: Node<'_>, depth: usize) {
        let filled = |n: &Node<'_>| !matches!(&n.data().kind, Kind::Text(t) if t.trim().is_empty());
        let has_text = node.nodes().any(|n| filled(&n) && matches!(n.data().kind, Kind::Text(_)));
        if !node.is_element() || has_text || !node.nodes().any(|n| filled(&n)) {
            let mut line = String::new();
            inline(node, &mut line);
            self.lines.push((depth, line));
            return;
        }
        let mut start = String::new();
        start_tag(node, &mut start);
        self.lines.push((depth, start + ">"));
        for child in node.nodes().filter(filled) {
            self.block(child, depth + 1);
        }
        self.lines.push((depth, format!("</{}>", node.name())));
    }
}

/// Name spaces that `node` declares, and those from further out that its descendants use, by the attributes that declare
/// them.
pub(crate) fn spaces(node: Node<'_>) -> Vec<(String, String)> {
    let own = node.attributes().iter().filter(|attribute| declares(attribute.name));
    let mut found = Found { spaces: own.map(|a| (a.name, a.value.as_ref())).collect(), ..Found::default() };
    found.inside.extend(found.spaces.iter().map(|(name, _)| (*name, 1)));
    for outer in std::iter::successors(node.parent(), |outer| outer.parent()) {
        for attribute in outer.attributes().iter().filter(|attribute| declares(attribute.name)) {
            found.outside.entry(attribute.name).or_insert(&attribute.value);
        }
    }
    node.children().for_each(|child| found.look(child));
    found.spaces.into_iter().map(|(name, space)| (name.to_owned(), space.to_owned())).collect()
}

/// Declarations of name spaces around what is looked at, and those that are needed.
#[derive(Default)]
struct Found<'d> {
    outside: HashMap<&'d str, &'d str>,
    /// How often each is declared between where the search began and here.
    inside: HashMap<&'d str, usize>,
    spaces: Vec<(&'d str, &'d str)>,
}

impl<'d> Found<'d> {
    /// Depth is bounded by the parser.
    fn look(&mut self, node: Node<'d>) {
        let own = || node.attributes().iter().map(|attribute| attribute.name).filter(|name| declares(name));
        own().for_each(|name| *self.inside.entry(name).or_default() += 1);
        let names = node.attributes().iter().map(|attribute| attribute.name).filter(|name| !declares(name));
        for prefix in std::iter::once(node.name()).chain(names).filter_map(|name| name.split_once(':')) {
            let name = format!("xmlns:{}", prefix.0);
            if self.inside.get(name.as_str()).is_none_or(|times| *times == 0)
                && let Some((name, space)) = self.outside.remove_entry(name.as_str())
            {
                self.spaces.push((name, space));
            }
        }
        node.children().for_each(|child| self.look(child));
        own().for_each(|name| *self.inside.entry(name).or_default() -= 1);
    }
}

/// Whether an attribute declares a name space.
fn declares(name: &str) -> bool {
    name == "xmlns" || name.starts_with("xmlns:")
}

/// A node within a line.
fn inline(node: Node<'_>, out: &mut String) {
    match &node.data().kind {
        Kind::Text(text) => escape(out, text, false),
        Kind::Comment(text) => {
            out.push_str("<!--");
            out.push_str(text);
            out.push_str("-->");
        }
        Kind::Instruction(text) => {
            out.push_str("<?");
            out.push_str(text);
            out.push_str("?>");
        }
        Kind::Element { name, .. } => {
            start_tag(node, out);
            let content =
                node.nodes().any(|n| !matches!(&n.data().kind, Kind::Text(t) if t.trim().is_empty()));
            if !content {
                out.push_str("/>");
                return;
            }
            out.push('>');
            for child in node.nodes() {
                inline(child, out);
            }
            out.push_str("</");
            out.push_str(name);
            out.push('>');
        }
    }
}

/// The start tag without its end; namespace declarations come first.
fn start_tag(node: Node<'_>, out: &mut String) {
    out.push('<');
    out.push_str(node.name());
    let (spaces, others): (Vec<_>, Vec<_>) = node.attributes().iter().partition(|a| declares(a.name));
    for attribute in spaces.into_iter().chain(others) {
        out.push(' ');
        out.push_str(attribute.name);
        out.push_str("=\"");
        escape(out, &attribute.value, true);
        out.push('"');
    }
}

fn escape(out: &mut String, text: &str, in_attribute: bool) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' if in_attribute => out.push_str("&quot;"),
            '\n' if in_attribute => out.push_str("&#10;"),
            '\t' if in_attribute => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_on_lines_of_their_own_unless_mixed_with_text() {
        let raw = Raw::parse("<a:x  b='1' xmlns:a='u'>  <c/><d>t <e/> u</d>\n<!-- n --></a:x>").unwrap();
        assert_eq!((raw.name(), raw.namespace()), ("a:x", Some("u")));
        let expected = "<a:x xmlns:a=\"u\" b=\"1\">\n  <c/>\n  <d>t <e/> u</d>\n  <!-- n -->\n</a:x>";
        assert_eq!(raw.to_xml(), expected);
        assert_eq!(Raw::parse(expected).unwrap(), raw);
    }
}
