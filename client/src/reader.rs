//! The task of a connection: reads and hands out frames, writes what waited, answers pings.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use virtwire_protocol::frame::{self, Frame, FrameBuffer, FrameError};
use virtwire_protocol::keepalive;
use virtwire_protocol::keepalive_timer::{Keepalive, KeepaliveTimer};
use virtwire_protocol::net::{MessageType, VIR_NET_MESSAGE_NUM_FDS_MAX};

use crate::link::{Link, OUT_BACKLOG};
use crate::transport::Helper;
use crate::{Error, ProtocolError};

/// What the task alone knows.
struct Input {
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
    /// Frames may be in the buffer that were not handed out, since streams were full.
    parked: bool,
    keepalive: Option<(KeepaliveTimer, Pin<Box<Sleep>>)>,
}

/// What there is to do.
enum Wake {
    Read,
    Frames,
    Flush,
    Keepalive,
    End,
}

/// Serves a connection to its end, and tells everybody who waits why it ended.
///
/// The task does not keep the connection alive: it ends when nobody holds it any more.
pub(crate) async fn run(link: Weak<Link>, keepalive: Option<(Duration, u32)>, mut helper: Option<Helper>) {
    let keepalive = keepalive.map(|(interval, count)| {
        let now = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until((now + interval).into()));
        (KeepaliveTimer::new(interval, count, now), alarm)
    });
    let mut input =
        Input { buffer: FrameBuffer::default(), descriptors: VecDeque::new(), parked: false, keepalive };
    loop {
        let wake = poll_fn(|cx| match link.upgrade() {
            Some(link) => input.poll_wake(&link, cx),
            None => Poll::Ready(Wake::End),
        });
        let wake = wake.await;
        let Some(link) = link.upgrade() else { return };
        let step = match wake {
            Wake::Read => input.read(&link).and_then(|()| input.frames(&link)),
            Wake::Frames => input.frames(&link),
            Wake::Flush => {
                link.out.flush();
                Ok(())
            }
            Wake::Keepalive => input.keepalive(&link),
            Wake::End => Err(Error::Closed),
        };
        if let Err(reason) = step {
            // What a program such as `ssh` has to say is the better reason.
            let explanation = match (&mut helper, &reason) {
                (Some(helper), Error::Closed | Error::Io(_) | Error::Protocol(_)) if !link.is_leaving() => {
                    helper.explanation().await
                }
                _ => None,
            };
            let reason = explanation.map_or(reason, Error::from);
            tracing::debug!(%reason, "connection ends");
            return link.end(reason);
        }
    }
}

impl Input {
    fn poll_wake(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<Wake> {
        // The waker is registered before the limits are looked at, so that no change of theirs is missed.
        let pending = link.out.poll_pending(cx.waker());
        if link.out.is_done() {
            return Poll::Ready(Wake::End);
        }
        if pending && let Poll::Ready(ready) = link.out.socket().poll_write_ready(cx) {
            return Poll::Ready(if ready.is_ok() { Wake::Flush } else { Wake::End });
        }
        if link.may_read() {
            if self.parked {
                return Poll::Ready(Wake::Frames);
            }
            if let Poll::Ready(ready) = link.out.socket().poll_read_ready(cx) {
                return Poll::Ready(if ready.is_ok() { Wake::Read } else { Wake::End });
            }
        }
        let due = self.keepalive.as_mut().is_some_and(|(_, alarm)| alarm.as_mut().poll(cx).is_ready());
        if due { Poll::Ready(Wake::Keepalive) } else { Poll::Pending }
    }

    fn keepalive(&mut self, link: &Link) -> Result<(), Error> {
        let Some((timer, alarm)) = &mut self.keepalive else { return Ok(()) };
        let next = match timer.poll(Instant::now()) {
            Keepalive::Wait(next) => next,
            Keepalive::Ping => {
                link.send(&frame::keepalive(keepalive::Procedure::PING), &[])?;
                Instant::now()
            }
            // A connection that is not read, since streams are full, cannot hear pongs either.
            Keepalive::Dead if !link.may_read() => return Ok(()),
            Keepalive::Dead => return Err(Error::Silent),
        };
        alarm.as_mut().reset(next.into());
        Ok(())
    }

    fn read(&mut self, link: &Link) -> Result<(), Error> {
        match link.out.socket().receive(self.buffer.space(), &mut self.descriptors) {
            Ok(0) if self.buffer.is_partial() => Err(ProtocolError::CutShort.into()),
            Ok(0) => Err(Error::Closed),
            Ok(bytes) => {
                self.buffer.filled(bytes);
                if let Some((timer, _)) = &mut self.keepalive {
                    timer.heard(Instant::now());
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands out the frames that have come whole.
    fn frames(&mut self, link: &Arc<Link>) -> Result<(), Error> {
        loop {
            self.parked = !link.may_read();
            if self.parked {
                return Ok(());
            }
            let Some(frame) = self.buffer.next_frame()? else { break };
            if frame.descriptors > self.descriptors.len() {
                return Err(FrameError::Unmatched.into());
            }
            let descriptors = self.descriptors.drain(..frame.descriptors).collect();
            hand_out(link, &frame, descriptors)?;
        }
        // Descriptors are only ever announced: those of a frame to come are at most as many as a frame may carry.
        let too_many = self.descriptors.len() > VIR_NET_MESSAGE_NUM_FDS_MAX as usize;
        if too_many || (!self.descriptors.is_empty() && !self.buffer.is_partial()) {
            return Err(FrameError::Unmatched.into());
        }
        Ok(())
    }
}

fn hand_out(link: &Arc<Link>, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
    let header = &frame.header;
    match header.r#type {
        MessageType::REPLY | MessageType::REPLY_WITH_FDS => link.reply(frame, descriptors),
        MessageType::STREAM | MessageType::STREAM_HOLE => link.stream(frame),
        MessageType::MESSAGE if header.prog == keepalive::PROGRAM.number => {
            // Who does not read what is sent waits for no pong.
            if header.proc == keepalive::Procedure::PING.0 && link.out.backlog() < OUT_BACKLOG {
                link.send(&frame::keepalive(keepalive::Procedure::PONG), &[])?;
            }
            Ok(())
        }
        MessageType::MESSAGE => {
            link.event(frame);
            Ok(())
        }
        other => Err(ProtocolError::Type(other.0).into()),
    }
}
