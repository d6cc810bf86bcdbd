//! What is on its way to QEMU. A line is written whole even when its caller has left, or the next one would be garbage.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tracing::debug;

/// The most descriptors that one command carries; `SCM_MAX_FD` is 253, QEMU takes 16 at once.
pub(crate) const FDS_MAX: usize = 16;

/// Lines not yet taken by the socket, oldest first.
#[derive(Default)]
pub(crate) struct Outgoing(VecDeque<Line>);

struct Line {
    bytes: Vec<u8>,
    sent: usize,
    /// Descriptors that travel with the first byte.
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// Queues a line, newline included.
    pub(crate) fn push(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) {
        self.0.push_back(Line { bytes, sent: 0, fds });
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes as much as the socket takes now. A socket that takes no more is left to its reader, since there may be
    /// replies to read before the end.
    pub(crate) fn flush(&mut self, stream: &UnixStream) {
        while let Some(line) = self.0.front_mut() {
            match stream.try_io(Interest::WRITABLE, || line.send(stream.as_fd())) {
                Ok(sent) => line.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!(%error, "writing to the monitor failed");
                    self.0.clear();
                    // The peer then sees the end, and so does the reader.
                    let _ = shutdown(stream, Shutdown::Write);
                    return;
                }
            }
            if line.sent == line.bytes.len() {
                self.0.pop_front();
            }
        }
    }
}

impl Line {
    fn send(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in one command"));
        }
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        Ok(sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?)
    }

    fn advance(&mut self, sent: usize) {
        self.sent += sent;
        if sent > 0 {
            self.fds.clear();
        }
    }
}
