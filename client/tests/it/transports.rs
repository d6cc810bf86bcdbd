//! The ways to a daemon: TCP, TLS with good and bad certificates, and programs such as ssh.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use virtwire_client::{Connection, Error, TlsError, UriError};

use crate::daemon::{Daemon, directory};

/// An authority, certificates of daemons, and directories of clients: `anna` with a certificate, `mallory` with one of
/// another authority, `nobody` without one, `stranger` who trusts another authority.
const PKI: &str = r#"
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
for ca in ca other; do
    openssl req -x509 $key -keyout $ca.key -out $ca.pem -days 30 -subj "/O=Test/CN=$ca" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
done
issue() {
    openssl req $key -keyout $1.key -out $1.csr -subj "$2"
    printf "$4\n" > $1.ext
    openssl x509 -req -in $1.csr -CA $3.pem -CAkey $3.key -CAcreateserial -out $1.pem -days 30 -extfile $1.ext
}
issue server "/O=Test/CN=localhost" ca subjectAltName=DNS:localhost
issue old "/O=Test/CN=localhost" ca subjectAltName=DNS:localhost
printf '[ca]\ndefault_ca=x\n[x]\ndatabase=index\nserial=number\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\n' > ca.cnf
echo 01 > number
: > index
openssl ca -batch -notext -config ca.cnf -keyfile ca.key -cert ca.pem -in old.csr -out old.pem -extfile old.ext \
    -subj "/O=Test/CN=localhost" -startdate 20200101000000Z -enddate 20200201000000Z
issue elsewhere "/O=Test/CN=elsewhere" ca subjectAltName=DNS:elsewhere.test
issue named "/O=Test/CN=localhost" ca basicConstraints=CA:FALSE
issue misnamed "/O=Test/CN=elsewhere" ca basicConstraints=CA:FALSE
issue anna "/CN=anna" ca extendedKeyUsage=clientAuth
issue mallory "/CN=anna" other extendedKeyUsage=clientAuth
for client in anna mallory nobody stranger; do
    mkdir -p $client && cp ca.pem $client/cacert.pem
    [ ! -e $client.pem ] || { cp $client.pem $client/clientcert.pem; cp $client.key $client/clientkey.pem; }
done
cp other.pem stranger/cacert.pem
"#;

/// A directory with certificates, removed with this.
pub(crate) struct Pki(PathBuf);

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl std::ops::Deref for Pki {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

/// Certificates; `None`, with a word about it, where openssl is missing.
pub(crate) fn pki() -> Option<Pki> {
    if Command::new("openssl").arg("version").output().is_err() {
        virtwire_skip::without_program("no openssl");
        return None;
    }
    let dir = directory();
    let ran = Command::new("sh").args(["-ec", PKI]).current_dir(&dir).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(Pki(dir))
}

async fn works(uri: &str) {
    let connection = Connection::open(uri).await.unwrap_or_else(|error| panic!("{uri}: {error}"));
    assert!(connection.connect_get_lib_version().await.unwrap().lib_ver > 0);
    connection.close().await.unwrap();
}

async fn tls_error(uri: &str) -> TlsError {
    match Connection::open(uri).await {
        Err(Error::Tls(error)) => *error,
        other => panic!("{uri}: {other:?}"),
    }
}

#[tokio::test]
async fn tcp_and_tls_by_their_uris() {
    let Some(pki) = pki() else { return };
    let daemon = Daemon::networked(&pki, "server", |_| {});
    let (tcp, tls, dir) = (daemon.ports[0], daemon.ports[1], pki.display());
    works(&format!("test+tcp://127.0.0.1:{tcp}/default")).await;
    works(&format!("test://localhost:{tls}/default?pkipath={dir}/anna")).await;
    works(&format!(
        "test+tls://localhost:{tls}/default?pkipath={dir}/anna&tls_priority=SECURE256:-VERS-TLS1.3"
    ))
    .await;
    // Not the name in the certificate, and no CA to look it up in, but nobody asks.
    std::fs::remove_file(pki.join("anna/cacert.pem")).unwrap();
    works(&format!("test+tls://127.0.0.1:{tls}/default?pkipath={dir}/anna&no_verify=1")).await;
}

#[tokio::test]
async fn bad_certificates_have_errors_of_their_own() {
    let Some(pki) = pki() else { return };
    let daemon = Daemon::networked(&pki, "server", |_| {});
    let (tls, dir) = (daemon.ports[1], &pki);
    let uri = |host: &str, client: &str| {
        format!("test+tls://{host}:{tls}/default?pkipath={}", dir.join(client).display())
    };
    let host = "localhost".to_owned();
    let certificate = |client: &str| dir.join(client).join("clientcert.pem");

    assert_eq!(tls_error(&uri("localhost", "nobody")).await, TlsError::NoCertificate(certificate("nobody")));
    let error = tls_error(&uri("localhost", "mallory")).await;
    assert!(matches!(&error, TlsError::Refused(file, _) if *file == certificate("mallory")), "{error:?}");
    let authority = dir.join("stranger/cacert.pem");
    assert_eq!(tls_error(&uri("localhost", "stranger")).await, TlsError::UnknownAuthority(host, authority));
    let error = tls_error(&uri("127.0.0.1", "anna")).await;
    assert!(matches!(&error, TlsError::OtherHost(host, _) if host == "127.0.0.1"), "{error:?}");
    let error = tls_error(&uri("localhost", "absent")).await;
    assert_eq!(error, TlsError::NoAuthority(dir.join("absent/cacert.pem")));
    assert!(error.to_string().contains("pkipath"), "{error}");
}

/// A daemon's TLS port, for the client `anna`.
pub(crate) fn uri(daemon: &Daemon, pki: &Path) -> String {
    let directory = pki.join("anna");
    format!("test+tls://localhost:{}/default?pkipath={}", daemon.ports[1], directory.display())
}

#[tokio::test]
async fn certificates_of_daemons_are_verified() {
    let Some(pki) = pki() else { return };
    for (server, expected) in [
        ("old", Some(TlsError::Expired("localhost".into()))),
        (
            "elsewhere",
            Some(TlsError::OtherHost("localhost".into(), vec!["DnsName(\"elsewhere.test\")".into()])),
        ),
        ("misnamed", Some(TlsError::OtherHost("localhost".into(), vec![]))),
        // A common name alone is enough, as it is to GnuTLS.
        ("named", None),
    ] {
        let daemon = Daemon::networked(&pki, server, |_| {});
        let uri = uri(&daemon, &pki);
        match expected {
            Some(expected) => assert_eq!(tls_error(&uri).await, expected, "{server}"),
            None => works(&uri).await,
        }
    }
}

#[tokio::test]
async fn a_client_that_is_not_on_the_list_is_told() {
    let Some(pki) = pki() else { return };
    let daemon = Daemon::networked(&pki, "server", |settings| settings.tls_allowed_dn_list = Some(vec![]));
    assert_eq!(tls_error(&uri(&daemon, &pki)).await, TlsError::NoVerdict);
}

#[tokio::test]
async fn nobody_listens_on_the_network() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Connection::open(&format!("test+tcp://127.0.0.1:{free}/default")).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot connect to 127.0.0.1, port {free}: ")), "{error}");
}

