//! How a story is shown.

mod page;
mod tree;

pub use page::Page;
pub use tree::tree;

use crate::story::Entry;

/// One line of JSON.
pub fn json(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}

/// `1.234 ms` or `56 µs`.
fn duration(micros: u64) -> String {
    if micros < 1000 { format!("{micros} µs") } else { format!("{:.3} ms", micros as f64 / 1000.0) }
}
