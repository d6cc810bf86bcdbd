//! What thousands of clients cost a daemon, as it runs outside of tests.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use virtwire_protocol::codec::Encode;
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus};
use virtwire_protocol::remote::{self, ConnectOpenArgs, Procedure};

use crate::host::Host;

/// Clients that stay, and how many bytes each may cost the daemon.
const IDLE: usize = 5_000;
const EACH: usize = 12 << 10;
/// Connections that come and go.
const STORM: usize = 20_000;

/// Lets this process, and the daemon that it starts, have so many descriptors. Says whether it can.
fn descriptors(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= count);
    enough(limit.current)
        || setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok()
            && enough(limit.maximum)
}

/// A call and its answer, on a socket that waits.
fn call(socket: &mut UnixStream, procedure: Procedure, args: &impl Encode) {
    let header = MessageHeader {
        prog: remote::PROGRAM.number,
        vers: 1,
        proc: procedure.0,
        ..MessageHeader::default()
    };
    socket.write_all(&frame::encode(&header, 0, args).unwrap()).unwrap();
    let mut word = [0; 4];
    socket.read_exact(&mut word).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(word) as usize - 4];
    socket.read_exact(&mut answer).unwrap();
    // The header's last word.
    assert_eq!(answer[20..24], MessageStatus::OK.0.to_be_bytes());
}

fn open(socket: &Path) -> UnixStream {
    let mut socket = UnixStream::connect(socket).unwrap();
    call(&mut socket, Procedure::AUTH_LIST, &());
    call(
        &mut socket,
        Procedure::CONNECT_OPEN,
        &ConnectOpenArgs { name: Some("test:///default".into()), flags: 0 },
    );
    call(&mut socket, Procedure::CONNECT_GET_LIB_VERSION, &());
    socket
}

/// Bytes of memory that a process has for itself.
fn memory(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: usize| kilobytes << 10)
}

fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until the daemon has no client, as its metrics say.
fn wait_for_none(metrics: &Path) {
    loop {
        let mut socket = UnixStream::connect(metrics).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        if text.contains("virtwired_clients{server=\"libvirtd\"} 0\n") {
            return;
        }
    }
}

fn daemon(name: &str) -> (Host, u32, PathBuf, PathBuf) {
    let mut host = Host::new(name);
    let (socket, metrics) = (host.dir.join("libvirt-sock"), host.dir.join("metrics"));
    let settings = format!("max_clients = 10000\nmetrics_address = \"{}\"\n", metrics.display());
    let pid = host.virtwired(&settings, &[]);
    (host, pid, socket, metrics)
}

#[test]
fn class_memory_an_idle_client_costs_no_more_than_twelve_kibibytes() {
    if !descriptors(IDLE as u64 + 2_000) {
        return virtwire_skip::without_program("too few descriptors per process here");
    }
    let (_host, pid, socket, metrics) = daemon("idle");
    // What the first clients make the daemon allocate is not theirs.
    let mut clients: Vec<_> = (0..500).map(|_| open(&socket)).collect();
    let before = memory(pid);
    clients.extend((0..IDLE).map(|_| open(&socket)));
    let each = memory(pid).saturating_sub(before) / IDLE;
    println!("{each} bytes for each of {IDLE} idle clients");
    assert!(each <= EACH, "{each} bytes each");
    // All of them are still served.
    for client in &mut clients {
        call(client, Procedure::CONNECT_GET_LIB_VERSION, &());
    }
    drop(clients);
    wait_for_none(&metrics);
}

#[test]
fn class_memory_a_storm_of_connections_leaves_nothing_behind() {
    if !descriptors(2_000) {
        return virtwire_skip::without_program("too few descriptors per process here");
    }
    let (_host, pid, socket, metrics) = daemon("storm");
    let storm = |count: usize| {
        for number in 0..count {
            let mut client = UnixStream::connect(&socket).unwrap();
            match number % 4 {
                // Gone before, while and after it says something.
                0 => {}
                1 => client.write_all(&[0, 0, 0]).unwrap(),
                2 => call(&mut client, Procedure::AUTH_LIST, &()),
                _ => drop(open(&socket)),
            }
        }
        wait_for_none(&metrics);
    };
    storm(STORM / 4);
    let (memory_before, descriptors_before) = (memory(pid), open_descriptors(pid));
    storm(STORM);
    let more = memory(pid).saturating_sub(memory_before);
    println!("{more} bytes more after {STORM} connections");
    assert!(more <= 512 << 10, "{more} bytes more after {STORM} connections");
    assert!(open_descriptors(pid) <= descriptors_before + 2);
}
