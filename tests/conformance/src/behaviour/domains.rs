//! The life of a domain, its lists, and the errors along the way.

use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask, fails, with_domain};
use crate::case::{Failure, Target, expect};
use crate::peer::Peer;

pub(super) const CASES: &[Row] = &[
    (
        "domain/life",
        "define, start, suspend, resume, destroy, undefine go through their states",
        OBSERVED,
        life,
    ),
    ("domain/wrong-state", "what a state forbids is refused", OBSERVED, wrong_state),
    ("domain/lookup-missing", "a missing domain is code 42, by name, UUID and id", OBSERVED, lookup_missing),
    ("domain/lists-agree", "the old lists and the new one name the same domains", OBSERVED, lists_agree),
    (
        "domain/list-filters",
        "filters of the same group add, of different groups intersect",
        OBSERVED,
        list_filters,
    ),
    ("domain/list-count", "a list that is only counted brings no domains", OBSERVED, list_count),
    ("domain/bad-xml", "a definition that is not XML is code 35", OBSERVED, bad_xml),
    ("domain/define-twice", "the same name with another UUID is refused", OBSERVED, define_twice),
    (
        "domain/dump-redefines",
        "what was dumped can be defined again and dumps the same",
        OBSERVED,
        dump_redefines,
    ),
    ("domain/unknown-flags", "a flag that nobody knows is code 8", OBSERVED, unknown_flags),
];

const RUNNING: i32 = 1;
const PAUSED: i32 = 3;
const SHUTOFF: i32 = 5;

fn state(peer: &mut Peer, dom: &NonnullDomain) -> Result<(i32, i32), Failure> {
    let args = DomainGetStateArgs { dom: dom.clone(), flags: 0 };
    let got: DomainGetStateRet = ask(peer, Procedure::DOMAIN_GET_STATE, &args)?;
    Ok((got.state, got.reason))
}

fn life(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-life", |peer, dom| {
        expect("defined", SHUTOFF, state(peer, dom)?.0)?;
        ask::<()>(peer, Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom: dom.clone() })?;
        expect("started", (RUNNING, 1), state(peer, dom)?)?;
        ask::<()>(peer, Procedure::DOMAIN_SUSPEND, &DomainSuspendArgs { dom: dom.clone() })?;
        expect("suspended", (PAUSED, 1), state(peer, dom)?)?;
        ask::<()>(peer, Procedure::DOMAIN_RESUME, &DomainResumeArgs { dom: dom.clone() })?;
        expect("resumed", (RUNNING, 5), state(peer, dom)?)?;
        ask::<()>(peer, Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom.clone() })?;
        expect("destroyed", (SHUTOFF, 2), state(peer, dom)?)
    })
}

fn wrong_state(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-wrong-state", |peer, dom| {
        let dom = || dom.clone();
        for (what, code, error) in [
            ("suspend", 1, fails(peer, Procedure::DOMAIN_SUSPEND, &DomainSuspendArgs { dom: dom() })?),
            ("resume", 1, fails(peer, Procedure::DOMAIN_RESUME, &DomainResumeArgs { dom: dom() })?),
            ("destroy", 55, fails(peer, Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom() })?),
            ("shutdown", 1, fails(peer, Procedure::DOMAIN_SHUTDOWN, &DomainShutdownArgs { dom: dom() })?),
        ] {
            expect(what, code, error.0)?;
        }
        Ok(())
    })
}

fn lookup_missing(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let by_name = DomainLookupByNameArgs { name: "conformance-nobody".into() };
    let by_name = fails(&mut peer, Procedure::DOMAIN_LOOKUP_BY_NAME, &by_name)?;
    let by_uuid =
        fails(&mut peer, Procedure::DOMAIN_LOOKUP_BY_UUID, &DomainLookupByUuidArgs { uuid: [0xcf; 16] })?;
    let by_id = fails(&mut peer, Procedure::DOMAIN_LOOKUP_BY_ID, &DomainLookupByIdArgs { id: 123_456 })?;
    for (what, error) in [("by name", by_name), ("by UUID", by_uuid), ("by id", by_id)] {
        expect(what, 42, error.0)?;
    }
    Ok(())
}

