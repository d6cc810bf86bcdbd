//! docs/threat-model.md names tests; they exist, and none is left out.

use std::collections::BTreeSet;
use std::path::Path;

fn named(text: &str, before: &str) -> BTreeSet<String> {
    let names = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let names = names.map(|rest| rest[..end(rest)].to_owned());
    names.filter(|name| name.starts_with("class_")).collect()
}

#[test]
fn every_class_has_its_test_and_every_test_its_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/threat-model.md")).unwrap();
    let mut tests = BTreeSet::new();
    for entry in std::fs::read_dir(root.join("tests/it")).unwrap() {
        tests.extend(named(&std::fs::read_to_string(entry.unwrap().path()).unwrap(), "fn "));
    }
    assert_eq!(named(&document, "`"), tests);
}
