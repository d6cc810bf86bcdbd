//! What a driver implements: a trait per family, a method per procedure, each with the answer "not supported".

use proc_macro2::TokenStream;
use quote::quote;

use super::{prelude, procedure_doc};
use crate::families::Family;
use crate::model::{Direction, Model, Module, Procedure};
use crate::names::{ident, snake};

/// The traits of these families.
pub fn render(model: &Model, families: &[Family]) -> TokenStream {
    let traits = families.iter().map(|family| family_trait(model, *family));
    let prelude = prelude();
    quote!(#prelude #(#traits)*)
}

fn family_trait(model: &Model, family: Family) -> TokenStream {
    let name = ident(family.trait_name());
    let doc = format!(
        " {}: a method per procedure. One that is left out answers `VIR_ERR_NO_SUPPORT`.",
        family.title()
    );
    let methods = model
        .procedures()
        .filter(|(_, p)| p.family == family && p.direction == Direction::Call)
        .filter(|(module, _)| served(module))
        .map(|(module, procedure)| method(model, module, procedure));
    quote! {
        #[doc = #doc]
        #[async_trait::async_trait]
        pub trait #name: Send + Sync {
            #(#methods)*
        }
    }
}

/// Whether libvirtd serves a program: lock and log belong to daemons of their own, keepalive to the connection.
pub fn served(module: &Module) -> bool {
    module.program.is_some() && !["lock", "log", "keepalive"].contains(&module.naming.module)
}

/// The method of a procedure: programs other than `remote` put their name before it, as `qemu_domain_attach`.
pub(crate) fn method_name(module: &Module, procedure: &Procedure) -> proc_macro2::Ident {
    let name = snake(&procedure.name);
    match module.naming.module {
        "qemu" | "lxc" => ident(&format!("{}_{name}", module.naming.module)),
        _ => ident(&name),
    }
}

/// The path of a struct of the protocol crate, below the [`prelude`].
pub(super) fn struct_path(model: &Model, xdr: &str) -> TokenStream {
    let Some((module, def)) = model.get(xdr) else { return quote!(compile_error!("unresolved type")) };
    let (module, name) = (ident(module.naming.module), ident(&def.rust));
    quote!(#module::#name)
}

/// What a method returns: the result struct, the descriptors, both or neither.
fn returned(model: &Model, procedure: &Procedure) -> TokenStream {
    let ret = procedure.ret.as_ref().map(|ret| struct_path(model, ret));
    match (ret, procedure.fds_reply.max > 0) {
        (None, false) => quote!(()),
        (Some(ret), false) => ret,
        (None, true) => quote!(Vec<std::os::fd::OwnedFd>),
        (Some(ret), true) => quote!((#ret, Vec<std::os::fd::OwnedFd>)),
    }
}

fn method(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let (name, doc) = (method_name(module, procedure), procedure_doc(procedure));
    let args = procedure.args.as_ref().map(|args| struct_path(model, args)).map(|args| quote!(, args: #args));
    let stream = procedure.stream.as_ref().map(|_| quote!(, stream: StreamEnd));
    let fds = (procedure.fds_call.max > 0).then(|| quote!(, fds: Vec<std::os::fd::OwnedFd>));
    let unused_args = args.as_ref().map(|_| quote!(, args));
    let unused_stream = stream.as_ref().map(|_| quote!(, stream));
    let unused_fds = fds.as_ref().map(|_| quote!(, fds));
    let ignore = match (&unused_args, &unused_stream, &unused_fds) {
        (None, None, None) => quote!(let _ = cx;),
        _ => quote!(let _ = (cx #unused_args #unused_stream #unused_fds);),
    };
    let ret = returned(model, procedure);
    let api = procedure.api.as_deref().unwrap_or(&procedure.name);
    let domain = proc_macro2::Literal::i32_unsuffixed(procedure.error_domain);
    quote! {
        #doc
        async fn #name(&self, cx: &CallCx #args #stream #fds) -> Result<#ret, VirtError> {
            #ignore
            Err(ErrorDomain(#domain).no_support(#api))
        }
    }
}
