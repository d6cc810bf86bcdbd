//! Streams: data beside the calls, such as a volume's content, a console or a migration.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use virtwire_protocol::codec;
use virtwire_protocol::frame::{Frame, STREAM_DATA_MAX};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_protocol::streams::{ClientStream, FromDaemon};

use crate::link::{Link, OUT_BACKLOG};
use crate::{Error, StreamIo};

/// What a daemon sends on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes.
    Data(Vec<u8>),
    /// So many bytes of zeros; only if the call's flags permit holes.
    Hole(u64),
}

impl Chunk {
    /// What it takes while it waits, in bytes.
    fn cost(&self) -> usize {
        size_of::<Self>() + if let Self::Data(bytes) = self { bytes.len() } else { 0 }
    }
}

/// A stream that a call has opened. Data may go both ways at a time.
///
/// It ends with [`finish`](Self::finish) or [`abort`](Self::abort); one that is dropped before is aborted, or
/// finished if all its data has been read. A stream whose data nobody takes holds up the whole connection once
/// 4 MiB wait.
pub struct Stream {
    link: Arc<Link>,
    /// Of a frame with data.
    header: MessageHeader,
    state: Arc<StreamState>,
}

/// What the task that reads knows of a stream.
#[derive(Default)]
pub(crate) struct StreamState {
    inner: Mutex<Inner>,
    /// Told of everything that happens.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    protocol: ClientStream,
    chunks: VecDeque<Chunk>,
    failure: Option<Error>,
}

impl StreamState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame in. Says how many bytes wait since then, and whether the stream is over.
    pub(crate) fn receive(&self, frame: &Frame<'_>) -> (usize, bool) {
        let mut inner = self.inner();
        let mut chunk = None;
        match inner.protocol.receive(&frame.header, frame.payload) {
            Ok(FromDaemon::Data(bytes)) => chunk = Some(Chunk::Data(bytes.to_vec())),
            Ok(FromDaemon::Hole(length)) => chunk = Some(Chunk::Hole(length)),
            Ok(FromDaemon::Failed(error)) => inner.failure = Some(error.into()),
            Ok(FromDaemon::End | FromDaemon::Over | FromDaemon::Nothing) => {}
            Err(error) => inner.failure = Some(error.into()),
        }
        let queued = chunk.as_ref().map_or(0, Chunk::cost);
        inner.chunks.extend(chunk);
        let over = inner.protocol.is_over();
        drop(inner);
        self.changed.notify_waiters();
        (queued, over)
    }

    /// The connection has ended.
    pub(crate) fn fail(&self, reason: Error) {
        let mut inner = self.inner();
        if !inner.protocol.is_over() {
            inner.failure.get_or_insert(reason);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Waits until `ready` gives a value.
    async fn wait<T>(&self, mut ready: impl FnMut(&mut Inner) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(value) = ready(&mut self.inner()) {
                return value;
            }
            changed.await;
        }
    }
}

impl Stream {
    pub(crate) fn new(link: Arc<Link>, call: MessageHeader, state: Arc<StreamState>) -> Self {
        let header = MessageHeader { r#type: MessageType::STREAM, status: MessageStatus::CONTINUE, ..call };
        Self { link, header, state }
    }

    /// The next piece of data; `None` when the daemon has sent all. What came before a failure is still given.
    pub async fn recv(&self) -> Result<Option<Chunk>, Error> {
        let next = self.state.wait(|inner| match (inner.chunks.pop_front(), &inner.failure) {
            (Some(chunk), _) => Some(Ok(Some(chunk))),
            (None, Some(failure)) => Some(Err(failure.clone())),
            (None, None) if inner.protocol.is_drained() => Some(Ok(None)),
            (None, None) if !inner.protocol.is_open() => Some(Err(Error::StreamClosed)),
            (None, None) => None,
        });
        let next = next.await;
        if let Ok(Some(chunk)) = &next {
            self.link.taken(chunk.cost());
        }
        next
    }

    /// Sends bytes. Waits while the daemon is behind; what was handed over before a drop of this future is sent.
    pub async fn send(&self, data: &[u8]) -> Result<(), Error> {
        for part in data.chunks(STREAM_DATA_MAX) {
            self.room().await?;
            self.link.send(&self.header, part)?;
        }
        Ok(())
    }

    /// Sends a hole: so many bytes of zeros. Only if the flags of the call permit it (`…_SPARSE_STREAM`).
    pub async fn send_hole(&self, length: u64) -> Result<(), Error> {
        self.room().await?;
        let header = MessageHeader { r#type: MessageType::STREAM_HOLE, ..self.header.clone() };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.link.send(&header, &codec::encode(&StreamHole { length, flags: 0 })?)
    }

    /// Waits until little waits to be written. An error if the stream takes no more.
    async fn room(&self) -> Result<(), Error> {
        self.link.out.room(OUT_BACKLOG).await;
        let inner = self.state.inner();
        match &inner.failure {
            Some(failure) => Err(failure.clone()),
            None if inner.protocol.is_open() => Ok(()),
            None => Err(Error::StreamClosed),
        }
    }

    /// Says that all is sent, and waits until the daemon confirms that it has taken it all. Data that has not been
    /// read is given up.
    pub async fn finish(self) -> Result<(), Error> {
        self.finished().await
    }

    pub(crate) async fn finished(&self) -> Result<(), Error> {
        self.close(MessageStatus::OK)?;
        self.confirmed().await
    }

    /// The stream as bytes to read and to write.
    pub fn into_io(self) -> StreamIo {
        StreamIo::new(self)
    }

    /// Gives the stream up, and waits until the daemon confirms it.
    pub async fn abort(self) -> Result<(), Error> {
        self.close(MessageStatus::ERROR)?;
        self.confirmed().await
    }

    async fn confirmed(&self) -> Result<(), Error> {
        let over = self.state.wait(|inner| match &inner.failure {
            Some(failure) => Some(Err(failure.clone())),
            None => inner.protocol.is_over().then_some(Ok(())),
        });
        match self.link.deadline() {
            Some(time) => tokio::time::timeout(time, over).await.unwrap_or(Err(Error::Deadline(time))),
            None => over.await,
        }
    }

    /// Sends the last frame, once. The table keeps the stream until the daemon has confirmed it.
    fn close(&self, status: MessageStatus) -> Result<(), Error> {
        let mut inner = self.state.inner();
        let closes = inner.protocol.close();
        let unread = inner.chunks.drain(..).map(|chunk| chunk.cost()).sum();
        drop(inner);
        self.link.taken(unread);
        if closes {
            self.link.send(&MessageHeader { status, ..self.header.clone() }, &[])?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let read_to_its_end = {
            let inner = self.state.inner();
            inner.protocol.is_drained() && inner.chunks.is_empty()
        };
        let status = if read_to_its_end { MessageStatus::OK } else { MessageStatus::ERROR };
        let _ = self.close(status);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, .. } = self;
        f.debug_struct("Stream")
            .field("call", &header.proc)
            .field("serial", &header.serial)
            .finish_non_exhaustive()
    }
}
