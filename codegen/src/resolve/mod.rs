//! Definitions into a [`Model`]: constants get values, names get types, procedures get their structs and facts.

mod procedures;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::ast::{Arm, Base, Declaration, Definition, Member, Name, Scalar, Shape, Value};
use crate::diagnostic::{Diagnostic, Position, Result};
use crate::facts::Facts;
use crate::model::{Const, Field, Limit, Model, Module, Type, TypeDef, TypeKind, Union, UnionArm};
use crate::names::{self, folded};
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
    /// Constants and members of enums by name.
    consts: HashMap<String, i64>,
    /// What a `typedef` stands for.
    aliases: HashMap<String, Type>,
    facts: &'a Facts,
}

impl Resolver<'_> {
    fn file(&mut self, source: &Source<'_>) -> Result<()> {
        let tokens = lex::tokens(source.file, source.text)?;
        let Some(naming) = names::protocol(source.file) else {
            let stems: Vec<_> = names::PROTOCOLS.iter().flat_map(|naming| naming.stems).copied().collect();
            let expected = format!("a file of a known name ({})", stems.join(", "));
            return Err(Diagnostic::new(
                &tokens[0].position,
                expected,
                format!("'{}'", names::stem(source.file)),
            ));
        };
        let mut module = Module { naming, consts: Vec::new(), types: Vec::new(), program: None };
        let mut procedures = None;
        for definition in parse::specification(&tokens)? {
            match definition {
                Definition::Enum { name, members } if folded(&name.text).ends_with("procedure") => {
                    procedures = Some((name, members));
                }
                Definition::Const { name, value } => {
                    let value = self.value(&value).map_err(|e| e.within(&name.text))?;
                    self.constant(&name, value)?;
                    module.consts.push(Const { name: name.text, value });
                }
                other => self.definition(&mut module, other)?,
            }
        }
        if let Some((name, members)) = procedures {
            let program = self.program(&module, &members).map_err(|e| e.within(&name.text))?;
            module.program = Some(program);
        }
        self.model.modules.push(module);
        Ok(())
    }

    fn definition(&mut self, module: &mut Module, definition: Definition) -> Result<()> {
        let (name, kind) = match definition {
            // `struct T { … }; typedef struct T T;` says nothing in XDR.
            Definition::Typedef(Declaration { name, base: Base::Named(of), shape: Shape::One, .. })
                if name.text == of.text && self.model.types.contains_key(&of.text) =>
            {
                return Ok(());
            }
            Definition::Typedef(declaration) => {
                let ty = self.declared(&declaration).map_err(|e| e.within(&declaration.name.text))?;
                self.aliases.insert(declaration.name.text.clone(), ty.clone());
                (declaration.name, Ok(TypeKind::Alias(ty)))
            }
            Definition::Enum { name, members } => (name, self.members(&members).map(TypeKind::Enum)),
            Definition::Struct { name, fields } => (name, self.fields(&fields).map(TypeKind::Struct)),
            Definition::Union { name, switch, arms } => {
                (name, self.union(&switch, &arms).map(TypeKind::Union))
            }
            Definition::Const { .. } => return Ok(()),
        };
        let kind = kind.map_err(|e| e.within(&name.text))?;
        self.define(module, &name, kind)
    }

    fn define(&mut self, module: &mut Module, name: &Name, kind: TypeKind) -> Result<()> {
        let place = (self.model.modules.len(), module.types.len());
        if self.model.types.insert(name.text.clone(), place).is_some() {
            return Err(Diagnostic::second(name));
        }
        let rust = names::type_name(module.naming, &name.text);
        if let Some(other) = module.types.iter().find(|other| other.rust == rust) {
            let found = format!("'{}', which is '{rust}' in Rust as '{}' is", name.text, other.xdr);
            return Err(Diagnostic::new(&name.position, "a new name", found));
        }
        let (xdr, position) = (name.text.clone(), name.position.clone());
        module.types.push(TypeDef { xdr, rust, position, kind });
        Ok(())
    }

    fn constant(&mut self, name: &Name, value: i64) -> Result<()> {
        match self.consts.insert(name.text.clone(), value) {
            Some(_) => Err(Diagnostic::second(name)),
            None => Ok(()),
        }
    }

    fn value(&self, value: &Value) -> Result<i64> {
        match value {
            Value::Number(number) => Ok(*number),
            Value::Named(name) => {
                let found = self.consts.get(&name.text).copied().or_else(|| externs::constant(&name.text));
                found.ok_or_else(|| {
                    let found = format!("'{}', which nothing above defines", name.text);
                    Diagnostic::new(&name.position, "the name of a constant", found)
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

    /// A length that takes up bytes.
    fn fixed(&self, value: &Value, at: &Position) -> Result<u32> {
        match self.length(value, at)? {
            0 => Err(Diagnostic::new(at, "a length of 1 to 4294967295", "0")),
            length => Ok(length),
        }
    }

    fn length(&self, value: &Value, at: &Position) -> Result<u32> {
        let number = self.value(value)?;
        u32::try_from(number)
            .map_err(|_| Diagnostic::new(at, "a length of 0 to 4294967295", number.to_string()))
    }

    fn named(&self, name: &Name) -> Result<Type> {
        if let Some(alias) = self.aliases.get(&name.text) {
            return Ok(alias.clone());
        }
        if self.model.types.contains_key(&name.text) {
            return Ok(Type::Named(name.text.clone()));
        }
        let found = format!("'{}', which nothing above defines", name.text);
        Err(Diagnostic::new(&name.position, "a type", found))
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
            (Base::Opaque, Shape::Fixed(len)) => return Ok(Type::FixedOpaque { len: self.fixed(len, at)? }),
            (Base::String, shape) => {
                let found = match shape {
                    Shape::Fixed(_) => "a length",
                    Shape::Optional => "a pointer",
                    Shape::One | Shape::Variable(_) => "no limit",
                };
                return Err(Diagnostic::new(at, "'string name<limit>'", found));
            }
            (Base::Opaque, _) => {
                let forms = "'opaque name<limit>' or 'opaque name[length]'";
                return Err(Diagnostic::new(at, forms, "neither"));
            }
            (Base::Scalar(scalar), _) => Type::Scalar(*scalar),
            (Base::Named(name), _) => self.named(name)?,
        };
        Ok(match &declaration.shape {
            Shape::One => one,
            Shape::Optional => Type::Optional(Box::new(one)),
            Shape::Fixed(len) => Type::FixedArray { of: Box::new(one), len: self.fixed(len, at)? },
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
                return Err(Diagnostic::second(&declaration.name));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn number(&self, value: &Value, at: &Position) -> Result<i32> {
        let number = self.value(value)?;
        i32::try_from(number).map_err(|_| Diagnostic::new(at, "a 32-bit number", number.to_string()))
    }

    fn members(&mut self, members: &[Member]) -> Result<Vec<(String, i32)>> {
        let mut known: Vec<(String, i32)> = Vec::with_capacity(members.len());
        for member in members {
            let at = &member.name.position;
            let value = self.number(&member.value, at)?;
            if let Some((other, _)) = known.iter().find(|(_, v)| *v == value) {
                let found = format!("{value}, which is already '{other}'");
                return Err(Diagnostic::new(at, "a new number", found).within(&member.name.text));
            }
            self.constant(&member.name, i64::from(value))?;
            known.push((member.name.text.clone(), value));
        }
        Ok(known)
    }

    fn union(&self, switch: &Declaration, arms: &[Arm]) -> Result<Union> {
        let Base::Scalar(switch_scalar @ Scalar::Int { .. }) = switch.base else {
            let expected = "'int' or 'unsigned int' to switch on";
            return Err(Diagnostic::new(&switch.name.position, expected, "another type"));
        };
        let mut known: Vec<UnionArm> = Vec::with_capacity(arms.len());
        for arm in arms {
            let case = self.number(&arm.case, &arm.position)?;
            if known.iter().any(|other| other.case == case) {
                return Err(Diagnostic::new(&arm.position, "a new case", format!("a second {case}")));
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
}
