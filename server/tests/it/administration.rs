//! The real virt-admin against this daemon, text for text what it shows of libvirtd 11.3.

use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use virtwired::log::Log;
use virtwired::{Config, Daemon};

use crate::host::{Host, run};
use crate::peer::Peer;
use crate::toy::Toy;

struct Administered {
    dir: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Administered {
    /// `None`, with a word about it, where there is no virt-admin.
    fn new(name: &str) -> Option<Self> {
        if Command::new("virt-admin").arg("--version").output().is_err() {
            virtwire_skip::without_program("no virt-admin");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("virtwired-{}-{name}", std::process::id()));
        let daemon = Daemon::bind(&Config::in_dir(dir.clone()), vec![Toy::new()], Log::new(None)).unwrap();
        Some(Self { dir, task: tokio::spawn(daemon.run(std::future::pending())) })
    }

    async fn run(&self, args: &str) -> (bool, String) {
        let uri = format!("libvirtd:///system?socket={}", self.dir.join("libvirt-admin-sock").display());
        let args: Vec<String> = args.split(' ').map(|arg| arg.replace('~', " ")).collect();
        let ran = tokio::task::spawn_blocking(move || {
            Command::new("virt-admin").args(["-c", &uri]).args(args).env("LC_ALL", "C").output().unwrap()
        });
        let Output { status, stdout, stderr } = ran.await.unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        (status.success(), text.trim_end().trim_start_matches('\n').to_owned())
    }
}

const THREADS: &str = "minWorkers     : 5\nmaxWorkers     : 20\nnWorkers       : 5\nfreeWorkers    : 5\n\
                       prioWorkers    : 5\njobQueueDepth  : 0";

#[tokio::test(flavor = "multi_thread")]
async fn virt_admin_shows_what_it_shows_of_libvirtd() {
    let Some(daemon) = Administered::new("admin") else { return };
    let clients = |max, now, unauth_max, unauth| {
        format!(
            "nclients_max        : {max}\nnclients            : {now}\nnclients_unauth_max : {unauth_max}\n\
             nclients_unauth     : {unauth}"
        )
    };
    let no_limits = "error: Unable to change server's client-related configuration limits\nerror: invalid argument: \
                     The overall maximum number of clients must not be less than the number of clients waiting for \
                     authentication";
    let pool = "error: Unable to change server workerpool parameters\nerror: invalid argument: minWorkers cannot be \
                larger than maxWorkers";
    let log = |text: &str| {
        format!("error: Unable to change daemon logging settings\nerror: invalid argument: {text}")
    };
    for (args, good, text) in [
        ("server-list", true, " Id   Name\n----------------\n 0    admin\n 1    libvirtd".to_owned()),
        ("srv-threadpool-info libvirtd", true, THREADS.into()),
        ("srv-threadpool-info admin", true, THREADS.replace("freeWorkers    : 5", "freeWorkers    : 4").replace("prioWorkers    : 5", "prioWorkers    : 0")),
        ("srv-threadpool-info none", false, "error: Server not found: No server named 'none'".into()),
        ("srv-threadpool-set libvirtd --min-workers 40", false, pool.into()),
        ("srv-threadpool-set libvirtd --max-workers 4", false, pool.into()),
        ("srv-threadpool-set libvirtd --max-workers 30 --priority-workers 7", true, String::new()),
        ("srv-threadpool-info libvirtd", true, THREADS.replace(": 20", ": 30").replace("prioWorkers    : 5", "prioWorkers    : 7")),
        ("srv-clients-info libvirtd", true, clients(5000, 0, 20, 0)),
        ("srv-clients-info admin", true, clients(5000, 1, 0, 0)),
        ("srv-clients-set libvirtd --max-clients 10", false, no_limits.into()),
        ("srv-clients-set libvirtd --max-clients 30 --max-unauth-clients 0", true, String::new()),
        ("srv-clients-info libvirtd", true, clients(30, 0, 0, 0)),
        ("client-list libvirtd", true, " Id   Transport   Connected since\n-----------------------------------".into()),
        ("client-info admin 1", false, "error: Client not found: No client with matching ID '1'".into()),
        ("client-disconnect libvirtd 99", false, "error: Client not found: No client with matching ID '99'".into()),
        ("srv-update-tls libvirtd", false, "error: Unable to update server's tls related files.\nerror: internal error: no tls service found, unable to update tls files".into()),
        ("daemon-log-filters", true, " Logging filters:".into()),
        ("daemon-log-filters 9:foo", false, log("Invalid priority '9' for filter '9:foo'")),
        ("daemon-log-filters 1:", false, log("Invalid match string ''")),
        ("daemon-log-filters foo", false, log("Malformed format for filter 'foo'")),
        ("daemon-log-filters 4:qemu~3:+rpc", true, String::new()),
        ("daemon-log-filters", true, " Logging filters: 4:*qemu* 3:*rpc*".into()),
        ("daemon-log-outputs", true, " Logging outputs: 3:stderr".into()),
        ("daemon-log-outputs 1:file", false, log("Log output '1:file' does not meet the format requirements for destination type 'file'")),
        ("daemon-log-outputs 1:bogus:xx", false, log("Invalid log destination 'bogus' for log output '1:bogus:xx'")),
        ("daemon-timeout --timeout 0", true, String::new()),
    ] {
        assert_eq!(daemon.run(args).await, (good, text), "{args}");
    }
    daemon.task.abort();
    let _ = std::fs::remove_dir_all(&daemon.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_described_and_disconnected() {
    let Some(daemon) = Administered::new("clients") else { return };
    let mut peer = Peer::on(UnixStream::connect(daemon.dir.join("libvirt-sock-ro")).await.unwrap());
    peer.authenticate().await;
    let (good, text) = daemon.run("client-list libvirtd").await;
    assert!(good && text.lines().count() == 3 && text.contains(" 1    unix        20"), "{text}");
    let (good, text) = daemon.run("client-info libvirtd 1").await;
    let keys: Vec<_> = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim_end())).collect();
    let expected = [
        "id",
        "connection_time",
        "transport",
        "readonly",
        "unix_user_id",
        "unix_user_name",
        "unix_group_id",
        "unix_group_name",
        "unix_process_id",
    ];
    assert!(good && keys == expected, "{text}");
    assert!(text.contains("readonly       : yes"), "{text}");
    assert!(text.contains(&format!("unix_process_id: {}", std::process::id())), "{text}");
    assert_eq!(daemon.run("client-disconnect libvirtd 1").await, (true, "Client '1' disconnected".into()));
    assert!(peer.receive().await.is_none());
    daemon.task.abort();
    let _ = std::fs::remove_dir_all(&daemon.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_ends_when_told_to_or_idle() {
    for (name, command) in [("shutdown", "daemon-shutdown"), ("idle", "daemon-timeout --timeout 1")] {
        let Some(daemon) = Administered::new(name) else { return };
        assert_eq!(daemon.run(command).await, (true, String::new()));
        tokio::time::timeout(std::time::Duration::from_secs(10), daemon.task).await.unwrap().unwrap();
        let _ = std::fs::remove_dir_all(&daemon.dir);
    }
}

/// What the daemon says of its clients' limits.
async fn most_clients(dir: &std::path::Path) -> String {
    let uri = format!("libvirtd:///system?socket={}", dir.join("libvirt-admin-sock").display());
    let mut virt_admin = Command::new("virt-admin");
    virt_admin.args(["-c", &uri, "srv-clients-info", "libvirtd"]);
    run(virt_admin).await.unwrap().lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_has_the_configuration_read_again_and_a_bad_one_changes_nothing() {
    if Command::new("virt-admin").arg("--version").output().is_err() {
        virtwire_skip::without_program("no virt-admin");
        return;
    }
    let mut host = Host::new("hangup");
    let (rules, log) = (host.dir.join("rules.toml"), host.dir.join("log"));
    let rule = |allow: &str| std::fs::write(&rules, format!("[[rule]]\nallow = [{allow}]\n")).unwrap();
    rule("'connect:*'");
    let settings = |clients: &str| {
        format!(
            "max_clients = {clients}\naccess_drivers = [ \"rules\" ]\naccess_rules_file = \"{}\"\n\
             log_outputs = \"2:file:{}\"\n",
            rules.display(),
            log.display()
        )
    };
    let pid = host.virtwired(&settings("30"), &[]);
    let told = host.told();
    let hang_up = |clients: &str| {
        std::fs::write(host.dir.join("libvirt.conf"), settings(clients)).unwrap();
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::HUP).unwrap();
        for word in ["RELOADING=1", "READY=1"] {
            assert_eq!(told.next(), word);
        }
    };
    let names = async || {
        let mut virsh = Command::new("virsh");
        let uri = format!("test:///default?socket={}", host.dir.join("libvirt-sock").display());
        virsh.args(["-q", "-c", &uri.replace("test:", "test+unix:"), "list", "--all", "--name"]);
        run(virsh).await.unwrap()
    };
    assert_eq!(
        (most_clients(&host.dir).await, names().await),
        ("nclients_max        : 30".into(), String::new())
    );
    rule("'connect:*', 'domain:getattr'");
    std::fs::rename(&log, host.dir.join("log.old")).unwrap();
    hang_up("40");
    assert_eq!(
        (most_clients(&host.dir).await, names().await),
        ("nclients_max        : 40".into(), "test".into())
    );
    assert!(log.exists(), "the log is opened anew");
    // A file that says nonsense, and rules that do.
    hang_up("\"many\"");
    std::fs::write(&rules, "[[rule]]\nallow = ['all']\n").unwrap();
    hang_up("50");
    assert_eq!(
        (most_clients(&host.dir).await, names().await),
        ("nclients_max        : 50".into(), "test".into())
    );
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("libvirt.conf:1: expected an unsigned integer for 'max_clients' parameter"),
        "{said}"
    );
    assert!(said.contains("the access rules are not read again"), "{said}");
}
