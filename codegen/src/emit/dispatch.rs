//! What the daemon does with a call: per procedure a function that decodes, asks the driver and encodes, and the
//! table of these functions by procedure number.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::driver::{method_name, struct_path};
use super::{access, checks};
use super::{prelude, procedure_doc};
use crate::model::{Direction, Model, Module, Procedure, ReadOnly};
use crate::names::ident;

/// The dispatch table of one program.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let Some(program) = &module.program else { return TokenStream::new() };
    let calls: Vec<&Procedure> =
        program.procedures.iter().filter(|p| p.direction == Direction::Call).collect();
    let functions = calls.iter().map(|procedure| function(model, module, procedure));
    let last = program.procedures.last().map_or(0, |p| p.number);
    let rows = (0..=last).map(|number| match calls.iter().find(|p| p.number == number) {
        Some(procedure) => {
            let name = method_name(module, procedure);
            quote!(Some(#name))
        }
        None => quote!(None),
    });
    let (table, len) = (
        ident(&format!("{}_PROCS", module.naming.module.to_ascii_uppercase())),
        Literal::i32_unsuffixed(last + 1),
    );
    let doc = format!(" What serves each procedure of program `{}`, by number.", module.naming.module);
    let prelude = prelude();
    quote! {
        #prelude
        #[doc = #doc]
        pub static #table: [Option<Serve>; #len] = [#(#rows),*];
        #(#functions)*
    }
}

/// The function that serves a procedure.
pub fn function(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let (name, doc) = (method_name(module, procedure), procedure_doc(procedure));
    let family = ident(procedure.family.name());
    let access = access::checks(model, procedure);
    let (before, changing) = (&access.before, access.changes_args.then(|| quote!(mut)));
    let counting = before.to_string().contains("only_count").then(|| quote!(let mut only_count = false;));
    let permit = (!before.is_empty()).then(|| quote!(#counting if call.is_guarded() { #before }));
    let decode = procedure.args.as_ref().map(|args| {
        let path = struct_path(model, args);
        quote!(let #changing args = call.decode::<#path>(payload)?;)
    });
    let readonly = match &procedure.readonly {
        ReadOnly::IfFlags(bits) => {
            let bits = Literal::u32_unsuffixed(*bits);
            Some(quote!(call.refuse_read_only_if(args.flags & #bits != 0)?;))
        }
        ReadOnly::IfField(field, value) => {
            let (field, value) = (ident(&crate::names::snake(field)), Literal::i64_unsuffixed(*value));
            Some(quote!(call.refuse_read_only_if(args.#field == #value)?;))
        }
        ReadOnly::Served | ReadOnly::Refused => None,
    };
    let checks = checks::statements(model, procedure);
    let payload = if decode.is_some() { quote!(payload) } else { quote!(_) };
    let args = decode.as_ref().map(|_| quote!(, args));
    let open = procedure.stream.as_ref().map(|stream| {
        let flags = match &stream.sparse_flag {
            Some((_, bit)) => {
                let bit = Literal::i64_unsuffixed(*bit);
                quote!(args.flags & #bit != 0)
            }
            None => quote!(false),
        };
        quote!(let stream = call.open_stream(#flags)?;)
    });
    let stream = open.as_ref().map(|_| quote!(, stream));
    let take = (procedure.fds_call.max > 0).then(|| {
        let (min, max) = (
            Literal::u32_unsuffixed(procedure.fds_call.min),
            Literal::u32_unsuffixed(procedure.fds_call.max),
        );
        quote!(let fds = call.take_descriptors(#min, #max)?;)
    });
    let fds = take.as_ref().map(|_| quote!(, fds));
    let asked = quote!(driver.#name(&call.cx #args #stream #fds).await?);
    let changing = access.changes_ret.then(|| quote!(mut));
    let answer = match (procedure.ret.is_some(), procedure.fds_reply.max > 0, &access.after) {
        (false, false, _) => quote!(#asked; call.done()),
        (true, false, None) => quote!(call.reply(&#asked)),
        (true, false, Some(check)) => quote!(let #changing ret = #asked; #check call.reply(&ret)),
        (false, true, _) => quote!(let fds = #asked; call.done_with(fds)),
        (true, true, check) => {
            quote!(let (#changing ret, fds) = #asked; #check call.reply_with(&ret, fds))
        }
    };
    let mutable = take.as_ref().map(|_| quote!(mut));
    quote! {
        #doc
        fn #name(#mutable call: Call, #payload: &[u8]) -> Serving {
            #decode
            #checks
            #readonly
            let driver = call.#family()?;
            #open
            #take
            Ok(Box::pin(async move { #permit #answer }))
        }
    }
}
