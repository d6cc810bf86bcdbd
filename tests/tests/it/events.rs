//! `virsh event --all --loop`: what it prints of virtwired is what it prints of libvirtd.

use std::thread;

use tokio::sync::mpsc;
use virtwire_tests::compare::canonical;
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::Program;
use virtwire_tests::repo;
use virtwire_trace::story::Happening;
use virtwire_trace::{Relay, Story};

const URI: &str = "test:///default";

/// What the listener should hear of, and the last line that it then prints.
const CHANGES: &str = "\
    suspend test; resume test; reboot test; desc test --title another; metadata test http://x --key x --set '<a/>';
    setmem test 1048576; managedsave test; start test; snapshot-create-as test one; snapshot-revert test one;
    save test {tmp}/saved; restore {tmp}/saved; destroy test; undefine test --snapshots-metadata;
    define {dir}/guest.xml; start d1; suspend d1; resume d1; shutdown d1; undefine d1
";
const LAST: &str = "event 'lifecycle' for domain 'd1': Undefined Removed\n";

#[test]
fn virsh_prints_the_same_events_of_both() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh]) {
        return;
    }
    let [real, own] = [Daemon::libvirtd(), Daemon::virtwired()].map(|daemon| heard(&daemon));
    assert_eq!(real, own);
    assert!(real.lines().count() > 15, "{real}");
}

/// What `virsh event --all --loop` prints while another virsh makes the changes.
fn heard(daemon: &Daemon) -> String {
    let kinds = daemon.virsh_ok(URI, &["event", "--list"]).split_whitespace().count();
    let relayed = daemon.socket_named("relayed");
    let mut registered = registrations(daemon, &relayed);
    let mut listener = virsh(&format!("test+unix:///default?socket={}", relayed.display()));
    let mut listener = Program::start(listener.args(["event", "--all", "--loop"]));
    for _ in 0..kinds {
        registered.blocking_recv().unwrap_or_else(|| panic!("virsh ended: {}", listener.printed()));
    }
    let changes = CHANGES
        .replace("{dir}", &repo::file("compare").to_string_lossy())
        .replace("{tmp}", &daemon.folder().to_string_lossy());
    let changed = daemon.virsh_ok(URI, &[&changes.replace('\n', " ")]);
    assert!(!changed.contains("error"), "{changed}");
    canonical(&listener.wait_for(LAST))
}

/// A message for each event that a client of the socket `listen` has registered for, once it has its answer.
fn registrations(daemon: &Daemon, listen: &std::path::Path) -> mpsc::UnboundedReceiver<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let relay = {
        let _context = runtime.enter();
        Relay::bind(listen, daemon.socket()).expect("the daemon's folder takes another socket")
    };
    let (sender, registered) = mpsc::unbounded_channel();
    thread::spawn(move || {
        runtime.block_on(async move {
            let (observer, mut seen) = mpsc::unbounded_channel();
            tokio::spawn(relay.run(observer));
            let mut story = Story::default();
            while let Some(observed) = seen.recv().await {
                for entry in story.observe(observed.decode()) {
                    if let Happening::Call { procedure, .. } = entry.what
                        && procedure == "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
                        && sender.send(()).is_err()
                    {
                        return;
                    }
                }
            }
        });
    });
    registered
}
