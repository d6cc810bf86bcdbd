//! A relay before a daemon. It passes frames on first and reports them afterwards, so that what it costs is a copy.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use virtwire_protocol::codec::{Encode, EncodeError};
use virtwire_protocol::frame::{self, Frame, FrameBuffer, FrameError};
use virtwire_protocol::net::MessageHeader;
use virtwire_socket::{Outgoing, receive};

use crate::decode::decode;
use crate::micros;
use crate::seen::{Client, Seen, Side, What};

/// What the relay saw, not yet decoded: that would hold the next frame up.
#[derive(Debug)]
pub struct Observed {
    connection: u64,
    at: Duration,
    what: Raw,
    /// Given back when it has been looked at.
    _queued: Queued,
}

#[derive(Debug)]
enum Raw {
    Frame { from: Side, header: MessageHeader, payload: Vec<u8>, descriptors: usize },
    Other(What),
}

impl Observed {
    /// Names and values for it, without its secrets.
    pub fn decode(&self) -> Seen {
        let what = match &self.what {
            Raw::Frame { from, header, payload, descriptors } => {
                What::Frame { from: *from, during: None, frame: decode(header, payload, *descriptors) }
            }
            Raw::Other(what) => what.clone(),
        };
        Seen { connection: self.connection, at_us: micros(self.at), what }
    }
}

/// Bytes of reports that may wait for who reads them; what comes on top is counted and lost, and delays nobody.
const QUEUE: usize = 64 << 20;

/// A report's part of the queue.
#[derive(Debug)]
struct Queued {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
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
        let (queued, lost) = (Arc::default(), Arc::default());
        while !observer.is_closed() {
            let (client, _) = self.listener.accept().await?;
            connection += 1;
            let (observer, queued, lost) = (observer.clone(), Arc::clone(&queued), Arc::clone(&lost));
            let reporter = Reporter { connection, started: self.started, observer, queued, lost };
            let target = self.target.clone();
            tokio::spawn(async move {
                let credentials = client.peer_cred().ok();
                let (pid, uid) = (credentials.and_then(|c| c.pid()), credentials.map(|c| c.uid()));
                reporter.report(0, Raw::Other(What::Connected(Client { pid, uid, ..Client::default() })));
                let result = relay(client, target, &reporter).await;
                let reason = result.err().map(|error| error.to_string());
                reporter.report(0, Raw::Other(What::Ended { reason }));
            });
        }
        Ok(())
    }
}

struct Reporter {
    connection: u64,
    started: Instant,
    observer: mpsc::UnboundedSender<Observed>,
    /// Bytes that wait.
    queued: Arc<AtomicUsize>,
    /// Reports that were not sent since too much waited.
    lost: Arc<AtomicU64>,
}

impl Reporter {
    /// Whether so much more may wait.
    fn has_room(&self, bytes: usize) -> bool {
        let room = self.queued.load(Ordering::Relaxed) + bytes <= QUEUE;
        if !room {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn frame(&self, from: Side, frame: &Frame<'_>) {
        let payload = frame.payload;
        if self.has_room(payload.len()) {
            let (header, descriptors) = (frame.header.clone(), frame.descriptors);
            self.report(payload.len(), Raw::Frame { from, header, payload: payload.to_vec(), descriptors });
        }
    }

    fn report(&self, bytes: usize, what: Raw) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.send(0, Raw::Other(What::Lost { records: lost }));
        }
        self.send(bytes, what);
    }

    fn send(&self, bytes: usize, what: Raw) {
        // What a report itself takes counts as well.
        let bytes = bytes + size_of::<Observed>();
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        let _queued = Queued { bytes, of: Arc::clone(&self.queued) };
        let (connection, at) = (self.connection, self.started.elapsed());
        let _ = self.observer.send(Observed { connection, at, what, _queued });
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
                frame::encode(&frame.header, frame.descriptors, &Payload(frame.payload)).map_err(invalid)?;
            to.send(bytes, behind);
            reporter.frame(side, &frame);
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
struct Payload<'a>(&'a [u8]);

impl Encode for Payload<'_> {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}