/// A program that stands in for ssh: it runs what it would run elsewhere.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What `nc -U` does, where there is none.
pub(crate) fn netcat(dir: &Path) -> PathBuf {
    let nc = "exec python3 -c 'if 1:
    import os, socket, sys, threading
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[-1])
    def copy(a, b):
        while data := os.read(a, 65536): os.write(b, data)
        os._exit(0)
    threading.Thread(target=copy, args=(0, s.fileno())).start()
    copy(s.fileno(), 1)' \"$@\"";
    let path = dir.join("nc");
    std::fs::write(&path, format!("#!/bin/sh\n{nc}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn ssh_runs_a_program_at_the_other_end() {
    let daemon = Daemon::start();
    // The last argument is the command for the other side.
    let ssh = script(&daemon.dir, "for last; do :; done; exec sh -c \"$last\"");
    let nc_path = netcat(&daemon.dir);
    let uri = format!(
        "test+ssh://far/default?command={}&netcat={}&socket={}",
        ssh.display(),
        nc_path.display(),
        daemon.socket().display()
    );
    if Command::new("python3").arg("--version").output().is_ok() {
        works(&uri).await;
    } else {
        virtwire_skip::without_program("no python3");
    }
}

#[tokio::test]
async fn what_ssh_says_is_the_error() {
    let dir = directory();
    let program = script(&dir, "echo 'Host key verification failed.' >&2; exit 255");
    let uri = format!("qemu+ssh://far/system?command={}", program.display());
    let Err(Error::Helper(error)) = Connection::open(&uri).await else { panic!("no error of the program's") };
    assert_eq!(
        (error.output.as_str(), error.end.as_str()),
        ("Host key verification failed.", "ended with status 255")
    );
    assert!(error.to_string().contains("known_hosts="), "{error}");

    let program = script(&dir, "exit 3");
    let uri = format!("qemu+ext:///system?command={}", program.display());
    let error = Connection::open(&uri).await.unwrap_err().to_string();
    assert!(error.ends_with("ended with status 3"), "{error}");

    let Err(Error::Helper(error)) = Connection::open("qemu+ssh://far/system?command=/nowhere/ssh").await
    else {
        panic!("a program that is not there was started")
    };
    assert!(error.missing && error.to_string().contains("install it"), "{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_uri_that_cannot_be_used_is_refused_before_anything_else() {
    let error = Connection::open("qemu+carrier-pigeon://far/system").await.unwrap_err();
    assert!(matches!(&error, Error::Uri(UriError::Transport(name)) if name == "carrier-pigeon"), "{error:?}");
}
