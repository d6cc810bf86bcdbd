//! The support table: which procedures are served by which part of the daemon, read from the sources themselves.
//!
//! A procedure is served where an `impl` of its family's trait, or a macro that writes one, names its method; an event
//! is raised where its variant is named. What the daemon answers itself is the column `daemon`; every crate below `drivers/` that does either is
//! a column of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};

use crate::build::{BuildError, Result};
use crate::emit::driver::method_name;
use crate::emit::events;
use crate::families::Family;
use crate::model::{Direction, Model, Module, Procedure};

/// What each part of the daemon serves.
pub struct Support {
    /// `daemon`, then the drivers by name.
    pub columns: Vec<Column>,
}

/// One part of the daemon.
pub struct Column {
    /// `daemon`, or the folder of the driver.
    pub name: String,
    /// The methods it implements: trait and name.
    methods: BTreeSet<(String, String)>,
    /// The variants of `Event` it names.
    events: BTreeSet<String>,
}

/// Where the sources of the columns are, seen from the root of the repository: `server` and the drivers.
pub const DAEMON: &str = "server";
/// The folder that has a crate per driver.
pub const DRIVERS: &str = "drivers";
/// The crate of the drivers' traits.
const TRAITS: &str = "virtwire-driver-api";

impl Support {
    /// Reads the sources below `root`, the root of the repository.
    pub fn scan(root: &Path) -> Result<Self> {
        let mut columns = vec![Column::scan("daemon", &root.join(DAEMON))?];
        for folder in entries(&root.join(DRIVERS))?.into_iter().filter(|path| has_traits(path)) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let column = Column::scan(&name, &folder)?;
            if !column.methods.is_empty() {
                columns.push(column);
            }
        }
        Ok(Self { columns })
    }

    /// The table in Markdown: how many of each section are served, then a table per section.
    pub fn markdown(&self, model: &Model) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let mut text = format!("# Support\n\n{HEAD}\n{}", table_head(&["", "procedures"], &columns));
        for section in model.sections() {
            let served = |column: &Column| {
                let served = section.procedures.iter().filter(|(module, p)| column.has(model, module, p));
                Some(served.count())
                    .filter(|count| *count > 0)
                    .map_or_else(String::new, |count| count.to_string())
            };
            let counts = self.columns.iter().map(served);
            let cells = [section.title.to_owned(), section.procedures.len().to_string()];
            text += &row(cells.into_iter().chain(counts));
        }
        for section in model.sections() {
            text += &format!("\n## {}\n\n{}", section.title, table_head(&["number", "procedure"], &columns));
            for (module, procedure) in section.procedures {
                let mark = |column: &Column| {
                    if column.has(model, module, procedure) { "yes" } else { "" }.to_owned()
                };
                let name = match procedure.direction {
                    Direction::Call => format!("`{}`", method_name(module, procedure)),
                    Direction::Event => format!("`{}`", procedure.name),
                };
                text += &row([procedure.number.to_string(), name]
                    .into_iter()
                    .chain(self.columns.iter().map(mark)));
            }
        }
        text
    }

    /// The table in Rust: `COLUMNS`, and `ROWS` of `Row`.
    pub fn rust(&self, model: &Model) -> TokenStream {
        let columns = self.columns.iter().map(|column| &column.name);
        let count = self.columns.len();
        let rows = model.sections().into_iter().flat_map(|s| s.procedures).map(|(module, procedure)| {
            let (program, number, name) = (module.naming.module, procedure.number, &procedure.name);
            let (family, event) = (procedure.family.name(), procedure.direction == Direction::Event);
            let [api, since] =
                [&procedure.api, &procedure.since].map(|text| text.as_deref().unwrap_or_default());
            let served = self.columns.iter().map(|column| column.has(model, module, procedure));
            quote! {
                Row {
                    program: #program, number: #number, name: #name, family: #family, event: #event,
                    api: #api, since: #since, served: [#(#served),*],
                }
            }
        });
        quote! {
            /// Who serves: the daemon itself, then its drivers.
            pub static COLUMNS: [&str; #count] = [#(#columns),*];
            /// One procedure, or one event.
            #[derive(Clone, Copy, Debug)]
            pub struct Row {
                /// `remote`, `qemu`, …
                pub program: &'static str,
                /// Its number in the program.
                pub number: i32,
                /// `DOMAIN_SUSPEND`
                pub name: &'static str,
                /// `hypervisor`, `network`, …
                pub family: &'static str,
                /// Whether the daemon sends it unasked.
                pub event: bool,
                /// The public function of libvirt's library; empty where unknown.
                pub api: &'static str,
                /// The libvirt release that introduced it; empty where unknown.
                pub since: &'static str,
                /// Whether each of [`COLUMNS`] serves it.
                pub served: [bool; #count],
            }
            /// Every procedure that libvirt's daemon serves.
            pub static ROWS: &[Row] = &[#(#rows),*];
        }
    }
}

const HEAD: &str = "\
Which procedures of libvirt's protocol are served, and by what: the daemon itself or one of its drivers. What nobody
serves is answered with `VIR_ERR_NO_SUPPORT`. This table is generated from the sources
(`UPDATE_GOLDEN=1 cargo test -p virtwire-codegen`).
";

fn table_head(first: &[&str], columns: &[&str]) -> String {
    let names = first.iter().chain(columns).map(|name| (*name).to_owned());
    format!("{}|{}\n", row(names), "---|".repeat(first.len() + columns.len()))
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.fold("|".to_owned(), |row, cell| row + &format!(" {cell} |")) + "\n"
}

impl Column {
    fn scan(name: &str, folder: &Path) -> Result<Self> {
        let mut column = Self { name: name.to_owned(), methods: BTreeSet::new(), events: BTreeSet::new() };
        let mut pending = vec![folder.join("src")];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(entries(&path)?);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).map_err(|error| BuildError::Io(path.clone(), error))?;
                column.source(&path, &text)?;
            }
        }
        Ok(column)
    }

    /// Adds what one source file holds.
    fn source(&mut self, file: &Path, text: &str) -> Result<()> {
        let syntax = syn::parse_file(text).map_err(|error| BuildError::Rust(file.to_owned(), error))?;
        self.items(syntax.items);
        Ok(())
    }

    fn items(&mut self, items: Vec<syn::Item>) {
        for item in items {
            match item {
                syn::Item::Mod(module) if is_test(&module.attrs) => {}
                syn::Item::Mod(module) => {
                    self.items(module.content.map(|(_, items)| items).unwrap_or_default())
                }
                other => self.tokens(other.to_token_stream()),
            }
        }
    }

    /// Finds `NetworkDriver { … }` and `NetworkDriver for T … { … }`, in an `impl` or a macro, and
    /// `Event::DomainLifecycle`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, tree) in tokens.iter().enumerate() {
            match tree {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) if ident == "Event" => {
                    if let [colon, other, TokenTree::Ident(variant), ..] = &tokens[at + 1..]
                        && is_punct(colon, ':')
                        && is_punct(other, ':')
                    {
                        self.events.insert(variant.to_string());
                    }
                }
                TokenTree::Ident(ident) => {
                    let Some(family) = Family::ALL.iter().find(|family| ident == family.trait_name()) else {
                        continue;
                    };
                    // A macro may take whole methods behind its rows.
                    if let Some((block, behind)) = block(&tokens[at + 1..]) {
                        let rows: Vec<TokenTree> = block.stream().into_iter().collect();
                        let methods = methods(&rows).chain(methods(behind));
                        self.methods.extend(methods.map(|method| (family.trait_name().to_owned(), method)));
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Whether it serves a call or raises an event.
    pub fn has(&self, model: &Model, module: &Module, procedure: &Procedure) -> bool {
        if procedure.direction == Direction::Event {
            return events::raised_as(model, module, procedure).is_some_and(|v| self.events.contains(&v));
        }
        let method = method_name(module, procedure).to_string();
        self.methods.contains(&(procedure.family.trait_name().to_owned(), method))
    }
}

/// Whether a crate depends on the one that has the traits; in others the same names are other things.
fn has_traits(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains(TRAITS))
}

