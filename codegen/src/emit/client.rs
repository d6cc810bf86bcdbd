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
    let target =
        quote!(&virtwire_protocol::#program::PROGRAM, virtwire_protocol::#program::Procedure::#number.0);
    let args =
        procedure.args.as_ref().map(|args| struct_path(model, args)).map(|args| quote!(, args: &#args));
    let sent = if args.is_some() { quote!(args) } else { quote!(&()) };
    let ret = procedure.ret.as_ref().map_or_else(|| quote!(()), |ret| struct_path(model, ret));
    let takes = (procedure.fds_call.max > 0).then(|| quote!(, fds: Vec<std::os::fd::OwnedFd>));
    let fds = if takes.is_some() { quote!(fds) } else { quote!(Vec::new()) };
    let mut_ret = if procedure.stream.is_some() { quote!((#ret, Stream)) } else { ret.clone() };
    if procedure.stream.is_some() {
        return quote! {
            #doc
            pub async fn #name(&self #args) -> Result<#mut_ret, Error> {
                self.call_stream(#target, #sent).await
            }
        };
    }
    if procedure.fds_reply.max > 0 {
        return quote! {
            #doc
            pub async fn #name(&self #args #takes) -> Result<(#ret, Vec<std::os::fd::OwnedFd>), Error> {
                self.call_with_descriptors(#target, #sent, #fds).await
            }
        };
    }
    if takes.is_some() {
        return quote! {
            #doc
            pub async fn #name(&self #args #takes) -> Result<#ret, Error> {
                Ok(self.call_with_descriptors(#target, #sent, #fds).await?.0)
            }
        };
    }
    quote! {
        #doc
        pub async fn #name(&self #args) -> Result<#ret, Error> {
            self.call(#target, #sent).await
        }
    }
}
