//! What build scripts call: read the protocol folder, write one file per output.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::quote;

use crate::families::served;
use crate::support::{self, Support};
use crate::{Diagnostic, Facts, Family, Model, Source, emit, resolve};

/// The definition files, each after those whose types it uses.
pub const FILES: &[&str] = &["net", "remote", "qemu", "lxc", "admin", "keepalive", "lock", "log"];

/// The table of facts beside them.
pub const FACTS: &str = "facts.txt";

/// The table of rules on arguments beside them.
pub const CHECKS: &str = "checks.txt";

/// Reads the protocol in `dir`.
pub fn load(dir: &Path) -> Result<Model> {
    let read = |name: String| {
        let path = dir.join(name);
        let text = fs::read_to_string(&path).map_err(|error| BuildError::Io(path.clone(), error))?;
        Ok((path.display().to_string(), text))
    };
    let (facts_file, facts) = read(FACTS.to_owned())?;
    let mut facts = Facts::parse(&facts_file, &facts)?;
    let (checks_file, checks) = read(CHECKS.to_owned())?;
    facts.read(&checks_file, &checks)?;
    let texts = FILES.iter().map(|stem| read(format!("{stem}.x"))).collect::<Result<Vec<_>>>()?;
    let sources: Vec<_> = texts.iter().map(|(file, text)| Source { file, text }).collect();
    let model = resolve::model(&sources, &facts)?;
    facts.all_known(&model)?;
    Ok(model)
}

/// What an output gives: file names and their contents.
pub type Files = Vec<(String, TokenStream)>;

/// A build script's main: reads `dir`, writes what `outputs` gives into `OUT_DIR`, stops the build on an error.
pub fn script(dir: &str, outputs: impl Fn(&Model) -> Files) {
    watch(dir);
    stop_on_error(load(Path::new(dir)).and_then(|model| write(outputs(&model))));
}

/// The build script of whatever shows the support table: writes `support.rs`, with `COLUMNS` and `ROWS`, into
/// `OUT_DIR`. `root` is the root of the repository.
pub fn support(root: &str) {
    let protocol = format!("{root}/protocol/x");
    for dir in [&protocol, &format!("{root}/{}", support::DAEMON), &format!("{root}/{}", support::DRIVERS)] {
        watch(dir);
    }
    stop_on_error(load(Path::new(&protocol)).and_then(|model| {
        let support = Support::scan(Path::new(root))?;
        write(vec![("support.rs".to_owned(), support.rust(&model))])
    }));
}

fn watch(dir: &str) {
    println!("cargo::rerun-if-changed={dir}");
    println!("cargo::rerun-if-changed=build.rs");
}

/// Cargo shows the error as its own, and stops after the script.
fn stop_on_error(result: Result<()>) {
    if let Err(error) = result {
        println!("cargo::error={error}");
    }
}

fn write(files: Files) -> Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    for (name, tokens) in files {
        let path = out.join(name);
        fs::write(&path, emit::format(tokens)).map_err(|error| BuildError::Io(path, error))?;
    }
    Ok(())
}

/// Crate `virtwire-protocol`: a file per module.
pub fn protocol(model: &Model) -> Files {
    let file = |module| {
        let (types, procedures) =
            (emit::types::render(model, module), emit::procedures::render(model, module));
        let (schema, samples) = (emit::schema::render(model, module), emit::samples::render(model, module));
        let events = emit::events::render(model, module);
        let events = (!events.is_empty()).then(|| {
            quote! {
                mod event { #events }
                pub use event::Event;
            }
        });
        quote! {
            #types
            #procedures
            #events
            #schema
            /// Samples of this module's types.
            #[cfg(feature = "samples")]
            pub mod samples {
                #[allow(unused_imports)]
                use super::*;
                #[allow(unused_imports)]
                use crate::sample::{FieldLimit, Pick, Row, Sample};
                #samples
            }
        }
    };
    model.modules.iter().map(|module| (format!("{}.rs", module.naming.module), file(module))).collect()
}

/// Crate `virtwire-driver-api`: the traits of all driver families.
pub fn drivers(model: &Model) -> Files {
    let families = &Family::DRIVERS;
    vec![
        ("drivers.rs".to_owned(), emit::driver::render(model, families)),
        ("signatures.rs".to_owned(), emit::driver::render_signatures(model, families)),
    ]
}

/// Crate `virtwired`: the dispatch tables, and the traits of what the daemon answers itself.
pub fn server(model: &Model) -> Files {
    let served = model.modules.iter().filter(|module| served(module.naming.module));
    let mut files: Vec<_> = served
        .map(|module| (format!("{}_procs.rs", module.naming.module), emit::dispatch::render(model, module)))
        .collect();
    files.push(("session.rs".to_owned(), emit::driver::render(model, &[Family::Session])));
    files.push(("admin.rs".to_owned(), emit::driver::render(model, &[Family::Admin])));
    files
}

/// Crate `virtwire-client`: the stubs of all programs that libvirtd serves, and a table that calls each for its tests.
pub fn client(model: &Model) -> Files {
    let served: Vec<_> = model.modules.iter().filter(|module| served(module.naming.module)).collect();
    let stubs = served.iter().map(|module| emit::client::render(model, module));
    let prelude = emit::prelude();
    vec![
        ("stubs.rs".to_owned(), quote!(#prelude #(#stubs)*)),
        ("exercises.rs".to_owned(), emit::client::exercises(model, &served)),
    ]
}

/// Why a build stops.
#[derive(Debug)]
pub enum BuildError {
    /// A definition is wrong.
    Definition(Diagnostic),
    /// A file cannot be read or written.
    Io(PathBuf, std::io::Error),
    /// A source of the daemon or of a driver is not Rust.
    Rust(PathBuf, syn::Error),
}

/// The result of a step of a build.
pub type Result<T, E = BuildError> = std::result::Result<T, E>;

impl From<Diagnostic> for BuildError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Definition(diagnostic)
    }
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Definition(diagnostic) => diagnostic.fmt(f),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Rust(path, error) => write!(f, "{}: expected Rust, found: {error}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}
