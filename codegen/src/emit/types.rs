//! Types and their codecs: for every definition a Rust type, `Encode`, `Decode`, and xdr-codec's `Pack` and `Unpack`.

use std::collections::{BTreeSet, HashMap};

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote};

use super::wire::{Form, Wire, by_value, receiver, scalar_name, scalar_type, scalar_xdr, xdr_text};
use crate::ast::Scalar;
use crate::model::{Field, Model, Module, Procedure, Type, TypeDef, TypeKind, Union};
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
        TypeKind::Struct(fields) => structure(wire, def, fields),
        TypeKind::Union(union) => discriminated(wire, def, union),
    }
}

/// A newtype with constants, whose names are the members' without their first `prefix` bytes: values that nobody
/// knows yet pass through.
pub(super) fn open_enum(rust: &str, xdr: &str, members: &[(String, i32)], prefix: usize) -> TokenStream {
    let name = ident(rust);
    let doc = format!(" `enum {xdr}`. Unknown values pass through.");
    let rows: Vec<_> = members
        .iter()
        .map(|(member, value)| {
            (ident(&member[prefix..]), Literal::i32_unsuffixed(*value), format!(" `{member}`"), member)
        })
        .collect();
    let consts =
        rows.iter().map(|(name, value, doc, _)| quote!(#[doc = #doc] pub const #name: Self = Self(#value);));
    let names = rows.iter().map(|(name, value, ..)| {
        let text = name.to_string();
        quote!(#value => Some(#text),)
    });
    let pack = pack_impl(&name, &quote!(self.0.pack(out)));
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct #name(pub i32);
        impl #name {
            #(#consts)*
            /// The member's name, if the value is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    #(#names)*
                    _ => None,
                }
            }
        }
        impl Encode for #name {
            fn encoded_len(&self) -> usize {
                4
            }
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                codec::put_i32(out, self.0);
                Ok(())
            }
        }
        impl<'a> Decode<'a> for #name {
            #[inline]
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                reader.i32().map(Self)
            }
        }
        #pack
    }
}

/// How much of the members' names is the same, up to the last underscore.
fn common_prefix(members: &[(String, i32)]) -> usize {
    let Some((first, _)) = members.first() else { return 0 };
    let same = |len: usize| {
        members.iter().all(|(member, _)| member.as_bytes().get(..len) == first.as_bytes().get(..len))
    };
    (0..first.len())
        .rev()
        .find(|len| first[..*len].ends_with('_') && same(*len) && members.iter().all(|(m, _)| m.len() > *len))
        .filter(|len| members.iter().all(|(m, _)| !m[*len..].starts_with(|c: char| c.is_ascii_digit())))
        .unwrap_or(0)
}

