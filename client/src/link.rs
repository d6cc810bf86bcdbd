//! One connection's state, shared by callers and the task that reads: who waits for what, and the way out.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use virtwire_protocol::calls::{Calls, UnknownSerial};
use virtwire_protocol::codec::{self, Reader};
use virtwire_protocol::error::VirtError;
use virtwire_protocol::frame::{self, Frame};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus};
use virtwire_protocol::procedures::Program;
use virtwire_protocol::remote::{
    self, ConnectDomainEventCallbackDeregisterAnyArgs, ConnectEventConnectionClosedMsg,
};
use virtwire_socket::{Outgoing, Socket};

use crate::call::{self, Call, Reply, ReplySender, Request};
use crate::close::{CloseReason, OnClose};
use crate::events::{Registration, Registry};
use crate::stream::{Stream, StreamState};
use crate::{Error, ProtocolError};

/// Bytes that may wait to be written before streams wait.
pub(crate) const OUT_BACKLOG: usize = 1 << 20;
/// Bytes of streams that may wait to be taken before nothing more is read from the daemon.
pub(crate) const IN_BACKLOG: usize = 4 << 20;

/// One connection.
pub(crate) struct Link {
    pub(crate) out: Outgoing<Socket>,
    /// Whether descriptors can go with a call.
    descriptors: bool,
    /// Whether it is us who end the connection.
    leaving: AtomicBool,
    /// What a call may take.
    deadline: Option<Duration>,
    table: Mutex<Table>,
    /// Bytes of streams that nobody has taken yet.
    queued: AtomicUsize,
    /// Told when the connection has ended.
    ended: Notify,
    /// Told when the daemon has lost its hypervisor: `virConnectCloseReason`.
    hypervisor: watch::Sender<Option<i32>>,
}

#[derive(Default)]
struct Table {
    calls: Calls<Waiter>,
    /// By the serial of the call that opened them.
    streams: HashMap<u32, Arc<StreamState>>,
    events: Registry,
    /// Procedures that the daemon does not know; named are the older ones that it is called by instead.
    lacking: HashSet<i32>,
    on_close: Vec<OnClose>,
    /// Why the connection has ended.
    end: Option<Error>,
}

/// Whom a reply is for.
struct Waiter {
    header: MessageHeader,
    reply: ReplySender,
    purpose: Purpose,
}

/// What a call is for, beyond its reply.
#[derive(Default)]
pub(crate) enum Purpose {
    /// Nothing.
    #[default]
    Result,
    /// It opens a stream.
    Stream,
    /// It registers for events.
    Events(Registration),
}

