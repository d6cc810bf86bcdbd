//! Whether a document fits its schema (`VIR_…_VALIDATE`).
//!
//! As libvirt does, a document is held against libvirt's own schema where that is installed; whoever may read files says
//! where, with [`provide`]. Elsewhere the [tables](crate::table) say what is known at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use virtwire_protocol::VirtError;

use crate::ParseOptions;
use crate::relaxng::Grammar;
use crate::table::{Field, schema};
use crate::xml::Node;

type Reader = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Schemas that are read when they are first asked for.
pub struct Schemas {
    read: Reader,
    /// By name; `None` for those that aren't there.
    known: Mutex<HashMap<String, Option<Arc<Grammar>>>>,
}

impl Schemas {
    /// `read` gives the text of a file (`domain.rng`).
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read), known: Mutex::default() }
    }

    /// The schema called `name` (`domain`), if it is there and understood.
    pub fn get(&self, name: &str) -> Option<Arc<Grammar>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || Grammar::read(&format!("{name}.rng"), &self.read).ok().map(Arc::new);
        known.entry(name.to_owned()).or_insert_with(read).clone()
    }
}

static PROVIDED: OnceLock<Schemas> = OnceLock::new();

/// Has documents that are to be validated held against `schemas` from now on. Only the first call does anything.
pub fn provide(schemas: Schemas) {
    // Whoever comes second has the same to say.
    let _ = PROVIDED.set(schemas);
}

/// Checks a document if `options` ask for it. What is returned takes their place: where a schema has had its say, nothing
/// else needs to be looked for.
pub(crate) fn validate(
    root: Node<'_>,
    fields: &[Field],
    name: &str,
    options: &ParseOptions,
) -> Result<Option<ParseOptions>, VirtError> {
    if !options.validate {
        return Ok(None);
    }
    let Some(grammar) = PROVIDED.get().and_then(|schemas| schemas.get(name)) else {
        return schema::check(root, fields, name).map(|()| None);
    };
    grammar.check(root).map_err(|part| schema::invalid(name, root.name(), part))?;
    Ok(Some(options.clone().validating(false)))
}
