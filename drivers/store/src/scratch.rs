//! A directory for one test.

use std::path::{Path, PathBuf};

/// A directory of its own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("virtwire-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
