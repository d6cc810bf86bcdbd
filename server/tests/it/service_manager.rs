//! What a service manager gives the daemon, and what the daemon tells it: sockets, the watchdog, the journal.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use crate::host::{Host, is_root, run};
use crate::network::programs;

/// Has the three sockets that are its standard descriptors as those of the service manager, then becomes the daemon.
const HANDED: &str =
    "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>&1; export LISTEN_PID=$$ LISTEN_FDS=3; exec \"$@\"";

async fn names(socket: &std::path::Path, options: &[&str]) -> Result<String, String> {
    let mut virsh = Command::new("virsh");
    virsh.args(["-q", "-c", &format!("test+unix:///default?socket={}", socket.display())]).args(options);
    run(virsh).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_libvirts_units_are_taken_and_no_others_made() {
    if !programs(&["virsh", "virt-admin"]) {
        return;
    }
    for unit in ["libvirtd", "virtqemud", "virtproxyd", "virtwired"] {
        let mut host = Host::new(&format!("handed-{unit}"));
        let place = |what: &str| host.dir.join(what);
        // They are known by their units' names, wherever they are.
        let (write, look, admin) = (place("a"), place("b"), place("c"));
        let listen = |path| Stdio::from(OwnedFd::from(UnixListener::bind(path).unwrap()));
        let mut shell = Command::new("sh");
        shell.args(["-c", HANDED, "sh", env!("CARGO_BIN_EXE_virtwired")]);
        shell.stdin(listen(&write)).stdout(listen(&look)).stderr(listen(&admin));
        let of = format!("{unit}.socket:{unit}-ro.socket:{unit}-admin.socket");
        shell.env("LISTEN_FDNAMES", of);
        host.launch(shell, "libvirt", &[], "", &[]);
        assert_eq!(names(&write, &["list", "--all", "--name"]).await.as_deref(), Ok("test"), "{unit}");
        names(&write, &["suspend", "test"]).await.unwrap();
        let refused = names(&look, &["-r", "resume", "test"]).await.unwrap_err();
        assert!(refused.contains("read only access prevents virDomainResume"), "{unit}: {refused}");
        let mut virt_admin = Command::new("virt-admin");
        virt_admin.args([
            "-q",
            "-c",
            &format!("libvirtd:///system?socket={}", admin.display()),
            "server-list",
        ]);
        assert!(run(virt_admin).await.unwrap().contains("libvirtd"), "{unit}");
        for socket in ["libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock"] {
            assert!(!host.dir.join(socket).exists(), "{unit}: {socket}");
        }
    }
}

#[test]
fn the_watchdog_is_told_for_as_long_as_the_daemon_runs() {
    let mut host = Host::new("watchdog");
    host.virtwired("", &[("WATCHDOG_USEC", "20000")]);
    let told = host.told();
    for _ in 0..3 {
        assert_eq!(told.next(), "WATCHDOG=1");
    }
}

#[test]
fn the_journal_gets_messages_with_priority_and_source() {
    if !is_root() || !programs(&["unshare"]) {
        return;
    }
    let mut host = Host::new("journal");
    std::fs::create_dir(host.dir.join("journal")).unwrap();
    let journal = UnixDatagram::bind(host.dir.join("journal/socket")).unwrap();
    let script = "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; \
                  mount --bind \"$0\" /run/systemd/journal; exec \"$@\"";
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-ec", script]).arg(host.dir.join("journal"));
    shell.arg(env!("CARGO_BIN_EXE_virtwired")).stdin(Stdio::null());
    host.launch(shell, "libvirt", &[], "log_level = 2\nlog_outputs = \"2:journald\"\n", &[]);
    let mut entry = [0; 4096];
    let count = journal.recv(&mut entry).unwrap();
    let text = String::from_utf8_lossy(&entry[..count]);
    let fields: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    assert!(fields.contains(&("MESSAGE", "ready")), "{text}");
    assert!(fields.contains(&("PRIORITY", "6")), "{text}");
    assert!(fields.contains(&("SYSLOG_IDENTIFIER", "virtwired")), "{text}");
    assert!(fields.contains(&("LIBVIRT_SOURCE", "virtwired")), "{text}");
}
