//! The shapes of structs as plain data, for tools that decode any procedure without a line of code per type.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::wire::scalar_name;
use crate::model::{Limit, Model, Module, Type, TypeKind};
use crate::names::{camel, ident, snake};

/// A module `schema` with a static per type.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let statics = module.types.iter().filter_map(|def| {
        let (name, xdr) = (static_name(&def.rust), &def.xdr);
        let doc = format!(" `{xdr}`");
        let body = match &def.kind {
            TypeKind::Alias(_) => return None,
            TypeKind::Enum(members) => {
                let members = members.iter().map(|(member, value)| {
                    let value = Literal::i32_unsuffixed(*value);
                    quote!((#member, #value))
                });
                quote!(EnumDef = EnumDef { name: #xdr, members: &[#(#members),*] })
            }
            TypeKind::Struct(fields) => {
                let fields = fields.iter().map(|field| {
                    let (name, ty) = (&field.xdr, ty(model, module, &field.ty));
                    quote!((#name, #ty))
                });
                quote!(StructDef = StructDef { name: #xdr, fields: &[#(#fields),*] })
            }
            TypeKind::Union(union) => {
                let arms = union.arms.iter().map(|arm| {
                    let case = Literal::i32_unsuffixed(arm.case);
                    let arm = match &arm.field {
                        Some(field) => {
                            let (name, ty) = (&field.xdr, ty(model, module, &field.ty));
                            quote!(Some((#name, #ty)))
                        }
                        None => quote!(None),
                    };
                    quote!((#case, #arm))
                });
                quote!(UnionDef = UnionDef { name: #xdr, arms: &[#(#arms),*] })
            }
        };
        Some(quote!(#[doc = #doc] pub static #name: #body;))
    });
    quote! {
        /// The shapes of this module's types.
        pub mod schema {
            #[allow(unused_imports)]
            use crate::schema::{EnumDef, StructDef, Ty, UnionDef};
            #(#statics)*
        }
    }
}

fn static_name(rust: &str) -> proc_macro2::Ident {
    ident(&snake(rust).to_ascii_uppercase())
}

/// The static of a type, seen from `module`'s own root.
pub(super) fn path(model: &Model, module: &Module, xdr: &str) -> TokenStream {
    let Some((home, def)) = model.get(xdr) else { return quote!(compile_error!("unresolved type")) };
    let name = static_name(&def.rust);
    if home.naming.module == module.naming.module {
        quote!(schema::#name)
    } else {
        let home = ident(home.naming.module);
        quote!(crate::#home::schema::#name)
    }
}

fn ty(model: &Model, module: &Module, of: &Type) -> TokenStream {
    let limit = |limit: &Limit| Literal::u32_unsuffixed(limit.value);
    match of {
        Type::Scalar(scalar) => {
            let variant = ident(&camel(scalar_name(*scalar)));
            quote!(Ty::#variant)
        }
        Type::String { limit: l } => {
            let limit = limit(l);
            quote!(Ty::String(#limit))
        }
        Type::Opaque { limit: l } => {
            let limit = limit(l);
            quote!(Ty::Opaque(#limit))
        }
        Type::FixedOpaque { len } => {
            let len = Literal::u32_unsuffixed(*len);
            quote!(Ty::FixedOpaque(#len))
        }
        Type::Named(xdr) => {
            let Some((home, def)) = model.get(xdr) else { return quote!(compile_error!("unresolved type")) };
            let variant = ident(match def.kind {
                TypeKind::Enum(_) => "Enum",
                TypeKind::Union(_) => "Union",
                _ => "Struct",
            });
            let (home_name, name) = (ident(home.naming.module), static_name(&def.rust));
            if home.naming.module == module.naming.module {
                quote!(Ty::#variant(&#name))
            } else {
                quote!(Ty::#variant(&crate::#home_name::schema::#name))
            }
        }
        Type::Optional(of) => {
            let of = ty(model, module, of);
            quote!(Ty::Optional(&#of))
        }
        Type::FixedArray { of, len } => {
            let (of, len) = (ty(model, module, of), Literal::u32_unsuffixed(*len));
            quote!(Ty::FixedArray(&#of, #len))
        }
        Type::Array { of, limit: l } => {
            let (of, limit) = (ty(model, module, of), limit(l));
            quote!(Ty::Array(&#of, #limit))
        }
    }
}
