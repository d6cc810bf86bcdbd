//! RELAX NG (ISO/IEC 19757-2), as much of it as libvirt's schemas use: whether an element fits a grammar.
//!
//! A pattern says what may come. What remains of it behind one attribute, child or text is its *derivative*: again a
//! pattern. An element fits if what remains behind all that it has may be nothing. Patterns are kept once each, so that
//! they are compared and remembered by number; an element is held against the same pattern once.

mod compile;
mod data;

use std::collections::HashMap;

use crate::xml::{Node, Part};
use data::Data;

/// The number of a pattern.
type Id = u32;

/// What may come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    NotAllowed,
    Empty,
    Text,
    Choice(Id, Id),
    Interleave(Id, Id),
    Group(Id, Id),
    OneOrMore(Id),
    Attribute(Name, Id),
    /// Number of an [`ElementPattern`].
    Element(usize),
    Value(String),
    /// Number of a [`Data`].
    Data(usize),
}

const NOT_ALLOWED: Id = 0;
const EMPTY: Id = 1;
const TEXT: Id = 2;

/// The name of an element or attribute: its name space and local name, or any at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Any,
    Of { space: String, local: String },
}

impl Name {
    fn is(&self, space: &str, local: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of { space: own, local: name } => name == local && own == space,
        }
    }
}

/// An element, and what is in it.
#[derive(Debug)]
struct ElementPattern {
    name: Name,
    content: Id,
}

/// Patterns, each there once, on top of others that don't change.
#[derive(Debug, Default)]
struct Patterns<'b> {
    below: Option<&'b Patterns<'static>>,
    /// Each with whether nothing fits it.
    own: Vec<(Pattern, bool)>,
    known: HashMap<Pattern, Id>,
}

impl Patterns<'_> {
    /// With those that have numbers of their own.
    fn new() -> Self {
        let mut patterns = Self::default();
        for pattern in [Pattern::NotAllowed, Pattern::Empty, Pattern::Text] {
            patterns.number(pattern);
        }
        patterns
    }

    fn base(&self) -> usize {
        self.below.map_or(0, |below| below.own.len())
    }

    fn entry(&self, id: Id) -> &(Pattern, bool) {
        let (id, base) = (id as usize, self.base());
        match self.below {
            Some(below) if id < base => &below.own[id],
            _ => &self.own[id - base],
        }
    }

    /// Whether nothing at all fits.
    fn nullable(&self, id: Id) -> bool {
        self.entry(id).1
    }

    fn number(&mut self, pattern: Pattern) -> Id {
        let below = self.below.and_then(|below| below.known.get(&pattern));
        if let Some(id) = below.or_else(|| self.known.get(&pattern)) {
            return *id;
        }
        let nullable = match &pattern {
            Pattern::Empty | Pattern::Text => true,
            Pattern::Choice(a, b) => self.nullable(*a) || self.nullable(*b),
            Pattern::Interleave(a, b) | Pattern::Group(a, b) => self.nullable(*a) && self.nullable(*b),
            Pattern::OneOrMore(inner) => self.nullable(*inner),
            _ => false,
        };
        let id = (self.base() + self.own.len()) as Id;
        self.own.push((pattern.clone(), nullable));
        self.known.insert(pattern, id);
        id
    }

    fn choice(&mut self, a: Id, b: Id) -> Id {
        // Choices are chains to the left.
        let mut member = a;
        while let Pattern::Choice(rest, last) = &self.entry(member).0 {
            if *last == b {
                return a;
            }
            member = *rest;
        }
        match (a, b) {
            (NOT_ALLOWED, other) | (other, NOT_ALLOWED) => other,
            _ if member == b => a,
            _ => self.number(Pattern::Choice(a, b)),
        }
    }

    fn both(&mut self, a: Id, b: Id, pattern: fn(Id, Id) -> Pattern) -> Id {
        match (a, b) {
            (NOT_ALLOWED, _) | (_, NOT_ALLOWED) => NOT_ALLOWED,
            (EMPTY, other) | (other, EMPTY) => other,
            _ => self.number(pattern(a, b)),
        }
    }

    fn group(&mut self, a: Id, b: Id) -> Id {
        self.both(a, b, Pattern::Group)
    }

    fn interleave(&mut self, a: Id, b: Id) -> Id {
        self.both(a, b, Pattern::Interleave)
    }

    fn one_or_more(&mut self, inner: Id) -> Id {
        match inner {
            NOT_ALLOWED | EMPTY => inner,
            _ => self.number(Pattern::OneOrMore(inner)),
        }
    }

    fn optional(&mut self, inner: Id) -> Id {
        self.choice(inner, EMPTY)
    }
}

