//! All that is generated for one procedure, section by section.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;

use crate::emit::{self, docs};
use crate::model::{Direction, Model, Module, Procedure, Program, Type, TypeDef, TypeKind};

/// Finds procedures by name, in any program and in any case: `DOMAIN_SUSPEND`, `remote_proc_domain_suspend`.
pub fn find<'a>(model: &'a Model, name: &str) -> Vec<(&'a Module, &'a Procedure)> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    model.procedures().filter(|(_, procedure)| is(&procedure.name) || is(&procedure.constant)).collect()
}

/// The text for one procedure: its documentation, then what each emitter writes.
pub fn procedure(model: &Model, module: &Module, procedure: &Procedure) -> String {
    let part = part(model, module, procedure);
    let row = emit::procedures::info(model, module, procedure);
    let mut sections: Vec<(&str, TokenStream)> = vec![
        ("types", emit::types::render(model, &part)),
        ("row of the procedure table", quote!(const ROW: ProcedureInfo = #row;)),
        ("schema", emit::schema::render(model, &part)),
        ("samples", emit::samples::render(model, &part)),
    ];
    match procedure.direction {
        Direction::Call => sections.extend([
            ("driver", emit::driver::render_one(model, module, procedure)),
            ("dispatch", emit::dispatch::function(model, module, procedure)),
            ("client", emit::client::render(model, &part)),
        ]),
        Direction::Event => sections.push(("event", emit::events::render(model, &part))),
    }
    let mut text = docs::procedure(model, module, procedure);
    for (title, tokens) in sections.into_iter().filter(|(_, tokens)| !tokens.is_empty()) {
        text += &format!("\n// ---- {title} {}\n\n{}", "-".repeat(70 - title.len()), emit::format(tokens));
    }
    text
}

/// The module as if it held this procedure alone, and an event's other form.
fn part(model: &Model, module: &Module, procedure: &Procedure) -> Module {
    let same = |other: &&Procedure| {
        let event = procedure.event.as_ref();
        other.number == procedure.number
            || event.zip(other.event.as_ref()).is_some_and(|(a, b)| a.class == b.class && a.id == b.id)
    };
    let program = module.program.as_ref();
    let procedures: Vec<_> =
        program.iter().flat_map(|program| &program.procedures).filter(same).cloned().collect();
    let mut used = BTreeSet::new();
    for procedure in &procedures {
        [&procedure.args, &procedure.ret, &procedure.msg]
            .into_iter()
            .flatten()
            .for_each(|xdr| reach(model, xdr, &mut used));
    }
    let types = module.types.iter().filter(|def| used.contains(&def.xdr)).cloned().collect::<Vec<TypeDef>>();
    let (number, version) = program.map_or((None, None), |program| (program.number, program.version));
    let program = Some(Program { number, version, procedures });
    Module { naming: module.naming, consts: Vec::new(), types, program }
}

/// Adds a type and all that it is made of.
fn reach(model: &Model, xdr: &str, used: &mut BTreeSet<String>) {
    if !used.insert(xdr.to_owned()) {
        return;
    }
    let inner = |ty: &Type, used: &mut BTreeSet<String>| {
        if let Some(inner) = ty.inner() {
            reach(model, inner, used);
        }
    };
    match model.get(xdr).map(|(_, def)| &def.kind) {
        Some(TypeKind::Struct(fields)) => fields.iter().for_each(|field| inner(&field.ty, used)),
        Some(TypeKind::Union(union)) => {
            union.arms.iter().filter_map(|arm| arm.field.as_ref()).for_each(|field| inner(&field.ty, used));
        }
        Some(TypeKind::Alias(ty)) => inner(ty, used),
        Some(TypeKind::Enum(_)) | None => {}
    }
}
