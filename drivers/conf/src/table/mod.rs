//! Definitions as tables.
//!
//! An element of a libvirt document is one [`element!`](crate::element) table. The struct, its reader, its writer, its
//! documentation and [`Element::FIELDS`] all come from the table; a new attribute is one line:
//!
//! ```
//! use virtwire_conf::table::{Element, read_document, write_document};
//! use virtwire_conf::{FormatOptions, element, keywords};
//!
//! keywords! {
//!     /// What carries the lamp's orders.
//!     pub enum LampBus { Wire = "wire", Air = "air" }
//! }
//!
//! element! {
//!     /// `<lamp>`: a lamp beside the guest.
//!     pub struct Lamp {
//!         attr bus: LampBus;                             // required
//!         attr brightness "max-brightness": Option<u32>; // named differently in XML
//!         attr password if secure: Option<String>;       // shown only with VIR_DOMAIN_XML_SECURE
//!         leaf colours "colour": Vec<String>;            // <colour>red</colour>, any number
//!         flag dimmable;                                 // <dimmable/>
//!         child driver: Option<LampDriver>;              // another table
//!     }
//! }
//!
//! element! {
//!     /// `<driver>` of a lamp.
//!     pub struct LampDriver {
//!         attr queues: Option<u32>;
//!     }
//! }
//!
//! let lamp: Lamp = read_document("<lamp bus='air'><colour>red</colour><dimmable/><new/></lamp>", "lamp").unwrap();
//! assert_eq!(lamp.bus, LampBus::Air);
//! assert!(lamp.dimmable);
//! let text = write_document("lamp", &lamp, &FormatOptions::default());
//! assert_eq!(text, "<lamp bus='air'>\n  <colour>red</colour>\n  <dimmable/>\n</lamp>\n");
//!
//! let bad = read_document::<Lamp>("<lamp bus='tin'/>", "lamp").unwrap_err();
//! assert_eq!(bad.message, "XML error: Invalid value for attribute 'bus' in element 'lamp': 'tin'.");
//! ```
//!
//! # Kinds of lines
//!
//! | line | in XML | Rust types |
//! |---|---|---|
//! | `attr` | an attribute | `V` (required), `Option<V>` |
//! | `attr_default` | an attribute that is always shown | `V`, `V::default()` where absent |
//! | `loose` | an attribute; a word that it does not know says nothing | `Option<V>` |
//! | `text` | the element's own text | `V`, `Option<V>` |
//! | `leaf` | a child with only text | `V` (required), `Option<V>`, `Vec<V>` |
//! | `flag` | an empty child | `bool` |
//! | `child` | a child element, left out of the output if empty | `E`, `Option<E>`, `Vec<E>`, `Option<Box<E>>` |
//! | `sole` | a child of which a second one is refused, in the words behind `=>` | `Option<E>` |
//! | `kept` | a child that is shown even if empty | `Option<E>`, `Vec<E>` |
//! | `pair` | a child that is shown as a pair of tags even if it has no children | `E`, `Vec<E>` |
//! | `flat` | lines of another table, in place | `E` |
//!
//! `V` is a [`Value`], `E` an [`Element`]. Lines are written in the order of the table, which is libvirt's order of output.
//! After the name, `if NAME` asks the method `NAME` of [`FormatOptions`](crate::FormatOptions) whether to show the line. After the type,
//! `| "a" | "b"` lists what a text may be, and `=> DOMAIN.CODE "text {}"` replaces libvirt's usual error for a
//! bad value, a second one after a comma that for a missing one. What fits no table implements [`Element`] by hand and stands in a table like any other.
//! Elements and attributes that no line knows are dropped, as libvirt does.

mod fields;
mod macros;
pub(crate) mod schema;
mod value;

pub use fields::{AttrField, ChildField, Empty, LeafField, TextField};
#[doc(hidden)]
pub use fields::{choice_word, one_of, optional_attr, refuse_child, sole};
pub use value::{AnyBase, Bad, Bytes, Cpuset, Hex, KiB, Mac, Positive, Value, Wide, parse_uuid};
pub(crate) use value::{c_number, unit};

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::FormatOptions;
use crate::xml::{Document, Node, Writer};

/// What reading ends with.
pub type Result<T> = std::result::Result<T, VirtError>;

/// The error for a bad or (`None`) missing value where libvirt does not have its usual one.
pub type Refusal = Option<fn(Option<&str>) -> Option<VirtError>>;

/// Something with attributes and content in an XML document.
pub trait Element: Sized {
    /// The lines of the table.
    const FIELDS: &'static [Field] = &[];

    /// Reads it from `node`.
    ///
    /// # Errors
    /// libvirt's error for the first missing or bad value.
    fn read(node: Node<'_>) -> Result<Self>;

    /// Whether `node` says as much as nothing at all.
    fn is_nothing(node: Node<'_>) -> bool {
        let _ = node;
        false
    }

    /// Writes attributes, then content, between the start and the end of the element.
    fn write(&self, out: &mut Writer<'_>);
}

/// One line of a table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// `attr`, `leaf`, `child`, …
    pub kind: &'static str,
    /// Its name in XML.
    pub name: &'static str,
    /// Whether it may be there more than once.
    pub many: bool,
    /// The lines of the element below.
    pub fields: fn() -> &'static [Field],
}

/// Reads a document whose root element is called `root`.
///
/// # Errors
/// Malformed text, another root element, or whatever [`Element::read`] finds.
pub fn read_document<E: Element>(text: &str, root: &str) -> Result<E> {
    E::read(Document::parse_root(text, root, ErrorDomain::DOMAIN)?.root())
}

/// Writes a document with root element `root`.
pub fn write_document<E: Element>(root: &str, element: &E, options: &FormatOptions) -> String {
    let mut out = Writer::new(options);
    out.open(root);
    element.write(&mut out);
    out.close(root);
    out.finish()
}
