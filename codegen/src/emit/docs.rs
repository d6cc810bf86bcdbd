//! Reference documentation of the protocol in Markdown: a page per driver family, one of the events, one of the types.

use super::wire::xdr_text;
use crate::inventory::rule;
use crate::model::{
    Acl, Descriptors, Direction, Model, Module, Procedure, ReadOnly, StreamMode, TypeDef, TypeKind,
};

/// All pages: file name and text.
pub fn render(model: &Model) -> Vec<(String, String)> {
    let mut index = format!("# Protocol reference\n\n{HEAD}\n{}", programs(model));
    index += "\n| page | procedures |\n|---|---|\n";
    let mut pages = Vec::new();
    for section in model.sections() {
        let mut text = format!("# {}\n", section.title);
        for (module, procedure) in &section.procedures {
            text += &format!("\n{}", self::procedure(model, module, procedure));
        }
        let file = format!("{}.md", section.file);
        index += &format!("| [{}]({file}) | {} |\n", section.title, section.procedures.len());
        pages.push((file, text));
    }
    index += "| [Types](types.md) | |\n";
    pages.push(("types.md".to_owned(), types(model)));
    pages.push(("README.md".to_owned(), index));
    pages
}

const HEAD: &str = "\
Generated from the definition files in `protocol/x` (`virtwire-codegen docs DIR`). Types are written as in XDR
(RFC 4506); a limit is given by name and number.
";

fn programs(model: &Model) -> String {
    let mut text = "| program | number | version | calls | events |\n|---|---|---|---|---|\n".to_owned();
    for module in &model.modules {
        let Some(program) = &module.program else { continue };
        let count = |direction| program.procedures.iter().filter(|p| p.direction == direction).count();
        text += &format!(
            "| {} | {:#010x} | {} | {} | {} |\n",
            module.naming.module,
            program.number.unwrap_or_default(),
            program.version.unwrap_or_default(),
            count(Direction::Call),
            count(Direction::Event),
        );
    }
    text
}

/// One procedure.
pub fn procedure(model: &Model, module: &Module, procedure: &Procedure) -> String {
    let mut text = format!("## {}\n\n`{}` = {}", procedure.name, procedure.constant, procedure.number);
    text += &procedure.api.as_ref().map_or_else(String::new, |api| format!(", behind `{api}`"));
    text += &procedure.since.as_ref().map_or_else(String::new, |since| format!(", since libvirt {since}"));
    text += &format!(" (program `{}`).\n\n", module.naming.module);
    let own: Vec<_> = [&procedure.args, &procedure.ret, &procedure.msg].into_iter().flatten().collect();
    if !own.is_empty() {
        let definitions = own.iter().filter_map(|xdr| model.get(xdr)).map(|(_, def)| definition(def));
        text += &format!("```c\n{}```\n\n", definitions.collect::<String>());
    }
    for (what, rule) in rules(procedure) {
        text += &format!("- {what}: {rule}\n");
    }
    text
}

fn rules(procedure: &Procedure) -> Vec<(&'static str, String)> {
    let mut rules = Vec::new();
    if procedure.direction == Direction::Call {
        rules.push(("Read-only connections", readonly(&procedure.readonly)));
    }
    if !procedure.needs_auth {
        rules.push(("Authentication", "served before it".to_owned()));
    }
    if procedure.high_priority {
        rules.push(("Priority", "high: never waits for a hypervisor".to_owned()));
    }
    if let Some(stream) = &procedure.stream {
        let way = match stream.mode {
            StreamMode::Read => "from the daemon",
            StreamMode::Write => "to the daemon",
        };
        let holes = stream.sparse_flag.as_ref();
        let holes = holes.map_or_else(String::new, |(flag, bit)| format!(", holes with `{flag}` ({bit})"));
        rules.push(("Stream", format!("{way}{holes}")));
    }
    for (what, fds) in [
        ("Descriptors with the call", procedure.fds_call),
        ("Descriptors with the reply", procedure.fds_reply),
    ] {
        match fds {
            Descriptors::NONE => {}
            Descriptors { min, max } if min == max => rules.push((what, min.to_string())),
            Descriptors { min, max } => rules.push((what, format!("{min} to {max}"))),
        }
    }
    let list = |acl: &[Acl]| acl.iter().map(|acl| format!("`{}`", rule(acl))).collect::<Vec<_>>().join(", ");
    if let Some(acl) = procedure.acl.as_deref().filter(|acl| !acl.is_empty()) {
        rules.push(("Access", list(acl)));
    }
    if !procedure.aclfilter.is_empty() {
        rules.push(("Access to each object", list(&procedure.aclfilter)));
    }
    if let Some(event) = &procedure.event {
        let id = event.id.map_or_else(String::new, |id| format!(", id {id}"));
        let to = if event.legacy { " without callback ids" } else { "" };
        rules.push(("Event", format!("class `{}`{id}, to clients that registered{to}", event.class)));
    }
    rules
}

fn readonly(rule: &ReadOnly) -> String {
    match rule {
        ReadOnly::Served => "served".to_owned(),
        ReadOnly::Refused => "refused".to_owned(),
        ReadOnly::IfFlags(bits) => format!("refused if `flags` has any bit of {bits:#x}"),
        ReadOnly::IfField(field, value) => format!("refused if `{field}` is {value}"),
    }
}

/// The types that are no procedure's own.
fn types(model: &Model) -> String {
    let own = |xdr: &String| {
        let parts = model.procedures().flat_map(|(_, p)| [&p.args, &p.ret, &p.msg]).flatten();
        parts.into_iter().any(|part| part == xdr)
    };
    let mut text = "# Types\n".to_owned();
    for module in &model.modules {
        let shared: Vec<_> = module.types.iter().filter(|def| !own(&def.xdr)).collect();
        if !shared.is_empty() {
            text += &format!("\n## {}\n\n```c\n", module.naming.module);
            shared.into_iter().for_each(|def| text += &definition(def));
            text += "```\n";
        }
    }
    text
}

fn definition(def: &TypeDef) -> String {
    let name = &def.xdr;
    match &def.kind {
        TypeKind::Alias(ty) => format!("typedef {};\n", xdr_text(ty, name)),
        TypeKind::Enum(members) => {
            let members = members.iter().map(|(member, value)| format!("    {member} = {value},\n"));
            format!("enum {name} {{\n{}}};\n", members.collect::<String>())
        }
        TypeKind::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("    {};\n", xdr_text(&field.ty, &field.xdr)));
            format!("struct {name} {{\n{}}};\n", fields.collect::<String>())
        }
        TypeKind::Union(union) => {
            let arms = union.arms.iter().map(|arm| {
                let case = arm.case_name.clone().unwrap_or_else(|| arm.case.to_string());
                let field = arm.field.as_ref().map(|field| xdr_text(&field.ty, &field.xdr));
                format!("    case {case}: {};\n", field.unwrap_or_else(|| "void".to_owned()))
            });
            format!("union {name} switch (int {}) {{\n{}}};\n", union.switch, arms.collect::<String>())
        }
    }
}
