//! Registration and delivery, in the new style and the old.

use virtwire_protocol::codec;
use virtwire_protocol::net::{MessageStatus, MessageType};
use virtwire_protocol::remote::*;
use virtwired::{Access, Limits};

use crate::peer::Peer;
use crate::toy::domain;

pub(crate) fn lifecycle(dom: NonnullDomain, event: i32) -> Event {
    let msg = DomainEventLifecycleMsg { dom, event, detail: 0 };
    Event::DomainLifecycle(DomainEventCallbackLifecycleMsg { callback_id: 0, msg })
}

pub(crate) async fn register(peer: &mut Peer, event_id: i32, dom: Option<NonnullDomain>) -> i32 {
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom };
    let reply = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args).await;
    reply.decode::<ConnectDomainEventCallbackRegisterAnyRet>().callback_id
}

#[tokio::test]
async fn an_event_goes_to_each_registration_that_it_matches() {
    let mut peer = Peer::open().await;
    let other = NonnullDomain { uuid: [9; 16], ..domain("other") };
    let all = register(&mut peer, 0, None).await;
    let one = register(&mut peer, 0, Some(domain("a"))).await;
    let _none = register(&mut peer, 0, Some(other)).await;
    let _reboot = register(&mut peer, 1, None).await;
    peer.toy.events.emit(lifecycle(domain("a"), 2));
    for id in [all, one] {
        let frame = peer.receive().await.unwrap();
        assert_eq!((frame.header.r#type, frame.header.serial), (MessageType::MESSAGE, 1));
        assert_eq!(frame.header.proc, Procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE.0);
        let msg: DomainEventCallbackLifecycleMsg = frame.decode();
        assert_eq!((msg.callback_id, msg.msg.event), (id, 2));
    }
    assert!(peer.is_alive().await, "no third event");
}

#[tokio::test]
async fn old_clients_get_messages_without_ids() {
    let mut peer = Peer::open().await;
    let reply = peer.call(Procedure::CONNECT_DOMAIN_EVENT_REGISTER, &()).await;
    assert_eq!(reply.decode::<ConnectDomainEventRegisterRet>().cb_registered, 0);
    peer.toy.events.emit(lifecycle(domain("a"), 4));
    let frame = peer.receive().await.unwrap();
    assert_eq!(frame.header.proc, Procedure::DOMAIN_EVENT_LIFECYCLE.0);
    assert_eq!(frame.decode::<DomainEventLifecycleMsg>().event, 4);

    peer.call(Procedure::CONNECT_DOMAIN_EVENT_DEREGISTER, &())
        .await
        .decode::<ConnectDomainEventDeregisterRet>();
    peer.toy.events.emit(lifecycle(domain("a"), 5));
    assert!(peer.is_alive().await, "nothing comes after deregistration");
}

#[tokio::test]
async fn registrations_are_judged() {
    let mut peer = Peer::open().await;
    let id = register(&mut peer, 0, None).await;
    let any = |event_id| ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom: None };
    let twice = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &any(0)).await.error();
    assert_eq!(twice, (8, 0, "invalid argument: event callback already tracked".into()));
    let unknown = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &any(99)).await.error();
    assert_eq!(unknown, (1, 7, "internal error: unsupported event ID 99".into()));
    let old = ConnectDomainEventRegisterAnyArgs { event_id: 16 };
    let too_new = peer.call(Procedure::CONNECT_DOMAIN_EVENT_REGISTER_ANY, &old).await.error();
    assert_eq!(too_new, (1, 7, "internal error: unsupported event ID 16".into()));
    let gone = ConnectDomainEventCallbackDeregisterAnyArgs { callback_id: id + 77 };
    let missing = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, &gone).await.error();
    assert_eq!(missing, (1, 7, format!("internal error: domain event callback {} not registered", id + 77)));
    // The toy has storage and no networks.
    let pool = ConnectStoragePoolEventRegisterAnyArgs { event_id: 0, pool: None };
    let reply = peer.call(Procedure::CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, &pool).await;
    reply.decode::<ConnectStoragePoolEventRegisterAnyRet>();
    let net = ConnectNetworkEventRegisterAnyArgs { event_id: 0, net: None };
    assert_eq!(peer.call(Procedure::CONNECT_NETWORK_EVENT_REGISTER_ANY, &net).await.error().0, 3);
}

#[tokio::test]
async fn a_client_that_lets_events_pile_up_is_disconnected() {
    let mut peer =
        Peer::open_with(Access::ReadWrite, Limits { event_backlog: 1 << 16, ..Limits::default() }).await;
    register(&mut peer, 0, None).await;
    let name = "n".repeat(4096);
    // Far more than the socket and the limit hold.
    for _ in 0..2000 {
        peer.toy.events.emit(lifecycle(domain(&name), 2));
    }
    let mut seen = 0;
    while let Some(frame) = peer.receive().await {
        assert_eq!(frame.header.status, MessageStatus::OK);
        codec::decode::<DomainEventCallbackLifecycleMsg>(&frame.payload).unwrap();
        seen += 1;
    }
    assert!(seen < 2000, "{seen} events");
}
