//! Text to tree, with libxml2's words for what is wrong.

use std::borrow::Cow;
use std::collections::HashSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::declaration;
use super::{Attribute, Document, Kind, NONE, NodeData};

/// Elements nested deeper are refused.
pub const MAX_DEPTH: usize = 256;

/// Nodes and attributes are counted in 32 bits; no document that fits a message has more bytes.
const MAX_LENGTH: usize = 1 << 30;

type Result<T> = std::result::Result<T, Fault>;

/// What is wrong, found where the cursor stands.
struct Fault(Cow<'static, str>);

fn fault<T>(text: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Fault(text.into()))
}

pub(super) fn parse(text: &str, domain: ErrorDomain) -> std::result::Result<Document<'_>, VirtError> {
    let mut parser = Parser {
        text,
        at: 0,
        document: Document { nodes: Vec::with_capacity(text.len() / 24), attributes: Vec::new() },
        entities: Vec::new(),
    };
    match parser.document() {
        Ok(()) => Ok(parser.document),
        Err(Fault(what)) => Err(domain.xml_detail(parser.describe(&what))),
    }
}

struct Parser<'i> {
    text: &'i str,
    at: usize,
    document: Document<'i>,
    /// General entities of the internal subset: name and text.
    entities: Vec<(&'i str, &'i str)>,
}

/// An element whose end tag is still to come.
struct Open<'i> {
    name: &'i str,
    start: usize,
    id: u32,
}

impl<'i> Parser<'i> {
    /// The message: line number, text, the line it is on and a pointer below it.
    fn describe(&self, what: &str) -> String {
        let before = &self.text[..self.at];
        let line = 1 + before.matches('\n').count();
        if self.text.is_empty() {
            return format!("at line {line}: {what}\n(null)\n^");
        }
        let end = before.trim_end_matches(['\n', '\r']);
        let start = end.rfind('\n').map_or(0, |n| n + 1);
        let shown = self.text[start..].lines().next().unwrap_or_default();
        let pointer = "-".repeat(end.len() - start);
        format!("at line {line}: {what}\n{shown}\n{pointer}^")
    }

    fn line_of(&self, offset: usize) -> usize {
        1 + self.text[..offset].matches('\n').count()
    }

