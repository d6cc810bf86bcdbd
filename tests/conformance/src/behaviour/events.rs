//! Registration, delivery and order of events.

use virtwire_protocol::codec;
use virtwire_protocol::net::MessageType;
use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask, fails, with_domain};
use crate::case::{Failure, Target, expect};
use crate::peer::{Peer, PeerError};

pub(super) const CASES: &[Row] = &[
    ("event/order", "the life of a domain raises its events in order", OBSERVED, order),
    ("event/legacy", "without callback ids the message has none", OBSERVED, legacy),
    ("event/serial", "an event carries serial 1", OBSERVED, serial),
    ("event/filter", "a registration for one domain hears of no other", OBSERVED, filter),
    ("event/deregistered", "nothing comes after deregistration", OBSERVED, deregistered),
    ("event/duplicate", "the same id and filter twice is refused with code 8", OBSERVED, duplicate),
    ("event/unknown-id", "an event id that nobody knows is refused", OBSERVED, unknown_id),
    ("event/not-registered", "deregistering an unknown callback id is refused", OBSERVED, not_registered),
];

const LIFECYCLE: i32 = 0;

fn register(peer: &mut Peer, dom: Option<NonnullDomain>) -> Result<i32, Failure> {
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: LIFECYCLE, dom };
    let procedure = Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY;
    let got: ConnectDomainEventCallbackRegisterAnyRet = ask(peer, procedure, &args)?;
    Ok(got.callback_id)
}

/// Calls and takes the events that came until the reply, and those that an answered call brings with it.
fn events_of(peer: &mut Peer, procedure: Procedure, dom: &NonnullDomain) -> Result<Vec<(i32, i32)>, Failure> {
    let payload = codec::encode(&DomainSuspendArgs { dom: dom.clone() }).unwrap_or_default();
    let call = peer.header(&PROGRAM, procedure.0);
    peer.send(&call, &payload)?;
    // A second call behind the first: events of the first are out before its reply.
    let fence = peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0);
    let (mut events, mut replies) = (Vec::new(), 0);
    while replies < 2 {
        let frame = peer.receive()?;
        match frame.header.r#type {
            MessageType::MESSAGE if frame.header.proc == Procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE.0 => {
                let msg: DomainEventCallbackLifecycleMsg = frame.decode()?;
                events.push((msg.msg.event, msg.msg.detail));
            }
            MessageType::REPLY if frame.header.serial == call.serial => {
                expect("reply", 0, frame.code()?)?;
                replies += 1;
                peer.send(&fence, &[])?;
            }
            MessageType::REPLY => replies += 1,
            _ => {}
        }
    }
    Ok(events)
}

fn order(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-order", |peer, dom| {
        register(peer, None)?;
        for (what, procedure, events) in [
            ("start", Procedure::DOMAIN_CREATE, vec![(2, 0)]),
            ("suspend", Procedure::DOMAIN_SUSPEND, vec![(3, 0)]),
            ("resume", Procedure::DOMAIN_RESUME, vec![(4, 0)]),
            ("destroy", Procedure::DOMAIN_DESTROY, vec![(5, 1)]),
        ] {
            expect(what, events, events_of(peer, procedure, dom)?)?;
        }
        Ok(())
    })
}

fn next_event(peer: &mut Peer) -> Result<crate::peer::Received, PeerError> {
    loop {
        let frame = peer.receive()?;
        if frame.header.r#type == MessageType::MESSAGE {
            return Ok(frame);
        }
    }
}

fn legacy(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-legacy", |peer, dom| {
        let mut listener = target.open()?;
        ask::<ConnectDomainEventRegisterRet>(&mut listener, Procedure::CONNECT_DOMAIN_EVENT_REGISTER, &())?;
        ask::<()>(peer, Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom: dom.clone() })?;
        let frame = next_event(&mut listener)?;
        expect("procedure", Procedure::DOMAIN_EVENT_LIFECYCLE.0, frame.header.proc)?;
        let msg: DomainEventLifecycleMsg = frame.decode()?;
        expect("event", (dom.name.clone(), 2), (msg.dom.name, msg.event))?;
        ask::<()>(peer, Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom.clone() })?;
        Ok(())
    })
}

fn serial(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-serial", |peer, dom| {
        let mut listener = target.open()?;
        register(&mut listener, None)?;
        ask::<()>(peer, Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom: dom.clone() })?;
        let serial = next_event(&mut listener)?.header.serial;
        ask::<()>(peer, Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom.clone() })?;
        expect("serial", 1, serial)
    })
}

fn filter(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-filter-a", |peer, first| {
        with_domain(target, "conformance-filter-b", |_, second| {
            register(peer, Some(second.clone()))?;
            let mut events = events_of(peer, Procedure::DOMAIN_CREATE, first)?;
            events.extend(events_of(peer, Procedure::DOMAIN_DESTROY, first)?);
            expect("events of the other", Vec::new(), events)
        })
    })
}

fn deregistered(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-deregistered", |peer, dom| {
        let callback_id = register(peer, None)?;
        let args = ConnectDomainEventCallbackDeregisterAnyArgs { callback_id };
        ask::<()>(peer, Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, &args)?;
        let mut events = events_of(peer, Procedure::DOMAIN_CREATE, dom)?;
        events.extend(events_of(peer, Procedure::DOMAIN_DESTROY, dom)?);
        expect("events", Vec::new(), events)
    })
}

fn duplicate(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    register(&mut peer, None)?;
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: LIFECYCLE, dom: None };
    let error = fails(&mut peer, Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args)?;
    expect("error", (8, 0, "invalid argument: event callback already tracked".to_owned()), error)
}

fn unknown_id(target: &Target) -> Result<(), Failure> {
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: 999, dom: None };
    let error = fails(&mut target.open()?, Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args)?;
    expect("error", (1, 7, "internal error: unsupported event ID 999".to_owned()), error)
}

fn not_registered(target: &Target) -> Result<(), Failure> {
    let args = ConnectDomainEventCallbackDeregisterAnyArgs { callback_id: 1 << 20 };
    let error = fails(&mut target.open()?, Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, &args)?;
    expect("code and domain", (1, 7), (error.0, error.1))
}
