//! Types and their codecs: for every definition a Rust type, `Encode`, `Decode`, and xdr-codec's `Pack` and `Unpack`.

mod enums;
mod structs;
mod unions;

use std::collections::{BTreeSet, HashMap};

use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;

use self::enums::common_prefix;
pub(super) use self::enums::open_enum;
use super::wire::{Form, Wire, xdr_text};
use crate::ast::Scalar;
use crate::model::{Model, Module, Procedure, Type, TypeDef, TypeKind};
use crate::names::{self, ident};

/// The types of one module.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let owned = Wire { model, module, form: Form::Owned };
    let views = reachable(model);
    let consts = module.consts.iter().map(|constant| {
        let (name, value) = (ident(&constant.name), Literal::i64_unsuffixed(constant.value));
        let doc = format!(" `const {} = {}`", constant.name, constant.value);
        // Limits and program numbers alike fit 32 bits.
        quote!(#[doc = #doc] pub const #name: u32 = #value;)
    });
    let roles = roles(module);
    let types = module.types.iter().map(|def| {
        let role = roles.get(def.xdr.as_str());
        let role = role.map(|role| quote!(#[doc = #role] #[doc = ""]));
        let borrowed = (views.contains(&def.xdr) && owned.borrows(&Type::Named(def.xdr.clone())))
            .then(|| definition(Wire { form: Form::Borrowed, ..owned }, def));
        let definition = definition(owned, def);
        quote!(#role #definition #borrowed)
    });
    quote! {
        #[allow(unused_imports)]
        use crate::codec::{self, Decode, DecodeError, Encode, EncodeError, Reader, XdrStr, XdrString};
        #[cfg(feature = "xdr-codec")]
        #[allow(unused_imports)]
        use xdr_codec::Pack as _;
        #(#consts)*
        #(#types)*
    }
}

/// What each struct of a procedure is to it, by XDR name.
fn roles(module: &Module) -> HashMap<&str, String> {
    let procedures = module.program.iter().flat_map(|program| &program.procedures);
    let role = |what: &str, procedure: &Procedure| {
        let of = procedure.api.as_ref().map_or_else(String::new, |api| format!(", behind `{api}`"));
        format!(" {what} of [`Procedure::{}`]{of}.", procedure.name)
    };
    procedures
        .flat_map(|p| [("Arguments", &p.args), ("Result", &p.ret), ("Message", &p.msg)].map(|part| (p, part)))
        .filter_map(|(p, (what, xdr))| Some((xdr.as_deref()?, role(what, p))))
        .collect()
}

/// The types that the borrowed roots are made of.
fn reachable(model: &Model) -> BTreeSet<String> {
    fn visit(model: &Model, ty: &Type, seen: &mut BTreeSet<String>) {
        match ty {
            Type::Named(xdr) => {
                if !seen.insert(xdr.clone()) {
                    return;
                }
                match model.get(xdr).map(|(_, def)| &def.kind) {
                    Some(TypeKind::Struct(fields)) => fields.iter().for_each(|f| visit(model, &f.ty, seen)),
                    Some(TypeKind::Union(union)) => {
                        union
                            .arms
                            .iter()
                            .filter_map(|a| a.field.as_ref())
                            .for_each(|f| visit(model, &f.ty, seen));
                    }
                    _ => {}
                }
            }
            Type::Optional(of) | Type::FixedArray { of, .. } | Type::Array { of, .. } => {
                visit(model, of, seen)
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    for root in names::BORROWED.iter().filter(|root| model.types.contains_key(**root)) {
        visit(model, &Type::Named((*root).to_owned()), &mut seen);
    }
    seen
}

fn definition(wire: Wire<'_>, def: &TypeDef) -> TokenStream {
    match &def.kind {
        // `remote_string` would hide Rust's own `String` wherever the module is imported whole.
        TypeKind::Alias(_) if def.rust == "String" => TokenStream::new(),
        TypeKind::Alias(ty) => {
            let (name, doc) = (ident(&def.rust), format!(" `typedef {}`", xdr_text(ty, &def.xdr)));
            let ty = wire.ty(ty);
            quote!(#[doc = #doc] pub type #name = #ty;)
        }
        TypeKind::Enum(members) => open_enum(&def.rust, &def.xdr, members, common_prefix(members)),
        TypeKind::Struct(fields) => structs::structure(wire, def, fields),
        TypeKind::Union(union) => unions::discriminated(wire, def, union),
    }
}

/// `Eq` where no double is inside.
fn eq(wire: Wire<'_>, def: &TypeDef) -> Option<TokenStream> {
    (!has_double(wire.model, &Type::Named(def.xdr.clone()))).then(|| quote!(Eq,))
}

fn has_double(model: &Model, ty: &Type) -> bool {
    match ty {
        Type::Scalar(scalar) => *scalar == Scalar::Double,
        Type::Optional(of) | Type::FixedArray { of, .. } | Type::Array { of, .. } => has_double(model, of),
        Type::Named(xdr) => match model.get(xdr).map(|(_, def)| &def.kind) {
            Some(TypeKind::Struct(fields)) => fields.iter().any(|f| has_double(model, &f.ty)),
            Some(TypeKind::Union(union)) => {
                union.arms.iter().filter_map(|a| a.field.as_ref()).any(|f| has_double(model, &f.ty))
            }
            _ => false,
        },
        _ => false,
    }
}

/// xdr-codec's traits for a type. Packing uses xdr-codec's own helpers and so is an oracle for `Encode`; unpacking
/// reads only through our bounded reader.
fn pack_impl(name: &Ident, body: &TokenStream) -> TokenStream {
    quote! {
        #[cfg(feature = "xdr-codec")]
        impl<W: std::io::Write> xdr_codec::Pack<W> for #name {
            #[allow(unused_variables)]
            fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
                #body
            }
        }
        #[cfg(feature = "xdr-codec")]
        impl xdr_codec::Unpack<Reader<'_>> for #name {
            fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
                codec::unpack(reader)
            }
        }
    }
}
