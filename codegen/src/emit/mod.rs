//! The outputs. Each module reads the model and writes one kind of Rust.

pub mod client;
pub mod dispatch;
pub mod driver;
pub mod events;
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

/// An empty line after each item, as people write it.
fn spaced(source: &str) -> String {
    let mut spaced = String::with_capacity(source.len() + source.len() / 16);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        spaced.push_str(line);
        spaced.push('\n');
        let indent = |line: &str| line.len() - line.trim_start().len();
        let ends_item = matches!(line.trim(), "}" | "};") && indent(line) <= 4;
        if ends_item
            && lines.peek().is_some_and(|next| indent(next) == indent(line) && !next.trim().starts_with('}'))
        {
            spaced.push('\n');
        }
    }
    spaced
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