/// A schema that documents can be held against.
#[derive(Debug)]
pub struct Grammar {
    patterns: Patterns<'static>,
    elements: Vec<ElementPattern>,
    data: Vec<Data>,
    start: Id,
}

/// What doesn't fit: the name of a child of the root element, or `None` for the root element itself.
pub type Misfit<'d> = Option<&'d str>;

impl Grammar {
    /// Reads the schema in `file`; `read` gives the text of that and of those that it includes.
    ///
    /// # Errors
    /// What is missing, or not understood.
    pub fn read(file: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        compile::grammar(file, read)
    }

    /// Whether a document's root element fits.
    ///
    /// # Errors
    /// The first of its children that doesn't.
    pub fn check<'d>(&self, root: Node<'d>) -> Result<(), Misfit<'d>> {
        let patterns = Patterns { below: Some(&self.patterns), ..Patterns::default() };
        let mut matching = Matching { grammar: self, patterns, fits: HashMap::new() };
        if matching.patterns.nullable(self.start) {
            return Ok(());
        }
        let rest = matching.derive(self.start, Step::Element(root));
        if matching.patterns.nullable(rest) {
            return Ok(());
        }
        Err(matching.first_misfit(root))
    }
}

/// One thing that is there.
#[derive(Clone, Copy)]
enum Step<'d, 's> {
    Element(Node<'d>),
    Attribute { space: &'s str, local: &'s str, value: &'s str },
    Text(&'s str),
}

struct Matching<'g> {
    grammar: &'g Grammar,
    patterns: Patterns<'g>,
    /// Whether an element (its number in the document) fits an [`ElementPattern`].
    fits: HashMap<(u32, usize), bool>,
}

impl<'g> Matching<'g> {
    /// What remains of a pattern behind `step`.
    fn derive(&mut self, id: Id, step: Step<'_, '_>) -> Id {
        match self.patterns.entry(id).0.clone() {
            Pattern::NotAllowed | Pattern::Empty => NOT_ALLOWED,
            Pattern::Choice(a, b) => {
                let (a, b) = (self.derive(a, step), self.derive(b, step));
                self.patterns.choice(a, b)
            }
            Pattern::Interleave(a, b) => self.derive_either(a, b, step, Patterns::interleave),
            Pattern::Group(a, b) if matches!(step, Step::Attribute { .. }) => {
                self.derive_either(a, b, step, Patterns::group)
            }
            Pattern::Group(a, b) => {
                let first = self.derive(a, step);
                let first = self.patterns.group(first, b);
                if !self.patterns.nullable(a) {
                    return first;
                }
                let second = self.derive(b, step);
                self.patterns.choice(first, second)
            }
            Pattern::OneOrMore(inner) => {
                let first = self.derive(inner, step);
                let more = self.patterns.optional(id);
                self.patterns.group(first, more)
            }
            pattern => self.derive_leaf(&pattern, step),
        }
    }

    /// Behind a step of either of two patterns, the other is still to come.
    fn derive_either(
        &mut self,
        a: Id,
        b: Id,
        step: Step<'_, '_>,
        join: fn(&mut Patterns<'g>, Id, Id) -> Id,
    ) -> Id {
        let (left, right) = (self.derive(a, step), self.derive(b, step));
        let left = join(&mut self.patterns, left, b);
        let right = join(&mut self.patterns, a, right);
        self.patterns.choice(left, right)
    }

    fn derive_leaf(&mut self, pattern: &Pattern, step: Step<'_, '_>) -> Id {
        let fits = match (pattern, step) {
            (Pattern::Text, Step::Text(_)) => return TEXT,
            (Pattern::Value(value), Step::Text(text)) => value.split_whitespace().eq(text.split_whitespace()),
            (Pattern::Data(data), Step::Text(text)) => {
                let data = &self.grammar.data[*data];
                data.takes(text) && !self.takes(data.except, text)
            }
            (Pattern::Element(element), Step::Element(node)) => self.fits(*element, node),
            (Pattern::Attribute(name, content), Step::Attribute { space, local, value }) => {
                name.is(space, local) && self.takes(*content, value)
            }
            _ => false,
        };
        if fits { EMPTY } else { NOT_ALLOWED }
    }

    /// Whether `text` is all that `content` asks for.
    fn takes(&mut self, content: Id, text: &str) -> bool {
        let blank = text.trim().is_empty() && self.patterns.nullable(content);
        let rest = self.derive(content, Step::Text(text));
        blank || self.patterns.nullable(rest)
    }

    fn fits(&mut self, element: usize, node: Node<'_>) -> bool {
        let (prefix, local) = split(node.name());
        let grammar = self.grammar;
        let ElementPattern { name, content } = &grammar.elements[element];
        if !name.is(node.namespace(prefix).unwrap_or_default(), local) {
            return false;
        }
        if let Some(known) = self.fits.get(&(node.number(), element)) {
            return *known;
        }
        let rest = self.behind_attributes(*content, node);
        let fits = self.takes_content(rest, node);
        self.fits.insert((node.number(), element), fits);
        fits
    }

    fn behind_attributes(&mut self, content: Id, node: Node<'_>) -> Id {
        let mut rest = content;
        for attribute in node.attributes() {
            let (prefix, local) = split(attribute.name);
            if attribute.name == "xmlns" || prefix == "xmlns" {
                continue;
            }
            let space = if prefix.is_empty() { None } else { node.namespace(prefix) };
            let step = Step::Attribute { space: space.unwrap_or_default(), local, value: &attribute.value };
            rest = self.derive(rest, step);
        }
        rest
    }

    /// Children and text in their order; white space beside children is nothing.
    fn takes_content(&mut self, content: Id, node: Node<'_>) -> bool {
        if content == NOT_ALLOWED {
            return false;
        }
        if node.children().next().is_none() {
            return self.takes(content, &node.text());
        }
        let mut rest = content;
        for part in node.parts() {
            rest = match part {
                Part::Element(child) => self.derive(rest, Step::Element(child)),
                Part::Text(text) if text.trim().is_empty() => continue,
                Part::Text(text) => self.derive(rest, Step::Text(text)),
            };
            if rest == NOT_ALLOWED {
                return false;
            }
        }
        self.patterns.nullable(rest)
    }

    /// The first child that doesn't fit behind those before it, in whichever pattern takes the most of them.
    fn first_misfit<'d>(&mut self, root: Node<'d>) -> Misfit<'d> {
        let (prefix, local) = split(root.name());
        let space = root.namespace(prefix).unwrap_or_default();
        let named = self.grammar.elements.iter().filter(|element| element.name.is(space, local));
        let contents: Vec<Id> = named.map(|element| element.content).collect();
        let mut furthest = None;
        for content in contents {
            let mut rest = self.behind_attributes(content, root);
            for (n, child) in root.children().enumerate() {
                rest = self.derive(rest, Step::Element(child));
                if rest == NOT_ALLOWED {
                    furthest = furthest.max(Some((n, child.name())));
                    break;
                }
            }
        }
        furthest.map(|(_, name)| name)
    }
}

/// Prefix and local name.
fn split(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}
