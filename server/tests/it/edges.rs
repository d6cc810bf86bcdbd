//! Limits at their edge that need more than one client, or a driver that takes its time: what waits, what goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UnixStream;
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::{admin, remote::*};
use virtwired::config::Settings;
use virtwired::{Access, Config, Limits};

use crate::limits::{Running, is_served, reached};
use crate::metrics::ask;
use crate::peer::Peer;
use crate::toy::{Toy, domain};

/// A daemon with settings of its own, which are counted.
fn counted(name: &str, toy: &Arc<Toy>, settings: Settings) -> Running {
    Running::with_drivers(name, vec![toy.clone()], |config| {
        let path = config.socket.with_file_name("metrics").display().to_string();
        config.with(Settings { metrics_address: Some(path), ..settings }).unwrap()
    })
}

/// Whether nothing comes for a client for a moment.
async fn is_silent(peer: &mut Peer) -> bool {
    tokio::time::timeout(Duration::from_millis(100), peer.receive()).await.is_err()
}

/// A call with so many bytes of arguments: a text with its length before it.
fn define(bytes: usize) -> DomainDefineXmlArgs {
    DomainDefineXmlArgs { xml: "x".repeat(bytes - 4).as_str().into() }
}

#[tokio::test]
async fn a_large_call_keeps_nobody_waiting_but_the_next_large_one() {
    let toy = Toy::new();
    let daemon = counted("large", &toy, Settings { max_large_calls: 1, ..Settings::default() });
    let (mut hostile, mut other) =
        (daemon.connect("libvirt-sock").await, daemon.connect("libvirt-sock").await);
    hostile.open_toy().await;
    other.open_toy().await;
    // The driver holds its thread, as if it were reading for ever. There is one thread for all clients here.
    let first = hostile.send(Procedure::DOMAIN_DEFINE_XML, &define(100_000)).await;
    while toy.begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let second = other.send(Procedure::DOMAIN_DEFINE_XML, &define(100_000)).await;
    while reached(&daemon, "max_large_calls").await == 0 {
        tokio::task::yield_now().await;
    }
    assert!(hostile.is_alive().await && other.is_alive().await);
    assert_eq!(toy.begun.load(Ordering::SeqCst), 1);
    for (peer, call) in [(&mut hostile, first), (&mut other, second)] {
        toy.let_go();
        assert_eq!(peer.receive().await.unwrap().header.serial, call.serial);
    }
    assert_eq!(toy.begun.load(Ordering::SeqCst), 2);
    drop((hostile, other));
    daemon.end().await;
}

#[tokio::test]
async fn a_call_may_have_so_many_arguments_and_no_more() {
    let toy = Toy::new();
    let daemon = counted("arguments", &toy, Settings { max_call_arguments: 70_000, ..Settings::default() });
    let mut peer = daemon.connect("libvirt-sock").await;
    peer.open_toy().await;
    let error = peer.call(Procedure::DOMAIN_DEFINE_XML, &define(70_004)).await.error();
    assert_eq!(error, (39, 7, "arguments of 70004 bytes are too many, 70000 are allowed".into()));
    assert_eq!(reached(&daemon, "max_call_arguments").await, 1);
    toy.let_go();
    peer.call(Procedure::DOMAIN_DEFINE_XML, &define(70_000)).await.decode::<DomainDefineXmlRet>();
    assert_eq!(reached(&daemon, "max_call_arguments").await, 1);
    drop(peer);
    daemon.end().await;
}

#[tokio::test]
async fn a_driver_that_is_behind_with_an_upload_is_waited_for() {
    let upload = StorageVolUploadArgs { offset: 1, ..Default::default() };
    // Ten pieces of this size, and what is on its way between client and driver.
    let (piece, ten) = ([b'x'; 936], 10 * 1000);
    let mut peer =
        Peer::open_with(Access::ReadWrite, Limits { stream_backlog: ten, ..Limits::default() }).await;
    let call = peer.send(Procedure::STORAGE_VOL_UPLOAD, &upload).await;
    peer.receive().await.unwrap().decode::<()>();
    for _ in 0..10 {
        peer.stream(&call, MessageStatus::CONTINUE, &piece).await;
    }
    assert!(peer.is_alive().await);
    for _ in 0..10 {
        peer.stream(&call, MessageStatus::CONTINUE, &piece).await;
    }
    let waits = peer.send(Procedure::CONNECT_GET_LIB_VERSION, &()).await;
    assert!(is_silent(&mut peer).await);
    peer.toy.gate.add_permits(1);
    assert_eq!(peer.receive().await.unwrap().header.serial, waits.serial);
}

