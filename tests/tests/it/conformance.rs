//! The conformance suite on both daemons, and its scripted daemon on stock virsh.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tokio::task::JoinSet;
use virtwire_client::{Connection, Options};
use virtwire_conformance::client::{AWKWARD, Awkwardness, serve};
use virtwire_conformance::report::Report;
use virtwire_conformance::{Target, daemon_cases};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::folder::Folder;
use virtwire_tests::peers::{self, PYTHON, Peer};
use virtwire_tests::process;

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

/// Lets a client meet every awkward daemon, by the URI of each; it must call so often.
fn bears(least: usize, client: impl Fn(&str, &Awkwardness)) {
    AWKWARD.iter().for_each(|way| bears_one(way, least, &client));
}

fn bears_one(way: &Awkwardness, least: usize, client: &impl Fn(&str, &Awkwardness)) {
    let folder = Folder::new();
    let socket = folder.join("libvirt-sock");
    let listener = UnixListener::bind(&socket).expect("the socket's folder is empty");
    let uri = format!("test+unix:///default?socket={}", socket.display());
    let verdict = thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (connection, _) = listener.accept().expect("the client connects");
            serve(connection, way).expect("the client stays")
        });
        client(&uri, way);
        served.join().expect("it is served")
    });
    assert!(verdict.is_fine() && verdict.calls >= least, "{}: {verdict:?}", way.name);
}

#[test]
fn virsh_bears_every_awkward_daemon() {
    if peers::here(&[Peer::Virsh]) {
        bears(4, |uri, _| drop(process::run(virsh(uri).args(["list", "--all"]))));
    }
}

/// Threads that call at the same time.
const THREADS: &str = "
import libvirt, sys, threading
connection = libvirt.open(sys.argv[1])
answers = []
threads = [threading.Thread(target=lambda: answers.append(connection.getLibVersion())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
connection.close()
assert answers == [11003000] * 8, answers
";

#[test]
fn threads_of_libvirts_library_bear_replies_out_of_order() {
    if peers::here(&[Peer::Python]) {
        let way = AWKWARD.iter().find(|way| way.name == "out-of-order").expect("it is among them");
        bears_one(way, 8, &|uri, _| {
            let done = process::run(Command::new(PYTHON).args(["-c", THREADS, uri]));
            assert!(done.status.success(), "{}", done.text);
        });
    }
}

#[test]
fn our_own_client_bears_every_awkward_daemon() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    bears(20, |uri, way| {
        // Silence is longer than this only where the daemon holds something back.
        let options = Options { keepalive: Some((Duration::from_millis(30), 100)), ..Options::default() };
        runtime.block_on(async {
            let connection = Connection::open_with(uri, options).await.expect("the daemon lets everybody in");
            // An old daemon knows no events.
            let events = connection.register_domain_event(0, None).await;
            assert_eq!(events.is_ok(), way.name != "old-daemon", "{events:?}");
            let mut calls = JoinSet::new();
            for _ in 0..16 {
                let connection = connection.clone();
                calls.spawn(async move { connection.connect_get_lib_version().await });
            }
            for answer in calls.join_all().await {
                assert_eq!(answer.expect("each is answered").lib_ver, 11_003_000, "{}", way.name);
            }
            drop(events);
            connection.close().await.expect("it says goodbye");
        });
    });
}
