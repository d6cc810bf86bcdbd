//! Client stubs: a method per procedure, typed from argument to result.

use proc_macro2::TokenStream;
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

fn stub(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let doc = procedure_doc(procedure);
    let name = match module.naming.module {
        "admin" => ident(&format!("admin_{}", method_name(module, procedure))),
        _ => method_name(module, procedure),
    };
    let (program, number) = (ident(module.naming.module), ident(&procedure.name));
    let target = quote!(&#program::PROGRAM, #program::Procedure::#number.0);
    let args = procedure.args.as_ref().map(|args| struct_path(model, args));
    let (args, sent) = match args {
        Some(args) => (quote!(, args: &#args), quote!(args)),
        None => (TokenStream::new(), quote!(&())),
    };
    let (taken, fds) = match procedure.fds_call.max {
        0 => (TokenStream::new(), quote!(Vec::new())),
        _ => (quote!(, fds: Vec<std::os::fd::OwnedFd>), quote!(fds)),
    };
    let ret = procedure.ret.as_ref().map_or_else(|| quote!(()), |ret| struct_path(model, ret));
    let (returned, call) = if procedure.stream.is_some() {
        (quote!((#ret, Stream)), quote!(self.call_stream(#target, #sent).await))
    } else if procedure.fds_reply.max > 0 {
        let returned = quote!((#ret, Vec<std::os::fd::OwnedFd>));
        (returned, quote!(self.call_with_descriptors(#target, #sent, #fds).await))
    } else if procedure.fds_call.max > 0 {
        (ret, quote!(Ok(self.call_with_descriptors(#target, #sent, #fds).await?.0)))
    } else {
        (ret, quote!(self.call(#target, #sent).await))
    };
    quote! {
        #doc
        pub async fn #name(&self #args #taken) -> Result<#returned, Error> {
            #call
        }
    }
}
