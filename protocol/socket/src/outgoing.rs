//! The write half of a connection. Whoever has a frame writes it at once; what does not fit waits, and the
//! connection's own task writes it when the socket takes more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::{transmit, transmit_descriptor};

/// A socket that frames go out through. Nothing here waits: what cannot be done is `WouldBlock`.
pub trait Transmit {
    /// Writes as much as fits.
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The same where the socket was said to be writable; `WouldBlock` takes that back.
    fn transmit_ready(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends a descriptor, where the socket was said to be writable.
    fn transmit_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()>;

    /// Whether bytes that it has taken are still inside it.
    fn holds_back(&self) -> bool {
        false
    }

    /// Writes what it holds back.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Transmit for UnixStream {
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        transmit(self, bytes)
    }

    fn transmit_ready(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || transmit(self, bytes))
    }

    fn transmit_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.try_io(Interest::WRITABLE, || transmit_descriptor(self, descriptor))
    }
}

/// Frames on their way out, over the socket they go to.
#[derive(Debug)]
pub struct Outgoing<S = UnixStream> {
    socket: S,
    state: Mutex<State>,
    /// Told whenever the backlog has shrunk: streams wait for it.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    parts: VecDeque<Part>,
    /// Bytes in `parts`.
    bytes: usize,
    /// The connection's task.
    waker: Option<Waker>,
    /// No more can be sent; the task ends the connection once everything has been.
    closing: bool,
    /// The task ends the connection now.
    aborted: bool,
}

#[derive(Debug)]
enum Part {
    Bytes { frame: Vec<u8>, sent: usize },
    Descriptor(OwnedFd),
}

impl<S: Transmit> Outgoing<S> {
    /// Nothing is on its way yet.
    pub fn new(socket: S) -> Self {
        Self { socket, state: Mutex::default(), room: Notify::new() }
    }

    /// The socket, for the task that reads.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame and the descriptors behind it.
    pub fn send(&self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
        let mut state = self.state();
        if state.closing {
            return;
        }
        let mut sent = 0;
        if state.parts.is_empty() {
            sent = match self.socket.transmit(&frame) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return state.close(),
            };
            if sent == frame.len() && descriptors.is_empty() {
                if self.socket.holds_back() {
                    state.wake();
                }
                return;
            }
        }
        state.bytes += frame.len() - sent;
        if sent < frame.len() {
            state.parts.push_back(Part::Bytes { frame, sent });
        }
        state.parts.extend(descriptors.into_iter().map(Part::Descriptor));
        state.wake();
    }

    /// Bytes that wait.
    pub fn backlog(&self) -> usize {
        self.state().bytes
    }

    /// Lets the connection end when everything has been sent.
    pub fn close(&self) {
        self.state().close();
    }

    /// Lets the connection end now, whatever waits.
    pub fn abort(&self) {
        let mut state = self.state();
        state.parts.clear();
        state.bytes = 0;
        state.aborted = true;
        state.close();
    }

    /// Whether the connection's task has nothing left to do.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.closing && (state.aborted || (state.parts.is_empty() && !self.socket.holds_back()))
    }

    /// Whether something waits; registers the task that is to be woken when that changes.
    pub fn poll_pending(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        !state.parts.is_empty() || self.socket.holds_back()
    }

    /// Wakes the connection's task, to look at its limits again.
    pub fn wake(&self) {
        self.state().wake();
    }

    /// Writes what the socket takes.
    pub fn flush(&self) {
        let mut state = self.state();
        let before = state.bytes;
        while let Some(part) = state.parts.front_mut() {
            let written = match part {
                Part::Bytes { frame, sent } => self.socket.transmit_ready(&frame[*sent..]),
                Part::Descriptor(descriptor) => {
                    self.socket.transmit_descriptor(descriptor.as_fd()).map(|()| 0)
                }
            };
            match written {
                Ok(count) => {
                    let done = match part {
                        Part::Bytes { frame, sent } => {
                            *sent += count;
                            *sent == frame.len()
                        }
                        Part::Descriptor(_) => true,
                    };
                    state.bytes -= count;
                    if done {
                        state.parts.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => state.fail(),
            }
        }
        if self.socket.flush().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            state.fail();
        }
        if state.bytes < before || state.closing {
            self.room.notify_waiters();
        }
    }

    /// Waits until fewer than `limit` bytes wait, or nothing can be sent any more.
    pub async fn room(&self, limit: usize) {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state();
                if state.bytes < limit || state.closing {
                    return;
                }
            }
            notified.await;
        }
    }
}

impl State {
    /// The socket takes nothing more.
    fn fail(&mut self) {
        self.parts.clear();
        self.bytes = 0;
        (self.closing, self.aborted) = (true, true);
    }

    fn close(&mut self) {
        self.closing = true;
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
