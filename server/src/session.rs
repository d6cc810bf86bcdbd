//! One connection: where it stands, what is read from it and when.

#[cfg(test)]
mod sealing;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::Sleep;
use virtwire_driver_api::{CallCx, Connection, Event, EventSink, Peer, StreamEnd};
use virtwire_protocol::error::VirtError;
use virtwire_protocol::frame::{self, FRAME_MAX, Frame, FrameBuffer, FrameError};
use virtwire_protocol::keepalive;
use virtwire_protocol::keepalive_timer::{Keepalive, KeepaliveTimer};
use virtwire_protocol::net::{MessageHeader, MessageType};
use virtwire_socket::{Outgoing, Seal};

use crate::access::{Attributes, Identity, Object, Watched};
use crate::auth::Login;
use crate::clients::Clients;
use crate::config::{Access, Auth, Limits, Program};
use crate::events::{self, Registration};
use crate::forward::Upstream;
use crate::listener::{Entrance, Shared};
use crate::serve;
use crate::streams::Streams;
use crate::transport::{self, Socket};

/// The alarm of a client that may take for ever to authenticate.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365);

/// Where a client stands. Only an open connection holds a driver, so nothing slips past authentication.
pub(crate) enum Phase {
    /// Has not been told how to authenticate.
    Greeting,
    /// Authenticated; once it has been told so, everything is encrypted.
    Sealing { seal: Box<dyn Seal>, told: bool },
    /// Authenticated; no hypervisor is open.
    Authenticated,
    /// A hypervisor is open.
    Open(Box<OpenPhase>),
    /// Said goodbye: nothing more is read.
    Closed,
}

/// What an open connection has.
pub(crate) struct OpenPhase {
    pub(crate) connection: Connection,
    pub(crate) read_only: bool,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) me: Weak<Session>,
    pub(crate) id: u64,
    pub(crate) since: SystemTime,
    pub(crate) peer: Option<Peer>,
    pub(crate) service: Arc<Shared>,
    pub(crate) streams: Streams,
    pub(crate) login: Login,
    /// Where all that the client says goes, once it is another daemon's client.
    pub(crate) upstream: OnceLock<Arc<Upstream>>,
    /// Events that the client may not be shown.
    pub(crate) watched: Watched,
    clients: Arc<Clients>,
    entrance: Entrance,
    out: Outgoing<Socket>,
    phase: Mutex<Phase>,
    registrations: Mutex<Vec<Registration>>,
    /// Calls that wait for something.
    waiting: AtomicUsize,
    /// Whether the client said that it answers pings.
    pingable: AtomicBool,
}

/// What the connection's task has to do next.
enum Wake {
    Read,
    Frames,
    Flush,
    Keepalive,
    End,
}

/// What the connection's task alone knows.
struct Input {
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
    /// Frames may be in the buffer that were not served, since a limit was reached.
    parked: bool,
    /// The client has authenticated: frames may be large, and the alarm is the keepalive's.
    known: bool,
    keepalive: Option<KeepaliveTimer>,
    alarm: Pin<Box<Sleep>>,
}

impl Session {
    pub(crate) fn new(service: Arc<Shared>, socket: Socket, id: u64, entrance: Entrance) -> Arc<Self> {
        let peer = transport::peer(&socket);
        // The administration socket is root's alone, and knows no authentication.
        let phase = match entrance.program {
            Program::Remote => Phase::Greeting,
            Program::Admin => Phase::Authenticated,
        };
        let clients = Arc::clone(service.clients(entrance.program));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            since: SystemTime::now(),
            peer,
            streams: Streams::new(clients.limits().stream_backlog),
            service,
            login: Login::default(),
            upstream: OnceLock::new(),
            watched: Watched::default(),
            clients,
            entrance,
            out: Outgoing::new(socket),
            phase: Mutex::new(phase),
            registrations: Mutex::default(),
            waiting: AtomicUsize::new(0),
            pingable: AtomicBool::new(false),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.clients.limits()
    }

    pub(crate) fn program(&self) -> Program {
        self.entrance.program
    }

    /// What its socket is for.
    pub(crate) fn access(&self) -> Access {
        self.entrance.access
    }

    /// How this client authenticates.
    pub(crate) fn auth(&self) -> Auth {
        self.entrance.auth
    }

