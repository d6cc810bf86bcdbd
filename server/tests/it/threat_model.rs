//! docs/threat-model.md names tests; they exist, and none is left out.

use std::collections::BTreeSet;
use std::path::Path;

fn named(text: &str, before: &str) -> BTreeSet<String> {
    let names = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let names = names.map(|rest| rest[..end(rest)].to_owned());
    names.filter(|name| name.starts_with("class_")).collect()
}

/// The texts of all source files below a folder.
fn sources(dir: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !path.ends_with("target") {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    texts
}

#[test]
fn every_class_has_its_test_and_every_test_its_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/threat-model.md")).unwrap();
    let tests: BTreeSet<_> = sources(root).iter().flat_map(|text| named(text, "fn ")).collect();
    assert_eq!(named(&document, "`"), tests);
    // "`crate`: `test`, `test`" names tests of other crates.
    let mut others = 0;
    for cell in document.split(['|', ';']) {
        let Some((folder, names)) = cell.trim().split_once("`: `") else { continue };
        let texts = sources(&root.join("..").join(folder.trim_start_matches('`')));
        for name in names.split(['`', ',', ' ']).filter(|name| !name.is_empty()) {
            assert!(texts.iter().any(|text| text.contains(&format!("fn {name}("))), "{folder} has no {name}");
            others += 1;
        }
    }
    assert!(others > 5, "{others}");
}

#[test]
fn every_line_says_which_test_shows_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/threat-model.md")).unwrap();
    let table = document.split("\n## ").find(|part| part.starts_with("What stops it")).unwrap();
    let lines: Vec<_> =
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| class of")).collect();
    for line in &lines {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert!(matches!(cells[..], [_, _, test] if test.contains('`')), "{line}");
    }
    assert!(lines.len() > 30, "{}", lines.len());
    // `module::name` is a test of this crate.
    let texts = sources(root);
    for name in table.split('`').filter_map(|name| name.split_once("::")).map(|(_, name)| name) {
        assert!(texts.iter().any(|text| text.contains(&format!("fn {name}("))), "there is no {name}");
    }
}
