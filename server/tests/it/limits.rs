//! What a connection may cost, each limit at its edge.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use virtwire_driver_api::Driver;
use virtwire_protocol::remote::*;
use virtwired::config::{self, Settings};
use virtwired::log::Log;
use virtwired::{Access, Config, Daemon, Limits, Service};

use crate::peer::Peer;
use crate::toy::Toy;

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_dropped() {
    let limits = Limits { auth_timeout: Some(Duration::from_millis(30)), ..Limits::default() };
    let mut silent = Peer::new(Access::ReadWrite, limits.clone());
    assert!(silent.receive().await.is_none());
    silent.served.await.unwrap();
    // Who has is not.
    let mut known = Peer::open_with(Access::ReadWrite, limits).await;
    let slow =
        known.send(Procedure::DOMAIN_SUSPEND, &DomainSuspendArgs { dom: crate::toy::domain("a") }).await;
    assert!(tokio::time::timeout(Duration::from_millis(90), known.receive()).await.is_err());
    known.toy.gate.add_permits(1);
    assert_eq!(known.receive().await.unwrap().header.serial, slow.serial);
}

#[tokio::test]
async fn one_more_unauthenticated_client_than_allowed_drops_the_oldest() {
    let toy = Toy::new();
    let limits = Limits { anonymous_clients: 2, ..Limits::default() };
    let service = Service::new(vec![toy.clone()], limits);
    let mut known = Peer::at(&service, toy.clone(), Access::ReadWrite);
    known.call(Procedure::AUTH_LIST, &()).await.decode::<AuthListRet>();
    let mut first = Peer::at(&service, toy.clone(), Access::ReadWrite);
    let mut second = Peer::at(&service, toy.clone(), Access::ReadWrite);
    // Two are allowed, beside those that have authenticated.
    for peer in [&mut first, &mut second] {
        assert_eq!(peer.call(Procedure::CONNECT_CLOSE, &()).await.error().0, 39);
    }
    let mut third = Peer::at(&service, toy, Access::ReadWrite);
    assert!(first.receive().await.is_none());
    for peer in [&mut second, &mut third, &mut known] {
        peer.call(Procedure::AUTH_LIST, &()).await.decode::<AuthListRet>();
    }
}

/// A daemon with sockets in a directory of its own.
pub(crate) struct Running {
    pub(crate) dir: std::path::PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn new(name: &str, limits: Limits) -> Self {
        Self::with(name, |config| Config { limits, ..config })
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(Config) -> Config) -> Self {
        Self::with_drivers(name, vec![Toy::new()], change)
    }

    pub(crate) fn with_drivers(
        name: &str,
        drivers: Vec<Arc<dyn Driver>>,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let dir = std::env::temp_dir().join(format!("virtwired-{}-{name}", std::process::id()));
        let config = change(Config::in_dir(dir.clone()));
        let daemon = Daemon::bind(&config, drivers, Log::new(None)).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(daemon.run(async {
            let _ = stopped.await;
        }));
        Self { dir, stop: Some(stop), task }
    }

    pub(crate) async fn connect(&self, socket: &str) -> Peer {
        Peer::on(UnixStream::connect(self.dir.join(socket)).await.unwrap())
    }

    pub(crate) async fn end(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
        assert!(!Path::new(&self.dir.join("libvirt-sock")).exists());
        std::fs::remove_dir(&self.dir).unwrap();
    }
}

pub(crate) async fn is_served(peer: &mut Peer) -> bool {
    peer.send(Procedure::AUTH_LIST, &()).await;
    tokio::time::timeout(Duration::from_millis(200), peer.receive()).await.is_ok_and(|reply| reply.is_some())
}

#[tokio::test]
async fn the_client_over_the_limit_waits_until_another_leaves() {
    let daemon = Running::new("full", Limits { clients: 2, ..Limits::default() });
    let (mut first, mut second) =
        (daemon.connect("libvirt-sock").await, daemon.connect("libvirt-sock").await);
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    let mut third = daemon.connect("libvirt-sock").await;
    assert!(!is_served(&mut third).await);
    drop(first);
    assert!(third.receive().await.is_some());
    // The administration has places of its own.
    drop((second, third));
    daemon.end().await;
}

#[tokio::test]
async fn read_only_clients_leave_room_for_the_others() {
    // Of ten places one is kept.
    let daemon = Running::new("reserve", Limits { clients: 10, anonymous_clients: 0, ..Limits::default() });
    let mut lookers = Vec::new();
    for _ in 0..9 {
        let mut peer = daemon.connect("libvirt-sock-ro").await;
        assert!(is_served(&mut peer).await);
        lookers.push(peer);
    }
    let mut tenth = daemon.connect("libvirt-sock-ro").await;
    assert!(!is_served(&mut tenth).await);
    let mut operator = daemon.connect("libvirt-sock").await;
    assert!(is_served(&mut operator).await);
    drop((lookers, tenth, operator));
    daemon.end().await;
}

