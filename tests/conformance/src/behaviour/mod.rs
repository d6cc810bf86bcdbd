//! What tables cannot say: suites by hand. They run on any daemon that has `test:///default`.

mod connection;
mod domains;
mod events;
mod frames;
mod params;
mod streams;

use virtwire_protocol::codec::{Decode, Encode};
use virtwire_protocol::remote::{
    DomainDefineXmlArgs, DomainDefineXmlRet, DomainUndefineArgs, NonnullDomain, Procedure,
};

use crate::case::{Case, Failure, Target, expect};
use crate::peer::{Peer, PeerError, text};

/// Where most of these rules come from.
const OBSERVED: &str = "behaviour of libvirtd 11.3 with its test driver";

/// All suites.
pub fn cases() -> Vec<Case> {
    [connection::CASES, domains::CASES, events::CASES, frames::CASES, params::CASES, streams::CASES]
        .concat()
        .into_iter()
        .map(|(id, proves, source, run)| Case { id: id.to_owned(), proves, source, run: Box::new(run) })
        .collect()
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
