//! What every file of the project keeps to.

use std::path::Path;

use virtwire_tests::repo;

/// Words that no file may have, each with its reason. They are written in two halves, so that this file passes too.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (concat!("/wo", "rk/"), "", "a path of one machine"),
    (concat!("/ro", "ot/"), "", "a path of one machine"),
    (concat!("/home", "/"), "", "a path of one machine"),
    (concat!("to", "do!("), "rs", "unfinished code"),
    (concat!("unimple", "mented!("), "rs", "unfinished code"),
    (concat!("FIX", "ME"), "", "unfinished code"),
    (concat!("un", "safe {"), "rs", "forbidden in every crate"),
    (concat!("thread::", "sleep"), "rs", "a sleep: wait for the event instead"),
];

/// Lines a Rust file may have before it holds two things.
const LONGEST_FILE: usize = 700;

#[test]
fn no_file_has_a_forbidden_word() {
    let mut found = String::new();
    for file in repo::files() {
        let Some(text) = repo::text(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            for (word, extension, why) in FORBIDDEN {
                if line.contains(word) && (extension.is_empty() || has_extension(&file, extension)) {
                    found += &format!("{}:{}: {word:?}: {why}\n", file.display(), number + 1);
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn files_stay_small() {
    // Goldens are the generator's, as long as what they show.
    let golden = |file: &Path| file.components().any(|part| part.as_os_str() == "golden");
    for file in repo::files().iter().filter(|file| has_extension(file, "rs") && !golden(file)) {
        let lines = repo::text(file).unwrap_or_default().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: what second thing moved in?", file.display());
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let mut seen = 0;
    for file in repo::files().iter().filter(|file| file.ends_with("Cargo.toml")) {
        let text = repo::text(file).unwrap_or_default();
        if text.contains("[package]") && !text.contains("[workspace]") {
            assert!(text.contains("[lints]\nworkspace = true\n"), "{}: no workspace lints", file.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} manifests found");
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|e| e == extension)
}
