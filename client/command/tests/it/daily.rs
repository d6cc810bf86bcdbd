//! What people reach for daily.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::{Daemon, fails, says, virtwire};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&says(arguments)).unwrap()
}

#[test]
fn lists_of_one_daemon_and_of_several() {
    let (one, two) = (Daemon::start("list-one"), Daemon::start("list-two"));
    let text = says(&["list", "-c", &one.uri()]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "NAME", "STATE", "CPUS", "MEMORY"]);
    assert_eq!(rows[1][..3], ["1", "test", "running"]);
    let row = &json(&["list", "-c", &one.uri(), "--json"])[0];
    assert_eq!((row["name"].as_str(), row["state"].as_str()), (Some("test"), Some("running")));
    for (kind, name) in [("networks", "default"), ("pools", "default-pool"), ("interfaces", "eth1")] {
        let all = json(&["list", kind, "-c", &one.uri(), "--json"]);
        assert!(all.as_array().unwrap().iter().any(|row| row["name"] == name), "{kind}: {all}");
    }

    let hosts = one.dir.join("hosts");
    std::fs::write(&hosts, format!("# all of them\n{}\n{}\n", one.uri(), two.uri())).unwrap();
    let text = says(&["list", "--on", &format!("@{}", hosts.display())]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("HOST "), "{text}");
}

#[test]
fn the_test_hypervisor_needs_no_daemon() {
    let rows = json(&["list", "-c", "test:///default", "--json"]);
    assert_eq!(rows[0]["name"], "test");
}

#[test]
fn a_daemon_that_fails_does_not_stop_the_others() {
    let daemon = Daemon::start("list-fails");
    let on = format!("{},test+unix:///default?socket=/nowhere", daemon.uri());
    let output = virtwire().args(["list", "--on", &on, "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["rows"][0]["name"], "test");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot connect to /nowhere") && said.contains("1 of 2 daemons failed"), "{said}");
}

#[test]
fn what_is_done_to_guests() {
    let daemon = Daemon::start("guests");
    let uri = daemon.uri();
    assert_eq!(says(&["suspend", "test", "-c", &uri]), "test paused\n");
    assert_eq!(says(&["stop", "test", "--wait", "20", "-c", &uri]), "test shut off\n");
    assert_eq!(says(&["destroy", "1", "-c", &uri]), "1 ended\n");
    let done: Value = serde_json::from_str(&says(&["reboot", "test", "--json", "-c", &uri])).unwrap();
    assert_eq!(done["outcome"], "is asked to boot again");
    let said = fails(&["start", "test", "-c", &uri]);
    assert!(said.contains("already running"), "{said}");
    let said = fails(&["start", "nobody", "-c", &uri]);
    assert!(said.contains("VIR_ERR_NO_DOMAIN (42)"), "{said}");
}

#[test]
fn guests_and_hosts_shown() {
    let daemon = Daemon::start("info");
    let text = says(&["info", "test", "-c", &daemon.uri()]);
    assert!(text.contains("state         running\n") && text.contains("max memory    8 GiB\n"), "{text}");
    let guest = json(&["info", "test", "--json", "-c", &daemon.uri()]);
    assert_eq!((guest["name"].as_str(), guest["max_memory"].as_u64()), (Some("test"), Some(8 << 20)));
    let host = json(&["info", "--json", "-c", &daemon.uri()]);
    assert_eq!(host["hypervisor"], "TEST");
}

#[test]
fn figures_once_and_again() {
    let daemon = Daemon::start("stats");
    let text = says(&["stats", "-c", &daemon.uri()]);
    assert!(text.starts_with("NAME ") && text.contains("\ntest "), "{text}");
    let text = says(&["stats", "test", "--watch", "0.1", "--count", "2", "-c", &daemon.uri()]);
    assert!(text.contains(" %  ") && text.contains("/s"), "{text}");
}

#[test]
fn events_end_with_the_daemon() {
    let daemon = Daemon::start("events");
    let mut watching = virtwire()
        .args(["events", "--json", "-n", "1", "-c", &daemon.uri()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What happens on a connection of the test hypervisor's is its own; the command ends with the daemon, and says so.
    drop(daemon);
    let mut said = String::new();
    BufReader::new(watching.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("error: "), "{said}");
    assert!(!watching.wait().unwrap().success());
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(says(&["completions", shell]).contains("virtwire"), "{shell}");
    }
    let dir = std::env::temp_dir().join(format!("virtwire-man-{}", std::process::id()));
    says(&["man", dir.to_str().unwrap()]);
    let page = std::fs::read_to_string(dir.join("virtwire-list.1")).unwrap();
    assert!(page.contains("List guests"), "{page}");
    std::fs::remove_dir_all(dir).unwrap();
}
