//! A program's procedures: their structs by name, the annotations before them, and the table of facts.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use super::Resolver;
use crate::ast::{Member, Name};
use crate::diagnostic::{Diagnostic, Result};
use crate::facts::ProcedureFacts;
use crate::families::{error_domain, family};
use crate::model::{
    Acl, AclCondition, Descriptors, Direction, Module, Procedure, Program, ReadOnly, Stream, StreamMode,
    Type, TypeDef, TypeKind,
};
use crate::names::{Naming, folded};

/// How the structs end that a procedure may have.
const ENDINGS: [&str; 3] = ["args", "ret", "msg"];

/// The numbers a procedure may have: tables are indexed by them.
const NUMBERS: RangeInclusive<i32> = 1..=9999;

/// The annotations, as a diagnostic lists them.
const ANNOTATIONS: &str =
    "'@generate', '@priority', '@readstream', '@writestream', '@sparseflag', '@acl' or '@aclfilter'";

impl Resolver<'_> {
    pub(super) fn program(&mut self, module: &Module, members: &[Member]) -> Result<Program> {
        let numbers = self.members(members)?;
        let structs: HashMap<String, &TypeDef> =
            module.types.iter().map(|def| (folded(stem(module.naming, def)), def)).collect();
        let mut procedures = Vec::with_capacity(members.len());
        for (member, (_, number)) in members.iter().zip(numbers) {
            let procedure = self.procedure(module.naming, member, number, &structs);
            procedures.push(procedure.map_err(|e| e.within(&member.name.text))?);
        }
        procedures.sort_by_key(|procedure| procedure.number);
        every_struct_used(module, &procedures)?;
        let find = |ending| module.consts.iter().find(|c| c.name.ends_with(ending)).map(|c| c.value);
        Ok(Program { number: find("PROGRAM"), version: find("_VERSION"), procedures })
    }

    fn procedure(
        &self,
        naming: &Naming,
        member: &Member,
        number: i32,
        structs: &HashMap<String, &TypeDef>,
    ) -> Result<Procedure> {
        let Name { text: constant, position } = &member.name;
        let Some(name) = constant.strip_prefix(naming.procedures) else {
            let expected = format!("a name that begins with '{}'", naming.procedures);
            return Err(Diagnostic::new(position, expected, format!("'{constant}'")));
        };
        if !NUMBERS.contains(&number) {
            let expected = format!("a number of {} to {}", NUMBERS.start(), NUMBERS.end());
            return Err(Diagnostic::new(position, expected, number.to_string()));
        }
        let [args, ret, msg] =
            ENDINGS.map(|ending| structs.get(&(folded(name) + ending)).map(|def| def.xdr.clone()));
        let facts = self.facts.procedures.get(&(naming.module.to_owned(), name.to_owned()));
        let unasked = msg.is_some() || facts.is_some_and(|facts| facts.message);
        let error_domain = error_domain(naming.module, name);
        let mut procedure = Procedure {
            number,
            name: name.to_owned(),
            constant: constant.clone(),
            direction: if unasked { Direction::Event } else { Direction::Call },
            args,
            ret,
            msg,
            family: family(naming.module, name),
            high_priority: false,
            generate: None,
            stream: None,
            acl: None,
            aclfilter: Vec::new(),
            // Until the table of facts says that it changes nothing.
            readonly: ReadOnly::Refused,
            denied_by: error_domain,
            error_domain,
            needs_auth: true,
            fds_call: Descriptors::NONE,
            fds_reply: Descriptors::NONE,
            event: None,
            api: None,
            since: None,
            checks: Vec::new(),
        };
        if let Some(facts) = facts {
            procedure.apply(facts, structs)?;
        }
        for line in &member.note {
            self.annotation(&mut procedure, line)?;
        }
        Ok(procedure)
    }

    /// One line of the comment before a procedure. A line without `@` is prose.
    fn annotation(&self, procedure: &mut Procedure, line: &Name) -> Result<()> {
        let Some(annotation) = line.text.strip_prefix('@') else { return Ok(()) };
        let wrong = |expected: &str| Diagnostic::new(&line.position, expected, format!("'@{annotation}'"));
        let (key, value) = annotation.split_once(':').ok_or_else(|| wrong("'@key: value'"))?;
        let value = value.trim();
        match key {
            "generate" => procedure.generate = Some(value.to_owned()),
            "priority" if value == "high" => procedure.high_priority = true,
            "priority" if value == "low" => {}
            "readstream" | "writestream" => {
                let param_index =
                    value.parse().map_err(|_| wrong("the stream's place in the public call"))?;
                let mode = if key == "readstream" { StreamMode::Read } else { StreamMode::Write };
                procedure.stream = Some(Stream { mode, param_index, sparse_flag: None });
            }
            "sparseflag" => match &mut procedure.stream {
                Some(stream) => stream.sparse_flag = Some((value.to_owned(), self.flag(value, line)?)),
                None => return Err(wrong("'@readstream' or '@writestream' before '@sparseflag'")),
            },
            "acl" if value == "none" => procedure.acl = Some(Vec::new()),
            "acl" => procedure.acl.get_or_insert_default().push(self.acl(value, line)?),
            "aclfilter" => procedure.aclfilter.push(self.acl(value, line)?),
            "priority" => return Err(wrong("'@priority: high' or '@priority: low'")),
            _ => return Err(wrong(ANNOTATIONS)),
        }
        Ok(())
    }

    /// `object:permission[:[!]FLAG|FLAG]` or `object:permission::field:VALUE`
    fn acl(&self, rule: &str, line: &Name) -> Result<Acl> {
        let parts: Vec<&str> = rule.split(':').collect();
        let flags = |names: &str| -> Result<Vec<_>> {
            names.split('|').map(|name| Ok((name.to_owned(), self.flag(name, line)?))).collect()
        };
        let (object, permission, condition) = match parts.as_slice() {
            [object, permission] => (object, permission, AclCondition::Always),
            [object, permission, flag] => match flag.strip_prefix('!') {
                Some(flag) => (object, permission, AclCondition::NoneSet(flags(flag)?)),
                None => (object, permission, AclCondition::AllSet(flags(flag)?)),
            },
            [object, permission, "", field, value] => {
                let number = self.flag(value, line)?;
                (object, permission, AclCondition::Param((*field).to_owned(), (*value).to_owned(), number))
            }
            _ => return Err(Diagnostic::new(&line.position, "'object:permission'", format!("'{rule}'"))),
        };
        Ok(Acl { object: (*object).to_owned(), permission: (*permission).to_owned(), condition })
    }

    fn flag(&self, name: &str, line: &Name) -> Result<i64> {
        self.facts.flags.get(name).copied().ok_or_else(|| {
            let expected = "a flag that the table of facts knows";
            Diagnostic::new(&line.position, expected, format!("'{name}'"))
        })
    }
}

