//! Guests with an agent (`clients/agent_qemu.py`), of both daemons: what virsh shows, what the agent is asked, and that
//! an agent without manners holds up nobody.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Instant;

use virtwire_tests::compare::compare;
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::PATIENCE;
use virtwire_tests::repo;

use crate::clients::all_as_expected;

const SYSTEM: &str = "qemu:///system";
const GUESTS: [&str; 5] = ["fine", "silent", "mute", "wrong-id", "closes"];

/// Starts the guests, and waits until each has its agent's port open.
fn begin(daemon: &Daemon) {
    let images = daemon.folder().join("lib/images");
    let emulator = images.join("agent_qemu.py");
    fs::create_dir_all(&images).expect("the folder is made");
    fs::copy(repo::file("clients/agent_qemu.py"), &emulator).expect("the emulator is copied");
    fs::write(images.join("asked"), "").expect("a file for what it is asked");
    for (file, mode) in [(&emulator, 0o755), (&images.join("asked"), 0o666), (&images, 0o777)] {
        fs::set_permissions(file, Permissions::from_mode(mode)).expect("guests may use it");
    }
    let xml = fs::read_to_string(repo::file("compare/qemu_agent.xml")).expect("a definition");
    for name in GUESTS {
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
    [&real, &own].into_iter().for_each(begin);
    let file = repo::file("compare/qemu_agent.txt");
    let answers =
        compare(virsh, [&real.uri(SYSTEM), &own.uri(SYSTEM)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);
    assert_eq!(asked(&own), asked(&real));
    for daemon in [&real, &own] {
        GUESTS[1..].iter().for_each(|name| drop(daemon.virsh_ok(SYSTEM, &["destroy", name])));
    }
}
