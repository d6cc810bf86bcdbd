//! What many clients, hostile clients and TLS cost: virtwired's floors, beside libvirtd where the floor is a ratio.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use virtwire_client::Connection;
use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_protocol::net::MessageType;
use virtwire_protocol::remote::{
    self, ConnectDomainEventCallbackRegisterAnyArgs, DomainDefineXmlArgs, Procedure,
};

use crate::bench::{load_generator, load_with, median};
use crate::clients::URI;
use crate::daemon::Daemon;
use crate::folder::Folder;
use crate::process;

/// Connections that are made and closed in the storm.
const STORM: usize = 20_000;

/// A floor, what was measured, and whether it holds.
#[derive(Clone, Debug)]
pub struct Floor {
    /// What is measured, and what it should be.
    pub what: String,
    /// The figures, in words.
    pub figures: String,
    /// Whether the floor holds.
    pub holds: bool,
}

fn floor(what: impl Into<String>, figures: String, holds: bool) -> Floor {
    Floor { what: what.into(), figures, holds }
}

/// Measures everything, in `rounds` turns of so many seconds for each load; tells each floor as soon as it is known.
///
/// # Panics
/// If a daemon or a load fails.
pub fn run(rounds: usize, seconds: &str, tell: impl Fn(Floor)) {
    let folder = Folder::new();
    let generator = load_generator(&folder);
    crate::daemon::virtwired();
    tell(crowd(rounds, seconds));
    tell(tls(&generator, &folder, rounds, seconds));
    tell(storm());
    for (name, attack) in ATTACKS {
        let daemon = Daemon::virtwired();
        let (p99, done) = beside(&generator, &daemon, seconds, *attack);
        let figures = format!("{:.1} ms; {done} rounds of it meanwhile", p99 / 1e3);
        tell(floor(format!("another client's p99 beside {name}: ≤ 5 ms"), figures, p99 <= 5e3));
    }
}

/// Many that are busy. One thread is all of them: of as many threads as clients, on a few processors, each would wait
/// for a processor much longer than for the daemon.
fn crowd(rounds: usize, seconds: &str) -> Floor {
    let time = Duration::from_secs_f64(seconds.parse().expect("seconds are a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let p99 = |daemon: Daemon| runtime.block_on(busy(&daemon.uri(URI), 500, time));
    let pairs = (0..rounds).map(|_| (p99(Daemon::libvirtd()), p99(Daemon::virtwired())));
    let (real, own): (Vec<_>, Vec<_>) = pairs.unzip();
    let ratio = median(&own.iter().zip(&real).map(|(own, real)| own / real).collect::<Vec<_>>());
    let figures =
        format!("{:.1} ms by libvirtd's {:.1} ms, {ratio:.2}", median(&own) / 1e3, median(&real) / 1e3);
    floor("500 active clients, p99: ≤ 0.3 × libvirtd's, every call answered", figures, ratio <= 0.3)
}

/// The 99th percentile in microseconds of what calls take of so many clients, each of which calls again once it has its
/// answer.
///
/// # Panics
/// If a call is not answered.
async fn busy(uri: &str, clients: usize, time: Duration) -> f64 {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(uri).await.expect("there is room for all"));
    }
    let (end, mut calls) = (Instant::now() + time, JoinSet::new());
    for connection in connections {
        calls.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                connection.connect_get_lib_version().await.expect("every call is answered");
                took.push(begin.elapsed().as_secs_f64() * 1e6);
            }
            took
        });
    }
    let mut took = calls.join_all().await.concat();
    took.sort_by(f64::total_cmp);
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

/// Large replies over one TLS connection.
fn tls(generator: &Path, folder: &Folder, rounds: usize, seconds: &str) -> Floor {
    const PKI: &str = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out cacert.pem -days 2 -subj /CN=ca
        echo subjectAltName=DNS:localhost >ext
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -keyout ${name}key.pem -out $name.csr -subj /CN=localhost
            openssl x509 -req -in $name.csr -CA cacert.pem -CAkey ca.key -CAcreateserial -out ${name}cert.pem \\
                -days 2 -extfile ext
        done";
    let made = process::run(Command::new("sh").args(["-ec", PKI]).current_dir(&**folder));
    assert!(made.status.success(), "{}", made.text);
    let file = |name: &str| folder.join(name).display().to_string();
    let settings = format!(
        "listen_addr = \"127.0.0.1\"\nkey_file = \"{}\"\ncert_file = \"{}\"\nca_file = \"{}\"\nauth_unix_rw = \"none\"\n",
        file("serverkey.pem"),
        file("servercert.pem"),
        file("cacert.pem")
    );
    let uri = format!("test+tls://localhost/default?pkipath={}", folder.display());
    let rate = |daemon: Daemon| {
        let mut within = Command::new("nsenter");
        within.args(["-t", &daemon.daemon_pid().to_string(), "-n"]).arg(generator);
        load_with(&mut within, &uri, "list-all-domains", ["1", seconds, "1000"]).rate
    };
    let pairs = (0..rounds).map(|_| {
        let real = rate(Daemon::listening(Path::new("libvirtd"), &settings));
        (real, rate(Daemon::listening(&crate::daemon::virtwired(), &settings)))
    });
    let (real, own): (Vec<_>, Vec<_>) = pairs.unzip();
    let ratio = median(&own.iter().zip(&real).map(|(own, real)| own / real).collect::<Vec<_>>());
    let figures =
        format!("{:.0} lists of 1,000 a second by libvirtd's {:.0}, {ratio:.2}", median(&own), median(&real));
    floor("TLS, one connection, throughput: ≥ 1 × libvirtd's", figures, ratio >= 1.0)
}

