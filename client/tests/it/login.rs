//! Logins: against virtwired, against daemons that cheat, and against the real libvirtd where it is installed.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::protocol::remote::{
    AuthListRet, AuthSaslInitRet, AuthSaslStartArgs, AuthSaslStartRet, AuthType, Procedure,
};
use virtwire_client::{AuthError, Connection, CredentialKind, Credentials, Error, Options};
use virtwired::auth::{PasswordFile, Verifier};
use virtwired::config::{Auth, Settings};

use crate::daemon::{Daemon, directory};
use crate::peer::Peer;
use crate::transports;

/// A users file with anna, whose password is `pencil`.
fn users() -> PathBuf {
    let mut users = PasswordFile::default();
    assert!(users.set("anna", Verifier::new("pencil").unwrap()));
    let path = directory().join("users");
    users.write(&path).unwrap();
    path
}

fn settings(users: &Path, mechanism: &str) -> Settings {
    Settings {
        auth_unix_rw: Auth::Sasl,
        sasl_mechanisms: vec![mechanism.to_owned()],
        sasl_users_file: users.display().to_string(),
        ..Settings::default()
    }
}

fn with(credentials: Credentials) -> Options {
    Options { credentials: Some(credentials), ..Options::default() }
}

#[tokio::test]
async fn scram_with_a_callback_and_with_auth_conf() {
    let users = users();
    let daemon = Daemon::with(settings(&users, "SCRAM-SHA-256"));
    let right = Credentials::ask(|request| {
        assert_eq!((request.host, request.mechanism), ("localhost", "SCRAM-SHA-256"));
        Some(match request.kind {
            CredentialKind::AuthName => "anna".into(),
            CredentialKind::Passphrase => {
                assert_eq!(request.prompt, "Enter anna's password for localhost");
                "pencil".into()
            }
        })
    });
    let connection = Connection::open_with(&daemon.uri(), with(right)).await.unwrap();
    assert!(connection.connect_get_lib_version().await.is_ok());

    let file = daemon.dir.join("auth.conf");
    std::fs::write(
        &file,
        "[credentials-c]\nauthname=anna\npassword=pencil\n[auth-libvirt-localhost]\ncredentials=c\n",
    )
    .unwrap();
    let uri = format!("{}&authfile={}", daemon.uri(), file.display());
    Connection::open(&uri).await.unwrap();

    let wrong = Connection::open_with(&daemon.uri(), with(Credentials::fixed("anna", "pen"))).await;
    assert_eq!(wrong.unwrap_err().remote().unwrap().code, ErrorCode::AUTH_FAILED);
    let nobody = Connection::open_with(&daemon.uri(), with(Credentials::ask(|_| None))).await;
    let Err(Error::Authentication(error)) = nobody else { panic!("{nobody:?}") };
    assert_eq!(*error, AuthError::NoCredentials("localhost".into()));
    std::fs::remove_dir_all(users.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn external_needs_no_password() {
    let users = users();
    let daemon = Daemon::with(settings(&users, "EXTERNAL"));
    Connection::open(&daemon.uri()).await.unwrap();
    std::fs::remove_dir_all(users.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn plain_goes_through_tls_and_nothing_through_bare_tcp() {
    let Some(pki) = transports::pki() else { return };
    let users = users();
    let daemon = Daemon::networked(&pki, "server", |into| {
        let settings = settings(&users, "PLAIN");
        (into.auth_tls, into.auth_tcp) = (Auth::Sasl, Auth::Sasl);
        (into.sasl_mechanisms, into.sasl_users_file) = (settings.sasl_mechanisms, settings.sasl_users_file);
    });
    let right = with(Credentials::fixed("anna", "pencil"));
    let tls = transports::uri(&daemon, &pki);
    Connection::open_with(&tls, right.clone()).await.unwrap();
    let wrong = Connection::open_with(&tls, with(Credentials::fixed("anna", "pen"))).await;
    assert_eq!(wrong.unwrap_err().remote().unwrap().code, ErrorCode::AUTH_FAILED);
    let tcp = format!("test+tcp://127.0.0.1:{}/default", daemon.ports[0]);
    let Err(Error::Authentication(error)) = Connection::open_with(&tcp, right).await else {
        panic!("a password went through bare TCP")
    };
    assert_eq!(*error, AuthError::Unprotected);
    std::fs::remove_dir_all(users.parent().unwrap()).unwrap();
}

/// A daemon that asks for a login and then goes its own way.
async fn offered(mechanisms: &str, then: impl AsyncFnOnce(&mut Peer)) -> Error {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let daemon = async {
        let call = peer.expect(Procedure::AUTH_LIST).await;
        peer.reply(&call, &AuthListRet { types: vec![AuthType::SASL] }).await;
        let call = peer.expect(Procedure::AUTH_SASL_INIT).await;
        peer.reply(&call, &AuthSaslInitRet { mechlist: mechanisms.into() }).await;
        then(&mut peer).await;
    };
    let options = with(Credentials::fixed("anna", "pencil"));
    let (connection, ()) = tokio::join!(Connection::over_with(ours, "test:///default", options), daemon);
    connection.unwrap_err()
}

async fn answer_start(peer: &mut Peer, complete: i32, data: Option<Vec<u8>>) {
    let call = peer.expect(Procedure::AUTH_SASL_START).await;
    assert_eq!(call.args::<AuthSaslStartArgs>().mech, "SCRAM-SHA-256");
    let nil = i32::from(data.is_none());
    peer.reply(&call, &AuthSaslStartRet { complete, nil, data: data.unwrap_or_default() }).await;
}

#[tokio::test]
async fn a_daemon_that_does_not_know_the_password_is_not_believed() {
    for data in [None, Some(Vec::new()), Some(b"v=AAAA".to_vec())] {
        let error = offered("SCRAM-SHA-256", async |peer| answer_start(peer, 1, data.clone()).await).await;
        assert!(
            matches!(&error, Error::Authentication(error) if matches!(**error, AuthError::Exchange(_))),
            "{error:?}"
        );
    }
    let nothing = offered("GSSAPI,CRAM-MD5", async |_| {}).await;
    assert!(nothing.to_string().contains("'GSSAPI,CRAM-MD5'"), "{nothing}");
}
