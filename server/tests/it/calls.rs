//! Opening, answering, refusing, waiting.

use std::io::Write;
use std::os::fd::OwnedFd;

use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::{Direction, ReadOnly};
use virtwire_protocol::remote::*;
use virtwire_protocol::{keepalive, remote};
use virtwired::{Access, Limits, Service};

use crate::events::{lifecycle, register};
use crate::peer::{Peer, no_support};
use crate::toy::{Toy, domain};

fn suspend() -> DomainSuspendArgs {
    DomainSuspendArgs { dom: domain("a") }
}

#[tokio::test]
async fn nothing_but_authentication_is_served_before_it() {
    let mut peer = Peer::new(Access::ReadWrite, Limits::default());
    let refused = peer.call(Procedure::CONNECT_CLOSE, &()).await;
    assert_eq!(refused.error(), (39, 7, "authentication required".into()));
    peer.call(Procedure::AUTH_LIST, &()).await.decode::<AuthListRet>();
    let refused = peer.call(Procedure::CONNECT_GET_TYPE, &()).await;
    assert_eq!(refused.error(), (1, 7, "internal error: hypervisor connection not open".into()));
}

#[tokio::test]
async fn an_unknown_scheme_has_no_driver_and_a_second_open_is_refused() {
    let mut peer = Peer::new(Access::ReadWrite, Limits::default());
    peer.call(Procedure::AUTH_LIST, &()).await.decode::<AuthListRet>();
    let open = |name: &str| ConnectOpenArgs { name: Some(name.into()), flags: 0 };
    let refused = peer.call(Procedure::CONNECT_OPEN, &open("bhyve:///system")).await;
    assert_eq!(refused.error(), (5, 0, "no connection driver available for bhyve:///system".into()));
    peer.call(Procedure::CONNECT_OPEN, &open("toy:///")).await.decode::<()>();
    let refused = peer.call(Procedure::CONNECT_OPEN, &open("toy:///")).await;
    assert_eq!(refused.error(), (1, 7, "internal error: connection already open".into()));
    // The first one stays.
    let uri: ConnectGetUriRet = peer.call(Procedure::CONNECT_GET_URI, &()).await.decode();
    assert_eq!(uri.uri, "toy:///");
}

#[tokio::test]
async fn features_are_the_daemons_and_the_drivers() {
    let mut peer = Peer::open().await;
    for (feature, supported) in [(8, 1), (10, 1), (14, 1), (15, 1), (9, 1), (7, 0), (99, 0), (-1, 0)] {
        let args = ConnectSupportsFeatureArgs { feature };
        let got: ConnectSupportsFeatureRet =
            peer.call(Procedure::CONNECT_SUPPORTS_FEATURE, &args).await.decode();
        assert_eq!(got.supported, supported, "feature {feature}");
    }
}

#[tokio::test]
async fn class_life_cycle_the_connection_ends_behind_the_answer_to_close() {
    let mut peer = Peer::open().await;
    peer.call(Procedure::CONNECT_CLOSE, &()).await.decode::<()>();
    assert!(peer.receive().await.is_none());
    peer.served.await.unwrap();
}

#[tokio::test]
async fn a_drivers_error_has_code_domain_and_text() {
    let mut peer = Peer::open().await;
    let args = DomainLookupByNameArgs { name: "nobody".into() };
    let error = peer.call(Procedure::DOMAIN_LOOKUP_BY_NAME, &args).await.error();
    assert_eq!(error, (42, 12, "Domain not found: no domain with matching name 'nobody'".into()));
}

#[tokio::test]
async fn what_no_driver_serves_is_not_supported() {
    let mut peer = Peer::open().await;
    // A method that the driver leaves out, and a family that it does not have.
    for (procedure, name) in [
        (Procedure::NODE_GET_INFO, "NODE_GET_INFO"),
        (Procedure::CONNECT_NUM_OF_SECRETS, "CONNECT_NUM_OF_SECRETS"),
    ] {
        let expected = no_support(name);
        let got = peer.call(procedure, &()).await.error();
        assert_eq!(got, (expected.code.0, expected.domain.0, expected.message));
    }
}

#[tokio::test]
async fn class_error_path_a_panic_answers_its_own_call_only() {
    let mut peer = Peer::open().await;
    let error =
        peer.call(Procedure::DOMAIN_RESET, &DomainResetArgs { dom: domain("a"), flags: 0 }).await.error();
    assert_eq!((error.0, error.1), (1, 7));
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn class_hung_guest_calls_that_wait_let_others_pass() {
    let mut peer = Peer::open().await;
    let slow = peer.send(Procedure::DOMAIN_SUSPEND, &suspend()).await;
    let kind: ConnectGetTypeRet = peer.call(Procedure::CONNECT_GET_TYPE, &()).await.decode();
    assert_eq!(kind.r#type, "TOY");
    peer.toy.gate.add_permits(1);
    assert_eq!(peer.receive().await.unwrap().header.serial, slow.serial);
}

#[tokio::test]
async fn no_more_is_read_while_as_many_calls_wait_as_a_client_may_have() {
    let limits = Limits { client_requests: 2, ..Limits::default() };
    let mut peer = Peer::open_with(Access::ReadWrite, limits).await;
    for _ in 0..3 {
        peer.send(Procedure::DOMAIN_SUSPEND, &suspend()).await;
    }
    peer.send(Procedure::CONNECT_GET_TYPE, &()).await;
    peer.toy.gate.add_permits(1);
    // The third call begins only when the first is done; the quick one stands behind it.
    assert_eq!(peer.receive().await.unwrap().header.proc, Procedure::DOMAIN_SUSPEND.0);
    peer.toy.gate.add_permits(2);
    let rest = [peer.receive().await.unwrap(), peer.receive().await.unwrap(), peer.receive().await.unwrap()];
    let quick = rest.iter().filter(|reply| reply.header.proc == Procedure::CONNECT_GET_TYPE.0).count();
    assert_eq!((rest.len(), quick), (3, 1));
}

#[tokio::test]
async fn class_read_only_every_write_is_refused_by_the_generated_rule() {
    let mut peer = Peer::open_with(Access::ReadOnly, Limits::default()).await;
    let calls = remote::PROGRAM.procedures.iter().flatten().filter(|info| info.direction == Direction::Call);
    for info in calls.filter(|info| info.readonly == ReadOnly::Refused) {
        // Refused before anything is decoded: the arguments do not matter.
        let error = peer.call(Procedure(info.number), &()).await.error();
        let text = format!("operation forbidden: read only access prevents {}", info.api);
        assert_eq!(error, (29, info.denied_by.0, text), "{}", info.name);
    }
}

#[tokio::test]
async fn class_secret_shown_a_flag_may_decide_what_a_read_only_connection_gets() {
    let mut peer = Peer::open_with(Access::ReadOnly, Limits::default()).await;
    let dump = |flags| DomainGetXmlDescArgs { dom: domain("a"), flags };
    peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump(2)).await.decode::<DomainGetXmlDescRet>();
    for flags in [1, 8, 9] {
        assert_eq!(
            peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump(flags)).await.error().0,
            29,
            "flags {flags}"
        );
    }
}

