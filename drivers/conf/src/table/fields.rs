//! How Rust types stand for attributes and elements: required, optional, repeated.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Bad, Element, Field, Refusal, Result, Value};
use crate::xml::{Node, Writer};

/// A field that is an attribute.
pub trait AttrField: Sized {
    /// Reads attribute `name` of `node`.
    ///
    /// # Errors
    /// A missing required or a bad value.
    fn read_attr(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self>;
    /// Writes it.
    fn write_attr(&self, out: &mut Writer<'_>, name: &str);
}

/// A field that is the element's own text.
pub trait TextField: Sized {
    /// Reads the text of `node`.
    ///
    /// # Errors
    /// A bad value.
    fn read_text(node: Node<'_>, refusal: Refusal) -> Result<Self>;
    /// Writes it.
    fn write_text(&self, out: &mut Writer<'_>);
}

/// A field that is a child with only text.
pub trait LeafField: Sized {
    /// Whether there may be several.
    const MANY: bool = false;

    /// Reads the text of the child `name` of `node`.
    ///
    /// # Errors
    /// A missing required or a bad value.
    fn read_leaf(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self>;
    /// Writes it.
    fn write_leaf(&self, out: &mut Writer<'_>, name: &str);
}

/// A field that is one or more child elements.
pub trait ChildField: Sized {
    /// Whether there may be several.
    const MANY: bool = false;

    /// Reads the children `name` of `node`.
    ///
    /// # Errors
    /// What reading the child ends with.
    fn read_child(node: Node<'_>, name: &str) -> Result<Self>;
    /// Writes it.
    fn write_child(&self, out: &mut Writer<'_>, name: &str, empty: Empty);
    /// The lines of the child's table.
    fn fields() -> &'static [Field];
}

/// What becomes of a child with nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// Left out.
    Omit,
    /// `<child/>`
    Keep,
    /// `<child>` and `</child>`
    Pair,
}

impl<V: Value> AttrField for Option<V> {
    fn read_attr(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self> {
        let Some(text) = node.attribute(name) else { return Ok(None) };
        V::parse(text).map_err(|bad| refuse(bad, text, refusal, || bad_attribute(node, name)))
    }

    fn write_attr(&self, out: &mut Writer<'_>, name: &str) {
        if let Some(value) = self {
            out.attribute(name, &value.show());
        }
    }
}

impl<V: Value> AttrField for V {
    fn read_attr(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self> {
        match Option::<V>::read_attr(node, name, refusal)? {
            Some(value) => Ok(value),
            None if node.attribute(name).is_some() => Err(ErrorDomain::XML.xml_error(format_args!(
                "{}: '{}'.",
                bad_attribute(node, name),
                node.attribute(name).unwrap_or_default()
            ))),
            None => Err(refusal.and_then(|refusal| refusal(None)).unwrap_or_else(|| missing(node, name))),
        }
    }

    fn write_attr(&self, out: &mut Writer<'_>, name: &str) {
        out.attribute(name, &self.show());
    }
}

impl<V: Value> TextField for Option<V> {
    fn read_text(node: Node<'_>, refusal: Refusal) -> Result<Self> {
        let text = node.text();
        if text.is_empty() || node.children().next().is_some() {
            return Ok(None);
        }
        V::parse(&text).map_err(|bad| refuse(bad, &text, refusal, || bad_text(node)))
    }

    fn write_text(&self, out: &mut Writer<'_>) {
        if let Some(value) = self {
            out.text(&value.show());
        }
    }
}

impl<V: Value + Default> TextField for V {
    fn read_text(node: Node<'_>, refusal: Refusal) -> Result<Self> {
        Option::<V>::read_text(node, refusal).map(Option::unwrap_or_default)
    }

    fn write_text(&self, out: &mut Writer<'_>) {
        out.text(&self.show());
    }
}

impl<V: Value> LeafField for Option<V> {
    fn read_leaf(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self> {
        node.child(name).map_or(Ok(None), |child| Self::read_text(child, refusal))
    }

    fn write_leaf(&self, out: &mut Writer<'_>, name: &str) {
        if let Some(value) = self {
            out.leaf(name, &value.show());
        }
    }
}

impl<V: Value> LeafField for Vec<V> {
    const MANY: bool = true;

    fn read_leaf(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self> {
        node.children()
            .filter(|child| child.is(name))
            .filter_map(|child| Option::<V>::read_text(child, refusal).transpose())
            .collect()
    }

    fn write_leaf(&self, out: &mut Writer<'_>, name: &str) {
        for value in self {
            out.leaf(name, &value.show());
        }
    }
}

impl<V: Value + Default> LeafField for V {
    fn read_leaf(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Self> {
        Option::<V>::read_leaf(node, name, refusal).map(Option::unwrap_or_default)
    }

    fn write_leaf(&self, out: &mut Writer<'_>, name: &str) {
        out.leaf(name, &self.show());
    }
}

fn write_one<E: Element>(element: &E, out: &mut Writer<'_>, name: &str, empty: Empty) {
    let mark = out.open(name);
    element.write(out);
    match empty {
        Empty::Omit => out.close_unless_empty(name, mark),
        Empty::Keep => out.close(name),
        Empty::Pair => out.close_pair(name),
    }
}

impl<E: Element> ChildField for Option<E> {
    fn read_child(node: Node<'_>, name: &str) -> Result<Self> {
        node.child(name).filter(|child| !E::is_nothing(*child)).map(E::read).transpose()
    }

    fn write_child(&self, out: &mut Writer<'_>, name: &str, empty: Empty) {
        if let Some(element) = self {
            write_one(element, out, name, empty);
        }
    }

    fn fields() -> &'static [Field] {
        E::FIELDS
    }
}

impl<E: Element> ChildField for Vec<E> {
    const MANY: bool = true;

    fn read_child(node: Node<'_>, name: &str) -> Result<Self> {
        node.children().filter(|child| child.is(name)).map(E::read).collect()
    }

    fn write_child(&self, out: &mut Writer<'_>, name: &str, empty: Empty) {
        for element in self {
            write_one(element, out, name, empty);
        }
    }

    fn fields() -> &'static [Field] {
        E::FIELDS
    }
}

impl<E: Element + Default> ChildField for E {
    fn read_child(node: Node<'_>, name: &str) -> Result<Self> {
        Option::<E>::read_child(node, name).map(Option::unwrap_or_default)
    }

    fn write_child(&self, out: &mut Writer<'_>, name: &str, empty: Empty) {
        write_one(self, out, name, empty);
    }

    fn fields() -> &'static [Field] {
        E::FIELDS
    }
}

/// A box is for elements that hold themselves.
impl<E: Element> Element for Box<E> {
    const FIELDS: &'static [Field] = E::FIELDS;

    fn read(node: Node<'_>) -> Result<Self> {
        E::read(node).map(Box::new)
    }

    fn write(&self, out: &mut Writer<'_>) {
        (**self).write(out);
    }
}

/// An attribute that may be absent.
#[doc(hidden)]
pub fn optional_attr<V: Value>(node: Node<'_>, name: &str, refusal: Refusal) -> Result<Option<V>> {
    Option::<V>::read_attr(node, name, refusal)
}

/// The table's own error for a child with a bad value.
#[doc(hidden)]
pub fn refuse_child(error: VirtError, refusal: Refusal) -> VirtError {
    let own = refusal.filter(|_| error.domain == ErrorDomain::XML);
    own.and_then(|refusal| refusal(Some(""))).unwrap_or(error)
}

/// Whether the attribute `name`, if it is there, says one of `words`.
#[doc(hidden)]
pub fn one_of(node: Node<'_>, name: &str, words: &[&str], refusal: Refusal) -> Result<()> {
    match node.attribute(name) {
        Some(text) if !words.contains(&text) => {
            Err(refuse(Bad::Keyword, text, refusal, || bad_attribute(node, name)))
        }
        _ => Ok(()),
    }
}

/// Which of `words` the attribute `name` says.
#[doc(hidden)]
pub fn choice_word(node: Node<'_>, name: &str, words: &'static [&'static str]) -> Result<&'static str> {
    let text = String::read_attr(node, name, None)?;
    let known = words.iter().find(|word| **word == text);
    known.copied().ok_or_else(|| refuse(Bad::Keyword, &text, None, || bad_attribute(node, name)))
}

/// libvirt's error for an attribute that must be there.
pub(crate) fn missing(node: Node<'_>, name: &str) -> VirtError {
    let element = node.name();
    ErrorDomain::XML.xml_error(format_args!("Missing required attribute '{name}' in element '{element}'"))
}

fn bad_attribute(node: Node<'_>, name: &str) -> String {
    format!("Invalid value for attribute '{name}' in element '{}'", node.name())
}

fn bad_text(node: Node<'_>) -> String {
    format!("Invalid value for element '{}'", node.name())
}

#[cold]
fn refuse(bad: Bad, value: &str, refusal: Refusal, place: impl Fn() -> String) -> VirtError {
    if let Some(error) = refusal.and_then(|refusal| refusal(Some(value))) {
        return error;
    }
    let place = place();
    match bad {
        Bad::Keyword => ErrorDomain::XML.xml_error(format_args!("{place}: '{value}'.")),
        Bad::Number(expected) => {
            ErrorDomain::XML.xml_error(format_args!("{place}: '{value}'. Expected {expected} value"))
        }
        Bad::Zero => ErrorDomain::XML.xml_error(format_args!("{place}: Zero is not permitted")),
        Bad::Other(error) => *error,
    }
}

/// Whether there is at most one child `name`.
#[doc(hidden)]
pub fn sole(node: Node<'_>, name: &str, refusal: Refusal) -> Result<()> {
    let several = node.children().filter(|child| child.is(name)).nth(1).is_some();
    match refusal.filter(|_| several).and_then(|refusal| refusal(Some(""))) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
