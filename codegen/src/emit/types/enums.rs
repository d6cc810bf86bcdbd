//! Enums, open as on the wire.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::pack_impl;
use crate::names::ident;

/// A newtype with constants, whose names are the members' without their first `prefix` bytes: values that nobody
/// knows yet pass through.
pub(in crate::emit) fn open_enum(
    rust: &str,
    xdr: &str,
    members: &[(String, i32)],
    prefix: usize,
) -> TokenStream {
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
pub(super) fn common_prefix(members: &[(String, i32)]) -> usize {
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