#[tokio::test]
async fn descriptors_go_both_ways() {
    let mut peer = Peer::open().await;
    let files: Vec<OwnedFd> = ["one", "two"]
        .map(|text| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            reader.into()
        })
        .into();
    let args = DomainCreateWithFilesArgs { dom: domain("a"), flags: 0 };
    peer.send_with(Procedure::DOMAIN_CREATE_WITH_FILES, &args, &files).await;
    let made: DomainCreateWithFilesRet = peer.receive().await.unwrap().decode();
    assert_eq!(made.dom.name, "one,two");

    let args = DomainOpenGraphicsFdArgs { dom: domain("a"), idx: 0, flags: 0 };
    let mut reply = peer.call(Procedure::DOMAIN_OPEN_GRAPHICS_FD, &args).await;
    assert_eq!((reply.header.r#type, reply.descriptors.len()), (MessageType::REPLY_WITH_FDS, 1));
    let mut pipe = std::fs::File::from(reply.descriptors.remove(0));
    assert_eq!(std::io::read_to_string(&mut pipe).unwrap(), "hello");
}

#[tokio::test]
async fn a_call_that_wants_a_descriptor_says_so() {
    let mut peer = Peer::open().await;
    let args = DomainOpenGraphicsArgs { dom: domain("a"), idx: 0, flags: 0 };
    let error = peer.call(Procedure::DOMAIN_OPEN_GRAPHICS, &args).await.error();
    assert_eq!(error, (1, 7, "internal error: No FD available at slot 0".into()));
}

#[tokio::test]
async fn pings_are_answered_while_calls_wait() {
    let mut peer = Peer::open().await;
    peer.send(Procedure::DOMAIN_SUSPEND, &suspend()).await;
    let ping = MessageHeader {
        prog: keepalive::PROGRAM.number,
        vers: 1,
        proc: keepalive::Procedure::PING.0,
        r#type: MessageType::MESSAGE,
        serial: 0,
        status: MessageStatus::OK,
    };
    peer.write(&frame::encode_bytes(&ping, &[]).unwrap()).await;
    let pong = peer.receive().await.unwrap();
    assert_eq!(pong.header, MessageHeader { proc: keepalive::Procedure::PONG.0, ..ping });
    assert!(pong.payload.is_empty());
}

#[tokio::test]
async fn a_client_that_announced_pings_and_does_not_answer_is_dropped() {
    let interval = Some(std::time::Duration::from_millis(20));
    let limits = Limits { keepalive_interval: interval, keepalive_count: 2, ..Limits::default() };
    let mut peer = Peer::open_with(Access::ReadWrite, limits).await;
    let args = ConnectSupportsFeatureArgs { feature: 10 };
    peer.call(Procedure::CONNECT_SUPPORTS_FEATURE, &args).await.decode::<ConnectSupportsFeatureRet>();
    for _ in 0..2 {
        assert_eq!(peer.receive().await.unwrap().header.prog, keepalive::PROGRAM.number);
    }
    assert!(peer.receive().await.is_none());
}

#[tokio::test]
async fn a_client_whose_next_call_is_looked_for_keeps_nobody_waiting() {
    // All on one thread, which looks for the first client's next call for an hour.
    let limits = Limits { busy_poll: std::time::Duration::from_secs(3600), ..Limits::default() };
    let toy = Toy::new();
    let service = Service::new(vec![toy.clone()], limits);
    let mut brisk = Peer::at(&service, toy.clone(), Access::ReadWrite);
    brisk.open_toy().await;
    let all = register(&mut brisk, 0, None).await;
    let mut other = Peer::at(&service, toy.clone(), Access::ReadWrite);
    other.open_toy().await;
    assert!(other.is_alive().await);
    toy.events.emit(lifecycle(domain("a"), 2));
    let event: DomainEventCallbackLifecycleMsg = brisk.receive().await.unwrap().decode();
    assert_eq!((event.callback_id, event.msg.event), (all, 2));
    brisk.call(Procedure::CONNECT_CLOSE, &()).await.decode::<()>();
    assert!(brisk.receive().await.is_none());
    assert!(other.is_alive().await);
}
