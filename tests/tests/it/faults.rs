//! What daemons have to bear: arguments that nobody would send, and being killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_protocol::codec;
use virtwire_protocol::remote::*;
use virtwire_tests::daemon::{Daemon, virtwired};
use virtwire_tests::folder::Folder;
use virtwire_tests::guest;
use virtwire_tests::noise::Noise;
use virtwire_tests::peers::{self, Peer as Needs};
use virtwire_tests::process::{self, PATIENCE, Program};

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
/// `VIR_CONNECT_LIST_DOMAINS_ACTIVE`
const ACTIVE: u32 = 1;

/// What was acknowledged before is there, or gone, after; guests run on, and none runs that nobody knows of.
#[test]
fn a_killed_daemon_has_lost_nothing_it_acknowledged() {
    if !peers::here(&[Needs::Root, Needs::Qemu, Needs::Python]) {
        return;
    }
    let folder = Folder::new();
    guest::write_emulator(&folder.join("emulator"));
    let (mut defined, mut running) = (BTreeSet::new(), BTreeSet::new());
    let mut number = 0;
    for round in 0..KILLS {
        let (mut program, mut peer) = start_daemon(&folder);
        let on_its_way = format!("killed-{number}");
        settle(&mut defined, names(&mut peer, 0), &on_its_way);
        let found = settled_running(&mut peer, &folder);
        settle(&mut running, found, &on_its_way);
        for _ in 0..4 + round {
            number += 1;
            let name = format!("killed-{number}");
            let dom = define(&mut peer, &folder, &name).expect("a domain is defined");
            defined.insert(name.clone());
            if number % 2 == 0 {
                peer.ask::<_, ()>(Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom }).expect("it starts");
                running.insert(name);
            }
            if number % 3 == 0 {
                let name = defined.pop_first().expect("there are some");
                remove(&mut peer, &name, running.remove(&name)).expect("a domain is undefined");
            }
        }
        // A change on its way when the daemon dies; from round to round it has come further.
        number += 1;
        let name = format!("killed-{number}");
        if round % 2 == 0 {
            send_define(&mut peer, &folder, &name).expect("the call is sent");
        } else {
            let dom = define(&mut peer, &folder, &name).expect("a domain is defined");
            defined.insert(name);
            send_start(&mut peer, dom).expect("the call is sent");
            let mut other = connect(&folder).expect("the daemon listens");
            (0..round * 20).for_each(|_| drop(names(&mut other, 0)));
        }
        program.kill();
    }
    let (_program, mut peer) = start_daemon(&folder);
    let on_its_way = format!("killed-{number}");
    settle(&mut defined, names(&mut peer, 0), &on_its_way);
    let found = settled_running(&mut peer, &folder);
    settle(&mut running, found, &on_its_way);
    assert!(defined.len() > KILLS && running.len() > KILLS / 2, "{defined:?}, of which run {running:?}");
    for name in running {
        remove(&mut peer, &name, true).expect("a domain is undefined");
    }
    assert_eq!(emulators(&folder), BTreeMap::new());
}

/// Only the change on its way may have been made or not.
#[track_caller]
fn settle(known: &mut BTreeSet<String>, found: Result<BTreeSet<String>, PeerError>, on_its_way: &str) {
    let found = found.expect("the daemon lists its domains");
    let differ: Vec<_> = found.symmetric_difference(known).filter(|name| *name != on_its_way).collect();
    assert!(differ.is_empty(), "{differ:?} differ: known {known:?}, found {found:?}");
    *known = found;
}

/// The guests that run. The daemon has found them all again before it was ready; those that it does not keep are on
/// their way out.
fn settled_running(peer: &mut Peer, folder: &Path) -> Result<BTreeSet<String>, PeerError> {
    let found = names(peer, ACTIVE)?;
    for (_, pid) in emulators(folder).into_iter().filter(|(name, _)| !found.contains(name)) {
        wait_for_end(pid);
    }
    let processes: BTreeSet<_> = emulators(folder).into_keys().collect();
    assert_eq!(found, processes, "guests that run, and emulators that do");
    Ok(found)
}

