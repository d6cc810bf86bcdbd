//! Events on their way to a client to whom not every object is shown: whether it may see one is decided in the order in
//! which they happened, behind the back of the driver that raised them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Attributes;
use crate::session::Session;

/// An event that waits to be decided on.
struct Waiting {
    kind: &'static str,
    subject: Attributes,
    frames: Vec<Vec<u8>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }
}

/// The events of one client that wait.
#[derive(Default)]
pub(crate) struct Watched {
    queue: OnceLock<UnboundedSender<Waiting>>,
    bytes: AtomicUsize,
}

impl Watched {
    /// Begins to decide, for as long as the session is there.
    pub(crate) fn begin(&self, session: &Weak<Session>) {
        self.queue.get_or_init(|| {
            let (sender, receiver) = unbounded_channel();
            tokio::spawn(decide(session.clone(), receiver));
            sender
        });
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes an event in.
    pub(crate) fn add(&self, kind: &'static str, subject: Attributes, frames: Vec<Vec<u8>>) {
        let waiting = Waiting { kind, subject, frames };
        let bytes = waiting.bytes();
        if self.queue.get().is_some_and(|queue| queue.send(waiting).is_ok()) {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

async fn decide(session: Weak<Session>, mut queue: UnboundedReceiver<Waiting>) {
    while let Some(waiting) = queue.recv().await {
        let Some(session) = session.upgrade() else { break };
        let bytes = waiting.bytes();
        if session.permits(waiting.kind, "getattr", &waiting.subject).await {
            session.tell(waiting.frames);
        }
        session.watched.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
