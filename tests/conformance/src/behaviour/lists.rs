//! Filters of lists: those of one group part the whole, each object in one of them and none in two.

use serde_json::Value;
use virtwire_protocol::remote::{PROGRAM, Procedure};
use virtwire_protocol::schema;

use super::{OBSERVED, Row, call};
use crate::case::{Failure, Target, expect};
use crate::peer::{Peer, PeerError};

const PROVES: &str = "the filters of a group part the whole";

pub(super) const CASES: &[Row] = &[
    ("list/domains", PROVES, OBSERVED, |target| part(target, &DOMAINS)),
    ("list/networks", PROVES, OBSERVED, |target| part(target, &NETWORKS)),
    ("list/storage-pools", PROVES, OBSERVED, |target| part(target, &STORAGE_POOLS)),
    ("list/interfaces", PROVES, OBSERVED, |target| part(target, &INTERFACES)),
    ("list/node-devices", PROVES, OBSERVED, |target| part(target, &NODE_DEVICES)),
    ("list/snapshots", PROVES, OBSERVED, |target| part(target, &SNAPSHOTS)),
    ("list/unknown-flags", "a filter that nobody knows is refused", OBSERVED, unknown),
];

/// A list, an object that is in it beside what the hypervisor has, and its groups of filters.
struct List {
    list: Procedure,
    /// How the object is made, its document, and how it is removed.
    more: Option<(Procedure, &'static str, Procedure)>,
    groups: &'static [&'static [u32]],
}

const DOMAINS: List = List {
    list: Procedure::CONNECT_LIST_ALL_DOMAINS,
    more: Some((
        Procedure::DOMAIN_DEFINE_XML,
        "<domain type='test'><name>conformance-listed</name><memory>8192</memory><os><type>hvm</type></os></domain>",
        Procedure::DOMAIN_UNDEFINE,
    )),
    // Active or not; persistent; running, paused, off, else; saved; starting by themselves; with snapshots; checkpoints.
    groups: &[
        &[1, 2],
        &[4, 8],
        &[16, 32, 64, 128],
        &[0x100, 0x200],
        &[0x400, 0x800],
        &[0x1000, 0x2000],
        &[0x4000, 0x8000],
    ],
};

const NETWORKS: List = List {
    list: Procedure::CONNECT_LIST_ALL_NETWORKS,
    more: Some((
        Procedure::NETWORK_DEFINE_XML,
        "<network><name>conformance-listed</name></network>",
        Procedure::NETWORK_UNDEFINE,
    )),
    groups: &[&[1, 2], &[4, 8], &[16, 32]],
};

const STORAGE_POOLS: List = List {
    list: Procedure::CONNECT_LIST_ALL_STORAGE_POOLS,
    more: Some((
        Procedure::STORAGE_POOL_DEFINE_XML,
        "<pool type='netfs'><name>conformance-listed</name><source><host name='h'/><dir path='/d'/></source>\
         <target><path>/t</path></target></pool>",
        Procedure::STORAGE_POOL_UNDEFINE,
    )),
    // Active or not; persistent; starting by themselves; by type: directories and the thirteen others.
    groups: &[&[1, 2], &[4, 8], &[16, 32], &[0x40, 0x80, 0x100, 0x200, 0x400, 0xff800]],
};

const INTERFACES: List =
    List { list: Procedure::CONNECT_LIST_ALL_INTERFACES, more: None, groups: &[&[1, 2]] };

const NODE_DEVICES: List = List {
    list: Procedure::CONNECT_LIST_ALL_NODE_DEVICES,
    more: None,
    groups: &[&[1 << 28, 1 << 29], &[1 << 30, 1 << 31]],
};

const SNAPSHOTS: List = List {
    list: Procedure::DOMAIN_LIST_ALL_SNAPSHOTS,
    more: Some((
        Procedure::DOMAIN_SNAPSHOT_CREATE_XML,
        "<domainsnapshot><name>conformance-listed</name></domainsnapshot>",
        Procedure::DOMAIN_SNAPSHOT_DELETE,
    )),
    // With what libvirt keeps of them or without; with children; of what runs, is off, or of disks; inside or outside.
    groups: &[&[2, 16], &[4, 8], &[32, 64, 128], &[256, 512]],
};

/// The names in a list.
fn names(peer: &mut Peer, list: Procedure, flags: u32) -> Result<Vec<String>, Failure> {
    let answer = value(peer, list, &[("need_results", 1.into()), ("flags", flags.into())])?;
    let objects = answer.as_object().and_then(|fields| fields.values().find_map(Value::as_array));
    let names = objects.into_iter().flatten().map(|object| object["name"].to_string());
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// What a call that has to succeed gives, as JSON.
fn value(peer: &mut Peer, procedure: Procedure, args: &[(&str, Value)]) -> Result<Value, Failure> {
    let reply = call(peer, procedure, args)?;
    if let Some(error) = reply.error()? {
        return Err(PeerError::Refused(crate::peer::text(&error)).into());
    }
    let ret = PROGRAM.procedure(procedure.0).and_then(|info| info.ret);
    let value = ret.map_or(Ok(Value::Null), |shape| schema::to_json(shape, &reply.payload));
    value.map_err(|error| PeerError::Decode(error).into())
}

fn part(target: &Target, list: &List) -> Result<(), Failure> {
    if !target.uri.starts_with("test") {
        return Err(Failure::Skipped("the documents are the test hypervisor's"));
    }
    let mut peer = target.open()?;
    let made = match list.more {
        Some((make, xml, remove)) => {
            let field = if list.list == SNAPSHOTS.list { "xml_desc" } else { "xml" };
            let made = value(&mut peer, make, &[(field, xml.into())])?;
            let object = made.as_object().and_then(|fields| fields.iter().next());
            object.map(|(name, object)| (remove, name.clone(), object.clone()))
        }
        None => None,
    };
    let result = list.groups.iter().try_for_each(|group| {
        let mut parts = Vec::new();
        for flags in *group {
            parts.extend(names(&mut peer, list.list, *flags)?);
        }
        parts.sort();
        expect(&format!("all of {group:?}"), names(&mut peer, list.list, 0)?, parts)
    });
    if let Some((remove, name, object)) = made {
        value(&mut peer, remove, &[(&name, object)])?;
    }
    result
}

fn unknown(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    for list in [DOMAINS, NETWORKS, STORAGE_POOLS, INTERFACES, SNAPSHOTS] {
        let args = [("need_results", 1.into()), ("flags", (1_u32 << 27).into())];
        expect("code", 8, call(&mut peer, list.list, &args)?.code()?)?;
    }
    Ok(())
}
