//! The real virsh over TCP and TLS: clients with the right certificate, the wrong one, none, and a revoked one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use virtwired::config::{Auth, Settings};
use virtwired::log::Log;
use virtwired::{Config, Daemon};

use crate::toy::Toy;

/// Whether these programs are here; if not, the test says that it is skipped.
pub(crate) fn programs(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| Command::new(name).arg("version").output().is_err());
    missing.inspect(|name| virtwire_skip::without_program(format_args!("no {name}"))).is_none()
}

/// Runs a shell script in a directory.
pub(crate) fn shell(dir: &Path, script: &str) {
    let ran = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("a shell");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// An authority, the daemon's certificate, clients `anna` and `mallory` (of another authority), and a list that
/// revokes `gone`.
pub(crate) const PKI: &str = r#"
key="-newkey rsa:2048 -nodes"
for ca in ca other; do
    openssl req -x509 $key -keyout $ca.key -out $ca.pem -days 30 -subj "/O=Test/CN=$ca" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
done
issue() {
    openssl req $key -keyout $1.key -out $1.csr -subj "$2"
    printf "$4\n" > $1.ext
    openssl x509 -req -in $1.csr -CA $3.pem -CAkey $3.key -CAcreateserial -out $1.pem -days 30 -extfile $1.ext
}
issue server "/O=Test/CN=localhost" ca "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth"
issue anna "/C=GB/O=Red Hat/CN=anna" ca extendedKeyUsage=clientAuth
issue gone "/C=GB/O=Red Hat/CN=gone" ca extendedKeyUsage=clientAuth
issue mallory "/C=GB/O=Red Hat/CN=anna" other extendedKeyUsage=clientAuth
for client in anna gone mallory; do
    mkdir $client && cp $client.pem $client/clientcert.pem && cp $client.key $client/clientkey.pem
    cat ca.pem > $client/cacert.pem
done
# virsh looks at its own certificate first: this one seems right to it.
cat other.pem ca.pem > mallory/cacert.pem
mkdir nobody && cp ca.pem nobody/cacert.pem
printf '[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\ncrlnumber=number\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n' > ca.cnf
echo 01 > number
: > index
openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem -revoke gone.pem
openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem -gencrl -out crl.pem
"#;

/// What virsh says of the guests at a URI, or why it does not; with the passwords of a file.
pub(crate) async fn virsh(uri: String, passwords: &Path) -> Result<String, String> {
    // A goodbye to a daemon that has left must not end virsh before it says why.
    let script = "trap '' PIPE; exec virsh -q -c \"$0\" list --name";
    let mut virsh = Command::new("sh");
    virsh.args(["-c", script, &uri]).env("LC_ALL", "C").env("LIBVIRT_AUTH_FILE", passwords);
    let output = tokio::task::spawn_blocking(move || virsh.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub(crate) struct Networked {
    pub(crate) dir: PathBuf,
    pub(crate) ports: Vec<u16>,
    task: tokio::task::JoinHandle<()>,
}

impl Networked {
    /// `None`, with a word about it, where openssl or virsh are missing.
    pub(crate) fn new(name: &str, change: impl FnOnce(&mut Settings)) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("virtwired-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        if !programs(&["virsh", "openssl"]) {
            return None;
        }
        shell(&dir, PKI);
        let path = |file: &str| dir.join(file).display().to_string();
        let mut settings = Settings {
            listen_tcp: true,
            auth_tcp: Auth::None,
            listen_addr: Some("127.0.0.1".into()),
            tcp_port: "0".into(),
            tls_port: "0".into(),
            key_file: path("server.key"),
            cert_file: path("server.pem"),
            ca_file: path("ca.pem"),
            crl_file: Some(path("crl.pem")),
            ..Settings::default()
        };
        change(&mut settings);
        let config = Config { listen: true, ..Config::in_dir(dir.clone()) }.with(settings).unwrap();
        let daemon = Daemon::bind(&config, vec![Toy::new()], Log::new(None)).unwrap();
        let ports = daemon.addresses().iter().map(std::net::SocketAddr::port).collect();
        Some(Self { dir, ports, task: tokio::spawn(daemon.run(std::future::pending())) })
    }

    async fn virsh(&self, uri: String) -> Result<String, String> {
        virsh(uri, Path::new("/dev/null")).await
    }

    async fn tls(&self, client: &str) -> Result<String, String> {
        let pki = self.dir.join(client);
        self.virsh(format!("toy+tls://localhost:{}/?pkipath={}", self.ports[1], pki.display())).await
    }

    pub(crate) fn end(self) {
        self.task.abort();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

const NOT_LET_IN: &str = "error: failed to connect to the hypervisor\nerror: Unable to read TLS confirmation: \
                          Input/output error";

#[tokio::test(flavor = "multi_thread")]
async fn class_tls_peer_not_verified_only_known_certificates_are_let_in() {
    let Some(daemon) = Networked::new("tls", |_| {}) else { return };
    assert_eq!(daemon.tls("anna").await, Ok("a\nb\nc".into()));
    for client in ["nobody", "gone", "mallory"] {
        assert_eq!(daemon.tls(client).await, Err(NOT_LET_IN.into()), "{client}");
    }
    assert_eq!(daemon.virsh(format!("toy+tcp://localhost:{}/", daemon.ports[0])).await, Ok("a\nb\nc".into()));
    daemon.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_certificates_decide_where_there_is_a_list() {
    for (name, list, good) in [
        ("dn-none", vec![], false),
        ("dn-other", vec!["CN=anna,O=Red Hat,C=GB"], false),
        ("dn-fits", vec!["CN=x", "C=GB,O=*,CN=anna"], true),
    ] {
        let list = list.into_iter().map(str::to_owned).collect();
        let Some(daemon) = Networked::new(name, |settings| settings.tls_allowed_dn_list = Some(list)) else {
            return;
        };
        assert_eq!(daemon.tls("anna").await.is_ok(), good, "{name}");
        daemon.end();
    }
}

#[tokio::test]
async fn one_more_silent_tls_client_than_allowed_drops_the_oldest() {
    let Some(daemon) = Networked::new("greeting", |settings| settings.max_anonymous_clients = 2) else {
        return;
    };
    let connect = || tokio::net::TcpStream::connect(("127.0.0.1", daemon.ports[1]));
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    let third = connect().await.unwrap();
    let mut byte = [0];
    assert_eq!(first.read(&mut byte).await.unwrap_or(0), 0, "the daemon says nothing before the client");
    let gone = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(gone.is_err(), "the second may stay: {gone:?}");
    drop((first, second, third));
    daemon.end();
    // One alone has the time that there is to authenticate.
    let Some(daemon) = Networked::new("handshake", |settings| settings.auth_timeout = 1) else { return };
    let mut silent = tokio::net::TcpStream::connect(("127.0.0.1", daemon.ports[1])).await.unwrap();
    assert_eq!(silent.read(&mut byte).await.unwrap_or(0), 0);
    daemon.end();
}

#[tokio::test]
async fn certificates_that_cannot_work_are_refused_at_the_start() {
    let dir = std::env::temp_dir().join(format!("virtwired-{}-sanity", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    if !programs(&["openssl"]) {
        return;
    }
    shell(&dir, PKI);
    let path = |file: &str| dir.join(file).display().to_string();
    for (cert, key, ca, text) in [
        ("missing.pem", "server.key", "ca.pem", "Cannot read server certificate"),
        ("server.pem", "anna.key", "ca.pem", "keys may not be consistent"),
        ("ca.pem", "ca.key", "ca.pem", "basic constraints show a CA, but we need one for a server"),
        ("server.pem", "server.key", "anna.pem", "basic constraints do not show a CA"),
        ("server.pem", "server.key", "server.key", "holds no certificate"),
    ] {
        let settings = Settings {
            listen_addr: Some("127.0.0.1".into()),
            tls_port: "0".into(),
            key_file: path(key),
            cert_file: path(cert),
            ca_file: path(ca),
            ..Settings::default()
        };
        let config = Config { listen: true, ..Config::in_dir(dir.clone()) }.with(settings).unwrap();
        let error = Daemon::bind(&config, vec![], Log::new(None)).err().unwrap().to_string();
        assert!(error.contains(text), "{cert} {key} {ca}: {error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
