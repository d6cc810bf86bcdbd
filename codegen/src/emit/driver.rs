//! What a driver implements: a trait per family, a method per procedure, each with the answer "not supported"; and the
//! signatures of these methods as a macro, so that a driver's table need not repeat them.

use proc_macro2::{Ident, TokenStream};
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

/// The macro behind `serve!`: a rule per procedure, which adds the signature of its method to the row of a driver's
/// table.
pub fn render_signatures(model: &Model, families: &[Family]) -> TokenStream {
    let root = quote!($crate::);
    let rules = model
        .procedures()
        .filter(|(_, p)| families.contains(&p.family) && p.direction == Direction::Call)
        .filter(|(module, _)| served(module.naming.module))
        .map(|(module, procedure)| {
            let name = method_name(module, procedure);
            let (names, types) = parameters(model, procedure, &root);
            let ret = returned(model, procedure, &root);
            quote!((#name $($row:tt)*) => { $crate::method! { #name(#(#names: #types),*) -> #ret, $($row)* } };)
        });
    quote! {
        /// Puts the signature of a procedure's method before what a row of `serve!` says of it.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! signature { #(#rules)* }
    }
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
pub(crate) fn method_name(module: &Module, procedure: &Procedure) -> Ident {
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

/// What a method returns: the result struct, the descriptors, both or neither. `root` is the path of their modules.
fn returned(model: &Model, procedure: &Procedure, root: &TokenStream) -> TokenStream {
    let ret = procedure.ret.as_ref().map(|ret| struct_path(model, ret));
    match (ret, procedure.fds_reply.max > 0) {
        (None, false) => quote!(()),
        (Some(ret), false) => quote!(#root #ret),
        (None, true) => quote!(Vec<std::os::fd::OwnedFd>),
        (Some(ret), true) => quote!((#root #ret, Vec<std::os::fd::OwnedFd>)),
    }
}

/// What a method is given besides the call's context: names and types. `root` is the path of their modules.
fn parameters(model: &Model, procedure: &Procedure, root: &TokenStream) -> (Vec<Ident>, Vec<TokenStream>) {
    let args = procedure
        .args
        .as_ref()
        .map(|args| struct_path(model, args))
        .map(|args| ("args", quote!(#root #args)));
    let stream = procedure.stream.as_ref().map(|_| ("stream", quote!(#root StreamEnd)));
    let fds = (procedure.fds_call.max > 0).then(|| ("fds", quote!(Vec<std::os::fd::OwnedFd>)));
    [args, stream, fds].into_iter().flatten().map(|(name, path)| (ident(name), path)).unzip()
}

fn method(model: &Model, module: &Module, procedure: &Procedure) -> TokenStream {
    let (name, doc) = (method_name(module, procedure), procedure_doc(procedure));
    let here = TokenStream::new();
    let (names, types) = parameters(model, procedure, &here);
    let ret = returned(model, procedure, &here);
    let ignore = if names.is_empty() { quote!(let _ = cx;) } else { quote!(let _ = (cx #(, #names)*);) };
    let api = procedure.api.as_deref().unwrap_or(&procedure.name);
    let domain = proc_macro2::Literal::i32_unsuffixed(procedure.error_domain);
    quote! {
        #doc
        async fn #name(&self, cx: &CallCx #(, #names: #types)*) -> Result<#ret, VirtError> {
            #ignore
            Err(ErrorDomain(#domain).no_support(#api))
        }
    }
}
