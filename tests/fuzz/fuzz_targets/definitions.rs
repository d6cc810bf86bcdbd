//! The text of a definition file: resolved, or refused with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_codegen::{Facts, Source, model};

fuzz_target!(|text: &str| {
    let source = Source { file: "remote.x", text };
    if let Err(diagnostic) = model(&[source], &Facts::default()) {
        assert!(diagnostic.to_string().contains("remote.x"), "{diagnostic}: no place");
    }
});
