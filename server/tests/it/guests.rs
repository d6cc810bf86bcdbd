//! What clients do to guests, with the test hypervisor behind the daemon.

use std::time::{Duration, Instant};

use virtwire_driver_test::TestDriver;
use virtwire_protocol::net::MessageStatus;
use virtwire_protocol::remote::*;
use virtwired::{Access, Limits, Service};

use crate::peer::Peer;
use crate::toy::Toy;

fn service() -> Service {
    Service::new(vec![std::sync::Arc::new(TestDriver::new())], Limits::default())
}

async fn open(service: &Service) -> Peer {
    let mut peer = Peer::at(service, Toy::new(), Access::ReadWrite);
    peer.authenticate().await;
    let args = ConnectOpenArgs { name: Some("test:///default".into()), flags: 0 };
    peer.call(Procedure::CONNECT_OPEN, &args).await.decode::<()>();
    peer
}

fn guest(name: &str) -> String {
    format!("<domain type='test'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os></domain>")
}

#[tokio::test]
async fn class_xml_no_document_reads_a_file_grows_without_end_or_ends_the_daemon() {
    let service = service();
    let mut peer = open(&service).await;
    let secret = std::env::temp_dir().join(format!("virtwired-{}-entity", std::process::id()));
    std::fs::write(&secret, "stolen").unwrap();
    let with = |declarations: String| format!("<!DOCTYPE d [{declarations}]>{}", guest("&e;"));
    let laughs: String = (1..40).map(|n| format!("<!ENTITY e{n} '&e{0};&e{0};'>", n - 1)).collect();
    let deep = 200_000;
    for (what, xml) in [
        ("an external entity", with(format!("<!ENTITY e SYSTEM '{}'>", secret.display()))),
        ("an external file", with(format!("<!ENTITY e SYSTEM 'file://{}'>", secret.display()))),
        ("an external subset", format!("<!DOCTYPE d SYSTEM 'file://{}'>{}", secret.display(), guest("&e;"))),
        ("a parameter entity", with(format!("<!ENTITY % p SYSTEM '{}'> %p;", secret.display()))),
        ("entities of entities", with(format!("<!ENTITY e0 'ha'>{laughs}<!ENTITY e '&e39;'>"))),
        ("an entity of itself", with("<!ENTITY e '&f;'><!ENTITY f '&e;'>".into())),
        ("depth", "<domain>".repeat(deep)),
        ("depth that ends", "<domain>".repeat(deep) + &"</domain>".repeat(deep)),
        (
            "many attributes",
            format!("<domain {}/>", (0..100_000).map(|n| format!("a{n}='' ")).collect::<String>()),
        ),
    ] {
        let before = Instant::now();
        let args = DomainDefineXmlArgs { xml: xml.into() };
        let (_, _, text) = peer.call(Procedure::DOMAIN_DEFINE_XML, &args).await.error();
        assert!(!text.contains("stolen"), "{what}: {text}");
        assert!(before.elapsed() < Duration::from_secs(5), "{what}: {:?}", before.elapsed());
    }
    let all = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    let all: ConnectListAllDomainsRet = peer.call(Procedure::CONNECT_LIST_ALL_DOMAINS, &all).await.decode();
    assert_eq!(all.ret, 1, "only the guest that is always there");
    std::fs::remove_file(secret).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn class_races_a_guest_that_others_change_meanwhile_is_an_error_at_most() {
    let service = service();
    // The hypervisor is there as long as somebody has it open.
    let mut keeper = open(&service).await;
    let clients = (0..8).map(|client: usize| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut peer = open(&service).await;
            let dom = NonnullDomain { name: "contended".into(), uuid: [7; 16], id: -1 };
            let xml = guest("contended")
                .replace("<memory>", "<uuid>07070707-0707-0707-0707-070707070707</uuid><memory>");
            let mut served = 0;
            for round in 0..200 {
                let (dom, xml) = (dom.clone(), xml.clone());
                let reply = match (client + round * 3) % 8 {
                    0 => {
                        peer.call(Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.into() })
                            .await
                    }
                    1 => peer.call(Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom }).await,
                    2 => peer.call(Procedure::DOMAIN_SUSPEND, &DomainSuspendArgs { dom }).await,
                    3 => peer.call(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom }).await,
                    4 => peer.call(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom }).await,
                    5 => {
                        peer.call(Procedure::DOMAIN_GET_XML_DESC, &DomainGetXmlDescArgs { dom, flags: 0 })
                            .await
                    }
                    6 => peer.call(Procedure::DOMAIN_GET_INFO, &DomainGetInfoArgs { dom }).await,
                    _ => {
                        let args = ConnectGetAllDomainStatsArgs { doms: vec![], stats: 0, flags: 0 };
                        peer.call(Procedure::CONNECT_GET_ALL_DOMAIN_STATS, &args).await
                    }
                };
                if reply.header.status == MessageStatus::OK {
                    served += 1;
                } else {
                    // No such guest, or not in a state for that; never an error of the daemon's own.
                    let (code, _, text) = reply.error();
                    let known = [42, 55].contains(&code) || (code == 1 && text.ends_with(" running"));
                    assert!(known, "{code} {text}");
                }
            }
            served
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert!(keeper.is_alive().await);
}
