//! Events: one enum over all messages that a daemon sends to clients with callback ids, and the old style beside it.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::procedure_doc;
use crate::model::{Model, Module, Procedure, Type, TypeKind};
use crate::names::{OBJECTS, camel, ident};

/// The event enum of a module.
pub fn render(model: &Model, module: &Module) -> TokenStream {
    let Some(program) = &module.program else { return TokenStream::new() };
    let with_id: Vec<&Procedure> = program.procedures.iter().filter(|p| has_callback_id(model, p)).collect();
    if with_id.is_empty() {
        return TokenStream::new();
    }
    let legacy = |procedure: &Procedure| {
        let event = procedure.event.as_ref()?;
        program.procedures.iter().find(|other| {
            other.event.as_ref().is_some_and(|o| o.legacy && o.class == event.class && o.id == event.id)
        })
    };
    let variants = with_id.iter().map(|p| {
        let (name, doc) = (variant(p), procedure_doc(p));
        let msg = message(model, p);
        quote!(#doc #name(#msg),)
    });
    let arms = |body: &dyn Fn(&Procedure) -> TokenStream| -> Vec<TokenStream> {
        let arm = |p: &&Procedure| {
            let (name, body) = (variant(p), body(p));
            quote!(Self::#name(msg) => #body,)
        };
        with_id.iter().map(arm).collect()
    };
    let kinds = with_id.iter().map(|p| {
        let name = variant(p);
        let class = p.event.as_ref().map_or("", |e| e.class.as_str());
        let id = Literal::i32_unsuffixed(p.event.as_ref().and_then(|e| e.id).unwrap_or(-1));
        let number = ident(&p.name);
        quote!(Self::#name(_) => EventKind { class: #class, id: #id, procedure: Procedure::#number },)
    });
    let encodes = arms(&|_| quote!(codec::encode_into(msg, out)));
    let subjects = arms(&|p| subject(model, p));
    let legacies: Vec<_> = with_id
        .iter()
        .filter_map(|p| {
            let (name, number) = (variant(p), ident(&legacy(p)?.name));
            Some(quote!(Self::#name(msg) => Some((Procedure::#number, codec::encode(&msg.msg))),))
        })
        .collect();
    let legacy = match legacies.len() {
        0 => quote!(None),
        all if all == with_id.len() => quote!(match self { #(#legacies)* }),
        _ => quote!(match self { #(#legacies)* _ => None, }),
    };
    let decodes = with_id.iter().map(|p| {
        let (name, number) = (variant(p), ident(&p.name));
        quote!(Procedure::#number => codec::decode(payload).map(Self::#name).map(Some),)
    });
    let ids = arms(&|_| quote!(msg.callback_id));
    let doc = format!(
        " An event of program `{}`, as it is sent to clients that registered with a callback id.",
        module.naming.module
    );
    quote! {
        use crate::codec;
        use crate::events::{EventKind, Subject};
        #[allow(unused_imports)]
        use super::*;
        #[doc = #doc]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event { #(#variants)* }
        impl Event {
            /// Its class, id and message.
            pub fn kind(&self) -> EventKind<Procedure> {
                match self { #(#kinds)* }
            }
            /// The object it is about; a registration may be for that object only.
            pub fn subject(&self) -> Subject<'_> {
                match self { #(#subjects)* }
            }
            /// The callback id it was sent to; a driver leaves it 0, delivery fills it in.
            pub fn callback_id(&self) -> i32 {
                match self { #(#ids)* }
            }
            /// Appends the message. Its first four bytes are the callback id.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), codec::EncodeError> {
                match self { #(#encodes)* }
            }
            /// The message for clients that registered without a callback id, where there is one.
            pub fn legacy(&self) -> Option<(Procedure, Result<Vec<u8>, codec::EncodeError>)> {
                #legacy
            }
            /// Reads a message; `None` if the procedure is no event with a callback id.
            pub fn decode(procedure: Procedure, payload: &[u8]) -> Result<Option<Self>, codec::DecodeError> {
                match procedure {
                    #(#decodes)*
                    _ => Ok(None),
                }
            }
        }
    }
}

/// The variant that is raised where this event is sent: an old-style event goes out with its newer form.
pub(crate) fn raised_as(model: &Model, module: &Module, procedure: &Procedure) -> Option<String> {
    let event = procedure.event.as_ref()?;
    let all = &module.program.as_ref()?.procedures;
    let same =
        |other: &&Procedure| other.event.as_ref().is_some_and(|o| o.class == event.class && o.id == event.id);
    let newer = all.iter().filter(same).find(|other| has_callback_id(model, other))?;
    Some(variant(newer).to_string())
}

/// `DOMAIN_EVENT_CALLBACK_LIFECYCLE` and `NETWORK_EVENT_LIFECYCLE` → `DomainLifecycle`, `NetworkLifecycle`.
fn variant(procedure: &Procedure) -> proc_macro2::Ident {
    ident(&camel(&procedure.name.replace("_EVENT_CALLBACK_", "_").replace("_EVENT", "")))
}

fn has_callback_id(model: &Model, procedure: &Procedure) -> bool {
    let fields = procedure.msg.as_ref().and_then(|msg| model.get(msg)).map(|(_, def)| &def.kind);
    matches!(fields, Some(TypeKind::Struct(fields)) if fields.first().is_some_and(|f| f.rust == "callback_id"))
}

fn message(model: &Model, procedure: &Procedure) -> TokenStream {
    let def = procedure.msg.as_ref().and_then(|msg| model.get(msg));
    let name = def.map(|(_, def)| ident(&def.rust));
    quote!(#name)
}

/// The object of an event is the first struct that has a name of its own, in the message or in the one inside.
fn subject(model: &Model, procedure: &Procedure) -> TokenStream {
    let find = |xdr: &str, path: TokenStream| -> Option<TokenStream> {
        let Some((_, TypeKind::Struct(fields))) = model.get(xdr).map(|(m, def)| (m, &def.kind)) else {
            return None;
        };
        fields.iter().find_map(|field| {
            let Type::Named(ty) = &field.ty else { return None };
            let (_, variant) = OBJECTS.iter().find(|(object, _)| object == ty)?;
            let (variant, name) = (ident(variant), ident(&field.rust));
            Some(quote!(Subject::#variant(&#path.#name)))
        })
    };
    let Some(msg) = &procedure.msg else { return quote!(Subject::None) };
    let inner = || {
        let (_, def) = model.get(msg)?;
        let TypeKind::Struct(fields) = &def.kind else { return None };
        let field = fields.iter().find(|field| field.rust == "msg")?;
        let Type::Named(ty) = &field.ty else { return None };
        find(ty, quote!(msg.msg))
    };
    find(msg, quote!(msg)).or_else(inner).unwrap_or_else(|| quote!(Subject::None))
}
