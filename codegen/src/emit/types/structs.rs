//! Structs.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{eq, pack_impl};
use crate::ast::Scalar;
use crate::emit::wire::{Form, Wire, xdr_text};
use crate::model::{Field, Type, TypeDef, TypeKind};
use crate::names::ident;

/// A struct, its derives and its codec; in borrowed form only the decoder.
pub(super) fn structure(wire: Wire<'_>, def: &TypeDef, fields: &[Field]) -> TokenStream {
    let borrowed = wire.form == Form::Borrowed;
    let (name, life) = wire.named(def);
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
    let eq = eq(wire, def);
    let derive = quote!(#[derive(Clone, Debug, Default, #eq PartialEq)]);
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
