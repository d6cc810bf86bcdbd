//! The outputs. Each module reads the model and writes one kind of Rust.

mod access;
mod checks;
pub mod client;
pub mod dispatch;
pub mod docs;
pub mod driver;
pub mod events;
pub mod policy;
pub mod procedures;
pub mod samples;
pub mod schema;
pub mod types;
mod wire;

use proc_macro2::TokenStream;
use quote::quote;

use crate::model::Procedure;

/// Formatted Rust, or what syn found wrong with it (a fault of the emitter, never of the input).
pub fn format(tokens: TokenStream) -> String {
    match syn::parse2(tokens.clone()) {
        Ok(file) => spaced(&prettyplease::unparse(&file)),
        // rustc will show the place better than a panic here could.
        Err(error) => format!("compile_error!({:?});\n{tokens}", error.to_string()),
    }
}

/// An empty line after each item and each block of `use`, as people write it.
fn spaced(source: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut spaced = String::with_capacity(source.len() + source.len() / 16);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        spaced.push_str(line);
        spaced.push('\n');
        let Some(next) = lines.peek().filter(|next| indent(next) == indent(line)) else { continue };
        let ends_item = matches!(line.trim(), "}" | "};" | "];") && !next.trim().starts_with('}');
        let ends_use = line.trim().starts_with("use ") && !next.trim().starts_with(['u', '#']);
        let before_impl = line.ends_with(';') && next.trim().starts_with("impl");
        if indent(line) <= 4 && (ends_item || ends_use || before_impl) {
            spaced.push('\n');
        }
    }
    spaced
}

/// What the files of other crates than `virtwire-protocol` begin with: its modules by their short names. A glob may
/// stand in several files that are included in one place.
pub(crate) fn prelude() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use virtwire_protocol::*;
    }
}

/// The doc comment of everything that is generated for a procedure: its constant, number, API and age.
fn procedure_doc(procedure: &Procedure) -> TokenStream {
    let first = format!(" `{}` ({}).", procedure.constant, procedure.number);
    let second = match (&procedure.api, &procedure.since) {
        (Some(api), Some(since)) => Some(format!(" Behind `{api}`, since libvirt {since}.")),
        (Some(api), None) => Some(format!(" Behind `{api}`.")),
        (None, _) => None,
    };
    let second = second.map(|line| quote!(#[doc = ""] #[doc = #line]));
    quote!(#[doc = #first] #second)
}
