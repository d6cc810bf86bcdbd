//! Streams of a connection: frames to and from the drivers' ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use virtwire_driver_api::{FromClient, SessionEnd, StreamEnd, ToClient, stream};
use virtwire_protocol::codec;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::frame::{self, Frame, STREAM_DATA_MAX};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};

use crate::serve::error_frame;
use crate::session::Session;

/// All streams of a connection, by the serial of the call that opened them.
pub(crate) struct Streams {
    table: Mutex<HashMap<u32, Entry>>,
    /// Streams whose call has not been answered: usually none, so that an answer need not look.
    opening: AtomicUsize,
    /// Bytes from the client that no driver has taken yet.
    queued: AtomicUsize,
    limit: usize,
}

enum Entry {
    Opening { end: SessionEnd, sparse: bool },
    Open { to_pump: mpsc::UnboundedSender<FromClient>, sparse: bool },
}

impl Streams {
    pub(crate) fn new(limit: usize) -> Self {
        Self { table: Mutex::default(), opening: AtomicUsize::new(0), queued: AtomicUsize::new(0), limit }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether drivers are behind with what the client has sent.
    pub(crate) fn are_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > self.limit
    }

    /// A stream for a call that is being served.
    pub(crate) fn open(&self, header: &MessageHeader, sparse: bool) -> Result<StreamEnd, VirtError> {
        let mut table = self.table();
        if table.contains_key(&header.serial) {
            return Err(ErrorDomain::STREAMS.internal_error("a stream with this serial is open already"));
        }
        let (end, driver_end) = stream(sparse);
        table.insert(header.serial, Entry::Opening { end, sparse });
        self.opening.fetch_add(1, Ordering::Relaxed);
        Ok(driver_end)
    }

    /// The call has succeeded: data may flow.
    pub(crate) fn begin(&self, session: &Arc<Session>, header: &MessageHeader) {
        if self.opening.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut table = self.table();
        if let Some(Entry::Opening { end, sparse }) = self.take_opening(&mut table, header) {
            let (to_pump, from_client) = mpsc::unbounded_channel();
            table.insert(header.serial, Entry::Open { to_pump, sparse });
            let header = MessageHeader {
                r#type: MessageType::STREAM,
                status: MessageStatus::CONTINUE,
                ..header.clone()
            };
            tokio::spawn(Pump { session: Arc::clone(session), header, end, from_client }.run());
        }
    }

    /// The call has failed: there is no stream.
    pub(crate) fn refuse(&self, header: &MessageHeader) {
        if self.opening.load(Ordering::Relaxed) > 0 {
            self.take_opening(&mut self.table(), header);
        }
    }

    fn take_opening(&self, table: &mut HashMap<u32, Entry>, header: &MessageHeader) -> Option<Entry> {
        if !matches!(table.get(&header.serial), Some(Entry::Opening { .. })) {
            return None;
        }
        self.opening.fetch_sub(1, Ordering::Relaxed);
        table.remove(&header.serial)
    }

    /// A stream frame from the client. Frames for no stream are dropped.
    pub(crate) fn incoming(&self, session: &Session, frame: &Frame<'_>) {
        let table = self.table();
        let Some(Entry::Open { to_pump, sparse }) = table.get(&frame.header.serial) else { return };
        let item = match (frame.header.r#type, frame.header.status) {
            (MessageType::STREAM_HOLE, _) if !sparse => {
                let error =
                    ErrorDomain::STREAMS.rpc("a hole on a stream that was opened without the sparse flag");
                return self.fail(table, session, &frame.header, &error);
            }
            (MessageType::STREAM_HOLE, _) => match codec::decode::<StreamHole>(frame.payload) {
                Ok(StreamHole { length, .. }) if length >= 0 => FromClient::Hole(length.unsigned_abs()),
                _ => {
                    let error = ErrorDomain::STREAMS.rpc("Unable to decode message payload");
                    return self.fail(table, session, &frame.header, &error);
                }
            },
            (_, MessageStatus::CONTINUE) => FromClient::Data(frame.payload.to_vec()),
            (_, MessageStatus::OK) => FromClient::Finish,
            _ => FromClient::Abort,
        };
        self.queued.fetch_add(weight(&item), Ordering::Relaxed);
        // The pump may have ended a moment ago; then the frame is for no stream.
        let _ = to_pump.send(item);
    }

