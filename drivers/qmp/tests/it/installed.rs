//! Against the installed QEMU: what the tables say is what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use virtwire_qmp::commands::*;
use virtwire_qmp::replies::RunState;
use virtwire_qmp::{Event, Monitor, QmpError, commands, events};

/// A machine without anything in it.
struct Qemu {
    monitor: Monitor,
    events: tokio::sync::mpsc::Receiver<Event>,
    child: Child,
}

impl Qemu {
    /// Starts it, or says that the test was skipped.
    async fn start() -> Option<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let child = Command::new("qemu-system-x86_64")
            .args(["-S", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"])
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs)
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            virtwire_skip::without_program("no qemu-system-x86_64");
            return None;
        };
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        let (monitor, events) = Monitor::connect(stream).await.unwrap();
        Some(Self { monitor, events, child })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the schema calls `meta`, by name.
fn named<'s>(schema: &'s [Value], meta: &str) -> BTreeMap<&'s str, &'s Value> {
    let entries = schema.iter().filter(|entry| entry["meta-type"] == meta);
    entries.filter_map(|entry| Some((entry["name"].as_str()?, entry))).collect()
}

/// Names of the members of a type of the schema.
fn members<'s>(objects: &BTreeMap<&str, &'s Value>, type_name: &Value) -> BTreeSet<&'s str> {
    let object = type_name.as_str().and_then(|name| objects.get(name));
    let members = object.and_then(|object| object["members"].as_array());
    members.into_iter().flatten().filter_map(|member| member["name"].as_str()).collect()
}

#[tokio::test]
async fn it_has_every_command_and_event() {
    let Some(qemu) = Qemu::start().await else { return };
    let text = qemu.monitor.execute(&QueryQmpSchema {}).await.unwrap();
    let schema: Vec<Value> = serde_json::from_str(text.get()).unwrap();

    let (known, objects) = (named(&schema, "command"), named(&schema, "object"));
    // Only until the negotiation is over.
    let missing =
        commands::ROWS.iter().filter(|(name, _)| !known.contains_key(name) && *name != "qmp_capabilities");
    assert_eq!(missing.map(|(name, _)| *name).collect::<Vec<_>>(), [""; 0], "commands");
    for (name, arguments) in commands::ROWS {
        let Some(command) = known.get(name) else { continue };
        let takes = members(&objects, &command["arg-type"]);
        let wrong =
            arguments.iter().map(|name| name.replace('_', "-")).filter(|name| !takes.contains(name.as_str()));
        assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "arguments of {name}");
    }

    let known = named(&schema, "event");
    let missing = events::ALL.iter().filter(|name| !known.contains_key(*name));
    assert_eq!(missing.collect::<Vec<_>>(), [&""; 0], "events");
}

#[tokio::test]
async fn it_stops_goes_on_and_ends() {
    let Some(mut qemu) = Qemu::start().await else { return };
    assert_eq!(qemu.monitor.execute(&QueryStatus {}).await.unwrap().status, RunState::Prelaunch);
    qemu.monitor.execute(&Cont {}).await.unwrap();
    qemu.monitor.execute(&Stop {}).await.unwrap();
    assert_eq!(qemu.monitor.execute(&QueryStatus {}).await.unwrap().status, RunState::Paused);
    let error = qemu.monitor.execute(&Balloon { value: 1 << 20 }).await.unwrap_err();
    assert!(matches!(error, QmpError::Command(_)), "{error:?}");
    let line = HumanMonitorCommand { command_line: "info status".to_owned(), cpu_index: None };
    assert_eq!(qemu.monitor.execute(&line).await.unwrap(), "VM status: paused\r\n");
    qemu.monitor.execute(&Quit {}).await.unwrap();
    let mut names = Vec::new();
    while let Some(event) = qemu.events.recv().await {
        names.push(event.name);
    }
    assert_eq!(names, ["RESUME", "STOP", "SHUTDOWN"]);
    assert!(matches!(qemu.monitor.execute(&Stop {}).await, Err(QmpError::Closed)));
}