    /// The client is who it says it is. Where its login has agreed on encryption, that begins behind the next answer.
    pub(crate) fn authenticated(&self, seal: Option<Box<dyn Seal>>) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Greeting) {
            *phase = match seal {
                Some(seal) => Phase::Sealing { seal, told: false },
                None => Phase::Authenticated,
            };
            drop(phase);
            self.clients.authenticated(self.id);
            self.service.log.tracer().identified(self);
        }
    }

    pub(crate) fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        matches!(*self.phase(), Phase::Authenticated | Phase::Open(_))
    }

    /// The open hypervisor.
    pub(crate) fn connection(&self) -> Option<Connection> {
        match &*self.phase() {
            Phase::Open(open) => Some(open.connection.clone()),
            Phase::Greeting | Phase::Sealing { .. } | Phase::Authenticated | Phase::Closed => None,
        }
    }

    /// Whether the client may only look: by its socket, or by the flag it opened with.
    pub(crate) fn is_read_only(&self) -> bool {
        let by_flag = match &*self.phase() {
            Phase::Open(open) => open.read_only,
            Phase::Greeting | Phase::Sealing { .. } | Phase::Authenticated | Phase::Closed => false,
        };
        by_flag || self.entrance.access == Access::ReadOnly
    }

    pub(crate) fn call_cx(&self) -> CallCx {
        CallCx { read_only: self.is_read_only(), peer: self.peer, client: self.id, internal: false }
    }

    /// What a rule can know of an object.
    pub(crate) fn attributes<O: Object + ?Sized>(&self, kind: &'static str, object: &O) -> Attributes {
        let mut attributes = Attributes::default();
        object.describe(kind, &mut attributes);
        let uri = self.connection().map(|connection| connection.uri).or_else(|| attributes.opening.take());
        attributes.add("connect_driver", self.service.driver_name(&uri.unwrap_or_default()));
        attributes
    }

    /// Whether the client has a permission on an object.
    pub(crate) async fn permits(&self, kind: &str, permission: &str, object: &Attributes) -> bool {
        let policy = &self.service.policy;
        !policy.is_guarded() || policy.permits(&self.identity(), kind, permission, object).await
    }

    /// What the connection runs over.
    pub(crate) fn socket(&self) -> &Socket {
        self.out.socket()
    }

    /// Whom the connection belongs to, or whom its client speaks for.
    pub(crate) fn identity(&self) -> Identity {
        if let Some(who) = self.login.stated() {
            return who.clone();
        }
        let certificate = self.socket().peer_name().map(str::to_owned);
        Identity {
            peer: self.peer,
            started: self.peer.and_then(|peer| self.login.started(peer)),
            sasl: self.login.name().map(str::to_owned),
            certificate,
        }
    }

    pub(crate) fn registrations(&self) -> MutexGuard<'_, Vec<Registration>> {
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce_pingable(&self) {
        self.pingable.store(true, Ordering::Relaxed);
    }

    /// Sends the frames of an event.
    pub(crate) fn tell(&self, frames: Vec<Vec<u8>>) {
        if let Some(metrics) = &self.service.metrics {
            metrics.events(frames.len());
        }
        for frame in frames {
            self.service.log.tracer().outgoing(self, &frame, &[]);
            self.out.send(frame, Vec::new());
        }
    }

    /// Sends a frame; after the answer to CONNECT_CLOSE the connection ends, after the last of a login encryption
    /// begins.
    pub(crate) fn send(&self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
        self.service.log.tracer().outgoing(self, &frame, &descriptors);
        self.out.send(frame, descriptors);
        let mut phase = self.phase();
        match &mut *phase {
            Phase::Closed => self.out.close(),
            Phase::Sealing { told, .. } => {
                *told = true;
                drop(phase);
                self.seal();
            }
            Phase::Greeting | Phase::Authenticated | Phase::Open(_) => {}
        }
    }

    /// Begins to encrypt where that was agreed on, and nothing waits any more that is to go out as it is.
    fn seal(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Sealing { told: true, .. })
            && self.out.backlog() == 0
            && let Phase::Sealing { seal, .. } = std::mem::replace(&mut *phase, Phase::Authenticated)
        {
            self.socket().seal(seal);
        }
    }

    /// Bytes that the client has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.out.backlog()
    }

    /// Waits until little is left to be written.
    pub(crate) async fn room(&self) {
        self.out.room(self.limits().backlog).await;
    }

    /// Ends the connection once everything has been sent.
    pub(crate) fn close(&self) {
        self.out.close();
    }

    /// Ends the connection now.
    pub(crate) fn abort(&self) {
        self.out.abort();
    }

    pub(crate) fn call_waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn call_done(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.out.wake();
    }

    pub(crate) fn open_stream(&self, header: &MessageHeader, sparse: bool) -> Result<StreamEnd, VirtError> {
        self.streams.open(header, sparse)
    }

    pub(crate) fn stream_opened(&self, header: &MessageHeader) {
        if let Some(session) = self.me.upgrade() {
            self.streams.begin(&session, header);
        }
    }

    pub(crate) fn stream_refused(&self, header: &MessageHeader) {
        self.streams.refuse(header);
    }

    /// Wakes the connection's task after a limit may have ceased to hold.
    pub(crate) fn wake(&self) {
        self.out.wake();
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut input = Input {
            buffer: FrameBuffer::default(),
            descriptors: VecDeque::new(),
            parked: false,
            known: false,
            keepalive: None,
            alarm: Box::pin(tokio::time::sleep(self.limits().auth_timeout.unwrap_or(FOR_EVER))),
        };
        input.buffer.limit(self.limits().frame_before_auth);
        self.service.log.tracer().connected(&self);
        let mut why = None;
        loop {
            let goes_on = match std::future::poll_fn(|cx| self.poll_wake(&mut input, cx)).await {
                Wake::Read => self.read(&mut input).and_then(|()| self.frames(&mut input)),
                Wake::Frames => self.frames(&mut input),
                Wake::Flush => {
                    self.out.flush();
                    self.seal();
                    Ok(())
                }
                Wake::Keepalive => self.keepalive(&mut input),
                Wake::End => break,
            };
            if let Err(reason) = goes_on {
                tracing::debug!(client = self.id, %reason, "connection ends");
                why = (!matches!(reason, Ended::ByPeer)).then(|| reason.to_string());
                break;
            }
        }
        self.service.log.tracer().ended(&self, why);
        self.out.abort();
        // Calls that still wait hold the session, and must not hold the client.
        self.socket().shut();
        if let Some(upstream) = self.upstream.get() {
            upstream.abort();
        }
        *self.phase() = Phase::Closed;
        self.registrations().clear();
        self.streams.clear();
    }

    /// Whether more may be read: the client's calls, replies and streams are within their limits.
    fn may_read(&self) -> bool {
        let limits = self.limits();
        let calls = match *self.phase() {
            Phase::Closed | Phase::Sealing { .. } => return false,
            // What comes behind a login's last message may be encrypted.
            Phase::Greeting if self.auth() == Auth::Sasl => 1,
            Phase::Greeting | Phase::Authenticated | Phase::Open(_) => limits.client_requests,
        };
        self.waiting.load(Ordering::Relaxed) < calls
            && self.out.backlog() < limits.backlog
            && !self.streams.are_full()
            && self.upstream.get().is_none_or(|upstream| upstream.backlog() < limits.backlog)
    }

    /// Takes note that the client has authenticated, if it has.
    fn meet(&self, input: &mut Input) -> Result<(), Ended> {
        if !input.known && self.is_authenticated() {
            input.known = true;
            input.buffer.limit(FRAME_MAX);
            // What came as it was before encryption began need not be the client's word.
            if self.socket().is_sealed() && input.buffer.is_partial() {
                return Err(Ended::Unsealed);
            }
        }
        Ok(())
    }

    fn poll_wake(&self, input: &mut Input, cx: &mut Context<'_>) -> Poll<Wake> {
        // The waker is registered before the limits are looked at, so that no change of theirs is missed.
        let pending = self.out.poll_pending(cx.waker());
        if self.out.is_done() {
            return Poll::Ready(Wake::End);
        }
        if pending && let Poll::Ready(ready) = self.out.socket().poll_write_ready(cx) {
            return Poll::Ready(if ready.is_ok() { Wake::Flush } else { Wake::End });
        }
        if self.may_read() {
            if input.parked {
                return Poll::Ready(Wake::Frames);
            }
            if let Poll::Ready(ready) = self.out.socket().poll_read_ready(cx) {
                return Poll::Ready(if ready.is_ok() { Wake::Read } else { Wake::End });
            }
        }
        self.arm(input);
        if (input.keepalive.is_some() || !input.known) && pin!(&mut input.alarm).poll(cx).is_ready() {
            return Poll::Ready(Wake::Keepalive);
        }
        Poll::Pending
    }

    /// Starts the keepalive timer once the client has asked for it.
    fn arm(&self, input: &mut Input) {
        if input.keepalive.is_none()
            && self.pingable.load(Ordering::Relaxed)
            && let Some(interval) = self.limits().keepalive_interval
        {
            let now = Instant::now();
            input.keepalive = Some(KeepaliveTimer::new(interval, self.limits().keepalive_count, now));
            input.alarm.as_mut().reset((now + interval).into());
        }
    }

    fn pulse(&self, procedure: keepalive::Procedure) {
        let bytes = frame::encode_bytes(&frame::keepalive(procedure), &[]).unwrap_or_default();
        self.out.send(bytes, Vec::new());
    }

    fn keepalive(&self, input: &mut Input) -> Result<(), Ended> {
        let Some(timer) = &mut input.keepalive else {
            self.meet(input)?;
            return if input.known { Ok(()) } else { Err(Ended::Unknown) };
        };
        let now = Instant::now();
        let next = match timer.poll(now) {
            Keepalive::Wait(next) => next,
            Keepalive::Ping => {
                self.pulse(keepalive::Procedure::PING);
                now
            }
            Keepalive::Dead => return Err(Ended::Dead),
        };
        input.alarm.as_mut().reset(next.into());
        Ok(())
    }

    fn read(&self, input: &mut Input) -> Result<(), Ended> {
        self.meet(input)?;
        match self.out.socket().receive(input.buffer.space(), &mut input.descriptors) {
            Ok(0) => Err(Ended::ByPeer),
            Ok(bytes) => {
                input.buffer.filled(bytes);
                if let Some(timer) = &mut input.keepalive {
                    timer.heard(Instant::now());
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Ended::Io(error)),
        }
    }

    /// Serves the frames that have come whole.
    fn frames(self: &Arc<Self>, input: &mut Input) -> Result<(), Ended> {
        loop {
            input.parked = !self.may_read();
            if input.parked {
                return Ok(());
            }
            self.meet(input)?;
            let Some(frame) = input.buffer.next_frame()? else { break };
            if frame.descriptors > input.descriptors.len() {
                return Err(FrameError::Unmatched.into());
            }
            let descriptors = input.descriptors.drain(..frame.descriptors).collect();
            self.frame(&frame, descriptors);
        }
        // Descriptors are only ever announced: those of a frame to come are at most as many as a frame may carry.
        let most = virtwire_protocol::net::VIR_NET_MESSAGE_NUM_FDS_MAX as usize;
        if input.descriptors.len() > most || (!input.descriptors.is_empty() && !input.buffer.is_partial()) {
            return Err(FrameError::Unmatched.into());
        }
        Ok(())
    }

    fn frame(self: &Arc<Self>, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) {
        self.service.log.tracer().incoming(self, frame);
        if let Some(upstream) = self.upstream.get() {
            return upstream.pass(frame, descriptors);
        }
        match frame.header.r#type {
            MessageType::CALL | MessageType::CALL_WITH_FDS => serve::call(self, frame, descriptors),
            MessageType::STREAM | MessageType::STREAM_HOLE => self.streams.incoming(self, frame),
            MessageType::MESSAGE
                if (frame.header.prog, frame.header.proc)
                    == (keepalive::PROGRAM.number, keepalive::Procedure::PING.0) =>
            {
                self.pulse(keepalive::Procedure::PONG);
            }
            // Replies, messages and unknown types mean nothing here; the real daemon drops them as well.
            _ => {}
        }
    }
}

impl EventSink for Session {
    fn deliver(&self, event: &Event) {
        let frames = events::frames(&self.registrations(), event);
        if frames.is_empty() {
            return;
        }
        if self.out.backlog() + self.watched.bytes() > self.limits().event_backlog {
            tracing::warn!(
                client = self.id,
                "events pile up for a client that does not read; it is disconnected"
            );
            self.out.abort();
            return;
        }
        if self.service.policy.is_guarded() {
            let (kind, subject) = events::object(event);
            self.watched.add(kind, self.attributes(kind, &subject), frames);
        } else {
            self.tell(frames);
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
enum Ended {
    ByPeer,
    Dead,
    Unknown,
    Unsealed,
    Frame(FrameError),
    Io(io::Error),
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByPeer => f.write_str("closed by the client"),
            Self::Unknown => f.write_str("it has not authenticated in time"),
            Self::Unsealed => f.write_str("something came unencrypted behind its login"),
            Self::Dead => f.write_str("pings went unanswered"),
            Self::Frame(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}