    /// Ends a stream with an error; its pump ends since its channel does.
    fn fail(
        &self,
        mut table: MutexGuard<'_, HashMap<u32, Entry>>,
        session: &Session,
        header: &MessageHeader,
        error: &VirtError,
    ) {
        table.remove(&header.serial);
        drop(table);
        let header =
            MessageHeader { r#type: MessageType::STREAM, status: MessageStatus::ERROR, ..header.clone() };
        session.send(error_frame(&header, error), Vec::new());
    }

    /// The pump has taken an item from its queue.
    fn taken(&self, session: &Session, item: &FromClient) {
        let full = self.are_full();
        self.queued.fetch_sub(weight(item), Ordering::Relaxed);
        if full && !self.are_full() {
            session.wake();
        }
    }

    fn remove(&self, serial: u32) {
        self.table().remove(&serial);
    }

    /// The connection has ended: drivers see their ends close.
    pub(crate) fn clear(&self) {
        self.table().clear();
    }
}

/// What an item costs while it waits. Small ones cost something too.
fn weight(item: &FromClient) -> usize {
    match item {
        FromClient::Data(bytes) => bytes.len() + 64,
        FromClient::Hole(_) | FromClient::Finish | FromClient::Abort => 64,
    }
}

/// Carries one stream both ways.
struct Pump {
    session: Arc<Session>,
    /// Of a frame with data.
    header: MessageHeader,
    end: SessionEnd,
    from_client: mpsc::UnboundedReceiver<FromClient>,
}

impl Pump {
    async fn run(mut self) {
        // Taken from the client, not yet by the driver.
        let mut waiting = None;
        let (mut driver_done, mut finishing) = (false, false);
        loop {
            tokio::select! {
                item = self.end.from_driver.recv(), if !driver_done => match item {
                    Some(ToClient::Data(bytes)) => self.data(&bytes).await,
                    Some(ToClient::Hole(length)) => self.hole(length),
                    Some(ToClient::End) if finishing => break self.finished(),
                    Some(ToClient::End) => {
                        driver_done = true;
                        self.frame(&[]);
                    }
                    Some(ToClient::Error(error)) => break self.failed(&error),
                    None => break self.failed(&ErrorDomain::STREAMS.internal_error("the stream was dropped")),
                },
                item = self.from_client.recv(), if waiting.is_none() => match item {
                    None => break,
                    Some(item) => {
                        self.session.streams.taken(&self.session, &item);
                        match item {
                            FromClient::Abort => {
                                let _ = self.end.to_driver.try_send(FromClient::Abort);
                                break self.finished();
                            }
                            FromClient::Finish if driver_done => break self.finished(),
                            FromClient::Finish => finishing = true,
                            FromClient::Data(_) | FromClient::Hole(_) => {}
                        }
                        waiting = Some(item);
                    }
                },
                permit = self.end.to_driver.reserve(), if waiting.is_some() => {
                    // A driver that takes nothing more has said why, or will.
                    if let (Ok(permit), Some(item)) = (permit, waiting.take()) {
                        permit.send(item);
                    }
                }
            }
        }
        self.session.streams.remove(self.header.serial);
    }

    async fn data(&self, bytes: &[u8]) {
        for part in bytes.chunks(STREAM_DATA_MAX) {
            self.session.room().await;
            self.frame(part);
        }
    }

    fn frame(&self, part: &[u8]) {
        if let Ok(frame) = frame::encode_bytes(&self.header, part) {
            self.session.send(frame, Vec::new());
        }
    }

    fn hole(&self, length: u64) {
        let header = MessageHeader { r#type: MessageType::STREAM_HOLE, ..self.header.clone() };
        let hole = StreamHole { length: length.try_into().unwrap_or(i64::MAX), flags: 0 };
        if let Ok(frame) = frame::encode(&header, 0, &hole) {
            self.session.send(frame, Vec::new());
        }
    }

    fn finished(&self) {
        let header = MessageHeader { status: MessageStatus::OK, ..self.header.clone() };
        if let Ok(frame) = frame::encode_bytes(&header, &[]) {
            self.session.send(frame, Vec::new());
        }
    }

    fn failed(&self, error: &VirtError) {
        let header = MessageHeader { status: MessageStatus::ERROR, ..self.header.clone() };
        self.session.send(error_frame(&header, error), Vec::new());
    }
}