impl Link {
    pub(crate) fn new(socket: Socket, descriptors: bool, deadline: Option<Duration>) -> Self {
        Self {
            out: Outgoing::new(socket),
            descriptors,
            leaving: AtomicBool::new(false),
            deadline,
            table: Mutex::default(),
            queued: AtomicUsize::new(0),
            ended: Notify::new(),
            hypervisor: watch::Sender::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a call may take.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The daemon lacks a procedure; `older` is the header of the call in its place.
    pub(crate) fn lacks(&self, older: &MessageHeader) {
        self.table().lacking.insert(older.proc);
    }

    /// Whether the daemon is known to lack the procedure that this one stands in for.
    pub(crate) fn is_lacking(&self, older: &MessageHeader) -> bool {
        self.table().lacking.contains(&older.proc)
    }

    /// Has somebody told when the connection ends; at once if it has.
    pub(crate) fn on_close(&self, tell: OnClose) {
        let mut table = self.table();
        match table.end.clone() {
            None => table.on_close.push(tell),
            Some(end) => {
                drop(table);
                tell(CloseReason::of(&end, self.is_leaving()), &end);
            }
        }
    }

    /// Whether the connection has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.table().end.is_none()
    }

    /// Sends a call; its slot is there before its first byte is.
    pub(crate) fn call(&self, mut request: Request, reply: ReplySender) -> Result<u32, Error> {
        if !request.descriptors.is_empty() && !self.descriptors {
            return Err(Error::Unsupported("descriptors, which go through unix sockets only"));
        }
        let serial = {
            let mut table = self.table();
            if let Some(end) = &table.end {
                return Err(end.clone());
            }
            let opens_stream = matches!(request.purpose, Purpose::Stream);
            if matches!(request.purpose, Purpose::Events(_)) {
                table.events.begin();
            }
            let (header, purpose) = (request.header.clone(), request.purpose);
            let serial = table.calls.issue(Waiter { header, reply, purpose });
            if opens_stream {
                table.streams.insert(serial, Arc::default());
            }
            serial
        };
        if let Some(word) = request.frame.get_mut(SERIAL) {
            word.copy_from_slice(&serial.to_be_bytes());
        }
        self.out.send(request.frame, request.descriptors);
        Ok(serial)
    }

    /// A caller has left. What his call does beyond its reply must be undone, so that waits for the reply.
    pub(crate) fn forget(&self, serial: u32) {
        let mut table = self.table();
        if table.calls.get(serial).is_some_and(|waiter| matches!(waiter.purpose, Purpose::Result)) {
            table.calls.forget(serial);
        }
    }

    /// Sends a frame that is no call.
    pub(crate) fn send(&self, header: &MessageHeader, payload: &[u8]) -> Result<(), Error> {
        self.out.send(frame::encode_bytes(header, payload)?, Vec::new());
        Ok(())
    }

    /// Takes a reply in.
    pub(crate) fn reply(self: &Arc<Self>, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        let serial = frame.header.serial;
        let mut table = self.table();
        let Some(waiter) = table.calls.reply(serial)? else { return Ok(()) };
        let mut answer = answer(frame, descriptors);
        match waiter.purpose {
            Purpose::Result => {}
            Purpose::Stream => match (&mut answer, table.streams.get(&serial)) {
                (Ok(reply), Some(state)) => {
                    let header = MessageHeader { serial, ..waiter.header };
                    reply.stream = Some(Stream::new(Arc::clone(self), header, Arc::clone(state)));
                }
                _ => {
                    table.streams.remove(&serial);
                }
            },
            Purpose::Events(registration) => {
                answer = answer.and_then(|mut reply| {
                    let id = Reader::new(&reply.payload).i32()?;
                    reply.events = Some(table.events.add(id, registration, self));
                    Ok(reply)
                });
                table.events.answered();
            }
        }
        drop(table);
        // What nobody waits for is dropped here: a stream gives itself up, events deregister.
        let _ = waiter.reply.send(answer);
        Ok(())
    }

    /// The call that ends a registration. All of them take the callback id and nothing else.
    pub(crate) fn deregistration(self: &Arc<Self>, id: i32, by: Deregister) -> Call<()> {
        let args = ConnectDomainEventCallbackDeregisterAnyArgs { callback_id: id };
        let request = Request::new(by.program, by.procedure, &args, Vec::new(), Purpose::Result);
        Call::new(Arc::clone(self), request, call::result)
    }

    /// Forgets a registration that the daemon has forgotten.
    pub(crate) fn forget_events(&self, class: &'static str, id: i32) {
        self.table().events.remove(class, id);
    }

    /// Takes an event in.
    pub(crate) fn event(&self, frame: &Frame<'_>) {
        let closed = (remote::PROGRAM.number, remote::Procedure::CONNECT_EVENT_CONNECTION_CLOSED.0);
        if (frame.header.prog, frame.header.proc) == closed
            && let Ok(ConnectEventConnectionClosedMsg { reason }) = codec::decode(frame.payload)
        {
            self.hypervisor.send_replace(Some(reason));
            return;
        }
        match crate::events::decode(frame) {
            Ok(Some(event)) => self.table().events.deliver(event),
            Ok(None) => tracing::debug!(procedure = frame.header.proc, "a message of no known kind"),
            Err(error) => {
                tracing::warn!(procedure = frame.header.proc, %error, "an event that cannot be read")
            }
        }
    }

    /// Where it is seen whether the daemon has lost its hypervisor.
    pub(crate) fn hypervisor(&self) -> watch::Receiver<Option<i32>> {
        self.hypervisor.subscribe()
    }

    /// Takes a stream's frame in. Data may come before the reply to the call that opens the stream.
    pub(crate) fn stream(&self, frame: &Frame<'_>) -> Result<(), Error> {
        let serial = frame.header.serial;
        let mut table = self.table();
        let Some(state) = table.streams.get(&serial).map(Arc::clone) else {
            // The stream has ended; what was on its way goes nowhere.
            return if table.calls.was_issued(serial) { Ok(()) } else { Err(UnknownSerial(serial).into()) };
        };
        let (queued, over) = state.receive(frame);
        if over {
            table.streams.remove(&serial);
        }
        drop(table);
        self.queued.fetch_add(queued, Ordering::Relaxed);
        Ok(())
    }

    /// A stream's bytes have been taken, or will never be.
    pub(crate) fn taken(&self, bytes: usize) {
        if bytes > 0 {
            let before = self.queued.fetch_sub(bytes, Ordering::Relaxed);
            if before > IN_BACKLOG && before - bytes <= IN_BACKLOG {
                self.out.wake();
            }
        }
    }

    /// Whether more may be read.
    pub(crate) fn may_read(&self) -> bool {
        self.queued.load(Ordering::Relaxed) <= IN_BACKLOG
    }

    /// The connection has ended: everybody who waits gets the reason. Only the first reason counts.
    pub(crate) fn end(&self, reason: Error) {
        self.out.abort();
        let mut table = self.table();
        if table.end.is_some() {
            return;
        }
        table.end = Some(reason.clone());
        table.events.clear();
        let waiters: Vec<_> = table.calls.drain().collect();
        let streams: Vec<_> = table.streams.drain().map(|(_, state)| state).collect();
        let on_close = std::mem::take(&mut table.on_close);
        drop(table);
        for waiter in waiters {
            let _ = waiter.reply.send(Err(reason.clone()));
        }
        for state in streams {
            state.fail(reason.clone());
        }
        self.ended.notify_waiters();
        for tell in on_close {
            tell(CloseReason::of(&reason, self.is_leaving()), &reason);
        }
    }

    /// Lets the connection end once everything has been sent.
    pub(crate) fn close(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.out.close();
    }

    /// Whether it is us who end the connection.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Waits until the connection has ended; says why.
    pub(crate) async fn ended(&self) -> Error {
        loop {
            let ended = self.ended.notified();
            if let Some(end) = &self.table().end {
                return end.clone();
            }
            ended.await;
        }
    }

    /// How many replies came after their caller had left.
    pub(crate) fn late_replies(&self) -> u64 {
        self.table().calls.late()
    }

    /// How many calls wait for their replies.
    pub(crate) fn waiting(&self) -> usize {
        self.table().calls.waiting()
    }
}

impl Drop for Link {
    /// Nobody holds the connection any more: its task ends, and the socket with it.
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.end(Error::Closed);
    }
}

/// How to end a registration: class, and the procedure that takes its callback id.
#[derive(Clone, Copy)]
pub(crate) struct Deregister {
    pub(crate) class: &'static str,
    pub(crate) program: &'static Program,
    pub(crate) procedure: i32,
}

/// Where a frame has its serial.
const SERIAL: std::ops::Range<usize> = 20..24;

fn answer(frame: &Frame<'_>, descriptors: Vec<OwnedFd>) -> Result<Reply, Error> {
    match frame.header.status {
        MessageStatus::OK => {
            Ok(Reply { payload: frame.payload.to_vec(), descriptors, stream: None, events: None })
        }
        MessageStatus::ERROR => {
            let error: MessageError = codec::decode(frame.payload)?;
            Err(VirtError::from(error).into())
        }
        other => Err(ProtocolError::Status(other.0).into()),
    }
}
