//! What is measured. Loads come from libvirt's own C library; what that cannot do, such as calls that do not wait for each
//! other, from raw frames.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_protocol::net::MessageType;
use virtwire_protocol::remote::*;

use super::{Measure, Tools, load, median};
use crate::clients::URI;
use crate::daemon::Daemon;
use crate::guest;
use crate::process::{self, PATIENCE};

const SYSTEM: &str = "qemu:///system";

/// What is measured, what virtwired should reach, how; a line each.
macro_rules! measures {
    ($($what:literal, $floor:literal, $how:expr;)*) => {
        /// All measures.
        pub(super) const ALL: &[Measure] = &[$(Measure { what: $what, floor: $floor, how: $how }),*];
    };
}

measures! {
    "start to first answer, ms", "≤ 100 ms", |_, d| ms(d.started());
    "idle, resident memory, MiB", "≤ 16 MiB", |_, d| mib(d.resident());
    "memory per connection, KiB", "", per_connection;
    "connect, open and close, µs", "", connect;
    "1 connection, GetLibVersion: median latency, µs", "≤ 0.7", |t, d| latency(t, d, "lib-version", "0");
    "1 connection, GetLibVersion: calls/s", "", |t, d| rate(t, d, "1");
    "8 connections, GetLibVersion: calls/s", "", |t, d| rate(t, d, "8");
    "32 connections, GetLibVersion: calls/s", "≥ 2", |t, d| rate(t, d, "32");
    "256 connections, GetLibVersion: calls/s", "", |t, d| rate(t, d, "256");
    "1 connection, 100 calls sent before an answer is read: calls/s", "", pipelined;
    "ListAllDomains, 10 domains: median latency, µs", "", |t, d| latency(t, d, "list-all-domains", "10");
    "ListAllDomains, 1,000 domains: median latency, µs", "≤ 0.3", |t, d| latency(t, d, "list-all-domains", "1000");
    "ListAllDomains, 10,000 domains: median latency, µs", "", |t, d| latency(t, d, "list-all-domains", "10000");
    "GetAllDomainStats, 10 domains: median latency, µs", "", |t, d| latency(t, d, "all-domain-stats", "10");
    "GetAllDomainStats, 1,000 domains: median latency, µs", "", |t, d| latency(t, d, "all-domain-stats", "1000");
    "GetAllDomainStats, 10,000 domains: median latency, µs", "", |t, d| latency(t, d, "all-domain-stats", "10000");
    "GetXMLDesc, one of 10 domains: median latency, µs", "", |t, d| latency(t, d, "xml-desc", "10");
    "GetXMLDesc, one of 1,000 domains: median latency, µs", "", |t, d| latency(t, d, "xml-desc", "1000");
    "GetXMLDesc, one of 10,000 domains: median latency, µs", "", |t, d| latency(t, d, "xml-desc", "10000");
    "define and undefine, test hypervisor: median, µs", "", |t, d| latency(t, d, "define-undefine", "0");
    "define and undefine, QEMU driver: median, µs", "", define;
    "an event to 200 subscribers, until the last has it: median, µs", "", fan_out;
    "download of a volume of 64 MiB, MiB/s", "", |_, d| volume(d, "vol-download");
    "upload of a volume of 64 MiB, MiB/s", "", |_, d| volume(d, "vol-upload");
    "guest under TCG: create until it runs, ms", "", |_, d| life(d).0;
    "guest under TCG: destroy until it is off, ms", "", |_, d| life(d).1;
    "killed with 1,000 definitions and 20 guests, until all is known again, ms", "", restart;
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn latency(tools: &Tools, daemon: &Daemon, call: &str, domains: &str) -> f64 {
    load(&tools.generator, daemon, call, ["1", &tools.seconds, domains]).latency
}

fn rate(tools: &Tools, daemon: &Daemon, connections: &str) -> f64 {
    load(&tools.generator, daemon, "lib-version", [connections, &tools.seconds, "0"]).rate
}

#[track_caller]
fn peer(daemon: &Daemon, uri: &str) -> Peer {
    let opened = Peer::connect(&daemon.socket()).and_then(|mut peer| peer.open(uri).map(|()| peer));
    opened.unwrap_or_else(|error| panic!("{uri}: {error}"))
}

/// The median of so many times, in microseconds.
#[track_caller]
fn times(count: usize, mut action: impl FnMut() -> Result<(), PeerError>) -> f64 {
    let mut figures = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        action().unwrap_or_else(|error| panic!("{error}"));
        figures.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    median(&figures)
}

fn connect(_: &Tools, daemon: &Daemon) -> f64 {
    times(200, || {
        let mut peer = Peer::connect(&daemon.socket())?;
        peer.open(URI)?;
        peer.ask::<_, ()>(Procedure::CONNECT_CLOSE, &())
    })
}

fn per_connection(_: &Tools, daemon: &Daemon) -> f64 {
    let first = peer(daemon, URI);
    let before = daemon.resident();
    let more: Vec<Peer> = (0..200).map(|_| peer(daemon, URI)).collect();
    let after = daemon.resident();
    drop((first, more.len()));
    after.saturating_sub(before) as f64 / more.len() as f64
}

fn pipelined(_: &Tools, daemon: &Daemon) -> f64 {
    const CALLS: usize = 100;
    let mut peer = peer(daemon, URI);
    let each = times(100, || {
        let mut all = Vec::new();
        for _ in 0..CALLS {
            let header = peer.header(&PROGRAM, Procedure::CONNECT_GET_LIB_VERSION.0);
            all.extend(virtwire_protocol::frame::encode_bytes(&header, &[]).unwrap_or_default());
        }
        peer.write(&all)?;
        (0..CALLS).try_for_each(|_| peer.receive().map(drop))
    });
    CALLS as f64 / each * 1e6
}

fn xml(kind: &str, name: &str) -> String {
    format!(
        "<domain type='{kind}'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os></domain>"
    )
}

fn define_and_undefine(peer: &mut Peer, kind: &str) -> Result<(), PeerError> {
    let args = DomainDefineXmlArgs { xml: xml(kind, "measured").into() };
    let dom = peer.ask::<_, DomainDefineXmlRet>(Procedure::DOMAIN_DEFINE_XML, &args)?.dom;
    peer.ask(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom })
}

