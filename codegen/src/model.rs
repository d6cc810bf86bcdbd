//! Definitions with every name resolved: what the emitters read.

use std::collections::HashMap;

use crate::ast::Scalar;
use crate::checks::Check;
use crate::diagnostic::Position;
use crate::families::{Family, served};
use crate::names::Naming;

/// One or more definition files as a whole.
#[derive(Default)]
pub struct Model {
    /// One module per file, in the order given.
    pub modules: Vec<Module>,
    /// Where a type is: module and place in it, by its XDR name.
    pub types: HashMap<String, (usize, usize)>,
}

/// What one file defines.
pub struct Module {
    /// How its names are made.
    pub naming: &'static Naming,
    /// Its constants.
    pub consts: Vec<Const>,
    /// Its types, each after those it is made of.
    pub types: Vec<TypeDef>,
    /// Its program, if it defines one.
    pub program: Option<Program>,
}

/// A constant.
#[derive(Clone)]
pub struct Const {
    /// Its name, as in the file.
    pub name: String,
    /// Its value.
    pub value: i64,
}

/// A type with a name.
#[derive(Clone)]
pub struct TypeDef {
    /// Its name in the file.
    pub xdr: String,
    /// Its name in Rust.
    pub rust: String,
    /// Where it is defined.
    pub position: Position,
    /// What it is.
    pub kind: TypeKind,
}

/// What a named type is.
#[derive(Clone)]
pub enum TypeKind {
    /// Another name for a type.
    Alias(Type),
    /// An enum: names and values.
    Enum(Vec<(String, i32)>),
    /// A struct's fields in wire order.
    Struct(Vec<Field>),
    /// A discriminated union.
    Union(Union),
}

/// A field of a struct.
#[derive(Clone)]
pub struct Field {
    /// Its name in the file.
    pub xdr: String,
    /// Its name in Rust.
    pub rust: String,
    /// Its type.
    pub ty: Type,
    /// libvirt's comment behind it: where it goes in the public call.
    pub note: Option<String>,
}

/// A union's arms by discriminant.
#[derive(Clone)]
pub struct Union {
    /// The discriminant's name in the file.
    pub switch: String,
    /// What the discriminant is read as.
    pub switch_scalar: Scalar,
    /// The arms.
    pub arms: Vec<UnionArm>,
}

/// One arm of a union.
#[derive(Clone)]
pub struct UnionArm {
    /// The discriminant's value.
    pub case: i32,
    /// The constant it was given by, if by one.
    pub case_name: Option<String>,
    /// Its name in Rust.
    pub rust: String,
    /// What follows; `None` for `void`.
    pub field: Option<Field>,
}

/// A type as used in a field.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the declaration above each variant names its fields")]
pub enum Type {
    /// A number.
    Scalar(Scalar),
    /// `string<limit>`
    String { limit: Limit },
    /// `opaque<limit>`
    Opaque { limit: Limit },
    /// `opaque[n]`
    FixedOpaque { len: u32 },
    /// A struct, union or enum by XDR name; aliases are followed.
    Named(String),
    /// `T *`
    Optional(Box<Type>),
    /// `T name[n]`
    FixedArray { of: Box<Type>, len: u32 },
    /// `T name<limit>`
    Array { of: Box<Type>, limit: Limit },
}

/// The most that a variable-length field holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The number.
    pub value: u32,
    /// The constant it was given by, if by one.
    pub name: Option<String>,
}

/// A program: a set of numbered procedures.
#[derive(Clone)]
pub struct Program {
    /// Its number; `None` where the file has no such constant.
    pub number: Option<i64>,
    /// Its version.
    pub version: Option<i64>,
    /// Its procedures in order of number.
    pub procedures: Vec<Procedure>,
}

