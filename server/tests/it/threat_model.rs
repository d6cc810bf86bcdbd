//! docs/threat-model.md names tests; they exist, and none is left out.

use std::collections::BTreeSet;
use std::path::Path;

use virtwired::config::KEYS;

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
}

/// `module::name` is a test of this crate.
#[test]
fn every_test_that_is_named_is_where_it_is_said_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/threat-model.md")).unwrap();
    let named: Vec<_> = document.split('`').filter_map(|name| name.split_once("::")).collect();
    for (module, name) in &named {
        let text = std::fs::read_to_string(root.join(format!("tests/it/{module}.rs"))).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "{module} has no {name}");
    }
    assert!(named.len() > 30, "{}", named.len());
}

/// What stands in backquotes in the first column of a section's table.
fn first_column(text: &str, section: &str) -> BTreeSet<String> {
    let part = text.split("\n## ").find(|part| part.starts_with(section)).unwrap();
    let cells = part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_limit_has_a_meaning_for_operators_and_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (meanings, tests) = (read("operations.md"), read("threat-model.md"));
    let (meanings, tests) = (first_column(&meanings, "Limits"), first_column(&tests, "Limits"));
    let untested: Vec<_> = meanings.difference(&tests).collect();
    assert!(untested.is_empty(), "{untested:?}");
    // Workers are for show, and what is obsolete means nothing.
    let keys = KEYS.iter().filter(|key| key.name.contains("max_") && !key.name.ends_with("workers"));
    for key in keys.filter(|key| !key.doc.contains("Obsolete")) {
        assert!(tests.contains(key.name), "{} has no test", key.name);
    }
}