fn define(_: &Tools, daemon: &Daemon) -> f64 {
    let mut peer = peer(daemon, SYSTEM);
    // The first one asks the emulator what it can do.
    times(1, || define_and_undefine(&mut peer, "qemu"));
    times(100, || define_and_undefine(&mut peer, "qemu"))
}

fn fan_out(_: &Tools, daemon: &Daemon) -> f64 {
    let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: 0, dom: None };
    let mut subscribers: Vec<Peer> = (0..200).map(|_| peer(daemon, URI)).collect();
    for peer in &mut subscribers {
        let registered = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args);
        registered.unwrap_or_else(|error| panic!("{error}"));
    }
    let mut source = peer(daemon, URI);
    times(20, || {
        let args = DomainDefineXmlArgs { xml: xml("test", "measured").into() };
        let dom = source.ask::<_, DomainDefineXmlRet>(Procedure::DOMAIN_DEFINE_XML, &args)?.dom;
        for peer in &mut subscribers {
            while peer.receive()?.header.r#type != MessageType::MESSAGE {}
        }
        source.ask::<_, ()>(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom })?;
        for peer in &mut subscribers {
            while peer.receive()?.header.r#type != MessageType::MESSAGE {}
        }
        Ok(())
    }) / 2.0
}

/// MiB per second of virsh, its own start taken off.
fn volume(daemon: &Daemon, command: &str) -> f64 {
    const MIB: usize = 64;
    let (pool, file) = (daemon.folder().join("pool"), daemon.folder().join("volume.img"));
    let written = fs::create_dir(&pool).and_then(|()| fs::write(&file, vec![1; MIB << 20]));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (pool, file) = (pool.to_string_lossy(), file.to_string_lossy());
    daemon.virsh_ok(SYSTEM, &["pool-create-as", "measured", "dir", "--target", &pool]);
    daemon.virsh_ok(SYSTEM, &["vol-create-as", "measured", "volume", &format!("{MIB}M")]);
    let own = Instant::now();
    daemon.virsh_ok(SYSTEM, &["vol-info", "volume", "measured"]);
    let own = own.elapsed();
    let begin = Instant::now();
    daemon.virsh_ok(SYSTEM, &[command, "volume", &file, "--pool", "measured"]);
    MIB as f64 / begin.elapsed().saturating_sub(own).as_secs_f64()
}

