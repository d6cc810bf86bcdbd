//! `demo.x`, a protocol with one of everything, through every emitter.

use proc_macro2::TokenStream;
use virtwire_codegen::model::Module;
use virtwire_codegen::{Facts, Family, Model, Source, emit, inventory, model, show};

use crate::golden;

const DEMO: &str = include_str!("../demo.x");
const FACTS: &str = include_str!("../demo-facts.txt");
/// A type of another program, as qemu.x uses those of remote.x.
const REMOTE: &str = "struct remote_nonnull_domain { string name<>; opaque uuid[16]; int id; };";

fn demo() -> Model {
    let sources = [Source { file: "remote.x", text: REMOTE }, Source { file: "demo.x", text: DEMO }];
    let facts = Facts::parse("demo-facts.txt", FACTS).unwrap_or_else(|e| panic!("{e}"));
    let model = model(&sources, &facts).unwrap_or_else(|e| panic!("{e}"));
    facts.all_known(&model).unwrap_or_else(|e| panic!("{e}"));
    model
}

#[track_caller]
fn check(output: &str, render: impl Fn(&Model, &Module) -> TokenStream) {
    let model = demo();
    let tokens = render(&model, model.module("demo").expect("demo.x was read"));
    golden::check(&format!("tests/golden/{output}.rs"), &emit::format(tokens));
}

#[test]
fn types() {
    check("types", emit::types::render);
}

#[test]
fn procedures() {
    check("procedures", emit::procedures::render);
}

#[test]
fn schema() {
    check("schema", emit::schema::render);
}

#[test]
fn samples() {
    check("samples", emit::samples::render);
}

#[test]
fn events() {
    check("events", emit::events::render);
}

#[test]
fn driver() {
    check("driver", |model, _| {
        let families = &[Family::Hypervisor];
        let mut tokens = emit::driver::render(model, families);
        tokens.extend(emit::driver::render_signatures(model, families));
        tokens
    });
}

#[test]
fn dispatch() {
    check("dispatch", emit::dispatch::render);
}

#[test]
fn client() {
    check("client", emit::client::render);
}

#[test]
fn documentation() {
    let model = demo();
    let procedures =
        model.procedures().map(|(module, procedure)| emit::docs::procedure(&model, module, procedure));
    golden::check("tests/golden/docs.md", &procedures.collect::<Vec<_>>().join("\n"));
}

#[test]
fn lines_of_the_inventory() {
    golden::check("tests/golden/demo-inventory.txt", &inventory::render(&demo()));
}

/// A procedure is found by either of its names, and shown with its own types only.
#[test]
fn one_procedure_alone() {
    let model = demo();
    let [(module, procedure)] = show::find(&model, "demo_proc_list")[..] else { panic!("not found once") };
    let text = show::procedure(&model, module, procedure);
    for part in [
        "## LIST",
        "pub struct ListRet ",
        "pub struct ListRetRef<",
        "pub struct Param ",
        "async fn list(",
        "number: 3,",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("GetArgs") && !text.contains("compile_error"), "{text}");
    let [(module, event)] = show::find(&model, "EVENT_CHANGED")[..] else { panic!("not found once") };
    assert!(show::procedure(&model, module, event).contains("Some((Procedure::EVENT_CHANGED, "));
}