/// A procedure, with all that annotations and facts say of it.
#[derive(Clone)]
pub struct Procedure {
    /// Its number.
    pub number: i32,
    /// `DOMAIN_SUSPEND`
    pub name: String,
    /// `REMOTE_PROC_DOMAIN_SUSPEND`
    pub constant: String,
    /// Who sends it.
    pub direction: Direction,
    /// XDR name of the argument struct.
    pub args: Option<String>,
    /// XDR name of the result struct.
    pub ret: Option<String>,
    /// XDR name of the message struct of an event.
    pub msg: Option<String>,
    /// Who serves it.
    pub family: Family,
    /// `@priority: high`: never waits for a hypervisor.
    pub high_priority: bool,
    /// `@generate`: the word behind it.
    pub generate: Option<String>,
    /// `@readstream`, `@writestream`, `@sparseflag`; or what the table of facts says
    pub stream: Option<Stream>,
    /// `@acl`; `None` where there is no such annotation, empty for `@acl: none`.
    pub acl: Option<Vec<Acl>>,
    /// `@aclfilter`
    pub aclfilter: Vec<Acl>,
    /// What a read-only connection gets.
    pub readonly: ReadOnly,
    /// The error domain of a read-only refusal.
    pub denied_by: i32,
    /// The error domain of the public function, for missing support.
    pub error_domain: i32,
    /// Whether it is served only to an authenticated client.
    pub needs_auth: bool,
    /// Descriptors with the call.
    pub fds_call: Descriptors,
    /// Descriptors with the reply.
    pub fds_reply: Descriptors,
    /// The event it carries.
    pub event: Option<EventKind>,
    /// The public function of libvirt's library, such as `virDomainSuspend`.
    pub api: Option<String>,
    /// The libvirt release that introduced it.
    pub since: Option<String>,
    /// What the arguments must be, in the order in which that is looked at.
    pub checks: Vec<Check>,
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A client; the daemon replies.
    Call,
    /// The daemon, unasked (keepalive: either side).
    Event,
}

/// The stream that a call opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which way data goes.
    pub mode: StreamMode,
    /// The stream's place in the public call, from 1.
    pub param_index: u32,
    /// The flag that permits holes: name and value.
    pub sparse_flag: Option<(String, i64)>,
}

/// Which way a stream's data goes, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// Daemon to client.
    Read,
    /// Client to daemon.
    Write,
}

/// An access rule: permission on an object, perhaps under a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// `domain`, `connect`, …
    pub object: String,
    /// `getattr`, `write`, …
    pub permission: String,
    /// When it applies.
    pub condition: AclCondition,
}

/// When an access rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclCondition {
    /// Always.
    Always,
    /// If the flags hold all of these: names and values.
    AllSet(Vec<(String, i64)>),
    /// If the flags hold none of these.
    NoneSet(Vec<(String, i64)>),
    /// If a field of the arguments has this value.
    Param(String, String, i64),
}

/// What a read-only connection gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// The call is served.
    Served,
    /// The call is refused.
    Refused,
    /// It is refused if the flags have any of these bits.
    IfFlags(u32),
    /// It is refused if this field has this value.
    IfField(String, i64),
}

/// How many file descriptors go with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

impl Descriptors {
    /// None at all.
    pub const NONE: Self = Self { min: 0, max: 0 };
}

/// Which event a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventKind {
    /// `domain`, `network`, …
    pub class: String,
    /// The event id within the class; `None` where the class has no ids.
    pub id: Option<i32>,
    /// Sent only to clients that registered without callback ids.
    pub legacy: bool,
}

impl Model {
    /// The type of an XDR name, and the module it is in.
    pub fn get(&self, xdr: &str) -> Option<(&Module, &TypeDef)> {
        let &(module, index) = self.types.get(xdr)?;
        let module = self.modules.get(module)?;
        Some((module, module.types.get(index)?))
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.naming.module == name)
    }

    /// All procedures, with their module.
    pub fn procedures(&self) -> impl Iterator<Item = (&Module, &Procedure)> {
        self.modules.iter().flat_map(|module| {
            module.program.iter().flat_map(move |program| program.procedures.iter().map(move |p| (module, p)))
        })
    }

    /// What libvirtd serves, in the order of its documentation: the calls of each family, then the events.
    pub fn sections(&self) -> Vec<Section<'_>> {
        let all = || self.procedures().filter(|(module, _)| served(module.naming.module));
        let section = |family: Family| {
            let calls = all().filter(|(_, p)| p.family == family && p.direction == Direction::Call);
            Section { title: family.title(), file: family.name(), procedures: calls.collect() }
        };
        let families = [Family::Session].into_iter().chain(Family::DRIVERS).chain([Family::Admin]);
        let events = all().filter(|(_, p)| p.direction == Direction::Event).collect();
        let events = Section { title: "Events", file: "events", procedures: events };
        families.map(section).chain([events]).collect()
    }
}

/// Procedures that belong together.
pub struct Section<'a> {
    /// What they are about.
    pub title: &'static str,
    /// The same as the stem of a file.
    pub file: &'static str,
    /// The procedures in order of program and number.
    pub procedures: Vec<(&'a Module, &'a Procedure)>,
}
