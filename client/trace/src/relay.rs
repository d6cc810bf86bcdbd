//! A relay before a daemon. It passes frames on first and reports them afterwards, so that what it costs is a copy.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use virtwire_protocol::codec::{Encode, EncodeError};
use virtwire_protocol::frame::{self, FrameBuffer, FrameError};
use virtwire_protocol::net::MessageHeader;
use virtwire_socket::{Outgoing, receive};

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The client.
    Client,
    /// The daemon.
    Daemon,
}

/// What the relay saw.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Which connection, from 1.
    pub connection: u64,
    /// When, since the relay started.
    pub at: Duration,
    /// What happened.
    pub what: What,
}

/// What happened on a connection.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the line above each variant says what it holds")]
pub enum What {
    /// A client has connected: its process and user, where the socket tells.
    Connected { pid: Option<i32>, uid: Option<u32> },
    /// A frame went by.
    Frame { from: Side, header: MessageHeader, payload: Vec<u8>, descriptors: usize },
    /// The connection has ended, and why if it was not closed in peace.
    Ended { reason: Option<String> },
}

/// Bytes that may wait for one side before nothing more is read from the other.
const BACKLOG: usize = 1 << 20;

/// A relay: where clients connect, and where the daemon is.
pub struct Relay {
    listener: UnixListener,
    target: PathBuf,
    started: Instant,
}

impl Relay {
    /// Listens on `listen` for clients of the daemon at `target`.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn bind(listen: &std::path::Path, target: PathBuf) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(listen)?, target, started: Instant::now() })
    }

    /// Relays connections for ever and reports to `observer`; ends when nobody listens to the reports.
    ///
    /// # Errors
    /// No more connections can be accepted.
    pub async fn run(self, observer: mpsc::UnboundedSender<Observed>) -> io::Result<()> {
        let mut connection = 0;
        while !observer.is_closed() {
            let (client, _) = self.listener.accept().await?;
            connection += 1;
            let reporter = Reporter { connection, started: self.started, observer: observer.clone() };
            let target = self.target.clone();
            tokio::spawn(async move {
                let credentials = client.peer_cred().ok();
                let (pid, uid) = (credentials.and_then(|c| c.pid()), credentials.map(|c| c.uid()));
                reporter.report(What::Connected { pid, uid });
                let result = relay(client, target, &reporter).await;
                reporter.report(What::Ended { reason: result.err().map(|error| error.to_string()) });
            });
        }
        Ok(())
    }
}

struct Reporter {
    connection: u64,
    started: Instant,
    observer: mpsc::UnboundedSender<Observed>,
}

impl Reporter {
    fn report(&self, what: What) {
        let _ =
            self.observer.send(Observed { connection: self.connection, at: self.started.elapsed(), what });
    }
}

async fn relay(client: UnixStream, target: PathBuf, reporter: &Reporter) -> io::Result<()> {
    let daemon = Arc::new(Outgoing::new(UnixStream::connect(target).await?));
    let client = Arc::new(Outgoing::new(client));
    let result = tokio::select! {
        result = carry(&client, &daemon, Side::Client, reporter) => result,
        result = carry(&daemon, &client, Side::Daemon, reporter) => result,
        () = drain(&client) => Ok(()),
        () = drain(&daemon) => Ok(()),
    };
    // What one side said last still reaches the other.
    client.close();
    daemon.close();
    let both = async { tokio::join!(drain(&client), drain(&daemon)) };
    let _ = tokio::time::timeout(Duration::from_secs(1), both).await;
    result
}

/// Passes frames on in one direction until the sender closes.
async fn carry(from: &Outgoing, to: &Outgoing, side: Side, reporter: &Reporter) -> io::Result<()> {
    let (mut buffer, mut descriptors) = (FrameBuffer::default(), VecDeque::new());
    loop {
        while let Some(frame) = buffer.next_frame().map_err(invalid)? {
            if frame.descriptors > descriptors.len() {
                return Err(invalid(FrameError::Unmatched));
            }
            let behind: Vec<OwnedFd> = descriptors.drain(..frame.descriptors).collect();
            let bytes =
                frame::encode(&frame.header, frame.descriptors, &Raw(frame.payload)).map_err(invalid)?;
            to.send(bytes, behind);
            let (header, payload) = (frame.header.clone(), frame.payload.to_vec());
            reporter.report(What::Frame { from: side, header, payload, descriptors: frame.descriptors });
        }
        to.room(BACKLOG).await;
        from.socket().readable().await?;
        let socket = from.socket();
        match socket.try_io(Interest::READABLE, || receive(socket, buffer.space(), &mut descriptors)) {
            Ok(got) if got.bytes == 0 => return Ok(()),
            Ok(got) => buffer.filled(got.bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what waits for one side, until it is closed.
async fn drain(out: &Outgoing) {
    std::future::poll_fn(|cx| {
        loop {
            let pending = out.poll_pending(cx.waker());
            if out.is_done() {
                return Poll::Ready(());
            }
            if !pending || out.socket().poll_write_ready(cx).is_pending() {
                return Poll::Pending;
            }
            out.flush();
        }
    })
    .await;
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A payload as it came.
struct Raw<'a>(&'a [u8]);

impl Encode for Raw<'_> {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}
