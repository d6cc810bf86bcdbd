//! Guests with an agent (`clients/agent_qemu.py`), of both daemons: what virsh shows, what the agent is asked, and that
//! an agent without manners holds up nobody.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Instant;

use virtwire_tests::compare::{Answer, canonical, compare};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::{PATIENCE, Program};
use virtwire_tests::repo;

use crate::clients::all_as_expected;

const SYSTEM: &str = "qemu:///system";
const GUESTS: [&str; 5] = ["fine", "silent", "mute", "wrong-id", "closes"];

/// Starts the guests, and waits until each has its agent's port open.
fn begin(daemon: &Daemon, guests: &[&str]) {
    let images = daemon.folder().join("lib/images");
    let emulator = images.join("agent_qemu.py");
    fs::create_dir_all(&images).expect("the folder is made");
    fs::copy(repo::file("clients/agent_qemu.py"), &emulator).expect("the emulator is copied");
    fs::write(images.join("asked"), "").expect("a file for what it is asked");
    for (file, mode) in [(&emulator, 0o755), (&images.join("asked"), 0o666), (&images, 0o777)] {
        fs::set_permissions(file, Permissions::from_mode(mode)).expect("guests may use it");
    }
    let xml = fs::read_to_string(repo::file("compare/qemu_agent.xml")).expect("a definition");
    for name in guests {
        let image = images.join(format!("{name}.qcow2"));
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M").status();
        assert!(made.expect("qemu-img is there").success());
        let own = xml
            .replace("<name>fine<", &format!("<name>{name}<"))
            .replace("/agent.qcow2", &format!("/{name}.qcow2"));
        let file = daemon.folder().join(format!("{name}.xml"));
        fs::write(&file, own).expect("a definition is written");
        daemon.virsh_ok(SYSTEM, &["define", &file.to_string_lossy()]);
        daemon.virsh_ok(SYSTEM, &["start", name]);
        let begin = Instant::now();
        while !daemon.virsh_ok(SYSTEM, &["dumpxml", name]).contains("state='connected'") {
            assert!(begin.elapsed() < PATIENCE, "the port of {name} was not opened");
            thread::yield_now();
        }
    }
}

/// What the agents were asked.
fn asked(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.folder().join("lib/images/asked")).expect("what they were asked")
}

#[test]
fn virsh_shows_of_agents_what_libvirtd_shows() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Python, Peer::Qemu]) {
        return;
    }
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    [&real, &own].into_iter().for_each(|daemon| begin(daemon, &GUESTS));
    let file = repo::file("compare/qemu_agent.txt");
    let answers =
        compare(virsh, [&real.uri(SYSTEM), &own.uri(SYSTEM)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);
    assert_eq!(asked(&own), asked(&real));
    for daemon in [&real, &own] {
        GUESTS[1..].iter().for_each(|name| drop(daemon.virsh_ok(SYSTEM, &["destroy", name])));
    }
}

/// What QEMU says by itself, as an agent has it said: word, content.
const TOLD: &[(&str, &str)] = &[
    (
        "VNC_CONNECTED",
        r#"{"server":{"auth":"none","family":"ipv4","service":"5901","host":"0.0.0.0"},"client":{"family":"ipv6","service":"58425","host":"::1"}}"#,
    ),
    (
        "VNC_INITIALIZED",
        r#"{"server":{"auth":"vnc","family":"unix","service":"","host":"/x"},"client":{"family":"vsock","service":"1","host":"2","x509_dname":"CN=x","sasl_username":"ann"}}"#,
    ),
    ("VNC_DISCONNECTED", r#"{"server":{},"client":{}}"#),
    (
        "SPICE_INITIALIZED",
        r#"{"server":{"auth":"spice","port":"5921","family":"ipv4","host":"127.0.0.1"},"client":{"port":"49004","family":"ipv4","host":"127.0.0.1","channel-type":3,"connection-id":1,"channel-id":0,"tls":true}}"#,
    ),
    (
        "SPICE_DISCONNECTED",
        r#"{"server":{"port":"5920","family":"ipv4","host":"127.0.0.1"},"client":{"port":"49004","family":"ipv4","host":"127.0.0.1"}}"#,
    ),
    (
        "BLOCK_IO_ERROR",
        r#"{"device":"","qom-path":"/machine/peripheral/virtio-disk0/virtio-backend","operation":"write","action":"report","nospace":true,"reason":"full"}"#,
    ),
    (
        "BLOCK_IO_ERROR",
        r#"{"device":"","node-name":"nosuch","qom-path":"/x","operation":"read","action":"ignore","reason":"bad"}"#,
    ),
    ("DEVICE_UNPLUG_GUEST_ERROR", r#"{"device":"virtio-disk0","path":"/machine/peripheral/virtio-disk0"}"#),
    (
        "MEMORY_FAILURE",
        r#"{"recipient":"guest","action":"fatal","flags":{"action-required":true,"recursive":false}}"#,
    ),
    ("MEMORY_DEVICE_SIZE_CHANGE", r#"{"id":"nosuch","size":1048576,"qom-path":"/x"}"#),
    ("WATCHDOG", r#"{"action":"inject-nmi"}"#),
    ("RTC_CHANGE", r#"{"offset":42,"qom-path":"/x"}"#),
    ("GUEST_CRASHLOADED", r#"{"action":"run"}"#),
    ("SUSPEND_DISK", "{}"),
];

/// What `virsh event` prints of it.
fn told(daemon: &Daemon) -> String {
    begin(daemon, &GUESTS[..1]);
    let mut command = virsh(&daemon.uri(SYSTEM));
    command.args(["event", "--all", "--loop"]);
    let mut listener = Program::start(&mut command);
    // virsh says nothing once it listens, so the title is changed until it has seen that.
    while !listener.printed().contains("metadata-change") {
        daemon.virsh_ok(SYSTEM, &["desc", "fine", "--live", "--title", "a title"]);
        assert!(listener.is_running(), "virsh heard nothing: {}", listener.printed());
    }
    for (event, data) in TOLD {
        let arguments = format!(r#"{{"event":"{event}","data":{data}}}"#);
        let command = format!(r#"{{"execute":"guest-tell","arguments":{arguments}}}"#);
        daemon.virsh_ok(SYSTEM, &["qemu-agent-command", "fine", &command]);
    }
    let heard = listener.wait_for("PMSuspended Disk");
    daemon.virsh_ok(SYSTEM, &["destroy", "fine"]);
    let lines =
        heard.lines().filter(|line| !line.contains("metadata-change") && !line.contains("'agent-lifecycle'"));
    canonical(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn virsh_prints_what_qemu_tells() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Python, Peer::Qemu]) {
        return;
    }
    let answers = [told(&Daemon::libvirtd()), told(&Daemon::private_virtwired())];
    let answer = Answer { command: "event --all --loop".to_owned(), differs: None, answers };
    assert!(answer.is_equal() && answer.answers[0].contains("initialize local[unix"), "{answer}");
}
