//! Stock clients of libvirt: what they show of virtwired is what they show of libvirtd.

use virtwire_tests::compare::{canonical, compare};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::Program;
use virtwire_tests::repo;

const URI: &str = "test:///default";

#[test]
fn virsh_shows_the_test_hypervisor_as_libvirtd_has_it() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh]) {
        return;
    }
    let (real, own) = (Daemon::libvirtd(), Daemon::virtwired());
    let file = repo::file("compare/test_driver.txt");
    let answers = compare([&real.uri(URI), &own.uri(URI)], &file).expect("the sessions can be read");
    let different: Vec<_> = answers.iter().filter(|answer| !answer.is_equal()).collect();
    let shown: String = different.iter().map(ToString::to_string).collect();
    assert!(!answers.is_empty(), "{}: no commands", file.display());
    assert!(different.is_empty(), "{} of {} differ:\n{shown}", different.len(), answers.len());
}

#[test]
fn python_sees_the_same_of_both() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Python]) {
        return;
    }
    let [real, own] = [Daemon::libvirtd(), Daemon::virtwired()].map(|daemon| {
        let tour = daemon.python(URI, "compare/python_tour.py");
        assert!(tour.status.success(), "{}", tour.text);
        canonical(&tour.text)
    });
    assert_eq!(real, own);
    assert!(real.contains("event") && real.contains("done"), "{real}");
}

#[test]
fn virsh_prints_events_as_they_happen() {
    if !peers::here(&[Peer::Virsh]) {
        return;
    }
    let daemon = Daemon::virtwired();
    // The shell's own second command keeps the connection until the listener is registered: both are one virsh.
    let mut keeper = Program::start(&mut virsh(&daemon.uri(URI)));
    keeper.type_text("suspend test\n");
    keeper.wait_for("suspended");
    let mut command = virsh(&daemon.uri(URI));
    command.args(["event", "--domain", "test", "--event", "lifecycle", "--loop", "--timeout", "5"]);
    let mut listener = Program::start(&mut command);
    // virsh says nothing once it listens, so both states are gone through until it has seen them.
    while !listener.printed().contains("Resumed") {
        keeper.type_text("resume test\n");
        keeper.wait_for("resumed");
        keeper.type_text("suspend test\n");
        keeper.wait_for("suspended");
        assert!(listener.is_running(), "virsh heard nothing: {}", listener.printed());
    }
    listener.wait_for("event 'lifecycle' for domain 'test': Resumed Unpaused\n");
    listener.wait_for("event 'lifecycle' for domain 'test': Suspended Paused\n");
}
