//! Discriminated unions: enums with a value in each variant.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote};

use super::{eq, pack_impl};
use crate::ast::Scalar;
use crate::emit::wire::{Form, Wire, by_value, receiver, scalar_name, scalar_xdr, xdr_text};
use crate::model::{TypeDef, Union, UnionArm};
use crate::names::ident;

/// A union and its codec; in borrowed form only the decoder.
pub(super) fn discriminated(wire: Wire<'_>, def: &TypeDef, union: &Union) -> TokenStream {
    let declaration = declaration(wire, def, union);
    let decode = decode(wire, def, union);
    if wire.form == Form::Borrowed {
        return quote!(#declaration #decode);
    }
    let encode = encode(wire, def, union);
    let packs = union.arms.iter().map(|arm| {
        let (pattern, case) = (pattern(arm), case(arm));
        match &arm.field {
            Some(field) => {
                let value = wire.pack(&field.ty, &receiver(&field.ty));
                quote!(#pattern => Ok(i32::pack(&#case, out)? + #value?),)
            }
            None => quote!(#pattern => i32::pack(&#case, out),),
        }
    });
    let pack = pack_impl(&ident(&def.rust), &quote!(match self { #(#packs)* }));
    quote!(#declaration #encode #decode #pack)
}

/// The enum, and its `Default`: the first variant.
fn declaration(wire: Wire<'_>, def: &TypeDef, union: &Union) -> TokenStream {
    let (name, life) = wire.named(def);
    let doc = format!(" `union {} switch ({} {})`", def.xdr, scalar_xdr(union.switch_scalar), union.switch);
    let variants = union.arms.iter().enumerate().map(|(index, arm)| {
        let variant = ident(&arm.rust);
        let case = arm.case_name.clone().unwrap_or_else(|| arm.case.to_string());
        let doc = match &arm.field {
            Some(field) => format!(" `case {case}: {}`", xdr_text(&field.ty, &field.xdr)),
            None => format!(" `case {case}: void`"),
        };
        let ty = arm.field.as_ref().map(|field| wire.ty(&field.ty)).map(|ty| quote!((#ty)));
        // The derive wants a plain first variant; where it holds a value, `Default` is written out below.
        let default = (index == 0 && ty.is_none()).then(|| quote!(#[default]));
        quote!(#[doc = #doc] #default #variant #ty,)
    });
    let eq = eq(wire, def);
    let valued = union.arms.first().filter(|arm| arm.field.is_some()).map(|arm| ident(&arm.rust));
    let derive = if valued.is_some() { quote!() } else { quote!(Default,) };
    let default = valued.map(|variant| {
        quote! {
            impl #life Default for #name #life {
                fn default() -> Self {
                    Self::#variant(Default::default())
                }
            }
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug, #derive #eq PartialEq)]
        pub enum #name #life { #(#variants)* }
        #default
    }
}

fn decode(wire: Wire<'_>, def: &TypeDef, union: &Union) -> TokenStream {
    let (name, life) = wire.named(def);
    let arms = union.arms.iter().map(|arm| {
        let (variant, case) = (ident(&arm.rust), case(arm));
        match &arm.field {
            Some(field) => {
                let decode = wire.decode(&field.ty);
                quote!(#case => #decode.map(Self::#variant),)
            }
            None => quote!(#case => Ok(Self::#variant),),
        }
    });
    let read = ident(scalar_name(union.switch_scalar));
    let cast = (union.switch_scalar != Scalar::Int { signed: true }).then(|| quote!(as i32));
    quote! {
        impl<'a> Decode<'a> for #name #life {
            #[inline]
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match reader.#read()? #cast {
                    #(#arms)*
                    other => Err(DecodeError::Discriminant(other)),
                }
            }
        }
    }
}

fn encode(wire: Wire<'_>, def: &TypeDef, union: &Union) -> TokenStream {
    let name = ident(&def.rust);
    let lens = union.arms.iter().map(|arm| {
        let variant = ident(&arm.rust);
        let len = arm.field.as_ref().map(|field| match wire.fixed_len(&field.ty) {
            Some(len) => (quote!((_)), Literal::usize_unsuffixed(len).into_token_stream()),
            None => (quote!((value)), wire.len(&field.ty, &quote!(value))),
        });
        let (pattern, len) = len.unwrap_or_else(|| (quote!(), quote!(0)));
        quote!(Self::#variant #pattern => #len,)
    });
    let encodes = union.arms.iter().map(|arm| {
        let (pattern, case) = (pattern(arm), case(arm));
        let value = arm.field.as_ref().map(|field| wire.encode(&field.ty, &by_value(&field.ty)));
        quote!(#pattern => { codec::put_i32(out, #case); #value })
    });
    quote! {
        impl Encode for #name {
            fn encoded_len(&self) -> usize {
                4 + match self { #(#lens)* }
            }
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self { #(#encodes)* }
                Ok(())
            }
        }
    }
}

/// The variant, its value called `value`.
fn pattern(arm: &UnionArm) -> TokenStream {
    let variant = ident(&arm.rust);
    let value = arm.field.is_some().then(|| quote!((value)));
    quote!(Self::#variant #value)
}

fn case(arm: &UnionArm) -> Literal {
    Literal::i32_unsuffixed(arm.case)
}
