//! Client stubs: a method per procedure, typed from argument to result. A stub says what differs; the rest is done
//! by a handful of methods of `Connection`, so that hundreds of stubs stay cheap to compile.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::driver::{method_name, struct_path};
use super::procedure_doc;
use crate::model::{Direction, Model, Module, Procedure};
use crate::names::ident;

/// The stubs of one program, as methods of `Connection`.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let Some(program) = &module.program else { return TokenStream::new() };
    let calls = program.procedures.iter().filter(|p| p.direction == Direction::Call);
    let methods = calls.map(|procedure| stub(model, module, procedure));
    let prefix = module.naming.module;
    let doc = format!(" The procedures of program `{prefix}`.");
    quote! {
        #[doc = #doc]
        impl Connection { #(#methods)* }
    }
}

/// A table that calls each stub with a sample of its arguments: name, and what makes the call. `Stub` and `outcome` are whatever
/// the table is included beside.
pub fn exercises(model: &Model, modules: &[&Module]) -> TokenStream {
    let rows = modules.iter().flat_map(|module| {
        let procedures = module.program.iter().flat_map(|program| &program.procedures);
        procedures.filter(|p| p.direction == Direction::Call).map(|procedure| {
            let name = stub_name(module, procedure);
            let text = name.to_string();
            let args = procedure.args.as_ref().map(|args| struct_path(model, args));
            let args = args.map(|args| quote!(&<#args as Sample>::sample(&mut Pick::new(seed)),));
            let fds = (procedure.fds_call.max > 0).then(|| quote!(Vec::new()));
            let seed = if args.is_some() { quote!(seed) } else { quote!(_) };
            quote!((#text, |connection, #seed| outcome(connection.#name(#args #fds))))
        })
    });
    quote! {
        /// Every stub, with a sample of its arguments.
        pub(crate) const STUBS: &[(&str, Stub)] = &[#(#rows),*];
    }
}

/// The name of the method; the administration's have their program's name before them.
fn stub_name(module: &Module, procedure: &Procedure) -> Ident {
    let name = method_name(module, procedure);
    if module.naming.module == "admin" { ident(&format!("admin_{name}")) } else { name }
}

fn stub(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let doc = procedure_doc(procedure);
    let name = stub_name(module, procedure);
    let (program, number) = (ident(module.naming.module), ident(&procedure.name));
    let args =
        procedure.args.as_ref().map(|args| struct_path(model, args)).map(|args| quote!(, args: &#args));
    let sent = if args.is_some() { quote!(args) } else { quote!(&()) };
    let target = quote!(&#program::PROGRAM, #program::Procedure::#number.0, #sent);
    let ret = procedure.ret.as_ref().map(|ret| struct_path(model, ret));
    let takes = (procedure.fds_call.max > 0).then(|| quote!(, fds: Vec<OwnedFd>));
    let fds = if takes.is_some() { quote!(fds) } else { quote!(Vec::new()) };
    let (returned, body) = match (&procedure.stream, procedure.fds_reply.max > 0, ret) {
        (Some(_), _, None) => (quote!(Stream), quote!(self.call_streaming(#target, call::stream))),
        (Some(_), _, Some(ret)) => {
            (quote!((#ret, Stream)), quote!(self.call_streaming(#target, call::with_stream)))
        }
        (None, true, None) => {
            (quote!(Vec<OwnedFd>), quote!(self.call_taking(#target, #fds, call::descriptors)))
        }
        (None, true, Some(ret)) => {
            (quote!((#ret, Vec<OwnedFd>)), quote!(self.call_taking(#target, #fds, call::with_descriptors)))
        }
        (None, false, ret) => {
            let call = match takes {
                Some(_) => quote!(self.call_giving(#target, #fds)),
                None => quote!(self.call(#target)),
            };
            (ret.unwrap_or_else(|| quote!(())), call)
        }
    };
    quote! {
        #doc
        pub fn #name(&self #args #takes) -> Call<#returned> {
            #body
        }
    }
}
