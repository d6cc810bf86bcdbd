//! A definition file as it is written, before names are resolved.

pub use crate::diagnostic::Name;
use crate::diagnostic::Position;

/// A number, written out or named.
#[derive(Clone, Debug)]
pub enum Value {
    /// `16`, `0x10`
    Number(i64),
    /// `REMOTE_STRING_MAX`
    Named(Name),
}

/// What is declared, before the name: `unsigned hyper`, `remote_uuid`, …
#[derive(Clone, Debug)]
pub enum Base {
    /// A type that XDR knows.
    Scalar(Scalar),
    /// `opaque`, meaningful only with a length.
    Opaque,
    /// `string`, meaningful only with a limit.
    String,
    /// A type defined elsewhere.
    Named(Name),
}

/// XDR's number types. libvirt's `char` and `short` kinds take four bytes each on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field says whether the type is signed")]
pub enum Scalar {
    /// `char`, `unsigned char`: one byte in memory, four on the wire.
    Char { signed: bool },
    /// `short`, `unsigned short`: four bytes on the wire.
    Short { signed: bool },
    /// `int`, `unsigned int`
    Int { signed: bool },
    /// `hyper`, `unsigned hyper`: eight bytes.
    Hyper { signed: bool },
    /// `double`, IEEE 754.
    Double,
    /// `bool`: four bytes.
    Bool,
}

/// How many of the base a declaration holds.
#[derive(Clone, Debug)]
pub enum Shape {
    /// `T name`
    One,
    /// `T *name`: absent or one.
    Optional,
    /// `T name[n]`
    Fixed(Value),
    /// `T name<limit>`; no limit is written `<>`.
    Variable(Option<Value>),
}

/// `base name shape;` with the comment that follows on the same line.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The declared name.
    pub name: Name,
    /// Its base type.
    pub base: Base,
    /// How many of it.
    pub shape: Shape,
    /// Comment behind it: libvirt says there where a value goes in the public call.
    pub note: Option<String>,
}

/// One member of an enum, and the comment before it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Value,
    /// The comment before it, line by line: annotations, for a procedure.
    pub note: Vec<Name>,
}

/// One arm of a union.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The discriminant's value.
    pub case: Value,
    /// Where `case` stands.
    pub position: Position,
    /// What follows; `None` for `void`.
    pub declaration: Option<Declaration>,
}

/// A definition at the top of a file.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the grammar above each variant names its fields")]
pub enum Definition {
    /// `const NAME = value;`
    Const { name: Name, value: Value },
    /// `typedef base name shape;`
    Typedef(Declaration),
    /// `enum name { … };`
    Enum { name: Name, members: Vec<Member> },
    /// `struct name { … };`
    Struct { name: Name, fields: Vec<Declaration> },
    /// `union name switch (declaration) { … };`
    Union { name: Name, switch: Declaration, arms: Vec<Arm> },
}
