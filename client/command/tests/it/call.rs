//! Calls by name.

use crate::{Daemon, fails, says};

#[test]
fn fields_objects_and_names() {
    let daemon = Daemon::start("call");
    let uri = daemon.uri();
    let found = says(&["call", "DOMAIN_LOOKUP_BY_NAME", r#"{"name": "test"}"#, "-c", &uri]);
    assert!(found.contains("\"name\": \"test\"") && found.contains("\"id\": 1"), "{found}");
    // A guest by its name, and the procedure by its other names.
    let info = says(&["call", "virDomainGetInfo", "dom=test", "-c", &uri]);
    assert!(info.contains("\"state\": 1"), "{info}");
    // What a test:///default holds is its connection's own, so one call sees nothing of another.
    let done = says(&["call", "domain-suspend", "dom=test", "-c", &uri]);
    assert_eq!(done, "");
}

#[test]
fn errors_have_text_code_and_domain() {
    let daemon = Daemon::start("errors");
    let text = fails(&["call", "domain-lookup-by-name", "name=nobody", "-c", &daemon.uri()]);
    assert!(text.starts_with("error: Domain not found"), "{text}");
    assert!(text.contains("VIR_ERR_NO_DOMAIN (42)") && text.contains("VIR_FROM_TEST (12)"), "{text}");
    let text = fails(&["call", "domain-suspend", "dom=test", "-c", "test+unix:///default?socket=/nowhere"]);
    assert!(text.contains("cannot connect to /nowhere"), "{text}");
    let text = fails(&["call", "domain-pause"]);
    assert!(text.contains("there is no procedure 'domain-pause'"), "{text}");
}

#[test]
fn nothing_need_run_to_look_procedures_up() {
    let list = says(&["call", "--list", "snapshot"]);
    assert!(list.contains("domain_snapshot_create_xml") && !list.contains("domain_suspend"), "{list}");
    let shape = says(&["call", "domain-set-memory", "--describe"]);
    assert!(shape.contains("\"memory\": unsigned hyper"), "{shape}");
    let support = says(&["support", "domain_suspend"]);
    assert!(support.contains("domain_suspend") && support.contains("test"), "{support}");
}
