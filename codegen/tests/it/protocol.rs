//! What the real protocol is, and who serves it.

use std::path::Path;

use virtwire_codegen::support::Support;
use virtwire_codegen::{Model, build, emit, inventory};

use crate::golden;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("codegen/ is below the root")
}

fn protocol() -> Model {
    build::load(&root().join("protocol/x")).unwrap_or_else(|e| panic!("{e}"))
}

/// A procedure that comes, goes or changes its rules is one line here.
#[test]
fn inventory_of_the_protocol() {
    golden::check("tests/golden/inventory.txt", &inventory::render(&protocol()));
}

#[test]
fn reference_documentation() {
    for (file, text) in emit::docs::render(&protocol()) {
        golden::check(&format!("../docs/protocol/{file}"), &text);
    }
}

#[test]
fn support_table() {
    let support = Support::scan(root()).unwrap_or_else(|e| panic!("{e}"));
    golden::check("../docs/support.md", &support.markdown(&protocol()));
}

#[test]
fn the_packaged_policy_has_an_action_for_each_permission() {
    golden::check("../packaging/polkit/org.libvirt.api.policy", &emit::policy::render(&protocol()));
}

/// Generated Rust that does not parse becomes a `compile_error!`.
#[test]
fn every_output_is_rust() {
    let model = protocol();
    let support = Support::scan(root()).unwrap_or_else(|e| panic!("{e}"));
    let table = vec![("support.rs".to_owned(), support.rust(&model))];
    let outputs = [
        build::protocol(&model),
        build::drivers(&model),
        build::server(&model),
        build::client(&model),
        table,
    ];
    for (file, tokens) in outputs.into_iter().flatten() {
        assert!(!emit::format(tokens).contains("compile_error!"), "{file}");
    }
}
