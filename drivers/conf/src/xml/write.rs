//! Tree to text, in libvirt's layout: two spaces a level, single quotes.

use crate::FormatOptions;

/// Builds a document. What has neither attribute nor content can be taken back as if never begun.
#[derive(Debug)]
pub struct Writer<'o> {
    out: String,
    depth: usize,
    /// The start tag of the innermost element still lacks its `>`.
    tag_open: bool,
    /// The innermost element holds text, so that its end tag stands beside it.
    has_text: bool,
    /// What to show.
    pub options: &'o FormatOptions,
}

/// Where an element began.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    start: usize,
    head: usize,
    tag_was_open: bool,
}

const SPACES: &str = "                                                                ";

impl<'o> Writer<'o> {
    /// An empty document.
    pub fn new(options: &'o FormatOptions) -> Self {
        Self { out: String::with_capacity(4096), depth: 0, tag_open: false, has_text: false, options }
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.out
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth / 32 {
            self.out.push_str(SPACES);
        }
        self.out.push_str(&SPACES[..2 * (depth % 32)]);
    }

    fn end_tag_head(&mut self) {
        if self.tag_open {
            self.out.push_str(">\n");
            self.tag_open = false;
        }
    }

    /// Begins an element.
    pub fn open(&mut self, name: &str) -> Mark {
        let (start, tag_was_open) = (self.out.len(), self.tag_open);
        self.end_tag_head();
        self.indent(self.depth);
        self.out.push('<');
        self.out.push_str(name);
        self.depth += 1;
        self.tag_open = true;
        Mark { start, head: self.out.len(), tag_was_open }
    }

    /// An attribute of the element just begun.
    pub fn attribute(&mut self, name: &str, value: &str) {
        debug_assert!(self.tag_open, "attribute {name} after content");
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        escape(&mut self.out, value);
        self.out.push('\'');
    }

    /// The declaration of a name space, as libxml2 writes it.
    pub(crate) fn namespace(&mut self, name: &str, space: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape(&mut self.out, space);
        self.out.push('"');
    }

    /// Ends the element.
    pub fn close(&mut self, name: &str) {
        self.depth -= 1;
        if self.tag_open {
            self.out.push_str("/>\n");
            self.tag_open = false;
        } else {
            if !std::mem::take(&mut self.has_text) {
                self.indent(self.depth);
            }
            self.end_tag(name);
        }
    }

    /// Ends the element, or takes it back if nothing was put into it.
    pub fn close_unless_empty(&mut self, name: &str, mark: Mark) {
        if self.out.len() == mark.head {
            self.depth -= 1;
            self.out.truncate(mark.start);
            self.tag_open = mark.tag_was_open;
        } else {
            self.close(name);
        }
    }

    /// Text as the only content of the element just begun.
    pub fn text(&mut self, text: &str) {
        debug_assert!(self.tag_open, "text after other content");
        self.tag_open = false;
        self.has_text = true;
        self.out.push('>');
        escape(&mut self.out, text);
    }

    /// An element that holds only text.
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// An element with nothing in it.
    pub fn empty(&mut self, name: &str) {
        self.open(name);
        self.close(name);
    }

    /// Elements that are XML already, as they are.
    pub fn verbatim(&mut self, xml: &str) {
        self.end_tag_head();
        self.out.push_str(xml);
    }

    /// One line that is XML already.
    pub(super) fn raw_line(&mut self, depth: usize, xml: &str) {
        self.end_tag_head();
        self.indent(self.depth + depth);
        self.out.push_str(xml);
        self.out.push('\n');
    }

    /// Ends the element as a pair of tags even if nothing is in it.
    pub fn close_pair(&mut self, name: &str) {
        self.end_tag_head();
        self.close(name);
    }

    fn end_tag(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push_str(">\n");
    }
}

/// Appends `text` with markup characters replaced. Control characters have no place in XML and are left out.
pub(super) fn escape(out: &mut String, text: &str) {
    let special =
        |c: char| matches!(c, '<' | '>' | '&' | '\'' | '"') || ((c as u32) < 32 && c != '\n' && c != '\t');
    let mut rest = text;
    while let Some(n) = rest.find(special) {
        out.push_str(&rest[..n]);
        out.push_str(match rest.as_bytes()[n] {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'\'' => "&apos;",
            b'"' => "&quot;",
            _ => "",
        });
        rest = &rest[n + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_empty_can_be_taken_back() {
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        out.open("a");
        let outer = out.open("b");
        let inner = out.open("c");
        out.close_unless_empty("c", inner);
        out.close_unless_empty("b", outer);
        out.attribute("still", "a's");
        out.leaf("d", "<e>");
        out.close("a");
        assert_eq!(out.finish(), "<a still='a&apos;s'>\n  <d>&lt;e&gt;</d>\n</a>\n");
    }
}
