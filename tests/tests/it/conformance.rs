//! The conformance suite on both daemons, and its scripted daemon on stock virsh.

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tokio::task::JoinSet;
use virtwire_client::{Connection, Options};
use virtwire_conformance::client::{AWKWARD, Awkwardness, serve};
use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_conformance::report::Report;
use virtwire_conformance::{Outcome, Target, daemon_cases};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::remote::{
    AuthListRet, AuthType, NonnullStoragePool, NonnullStorageVol, Procedure, StoragePoolCreateXmlRet,
    StorageVolCreateXmlRet,
};
use virtwire_protocol::{codec, frame};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::folder::Folder;
use virtwire_tests::peers::{self, PYTHON, Peer as Needs};
use virtwire_tests::process;

/// Judges a daemon, or all of it but what not every daemon survives.
fn judge(daemon: &Daemon, spared: bool) {
    let target = Target {
        spared,
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
    judge(&Daemon::virtwired(), false);
}

/// What the suite asks for is what libvirt does.
#[test]
fn libvirtd_conforms() {
    if peers::here(&[Needs::Root, Needs::Libvirtd]) {
        judge(&Daemon::libvirtd(), true);
    }
}

/// A daemon with one volume of two MiB, for one client: an upload is to bring one MiB, and what comes on top is refused, or
/// taken as if nothing were wrong.
fn serve_a_volume(stream: UnixStream, refuses: bool) -> Result<(), PeerError> {
    const MIB: usize = 1 << 20;
    let (mut peer, mut uploaded) = (Peer::over(stream), 0);
    let pool = || NonnullStoragePool { name: "p".into(), uuid: [1; 16] };
    loop {
        let frame = peer.receive()?;
        let call = &frame.header;
        let stream = |status| MessageHeader { r#type: MessageType::STREAM, status, ..call.clone() };
        let reply = match (call.r#type, Procedure(call.proc)) {
            (MessageType::STREAM, Procedure::STORAGE_VOL_UPLOAD) => {
                uploaded += frame.payload.len();
                if uploaded > MIB && refuses {
                    let message = Some("cannot write to stream: No space left on device".into());
                    let full = MessageError {
                        code: 38,
                        domain: 38,
                        level: 2,
                        int1: 28,
                        message,
                        ..Default::default()
                    };
                    peer.send(&stream(MessageStatus::ERROR), &codec::encode(&full).expect("it fits"))?;
                } else if uploaded > MIB {
                    peer.send(&stream(MessageStatus::OK), &[])?;
                }
                continue;
            }
            (MessageType::STREAM, _) => {
                peer.send(&stream(MessageStatus::OK), &[])?;
                continue;
            }
            (_, Procedure::AUTH_LIST) => codec::encode(&AuthListRet { types: vec![AuthType::NONE] }),
            (_, Procedure::STORAGE_POOL_CREATE_XML) => {
                codec::encode(&StoragePoolCreateXmlRet { pool: pool() })
            }
            (_, Procedure::STORAGE_VOL_CREATE_XML) => {
                let vol = NonnullStorageVol { pool: "p".into(), name: "v0".into(), key: "/v0".into() };
                codec::encode(&StorageVolCreateXmlRet { vol })
            }
            _ => Ok(Vec::new()),
        };
        peer.send(&frame::reply_to(call, MessageStatus::OK), &reply.expect("it fits"))?;
        if call.proc == Procedure::STORAGE_VOL_DOWNLOAD.0 {
            for byte in [1, 0] {
                let content = vec![byte; MIB];
                content
                    .chunks(frame::STREAM_DATA_MAX)
                    .try_for_each(|part| peer.send(&stream(MessageStatus::CONTINUE), part))?;
            }
            peer.send(&stream(MessageStatus::CONTINUE), &[])?;
        }
    }
}

#[test]
fn an_upload_of_too_much_is_to_be_refused() {
    let cases = daemon_cases();
    let case = cases.iter().find(|case| case.id == "stream/too-much").expect("it is among them");
    for refuses in [true, false] {
        let folder = Folder::new();
        let socket = folder.join("libvirt-sock");
        let listener = UnixListener::bind(&socket).expect("the socket's folder is empty");
        let uri = "test:///default".to_owned();
        let target = Target { socket, socket_ro: None, socket_admin: None, uri, spared: false };
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                let (connection, _) = listener.accept().expect("the suite connects");
                // It leaves when it has seen enough.
                drop(serve_a_volume(connection, refuses));
            });
            case.outcome(&target)
        });
        match outcome {
            Outcome::Passed => assert!(refuses, "it passes though nothing is refused"),
            Outcome::Failed(how) => assert!(!refuses && how.contains("the error"), "{how}"),
            Outcome::Skipped(why) => panic!("{why}"),
        }
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
    if peers::here(&[Needs::Virsh]) {
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
    if peers::here(&[Needs::Python]) {
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
