//! What tables cannot say: suites by hand. They run on any daemon that has `test:///default`.

mod connection;
mod domains;
mod errors;
mod events;
mod frames;
mod limits;
mod lists;
mod params;
mod streams;
mod volumes;

use serde_json::Value;
use virtwire_protocol::codec::{Decode, Encode};
use virtwire_protocol::remote::{
    DomainDefineXmlArgs, DomainDefineXmlRet, DomainUndefineArgs, NonnullDomain, PROGRAM, Procedure,
};
use virtwire_protocol::schema;

use crate::arguments;
use crate::case::{Case, Failure, Target, expect};
use crate::peer::{Peer, PeerError, Received, text};

/// Where most of these rules come from.
const OBSERVED: &str = "behaviour of libvirtd 11.3 with its test driver";

/// All suites.
pub fn cases() -> Vec<Case> {
    let by_hand = [
        connection::CASES,
        domains::CASES,
        events::CASES,
        frames::CASES,
        limits::CASES,
        lists::CASES,
        params::CASES,
        streams::CASES,
        volumes::CASES,
    ];
    let case =
        |&(id, proves, source, run): &Row| Case { id: id.to_owned(), proves, source, run: Box::new(run) };
    by_hand.into_iter().flatten().map(case).chain(errors::cases()).collect()
}

/// Id, what it proves, the rule's source, how.
type Row = (&'static str, &'static str, &'static str, fn(&Target) -> Result<(), Failure>);

/// A call that has to fail: code, domain and text of its error.
fn fails(peer: &mut Peer, procedure: Procedure, args: &impl Encode) -> Result<(i32, i32, String), Failure> {
    let Some(error) = peer.call(procedure, args)?.error()? else {
        return Err(Failure::Differs("was served where an error was due".to_owned()));
    };
    Ok((error.code, error.domain, text(&error)))
}

/// A call with arguments as JSON; what is not among them is plain.
fn call(peer: &mut Peer, procedure: Procedure, args: &[(&str, Value)]) -> Result<Received, Failure> {
    let Some(info) = PROGRAM.procedure(procedure.0) else {
        return Err(Failure::Differs(format!("there is no procedure {}", procedure.0)));
    };
    let mut all = arguments::plain(info);
    all.extend(args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let all = Value::Object(all);
    let payload = info.args.map(|shape| schema::from_json(shape, &all)).transpose();
    let payload = payload.map_err(|error| Failure::Differs(format!("{all}: {error}")))?;
    Ok(peer.call_raw(&PROGRAM, info.number, &payload.unwrap_or_default())?)
}

/// A call that has to succeed.
fn ask<R: for<'a> Decode<'a>>(
    peer: &mut Peer,
    procedure: Procedure,
    args: &impl Encode,
) -> Result<R, PeerError> {
    peer.ask(procedure, args)
}

/// Runs `body` with a domain that exists only for it.
fn with_domain(
    target: &Target,
    name: &str,
    body: impl FnOnce(&mut Peer, &NonnullDomain) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let kind = target.uri.split(':').next().unwrap_or_default();
    let xml = format!(
        "<domain type='{kind}'><name>{name}</name><memory>8192</memory><vcpu>2</vcpu>\
         <os><type>hvm</type></os></domain>"
    );
    let defined: DomainDefineXmlRet =
        ask(&mut peer, Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.into() })?;
    let result = body(&mut peer, &defined.dom);
    let args = DomainUndefineArgs { dom: defined.dom };
    let undefined = peer.call(Procedure::DOMAIN_UNDEFINE, &args);
    result?;
    expect("undefine", 0, undefined?.code()?)
}
