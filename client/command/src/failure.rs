//! What the command says when something fails.

use std::fmt;
use std::io;

use virtwire_client::Error;

/// Why the command has failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The daemon, or the way to it.
    Client(Error),
    /// A file, or the terminal.
    Io(String, io::Error),
    /// What the user has asked for.
    Usage(String),
    /// So many of so many daemons; each has been told of.
    Hosts(usize, usize),
    /// Ctrl-C, and what became of it.
    Interrupted(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(Error::Remote(error)) => {
                let name = |name: Option<&'static str>| name.unwrap_or("unknown");
                write!(f, "error: {error}")?;
                write!(f, "\n  code    VIR_ERR_{} ({})", name(error.code.name()), error.code.0)?;
                write!(f, "\n  domain  VIR_FROM_{} ({})", name(error.domain.name()), error.domain.0)?;
                if error.int1 > 0 {
                    write!(f, "\n  errno   {}", error.int1)?;
                }
                Ok(())
            }
            Self::Client(error) => write!(f, "error: {error}"),
            Self::Io(what, error) if what.is_empty() => write!(f, "error: {error}"),
            Self::Io(what, error) => write!(f, "error: {what}: {error}"),
            Self::Usage(text) => write!(f, "error: {text}"),
            Self::Hosts(failed, all) => write!(f, "error: {failed} of {all} daemons failed"),
            Self::Interrupted(what) => write!(f, "interrupted: {what}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(String::new(), error)
    }
}

impl Failure {
    /// What the command ends with: 1, or what shells have for a program that Ctrl-C has ended.
    pub(crate) fn code(&self) -> u8 {
        if matches!(self, Self::Interrupted(_)) { 130 } else { 1 }
    }

    /// An error of this file.
    pub(crate) fn file(name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        move |error| Self::Io(name, error)
    }
}
