//! The rules of a procedure's arguments: as data, and as what the daemon asks before it asks a driver.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::ast::Scalar;
use crate::checks::{Check, Rule, When, is_optional};
use crate::model::{Field, Model, Procedure, Type, TypeKind};
use crate::names::{ident, snake};

/// The rules as data, in the order in which they are looked at.
pub(super) fn data(procedure: &Procedure) -> Option<TokenStream> {
    let api = procedure.api.as_deref().unwrap_or(&procedure.name);
    let rows = procedure.checks.iter().map(|check| {
        let (field, name, text) = (&check.field, &check.name, check.text(api));
        let rule = rule(&check.rule);
        let when = check.when.iter().map(when);
        quote!(Check { field: #field, name: #name, rule: #rule, when: &[#(#when),*], text: #text })
    });
    (!procedure.checks.is_empty()).then(|| quote!(&[#(#rows),*]))
}

fn rule(rule: &Rule) -> TokenStream {
    let number = |value: &i64| Literal::i64_unsuffixed(*value);
    match rule {
        Rule::Positive => quote!(Rule::Positive),
        Rule::NonNegative => quote!(Rule::NonNegative),
        Rule::NonZero => quote!(Rule::NonZero),
        Rule::NonNull => quote!(Rule::NonNull),
        Rule::Null => quote!(Rule::Null),
        Rule::NonEmpty => quote!(Rule::NonEmpty),
        Rule::OneLine => quote!(Rule::OneLine),
        Rule::Is(value) => call(quote!(Is), &[number(value)]),
        Rule::Below(value) => call(quote!(Below), &[number(value)]),
        Rule::Clear(bits) => call(quote!(Clear), &[number(bits)]),
        Rule::Max(value) => call(quote!(Max), &[number(value)]),
        Rule::Count => quote!(Rule::Count),
        Rule::Unsigned => quote!(Rule::Unsigned),
        Rule::Most(value) => call(quote!(Most), &[number(value)]),
        Rule::Product(field, value) => {
            let value = number(value);
            quote!(Rule::Product(#field, #value))
        }
        Rule::Overflow(value) => call(quote!(Overflow), &[number(value)]),
        Rule::Excludes((_, a), (_, b)) => call(quote!(Excludes), &[number(a), number(b)]),
        Rule::Requires((_, a), (_, b)) => call(quote!(Requires), &[number(a), number(b)]),
    }
}

fn call(rule: TokenStream, numbers: &[Literal]) -> TokenStream {
    quote!(Rule::#rule(#(#numbers),*))
}

fn when(when: &When) -> TokenStream {
    let numbers = |values: &[i64]| {
        let values = values.iter().map(|value| Literal::i64_unsuffixed(*value));
        quote!(&[#(#values),*])
    };
    match when {
        When::Is(field, values) => {
            let values = numbers(values);
            quote!(When::Is(#field, #values))
        }
        When::IsNot(field, values) => {
            let values = numbers(values);
            quote!(When::IsNot(#field, #values))
        }
        When::Present(field) => quote!(When::Present(#field)),
        When::NoneOf(field, bits) => {
            let bits = Literal::i64_unsuffixed(*bits);
            quote!(When::NoneOf(#field, #bits))
        }
    }
}

/// Statements that refuse the call where a rule is broken.
pub(super) fn statements(model: &Model, procedure: &Procedure) -> TokenStream {
    let kind = procedure.args.as_deref().and_then(|xdr| model.get(xdr)).map(|(_, def)| &def.kind);
    let Some(TypeKind::Struct(fields)) = kind else { return TokenStream::new() };
    let statements = procedure.checks.iter().enumerate().map(|(index, check)| {
        let Some(field) = fields.iter().find(|field| field.xdr == check.field) else {
            return quote!(compile_error!("an argument that is not there"););
        };
        let (broken, value) = broken(check, field);
        let when = check.when.iter().map(holds);
        let index = Literal::usize_unsuffixed(index);
        quote!(call.refuse_if(#broken #(&& #when)*, #index, #value)?;)
    });
    quote!(#(#statements)*)
}

/// Whether the rule is broken, and the value for the error's text.
fn broken(check: &Check, field: &Field) -> (TokenStream, TokenStream) {
    let name = ident(&check.rust());
    let arg = quote!(args.#name);
    let number = |value: i64| Literal::i64_unsuffixed(value);
    let signed =
        matches!(field.ty, Type::Scalar(Scalar::Int { signed: true } | Scalar::Hyper { signed: true }));
    let is_number = matches!(field.ty, Type::Scalar(_));
    let nothing = if is_number { quote!(#arg == 0) } else { quote!(#arg.is_empty()) };
    let text = |test: TokenStream| match is_optional(&field.ty) {
        true => quote!(#arg.as_ref().is_some_and(|text| text.#test)),
        false => quote!(#arg.#test),
    };
    let broken = match &check.rule {
        Rule::Positive if signed => quote!(#arg <= 0),
        Rule::Positive | Rule::NonZero => nothing,
        Rule::NonNegative | Rule::Count | Rule::Unsigned if signed => quote!(#arg < 0),
        Rule::NonNegative | Rule::Count | Rule::Unsigned => quote!(false),
        Rule::NonNull if is_optional(&field.ty) => quote!(#arg.is_none()),
        Rule::NonNull => nothing,
        Rule::Null => quote!(#arg.is_some()),
        Rule::NonEmpty => text(quote!(is_empty())),
        Rule::OneLine => text(quote!(as_bytes().contains(&b'\n'))),
        Rule::Is(value) => {
            let value = number(*value);
            quote!(#arg != #value)
        }
        Rule::Below(value) => {
            let value = number(*value);
            if signed { quote!((#arg < 0 || #arg >= #value)) } else { quote!(#arg >= #value) }
        }
        Rule::Max(value) | Rule::Most(value) | Rule::Overflow(value) => {
            let value = number(*value);
            quote!(#arg > #value)
        }
        Rule::Product(other, value) => {
            let (other, value) = (ident(&snake(other)), number(*value));
            quote!(i64::from(#arg) * i64::from(args.#other) > #value)
        }
        Rule::Clear(bits) => {
            let bits = number(*bits);
            quote!(#arg & #bits != 0)
        }
        Rule::Excludes((_, a), (_, b)) => {
            let both = number(a | b);
            quote!(#arg & #both == #both)
        }
        Rule::Requires((_, a), (_, b)) => {
            let (both, one) = (number(a | b), number(*a));
            quote!(#arg & #both == #one)
        }
    };
    // libvirt shows what does not fit as the signed number that C makes of it.
    let value = match (&check.rule, &field.ty) {
        (Rule::Below(_), Type::Scalar(Scalar::Int { signed: false })) => quote!(#arg as i32),
        (_, ty) if is_number && *ty != Type::Scalar(Scalar::Bool) => quote!(#arg),
        _ => quote!(0),
    };
    (broken, value)
}

fn holds(when: &When) -> TokenStream {
    let of = |field: &str| ident(&snake(field));
    let values = |values: &[i64]| {
        let values = values.iter().map(|value| Literal::i64_unsuffixed(*value));
        quote!([#(#values),*])
    };
    match when {
        When::Is(field, all) => {
            let (field, all) = (of(field), values(all));
            quote!(#all.contains(&args.#field))
        }
        When::IsNot(field, all) => {
            let (field, all) = (of(field), values(all));
            quote!(!#all.contains(&args.#field))
        }
        When::Present(field) => {
            let field = of(field);
            quote!(args.#field.is_some())
        }
        When::NoneOf(field, bits) => {
            let (field, bits) = (of(field), Literal::i64_unsuffixed(*bits));
            quote!(args.#field & #bits == 0)
        }
    }
}