/// Connections that come, open the hypervisor, and go.
fn storm() -> Floor {
    let daemon = Daemon::virtwired();
    let visits = |count: usize| {
        for _ in 0..count {
            let mut peer = Peer::connect(&daemon.socket()).unwrap_or_else(|e| panic!("connect: {e}"));
            peer.open(URI).unwrap_or_else(|e| panic!("open: {e}"));
        }
    };
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.daemon_pid())).map_or(0, Iterator::count);
    visits(STORM / 10);
    let (memory, open) = (daemon.resident(), descriptors());
    visits(STORM);
    let (later, still) = (daemon.resident(), descriptors());
    let figures = format!("{memory} KiB and {open} descriptors, then {later} KiB and {still}");
    floor(
        format!("{STORM} connections made and closed: no leak"),
        figures,
        later <= memory + 1024 && still <= open + 2,
    )
}

/// What a hostile client does, once; it may be thrown out.
type Attack = fn(&Path) -> Result<(), PeerError>;

/// A connection that gives up when the daemon does not read: it would hang for ever where the daemon waits for it to read.
fn connect(socket: &Path) -> Result<Peer, PeerError> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    Ok(Peer::over(stream))
}

/// The classes of hostile clients.
const ATTACKS: &[(&str, Attack)] = &[
    ("connections that say nothing", |socket| connect(socket).map(drop)),
    ("lengths that nobody could mean", |socket| connect(socket)?.write(&[0xff; 64])),
    ("frames that announce much and bring little", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        peer.write(&(32u32 << 20).to_be_bytes())?;
        peer.write(&[0; 4096])
    }),
    ("calls without a pause, whose answers nobody reads", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        for _ in 0..2_000 {
            let header = peer.header(&remote::PROGRAM, Procedure::CONNECT_GET_CAPABILITIES.0);
            peer.send(&header, &[])?;
        }
        Ok(())
    }),
    ("arguments that do not decode", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        for _ in 0..200 {
            let header = peer.header(&remote::PROGRAM, Procedure::DOMAIN_DEFINE_XML.0);
            peer.send(&header, &[0xff; 1024])?;
            peer.reply(&header)?;
        }
        Ok(())
    }),
    ("streams that were never opened", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        for _ in 0..2_000 {
            let mut header = peer.header(&remote::PROGRAM, Procedure::DOMAIN_OPEN_CONSOLE.0);
            header.r#type = MessageType::STREAM;
            peer.send(&header, &[0; 4096])?;
        }
        Ok(())
    }),
    ("documents of a megabyte", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        let xml = "<domain>".repeat(128 << 10);
        peer.call(Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.as_str().into() }).map(drop)
    }),
    ("documents of four megabytes that are good", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        let all: String = (0..170_000).map(|n| format!("<a xmlns='urn:{n}'/>")).collect();
        let head = "<domain type='test'><name>large</name><memory>8192</memory><os><type>hvm</type></os>";
        let xml = format!("{head}<metadata>{all}</metadata></domain>");
        peer.call(Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.as_str().into() }).map(drop)
    }),
    ("registrations for events", |socket| {
        let mut peer = connect(socket)?;
        peer.open(URI)?;
        let args = ConnectDomainEventCallbackRegisterAnyArgs { event_id: 0, dom: None };
        for _ in 0..2_000 {
            peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &args)?;
        }
        Ok(())
    }),
];

/// Another client's p99 in microseconds while one client attacks as fast as it can, and how often it did.
fn beside(generator: &Path, daemon: &Daemon, seconds: &str, attack: Attack) -> (f64, u64) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let socket = daemon.socket();
    let figures = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Being thrown out is what an attacker has to expect.
                let _ = attack(&socket);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut load = Command::new(generator);
        let figures = load_with(&mut load, &daemon.uri(URI), "lib-version", ["1", seconds, "0"]);
        stop.store(true, Ordering::Relaxed);
        figures
    });
    (figures.p99, done.load(Ordering::Relaxed))
}
