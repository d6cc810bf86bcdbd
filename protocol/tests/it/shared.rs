//! The fact tables and captures beside the repository, where they are present.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or folder below `../shared` (or `$VIRTWIRE_SHARED`); without it, the test says that it was skipped.
pub(crate) fn shared(below: &str) -> Option<PathBuf> {
    let base = env::var_os("VIRTWIRE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = base.join(below);
    if path.exists() {
        return Some(path);
    }
    virtwire_skip::without_data(format_args!("no {}", path.display()));
    None
}

/// The text of a file.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All JSON files of a folder, in order of name.
pub(crate) fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

/// The array of this key; a missing or null one is empty.
pub(crate) fn list<'a>(row: &'a Value, key: &str) -> &'a [Value] {
    row[key].as_array().map_or(&[], Vec::as_slice)
}

/// The string of this key.
pub(crate) fn string(row: &Value, key: &str) -> Option<String> {
    row[key].as_str().map(str::to_owned)
}
