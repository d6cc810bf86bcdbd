//! Reads libvirt's protocol definitions (`.x`, XDR of RFC 4506 with annotations in comments) and writes Rust.
//!
//! Text becomes tokens ([`lex`]), tokens become definitions ([`parse`]), definitions become a [`Model`] with every
//! name resolved ([`resolve`]). Emitters ([`emit`]) only read the model; each writes one kind of output. An unknown
//! construct, constant or annotation ends in a [`Diagnostic`] with file, line and column: nothing is guessed.
//!
//! Build scripts call [`build`]; the command `virtwire-codegen` shows the same by hand ([`show`], [`inventory`]). The
//! [`support`] table is read from the sources of the daemon and its drivers.

pub mod ast;
pub mod build;
pub mod checks;
pub mod diagnostic;
pub mod emit;
pub mod externs;
pub mod facts;
pub mod families;
pub mod inventory;
pub mod lex;
pub mod model;
pub mod names;
pub mod parse;
pub mod resolve;
pub mod show;
pub mod support;

pub use diagnostic::Diagnostic;
pub use facts::Facts;
pub use families::Family;
pub use model::Model;
pub use resolve::{Source, model};
