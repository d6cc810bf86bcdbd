//! The write half of a connection. Whoever has a frame writes it at once; what does not fit waits, and the
//! connection's own task writes it when the socket takes more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::{transmit, transmit_descriptor};

/// Frames on their way out, over the socket they go to.
#[derive(Debug)]
pub struct Outgoing {
    socket: UnixStream,
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
    /// No more can be sent; the task ends the connection once `parts` is empty.
    closing: bool,
}

#[derive(Debug)]
enum Part {
    Bytes { frame: Vec<u8>, sent: usize },
    Descriptor(OwnedFd),
}

impl Outgoing {
    /// Nothing is on its way yet.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, state: Mutex::default(), room: Notify::new() }
    }

    /// The socket, for the task that reads.
    pub fn socket(&self) -> &UnixStream {
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
            sent = match transmit(&self.socket, &frame) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return state.close(),
            };
            if sent == frame.len() && descriptors.is_empty() {
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
        state.close();
    }

    /// Whether the connection's task has nothing left to do.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.closing && state.parts.is_empty()
    }

    /// Whether something waits; registers the task that is to be woken when that changes.
    pub fn poll_pending(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        !state.parts.is_empty()
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
            let written = self.socket.try_io(Interest::WRITABLE, || match part {
                Part::Bytes { frame, sent } => transmit(&self.socket, &frame[*sent..]),
                Part::Descriptor(descriptor) => {
                    transmit_descriptor(&self.socket, descriptor.as_fd()).map(|()| 0)
                }
            });
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
                Err(_) => {
                    state.parts.clear();
                    state.bytes = 0;
                    state.closing = true;
                }
            }
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
