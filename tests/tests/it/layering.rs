//! Dependencies point one way: ARCHITECTURE.md says which, this proves it from the manifests.

use std::process::Command;

use serde_json::Value;
use virtwire_tests::repo;

/// Which of our crates each crate may be built from. A new edge is a decision: make it here.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("virtwire-codegen", &[]),
    ("virtwire-protocol", &["virtwire-codegen"]),
    ("virtwire-socket", &[]),
    ("virtwire-trace", &["virtwire-protocol", "virtwire-socket"]),
    ("virtwire-driver-api", &["virtwire-codegen", "virtwire-protocol"]),
    ("virtwire-skip", &[]),
    ("virtwire-conf", &["virtwire-protocol"]),
    ("virtwire-qmp", &[]),
    ("virtwire-cpu", &["virtwire-conf", "virtwire-protocol"]),
    ("virtwire-driver-test", &["virtwire-conf", "virtwire-cpu", "virtwire-driver-api", "virtwire-protocol"]),
    ("virtwire-store", &[]),
    ("virtwire-link", &[]),
    (
        "virtwire-driver-network",
        &["virtwire-conf", "virtwire-driver-api", "virtwire-link", "virtwire-protocol", "virtwire-store"],
    ),
    ("virtwire-driver-nodedev", &["virtwire-conf", "virtwire-driver-api", "virtwire-protocol"]),
    (
        "virtwire-driver-nwfilter",
        &["virtwire-conf", "virtwire-driver-api", "virtwire-link", "virtwire-protocol", "virtwire-store"],
    ),
    (
        "virtwire-driver-secret",
        &["virtwire-conf", "virtwire-driver-api", "virtwire-protocol", "virtwire-store"],
    ),
    (
        "virtwire-driver-storage",
        &["virtwire-conf", "virtwire-driver-api", "virtwire-protocol", "virtwire-store"],
    ),
    (
        "virtwire-driver-qemu",
        &[
            "virtwire-conf",
            "virtwire-cpu",
            "virtwire-driver-api",
            "virtwire-link",
            "virtwire-protocol",
            "virtwire-qmp",
            "virtwire-store",
        ],
    ),
    ("virtwire-client", &["virtwire-codegen", "virtwire-protocol", "virtwire-socket"]),
    (
        "virtwired",
        &[
            // Other daemons, where guests go between peers.
            "virtwire-client",
            "virtwire-codegen",
            // To say where schemas are.
            "virtwire-conf",
            "virtwire-driver-api",
            "virtwire-driver-network",
            "virtwire-driver-nodedev",
            "virtwire-driver-nwfilter",
            "virtwire-driver-qemu",
            "virtwire-driver-secret",
            "virtwire-driver-storage",
            "virtwire-driver-test",
            "virtwire-protocol",
            "virtwire-socket",
            "virtwire-trace",
        ],
    ),
    ("virtwire-conformance", &["virtwire-protocol", "virtwire-socket"]),
    (
        "virtwire",
        &[
            "virtwire-client",
            "virtwire-codegen",
            "virtwire-driver-test",
            "virtwire-protocol",
            "virtwire-trace",
            "virtwired",
        ],
    ),
];

/// May see all; nobody may see it.
const TESTS: &str = "virtwire-tests";

#[test]
fn crates_depend_only_downwards() {
    let packages = packages();
    for (name, dependencies) in &packages {
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(known, _)| known == name) else {
            assert_eq!(name, TESTS, "{name} has no row in MAY_DEPEND_ON");
            continue;
        };
        for dependency in dependencies {
            assert!(allowed.contains(&dependency.as_str()), "{name} may not depend on {dependency}");
        }
    }
    for (name, _) in MAY_DEPEND_ON {
        assert!(packages.iter().any(|(known, _)| known == name), "{name} is in MAY_DEPEND_ON only");
    }
}

/// The table itself has no cycle: every edge leads to a crate further up.
#[test]
fn the_table_is_in_order() {
    for (at, (name, allowed)) in MAY_DEPEND_ON.iter().enumerate() {
        for dependency in *allowed {
            let before = MAY_DEPEND_ON[..at].iter().any(|(earlier, _)| earlier == dependency);
            assert!(before, "{name} comes before {dependency}");
        }
    }
}

/// Each crate of the workspace with those of our crates that it is built from; what only its tests use is left out.
fn packages() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repo::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");

    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    each(&metadata["packages"])
        .iter()
        .map(|package| {
            let ours = |d: &&Value| d["path"].is_string() && d["kind"] != "dev";
            (name(package), each(&package["dependencies"]).iter().filter(ours).map(name).collect())
        })
        .collect()
}
