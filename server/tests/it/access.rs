//! Access rules: generated checks, filtered lists and events, and what they leave behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use virtwire_protocol::codec::{Encode, EncodeError};
use virtwire_protocol::procedures::{AclWhen, Direction, Family, ProcedureInfo};
use virtwire_protocol::remote::*;
use virtwire_protocol::sample::{self, Pick};
use virtwire_protocol::{ErrorCode, remote};
use virtwired::access::{Policy, Rules};
use virtwired::log::Log;
use virtwired::{Access, Config, Service};

use crate::host::{self, Host};
use crate::network::programs;
use crate::peer::Peer;
use crate::toy::{Toy, domain};

fn service(toy: &Arc<Toy>, rules: &str) -> Service {
    let policy = Policy::rules(Rules::parse(rules).unwrap());
    Service::with(vec![toy.clone()], &Config { policy, ..Config::default() }, Log::new(None)).unwrap()
}

/// A client of a daemon with these rules, with the toy open.
async fn open(rules: &str) -> Peer {
    let toy = Toy::new();
    let mut peer = Peer::at(&service(&toy, rules), toy, Access::ReadWrite);
    peer.open_toy().await;
    peer
}

const OPEN_ONLY: &str = "[[rule]]\nallow = ['connect:getattr']\n";
/// The toy has guests `a`, `b` and `c`.
const ONLY_B: &str = "[[rule]]\nallow = ['connect:*', 'domain:*']\nwhere = { domain_name = 'b' }\n";

#[tokio::test]
async fn nobody_opens_what_no_rule_allows() {
    let toy = Toy::new();
    let mut peer = Peer::at(&service(&toy, ""), toy, Access::ReadWrite);
    peer.authenticate().await;
    let args = ConnectOpenArgs { name: Some("toy:///".into()), flags: 0 };
    let refused = peer.call(Procedure::CONNECT_OPEN, &args).await;
    assert_eq!(refused.error(), (88, 55, "access denied: 'TOY' denied access".into()));
}

/// Arguments as bytes.
struct Raw(Vec<u8>);

impl Encode for Raw {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend(&self.0);
        Ok(())
    }
}

/// Arguments of a procedure: zeros, of which some number of words decodes; zeros with a one among them, with ones behind
/// them; samples.
fn arguments(info: &ProcedureInfo) -> impl Iterator<Item = Vec<u8>> {
    let zeros = |words: usize| vec![0; words * 4];
    let ones = (1..16).flat_map(move |words| {
        (0..words).map(move |at| {
            let mut bytes = zeros(words);
            bytes[at * 4 + 3] = 1;
            bytes
        })
    });
    let tails = (2..16).flat_map(move |words| {
        (2..words).map(move |tail| [zeros(words - tail), [0, 0, 0, 1].repeat(tail)].concat())
    });
    let row = sample::all().into_iter().find(|row| info.args.is_some_and(|args| args.name == row.name));
    let samples = (0..64).filter_map(move |seed| (row.as_ref()?.encode)(&mut Pick::new(seed)).ok());
    (0..64).map(zeros).chain(ones).chain(tails).chain(samples)
}

/// What a procedure answers to arguments that pass the rules on them, which come first; none where it is served.
async fn denied(peer: &mut Peer, info: &ProcedureInfo) -> Option<(i32, i32, String)> {
    for bytes in arguments(info) {
        let reply = peer.call(Procedure(info.number), &Raw(bytes)).await;
        if reply.header.status == virtwire_protocol::net::MessageStatus::OK {
            return None;
        }
        let error = reply.error();
        let of_rules = [ErrorCode::INVALID_ARG.0, ErrorCode::OVERFLOW.0].contains(&error.0)
            || info.checks.iter().any(|check| error.2 == format!("internal error: {}", check.text));
        if error.2 != "Unable to decode message payload" && !of_rules {
            return Some(error);
        }
    }
    panic!("no arguments of {} pass its rules", info.name)
}

#[tokio::test]
async fn class_acl_missing_every_procedure_is_refused_twice_and_the_daemon_is_well() {
    let mut peer = open(OPEN_ONLY).await;
    let begun = |peer: &Peer| peer.toy.begun.load(std::sync::atomic::Ordering::SeqCst);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for _ in 0..2 {
        let calls =
            remote::PROGRAM.procedures.iter().flatten().filter(|info| info.direction == Direction::Call);
        let mut refused = 0;
        for info in calls {
            let connect_only =
                info.acl.iter().all(|rule| (rule.object, rule.permission) == ("connect", "getattr"));
            let sometimes = info.acl.iter().all(|rule| rule.when != AclWhen::Always);
            if info.acl.is_empty() || connect_only || sometimes || info.fds_call.1 > 0 {
                continue;
            }
            // What has no driver here has nothing to give; what is looked up first is not there, or not shown.
            let served = matches!(info.family, Family::Hypervisor | Family::Storage | Family::Session);
            let error = denied(&mut peer, info).await.unwrap_or_else(|| panic!("{} is served", info.name));
            let by_name = info.name.contains("_LOOKUP_") || info.family == Family::Storage;
            if served && !by_name {
                assert_eq!(error, (88, 55, "access denied: 'TOY' denied access".into()), "{}", info.name);
                refused += 1;
            }
        }
        assert!(refused > 200, "{refused}");
    }
    assert_eq!(begun(&peer), 0);
    assert!(peer.is_alive().await);
    // A descriptor for each refusal would be hundreds; tests beside this one have some of their own.
    assert!(descriptors() <= before + 100, "{} descriptors, {before} before", descriptors());
}

