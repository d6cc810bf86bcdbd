//! What stops a build: a place in a definition, and what was expected there.

use std::fmt;
use std::sync::Arc;

/// A position in a definition file, counted from 1.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The file's name as given to the generator.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A word, and where it stands.
#[derive(Clone, Debug)]
pub struct Name {
    /// The word itself.
    pub text: String,
    /// Where it starts.
    pub position: Position,
}

/// An error in a definition, shown as `file:line:column: in NAME: expected this, found that`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// The definition it stands in, where known.
    pub within: Option<String>,
    /// What would have been right.
    pub expected: String,
    /// What is there instead.
    pub found: String,
}

impl Diagnostic {
    /// An error at `position`.
    pub fn new(position: &Position, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { position: position.clone(), within: None, expected: expected.into(), found: found.into() }
    }

    /// A name that is taken already.
    pub fn second(name: &Name) -> Self {
        Self::new(&name.position, "a new name", format!("a second '{}'", name.text))
    }

    /// Says in which definition the error stands, unless an inner one is named already.
    pub fn within(mut self, name: &str) -> Self {
        self.within.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if let Some(name) = &self.within {
            write!(f, "in {name}: ")?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for Diagnostic {}

/// The result of every step from text to model.
pub type Result<T, E = Diagnostic> = std::result::Result<T, E>;
