//! Texts that change only on purpose.

use std::{env, fs};

/// Compares a text with a file of the repository; `UPDATE_GOLDEN=1` writes the new text there.
///
/// # Panics
/// Where the two differ.
#[track_caller]
pub fn check(name: &str, actual: &str) {
    let path = crate::repo::root().join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    assert!(
        expected == actual,
        "{name}:{} differs (UPDATE_GOLDEN=1 accepts the new text)\n  expected: {:?}\n  actual:   {:?}",
        same + 1,
        expected.lines().nth(same),
        actual.lines().nth(same),
    );
}
