//! Our own client with our own daemon, beside what could be had without them.

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bare;
use crate::bench::{self, Row, load, load_generator};
use crate::daemon::Daemon;
use crate::folder::Folder;
use virtwire_client::{
    Chunk, Connect, Connection, StoragePoolCreateFlags, StorageVolCreateFlags, StorageVolDownloadFlags,
    StorageVolUploadFlags,
};
use virtwire_protocol::codec;
use virtwire_protocol::remote::{
    ConnectGetAllDomainStatsRet, ConnectGetAllDomainStatsRetRef, DomainStatsRecord, NonnullDomain, TypedParam,
};
use virtwire_trace::Attachment;

/// What a call without arguments and its answer with one number take on the wire.
const SIZES: (usize, usize) = (28, 36);
/// Calls under way at the same time.
const IN_FLIGHT: usize = 64;
/// Bytes of the volume that is downloaded.
const VOLUME: u64 = 256 << 20;
/// Guests whose figures are decoded, and figures of each.
const STATS: (i32, usize) = (10_000, 40);

/// Something to measure: what, with its unit; what it should be; how, with the load generator and seconds, the figure
/// beside ours first.
type Measure = (&'static str, &'static str, fn(&Path, f64) -> (f64, f64));

const ALL: &[Measure] = &[
    ("GetLibVersion: median latency, µs; two processes that only pass bytes", "≤ 1.6", latency),
    ("64 calls in flight, calls/s, with nobody listening to the trace; with somebody", "", traced),
    ("64 calls in flight on a connection, calls/s; C client, one connection", "≥ 8", flight),
    ("download of a volume, MiB/s; libvirtd", "≥ 1.5", |_, _| {
        (download(&Daemon::libvirtd()), download(&Daemon::private_virtwired()))
    }),
    (
        "guest under KVM: create until it runs, ms; a QEMU by itself with the same command line",
        "≤ 1.5",
        |_, _| bare::create(),
    ),
    ("10,000 guests' figures decoded, ms; every figure on the heap", "≤ 30 ms", |_, _| decoding()),
];

/// Measures, in `rounds` turns, whatever has `only` in its name; loads run for so many seconds.
///
/// # Panics
/// If a daemon, a load or a call fails.
pub fn run(rounds: usize, seconds: f64, only: &str) -> Vec<Row> {
    let folder = Folder::new();
    let generator = load_generator(&folder);
    let wanted = ALL.iter().filter(|(what, ..)| what.contains(only));
    let mut rows: Vec<_> = wanted.map(|(what, floor, how)| (Row::new(what, floor), how)).collect();
    for _ in 0..rounds {
        for (row, how) in &mut rows {
            let (beside, own) = how(&generator, seconds);
            row.libvirtd.push(beside);
            row.virtwired.push(own);
        }
    }
    rows.into_iter().map(|(row, _)| row).collect()
}

fn latency(_: &Path, seconds: f64) -> (f64, f64) {
    let time = Duration::from_secs_f64(seconds);
    let beside = ping_pong(time);
    let daemon = Daemon::virtwired();
    (beside, block_on(one_by_one(&daemon.uri("test:///default"), time)))
}

fn traced(_: &Path, seconds: f64) -> (f64, f64) {
    let daemon = Daemon::virtwired();
    let (uri, time) = (daemon.uri("test:///default"), Duration::from_secs_f64(seconds));
    let alone = block_on(in_flight(&uri, time));
    let (socket, (attached, ready)) = (daemon.socket_named("libvirt-admin-sock"), std::sync::mpsc::channel());
    let listener = std::thread::spawn(move || {
        block_on(async {
            let mut trace = Attachment::open(&socket).await.expect("the daemon tells");
            attached.send(()).expect("somebody waits");
            while let Ok(Some(_)) = trace.next().await {}
        });
    });
    ready.recv().expect("the listener is there");
    let heard = block_on(in_flight(&uri, time));
    drop(daemon);
    listener.join().expect("the trace ends with the daemon");
    (heard, alone)
}

fn flight(generator: &Path, seconds: f64) -> (f64, f64) {
    let daemon = Daemon::virtwired();
    let beside = load(generator, &daemon, "lib-version", ["1", &seconds.to_string(), "0"]).rate;
    let (uri, time) = (daemon.uri("test:///default"), Duration::from_secs_f64(seconds));
    (beside, block_on(in_flight(&uri, time)))
}

/// The other process of a ping-pong, at its standard input; ends with it.
pub fn pong() {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return };
    let mut socket = UnixStream::from(socket);
    let (mut call, reply) = ([0; SIZES.0], [0; SIZES.1]);
    while socket.read_exact(&mut call).is_ok() && socket.write_all(&reply).is_ok() {}
}

