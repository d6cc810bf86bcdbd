//! One connection: where it stands, and what is sent to it.

#[cfg(test)]
mod sealing;
mod task;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use virtwire_driver_api::{CallCx, Connection, Event, EventSink, Peer, StreamEnd};
use virtwire_protocol::error::VirtError;
use virtwire_protocol::net::MessageHeader;
use virtwire_socket::{Outgoing, Seal};

use crate::access::{Attributes, Identity, Object, Watched};
use crate::auth::Login;
use crate::clients::Clients;
use crate::config::{Access, Auth, Limits, Program};
use crate::events::{self, Registration};
use crate::forward::Upstream;
use crate::listener::{Entrance, Shared};
use crate::reached::Limit;
use crate::streams::Streams;
use crate::transport::{self, Socket};

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

    /// The client is at a limit.
    pub(crate) fn reached(&self, limit: Limit) {
        self.clients.reached().count(limit);
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
        // Looked at before the frame goes: what changes meanwhile is another answer's.
        let (closed, sealing) = match *self.phase() {
            Phase::Closed => (true, false),
            Phase::Sealing { .. } => (false, true),
            Phase::Greeting | Phase::Authenticated | Phase::Open(_) => (false, false),
        };
        self.out.send(frame, descriptors);
        if closed {
            self.out.close();
        }
        if sealing {
            if let Phase::Sealing { told, .. } = &mut *self.phase() {
                *told = true;
            }
            self.seal();
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
            drop(phase);
            // More may be read now.
            self.wake();
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
        if self.waiting.fetch_add(1, Ordering::Relaxed) + 1 == self.limits().client_requests {
            self.reached(Limit::Requests);
        }
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
            self.reached(Limit::EventBacklog);
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
