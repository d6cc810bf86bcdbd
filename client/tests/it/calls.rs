//! Calls and replies.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use virtwire_client::protocol::codec;
use virtwire_client::protocol::error::{ErrorCode, ErrorDomain, ErrorLevel};
use virtwire_client::protocol::keepalive;
use virtwire_client::protocol::net::{MessageError, MessageStatus, MessageType};
use virtwire_client::protocol::remote::{
    ConnectGetHostnameRet, ConnectGetLibVersionRet, DomainDestroyArgs, DomainDestroyFlagsArgs,
    DomainLookupByNameArgs, NonnullDomain, Procedure,
};
use virtwire_client::{CloseReason, Connection, Error, Options};

use crate::peer::{Peer, Taken, connected, connected_with};

#[tokio::test]
async fn replies_come_in_any_order() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let first = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        let second = peer.expect(Procedure::CONNECT_GET_HOSTNAME).await;
        assert_eq!(second.header.serial, first.header.serial + 1);
        peer.reply(&second, &ConnectGetHostnameRet { hostname: "there".into() }).await;
        peer.reply(&first, &ConnectGetLibVersionRet { lib_ver: 11_003_000 }).await;
    };
    let (version, hostname, ()) =
        tokio::join!(connection.connect_get_lib_version(), connection.connect_get_hostname(), daemon);
    assert_eq!(version.unwrap().lib_ver, 11_003_000);
    assert_eq!(hostname.unwrap().hostname, "there");
}

#[tokio::test]
async fn a_dropped_call_frees_its_slot_and_its_late_reply_harms_nobody() {
    let (connection, mut peer) = connected().await;
    {
        let mut call = pin!(connection.connect_get_lib_version());
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        assert_eq!(connection.waiting_calls(), 1);
    }
    assert_eq!(connection.waiting_calls(), 0);
    let late = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
    peer.reply(&late, &ConnectGetLibVersionRet { lib_ver: 1 }).await;

    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 2 }).await;
    };
    let (version, ()) = tokio::join!(connection.connect_get_lib_version(), daemon);
    assert_eq!(version.unwrap().lib_ver, 2);
    assert_eq!(connection.late_replies(), 1);
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_poll() {
    let (connection, mut peer) = connected().await;
    drop(connection.connect_get_lib_version());
    drop(connection);
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn an_error_arrives_whole() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_LOOKUP_BY_NAME).await;
        let error = MessageError {
            code: 42,
            domain: 12,
            message: Some("Domain not found: x".into()),
            level: 2,
            dom: None,
            str1: Some("Domain not found: %1$s".into()),
            str2: Some("x".into()),
            str3: Some("more".into()),
            int1: -1,
            int2: 7,
            net: None,
        };
        peer.send(&call, MessageType::REPLY, MessageStatus::ERROR, &error).await;
    };
    let args = DomainLookupByNameArgs { name: "x".into() };
    let (found, ()) = tokio::join!(connection.domain_lookup_by_name(&args), daemon);
    let Err(Error::Remote(error)) = found else { panic!("{found:?}") };
    assert_eq!((error.code, error.domain), (ErrorCode::NO_DOMAIN, ErrorDomain::TEST));
    assert_eq!(error.level, ErrorLevel::ERROR);
    assert_eq!(error.message, "Domain not found: x");
    assert_eq!(error.str1.as_deref(), Some("Domain not found: %1$s"));
    assert_eq!((error.str2.as_deref(), error.str3.as_deref()), (Some("x"), Some("more")));
    assert_eq!((error.int1, error.int2), (-1, 7));
}

#[tokio::test]
async fn arguments_over_their_limit_are_not_sent() {
    let (connection, mut peer) = connected().await;
    let args = DomainLookupByNameArgs { name: vec![b'x'; (4 << 20) + 1].into() };
    let error = connection.domain_lookup_by_name(&args).await.unwrap_err();
    assert!(matches!(error, Error::Encode(_)), "{error:?}");
    drop(connection);
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn a_call_larger_than_the_socket_arrives_whole() {
    let (connection, mut peer) = connected().await;
    let name = "n".repeat(3 << 20);
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_LOOKUP_BY_NAME).await;
        assert_eq!(call.args::<DomainLookupByNameArgs>().name.len(), 3 << 20);
        let dom = NonnullDomain { name: "n".into(), ..Default::default() };
        peer.raw(&reply_in_one(&call.header, &dom)).await;
    };
    let args = DomainLookupByNameArgs { name: name.into() };
    let (found, ()) = tokio::join!(connection.domain_lookup_by_name(&args), daemon);
    assert_eq!(found.unwrap().dom.name, "n");
}

fn reply_in_one(call: &virtwire_client::protocol::net::MessageHeader, value: &impl codec::Encode) -> Vec<u8> {
    let header = virtwire_client::protocol::frame::reply_to(call, MessageStatus::OK);
    virtwire_client::protocol::frame::encode(&header, 0, value).unwrap()
}

#[tokio::test]
async fn pings_are_answered_while_a_call_runs() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        let mut ping = call.header.clone();
        ping.prog = keepalive::PROGRAM.number;
        ping.proc = keepalive::Procedure::PING.0;
        ping.r#type = MessageType::MESSAGE;
        ping.serial = 0;
        peer.raw(&virtwire_client::protocol::frame::encode_bytes(&ping, &[]).unwrap()).await;
        let pong = peer.next().await.unwrap();
        assert_eq!((pong.header.prog, pong.header.proc), (ping.prog, keepalive::Procedure::PONG.0));
        assert_eq!((pong.header.serial, pong.header.r#type), (0, MessageType::MESSAGE));
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 3 }).await;
    };
    let (version, ()) = tokio::join!(connection.connect_get_lib_version(), daemon);
    assert_eq!(version.unwrap().lib_ver, 3);
}