#[tokio::test]
async fn class_paths_sockets_have_the_modes_that_they_should() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Running::new("modes", Limits::default());
    for (socket, mode) in [("libvirt-sock", 0o700), ("libvirt-sock-ro", 0o777), ("libvirt-admin-sock", 0o700)]
    {
        let found = std::fs::metadata(daemon.dir.join(socket)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{socket}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn class_memory_registrations_have_a_limit() {
    let mut peer = Peer::open_with(Access::ReadWrite, Limits { registrations: 2, ..Limits::default() }).await;
    let register = |event_id| ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom: None };
    for event in [0, 1] {
        peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &register(event))
            .await
            .decode::<ConnectDomainEventCallbackRegisterAnyRet>();
    }
    let refused = peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &register(2)).await;
    assert_eq!(refused.error(), (1, 7, "internal error: too many event callbacks".into()));
}

/// What the metrics say of a limit.
pub(crate) async fn reached(daemon: &Running, limit: &str) -> u64 {
    let text = crate::metrics::ask(&daemon.dir.join("metrics"), b"GET /metrics HTTP/1.1\r\n\r\n").await;
    let start = format!("virtwired_limit_reached_total{{server=\"libvirtd\",limit=\"{limit}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
}

/// Each limit is set low in the file, and a client goes to its edge and one beyond it.
#[tokio::test]
async fn every_limit_is_set_by_the_file_and_counted_where_it_is_reached() {
    let text = "max_clients = 3\nmax_anonymous_clients = 1\nauth_timeout = 1\nmax_client_requests = 2\n\
                max_client_registrations = 1\nmax_anonymous_message = 1024\nmax_client_event_backlog = 1000\n\
                keepalive_interval = 1\nkeepalive_count = 1\n";
    let (settings, _) = Settings::from_assignments(&config::parse(text).unwrap()).unwrap();
    let daemon = Running::with("counted", |config| {
        let path = config.socket.with_file_name("metrics").display().to_string();
        config.with(Settings { metrics_address: Some(path), ..settings }).unwrap()
    });
    let mut known = daemon.connect("libvirt-sock").await;
    known.open_toy().await;
    for limit in [
        "max_clients",
        "max_anonymous_clients",
        "auth_timeout",
        "max_client_requests",
        "max_client_registrations",
        "max_client_event_backlog",
        "frame",
        "keepalive_count",
    ] {
        assert_eq!(reached(&daemon, limit).await, 0, "{limit}");
    }

    let register = |event_id| ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom: None };
    let procedure = Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY;
    known.call(procedure, &register(0)).await.decode::<ConnectDomainEventCallbackRegisterAnyRet>();
    assert_eq!(reached(&daemon, "max_client_registrations").await, 0);
    assert_eq!(known.call(procedure, &register(1)).await.error().0, 1);
    assert_eq!(reached(&daemon, "max_client_registrations").await, 1);

    // The first who has not authenticated goes for the second, who is given up when its time is over.
    let mut first = daemon.connect("libvirt-sock").await;
    assert!(is_refused(&mut first).await);
    let mut second = daemon.connect("libvirt-sock").await;
    assert!(is_refused(&mut second).await);
    assert!(first.receive().await.is_none());
    assert_eq!(reached(&daemon, "max_anonymous_clients").await, 1);
    assert!(second.receive().await.is_none());
    assert_eq!(reached(&daemon, "auth_timeout").await, 1);

    // The length word itself counts.
    let mut long = daemon.connect("libvirt-sock").await;
    long.write(&1024_u32.to_be_bytes()).await;
    assert_eq!(reached(&daemon, "frame").await, 0);
    drop(long);
    let mut long = daemon.connect("libvirt-sock").await;
    long.write(&1025_u32.to_be_bytes()).await;
    assert!(long.receive().await.is_none());
    assert_eq!(reached(&daemon, "frame").await, 1);

    // Two calls may wait.
    let call = DomainSuspendArgs { dom: crate::toy::domain("a") };
    known.send(Procedure::DOMAIN_SUSPEND, &call).await;
    assert_eq!(reached(&daemon, "max_client_requests").await, 0);
    known.send(Procedure::DOMAIN_SUSPEND, &call).await;
    while reached(&daemon, "max_client_requests").await == 0 {
        tokio::task::yield_now().await;
    }
    drop(known);

    let mut silent = daemon.connect("libvirt-sock").await;
    silent.authenticate().await;
    let feature = ConnectSupportsFeatureArgs { feature: 10 };
    silent.call(Procedure::CONNECT_SUPPORTS_FEATURE, &feature).await;
    while silent.receive().await.is_some() {}
    assert_eq!(reached(&daemon, "keepalive_count").await, 1);
    daemon.end().await;
}

/// Whether a client that has not authenticated is told so.
async fn is_refused(peer: &mut Peer) -> bool {
    peer.call(Procedure::CONNECT_CLOSE, &()).await.error().0 == 39
}
