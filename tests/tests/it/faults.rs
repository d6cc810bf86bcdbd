//! What daemons have to bear: arguments that nobody would send, and being killed at any moment.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_protocol::remote::*;
use virtwire_tests::daemon::{Daemon, virtwired};
use virtwire_tests::folder::Folder;
use virtwire_tests::noise::Noise;
use virtwire_tests::peers::{self, Peer as Needs};
use virtwire_tests::process::{PATIENCE, Program};

/// Calls of one run.
const CALLS: usize = 3000;

/// `VIRTWIRE_SEED` plays a failed run again.
#[test]
fn arguments_that_nobody_would_send_harm_nobody() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let seed = env::var("VIRTWIRE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
    let daemon = Daemon::virtwired();
    let mut noise = Noise::new(seed);
    let mut peer = Peer::connect(&daemon.socket()).expect("the daemon listens");
    peer.open("test:///default").expect("the test hypervisor opens");
    for number in 0..CALLS {
        if let Err(error) = noise.call(&mut peer) {
            panic!("call {number} of VIRTWIRE_SEED={seed}: {error}");
        }
    }
    let mut other = Peer::connect(&daemon.socket()).expect("the daemon listens still");
    other.open("test:///default").unwrap_or_else(|error| panic!("after VIRTWIRE_SEED={seed}: {error}"));
}

/// How often the daemon is killed.
const KILLS: usize = 8;

/// What was acknowledged before is there, or gone, after.
#[test]
fn a_killed_daemon_has_lost_nothing_it_acknowledged() {
    if !peers::here(&[Needs::Qemu]) {
        return;
    }
    let folder = Folder::new();
    let mut defined: BTreeSet<String> = BTreeSet::new();
    let mut number = 0;
    for round in 0..KILLS {
        let (mut program, mut peer) = start(&folder);
        let found = names(&mut peer).expect("the daemon lists its domains");
        // The one change that was not acknowledged may have been made or not.
        let unsure: Vec<_> = found.symmetric_difference(&defined).cloned().collect();
        assert!(unsure.len() <= 1, "round {round}: {unsure:?} differ, at most one was on its way");
        defined = found;
        let until = Instant::now() + Duration::from_millis(60 + 37 * round as u64);
        while Instant::now() < until {
            number += 1;
            let name = format!("killed-{number}");
            define(&mut peer, &name).expect("a domain is defined");
            defined.insert(name);
            if number % 3 == 0 {
                let name = defined.pop_first().expect("there are some");
                undefine(&mut peer, &name).expect("a domain is undefined");
            }
        }
        // A change on its way when the daemon dies.
        number += 1;
        send_define(&mut peer, &format!("killed-{number}")).expect("the call is sent");
        program.kill();
    }
    let (_program, mut peer) = start(&folder);
    let found = names(&mut peer).expect("the daemon lists its domains");
    assert!(found.symmetric_difference(&defined).count() <= 1 && defined.len() > KILLS);
}

fn start(folder: &Path) -> (Program, Peer) {
    let socket = folder.join("libvirt-sock");
    let mut command = Command::new(virtwired());
    command.arg("--socket").arg(&socket).arg("--root").arg(folder.join("root"));
    let mut program = Program::start(&mut command);
    let begin = Instant::now();
    loop {
        // A socket that the killed daemon left refuses connections until the new one listens.
        if let Ok(mut peer) = Peer::connect(&socket)
            && peer.open("qemu:///system").is_ok()
        {
            return (program, peer);
        }
        assert!(begin.elapsed() < PATIENCE && program.is_running(), "{}", program.printed());
        std::thread::yield_now();
    }
}

fn xml(name: &str) -> String {
    format!("<domain type='qemu'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os></domain>")
}

fn define(peer: &mut Peer, name: &str) -> Result<(), PeerError> {
    let args = DomainDefineXmlArgs { xml: xml(name).into() };
    peer.ask::<_, DomainDefineXmlRet>(Procedure::DOMAIN_DEFINE_XML, &args).map(drop)
}

fn send_define(peer: &mut Peer, name: &str) -> Result<(), PeerError> {
    let args = DomainDefineXmlArgs { xml: xml(name).into() };
    let header = peer.header(&PROGRAM, Procedure::DOMAIN_DEFINE_XML.0);
    let payload = virtwire_protocol::codec::encode(&args).unwrap_or_default();
    peer.send(&header, &payload)
}

fn undefine(peer: &mut Peer, name: &str) -> Result<(), PeerError> {
    let args = DomainLookupByNameArgs { name: name.into() };
    let found: DomainLookupByNameRet = peer.ask(Procedure::DOMAIN_LOOKUP_BY_NAME, &args)?;
    peer.ask(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom: found.dom })
}

fn names(peer: &mut Peer) -> Result<BTreeSet<String>, PeerError> {
    let args = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    let found: ConnectListAllDomainsRet = peer.ask(Procedure::CONNECT_LIST_ALL_DOMAINS, &args)?;
    Ok(found.domains.iter().map(|dom| dom.name.to_string()).collect())
}
