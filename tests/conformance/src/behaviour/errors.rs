//! The error of each situation: its code, and the domain that it comes from.

use serde_json::Value;
use virtwire_protocol::error::{ErrorCode, ErrorDomain};
use virtwire_protocol::remote::Procedure;

use super::{OBSERVED, call};
use crate::case::{Case, Failure, Target, expect};

/// A name, what is proved, the call, its arguments (what is left out is plain), code and domain.
type Situation = (&'static str, &'static str, Procedure, &'static str, ErrorCode, ErrorDomain);

const TEST: ErrorDomain = ErrorDomain::TEST;
const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

#[rustfmt::skip]
const SITUATIONS: &[Situation] = &[
    ("no-domain", "a domain is looked up by a name that none has", Procedure::DOMAIN_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_DOMAIN, TEST),
    ("no-domain-id", "a domain is looked up by an id that none has", Procedure::DOMAIN_LOOKUP_BY_ID, r#"{"id": 4711}"#, ErrorCode::NO_DOMAIN, TEST),
    ("no-domain-any-more", "a domain is asked for that is not there", Procedure::DOMAIN_GET_INFO, r#"{"dom": {"name": "nobody", "id": -1}}"#, ErrorCode::NO_DOMAIN, TEST),
    ("no-network", "a network is looked up by a name that none has", Procedure::NETWORK_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_NETWORK, TEST),
    ("no-pool", "a pool is looked up by a name that none has", Procedure::STORAGE_POOL_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_STORAGE_POOL, TEST),
    ("no-volume-path", "a volume is looked up by a path that none has", Procedure::STORAGE_VOL_LOOKUP_BY_PATH, r#"{"path": "/nobody"}"#, ErrorCode::NO_STORAGE_VOL, TEST),
    ("no-volume-key", "a volume is looked up by a key that none has", Procedure::STORAGE_VOL_LOOKUP_BY_KEY, r#"{"key": "/nobody"}"#, ErrorCode::NO_STORAGE_VOL, TEST),
    ("no-interface", "an interface is looked up by a name that none has", Procedure::INTERFACE_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_INTERFACE, TEST),
    ("no-node-device", "a device of the host is looked up by a name that none has", Procedure::NODE_DEVICE_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_NODE_DEVICE, TEST),
    ("no-snapshot", "a snapshot is looked up by a name that none has", Procedure::DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_DOMAIN_SNAPSHOT, TEST),
    ("no-current-snapshot", "the current snapshot of a domain that has none is asked for", Procedure::DOMAIN_SNAPSHOT_CURRENT, "{}", ErrorCode::NO_DOMAIN_SNAPSHOT, TEST),
    ("no-checkpoint", "a checkpoint is looked up by a name that none has", Procedure::DOMAIN_CHECKPOINT_LOOKUP_BY_NAME, r#"{"name": "nobody"}"#, ErrorCode::NO_DOMAIN_CHECKPOINT, TEST),
    ("no-support", "the driver does not have a function", Procedure::DOMAIN_MIGRATE_SET_MAX_SPEED, "{}", ErrorCode::NO_SUPPORT, DOMAIN),
    ("runs-already", "a running domain is started", Procedure::DOMAIN_CREATE, "{}", ErrorCode::INTERNAL_ERROR, TEST),
    ("runs-and-resumed", "a running domain is resumed", Procedure::DOMAIN_RESUME, "{}", ErrorCode::INTERNAL_ERROR, TEST),
    ("document-empty", "a definition has nothing in it", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": ""}"#, ErrorCode::XML_DETAIL, DOMAIN),
    ("document-broken", "a definition is not well-formed", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": "<domain"}"#, ErrorCode::XML_DETAIL, DOMAIN),
    ("document-of-other", "a definition is of something else", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": "<network/>"}"#, ErrorCode::XML_ERROR, ErrorDomain::XML),
    ("document-lacks-name", "a definition has no name", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": "<domain type='test'><memory>1</memory><os><type>hvm</type></os></domain>"}"#, ErrorCode::NO_NAME, DOMAIN),
    ("document-lacks-os", "a definition does not say what runs in it", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": "<domain type='test'><name>x</name><memory>1</memory></domain>"}"#, ErrorCode::XML_ERROR, DOMAIN),
    ("document-network", "a network has no name", Procedure::NETWORK_DEFINE_XML, r#"{"xml": "<network/>"}"#, ErrorCode::NO_NAME, ErrorDomain::NETWORK),
    ("document-pool", "a pool has no type", Procedure::STORAGE_POOL_DEFINE_XML, r#"{"xml": "<pool><name>x</name></pool>"}"#, ErrorCode::XML_ERROR, ErrorDomain::XML),
    ("name-taken", "a definition has another's name", Procedure::DOMAIN_DEFINE_XML, r#"{"xml": "<domain type='test'><name>test</name><uuid>c0f0c0f0-1111-4222-8333-444455556666</uuid><memory>1</memory><os><type>hvm</type></os></domain>"}"#, ErrorCode::OPERATION_FAILED, DOMAIN),
    ("unknown-flag", "a flag is set that nobody knows", Procedure::DOMAIN_GET_XML_DESC, r#"{"flags": 1073741824}"#, ErrorCode::INVALID_ARG, TEST),
    ("no-processors", "a domain is to have no processor", Procedure::DOMAIN_SET_VCPUS, r#"{"nvcpus": 0}"#, ErrorCode::INVALID_ARG, DOMAIN),
    ("too-many-processors", "a domain is to have more processors than it may", Procedure::DOMAIN_SET_VCPUS, r#"{"nvcpus": 4711}"#, ErrorCode::INVALID_ARG, TEST),
    ("too-much-memory", "a domain is to have more memory than it may", Procedure::DOMAIN_SET_MEMORY, r#"{"memory": 99999999999}"#, ErrorCode::INVALID_ARG, TEST),
    ("no-disk", "a disk is asked for that the domain does not have", Procedure::DOMAIN_BLOCK_STATS, r#"{"path": "nobody"}"#, ErrorCode::INVALID_ARG, TEST),
    ("no-port", "an interface is asked for that the domain does not have", Procedure::DOMAIN_INTERFACE_STATS, r#"{"device": "nobody"}"#, ErrorCode::INVALID_ARG, DOMAIN),
    ("no-metadata", "a title is asked for that the domain does not have", Procedure::DOMAIN_GET_METADATA, r#"{"type": 1, "uri": null}"#, ErrorCode::NO_DOMAIN_METADATA, DOMAIN),
    ("two-events", "an event is registered for that is not known", Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, r#"{"eventID": 4711, "dom": null}"#, ErrorCode::INTERNAL_ERROR, ErrorDomain::RPC),
    ("event-not-registered", "an event is given up that was not asked for", Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, r#"{"callbackID": 4711}"#, ErrorCode::INTERNAL_ERROR, ErrorDomain::RPC),
];

pub(super) fn cases() -> impl Iterator<Item = Case> {
    SITUATIONS.iter().map(|situation| {
        let (name, proves, ..) = *situation;
        let run = Box::new(move |target: &Target| run(target, situation));
        Case { id: format!("error/{name}"), proves, source: OBSERVED, run }
    })
}

fn run(target: &Target, (_, _, procedure, args, code, domain): &Situation) -> Result<(), Failure> {
    let Ok(Value::Object(args)) = serde_json::from_str(args) else {
        return Err(Failure::Differs(format!("{args} are no arguments")));
    };
    let args: Vec<_> = args.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let Some(error) = call(&mut target.open()?, *procedure, &args)?.error()? else {
        return Err(Failure::Differs("was served where an error was due".to_owned()));
    };
    let name = |name: Option<&str>, number: i32| name.map_or_else(|| number.to_string(), str::to_owned);
    let named = |code: i32, domain: i32| {
        (name(ErrorCode(code).name(), code), name(ErrorDomain(domain).name(), domain))
    };
    expect("code and domain", named(code.0, domain.0), named(error.code, error.domain))
}
