//! The trace of a real conversation.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Daemon, run, says, uri, virtwire};

/// A trace that is ended as Ctrl-C ends it.
struct Trace(Child);

impl Trace {
    /// Ready for clients when this returns.
    fn start(daemon: &Daemon, more: &[&str]) -> Self {
        let mut command = virtwire();
        command.arg("trace").arg("--listen").arg(daemon.dir.join("trace-sock"));
        command.arg("--connect").arg(daemon.socket()).args(more);
        Self::run(command)
    }

    /// Attached to the daemon itself.
    fn attach(daemon: &Daemon, more: &[&str]) -> Self {
        let mut command = virtwire();
        command.arg("trace").arg("--attach").arg(daemon.dir.join("libvirt-admin-sock")).args(more);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("Ctrl-C ends it"), "{ready}");
        Self(child)
    }

    /// What it wrote.
    fn end(self) -> String {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

const SECRETIVE: &str = "<domain type='test'><name>vault</name><memory>1024</memory><os><type>hvm</type></os>\
    <devices><graphics type='vnc' passwd='hunter2'/></devices></domain>";

#[test]
fn calls_and_events_are_told_and_secrets_are_not() {
    let daemon = Daemon::start("trace");
    let page = daemon.dir.join("trace.html");
    let json = daemon.dir.join("trace.json");
    let trace = Trace::start(&daemon, &["--html", page.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    let socket = daemon.dir.join("trace-sock");
    let define = format!("xml={SECRETIVE}");
    says(&["call", "domain-define-xml", &define, "-c", &uri(&socket)]);
    run(&["call", "domain-lookup-by-name", "name=nobody", "-c", &uri(&socket)]);
    let tree = trace.end();
    assert!(tree.contains("client connected (pid "), "{tree}");
    assert!(tree.contains("DOMAIN_DEFINE_XML") && tree.contains("vault"), "{tree}");
    assert!(tree.contains("error NO_DOMAIN from TEST"), "{tree}");
    let (page, json) = (std::fs::read_to_string(page).unwrap(), std::fs::read_to_string(json).unwrap());
    assert!(json.lines().any(|line| line.contains("\"procedure\":\"DOMAIN_DEFINE_XML\"")), "{json}");
    for text in [&tree, &json, &page] {
        assert!(text.contains("DOMAIN_DEFINE_XML") && !text.contains("hunter2"), "{text}");
    }
    assert!(!socket.exists(), "the socket is still there");
}

#[test]
fn the_daemon_tells_each_step_itself() {
    let daemon = Daemon::traced("attach");
    let page = daemon.dir.join("trace.html");
    let json = daemon.dir.join("trace.json");
    let trace = Trace::attach(&daemon, &["--html", page.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    says(&["call", "domain-define-xml", &format!("xml={SECRETIVE}"), "-c", &daemon.uri()]);
    run(&["call", "domain-lookup-by-name", "name=nobody", "-c", &daemon.uri()]);
    let tree = trace.end();
    for told in [
        "client connected (pid ",
        "DOMAIN_DEFINE_XML",
        "├ access +",
        "├ driver +",
        "test:///default",
        "error NO_DOMAIN from TEST",
        "connection closed",
    ] {
        assert!(tree.contains(told), "{told}: {tree}");
    }
    let (page, json) = (std::fs::read_to_string(page).unwrap(), std::fs::read_to_string(json).unwrap());
    for text in [&tree, &json, &page] {
        assert!(text.contains("DOMAIN_DEFINE_XML") && !text.contains("hunter2"), "{text}");
    }
    let call = json.lines().find(|line| line.contains("\"procedure\":\"DOMAIN_DEFINE_XML\"")).unwrap();
    let call: serde_json::Value = serde_json::from_str(call).unwrap();
    assert!(call["client"]["pid"].is_i64() && call["steps"].as_array().unwrap().len() >= 2, "{call}");
}

#[test]
fn descriptors_pass_through() {
    let daemon = Daemon::start("trace-descriptors");
    let trace = Trace::start(&daemon, &["--json", "-"]);
    let file = daemon.dir.join("file");
    std::fs::write(&file, "").unwrap();
    let (file, uri) = (file.to_str().unwrap().to_owned(), uri(&daemon.dir.join("trace-sock")));
    let xml = "xml_desc=<domain type='test'><name>new</name><memory>1024</memory><os><type>hvm</type></os></domain>";
    let created = says(&["call", "domain-create-xml-with-files", xml, "--descriptor", &file, "-c", &uri]);
    assert!(created.contains("\"name\": \"new\""), "{created}");
    let lines = trace.end();
    let line = lines.lines().find(|line| line.contains("DOMAIN_CREATE_XML_WITH_FILES")).unwrap();
    assert!(line.contains("\"descriptors\":[1,0]") && !line.contains("unanswered"), "{line}");
}
