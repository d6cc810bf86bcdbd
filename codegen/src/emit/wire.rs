//! Expressions that measure, encode, decode and sample one value. Every emitter that touches bytes uses these.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;

use crate::ast::Scalar;
use crate::model::{Limit, Model, Module, Type, TypeDef, TypeKind};
use crate::names::ident;

/// Owned values, or views into the message they came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Owned,
    Borrowed,
}

/// What an emitter knows while it writes one module.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) model: &'a Model,
    pub(super) module: &'a Module,
    pub(super) form: Form,
}

impl Wire<'_> {
    /// The Rust path of a named type, as seen from the module being written.
    pub(super) fn path(&self, xdr: &str) -> TokenStream {
        let Some((module, def)) = self.model.get(xdr) else {
            return quote!(compile_error!("unresolved type"));
        };
        let suffix = if self.form == Form::Borrowed && self.borrows(&Type::Named(xdr.to_owned())) {
            "Ref"
        } else {
            ""
        };
        let name = ident(&format!("{}{suffix}", def.rust));
        let life = (!suffix.is_empty()).then(|| quote!(<'a>));
        if module.naming.module == self.module.naming.module {
            quote!(#name #life)
        } else {
            let module = ident(module.naming.module);
            quote!(crate::#module::#name #life)
        }
    }

    /// The Rust name of a definition of this module, and its lifetime in borrowed form.
    pub(super) fn named(&self, def: &TypeDef) -> (Ident, Option<TokenStream>) {
        match self.form {
            Form::Owned => (ident(&def.rust), None),
            Form::Borrowed => (ident(&format!("{}Ref", def.rust)), Some(quote!(<'a>))),
        }
    }

    /// A limit, by the name it was given by where that is one of our constants.
    fn limit(&self, limit: &Limit) -> TokenStream {
        let value = Literal::u32_unsuffixed(limit.value);
        let Some(name) = &limit.name else { return quote!(#value) };
        let defines = |module: &&Module| module.consts.iter().any(|constant| constant.name == *name);
        let name = ident(name);
        match self.model.modules.iter().find(defines) {
            Some(home) if home.naming.module == self.module.naming.module => quote!(#name),
            Some(home) => {
                let home = ident(home.naming.module);
                quote!(crate::#home::#name)
            }
            None => quote!(#value),
        }
    }

    /// Whether a view of this type has anything to borrow.
    pub(super) fn borrows(&self, ty: &Type) -> bool {
        match ty {
            Type::Scalar(_) | Type::FixedOpaque { .. } => false,
            Type::String { .. } | Type::Opaque { .. } => true,
            Type::Optional(of) | Type::FixedArray { of, .. } | Type::Array { of, .. } => self.borrows(of),
            Type::Named(xdr) => match self.model.get(xdr).map(|(_, def)| &def.kind) {
                Some(TypeKind::Struct(fields)) => fields.iter().any(|field| self.borrows(&field.ty)),
                Some(TypeKind::Union(union)) => union
                    .arms
                    .iter()
                    .filter_map(|arm| arm.field.as_ref())
                    .any(|field| self.borrows(&field.ty)),
                _ => false,
            },
        }
    }

    /// The Rust type.
    pub(super) fn ty(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => scalar_type(*scalar),
            Type::String { .. } if self.form == Form::Borrowed => quote!(XdrStr<'a>),
            Type::Opaque { .. } if self.form == Form::Borrowed => quote!(&'a [u8]),
            Type::String { .. } => quote!(XdrString),
            Type::Opaque { .. } => quote!(Vec<u8>),
            Type::FixedOpaque { len } => {
                let len = Literal::u32_unsuffixed(*len);
                quote!([u8; #len])
            }
            Type::Named(xdr) => self.path(xdr),
            Type::Optional(of) => {
                let of = self.ty(of);
                quote!(Option<#of>)
            }
            Type::FixedArray { of, len } => {
                let (of, len) = (self.ty(of), Literal::u32_unsuffixed(*len));
                quote!([#of; #len])
            }
            Type::Array { of, .. } => {
                let of = self.ty(of);
                quote!(Vec<#of>)
            }
        }
    }

    /// `usize` expression: the encoded length of `value`, a place expression.
    pub(super) fn len(&self, ty: &Type, value: &TokenStream) -> TokenStream {
        if let Some(len) = self.fixed_len(ty) {
            let len = Literal::usize_unsuffixed(len);
            return quote!(#len);
        }
        match ty {
            Type::String { .. } | Type::Opaque { .. } => quote!(codec::opaque_len(#value.len())),
            Type::Optional(of) => {
                let pattern = if self.fixed_len(of).is_some() { quote!(_) } else { quote!(value) };
                let of = self.len(of, &quote!(value));
                quote!(4 + #value.as_ref().map_or(0, |#pattern| #of))
            }
            Type::FixedArray { of, .. } => {
                let of = self.len(of, &quote!(value));
                quote!(#value.iter().map(|value| #of).sum::<usize>())
            }
            Type::Array { of, .. } => match self.fixed_len(of) {
                Some(each) => {
                    let each = Literal::usize_unsuffixed(each);
                    quote!(4 + #each * #value.len())
                }
                None => {
                    let of = self.len(of, &quote!(value));
                    quote!(4 + #value.iter().map(|value| #of).sum::<usize>())
                }
            },
            Type::Named(_) | Type::Scalar(_) | Type::FixedOpaque { .. } => quote!(#value.encoded_len()),
        }
    }

    /// The length of a type whose every value has the same.
    pub(super) fn fixed_len(&self, ty: &Type) -> Option<usize> {
        let least = self.min_len(ty);
        let varies = match ty {
            Type::Scalar(_) | Type::FixedOpaque { .. } => false,
            Type::String { .. } | Type::Opaque { .. } | Type::Optional(_) | Type::Array { .. } => true,
            Type::FixedArray { of, .. } => self.fixed_len(of).is_none(),
            Type::Named(xdr) => match self.model.get(xdr).map(|(_, def)| &def.kind) {
                Some(TypeKind::Enum(_)) => false,
                Some(TypeKind::Struct(fields)) => {
                    fields.iter().any(|field| self.fixed_len(&field.ty).is_none())
                }
                _ => true,
            },
        };
        (!varies).then_some(least)
    }

    /// The least that a value takes on the wire.
    pub(super) fn min_len(&self, ty: &Type) -> usize {
        match ty {
            Type::Scalar(Scalar::Hyper { .. } | Scalar::Double) => 8,
            Type::Scalar(_)
            | Type::String { .. }
            | Type::Opaque { .. }
            | Type::Optional(_)
            | Type::Array { .. } => 4,
            Type::FixedOpaque { len } => (*len as usize).next_multiple_of(4),
            Type::FixedArray { of, len } => self.min_len(of) * *len as usize,
            Type::Named(xdr) => match self.model.get(xdr).map(|(_, def)| &def.kind) {
                Some(TypeKind::Struct(fields)) => fields.iter().map(|field| self.min_len(&field.ty)).sum(),
                Some(TypeKind::Union(union)) => {
                    let arm = |field: &Option<crate::model::Field>| {
                        field.as_ref().map_or(0, |f| self.min_len(&f.ty))
                    };
                    4 + union.arms.iter().map(|a| arm(&a.field)).min().unwrap_or(0)
                }
                _ => 4,
            },
        }
    }

    /// Statement: appends `value`, a place expression, to `out`.
    pub(super) fn encode(&self, ty: &Type, value: &TokenStream) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => {
                let put = ident(&format!("put_{}", scalar_name(*scalar)));
                quote!(codec::#put(out, #value);)
            }
            Type::String { limit } => {
                let limit = self.limit(limit);
                quote!(codec::put_opaque(out, #value.as_bytes(), #limit)?;)
            }
            Type::Opaque { limit } => {
                let limit = self.limit(limit);
                quote!(codec::put_opaque(out, &#value, #limit)?;)
            }
            Type::FixedOpaque { .. } => quote!(codec::put_fixed(out, &#value);),
            Type::Named(_) => quote!(#value.encode(out)?;),
            Type::Optional(of) => {
                let of = self.encode(of, &by_value(of));
                quote! {
                    codec::put_bool(out, #value.is_some());
                    if let Some(value) = &#value { #of }
                }
            }
            Type::FixedArray { of, .. } => {
                let of = self.encode(of, &by_value(of));
                quote!(for value in &#value { #of })
            }
            Type::Array { of, limit } => {
                let limit = self.limit(limit);
                let of = self.encode(of, &by_value(of));
                quote! {
                    codec::put_count(out, #value.len(), #limit)?;
                    for value in &#value { #of }
                }
            }
        }
    }

    /// Expression of type `Result<T, DecodeError>`: reads a value from `reader`.
    pub(super) fn decode(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => {
                let get = ident(scalar_name(*scalar));
                quote!(reader.#get())
            }
            Type::String { limit } => {
                let limit = self.limit(limit);
                let get = if self.form == Form::Borrowed { ident("str") } else { ident("string") };
                quote!(reader.#get(#limit))
            }
            Type::Opaque { limit } => {
                let limit = self.limit(limit);
                let get = if self.form == Form::Borrowed { ident("opaque_ref") } else { ident("opaque") };
                quote!(reader.#get(#limit))
            }
            Type::FixedOpaque { .. } => quote!(reader.fixed()),
            Type::Named(xdr) => {
                let path = self.path(xdr);
                // A path with a lifetime needs its brackets.
                if self.form == Form::Borrowed {
                    quote!(<#path>::decode(reader))
                } else {
                    quote!(#path::decode(reader))
                }
            }
            Type::Optional(of) => {
                let of = self.decode_fn(of);
                quote!(reader.optional(#of))
            }
            Type::FixedArray { of, .. } => {
                let of = self.decode_fn(of);
                quote!(reader.array(#of))
            }
            Type::Array { of, limit } => {
                let limit = self.limit(limit);
                let least = Literal::usize_unsuffixed(self.min_len(of));
                let of = self.decode_fn(of);
                quote!(reader.list(#limit, #least, #of))
            }
        }
    }

    /// The function that reads one item.
    fn decode_fn(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => {
                let get = ident(scalar_name(*scalar));
                quote!(Reader::#get)
            }
            Type::Named(xdr) => {
                let path = self.path(xdr);
                if self.form == Form::Borrowed { quote!(<#path>::decode) } else { quote!(#path::decode) }
            }
            _ => {
                let read = self.decode(ty);
                quote!(|reader| #read)
            }
        }
    }

    /// The function that draws one item.
    fn sample_fn(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => {
                let draw = ident(scalar_name(*scalar));
                quote!(Pick::#draw)
            }
            Type::Named(xdr) => {
                let path = self.path(xdr);
                quote!(#path::sample)
            }
            _ => {
                let draw = self.sample(ty);
                quote!(|pick| #draw)
            }
        }
    }

    /// Expression of type `xdr_codec::Result<usize>`: packs `value`, a place expression, by xdr-codec's own helpers.
    pub(super) fn pack(&self, ty: &Type, value: &TokenStream) -> TokenStream {
        if packs_itself(ty) {
            return quote!(#value.pack(out));
        }
        match ty {
            Type::Scalar(scalar) => match scalar {
                Scalar::Char { signed: true } => quote!(i32::from(#value as i8).pack(out)),
                Scalar::Char { signed: false } | Scalar::Short { signed: false } => {
                    quote!(u32::from(#value).pack(out))
                }
                _ => quote!(i32::from(#value).pack(out)),
            },
            Type::Opaque { .. } => quote!(xdr_codec::pack_opaque_flex(&#value, None, out)),
            Type::FixedOpaque { len } => {
                let len = Literal::u32_unsuffixed(*len);
                quote!(xdr_codec::pack_opaque_array(&#value, #len, out))
            }
            Type::String { .. } | Type::Named(_) => quote!(#value.pack(out)),
            Type::Optional(of) => {
                let of = self.pack(of, &receiver(of));
                quote! {
                    match &#value {
                        Some(value) => Ok(true.pack(out)? + #of?),
                        None => false.pack(out),
                    }
                }
            }
            Type::FixedArray { of, .. } => {
                let of = self.pack(of, &receiver(of));
                quote!(#value.iter().try_fold(0, |sum, value| xdr_codec::Result::Ok(sum + #of?)))
            }
            Type::Array { of, .. } => {
                let of = self.pack(of, &receiver(of));
                quote!((#value.len() as u32).pack(out).and_then(|count| {
                    #value.iter().try_fold(count, |sum, value| xdr_codec::Result::Ok(sum + #of?))
                }))
            }
        }
    }

    /// Expression: a sample value drawn from `pick`.
    pub(super) fn sample(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Scalar(scalar) => {
                let draw = ident(scalar_name(*scalar));
                quote!(pick.#draw())
            }
            Type::String { limit } => {
                let limit = self.limit(limit);
                quote!(pick.string(#limit))
            }
            Type::Opaque { limit } => {
                let limit = self.limit(limit);
                quote!(pick.opaque(#limit))
            }
            Type::FixedOpaque { .. } => quote!(pick.fixed()),
            Type::Named(xdr) => {
                let path = self.path(xdr);
                quote!(#path::sample(pick))
            }
            Type::Optional(of) => {
                let of = self.sample_fn(of);
                quote!(pick.optional(#of))
            }
            Type::FixedArray { of, .. } => {
                let of = self.sample(of);
                quote!(std::array::from_fn(|_| #of))
            }
            Type::Array { of, limit } => {
                let limit = self.limit(limit);
                let of = self.sample_fn(of);
                quote!(pick.list(#limit, #of))
            }
        }
    }
}

/// Whether xdr-codec packs our Rust type as it stands: it has no `u8`, and no list of them, that is XDR's.
fn packs_itself(ty: &Type) -> bool {
    match ty {
        Type::Scalar(Scalar::Char { .. } | Scalar::Short { .. }) => false,
        Type::Scalar(_) | Type::String { .. } | Type::Named(_) => true,
        Type::Optional(of) | Type::Array { of, .. } => packs_itself(of),
        Type::Opaque { .. } | Type::FixedOpaque { .. } | Type::FixedArray { .. } => false,
    }
}

/// The loop variable `value`, a reference, as an argument: scalars are wanted by value.
pub(super) fn by_value(ty: &Type) -> TokenStream {
    if matches!(ty, Type::Scalar(_)) { quote!(*value) } else { quote!(value) }
}

/// The same before a method call.
pub(super) fn receiver(ty: &Type) -> TokenStream {
    if matches!(ty, Type::Scalar(_)) { quote!((*value)) } else { quote!(value) }
}

/// What a scalar is called in the runtime: `reader.u32()`, `codec::put_u32()`.
pub(super) fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Char { signed: true } => "char",
        Scalar::Char { signed: false } => "uchar",
        Scalar::Short { signed: true } => "short",
        Scalar::Short { signed: false } => "ushort",
        Scalar::Int { signed: true } => "i32",
        Scalar::Int { signed: false } => "u32",
        Scalar::Hyper { signed: true } => "i64",
        Scalar::Hyper { signed: false } => "u64",
        Scalar::Double => "f64",
        Scalar::Bool => "bool",
    }
}

/// The Rust type of a scalar. A `char` is a byte, whatever its sign: it holds text.
pub(super) fn scalar_type(scalar: Scalar) -> TokenStream {
    match scalar {
        Scalar::Char { .. } => quote!(u8),
        Scalar::Short { signed: true } => quote!(i16),
        Scalar::Short { signed: false } => quote!(u16),
        Scalar::Int { signed: true } => quote!(i32),
        Scalar::Int { signed: false } => quote!(u32),
        Scalar::Hyper { signed: true } => quote!(i64),
        Scalar::Hyper { signed: false } => quote!(u64),
        Scalar::Double => quote!(f64),
        Scalar::Bool => quote!(bool),
    }
}

/// A declaration as the definition file writes it, for documentation; an alias inside is written out.
pub(super) fn xdr_text(ty: &Type, name: &str) -> String {
    match ty {
        Type::Scalar(scalar) => format!("{} {name}", scalar_xdr(*scalar)),
        Type::String { limit } => format!("string {name}<{}>", limit_text(limit)),
        Type::Opaque { limit } => format!("opaque {name}<{}>", limit_text(limit)),
        Type::FixedOpaque { len } => format!("opaque {name}[{len}]"),
        Type::Named(xdr) => format!("{xdr} {name}"),
        Type::Optional(of) => format!("{} *{name}", item_text(of)),
        Type::FixedArray { of, len } => format!("{} {name}[{len}]", item_text(of)),
        Type::Array { of, limit } => format!("{} {name}<{}>", item_text(of), limit_text(limit)),
    }
}

/// What a list or an optional is of.
fn item_text(ty: &Type) -> String {
    match ty {
        Type::Scalar(scalar) => scalar_xdr(*scalar).to_owned(),
        Type::String { limit } => format!("string<{}>", limit_text(limit)),
        Type::Opaque { limit } => format!("opaque<{}>", limit_text(limit)),
        Type::FixedOpaque { len } => format!("opaque[{len}]"),
        Type::Named(xdr) => xdr.clone(),
        Type::Optional(of) => format!("{} *", item_text(of)),
        Type::FixedArray { of, len } => format!("{}[{len}]", item_text(of)),
        Type::Array { of, limit } => format!("{}<{}>", item_text(of), limit_text(limit)),
    }
}

fn limit_text(limit: &Limit) -> String {
    match &limit.name {
        Some(constant) => format!("{constant} = {}", limit.value),
        None if limit.value == u32::MAX => String::new(),
        None => limit.value.to_string(),
    }
}

pub(super) fn scalar_xdr(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Char { signed: true } => "char",
        Scalar::Char { signed: false } => "unsigned char",
        Scalar::Short { signed: true } => "short",
        Scalar::Short { signed: false } => "unsigned short",
        Scalar::Int { signed: true } => "int",
        Scalar::Int { signed: false } => "unsigned int",
        Scalar::Hyper { signed: true } => "hyper",
        Scalar::Hyper { signed: false } => "unsigned hyper",
        Scalar::Double => "double",
        Scalar::Bool => "bool",
    }
}
