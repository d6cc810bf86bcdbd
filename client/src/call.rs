//! A call as a future: sent at its first poll, taken out of the table when it is dropped.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Sleep;
use virtwire_protocol::codec::{self, Decode, Encode};
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::Program;

use crate::Error;
use crate::events::EventStream;
use crate::fallback;
use crate::link::{Link, Purpose};
use crate::stream::Stream;

/// What a daemon has answered, not yet decoded.
#[derive(Debug)]
pub struct Reply {
    /// The result struct in XDR.
    pub payload: Vec<u8>,
    /// Descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
    /// The stream that the call has opened.
    pub stream: Option<Stream>,
    /// The events that the call has registered for.
    pub(crate) events: Option<EventStream>,
}

/// What goes to the table with a call: whom to tell.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply, Error>>;

/// A call to the daemon. Nothing is sent before it is polled; dropping it, as a time-out does, gives the reply up.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<T> {
    link: Arc<Link>,
    state: State,
    deadline: Option<Duration>,
    finish: fn(Reply) -> Result<T, Error>,
}

enum State {
    /// To be sent.
    Made(Result<Request, Error>),
    Sent {
        serial: u32,
        reply: oneshot::Receiver<Result<Reply, Error>>,
        /// What to send instead if the daemon does not know the procedure.
        older: Option<Box<Request>>,
        alarm: Option<Pin<Box<Sleep>>>,
    },
    Done,
}

/// A call that can be sent.
pub(crate) struct Request {
    /// The whole frame, but for its serial.
    pub(crate) frame: Vec<u8>,
    pub(crate) header: MessageHeader,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) purpose: Purpose,
}

impl Request {
    /// Encodes the arguments behind length word and header.
    pub(crate) fn new(
        program: &Program,
        procedure: i32,
        args: &dyn Encode,
        descriptors: Vec<OwnedFd>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        // A call without descriptors is a plain one, whatever its procedure permits.
        let r#type = if descriptors.is_empty() { MessageType::CALL } else { MessageType::CALL_WITH_FDS };
        let header = MessageHeader {
            prog: program.number,
            vers: program.version,
            proc: procedure,
            r#type,
            serial: 0,
            status: MessageStatus::OK,
        };
        let frame = frame::encode(&header, descriptors.len(), args)?;
        Ok(Self { frame, header, descriptors, purpose })
    }
}

impl<T> Call<T> {
    pub(crate) fn new(
        link: Arc<Link>,
        request: Result<Request, Error>,
        finish: fn(Reply) -> Result<T, Error>,
    ) -> Self {
        let deadline = link.deadline();
        Self { link, state: State::Made(request), deadline, finish }
    }

    /// Gives the call up after this time, counted from its first poll, with [`Error::Deadline`]. Takes the place of
    /// [`Options::deadline`](crate::Options::deadline).
    pub fn within(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// Sends the call without waiting for its reply.
    pub(crate) fn send(mut self) {
        if let State::Made(Ok(request)) = std::mem::replace(&mut self.state, State::Done) {
            let (sender, _) = oneshot::channel();
            if let Ok(serial) = self.link.call(request, sender) {
                self.link.forget(serial);
            }
        }
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Made(request) => {
                    let alarm = self.deadline.map(|time| Box::pin(tokio::time::sleep(time)));
                    self.state = self.link.send_call(request?, alarm)?;
                }
                State::Sent { serial, mut reply, older, mut alarm } => {
                    let answer = match Pin::new(&mut reply).poll(cx) {
                        // A sender is dropped only with the whole connection.
                        Poll::Ready(answer) => answer.unwrap_or(Err(Error::Closed)),
                        Poll::Pending => {
                            let late = alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready());
                            self.state = State::Sent { serial, reply, older, alarm };
                            if !late {
                                return Poll::Pending;
                            }
                            self.link.forget(serial);
                            self.state = State::Done;
                            return Poll::Ready(Err(Error::Deadline(self.deadline.unwrap_or_default())));
                        }
                    };
                    match (answer, older) {
                        (Err(error), Some(older)) if fallback::is_unknown(&error) => {
                            self.link.lacks(&older.header);
                            self.state = self.link.send_call(*older, alarm)?;
                        }
                        (answer, _) => return Poll::Ready(answer.and_then(self.finish)),
                    }
                }
                State::Done => return Poll::Ready(Err(Error::Closed)),
            }
        }
    }
}

impl Link {
    /// Sends a call, in its older form if the daemon is known to lack the newer.
    fn send_call(&self, request: Request, alarm: Option<Pin<Box<Sleep>>>) -> Result<State, Error> {
        let mut older = fallback::older(&request).map(Box::new);
        let request = match older.take_if(|older| self.is_lacking(&older.header)) {
            Some(older) => *older,
            None => request,
        };
        let (sender, reply) = oneshot::channel();
        let serial = self.call(request, sender)?;
        Ok(State::Sent { serial, reply, older, alarm })
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let State::Sent { serial, .. } = self.state {
            self.link.forget(serial);
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Made(_) => "made",
            State::Sent { .. } => "sent",
            State::Done => "done",
        };
        f.debug_tuple("Call").field(&state).finish()
    }
}

/// The result alone.
pub(crate) fn result<T: for<'a> Decode<'a>>(reply: Reply) -> Result<T, Error> {
    Ok(codec::decode(&reply.payload)?)
}

/// The result and its descriptors.
pub(crate) fn with_descriptors<T: for<'a> Decode<'a>>(reply: Reply) -> Result<(T, Vec<OwnedFd>), Error> {
    Ok((codec::decode(&reply.payload)?, reply.descriptors))
}

/// The descriptors of a reply that has no result.
pub(crate) fn descriptors(reply: Reply) -> Result<Vec<OwnedFd>, Error> {
    with_descriptors::<()>(reply).map(|((), descriptors)| descriptors)
}

/// The result and the stream.
pub(crate) fn with_stream<T: for<'a> Decode<'a>>(reply: Reply) -> Result<(T, Stream), Error> {
    let value = codec::decode(&reply.payload)?;
    Ok((value, reply.stream.ok_or(Error::StreamClosed)?))
}

/// The stream of a call that has no result.
pub(crate) fn stream(reply: Reply) -> Result<Stream, Error> {
    with_stream::<()>(reply).map(|((), stream)| stream)
}

/// The events of a registration.
pub(crate) fn events(reply: Reply) -> Result<EventStream, Error> {
    reply.events.ok_or(Error::Closed)
}

/// The reply as it came.
pub(crate) fn raw(reply: Reply) -> Result<Reply, Error> {
    Ok(reply)
}