#[tokio::test]
async fn a_rule_may_be_for_one_object() {
    let mut peer = open(ONLY_B).await;
    let dump = |dom| DomainGetXmlDescArgs { dom, flags: 0 };
    peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump(domain("b"))).await.decode::<DomainGetXmlDescRet>();
    let refused = peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump(domain("a"))).await;
    assert_eq!(refused.error().0, 88);
}

#[tokio::test]
async fn class_acl_wrong_the_name_a_client_gives_is_not_believed() {
    let mut peer = open(ONLY_B).await;
    // The UUID of `a` under the name of `b`.
    let lie = NonnullDomain { name: "b".into(), ..domain("a") };
    let refused =
        peer.call(Procedure::DOMAIN_GET_XML_DESC, &DomainGetXmlDescArgs { dom: lie, flags: 0 }).await;
    assert_eq!(refused.error().0, 88);
}

#[tokio::test]
async fn class_acl_late_no_xml_is_looked_at_before_the_rules() {
    let mut peer = open(ONLY_B).await;
    let args = DomainDefineXmlArgs { xml: "<this is no XML".into() };
    assert_eq!(peer.call(Procedure::DOMAIN_DEFINE_XML, &args).await.error().0, 88);
}

#[tokio::test]
async fn lookups_and_lists_show_what_the_rules_allow() {
    let mut peer = open(ONLY_B).await;
    let by_uuid = |name| DomainLookupByUuidArgs { uuid: domain(name).uuid };
    assert_eq!(peer.call(Procedure::DOMAIN_LOOKUP_BY_UUID, &by_uuid("a")).await.error().0, 88);
    let found: DomainLookupByUuidRet =
        peer.call(Procedure::DOMAIN_LOOKUP_BY_UUID, &by_uuid("b")).await.decode();
    assert_eq!(found.dom, domain("b"));
    for (need_results, names) in [(1, vec!["b"]), (0, vec![])] {
        let args = ConnectListAllDomainsArgs { need_results, flags: 0 };
        let list: ConnectListAllDomainsRet =
            peer.call(Procedure::CONNECT_LIST_ALL_DOMAINS, &args).await.decode();
        let got: Vec<_> = list.domains.iter().map(|domain| domain.name.to_string()).collect();
        assert_eq!((got, list.ret), (names.iter().map(|name| (*name).to_owned()).collect(), 1));
    }
}

#[tokio::test]
async fn class_acl_events_go_to_those_who_may_see_the_domain() {
    let mut peer = open(ONLY_B).await;
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: 0, dom: None };
    peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args)
        .await
        .decode::<ConnectDomainEventCallbackRegisterAnyRet>();
    for name in ["a", "b"] {
        peer.toy.events.emit(crate::events::lifecycle(domain(name), 2));
    }
    let event = peer.receive().await.unwrap();
    let msg: DomainEventCallbackLifecycleMsg = event.decode();
    assert_eq!(msg.msg.dom.name, "b");
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn class_identity_who_speaks_for_another_has_the_others_rights_and_does_not_come_back() {
    let mine = host::uid();
    let rules = format!(
        "[[rule]]\nuser = ['{mine}']\nallow = ['*']\n[[rule]]\nuser = ['65534']\nallow = ['connect:*']\n"
    );
    let identity = |uid| {
        let number = |name: &str, value| TypedParam { field: name.into(), value };
        let params = vec![
            number("unix-user-id", TypedParamValue::Ullong(uid)),
            number("unix-group-id", TypedParamValue::Ullong(uid)),
            number("process-id", TypedParamValue::Llong(1)),
        ];
        ConnectSetIdentityArgs { params, flags: 0 }
    };
    let mut peer = open(&rules).await;
    let dump = DomainGetXmlDescArgs { dom: domain("a"), flags: 0 };
    peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump).await.decode::<DomainGetXmlDescRet>();
    peer.call(Procedure::CONNECT_SET_IDENTITY, &identity(65534)).await.decode::<()>();
    assert_eq!(peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump).await.error().0, 88);
    let again = peer.call(Procedure::CONNECT_SET_IDENTITY, &identity(mine.into())).await;
    assert_eq!(again.error().2, "internal error: an identity was set already");
    assert_eq!(peer.call(Procedure::DOMAIN_GET_XML_DESC, &dump).await.error().0, 88);
}

/// Asked by libvirt's own library, as somebody who is neither root nor the daemon's user.
#[tokio::test]
async fn class_identity_is_not_raised_on_a_read_only_connection() {
    const PYTHON: &str = "/usr/bin/python3";
    if !host::is_root() || !programs(&[PYTHON, "setpriv"]) {
        return;
    }
    let mut host = Host::new("identity");
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o755)).unwrap();
    host.virtwired("unix_sock_rw_perms = \"0777\"\n", &[]);
    for (socket, open) in [("libvirt-sock-ro", "openReadOnly"), ("libvirt-sock", "open")] {
        let uri = format!("test+unix:///default?socket={}", host.dir.join(socket).display());
        let script = format!("import libvirt; libvirt.{open}('{uri}').setIdentity({{'unix-user-id': 0}})");
        let mut python = Command::new("setpriv");
        python.args(["--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-c", &script]);
        let refused = host::run(python).await.unwrap_err();
        assert!(refused.contains("only a proxy of root's may speak for others"), "{socket}: {refused}");
    }
}
