//! A sample of every type, drawn from a source of values: tests and fuzzers need no line per type.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::wire::{Form, Wire};
use crate::model::{Field, Limit, Model, Module, Type, TypeDef, TypeKind};
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
                    let last = union.arms.last().map_or(0, |arm| arm.case);
                    let count = Literal::usize_unsuffixed(union.arms.len());
                    let arms = union.arms.iter().enumerate().map(|(index, arm)| {
                        let variant = ident(&arm.rust);
                        let value =
                            arm.field.as_ref().map(|field| wire.sample(&field.ty)).map(|v| quote!((#v)));
                        // The last arm takes the rest, so that the match needs no panic.
                        let index = Literal::usize_unsuffixed(index);
                        let pattern = if arm.case == last { quote!(_) } else { quote!(#index) };
                        quote!(#pattern => Self::#variant #value,)
                    });
                    quote!(match pick.below(#count) { #(#arms)* })
                }
            };
            let limits = limits(wire, def);
            let xdr = &def.xdr;
            rows.push(quote!(Row::of::<#name>(#xdr, &[#(#limits),*])));
            Some(quote! {
                impl Sample for #name {
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
            Vec::from([#(#rows),*])
        }
    }
}

/// For each variable field of a struct or arm of a union, and what it consists of: its limit.
fn limits(wire: Wire<'_>, def: &TypeDef) -> Vec<TokenStream> {
    let owner = ident(&def.rust);
    let mut rows = Vec::new();
    let mut row = |field: &Field, before: TokenStream, draw: &dyn Fn(TokenStream) -> TokenStream| {
        for Found { limit, before, over } in found(wire, &field.ty, before) {
            let (name, limit, over) = (&field.xdr, Literal::u32_unsuffixed(limit), draw(over));
            rows.push(quote! {
                FieldLimit {
                    field: #name,
                    limit: #limit,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        #before
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        #over
                        codec::encode(&value)
                    },
                }
            });
        }
    };
    match &def.kind {
        TypeKind::Struct(fields) => {
            for (index, field) in fields.iter().enumerate() {
                let before = fields[..index].iter().map(|field| {
                    let name = ident(&field.rust);
                    wire.encode(&field.ty, &quote!(value.#name))
                });
                let before = quote!(let value = #owner::sample(pick); #(#before)*);
                let name = ident(&field.rust);
                let others = (fields.len() > 1).then(|| quote!(..Default::default()));
                row(field, before, &|over| quote!(let value = #owner { #name: #over, #others };));
            }
        }
        TypeKind::Union(union) => {
            for arm in &union.arms {
                let Some(field) = &arm.field else { continue };
                let (variant, case) = (ident(&arm.rust), Literal::i32_unsuffixed(arm.case));
                let before = quote!(codec::put_i32(out, #case););
                row(field, before, &|over| quote!(let value = #owner::#variant(#over);));
            }
        }
        TypeKind::Alias(_) | TypeKind::Enum(_) => {}
    }
    rows
}

/// A limit within a field.
struct Found {
    limit: u32,
    /// Statements: append all that comes before the count.
    before: TokenStream,
    /// Expression: a value for the field that holds one more.
    over: TokenStream,
}

/// The limits of a type: its own, and those of what it holds.
fn found(wire: Wire<'_>, ty: &Type, before: TokenStream) -> Vec<Found> {
    let one = |limit: &Limit, item: TokenStream| {
        let (limit, over) = (limit.value, Literal::usize_unsuffixed(limit.value as usize + 1));
        let over = quote!(vec![#item; #over]);
        (limit < u32::MAX).then(|| Found { limit, before: before.clone(), over })
    };
    let inside = |of: &Type, flag: TokenStream, wrap: &dyn Fn(TokenStream) -> TokenStream| {
        let inner = found(wire, of, quote!(#before #flag)).into_iter();
        inner.map(|found| Found { over: wrap(found.over), ..found }).collect::<Vec<_>>()
    };
    match ty {
        Type::Opaque { limit } => one(limit, quote!(0)).into_iter().collect(),
        Type::String { limit } => {
            let text = one(limit, quote!(b'a')).into_iter();
            text.map(|Found { limit, before, over }| Found { limit, before, over: quote!(#over.into()) })
                .collect()
        }
        Type::Array { of, limit } => {
            let item = wire.sample(of);
            let inner = inside(of, quote!(codec::put_u32(out, 1);), &|over| quote!(vec![#over]));
            one(limit, item).into_iter().chain(inner).collect()
        }
        Type::Optional(of) => inside(of, quote!(codec::put_bool(out, true);), &|over| quote!(Some(#over))),
        Type::Scalar(_) | Type::FixedOpaque { .. } | Type::Named(_) | Type::FixedArray { .. } => Vec::new(),
    }
}