/// The guests whose emulators run, and as which process.
fn emulators(folder: &Path) -> BTreeMap<String, Pid> {
    let program = folder.join("emulator").display().to_string();
    let ours = process::command_lines().filter(|(_, line)| line.contains(&program));
    let named = |(pid, line): (u32, Vec<String>)| {
        let name = line.iter().find_map(|word| word.strip_prefix("guest=")?.split(',').next())?;
        Some((name.to_owned(), Pid::from_raw(pid.try_into().ok()?)?))
    };
    ours.filter_map(named).collect()
}

/// Waits until a process has ended.
#[track_caller]
fn wait_for_end(pid: Pid) {
    // One that cannot be opened has ended already.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let patience = Timespec::try_from(PATIENCE).expect("a minute");
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience));
    assert_eq!(ended, Ok(1), "process {pid:?} does not end");
}

fn connect(folder: &Path) -> Result<Peer, PeerError> {
    let mut peer = Peer::connect(&folder.join("libvirt-sock"))?;
    peer.open("qemu:///system")?;
    Ok(peer)
}

fn start_daemon(folder: &Path) -> (Program, Peer) {
    let path = folder.join("notify");
    // That of the daemon before.
    let _ = fs::remove_file(&path);
    let told = UnixDatagram::bind(&path).expect("a socket");
    told.set_read_timeout(Some(PATIENCE)).expect("a minute is a time-out");
    let mut command = Command::new(virtwired());
    command.arg("--socket").arg(folder.join("libvirt-sock")).arg("--root").arg(folder.join("root"));
    let mut program = Program::start(command.env("NOTIFY_SOCKET", &path));
    let mut word = [0; 64];
    let count = told.recv(&mut word).unwrap_or_default();
    assert_eq!(&word[..count], b"READY=1", "{}", program.printed());
    (program, connect(folder).expect("the daemon listens"))
}

fn xml(folder: &Path, name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os><devices>\
         <emulator>{}</emulator></devices></domain>",
        folder.join("emulator").display()
    )
}

fn define(peer: &mut Peer, folder: &Path, name: &str) -> Result<NonnullDomain, PeerError> {
    let args = DomainDefineXmlArgs { xml: xml(folder, name).into() };
    peer.ask::<_, DomainDefineXmlRet>(Procedure::DOMAIN_DEFINE_XML, &args).map(|ret| ret.dom)
}

fn send_define(peer: &mut Peer, folder: &Path, name: &str) -> Result<(), PeerError> {
    let args = DomainDefineXmlArgs { xml: xml(folder, name).into() };
    let header = peer.header(&PROGRAM, Procedure::DOMAIN_DEFINE_XML.0);
    peer.send(&header, &codec::encode(&args).unwrap_or_default())
}

fn send_start(peer: &mut Peer, dom: NonnullDomain) -> Result<(), PeerError> {
    let header = peer.header(&PROGRAM, Procedure::DOMAIN_CREATE.0);
    peer.send(&header, &codec::encode(&DomainCreateArgs { dom }).unwrap_or_default())
}

/// Undefines a domain; one that runs is destroyed before.
fn remove(peer: &mut Peer, name: &str, runs: bool) -> Result<(), PeerError> {
    let args = DomainLookupByNameArgs { name: name.into() };
    let dom = peer.ask::<_, DomainLookupByNameRet>(Procedure::DOMAIN_LOOKUP_BY_NAME, &args)?.dom;
    if runs {
        peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom.clone() })?;
    }
    peer.ask(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom })
}

fn names(peer: &mut Peer, flags: u32) -> Result<BTreeSet<String>, PeerError> {
    let args = ConnectListAllDomainsArgs { need_results: 1, flags };
    let found: ConnectListAllDomainsRet = peer.ask(Procedure::CONNECT_LIST_ALL_DOMAINS, &args)?;
    Ok(found.domains.iter().map(|dom| dom.name.to_string()).collect())
}