    fn rest(&self) -> &'i str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn skip_space(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at > start
    }

    /// Takes everything up to `end` and `end` itself; at the end of the text gives None.
    fn until(&mut self, end: &str) -> Option<&'i str> {
        let rest = self.rest();
        match rest.find(end) {
            Some(n) => {
                self.at += n + end.len();
                Some(&rest[..n])
            }
            None => {
                self.at = self.text.len();
                None
            }
        }
    }

    fn name(&mut self) -> Option<&'i str> {
        let rest = self.rest();
        let starts = |c: char| c == '_' || c == ':' || c.is_alphabetic();
        let goes_on = |c: char| starts(c) || c == '-' || c == '.' || c == '\u{b7}' || c.is_numeric();
        // Nearly all names are ASCII: of these no character needs decoding.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-' | b'.');
        let mut end = rest.bytes().position(|b| !plain(b)).unwrap_or(rest.len());
        if rest.as_bytes().get(end).is_some_and(|b| !b.is_ascii()) {
            end = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
        }
        let name = &rest[..end];
        let good = name.starts_with(starts);
        if good {
            self.at += end;
        }
        good.then_some(name)
    }

    fn document(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return fault("Document is empty");
        }
        if self.text.len() > MAX_LENGTH {
            return fault("Document too large");
        }
        self.eat("\u{feff}");
        if self.rest().strip_prefix("<?xml").is_some_and(|rest| rest.starts_with([' ', '\t', '\n', '\r'])) {
            match declaration::read(self.rest()) {
                Ok(length) => self.at += length,
                Err((behind, what)) => {
                    self.at += behind;
                    return fault(what);
                }
            }
        }
        self.misc()?;
        if self.eat("<!DOCTYPE") {
            self.doctype()?;
            self.misc()?;
        }
        if self.peek() != Some(b'<') {
            return fault("Start tag expected, '<' not found");
        }
        self.elements()?;
        self.misc()?;
        if self.at < self.text.len() {
            return fault("Extra content at the end of the document");
        }
        Ok(())
    }

    /// White space, comments and processing instructions around the root element.
    fn misc(&mut self) -> Result<()> {
        loop {
            self.skip_space();
            if self.eat("<!--") {
                self.comment()?;
            } else if self.eat("<?") {
                self.instruction()?;
            } else {
                return Ok(());
            }
        }
    }

    fn comment(&mut self) -> Result<&'i str> {
        let start = self.at;
        let Some(text) = self.until("--") else { return fault("Comment not terminated") };
        if !self.eat(">") {
            self.at = start + text.len();
            let shown: String = text.chars().take(50).collect();
            return fault(format!("Double hyphen within comment: <!--{shown}"));
        }
        Ok(text)
    }

    fn instruction(&mut self) -> Result<&'i str> {
        let start = self.at;
        let Some(target) = self.name() else { return fault("xmlParsePI : no target name") };
        if target == "xml" {
            return fault("XML declaration allowed only at the start of the document");
        }
        match self.until("?>") {
            Some(_) => Ok(&self.text[start..self.at - 2]),
            None => fault(format!("PI {target} never end ...")),
        }
    }

    /// Reads the internal subset for plain entities; everything else in it is passed over. External
    /// identifiers are never followed.
    fn doctype(&mut self) -> Result<()> {
        loop {
            let rest = self.rest();
            let Some(n) = rest.find(['>', '[', '\'', '"']) else {
                self.at = self.text.len();
                return fault("DOCTYPE improperly terminated");
            };
            self.at += n + 1;
            match rest.as_bytes()[n] {
                b'>' => return Ok(()),
                b'[' => self.internal_subset()?,
                quote => {
                    self.until(if quote == b'"' { "\"" } else { "'" });
                }
            }
        }
    }

    fn internal_subset(&mut self) -> Result<()> {
        loop {
            self.skip_space();
            if self.eat("]") {
                return Ok(());
            }
            if self.eat("<!--") {
                self.comment()?;
                continue;
            }
            let declares = self.eat("<!ENTITY");
            self.skip_space();
            let name = if declares { self.name() } else { None };
            self.skip_space();
            let mut value = None;
            loop {
                let rest = self.rest();
                let Some(n) = rest.find(['>', '\'', '"']) else {
                    self.at = self.text.len();
                    return fault(
                        "internal error: xmlParseInternalSubset: error detected in Markup declaration",
                    );
                };
                self.at += n + 1;
                let quote = match rest.as_bytes()[n] {
                    b'>' => break,
                    b'"' => "\"",
                    _ => "'",
                };
                let text = self.until(quote);
                value = value.or(if n == 0 { text } else { None });
            }
            if let (Some(name), Some(value)) = (name, value) {
                self.entities.push((name, value));
            } else if let Some(name) = name {
                self.entities.push((name, ""));
            }
        }
    }

    /// The root element and everything in it.
    fn elements(&mut self) -> Result<()> {
        let mut open: Vec<Open<'i>> = Vec::new();
        loop {
            if self.eat("</") {
                let Some(top) = open.pop() else {
                    self.at -= 1;
                    return fault("StartTag: invalid element name");
                };
                self.end_tag(&top)?;
            } else if self.eat("<!--") {
                let text = self.comment()?;
                self.add(Kind::Comment(text), &open);
            } else if self.eat("<![CDATA[") {
                let Some(text) = self.until("]]>") else { return fault("Unregistered error message") };
                self.add_text(Cow::Borrowed(text), &open);
            } else if self.eat("<?") {
                let text = self.instruction()?;
                self.add(Kind::Instruction(text), &open);
            } else if self.peek() == Some(b'<') {
                if let Some(started) = self.start_tag(&open)? {
                    open.push(started);
                }
            } else if self.at == self.text.len() {
                let Some(top) = open.last() else { return Ok(()) };
                return fault(format!(
                    "Premature end of data in tag {} line {}",
                    top.name,
                    self.line_of(top.start)
                ));
            } else {
                let text = self.characters()?;
                self.add_text(text, &open);
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    fn end_tag(&mut self, top: &Open<'i>) -> Result<()> {
        let name = self.name();
        self.skip_space();
        if !self.eat(">") {
            return fault("expected '>'");
        }
        match name {
            Some(name) if name == top.name => Ok(()),
            name => fault(format!(
                "Opening and ending tag mismatch: {} line {} and {}",
                top.name,
                self.line_of(top.start),
                name.unwrap_or("unparsable")
            )),
        }
    }

    /// Some if its end tag is still to come.
    fn start_tag(&mut self, open: &[Open<'i>]) -> Result<Option<Open<'i>>> {
        let start = self.at;
        self.at += 1;
        let Some(name) = self.name() else { return fault("StartTag: invalid element name") };
        let first = self.document.attributes.len();
        let mut twice = None;
        let mut names = HashSet::new();
        loop {
            let spaced = self.skip_space();
            match self.peek() {
                Some(b'>' | b'/') => break,
                None if self.document.attributes.len() == first => break,
                _ if !spaced && self.document.attributes.len() > first => {
                    return fault("attributes construct error");
                }
                _ => {}
            }
            let Some(attribute) = self.name() else { break };
            self.skip_space();
            if !self.eat("=") {
                return fault(format!("Specification mandates value for attribute {attribute}"));
            }
            self.skip_space();
            let value = self.attribute_value()?;
            let own = &self.document.attributes[first..];
            // A few are compared with each other, many are remembered.
            let known = if own.len() < 32 {
                own.iter().any(|a| a.name == attribute)
            } else {
                if names.is_empty() {
                    names.extend(own.iter().map(|a| a.name));
                }
                !names.insert(attribute)
            };
            if known {
                twice = twice.or(Some(attribute));
            }
            self.document.attributes.push(Attribute { name: attribute, value });
        }
        if let Some(attribute) = twice {
            return fault(format!("Attribute {attribute} redefined"));
        }
        let attributes = first as u32..self.document.attributes.len() as u32;
        let empty = self.eat("/>");
        if !empty && !self.eat(">") {
            return fault(format!("Couldn't find end of Start Tag {name} line {}", self.line_of(start)));
        }
        if open.len() >= MAX_DEPTH {
            return fault(format!("Excessive depth in document: {MAX_DEPTH} use XML_PARSE_HUGE option"));
        }
        let id = self.add(Kind::Element { name, attributes }, open);
        Ok((!empty).then_some(Open { name, start, id }))
    }

    fn attribute_value(&mut self) -> Result<Cow<'i, str>> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return fault("AttValue: \" or ' expected"),
        };
        self.at += 1;
        let mut value = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let stop = |b: u8| b == quote || b == b'<' || b == b'&' || b < 32;
            let Some(n) = rest.bytes().position(stop) else {
                self.at = self.text.len();
                return fault(format!("AttValue: {} expected", char::from(quote)));
            };
            push(&mut value, &rest[..n]);
            self.at += n;
            match rest.as_bytes()[n] {
                b'<' => return fault("Unescaped '<' not allowed in attributes values"),
                b'&' => {
                    let text = self.reference()?;
                    value.to_mut().push_str(&text);
                }
                b'\n' | b'\t' | b'\r' => {
                    self.at += 1;
                    value.to_mut().push(' ');
                }
                c if c < 32 => return fault("invalid character in attribute value"),
                _ => {
                    self.at += 1;
                    return Ok(value);
                }
            }
        }
    }

    fn characters(&mut self) -> Result<Cow<'i, str>> {
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let control = |b: u8| b < 32 && b != b'\n' && b != b'\t';
            let stop = |b: u8| matches!(b, b'<' | b'&' | b']') || control(b);
            let n = rest.bytes().position(stop).unwrap_or(rest.len());
            push(&mut text, &rest[..n]);
            self.at += n;
            match rest.as_bytes().get(n) {
                None | Some(b'<') => return Ok(text),
                Some(b'&') => {
                    let referred = self.reference()?;
                    text.to_mut().push_str(&referred);
                }
                Some(b']') => {
                    if rest[n..].starts_with("]]>") {
                        return fault("Sequence ']]>' not allowed in content");
                    }
                    push(&mut text, "]");
                    self.at += 1;
                }
                Some(b'\r') => {
                    self.at += 1;
                    if self.peek() != Some(b'\n') {
                        text.to_mut().push('\n');
                    }
                }
                Some(c) => return fault(format!("PCDATA invalid Char value {c}")),
            }
        }
    }

    /// What an entity or character reference stands for.
    fn reference(&mut self) -> Result<Cow<'i, str>> {
        self.at += 1;
        if self.eat("#") {
            return self.character_reference().map(|c| Cow::Owned(c.to_string()));
        }
        let Some(name) = self.name() else { return fault("xmlParseEntityRef: no name") };
        if !self.eat(";") {
            return fault("EntityRef: expecting ';'");
        }
        let text = match name {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "apos" => "'",
            _ => match self.entities.iter().find(|(n, _)| *n == name) {
                None => return fault(format!("Entity '{name}' not defined")),
                // Entities of entities are what bombs are made of; no libvirt document needs them.
                Some((_, text)) if text.contains('&') => return fault("Detected an entity reference loop"),
                Some((_, text)) => text,
            },
        };
        Ok(Cow::Borrowed(text))
    }

    fn character_reference(&mut self) -> Result<char> {
        let (radix, kind) = match self.eat("x") {
            true => (16, "CharRef: invalid hexadecimal value"),
            false => (10, "xmlParseCharRef: invalid decimal value"),
        };
        let mut value = 0u32;
        while let Some(digit) = self.peek().and_then(|c| char::from(c).to_digit(radix)) {
            value = value.saturating_mul(radix).saturating_add(digit).min(0x11_0000);
            self.at += 1;
        }
        if !self.eat(";") {
            return fault(kind);
        }
        if value >= 0x11_0000 {
            return fault("xmlParseCharRef: character reference out of bounds");
        }
        match char::from_u32(value) {
            Some(c) if (c >= ' ' && !is_none(c)) || matches!(c, '\n' | '\r' | '\t') => Ok(c),
            _ => fault(format!("xmlParseCharRef: invalid xmlChar value {value}")),
        }
    }

    fn add_text(&mut self, text: Cow<'i, str>, open: &[Open<'i>]) {
        if let Some(top) = open.last() {
            let last = self.document.nodes[top.id as usize].last_child;
            if let Kind::Text(before) = &mut self.document.nodes[last as usize].kind {
                before.to_mut().push_str(&text);
                return;
            }
        }
        self.add(Kind::Text(text), open);
    }

    fn add(&mut self, kind: Kind<'i>, open: &[Open<'i>]) -> u32 {
        let nodes = &mut self.document.nodes;
        let id = nodes.len() as u32;
        let parent = open.last().map_or(0, |top| top.id);
        nodes.push(NodeData { kind, parent, first_child: NONE, last_child: NONE, next: NONE });
        if id != 0 {
            let before = std::mem::replace(&mut nodes[parent as usize].last_child, id);
            if before == NONE {
                nodes[parent as usize].first_child = id;
            } else {
                nodes[before as usize].next = id;
            }
        }
        id
    }
}

/// Whether Unicode will never have such a character, of those that XML leaves out.
const fn is_none(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Appends without copying as long as there is only one piece.
fn push<'i>(text: &mut Cow<'i, str>, piece: &'i str) {
    if text.is_empty() {
        *text = Cow::Borrowed(piece);
    } else if !piece.is_empty() {
        text.to_mut().push_str(piece);
    }
}
