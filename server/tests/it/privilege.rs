//! What the daemon and its guests cannot do, with a real guest under QEMU.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::host::{Host, run};
use crate::network::programs;

const GUEST: &str = "<domain type='qemu'><name>little</name><memory unit='MiB'>32</memory>\
                     <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

fn host(name: &str) -> Option<Host> {
    programs(&["virsh", "virt-admin", "qemu-system-x86_64"]).then(|| Host::new(name))
}

async fn virsh(host: &Host, words: &[&str]) -> Result<String, String> {
    let scope = if crate::host::is_root() { "system" } else { "session" };
    let uri = format!("qemu+unix:///{scope}?socket={}", host.dir.join("libvirt-sock").display());
    let mut virsh = Command::new("virsh");
    virsh.args(["-q", "-c", &uri]).args(words);
    run(virsh).await
}

/// Starts the guest and returns its process id.
async fn start(host: &Host) -> u32 {
    let xml = host.dir.join("guest.xml");
    fs::write(&xml, GUEST).unwrap();
    virsh(host, &["create", &xml.display().to_string()]).await.unwrap();
    let guests = host.guests();
    guests.first().expect("the guest's process").as_raw_nonzero().get().unsigned_abs()
}

/// What the open descriptors of a process are, but for those that all have.
fn open(pid: u32) -> BTreeSet<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok()?.to_str().map(str::to_owned));
    // Kinds without identity, and where everybody may write.
    links.filter(|link| !link.starts_with("anon_inode:") && !link.starts_with("/dev/")).collect()
}

fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn class_descriptors_guests_inherit_none_of_the_daemons() {
    let Some(mut host) = host("inherit") else { return };
    let log = host.dir.join("log");
    let settings = format!(
        "log_level = 2\naudit_logging = 1\nlog_outputs = \"2:file:{}\"\nmetrics_address = \"{}\"\n",
        log.display(),
        host.dir.join("metrics").display()
    );
    let daemon = host.virtwired(&settings, &[]);
    // Clients that are there when the guest is started.
    let clients: Vec<_> = ["libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock"]
        .iter()
        .map(|socket| std::os::unix::net::UnixStream::connect(host.dir.join(socket)).unwrap())
        .collect();
    let guest = start(&host).await;
    let (daemons, guests) = (open(daemon), open(guest));
    assert!(
        daemons.iter().any(|link| link.starts_with("socket:")) && daemons.contains(log.to_str().unwrap())
    );
    assert_eq!(daemons.intersection(&guests).collect::<Vec<_>>(), Vec::<&String>::new(), "{guests:?}");
    drop(clients);
    virsh(&host, &["destroy", "little"]).await.unwrap();
    // The log has the audit records of both, each with the daemon's words around it.
    let log = fs::read_to_string(log).unwrap();
    for record in
        ["op=start reason=booted vm=\"little\" uuid=", "op=stop reason=destroyed vm=\"little\" uuid="]
    {
        let record = format!("success=yes virt=qemu {record}");
        assert_eq!(log.lines().filter(|line| line.contains(&record)).count(), 1, "{record} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_least_privilege_a_guest_runs_where_daemon_and_guest_write_to_their_places_only() {
    let Some(mut host) = host("sandbox") else { return };
    let daemon = host.virtwired("seccomp = 1\nlandlock = 1\n", &[]);
    let guest = start(&host).await;
    for pid in [daemon, guest] {
        assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".into(), "1".into()), "{pid}");
    }
    assert_eq!(virsh(&host, &["domstate", "little"]).await, Ok("running".into()));
    let log_to = |path: &Path| {
        let uri = format!("libvirtd+unix:///system?socket={}", host.dir.join("libvirt-admin-sock").display());
        let mut admin = Command::new("virt-admin");
        admin.args([
            "-q",
            "-c",
            &uri,
            "daemon-log-outputs",
            "--outputs",
            &format!("2:file:{}", path.display()),
        ]);
        run(admin)
    };
    assert_eq!(log_to(&host.dir.join("log")).await, Ok(String::new()));
    let outside = std::env::temp_dir().join(format!("virtwired-{}-outside", std::process::id()));
    let said = log_to(&outside).await;
    if status(daemon, "NoNewPrivs") == "1" && !outside.exists() {
        assert!(said.unwrap_err().contains("Permission denied"));
    } else {
        fs::remove_file(&outside).unwrap();
        virtwire_skip::without_program("no Landlock in this kernel");
    }
    virsh(&host, &["destroy", "little"]).await.unwrap();
    assert_eq!(virsh(&host, &["list", "--all", "--name"]).await, Ok(String::new()));
}
