//! What the daemon tells of itself to whoever attaches to its administration socket: each frame, and each step it takes
//! for a call. Nothing is gathered where nobody listens: then a frame costs the look at one atomic, and a step the look
//! at another (`tracing`'s own level).
//!
//! Steps are spans and events of `tracing` with the target [`TARGET`], wherever they are taken: a span's fields are what
//! is told of it. They belong to the call in whose span they happen.

mod steps;

pub(crate) use steps::is_step;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tracing::field::Empty;
use tracing::{Level, Span};
use virtwire_protocol::frame::{self, Frame, FrameBuffer};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_trace::{Client, Origin, Seen, Side, What, decode, micros, wire};

use crate::access::Attributes;
use crate::config::{Access, Program};
use crate::session::Session;

/// The target of steps; drivers that do not know this crate write it out.
pub(crate) const TARGET: &str = "virtwire::trace";

/// Bytes that a listener may leave unread before it loses records.
const BACKLOG: usize = 8 << 20;

/// Whom the daemon tells what it does.
#[derive(Debug)]
pub(crate) struct Tracer {
    on: AtomicBool,
    since: Instant,
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Debug)]
struct Listener {
    session: Weak<Session>,
    /// Records that it did not get since it read too slowly.
    lost: u64,
}

impl Default for Tracer {
    fn default() -> Self {
        Self { on: AtomicBool::new(false), since: Instant::now(), listeners: Mutex::default() }
    }
}

/// Serves a call of the trace's program; `false` where it is another's.
pub(crate) fn serve(session: &Arc<Session>, header: &MessageHeader) -> bool {
    let wanted = (wire::PROGRAM, wire::VERSION, wire::ATTACH, MessageType::CALL);
    if session.program() != Program::Admin || (header.prog, header.vers, header.proc, header.r#type) != wanted
    {
        return false;
    }
    let reply = frame::encode_bytes(&frame::reply_to(header, MessageStatus::OK), &[]);
    session.service.log.tracer().attach(session, reply.unwrap_or_default());
    true
}

impl Tracer {
    /// Whether anybody listens.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener. What happens behind its `reply` is told, and nothing before: both hold while the list is ours.
    fn attach(&self, session: &Arc<Session>, reply: Vec<u8>) {
        let mut listeners = self.listeners();
        let known = listeners.iter().any(|known| known.session.as_ptr() == Arc::as_ptr(session));
        if !known {
            listeners.push(Listener { session: Arc::downgrade(session), lost: 0 });
            self.on.store(true, Ordering::Relaxed);
            tracing::callsite::rebuild_interest_cache();
        }
        session.send(reply, Vec::new());
        drop(listeners);
        if known {
            return;
        }
        for client in session.service.clients(Program::Remote).all() {
            self.connected(&client);
        }
    }

    fn now(&self) -> u64 {
        micros(self.since.elapsed())
    }

    /// Tells all listeners; those that have gone are forgotten.
    fn tell(&self, seen: &Seen) {
        let Some(record) = wire::record(seen) else { return };
        let mut listeners = self.listeners();
        listeners.retain_mut(|listener| {
            let Some(session) = listener.session.upgrade() else { return false };
            if session.backlog() > BACKLOG {
                listener.lost += 1;
                return true;
            }
            if listener.lost > 0 {
                let what = What::Lost { records: std::mem::take(&mut listener.lost) };
                let lost = wire::record(&Seen { connection: 0, at_us: seen.at_us, what });
                session.send(lost.unwrap_or_default(), Vec::new());
            }
            session.send(record.clone(), Vec::new());
            true
        });
        // While the list is ours: whoever attaches next switches it on again.
        if listeners.is_empty() && self.on.swap(false, Ordering::Relaxed) {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn tell_of(&self, session: &Session, what: What) {
        // Listeners are clients of the other server: what they are told is not told of.
        if session.program() == Program::Remote {
            self.tell(&Seen { connection: session.id, at_us: self.now(), what });
        }
    }

    /// A client is there.
    pub(crate) fn connected(&self, session: &Session) {
        if self.is_on() {
            let identity = session.identity();
            self.tell_of(
                session,
                What::Connected(Client {
                    pid: identity.peer.map(|peer| peer.pid),
                    uid: identity.peer.map(|peer| peer.uid),
                    name: identity.sasl.or(identity.certificate),
                    read_only: session.access() == Access::ReadOnly,
                }),
            );
        }
    }

    /// A client has authenticated.
    pub(crate) fn identified(&self, session: &Session) {
        if self.is_on()
            && let Some(name) = session.identity().sasl
        {
            self.tell_of(session, What::Identified { name });
        }
    }

    /// A client has gone.
    pub(crate) fn ended(&self, session: &Session, reason: Option<String>) {
        if self.is_on() {
            self.tell_of(session, What::Ended { reason });
        }
    }

    /// A frame has come in.
    pub(crate) fn incoming(&self, session: &Session, frame: &Frame<'_>) {
        if self.is_on() && session.program() == Program::Remote {
            self.frame(session, Side::Client, None, frame);
        }
    }

    /// A frame goes out.
    pub(crate) fn outgoing(&self, session: &Session, bytes: &[u8], descriptors: &[OwnedFd]) {
        if self.is_on() && session.program() == Program::Remote {
            let mut buffer = FrameBuffer::default();
            buffer.feed(bytes);
            buffer.feed(&vec![0; descriptors.len()]);
            let Ok(Some(frame)) = buffer.next_frame() else { return };
            let raised = frame.header.r#type == MessageType::MESSAGE;
            let during = if raised { steps::origin(&Span::current()) } else { None };
            self.frame(session, Side::Daemon, during, &frame);
        }
    }

    fn frame(&self, session: &Session, from: Side, during: Option<Origin>, frame: &Frame<'_>) {
        let frame = decode::decode(&frame.header, frame.payload, frame.descriptors);
        self.tell_of(session, What::Frame { from, during, frame });
    }
}

/// The span of a call: what happens in it belongs to the call.
pub(crate) fn call(session: &Session, header: &MessageHeader) -> Span {
    if session.program() == Program::Admin || !session.service.log.tracer().is_on() {
        return Span::none();
    }
    tracing::trace_span!(target: TARGET, "call", client = session.id, serial = header.serial)
}

/// The span of what a driver does for a call.
pub(crate) fn driver(call: &Span, session: &Session) -> Span {
    if call.is_disabled() {
        return Span::none();
    }
    let uri =
        session.connection().map_or_else(|| "the daemon itself".to_owned(), |connection| connection.uri);
    if !session.service.policy.is_guarded() {
        call.in_scope(|| {
            tracing::event!(name: "access", target: TARGET, Level::TRACE, granted = true, decided_by = "nobody");
        });
    }
    tracing::trace_span!(target: TARGET, parent: call, "driver", uri)
}

/// The span of a question of access; what is decided is recorded as `granted`.
pub(crate) fn access(session: &Session, kind: &str, permission: &str, object: &Attributes) -> Span {
    if !session.service.policy.is_guarded() {
        return Span::none();
    }
    tracing::trace_span!(target: TARGET, "access", granted = Empty, kind, permission, %object)
}
