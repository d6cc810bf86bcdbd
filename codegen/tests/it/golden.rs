//! Texts that change only on purpose.

use std::path::Path;
use std::{env, fs};

/// Compares a text with a file, given relative to this crate; `UPDATE_GOLDEN=1` writes the new text there.
#[track_caller]
pub(crate) fn check(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    assert!(
        expected == actual,
        "{file}:{} differs (UPDATE_GOLDEN=1 accepts the new text)\n  expected: {:?}\n  actual:   {:?}",
        same + 1,
        expected.lines().nth(same),
        actual.lines().nth(same),
    );
}