/// Milliseconds until a guest runs, and until it is off again.
fn life(daemon: &Daemon) -> (f64, f64) {
    let image = daemon.folder().join("lib/images/guest.img");
    guest::write_image(&image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
    let inside = std::path::Path::new("/var/lib/libvirt/images/guest.img");
    let mut peer = peer(daemon, SYSTEM);
    let xml_desc = guest::domain_xml("measured", inside);
    let (mut created, mut destroyed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let begin = Instant::now();
        let args = DomainCreateXmlArgs { xml_desc: xml_desc.as_str().into(), flags: 0 };
        let made: Result<DomainCreateXmlRet, _> = peer.ask(Procedure::DOMAIN_CREATE_XML, &args);
        let dom = made.unwrap_or_else(|error| panic!("{error}")).dom;
        created.push(ms(begin.elapsed()));
        let begin = Instant::now();
        let ended = peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom });
        ended.unwrap_or_else(|error| panic!("{error}"));
        destroyed.push(ms(begin.elapsed()));
    }
    (median(&created), median(&destroyed))
}

/// Milliseconds from the daemon's death until the one after it has all definitions and guests.
fn restart(_: &Tools, daemon: &Daemon) -> f64 {
    const DEFINED: usize = 1000;
    const RUNNING: usize = 20;
    /// `VIR_DOMAIN_START_PAUSED`, `VIR_CONNECT_LIST_DOMAINS_ACTIVE`
    const PAUSED: u32 = 1;
    const ACTIVE: u32 = 1;
    let mut client = peer(daemon, SYSTEM);
    for number in 0..DEFINED {
        let args = DomainDefineXmlArgs { xml: xml("qemu", &format!("measured-{number}")).into() };
        let defined: Result<DomainDefineXmlRet, _> = client.ask(Procedure::DOMAIN_DEFINE_XML, &args);
        let dom = defined.unwrap_or_else(|error| panic!("{error}")).dom;
        if number < RUNNING {
            let args = DomainCreateWithFlagsArgs { dom, flags: PAUSED };
            let started: Result<DomainCreateWithFlagsRet, _> =
                client.ask(Procedure::DOMAIN_CREATE_WITH_FLAGS, &args);
            started.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let known = |flags| {
        let mut client = Peer::connect(&daemon.socket())?;
        client.open(SYSTEM)?;
        let args = ConnectListAllDomainsArgs { need_results: 0, flags };
        let list: ConnectListAllDomainsRet = client.ask(Procedure::CONNECT_LIST_ALL_DOMAINS, &args)?;
        Ok::<_, PeerError>(list.ret as usize)
    };
    let old = daemon.daemon_pid();
    process::run(Command::new("kill").args(["-9", &old.to_string()]));
    let begin = Instant::now();
    while known(ACTIVE).ok() != Some(RUNNING) || known(0).ok() != Some(DEFINED) {
        assert!(begin.elapsed() < PATIENCE, "the next daemon does not find them");
    }
    ms(begin.elapsed())
}
