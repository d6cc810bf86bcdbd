//! What a connection's task does: it waits for whatever comes next, reads, and serves what has come.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use virtwire_protocol::frame::{self, FRAME_MAX, Frame, FrameBuffer, FrameError};
use virtwire_protocol::keepalive;
use virtwire_protocol::keepalive_timer::{Keepalive, KeepaliveTimer};
use virtwire_protocol::net::MessageType;

use super::{Phase, Session};
use crate::config::Auth;
use crate::reached::Limit;
use crate::serve;

/// The alarm of a client that may take for ever to authenticate.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365);

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
    /// Something came right behind the last answer.
    brisk: bool,
    /// The client has authenticated: frames may be large, and the alarm is the keepalive's.
    known: bool,
    keepalive: Option<KeepaliveTimer>,
    alarm: Pin<Box<Sleep>>,
}

impl Session {
    /// Serves the connection to its end.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut input = Input {
            buffer: FrameBuffer::default(),
            descriptors: VecDeque::new(),
            parked: false,
            brisk: false,
            known: false,
            keepalive: None,
            alarm: Box::pin(tokio::time::sleep(self.limits().auth_timeout.unwrap_or(FOR_EVER))),
        };
        input.buffer.limit(self.limits().frame_before_auth);
        self.service.log.tracer().connected(&self);
        let mut why = None;
        loop {
            let goes_on = match self.wait(&mut input).await {
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
                if let Some(limit) = reason.limit() {
                    self.reached(limit);
                }
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

    /// Waits for what there is to do. The next call of a client whose calls come one right behind another is looked for
    /// before the thread sleeps, since waking a processor takes longer than serving a call.
    async fn wait(&self, input: &mut Input) -> Wake {
        let (since, busy_poll) = (Instant::now(), self.limits().busy_poll);
        if input.brisk
            && let Ok(_turn) = self.service.busy_poll.try_lock()
        {
            while since.elapsed() < busy_poll {
                if let Poll::Ready(wake) = poll_fn(|cx| Poll::Ready(self.poll_wake(input, cx))).await {
                    return wake;
                }
                tokio::task::yield_now().await;
            }
        }
        let wake = poll_fn(|cx| self.poll_wake(input, cx)).await;
        input.brisk = since.elapsed() < busy_poll;
        wake
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

impl Ended {
    /// The limit that the client was at.
    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Unknown => Some(Limit::AuthTimeout),
            Self::Dead => Some(Limit::Keepalive),
            Self::Frame(_) => Some(Limit::Frame),
            Self::ByPeer | Self::Unsealed | Self::Io(_) => None,
        }
    }
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
