//! The table of a program's procedures: numbers, names and all that is known of each, as plain data.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::schema;
use super::types::open_enum;
use crate::model::{Acl, AclCondition, Direction, Model, Module, Procedure, Program, ReadOnly, StreamMode};
use crate::names::{camel, ident};

/// The table of one module, if it defines a program.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let Some(program) = &module.program else { return TokenStream::new() };
    let members: Vec<_> = program.procedures.iter().map(|p| (p.constant.clone(), p.number)).collect();
    let constants = open_enum(
        "Procedure",
        &format!("{}_procedure", module.naming.module),
        &members,
        module.naming.procedures.len(),
    );
    let table = table(program, |procedure| info(model, module, procedure));
    let name = module.naming.module;
    let number = hexadecimal(program.number.unwrap_or_default());
    let version = Literal::i64_unsuffixed(program.version.unwrap_or_default());
    quote! {
        #[allow(unused_imports)]
        use crate::procedures::{
            Acl, AclWhen, Check, Direction, EventInfo, Family, ProcedureInfo, Program, ReadOnly, Rule, Stream,
            StreamMode, When,
        };
        use crate::error::ErrorDomain;
        #constants
        /// The program: its numbers and its procedures.
        pub static PROGRAM: Program =
            Program { name: #name, number: #number, version: #version, procedures: &PROCEDURES };
        #table
    }
}

/// Program numbers are known by their digits in hexadecimal.
fn hexadecimal(number: i64) -> Literal {
    format!("{number:#010x}").parse().unwrap_or_else(|_| Literal::i64_unsuffixed(number))
}

/// An array indexed by procedure number.
fn table(program: &Program, row: impl Fn(&Procedure) -> TokenStream) -> TokenStream {
    let last = program.procedures.last().map_or(0, |p| p.number);
    let len = Literal::i32_unsuffixed(last + 1);
    let rows = (0..=last).map(|number| match program.procedures.iter().find(|p| p.number == number) {
        Some(procedure) => {
            let row = row(procedure);
            quote!(Some(#row))
        }
        None => quote!(None),
    });
    quote! {
        static PROCEDURES: [Option<ProcedureInfo>; #len] = [#(#rows),*];
    }
}

/// A row says what sets the procedure apart; `ProcedureInfo::PLAIN` says the rest.
pub fn info(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let (name, number) = (&procedure.name, Literal::i32_unsuffixed(procedure.number));
    let family = ident(&camel(procedure.family.name()));
    let mut row = quote!(number: #number, name: #name, family: Family::#family,);
    let mut set = |tokens: TokenStream| row.extend(tokens);
    if procedure.direction == Direction::Event {
        set(quote!(direction: Direction::Event,));
    }
    if !procedure.needs_auth {
        set(quote!(needs_auth: false,));
    }
    if procedure.high_priority {
        set(quote!(high_priority: true,));
    }
    match &procedure.readonly {
        ReadOnly::Served => {}
        ReadOnly::Refused => set(quote!(readonly: ReadOnly::Refused,)),
        ReadOnly::IfFlags(bits) => {
            let bits = Literal::u32_unsuffixed(*bits);
            set(quote!(readonly: ReadOnly::IfFlags(#bits),));
        }
        ReadOnly::IfField(field, value) => {
            let value = Literal::i64_unsuffixed(*value);
            set(quote!(readonly: ReadOnly::IfField(#field, #value),));
        }
    }
    let [denied_by, error_domain] =
        [procedure.denied_by, procedure.error_domain].map(Literal::i32_unsuffixed);
    set(quote!(denied_by: ErrorDomain(#denied_by), error_domain: ErrorDomain(#error_domain),));
    if let Some(stream) = &procedure.stream {
        let mode = match stream.mode {
            StreamMode::Read => quote!(StreamMode::Read),
            StreamMode::Write => quote!(StreamMode::Write),
        };
        let sparse_flag = Literal::i64_unsuffixed(stream.sparse_flag.as_ref().map_or(0, |(_, value)| *value));
        set(quote!(stream: Some(Stream { mode: #mode, sparse_flag: #sparse_flag }),));
    }
    for (field, fds) in [("fds_call", procedure.fds_call), ("fds_reply", procedure.fds_reply)] {
        if fds.max > 0 {
            let (field, min, max) =
                (ident(field), Literal::u32_unsuffixed(fds.min), Literal::u32_unsuffixed(fds.max));
            set(quote!(#field: (#min, #max),));
        }
    }
    if let Some(rules) = procedure.acl.as_deref().filter(|rules| !rules.is_empty()) {
        let rules = acl(rules);
        set(quote!(acl: #rules,));
    }
    if !procedure.aclfilter.is_empty() {
        let rules = acl(&procedure.aclfilter);
        set(quote!(aclfilter: #rules,));
    }
    for (field, text) in [("api", &procedure.api), ("since", &procedure.since)] {
        if let Some(text) = text {
            let field = ident(field);
            set(quote!(#field: #text,));
        }
    }
    if let Some(checks) = super::checks::data(procedure) {
        set(quote!(checks: #checks,));
    }
    if let Some(event) = &procedure.event {
        let (class, legacy) = (&event.class, event.legacy);
        let id = Literal::i32_unsuffixed(event.id.unwrap_or(-1));
        set(quote!(event: Some(EventInfo { class: #class, id: #id, legacy: #legacy }),));
    }
    for (field, xdr) in [("args", &procedure.args), ("ret", &procedure.ret), ("msg", &procedure.msg)] {
        if let Some(xdr) = xdr {
            let (field, path) = (ident(field), schema::path(model, module, xdr));
            set(quote!(#field: Some(&#path),));
        }
    }
    quote!(ProcedureInfo { #row ..ProcedureInfo::PLAIN })
}

fn acl(rules: &[Acl]) -> TokenStream {
    let bits =
        |flags: &[(String, i64)]| Literal::i64_unsuffixed(flags.iter().fold(0, |all, (_, bit)| all | bit));
    let rules = rules.iter().map(|rule| {
        let (object, permission) = (&rule.object, &rule.permission);
        let when = match &rule.condition {
            AclCondition::Always => quote!(AclWhen::Always),
            AclCondition::AllSet(flags) => {
                let bits = bits(flags);
                quote!(AclWhen::AllSet(#bits))
            }
            AclCondition::NoneSet(flags) => {
                let bits = bits(flags);
                quote!(AclWhen::NoneSet(#bits))
            }
            AclCondition::Param(field, _, value) => {
                let value = Literal::i64_unsuffixed(*value);
                quote!(AclWhen::Param(#field, #value))
            }
        };
        quote!(Acl { object: #object, permission: #permission, when: #when })
    });
    quote!(&[#(#rules),*])
}