/// What the metrics say of bytes that clients have not taken.
async fn backlog(daemon: &Running) -> usize {
    let text = ask(&daemon.dir.join("metrics"), b"GET /metrics HTTP/1.1\r\n\r\n").await;
    let start = "virtwired_backlog_bytes{server=\"libvirtd\"} ";
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_does_not_take_its_answers_is_not_read_until_it_does() {
    let toy = Toy::new();
    let limit = 1 << 16;
    let daemon = counted("backlog", &toy, Settings { max_client_backlog: limit, ..Settings::default() });
    let (mut peer, mut other) = (daemon.connect("libvirt-sock").await, daemon.connect("libvirt-sock").await);
    peer.open_toy().await;
    let args = DomainScreenshotArgs { dom: domain("a"), screen: 0, flags: 0 };
    peer.send(Procedure::DOMAIN_SCREENSHOT, &args).await;
    while backlog(&daemon).await < limit as usize {
        tokio::task::yield_now().await;
    }
    let call = peer.send(Procedure::DOMAIN_SUSPEND, &DomainSuspendArgs { dom: domain("a") }).await;
    assert!(is_served(&mut other).await);
    assert_eq!(toy.begun.load(Ordering::SeqCst), 0);
    // It takes them.
    toy.gate.add_permits(1);
    while peer.receive().await.unwrap().header.serial != call.serial {}
    assert_eq!(toy.begun.load(Ordering::SeqCst), 1);
    drop((peer, other));
    daemon.end().await;
}

/// How many clients the kernel lets wait for a daemon that has no room.
async fn queued(name: &str, places: u32) -> usize {
    let daemon = Running::with(name, |config| Config {
        limits: Limits { clients: 1, queued_clients: places, ..Limits::default() },
        ..config
    });
    let mut first = daemon.connect("libvirt-sock").await;
    assert!(is_served(&mut first).await);
    let mut waiting = Vec::new();
    let refused = loop {
        match UnixStream::connect(daemon.dir.join("libvirt-sock")).await {
            Ok(socket) => waiting.push(Peer::on(socket)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    let count = waiting.len();
    // Each has its turn when the one before has left.
    drop(first);
    for mut peer in waiting {
        assert!(is_served(&mut peer).await);
    }
    daemon.end().await;
    count
}

#[tokio::test]
async fn so_many_clients_wait_in_the_queue_and_each_has_its_turn() {
    let (few, more) = (queued("queue-2", 2).await, queued("queue-7", 7).await);
    // Linux lets one more in than it is told, and the daemon may have one in its hand.
    assert!((3..=4).contains(&few) && more == few + 5, "{few}, {more}");
}

/// A call of the administration.
async fn asks_admin(peer: &mut Peer) {
    let header = MessageHeader {
        prog: admin::PROGRAM.number,
        r#type: MessageType::CALL,
        ..peer.header(admin::Procedure::CONNECT_GET_LIB_VERSION.0)
    };
    peer.write(&frame::encode(&header, 0, &()).unwrap()).await;
}

#[tokio::test]
async fn the_administration_has_places_of_its_own_and_no_more_than_it_is_given() {
    let settings = Settings { max_clients: 20, admin_max_clients: 1, ..Settings::default() };
    let daemon = Running::with("admins", |config| config.with(settings).unwrap());
    let mut first = daemon.connect("libvirt-admin-sock").await;
    asks_admin(&mut first).await;
    assert_eq!(first.receive().await.unwrap().header.status, MessageStatus::OK);
    let mut second = daemon.connect("libvirt-admin-sock").await;
    asks_admin(&mut second).await;
    assert!(is_silent(&mut second).await);
    let mut client = daemon.connect("libvirt-sock").await;
    assert!(is_served(&mut client).await);
    drop(first);
    assert_eq!(second.receive().await.unwrap().header.status, MessageStatus::OK);
    drop((second, client));
    daemon.end().await;
}

/// Each setting of the administration's limits is the administration's, and no other client's.
#[test]
fn limits_of_the_administration_are_set_by_its_own_settings() {
    let settings = Settings {
        admin_max_clients: 2,
        admin_max_queued_clients: 3,
        admin_max_client_requests: 4,
        admin_keepalive_interval: 6,
        admin_keepalive_count: 7,
        ..Settings::default()
    };
    let (admin, remote) = (Limits::admin(&settings), Limits::from(&settings));
    let those = |limits: &Limits| {
        let interval = limits.keepalive_interval.unwrap().as_secs();
        (limits.clients, limits.queued_clients, limits.client_requests, interval, limits.keepalive_count)
    };
    assert_eq!((those(&admin), those(&remote)), ((2, 3, 4, 6, 7), (5000, 1000, 5, 5, 5)));
}

/// Scrapes of metrics that say nothing are four at most, each for five seconds; the others wait for a place.
#[tokio::test]
async fn a_fifth_scrape_waits_until_one_has_gone() {
    let daemon = counted("scrapes", &Toy::new(), Settings::default());
    let path = daemon.dir.join("metrics");
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let scrape = tokio::spawn(async move { ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n").await });
    let mut client = daemon.connect("libvirt-sock").await;
    assert!(is_served(&mut client).await && !scrape.is_finished());
    silent.pop();
    assert!(scrape.await.unwrap().contains("200 OK"));
    drop((silent, client));
    daemon.end().await;
}
