//! A sample of every type, drawn from a source of values: tests and fuzzers need no line per type.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::wire::{Form, Wire};
use crate::model::{Field, Model, Module, Type, TypeKind};
use crate::names::ident;

/// `Sample` for every type of a module, and the list `SAMPLES`.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let wire = Wire { model, module, form: Form::Owned };
    let mut rows = Vec::new();
    let impls: Vec<_> = module
        .types
        .iter()
        .filter_map(|def| {
            let name = ident(&def.rust);
            let body = match &def.kind {
                TypeKind::Alias(_) => return None,
                TypeKind::Enum(members) => {
                    let values = members.iter().map(|(_, value)| Literal::i32_unsuffixed(*value));
                    quote!(Self(pick.one_of(&[#(#values),*])))
                }
                TypeKind::Struct(fields) => {
                    let names = fields.iter().map(|field| ident(&field.rust));
                    let samples = fields.iter().map(|field| wire.sample(&field.ty));
                    quote!(Self { #(#names: #samples),* })
                }
                TypeKind::Union(union) => {
                    let count = Literal::usize_unsuffixed(union.arms.len());
                    let arms = union.arms.iter().enumerate().map(|(index, arm)| {
                        let (index, variant) = (Literal::usize_unsuffixed(index), ident(&arm.rust));
                        let value =
                            arm.field.as_ref().map(|field| wire.sample(&field.ty)).map(|v| quote!((#v)));
                        // The last arm takes the rest, so that the match needs no panic.
                        let pattern = if index.to_string() == (union.arms.len() - 1).to_string() {
                            quote!(_)
                        } else {
                            quote!(#index)
                        };
                        quote!(#pattern => Self::#variant #value,)
                    });
                    quote!(match pick.below(#count) { #(#arms)* })
                }
            };
            let limits = match &def.kind {
                TypeKind::Struct(fields) => limits(wire, &def.rust, fields),
                _ => Vec::new(),
            };
            let xdr = &def.xdr;
            rows.push(quote!(Row::of::<#name>(#xdr, &[#(#limits),*])));
            Some(quote! {
                impl Sample for #name {
                    #[allow(unused_variables)]
                    fn sample(pick: &mut Pick) -> Self {
                        #body
                    }
                }
            })
        })
        .collect();
    quote! {
        #(#impls)*
        /// One row per type: how to draw, encode, decode and pack it, and where its limits are.
        pub fn samples() -> Vec<Row> {
            vec![#(#rows),*]
        }
    }
}

/// For each variable field of a struct: its limit, and the bytes that come before its count.
fn limits(wire: Wire<'_>, rust: &str, fields: &[Field]) -> Vec<TokenStream> {
    let owner = ident(rust);
    fields
        .iter()
        .enumerate()
        .filter_map(|(index, field)| {
            let limit = match &field.ty {
                Type::String { limit } | Type::Opaque { limit } | Type::Array { limit, .. }
                    if limit.value < u32::MAX =>
                {
                    limit
                }
                _ => return None,
            };
            let (name, limit) = (&field.xdr, Literal::u32_unsuffixed(limit.value));
            let before = fields[..index].iter().map(|field| {
                let name = ident(&field.rust);
                wire.encode(&field.ty, &quote!(value.#name))
            });
            Some(quote! {
                FieldLimit {
                    field: #name,
                    limit: #limit,
                    before: |pick, out| {
                        let value = #owner::sample(pick);
                        let _ = (&value, &out);
                        #(#before)*
                        Ok(())
                    },
                }
            })
        })
        .collect()
}
