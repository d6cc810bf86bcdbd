//! What Prometheus gets.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virtwire_driver_api::{CallCx, Connection, Driver, async_trait};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;
use virtwired::config::Settings;

use crate::limits::Running;
use crate::toy::Toy;

/// The toy, for clients who name no URI.
struct First(Arc<Toy>);

#[async_trait]
impl Driver for First {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn default_uri(&self) -> Option<String> {
        Some("toy:///".into())
    }

    async fn open(&self, cx: &CallCx, uri: &str) -> Result<Connection, VirtError> {
        self.0.open(cx, uri).await
    }
}

pub(crate) async fn ask(socket: &Path, request: &[u8]) -> String {
    let mut socket = UnixStream::connect(socket).await.unwrap();
    // It may be closed before all of a bad request has been read.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn calls_errors_clients_and_guests_are_counted() {
    let first = Arc::new(First(Toy::new()));
    let daemon = Running::with_drivers("metrics", vec![first], |config| {
        let path = config.socket.with_file_name("metrics").display().to_string();
        config.with(Settings { metrics_address: Some(path), ..Settings::default() }).unwrap()
    });
    let socket = daemon.dir.join("metrics");
    let mut peer = daemon.connect("libvirt-sock").await;
    peer.open_toy().await;
    for _ in 0..3 {
        peer.call(Procedure::CONNECT_GET_LIB_VERSION, &()).await.decode::<ConnectGetLibVersionRet>();
    }
    let args = DomainLookupByNameArgs { name: "nobody".into() };
    assert_eq!(peer.call(Procedure::DOMAIN_LOOKUP_BY_NAME, &args).await.error().0, 42);

    let text = ask(&socket, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    let version = "program=\"remote\",procedure=\"CONNECT_GET_LIB_VERSION\"";
    let lookup = "program=\"remote\",procedure=\"DOMAIN_LOOKUP_BY_NAME\"";
    for line in [
        &format!("virtwired_call_duration_seconds_count{{{version}}} 3"),
        &format!("virtwired_call_duration_seconds_bucket{{{version},le=\"+Inf\"}} 3"),
        &format!("virtwired_call_errors_total{{{version}}} 0"),
        &format!("virtwired_call_errors_total{{{lookup}}} 1"),
        "virtwired_clients{server=\"libvirtd\"} 1",
        "virtwired_clients{server=\"admin\"} 0",
        "virtwired_clients_unauthenticated{server=\"libvirtd\"} 0",
        "virtwired_clients_max{server=\"libvirtd\"} 5000",
        "virtwired_backlog_bytes{server=\"libvirtd\"} 0",
        "virtwired_logins_refused_total 0",
        "virtwired_limit_reached_total{server=\"libvirtd\",limit=\"max_clients\"} 0",
        "virtwired_domains{driver=\"toy\",state=\"running\"} 2",
        "virtwired_domains{driver=\"toy\",state=\"shut off\"} 1",
        "virtwired_domains{driver=\"toy\",state=\"crashed\"} 0",
        "# TYPE virtwired_call_duration_seconds histogram",
    ] {
        assert!(body.lines().any(|found| found == line), "no line {line} in\n{body}");
    }
    assert!(!body.contains("DOMAIN_RESET"), "nobody has called it");
    drop(peer);

    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405"),
        (b"\r\n\r\n", "HTTP/1.1 405"),
        (&[b'x'; 100_000], ""),
    ] {
        let answer = ask(&socket, request).await;
        assert_eq!(answer.get(..12.min(answer.len())).unwrap_or_default(), status);
    }
    daemon.end().await;
    assert!(!socket.exists());
}