/// Median microseconds there and back between two processes.
fn ping_pong(time: Duration) -> f64 {
    let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
    let own = std::env::current_exe().expect("a program has a path");
    let mut command = Command::new(own);
    let mut child =
        command.arg("pong").stdin(Stdio::from(OwnedFd::from(theirs))).spawn().expect("it starts again");
    drop(command);
    let (call, mut reply) = ([0; SIZES.0], [0; SIZES.1]);
    let (begin, mut each) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let sent = Instant::now();
        ours.write_all(&call).and_then(|()| ours.read_exact(&mut reply)).expect("the other side answers");
        each.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    drop(ours);
    child.wait().expect("it ends");
    bench::median(&each)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

async fn one_by_one(uri: &str, time: Duration) -> f64 {
    let connection = Connection::open(uri).await.expect("the daemon answers");
    let (begin, mut each) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let sent = Instant::now();
        connection.connect_get_lib_version().await.expect("an answer");
        each.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    bench::median(&each)
}

/// Calls per second.
async fn in_flight(uri: &str, time: Duration) -> f64 {
    let connection = Connection::open(uri).await.expect("the daemon answers");
    let begin = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let connection = connection.clone();
        callers.spawn(async move {
            let mut calls = 0_u64;
            while begin.elapsed() < time {
                connection.connect_get_lib_version().await.expect("an answer");
                calls += 1;
            }
            calls
        });
    }
    let calls: u64 = callers.join_all().await.into_iter().sum();
    calls as f64 / begin.elapsed().as_secs_f64()
}

/// MiB per second of a volume without holes, by our client from any daemon.
fn download(daemon: &Daemon) -> f64 {
    let pool = daemon.folder().join("lib/bench");
    std::fs::create_dir_all(&pool).expect("the pool's folder");
    block_on(async {
        let connect = Connect::open(&daemon.uri("qemu:///system")).await.expect("the daemon answers");
        let seen = Path::new("/var/lib/libvirt/bench");
        let xml = format!(
            "<pool type='dir'><name>bench</name><target><path>{}</path></target></pool>",
            seen.display()
        );
        let pool = connect.create_storage_pool(&xml, StoragePoolCreateFlags::empty()).await.expect("a pool");
        let xml =
            format!("<volume><name>v</name><capacity>{VOLUME}</capacity><allocation>0</allocation></volume>");
        let volume = pool.create_volume(&xml, StorageVolCreateFlags::empty()).await.expect("a volume");
        let mut up =
            volume.upload(0, VOLUME, StorageVolUploadFlags::empty()).await.expect("an upload").into_io();
        let content = vec![0x5a; 1 << 20];
        for _ in 0..VOLUME >> 20 {
            tokio::io::AsyncWriteExt::write_all(&mut up, &content).await.expect("content goes up");
        }
        tokio::io::AsyncWriteExt::shutdown(&mut up).await.expect("the upload ends");
        let begin = Instant::now();
        let down = volume.download(0, 0, StorageVolDownloadFlags::empty()).await.expect("a download");
        let mut got = 0;
        while let Some(Chunk::Data(bytes)) = down.recv().await.expect("content comes down") {
            got += bytes.len() as u64;
        }
        assert_eq!(got, VOLUME);
        (VOLUME >> 20) as f64 / begin.elapsed().as_secs_f64()
    })
}

/// What `virConnectGetAllDomainStats` answers for so many guests.
pub fn figures(guests: i32, params: usize) -> Vec<u8> {
    let param = |index: usize| TypedParam::new(format!("block.{index}.rd.bytes"), index as u64);
    let record = |id| DomainStatsRecord {
        dom: NonnullDomain { name: format!("guest-{id}").into(), uuid: [7; 16], id },
        params: (0..params).map(param).collect(),
    };
    let ret = ConnectGetAllDomainStatsRet { ret_stats: (0..guests).map(record).collect() };
    codec::encode(&ret).expect("within its limits")
}

/// Milliseconds of one reply's decoding: as owned values, and in place.
fn decoding() -> (f64, f64) {
    let bytes = figures(STATS.0, STATS.1);
    let begin = Instant::now();
    let owned = codec::decode::<ConnectGetAllDomainStatsRet>(&bytes).expect("it decodes");
    let owned = (begin.elapsed(), owned.ret_stats.len());
    let begin = Instant::now();
    let borrowed = codec::decode::<ConnectGetAllDomainStatsRetRef<'_>>(&bytes).expect("it decodes");
    let borrowed = (begin.elapsed(), borrowed.ret_stats.len());
    assert_eq!(owned.1, borrowed.1);
    (owned.0.as_secs_f64() * 1e3, borrowed.0.as_secs_f64() * 1e3)
}