impl Procedure {
    fn apply(&mut self, facts: &ProcedureFacts, structs: &HashMap<String, &TypeDef>) -> Result<()> {
        let asked = match &facts.readonly {
            ReadOnly::IfFlags(_) => Some("flags"),
            ReadOnly::IfField(field, _) => Some(field.as_str()),
            ReadOnly::Served | ReadOnly::Refused => None,
        };
        let args = structs.get(&(folded(&self.name) + ENDINGS[0])).map(|def| &def.kind);
        let has = |name: &str| match args {
            Some(TypeKind::Struct(fields)) => fields.iter().any(|field| field.xdr == name),
            _ => false,
        };
        if let Some(field) = asked.filter(|field| !has(field)) {
            let expected = format!("arguments with a field '{field}' to look at");
            return Err(Diagnostic::new(&facts.position, expected, "a procedure without"));
        }
        self.readonly = facts.readonly.clone();
        self.denied_by = facts.denied_by.unwrap_or(self.error_domain);
        self.needs_auth = !facts.before_auth;
        self.fds_call = facts.fds_call;
        self.fds_reply = facts.fds_reply;
        self.stream = facts.stream.clone();
        self.event = facts.event.clone();
        self.api = facts.api.clone();
        self.since = facts.since.clone();
        if let Some(TypeKind::Struct(fields)) = args {
            facts.checks.iter().try_for_each(|check| check.fits(fields))?;
        }
        self.checks = facts.checks.clone();
        Ok(())
    }
}

/// A type's name without the beginning that all of its protocol share.
fn stem<'a>(naming: &Naming, def: &'a TypeDef) -> &'a str {
    def.xdr.strip_prefix(naming.types).unwrap_or(&def.xdr)
}

/// A struct that is named like a procedure's, but that nothing uses, is a slip in one of the two names: the procedure
/// would go without its arguments.
fn every_struct_used(module: &Module, procedures: &[Procedure]) -> Result<()> {
    let mut used: HashSet<&str> =
        procedures.iter().flat_map(|p| [&p.args, &p.ret, &p.msg]).flatten().map(String::as_str).collect();
    for def in &module.types {
        match &def.kind {
            TypeKind::Struct(fields) => used.extend(fields.iter().filter_map(|field| field.ty.inner())),
            TypeKind::Union(union) => {
                used.extend(union.arms.iter().filter_map(|arm| arm.field.as_ref()?.ty.inner()));
            }
            TypeKind::Alias(ty) => used.extend(ty.inner()),
            TypeKind::Enum(_) => {}
        }
    }
    let for_procedure = |def: &&TypeDef| {
        let name = stem(module.naming, def);
        let last = name.rsplit('_').next().unwrap_or(name);
        ENDINGS.iter().any(|ending| last.eq_ignore_ascii_case(ending) || is_camel_ending(last, ending))
    };
    match module.types.iter().filter(for_procedure).find(|def| !used.contains(def.xdr.as_str())) {
        Some(def) => Err(Diagnostic::new(&def.position, "a procedure that uses it", "none").within(&def.xdr)),
        None => Ok(()),
    }
}

/// `NewArgs` ends in `args` as a word of its own, `Targs` does not.
fn is_camel_ending(name: &str, ending: &str) -> bool {
    let word = name.len().checked_sub(ending.len()).and_then(|at| name.get(at..));
    word.is_some_and(|word| word.starts_with(char::is_uppercase) && word.eq_ignore_ascii_case(ending))
}

impl Type {
    /// The name of the type that it holds, if it has one.
    pub(crate) fn inner(&self) -> Option<&str> {
        match self {
            Self::Named(xdr) => Some(xdr),
            Self::Optional(of) | Self::FixedArray { of, .. } | Self::Array { of, .. } => of.inner(),
            Self::Scalar(_) | Self::String { .. } | Self::Opaque { .. } | Self::FixedOpaque { .. } => None,
        }
    }
}