/// The braces after a trait's name, directly or behind `for T`, and what follows them.
fn block(tokens: &[TokenTree]) -> Option<(&Group, &[TokenTree])> {
    let braces = |tree: &TokenTree| matches!(tree, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace);
    let at = match tokens.first()? {
        TokenTree::Ident(word) if word == "for" => tokens.iter().position(braces)?,
        _ => 0,
    };
    match tokens.get(at)? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some((group, &tokens[at + 1..])),
        _ => None,
    }
}

/// Each word before parentheses or an equals sign: methods with their parameters, and rows.
fn methods(tokens: &[TokenTree]) -> impl Iterator<Item = String> {
    tokens.windows(2).filter_map(|pair| match pair {
        [TokenTree::Ident(name), TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => {
            Some(name.to_string())
        }
        [TokenTree::Ident(name), next] if is_punct(next, '=') => Some(name.to_string()),
        _ => None,
    })
}

fn is_punct(tree: &TokenTree, char: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg") && a.to_token_stream().to_string().contains("test"))
}

/// The entries of a folder in order of name; none where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| BuildError::Io(folder.to_owned(), error);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let read = fs::read_dir(folder).map_err(failed)?;
    let mut entries = read.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_events_are_found_outside_tests() {
        let mut column = Column { name: "x".into(), methods: BTreeSet::new(), events: BTreeSet::new() };
        let text = "
            impl api::NetworkDriver for A { async fn network_create(&self) {} }
            impl Other for A { fn network_destroy(&self) {} }
            serve! { SecretDriver { secret_undefine = secret::undefine; secret_create(cx) = create; } async fn secret_get_value(&self) {} }
            fn f() -> Arc<dyn StorageDriver> { storage_pool_destroy() }
            mod inner { fn f(hub: Hub) { hub.emit(vec![Event::DomainLifecycle(x)]); } }
            #[cfg(test)] mod tests {
                impl HypervisorDriver for B { async fn domain_create(&self) {} }
                fn g() { Event::DomainReboot(x); }
            }";
        column.source(Path::new("a.rs"), text).unwrap();
        let found: Vec<_> = column.methods.iter().map(|(_, method)| method.as_str()).collect();
        assert_eq!(found, ["network_create", "secret_create", "secret_get_value", "secret_undefine"]);
        assert_eq!(column.events.iter().collect::<Vec<_>>(), ["DomainLifecycle"]);
    }

    #[test]
    fn a_source_that_is_no_rust_is_named() {
        let mut column = Column { name: "x".into(), methods: BTreeSet::new(), events: BTreeSet::new() };
        let error = column.source(Path::new("a.rs"), "fn f() {}\nfn ;").unwrap_err().to_string();
        assert!(error.starts_with("a.rs: expected Rust, found: "), "{error}");
    }
}
