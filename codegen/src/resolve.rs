//! Definitions into a [`Model`]: constants get values, names get types, procedures get their structs and facts.

use std::collections::HashMap;

use crate::ast::{Base, Declaration, Definition, Member, Name, Shape, Value};
use crate::diagnostic::{Diagnostic, Position, Result};
use crate::facts::{Facts, ProcedureFacts};
use crate::families::{error_domain, family};
use crate::model::{
    Acl, AclCondition, Const, Descriptors, Direction, Field, Limit, Model, Module, Procedure, Program,
    ReadOnly, Stream, StreamMode, Type, TypeDef, TypeKind, Union, UnionArm,
};
use crate::names::{self, Naming, folded};
use crate::{externs, lex, parse};

/// A definition file: its name and its text.
pub struct Source<'a> {
    /// Name shown in diagnostics; its stem says which protocol it is.
    pub file: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// Resolves files that may use types of the files before them.
pub fn model(sources: &[Source<'_>], facts: &Facts) -> Result<Model> {
    let mut resolver =
        Resolver { model: Model::default(), consts: HashMap::new(), aliases: HashMap::new(), facts };
    for source in sources {
        resolver.file(source)?;
    }
    Ok(resolver.model)
}

struct Resolver<'a> {
    model: Model,
    consts: HashMap<String, i64>,
    aliases: HashMap<String, Type>,
    facts: &'a Facts,
}