#[tokio::test]
async fn a_daemon_that_answers_no_ping_is_given_up() {
    let options = Options { keepalive: Some((Duration::from_millis(5), 2)), ..Options::default() };
    let (connection, mut peer) = connected_with(options).await;
    let daemon = async {
        let mut pings = 0;
        while let Some(taken) = peer.next().await {
            pings += u32::from(taken.header.prog == keepalive::PROGRAM.number);
        }
        pings
    };
    let call = async {
        let error = connection.connect_get_lib_version().await;
        drop(connection);
        error
    };
    let (error, pings) = tokio::join!(call, daemon);
    assert!(matches!(error, Err(Error::Silent)), "{error:?}");
    assert_eq!(pings, 2);
}

#[tokio::test]
async fn closing_says_goodbye_and_ends_what_runs() {
    let (connection, mut peer) = connected().await;
    let daemon = async {
        peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        let call = peer.expect(Procedure::CONNECT_CLOSE).await;
        peer.reply(&call, &()).await;
    };
    let (unanswered, closed, ()) =
        tokio::join!(connection.connect_get_lib_version(), connection.close(), daemon);
    assert!(matches!(unanswered, Err(Error::Closed)), "{unanswered:?}");
    closed.unwrap();
    assert!(matches!(connection.closed().await, Error::Closed));
    assert!(matches!(connection.connect_get_lib_version().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_deadline_gives_one_call_up_and_the_connection_goes_on() {
    let options = Options { deadline: Some(Duration::from_millis(20)), ..Options::default() };
    let (connection, mut peer) = connected_with(options).await;
    let error = connection.connect_get_lib_version().await.unwrap_err();
    assert!(matches!(error, Error::Deadline(time) if time == Duration::from_millis(20)), "{error:?}");
    assert_eq!(connection.waiting_calls(), 0);
    let daemon = async {
        let late = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        let call = peer.expect(Procedure::CONNECT_GET_HOSTNAME).await;
        peer.reply(&late, &ConnectGetLibVersionRet { lib_ver: 1 }).await;
        peer.reply(&call, &ConnectGetHostnameRet { hostname: "there".into() }).await;
    };
    let patient = connection.connect_get_hostname().within(Duration::from_secs(60));
    let (hostname, ()) = tokio::join!(patient, daemon);
    assert_eq!(hostname.unwrap().hostname, "there");
    assert_eq!(connection.late_replies(), 1);
}

/// What libvirtd answers to a procedure that it does not know.
async fn does_not_know(peer: &mut Peer, call: &Taken) {
    let error = MessageError {
        code: ErrorCode::RPC.0,
        domain: ErrorDomain::RPC.0,
        message: Some(format!("unknown procedure: {}", call.header.proc).into()),
        level: 2,
        ..MessageError::default()
    };
    peer.send(call, MessageType::REPLY, MessageStatus::ERROR, &error).await;
}

#[tokio::test]
async fn a_daemon_that_lacks_a_procedure_is_asked_by_the_older_one() {
    let (connection, mut peer) = connected().await;
    let dom = NonnullDomain { name: "n".into(), ..Default::default() };
    let destroy =
        |flags| connection.domain_destroy_flags(&DomainDestroyFlagsArgs { dom: dom.clone(), flags });
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_DESTROY_FLAGS).await;
        does_not_know(&mut peer, &call).await;
        // It is not asked twice.
        for _ in 0..2 {
            let call = peer.expect(Procedure::DOMAIN_DESTROY).await;
            assert_eq!(call.args::<DomainDestroyArgs>().dom.name, "n");
            peer.reply(&call, &()).await;
        }
        // A flag has no older form.
        let call = peer.expect(Procedure::DOMAIN_DESTROY_FLAGS).await;
        does_not_know(&mut peer, &call).await;
    };
    let client = async {
        destroy(0).await.unwrap();
        destroy(0).await.unwrap();
        assert_eq!(destroy(1).await.unwrap_err().remote().unwrap().code, ErrorCode::RPC);
    };
    tokio::join!(client, daemon);
}

#[tokio::test]
async fn whoever_wants_to_know_is_told_why_a_connection_ended() {
    let told = |connection: &Connection| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        connection.on_close(move |reason, error| drop(sender.send((reason, error.to_string()))));
        receiver
    };
    let (connection, peer) = connected().await;
    let by_daemon = told(&connection);
    drop(peer);
    assert_eq!(by_daemon.await.unwrap().0, CloseReason::Eof);
    // At once, since it has ended.
    assert_eq!(told(&connection).await.unwrap().0, CloseReason::Eof);

    let (connection, mut peer) = connected().await;
    let by_lie = told(&connection);
    peer.raw(&[0, 0, 0, 1]).await;
    assert_eq!(by_lie.await.unwrap().0, CloseReason::Error);

    let (connection, _peer) = connected().await;
    let by_us = told(&connection);
    drop(connection);
    assert_eq!(by_us.await.unwrap().0, CloseReason::Client);
}
