//! The demonstration.

use crate::{says, virtwire};

#[test]
fn a_guests_life_in_order() {
    let account = says(&["demo"]);
    let mut rest = account.as_str();
    for part in [
        "domain_define_xml_flags",
        "demo defined",
        "domain_create_with_flags",
        "demo started",
        "running, 512 MiB, 2 CPUs",
        "demo suspended",
        "paused, 512 MiB, 2 CPUs",
        "demo resumed",
        "a snapshot of the name fresh",
        "state.state = 1",
        "demo stopped",
        "demo undefined",
        "VIR_ERR_NO_DOMAIN",
        "round trips",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("'{part}' does not follow in\n{account}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn nothing_stays_behind() {
    let dir = std::env::temp_dir().join(format!("virtwire-demo-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let status = virtwire().arg("demo").env("TMPDIR", &dir).output().unwrap().status;
    assert!(status.success());
    // Fails if anything is in it.
    std::fs::remove_dir(&dir).unwrap();
}
