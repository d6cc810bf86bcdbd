//! The conformance suite on both daemons, and its scripted daemon on stock virsh.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Mutex;

use virtwire_conformance::client::{AWKWARD, serve};
use virtwire_conformance::report::Report;
use virtwire_conformance::{Target, daemon_cases};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::folder::Folder;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::Program;

fn judge(daemon: &Daemon) {
    let target = Target {
        socket: daemon.socket(),
        socket_ro: Some(daemon.socket_named("libvirt-sock-ro")),
        socket_admin: Some(daemon.socket_named("libvirt-admin-sock")),
        uri: "test:///default".to_owned(),
    };
    let report = Mutex::new(Report::default());
    for case in daemon_cases() {
        let outcome = case.outcome(&target);
        report.lock().expect("no case panics").add(&case, outcome);
    }
    let report = report.into_inner().expect("no case panics");
    let (passed, failed, _) = report.counts();
    assert!(failed == 0 && passed > 1000, "{}", report.text());
}

#[test]
fn virtwired_conforms() {
    judge(&Daemon::virtwired());
}

/// What the suite asks for is what libvirt does.
#[test]
fn libvirtd_conforms() {
    if peers::here(&[Peer::Root, Peer::Libvirtd]) {
        judge(&Daemon::libvirtd());
    }
}

#[test]
fn virsh_bears_every_awkward_daemon() {
    if !peers::here(&[Peer::Virsh]) {
        return;
    }
    for way in AWKWARD {
        let folder = Folder::new();
        let socket = folder.join("libvirt-sock");
        let listener = UnixListener::bind(&socket).expect("the socket's folder is empty");
        let uri = format!("test+unix:///default?socket={}", socket.display());
        let mut command: Command = virsh(&uri);
        let client = Program::start(command.args(["list", "--all"]));
        let (connection, _) = listener.accept().expect("virsh connects");
        let verdict = serve(connection, way).expect("virsh stays");
        client.finish();
        assert!(verdict.is_fine() && verdict.calls > 3, "{}: {verdict:?}", way.name);
    }
}
