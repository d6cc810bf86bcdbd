//! The first calls of a connection.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virtwire_client::protocol::admin;
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::protocol::remote::{
    AuthListRet, AuthType, ConnectGetUriRet, ConnectOpenArgs, ConnectSupportsFeatureRet, Procedure,
};
use virtwire_client::{AuthError, Connect, Connection, DomainState, Error, Lifecycle, Options};

use crate::peer::Peer;

/// What libvirt's own client sent and got: until the connection is open, ours must send the same bytes.
#[tokio::test]
async fn the_opening_is_that_of_the_real_client() {
    for (capture, options) in [
        ("vw-open-close", Options::default()),
        ("vw-open-close-ro", Options { read_only: true, ..Options::default() }),
    ] {
        let frames = frames(capture);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let daemon = async {
            for (from_client, expected) in &frames[..10] {
                if *from_client {
                    let mut got = vec![0; expected.len()];
                    theirs.read_exact(&mut got).await.unwrap();
                    assert_eq!(&got, expected, "{capture}");
                } else {
                    theirs.write_all(expected).await.unwrap();
                }
            }
        };
        let open = Connection::over_with(ours, "qemu+unix:///system?socket=x", options);
        let (connection, ()) = tokio::join!(open, daemon);
        assert_eq!(connection.unwrap().uri(), "qemu+unix:///system?socket=x");
    }
}

/// The frames of a recorded conversation: whether the client sent it, and its bytes.
fn frames(capture: &str) -> Vec<(bool, Vec<u8>)> {
    let path = format!("{}/../tests/captures/{capture}.json", env!("CARGO_MANIFEST_DIR"));
    let capture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let frame = |frame: &Value| {
        let header = &frame["header"];
        let word = |value: &Value| (value.as_i64().unwrap() as u32).to_be_bytes();
        let mut bytes = word(&frame["length"]).to_vec();
        for key in ["program", "version", "procedure", "type", "serial", "status"] {
            bytes.extend(word(&header[key]));
        }
        let payload = frame["payload"].as_str().unwrap();
        bytes.extend(
            (0..payload.len()).step_by(2).map(|i| u8::from_str_radix(&payload[i..i + 2], 16).unwrap()),
        );
        (frame["dir"] == "c>s", bytes)
    };
    capture["frames"].as_array().unwrap().iter().map(frame).collect()
}

#[tokio::test]
async fn an_authentication_that_is_not_known_is_named() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let daemon = async {
        let call = peer.expect(Procedure::AUTH_LIST).await;
        peer.reply(&call, &AuthListRet { types: vec![AuthType(7)] }).await;
        // The client gives up; nothing more comes.
        assert!(peer.next().await.is_none());
    };
    let (connection, ()) = tokio::join!(Connection::over(ours, "qemu:///system"), daemon);
    let Err(Error::Authentication(error)) = connection else { panic!("{connection:?}") };
    assert_eq!(*error, AuthError::Unknown(vec![7]));
}

#[tokio::test]
async fn a_client_without_a_uri_asks_the_daemon_for_it() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let daemon = async {
        let yes = ConnectSupportsFeatureRet { supported: 1 };
        let call = peer.expect(Procedure::AUTH_LIST).await;
        peer.reply(&call, &AuthListRet { types: vec![] }).await;
        let call = peer.expect(Procedure::CONNECT_SUPPORTS_FEATURE).await;
        peer.reply(&call, &yes).await;
        let call = peer.expect(Procedure::CONNECT_OPEN).await;
        assert_eq!(call.args::<ConnectOpenArgs>().name.unwrap(), "");
        peer.reply(&call, &()).await;
        let call = peer.expect(Procedure::CONNECT_GET_URI).await;
        peer.reply(&call, &ConnectGetUriRet { uri: "qemu:///system".into() }).await;
        for _ in 0..2 {
            let call = peer.expect(Procedure::CONNECT_SUPPORTS_FEATURE).await;
            peer.reply(&call, &yes).await;
        }
    };
    let (connection, ()) = tokio::join!(Connection::over(ours, ""), daemon);
    assert_eq!(connection.unwrap().uri(), "qemu:///system");
}

/// The administration knows no authentication and no features, and has a goodbye of its own.
#[tokio::test]
async fn the_administration_is_opened_and_closed_in_its_own_program() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let daemon = async {
        for procedure in [admin::Procedure::CONNECT_OPEN, admin::Procedure::CONNECT_CLOSE] {
            let call = peer.next().await.unwrap();
            assert_eq!((call.header.prog, call.header.proc), (admin::PROGRAM.number, procedure.0));
            peer.reply(&call, &()).await;
        }
    };
    let client = async { Connection::over_admin(ours).await.unwrap().close().await.unwrap() };
    tokio::join!(client, daemon);
}

#[tokio::test]
async fn nobody_listens() {
    let error = Connection::open("test+unix:///default?socket=/nowhere/at-all").await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot connect to /nowhere/at-all: ") && text.contains("socket="), "{text}");
}

/// With an embedded hypervisor no daemon runs, and everything else is as with one.
#[tokio::test]
async fn the_test_hypervisor_is_in_this_process() {
    virtwired::embed();
    let connect = Connect::open("test:///default").await.unwrap();
    let other = Connect::open("test:///default").await.unwrap();
    let mut events = other.lifecycle_events().await.unwrap();
    let domain = connect.domain_by_name("test").await.unwrap();
    domain.suspend().await.unwrap();
    // Both connections see the same host.
    assert_eq!(events.next().await.unwrap().what, Lifecycle::Suspended);
    assert_eq!(other.domain_by_name("test").await.unwrap().state(0).await.unwrap().0, DomainState::Paused);
    let error = connect.domain_by_name("nobody").await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::NO_DOMAIN, "{error}");
    let options = Options { read_only: true, ..Options::default() };
    let reader = Connect::open_with("test:///default", options).await.unwrap();
    let error = reader.domain_by_name("test").await.unwrap().resume().await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::OPERATION_DENIED, "{error}");
    for connect in [connect, other, reader] {
        connect.close().await.unwrap();
    }
}