fn structure(wire: Wire<'_>, def: &TypeDef, fields: &[Field]) -> TokenStream {
    let borrowed = wire.form == Form::Borrowed;
    let name = ident(&if borrowed { format!("{}Ref", def.rust) } else { def.rust.clone() });
    let life = borrowed.then(|| quote!(<'a>));
    let doc = if borrowed {
        format!(" `struct {}`, borrowed from its message.", def.xdr)
    } else {
        format!(" `struct {}`", def.xdr)
    };
    let members = fields.iter().map(|field| {
        let (name, ty) = (ident(&field.rust), wire.ty(&field.ty));
        let doc = format!(" `{}`", xdr_text(&field.ty, &field.xdr));
        quote!(#[doc = #doc] pub #name: #ty,)
    });
    let names: Vec<_> = fields.iter().map(|field| ident(&field.rust)).collect();
    let decodes = fields.iter().map(|field| wire.decode(&field.ty));
    // One look at the bytes left instead of one per field.
    let whole = wire.fixed_len(&Type::Named(def.xdr.clone())).filter(|_| fields.len() > 1).map(|len| {
        let len = Literal::usize_unsuffixed(len);
        quote!(let reader = &mut reader.part(#len)?;)
    });
    let decode = quote! {
        impl<'a> Decode<'a> for #name #life {
            #[inline]
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                #whole
                Ok(Self { #(#names: #decodes?,)* })
            }
        }
    };
    let derive = derives(wire, &Type::Named(def.xdr.clone()));
    if borrowed {
        return quote!(#[doc = #doc] #derive pub struct #name #life { #(#members)* } #decode);
    }
    let lens = fields.iter().zip(&names).map(|(field, name)| wire.len(&field.ty, &quote!(self.#name)));
    let encodes = fields.iter().zip(&names).map(|(field, name)| wire.encode(&field.ty, &quote!(self.#name)));
    let words: Option<Vec<_>> = fields.iter().map(|field| word(wire, field)).collect();
    let encode = match words.filter(|words| words.len() > 1) {
        Some(words) => quote!(codec::put_words(out, [#(#words),*]);),
        None => quote!(#(#encodes)*),
    };
    let packs = fields.iter().zip(&names).map(|(field, name)| wire.pack(&field.ty, &quote!(self.#name)));
    let mut packs: Vec<_> = packs.collect();
    let packed = if packs.len() == 1 {
        packs.remove(0)
    } else {
        let packed = sum(packs.into_iter().map(|pack| quote!(#pack?)));
        quote!(Ok(#packed))
    };
    let pack = pack_impl(&name, &packed);
    let len = sum(lens);
    quote! {
        #[doc = #doc]
        #derive
        pub struct #name { #(#members)* }
        impl Encode for #name {
            fn encoded_len(&self) -> usize {
                #len
            }
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                #encode
                Ok(())
            }
        }
        #decode
        #pack
    }
}

/// The value of a field that is one word on the wire, as that word.
fn word(wire: Wire<'_>, field: &Field) -> Option<TokenStream> {
    let name = ident(&field.rust);
    match &field.ty {
        Type::Scalar(Scalar::Int { signed: false }) => Some(quote!(self.#name)),
        Type::Scalar(Scalar::Int { signed: true }) => Some(quote!(self.#name as u32)),
        Type::Named(xdr) => match wire.model.get(xdr).map(|(_, def)| &def.kind) {
            Some(TypeKind::Enum(_)) => Some(quote!(self.#name.0 as u32)),
            _ => None,
        },
        _ => None,
    }
}

/// `a + b + c`, or 0.
fn sum(terms: impl Iterator<Item = TokenStream>) -> TokenStream {
    let terms: Vec<_> = terms.collect();
    if terms.is_empty() { quote!(0) } else { quote!(#(#terms)+*) }
}

/// `Eq` where no double is inside; views are as cheap to copy as their parts.
fn derives(wire: Wire<'_>, ty: &Type) -> TokenStream {
    let eq = (!has_double(wire.model, ty)).then(|| quote!(Eq,));
    quote!(#[derive(Clone, Debug, Default, #eq PartialEq)])
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

fn discriminated(wire: Wire<'_>, def: &TypeDef, union: &Union) -> TokenStream {
    let borrowed = wire.form == Form::Borrowed;
    let name = ident(&if borrowed { format!("{}Ref", def.rust) } else { def.rust.clone() });
    let life = borrowed.then(|| quote!(<'a>));
    let doc = format!(" `union {} switch ({} {})`", def.xdr, scalar_xdr(union.switch_scalar), union.switch);
    let variants = union.arms.iter().enumerate().map(|(index, arm)| {
        let variant = ident(&arm.rust);
        let case = arm.case_name.clone().unwrap_or_else(|| arm.case.to_string());
        let doc = match &arm.field {
            Some(field) => format!(" `case {case}: {}`", xdr_text(&field.ty, &field.xdr)),
            None => format!(" `case {case}: void`"),
        };
        let ty = arm.field.as_ref().map(|field| wire.ty(&field.ty)).map(|ty| quote!((#ty)));
        // `Default` wants a plain first variant, so it is written below where the first holds a value.
        let default = (index == 0 && ty.is_none()).then(|| quote!(#[default]));
        quote!(#[doc = #doc] #default #variant #ty,)
    });
    let decodes = union.arms.iter().map(|arm| {
        let (variant, case) = (ident(&arm.rust), Literal::i32_unsuffixed(arm.case));
        match &arm.field {
            Some(field) => {
                let decode = wire.decode(&field.ty);
                quote!(#case => #decode.map(Self::#variant),)
            }
            None => quote!(#case => Ok(Self::#variant),),
        }
    });
    let read = ident(scalar_name(union.switch_scalar));
    let cast = (scalar_type(union.switch_scalar).to_string() != "i32").then(|| quote!(as i32));
    let decode = quote! {
        impl<'a> Decode<'a> for #name #life {
            #[inline]
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match reader.#read()? #cast {
                    #(#decodes)*
                    other => Err(DecodeError::Discriminant(other)),
                }
            }
        }
    };
    let eq = (!has_double(wire.model, &Type::Named(def.xdr.clone()))).then(|| quote!(Eq,));
    let (derive, default) = match union.arms.first() {
        Some(arm) if arm.field.is_some() => {
            let variant = ident(&arm.rust);
            let default = quote! {
                impl #life Default for #name #life {
                    fn default() -> Self {
                        Self::#variant(Default::default())
                    }
                }
            };
            (quote!(#[derive(Clone, Debug, #eq PartialEq)]), Some(default))
        }
        _ => (quote!(#[derive(Clone, Debug, Default, #eq PartialEq)]), None),
    };
    if borrowed {
        return quote!(#[doc = #doc] #derive pub enum #name #life { #(#variants)* } #default #decode);
    }
    let arms = |body: &dyn Fn(&TokenStream, Option<&Field>) -> TokenStream| -> Vec<TokenStream> {
        let arm = |arm: &crate::model::UnionArm| {
            let (variant, case) = (ident(&arm.rust), Literal::i32_unsuffixed(arm.case));
            let body = body(&quote!(#case), arm.field.as_ref());
            let pattern = arm.field.is_some().then(|| quote!((value)));
            quote!(Self::#variant #pattern => #body)
        };
        union.arms.iter().map(arm).collect()
    };
    let lens = union.arms.iter().map(|arm| {
        let variant = ident(&arm.rust);
        let len = arm.field.as_ref().map(|field| match wire.fixed_len(&field.ty) {
            Some(len) => (quote!((_)), Literal::usize_unsuffixed(len).into_token_stream()),
            None => (quote!((value)), wire.len(&field.ty, &quote!(value))),
        });
        let (pattern, len) = len.unwrap_or_else(|| (TokenStream::new(), quote!(0)));
        quote!(Self::#variant #pattern => #len,)
    });
    let encodes = arms(&|case, field| {
        let value = field.map(|field| wire.encode(&field.ty, &by_value(&field.ty)));
        quote!({ codec::put_i32(out, #case); #value })
    });
    let packs = arms(&|case, field| match field {
        Some(field) => {
            let value = wire.pack(&field.ty, &receiver(&field.ty));
            quote!(Ok(i32::pack(&#case, out)? + #value?),)
        }
        None => quote!(i32::pack(&#case, out),),
    });
    let pack = pack_impl(&name, &quote!(match self { #(#packs)* }));
    quote! {
        #[doc = #doc]
        #derive
        pub enum #name { #(#variants)* }
        #default
        impl Encode for #name {
            fn encoded_len(&self) -> usize {
                4 + match self { #(#lens)* }
            }
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self { #(#encodes)* }
                Ok(())
            }
        }
        #decode
        #pack
    }
}

/// xdr-codec's traits for a type. Packing uses xdr-codec's own helpers and so is an oracle for `Encode`; unpacking
/// reads only through our bounded reader.
fn pack_impl(name: &proc_macro2::Ident, body: &TokenStream) -> TokenStream {
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