impl Resolver<'_> {
    fn file(&mut self, source: &Source<'_>) -> Result<()> {
        let tokens = lex::tokens(source.file, source.text)?;
        let stem = source.file.rsplit('/').next().unwrap_or(source.file).trim_end_matches(".x");
        let Some(naming) = names::protocol(stem) else {
            let message =
                format!("expected the file of a known protocol, found '{stem}': names::PROTOCOLS lists them");
            return Err(Diagnostic::new(&tokens[0].position, message));
        };
        let definitions = parse::specification(&tokens)?;
        self.model.modules.push(Module { naming, consts: Vec::new(), types: Vec::new(), program: None });
        let mut procedures = None;
        for definition in definitions {
            match definition {
                Definition::Const { name, value } => self.constant(&name, &value)?,
                // `struct T { … }; typedef struct T T;` says nothing in XDR.
                Definition::Typedef(Declaration {
                    name, base: Base::Named(of), shape: Shape::One, ..
                }) if name.text == of.text && self.model.types.contains_key(&of.text) => {}
                Definition::Typedef(declaration) => {
                    let ty = self.declared(&declaration)?;
                    self.aliases.insert(declaration.name.text.clone(), ty.clone());
                    self.define(naming, &declaration.name, TypeKind::Alias(ty))?;
                }
                Definition::Enum { name, members } if folded(&name.text).ends_with("procedure") => {
                    procedures = Some((name, members));
                }
                Definition::Enum { name, members } => {
                    let members = self.members(&members).map_err(|e| e.within(&name.text))?;
                    self.define(naming, &name, TypeKind::Enum(members))?;
                }
                Definition::Struct { name, fields } => {
                    let fields = self.fields(&fields).map_err(|e| e.within(&name.text))?;
                    self.define(naming, &name, TypeKind::Struct(fields))?;
                }
                Definition::Union { name, switch, arms } => {
                    let union = self.union(&switch, &arms).map_err(|e| e.within(&name.text))?;
                    self.define(naming, &name, TypeKind::Union(union))?;
                }
            }
        }
        if let Some((name, members)) = procedures {
            let program = self.program(naming, &members).map_err(|e| e.within(&name.text))?;
            self.module().program = Some(program);
        }
        Ok(())
    }

    /// The module being filled; `file` pushes it first.
    fn module(&mut self) -> &mut Module {
        let last = self.model.modules.len() - 1;
        &mut self.model.modules[last]
    }

    fn constant(&mut self, name: &Name, value: &Value) -> Result<()> {
        let value = self.value(value)?;
        if self.consts.insert(name.text.clone(), value).is_some() {
            return Err(Diagnostic::new(
                &name.position,
                format!("expected a new name, found a second '{}'", name.text),
            ));
        }
        self.module().consts.push(Const { name: name.text.clone(), value });
        Ok(())
    }

    fn value(&self, value: &Value) -> Result<i64> {
        match value {
            Value::Number(number) => Ok(*number),
            Value::Named(name) => {
                let found = self.consts.get(&name.text).copied().or_else(|| externs::constant(&name.text));
                found.ok_or_else(|| {
                    let message = format!(
                        "expected the name of a constant, found '{}', which nothing defines",
                        name.text
                    );
                    Diagnostic::new(&name.position, message)
                })
            }
        }
    }

    fn limit(&self, value: &Option<Value>, at: &Position) -> Result<Limit> {
        let Some(value) = value else { return Ok(Limit { value: u32::MAX, name: None }) };
        let name = match value {
            Value::Named(name) => Some(name.text.clone()),
            Value::Number(_) => None,
        };
        Ok(Limit { value: self.length(value, at)?, name })
    }

    fn length(&self, value: &Value, at: &Position) -> Result<u32> {
        let number = self.value(value)?;
        u32::try_from(number)
            .map_err(|_| Diagnostic::new(at, format!("expected a length of 0 to 4294967295, found {number}")))
    }

    fn define(&mut self, naming: &'static Naming, name: &Name, kind: TypeKind) -> Result<()> {
        let module = self.model.modules.len() - 1;
        let place = (module, self.model.modules[module].types.len());
        if self.model.types.insert(name.text.clone(), place).is_some() {
            return Err(Diagnostic::new(
                &name.position,
                format!("expected a new name, found a second '{}'", name.text),
            ));
        }
        let rust = names::type_name(naming, &name.text);
        self.module().types.push(TypeDef {
            xdr: name.text.clone(),
            rust,
            position: name.position.clone(),
            kind,
        });
        Ok(())
    }

    fn named(&self, name: &Name) -> Result<Type> {
        if let Some(alias) = self.aliases.get(&name.text) {
            return Ok(alias.clone());
        }
        if self.model.types.contains_key(&name.text) {
            return Ok(Type::Named(name.text.clone()));
        }
        Err(Diagnostic::new(
            &name.position,
            format!("expected a type, found '{}', which nothing above defines", name.text),
        ))
    }

    fn declared(&self, declaration: &Declaration) -> Result<Type> {
        let at = &declaration.name.position;
        let one = match (&declaration.base, &declaration.shape) {
            (Base::String, Shape::Variable(limit)) => {
                return Ok(Type::String { limit: self.limit(limit, at)? });
            }
            (Base::Opaque, Shape::Variable(limit)) => {
                return Ok(Type::Opaque { limit: self.limit(limit, at)? });
            }
            (Base::Opaque, Shape::Fixed(len)) => return Ok(Type::FixedOpaque { len: self.length(len, at)? }),
            (Base::String, _) => return Err(Diagnostic::new(at, "expected 'string name<limit>'")),
            (Base::Opaque, _) => {
                return Err(Diagnostic::new(at, "expected 'opaque name<limit>' or 'opaque name[length]'"));
            }
            (Base::Scalar(scalar), _) => Type::Scalar(*scalar),
            (Base::Named(name), _) => self.named(name)?,
        };
        Ok(match &declaration.shape {
            Shape::One => one,
            Shape::Optional => Type::Optional(Box::new(one)),
            Shape::Fixed(len) => Type::FixedArray { of: Box::new(one), len: self.length(len, at)? },
            Shape::Variable(limit) => Type::Array { of: Box::new(one), limit: self.limit(limit, at)? },
        })
    }

    fn field(&self, declaration: &Declaration) -> Result<Field> {
        Ok(Field {
            xdr: declaration.name.text.clone(),
            rust: names::snake(&declaration.name.text),
            ty: self.declared(declaration)?,
            note: declaration.note.clone(),
        })
    }

    fn fields(&self, declarations: &[Declaration]) -> Result<Vec<Field>> {
        let mut fields: Vec<Field> = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            let field = self.field(declaration)?;
            if fields.iter().any(|other| other.rust == field.rust) {
                let message = format!("expected a new name, found a second '{}'", field.xdr);
                return Err(Diagnostic::new(&declaration.name.position, message));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn number(&self, value: &Value, at: &Position) -> Result<i32> {
        let number = self.value(value)?;
        i32::try_from(number)
            .map_err(|_| Diagnostic::new(at, format!("expected a 32-bit number, found {number}")))
    }

    fn members(&mut self, members: &[Member]) -> Result<Vec<(String, i32)>> {
        let mut known: Vec<(String, i32)> = Vec::with_capacity(members.len());
        for member in members {
            let at = &member.name.position;
            let value = self.number(&member.value, at)?;
            if let Some((other, _)) = known.iter().find(|(_, v)| *v == value) {
                let message = format!("expected a new number, found {value}, which is already '{other}'");
                return Err(Diagnostic::new(at, message).within(&member.name.text));
            }
            if self.consts.insert(member.name.text.clone(), i64::from(value)).is_some() {
                return Err(Diagnostic::new(
                    at,
                    format!("expected a new name, found a second '{}'", member.name.text),
                ));
            }
            known.push((member.name.text.clone(), value));
        }
        Ok(known)
    }

    fn union(&self, switch: &Declaration, arms: &[crate::ast::Arm]) -> Result<Union> {
        let Base::Scalar(switch_scalar) = switch.base else {
            return Err(Diagnostic::new(
                &switch.name.position,
                "expected 'int' or 'unsigned int' to switch on",
            ));
        };
        let mut known: Vec<UnionArm> = Vec::with_capacity(arms.len());
        for arm in arms {
            let case = self.number(&arm.case, &arm.position)?;
            if known.iter().any(|other| other.case == case) {
                return Err(Diagnostic::new(
                    &arm.position,
                    format!("expected a new case, found a second {case}"),
                ));
            }
            let field = arm.declaration.as_ref().map(|d| self.field(d)).transpose()?;
            let case_name = match &arm.case {
                Value::Named(name) => Some(name.text.clone()),
                Value::Number(_) => None,
            };
            // A macro says what the arm is; a bare number leaves the field's name.
            let rust = match (&case_name, &field) {
                (Some(name), _) => names::camel(name.rsplit('_').next().unwrap_or(name)),
                (None, Some(field)) => names::camel(&field.xdr),
                (None, None) => format!("Case{case}"),
            };
            known.push(UnionArm { case, case_name, rust, field });
        }
        Ok(Union { switch: switch.name.text.clone(), switch_scalar, arms: known })
    }

    fn program(&mut self, naming: &'static Naming, members: &[Member]) -> Result<Program> {
        let numbers = self.members(members)?;
        let structs: HashMap<String, String> = self
            .module()
            .types
            .iter()
            .map(|def| (folded(def.xdr.strip_prefix(naming.types).unwrap_or(&def.xdr)), def.xdr.clone()))
            .collect();
        let mut procedures = Vec::with_capacity(members.len());
        for (member, (constant, number)) in members.iter().zip(numbers) {
            let procedure = self.procedure(naming, member, constant, number, &structs);
            procedures.push(procedure.map_err(|e| e.within(&member.name.text))?);
        }
        procedures.sort_by_key(|procedure| procedure.number);
        let find = |ending: &str| {
            let found = self
                .model
                .modules
                .last()
                .into_iter()
                .flat_map(|m| &m.consts)
                .find(|c| c.name.ends_with(ending));
            found.map(|c| c.value)
        };
        Ok(Program { number: find("PROGRAM"), version: find("_VERSION"), procedures })
    }

    fn procedure(
        &self,
        naming: &Naming,
        member: &Member,
        constant: String,
        number: i32,
        structs: &HashMap<String, String>,
    ) -> Result<Procedure> {
        let at = &member.name.position;
        let Some(name) = constant.strip_prefix(naming.procedures).map(str::to_owned) else {
            let message =
                format!("expected a name that begins with '{}', found '{constant}'", naming.procedures);
            return Err(Diagnostic::new(at, message));
        };
        let part = |ending: &str| structs.get(&(folded(&name) + ending)).cloned();
        let (args, ret, msg) = (part("args"), part("ret"), part("msg"));
        let facts = self.facts.procedures.get(&(naming.module.to_owned(), name.clone()));
        let facts = facts.cloned();
        let event = facts.as_ref().and_then(|f| f.event.clone());
        let call = msg.is_none() && !facts.as_ref().is_some_and(|f| f.message);
        let mut procedure = Procedure {
            number,
            direction: if call { Direction::Call } else { Direction::Event },
            args,
            ret,
            msg,
            family: family(naming.module, &name),
            high_priority: false,
            generate: None,
            stream: None,
            acl: None,
            aclfilter: Vec::new(),
            // Until the table of facts says that it changes nothing.
            readonly: ReadOnly::Refused,
            denied_by: error_domain(naming.module, &name),
            error_domain: error_domain(naming.module, &name),
            needs_auth: true,
            fds_call: Descriptors::NONE,
            fds_reply: Descriptors::NONE,
            event,
            api: None,
            since: None,
            name,
            constant,
        };
        if let Some(facts) = facts {
            self.apply(&mut procedure, facts)?;
        }
        for line in member.note.as_deref().unwrap_or_default().lines() {
            self.annotation(&mut procedure, line, at)?;
        }
        Ok(procedure)
    }

    fn apply(&self, procedure: &mut Procedure, facts: ProcedureFacts) -> Result<()> {
        if let (ReadOnly::IfField(..) | ReadOnly::IfFlags(_), None) = (&facts.readonly, &procedure.args) {
            return Err(Diagnostic::new(
                &facts.position,
                "expected arguments to look at, found a procedure without any",
            ));
        }
        procedure.readonly = facts.readonly;
        procedure.denied_by = facts.denied_by.unwrap_or(procedure.error_domain);
        procedure.needs_auth = !facts.before_auth;
        procedure.fds_call = facts.fds_call;
        procedure.fds_reply = facts.fds_reply;
        procedure.api = facts.api;
        procedure.since = facts.since;
        Ok(())
    }

    /// One line of the comment before a procedure. A line without `@` is prose.
    fn annotation(&self, procedure: &mut Procedure, line: &str, at: &Position) -> Result<()> {
        let Some(annotation) = line.strip_prefix('@') else { return Ok(()) };
        let wrong =
            |expected: &str| Diagnostic::new(at, format!("expected {expected}, found '@{annotation}'"));
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
                Some(stream) => stream.sparse_flag = Some((value.to_owned(), self.flag(value, at)?)),
                None => return Err(wrong("'@readstream' or '@writestream' before '@sparseflag'")),
            },
            "acl" if value == "none" => procedure.acl = Some(Vec::new()),
            "acl" => procedure.acl.get_or_insert_default().push(self.acl(value, at)?),
            "aclfilter" => procedure.aclfilter.push(self.acl(value, at)?),
            _ => {
                return Err(wrong(
                    "'@generate', '@priority', '@readstream', '@writestream', '@sparseflag', '@acl' or '@aclfilter'",
                ));
            }
        }
        Ok(())
    }

    /// `object:permission[:[!]FLAG|FLAG]` or `object:permission::field:VALUE`
    fn acl(&self, rule: &str, at: &Position) -> Result<Acl> {
        let parts: Vec<&str> = rule.split(':').collect();
        let flags = |names: &str| -> Result<Vec<_>> {
            names.split('|').map(|name| Ok((name.to_owned(), self.flag(name, at)?))).collect()
        };
        let (object, permission, condition) = match parts.as_slice() {
            [object, permission] => (object, permission, AclCondition::Always),
            [object, permission, flag] => match flag.strip_prefix('!') {
                Some(flag) => (object, permission, AclCondition::NoneSet(flags(flag)?)),
                None => (object, permission, AclCondition::AllSet(flags(flag)?)),
            },
            [object, permission, "", field, value] => {
                let number = self.flag(value, at)?;
                (object, permission, AclCondition::Param((*field).to_owned(), (*value).to_owned(), number))
            }
            _ => return Err(Diagnostic::new(at, format!("expected 'object:permission', found '{rule}'"))),
        };
        Ok(Acl { object: (*object).to_owned(), permission: (*permission).to_owned(), condition })
    }

    fn flag(&self, name: &str, at: &Position) -> Result<i64> {
        self.facts.flags.get(name).copied().ok_or_else(|| {
            Diagnostic::new(at, format!("expected a flag that the table of facts knows, found '{name}'"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TypeKind;

    fn lock(text: &str, facts: &str) -> Result<Model> {
        model(&[Source { file: "lock.x", text }], &Facts::parse("facts.txt", facts)?)
    }

    /// Each of these stands in a definition file of some libvirt release.
    #[test]
    fn forms_that_libvirt_writes() {
        let text = r#"%#include "internal.h"
            const VIR_LOCK_SPACE_PROTOCOL_PROGRAM = 0xEA7BEEF;
            struct virLockSpaceProtocolOwner {
                unsigned pid;              /* not 'unsigned int' */
                opaque uuid[VIR_UUID_BUFLEN];
            };
            typedef struct virLockSpaceProtocolOwner virLockSpaceProtocolOwner;
            struct virLockSpaceProtocolNewArgs { /* insert@1 */
                virLockSpaceProtocolOwner *owner;
            };
            enum virLockSpaceProtocolProcedure {
                /* How to annotate:
                 * - @generate: none|client|server|both
                 * @acl: <object>:<permission>
                 */

                /**
                 * @generate: none
                 * @acl: domain:save:!A|B
                 * @acl: domain:write::source:B
                 */
                VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 /* skipgen skipgen */
            };
        "#;
        let model = lock(text, "flag A 2\nflag B 1\nlock NEW since=1.0.1").unwrap();
        let module = model.module("lock").unwrap();
        let TypeKind::Struct(fields) = &module.types[0].kind else { panic!("not a struct") };
        assert_eq!(fields[0].ty, Type::Scalar(crate::ast::Scalar::Int { signed: false }));
        assert_eq!(fields[1].ty, Type::FixedOpaque { len: 16 });
        let procedure = &module.program.as_ref().unwrap().procedures[0];
        assert_eq!(procedure.args.as_deref(), Some("virLockSpaceProtocolNewArgs"));
        let conditions: Vec<_> = procedure.acl.iter().flatten().map(|acl| acl.condition.clone()).collect();
        let none_set = AclCondition::NoneSet(vec![("A".into(), 2), ("B".into(), 1)]);
        assert_eq!(conditions, [none_set, AclCondition::Param("source".into(), "B".into(), 1)]);
        assert_eq!(procedure.readonly, ReadOnly::Served);
    }

    /// Nobody has said that it changes nothing.
    #[test]
    fn a_procedure_without_facts_is_refused_on_read_only_connections() {
        let text = "enum procedure { VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };";
        let model = lock(text, "").unwrap();
        assert_eq!(model.procedures().next().unwrap().1.readonly, ReadOnly::Refused);
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, wrong) in [
            (
                "const A = B;",
                "lock.x:1:11: expected the name of a constant, found 'B', which nothing defines",
            ),
            (
                "struct a {\n  int b;\n  int b;\n};",
                "lock.x:3:7: in a: expected a new name, found a second 'b'",
            ),
            (
                "typedef nothing a;",
                "lock.x:1:9: expected a type, found 'nothing', which nothing above defines",
            ),
            (
                "enum a { B = 1, C = 1 };",
                "lock.x:1:17: in C: expected a new number, found 1, which is already 'B'",
            ),
            (
                "enum procedure {\n/* @acl: domain:save:NEW_FLAG */\nVIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
                "lock.x:3:1: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: \
                 expected a flag that the table of facts knows, found 'NEW_FLAG'",
            ),
        ] {
            assert_eq!(lock(text, "").err().map(|e| e.to_string()).as_deref(), Some(wrong));
        }
    }
}
