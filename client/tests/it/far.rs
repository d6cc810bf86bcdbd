//! The ways to other hosts, with the real programs at their other ends: libvirtd behind TLS, and sshd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use virtwire_client::{Connection, Error};

use crate::daemon::{Daemon, directory};
use crate::examples::built;
use crate::libvirtd::{Libvirtd, Setup};
use crate::transports::{Pki, pki};

/// libvirtd with the certificate of this name.
async fn with_certificate(pki: &Pki, server: &str) -> Option<Libvirtd> {
    let file = |name: String| pki.join(name).display().to_string();
    let conf = format!(
        "listen_tls = 1\nlisten_addr = \"127.0.0.1\"\ntls_no_sanity_certificate = 1\nauth_tls = \"none\"\n\
         ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        file("ca.pem".into()),
        file(format!("{server}.pem")),
        file(format!("{server}.key")),
    );
    Libvirtd::start(Setup { conf: &conf, arguments: &["--listen"], ..Setup::default() }, |_| {}).await
}

#[tokio::test]
async fn libvirtd_behind_tls() {
    let Some(pki) = pki() else { return };
    // Where the client goes, who it is, and what comes of it.
    let good = [
        ("localhost", "anna", ""),
        ("localhost", "nobody", "NoCertificate"),
        // It looks at who has signed it behind the handshake, and then says nothing.
        ("localhost", "mallory", "NoVerdict"),
        ("localhost", "stranger", "UnknownAuthority"),
        ("127.0.0.1", "anna", "OtherHost"),
    ];
    let old = [("localhost", "anna", "Expired")];
    let elsewhere = [("localhost", "anna", "OtherHost")];
    // By the daemon's certificate.
    for (server, clients) in [("server", &good[..]), ("old", &old), ("elsewhere", &elsewhere)] {
        let Some(daemon) = with_certificate(&pki, server).await else { return };
        for (host, client, expected) in clients {
            let uri = format!("qemu://{host}/system?pkipath={}", pki.join(client).display());
            let mut command = daemon.beside(&built("list"));
            command.arg(&uri);
            let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            let as_expected = match *expected {
                "" => ran.status.success(),
                error => !ran.status.success() && said.contains(&format!("Tls({error}")),
            };
            assert!(as_expected, "{server}, {client} to {host}: {said}");
        }
    }
}

/// sshd with a key of its own, for whoever runs this.
struct Sshd {
    dir: PathBuf,
    port: u16,
    process: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const KEYS: &str = r#"
for key in host other user forced; do ssh-keygen -q -t ed25519 -N '' -f $key; done
cat user.pub > authorized
echo "command=\"exit 3\" $(cat forced.pub)" >> authorized
for key in host other; do echo "[127.0.0.1]:$1 $(cat $key.pub)" > known-$key; done
: > known-none
"#;

impl Sshd {
    async fn start() -> Option<Self> {
        let programs = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/python3"];
        if let Some(missing) = programs.iter().find(|program| !Path::new(program).exists()) {
            virtwire_skip::without_program(format_args!("no {missing}"));
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            virtwire_skip::without_program("sshd needs root");
            return None;
        }
        let dir = directory();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut keys = Command::new("sh");
        let ran = keys.args(["-ec", KEYS, "sh", &port.to_string()]).current_dir(&dir).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        // It insists on this directory.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", "/dev/null", "-o", "ListenAddress=127.0.0.1", "-o", "StrictModes=no"])
            .args(["-o", "UsePAM=no", "-o", "PidFile=none", "-o", "PermitRootLogin=prohibit-password"])
            .args(["-p", &port.to_string(), "-h"])
            .arg(dir.join("host"))
            .arg("-o")
            .arg(format!("AuthorizedKeysFile={}", dir.join("authorized").display()))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self { dir, port, process };
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        let began = std::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = || std::fs::read_to_string(this.dir.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "sshd does not get ready: {}", log());
            pause.tick().await;
        }
        Some(this)
    }

    /// To a daemon's socket, with this key and these known hosts, and nobody there to be asked.
    fn uri(&self, socket: &Path, key: &str, known: &str) -> String {
        format!(
            "test+ssh://root@127.0.0.1:{}/default?no_tty=1&known_hosts_verify=normal&keyfile={}&known_hosts={}\
             &netcat={}&socket={}",
            self.port,
            self.dir.join(key).display(),
            self.dir.join(known).display(),
            crate::transports::netcat(&self.dir).display(),
            socket.display(),
        )
    }
}

#[tokio::test]
async fn a_daemon_behind_sshd() {
    let Some(sshd) = Sshd::start().await else { return };
    let daemon = Daemon::start();
    let uri = |key: &str, known: &str| sshd.uri(&daemon.socket(), key, known);
    let connection = Connection::open(&uri("user", "known-host")).await.unwrap();
    assert!(connection.connect_get_lib_version().await.unwrap().lib_ver > 0);
    connection.close().await.unwrap();

    // The key, the known hosts, and what is to be done.
    for (key, known, said, advice) in [
        ("user", "known-none", "Host key verification failed", "known_hosts="),
        ("user", "known-other", "REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key"),
        ("other", "known-host", "Permission denied", "keyfile="),
    ] {
        let Err(Error::Helper(error)) = Connection::open(&uri(key, known)).await else {
            panic!("{key} and {known} were let in")
        };
        assert!(error.output.contains(said), "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
    // It lets us in, and what it runs ends before it has said anything.
    let Err(Error::Helper(error)) = Connection::open(&uri("forced", "known-host")).await else {
        panic!("a program that ends at once has let us in")
    };
    assert_eq!(error.end, "ended with status 3", "{error}");
    // There, nobody listens at the socket.
    let nowhere = sshd.uri(&daemon.dir.join("nowhere"), "user", "known-host");
    let Err(Error::Helper(error)) = Connection::open(&nowhere).await else { panic!("nobody has let us in") };
    assert!(error.to_string().contains("does a libvirt daemon run on the other host"), "{error}");
}