fn all(peer: &mut Peer, flags: u32) -> Result<Vec<String>, Failure> {
    let args = ConnectListAllDomainsArgs { need_results: 1, flags };
    let got: ConnectListAllDomainsRet = ask(peer, Procedure::CONNECT_LIST_ALL_DOMAINS, &args)?;
    expect("count", got.domains.len() as u32, got.ret)?;
    let mut names: Vec<_> = got.domains.iter().map(|domain| domain.name.to_string()).collect();
    names.sort();
    Ok(names)
}

/// `VIR_CONNECT_LIST_DOMAINS_…`
const ACTIVE: u32 = 1;
const INACTIVE: u32 = 2;
const PERSISTENT: u32 = 4;
const TRANSIENT: u32 = 8;

fn lists_agree(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-lists", |peer, _| {
        let ids: ConnectListDomainsRet =
            ask(peer, Procedure::CONNECT_LIST_DOMAINS, &ConnectListDomainsArgs { maxids: 1024 })?;
        let mut active = Vec::new();
        for id in &ids.ids {
            let got: DomainLookupByIdRet =
                ask(peer, Procedure::DOMAIN_LOOKUP_BY_ID, &DomainLookupByIdArgs { id: *id })?;
            active.push(got.dom.name.to_string());
        }
        active.sort();
        expect("active", all(peer, ACTIVE)?, active)?;
        let defined = ConnectListDefinedDomainsArgs { maxnames: 1024 };
        let defined: ConnectListDefinedDomainsRet =
            ask(peer, Procedure::CONNECT_LIST_DEFINED_DOMAINS, &defined)?;
        let mut inactive: Vec<_> = defined.names.iter().map(ToString::to_string).collect();
        inactive.sort();
        expect("inactive", all(peer, INACTIVE)?, inactive)?;
        let count: ConnectNumOfDomainsRet = ask(peer, Procedure::CONNECT_NUM_OF_DOMAINS, &())?;
        expect("number of active", ids.ids.len() as i32, count.num)
    })
}

fn list_filters(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-filters", |peer, dom| {
        let name = dom.name.to_string();
        for (flags, listed) in [
            (0, true),
            (ACTIVE, false),
            (INACTIVE, true),
            (ACTIVE | INACTIVE, true),
            (INACTIVE | PERSISTENT, true),
            (INACTIVE | TRANSIENT, false),
        ] {
            expect(&format!("flags {flags}"), listed, all(peer, flags)?.contains(&name))?;
        }
        Ok(())
    })
}

fn list_count(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-count", |peer, _| {
        let expected = all(peer, 0)?.len() as u32;
        let args = ConnectListAllDomainsArgs { need_results: 0, flags: 0 };
        let got: ConnectListAllDomainsRet = ask(peer, Procedure::CONNECT_LIST_ALL_DOMAINS, &args)?;
        expect("count and domains", (expected, 0), (got.ret, got.domains.len()))
    })
}

fn bad_xml(target: &Target) -> Result<(), Failure> {
    let args = DomainDefineXmlArgs { xml: "this is no XML".into() };
    let error = fails(&mut target.open()?, Procedure::DOMAIN_DEFINE_XML, &args)?;
    expect("code", 35, error.0)
}

fn define_twice(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-twice", |peer, dom| {
        let kind = target.uri.split(':').next().unwrap_or_default();
        let xml = format!(
            "<domain type='{kind}'><name>{}</name><uuid>c0f0c0f0-1111-4222-8333-444455556666</uuid>\
             <memory>8192</memory><os><type>hvm</type></os></domain>",
            dom.name
        );
        let error = fails(peer, Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.into() })?;
        expect("code", 9, error.0)
    })
}

fn dump(peer: &mut Peer, dom: &NonnullDomain) -> Result<String, Failure> {
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    let got: DomainGetXmlDescRet = ask(peer, Procedure::DOMAIN_GET_XML_DESC, &args)?;
    Ok(got.xml.to_string())
}

fn dump_redefines(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-dump", |peer, dom| {
        let first = dump(peer, dom)?;
        let args = DomainDefineXmlArgs { xml: first.clone().into() };
        ask::<DomainDefineXmlRet>(peer, Procedure::DOMAIN_DEFINE_XML, &args)?;
        expect("second dump", first, dump(peer, dom)?)
    })
}

fn unknown_flags(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-flags", |peer, dom| {
        let args = DomainCreateWithFlagsArgs { dom: dom.clone(), flags: 1 << 31 };
        expect("code", 8, fails(peer, Procedure::DOMAIN_CREATE_WITH_FLAGS, &args)?.0)
    })
}
