//! Events.

use virtwire_client::protocol::remote::{
    self, ConnectDomainEventCallbackDeregisterAnyArgs, ConnectDomainEventCallbackRegisterAnyArgs,
    ConnectDomainEventCallbackRegisterAnyRet, ConnectGetLibVersionRet, DomainEventCallbackLifecycleMsg,
    DomainEventLifecycleMsg, NonnullDomain, Procedure,
};
use virtwire_client::{Connection, Event, EventStream, Options};

use crate::peer::{Peer, connected, connected_with};

const LIFECYCLE: i32 = 0;

fn message(callback_id: i32, detail: i32) -> DomainEventCallbackLifecycleMsg {
    let dom = NonnullDomain { name: "guest".into(), ..Default::default() };
    DomainEventCallbackLifecycleMsg { callback_id, msg: DomainEventLifecycleMsg { dom, event: 2, detail } }
}

async fn raise(peer: &mut Peer, callback_id: i32, detail: i32) {
    peer.event(Procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE, &message(callback_id, detail)).await;
}

fn expected(callback_id: i32, detail: i32) -> Option<Event> {
    Some(Event::Remote(remote::Event::DomainLifecycle(message(callback_id, detail))))
}

async fn registered(connection: &Connection, peer: &mut Peer, callback_id: i32) -> EventStream {
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY).await;
        let args = call.args::<ConnectDomainEventCallbackRegisterAnyArgs>();
        assert_eq!((args.event_id, args.dom), (LIFECYCLE, None));
        // Another thread of the daemon may be quicker than the reply.
        raise(peer, callback_id, 0).await;
        peer.reply(&call, &ConnectDomainEventCallbackRegisterAnyRet { callback_id }).await;
    };
    let (events, ()) = tokio::join!(connection.register_domain_event(LIFECYCLE, None), daemon);
    events.unwrap()
}

/// The client has handed out all that came before the answer to this.
async fn settled(connection: &Connection, peer: &mut Peer) {
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_GET_LIB_VERSION).await;
        peer.reply(&call, &ConnectGetLibVersionRet { lib_ver: 0 }).await;
    };
    tokio::join!(async { connection.connect_get_lib_version().await.unwrap() }, daemon);
}

#[tokio::test]
async fn events_reach_their_registration_even_before_its_reply() {
    let (connection, mut peer) = connected().await;
    let mut first = registered(&connection, &mut peer, 7).await;
    let mut second = registered(&connection, &mut peer, 9).await;
    assert_eq!((first.callback_id(), second.callback_id()), (7, 9));
    raise(&mut peer, 9, 1).await;
    raise(&mut peer, 7, 2).await;
    raise(&mut peer, 8, 3).await;
    for expected in [expected(7, 0), expected(7, 2)] {
        assert_eq!(first.next().await, expected);
    }
    for expected in [expected(9, 0), expected(9, 1)] {
        assert_eq!(second.next().await, expected);
    }
    drop(peer);
    assert_eq!((first.next().await, second.next().await), (None, None));
}

#[tokio::test]
async fn an_event_before_the_reply_that_caused_it() {
    let (connection, mut peer) = connected().await;
    let mut events = registered(&connection, &mut peer, 0).await;
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_CREATE).await;
        raise(&mut peer, 0, 5).await;
        peer.reply(&call, &()).await;
    };
    let args = remote::DomainCreateArgs::default();
    let (done, ()) = tokio::join!(connection.domain_create(&args), daemon);
    done.unwrap();
    assert_eq!((events.try_next(), events.try_next()), (expected(0, 0), expected(0, 5)));
}

#[tokio::test]
async fn what_does_not_fit_is_counted() {
    let options = Options { event_queue: 3, ..Options::default() };
    let (connection, mut peer) = connected_with(options).await;
    let mut events = registered(&connection, &mut peer, 0).await;
    for detail in 1..=4 {
        raise(&mut peer, 0, detail).await;
    }
    settled(&connection, &mut peer).await;
    assert_eq!(events.lost(), 2);
    for detail in 0..3 {
        assert_eq!(events.try_next(), expected(0, detail));
    }
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn deregistering_keeps_what_has_come() {
    let (connection, mut peer) = connected().await;
    let mut events = registered(&connection, &mut peer, 4).await;
    let daemon = async {
        let call = peer.expect(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY).await;
        assert_eq!(call.args::<ConnectDomainEventCallbackDeregisterAnyArgs>().callback_id, 4);
        raise(&mut peer, 4, 1).await;
        peer.reply(&call, &()).await;
    };
    let (done, ()) = tokio::join!(events.deregister(), daemon);
    done.unwrap();
    assert_eq!((events.next().await, events.next().await), (expected(4, 0), expected(4, 1)));
    assert_eq!(events.next().await, None);
    drop(events);
    settled(&connection, &mut peer).await;
}

#[tokio::test]
async fn a_dropped_registration_is_ended() {
    let (connection, mut peer) = connected().await;
    drop(registered(&connection, &mut peer, 4).await);
    let call = peer.expect(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY).await;
    peer.reply(&call, &()).await;

    // The caller leaves before the reply: the daemon has registered all the same.
    let registration = connection.register_domain_event(LIFECYCLE, None);
    tokio::select! {
        biased;
        _ = registration => panic!("nobody has answered"),
        call = peer.expect(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY) => {
            drop(call);
        }
    }
    assert_eq!(connection.waiting_calls(), 1);
}
