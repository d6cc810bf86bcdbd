//! What a driver implements: a trait per family, a method per procedure, each with the answer "not supported".

use proc_macro2::TokenStream;
use quote::quote;

use super::{prelude, procedure_doc};
use crate::families::{Family, served};
use crate::model::{Direction, Model, Module, Procedure};
use crate::names::{ident, snake};

/// The traits of these families.
pub fn render(model: &Model, families: &[Family]) -> TokenStream {
    let traits = families.iter().map(|family| {
        let methods = model
            .procedures()
            .filter(|(_, p)| p.family == *family && p.direction == Direction::Call)
            .filter(|(module, _)| served(module.naming.module))
            .map(|(module, procedure)| method(model, module, procedure));
        family_trait(*family, methods.collect())
    });
    let prelude = prelude();
    quote!(#prelude #(#traits)*)
}

/// The trait that serves a procedure, with its method alone.
pub fn render_one(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    family_trait(procedure.family, method(model, module, procedure))
}

fn family_trait(family: Family, methods: TokenStream) -> TokenStream {
    let name = ident(family.trait_name());
    let doc = format!(
        " {}: a method per procedure. One that is left out answers `VIR_ERR_NO_SUPPORT`.",
        family.title()
    );
    quote! {
        #[doc = #doc]
        #[async_trait::async_trait]
        pub trait #name: Send + Sync { #methods }
    }
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
