//! `GET /metrics`, and nothing else of HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{exposition, guests};
use crate::listener::{Shared, bind};

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a listener that cannot accept waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);
/// How large a request may be.
const REQUEST: u64 = 8 << 10;
/// How many scrapes there may be at a time.
const SCRAPES: usize = 4;

/// Where metrics are asked for.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// At an address like `127.0.0.1:9177`, or at a unix socket where it is a path. That is its owner's alone.
    pub(crate) fn bind(address: &str) -> io::Result<Self> {
        if address.starts_with('/') {
            let path = Path::new(address);
            return Ok(Self::Unix(bind::unix(path, 0o600, None, SCRAPES as u32)?, path.to_owned()));
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(|| {
            let text = format!("metrics_address: '{address}' is neither HOST:PORT nor a path");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        bind::tcp(Some(host.trim_matches(['[', ']'])), port, SCRAPES as u32).map(Self::Tcp)
    }

    /// The address, where it is on the network.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Answers for ever.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let scrapes = Arc::new(Semaphore::new(SCRAPES));
        loop {
            let Ok(scrape) = Arc::clone(&scrapes).acquire_owned().await else { return };
            match self.accept().await {
                Ok(socket) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(PATIENCE, serve(socket, &shared)).await;
                        drop(scrape);
                    });
                }
                // Out of descriptors, most likely; some will be free again.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn serve(mut socket: Box<dyn Stream>, shared: &Arc<Shared>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if (&mut socket).take(REQUEST - request.len() as u64).read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let (status, body) = match request.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics", ..] => match exposition::text(shared, guests::all(shared).await) {
            Ok(text) => ("200 OK", text),
            Err(_) => ("500 Internal Server Error", String::new()),
        },
        [b"GET", ..] => ("404 Not Found", "/metrics is here\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        exposition::CONTENT_TYPE,
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}
