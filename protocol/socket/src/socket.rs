//! What a connection runs over: a unix socket, TCP, or TLS on TCP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::{Seal, TcpSocket, TlsSocket, Transmit, receive};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// The only one that carries descriptors.
    Unix(UnixStream),
    /// Bytes as they are, unless a login has sealed it.
    Tcp(TcpSocket),
    /// Bytes that nobody else reads.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// The address at the other end of a network connection.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(socket) => socket.tcp().peer_addr().ok(),
            Self::Tls(socket) => socket.tcp().peer_addr().ok(),
        }
    }

    /// The name in the peer's certificate, as given with [`TlsSocket::new`].
    pub fn peer_name(&self) -> Option<&str> {
        match self {
            Self::Tls(socket) => socket.peer_name(),
            Self::Unix(_) | Self::Tcp(_) => None,
        }
    }

    /// Encrypts everything from now on, where that can be; what has been read already came as it was.
    pub fn seal(&self, seal: Box<dyn Seal>) {
        if let Self::Tcp(socket) = self {
            socket.seal(seal);
        }
    }

    /// Whether it has been [sealed](Self::seal).
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Tcp(socket) if socket.is_sealed())
    }

    /// Ready when something can be read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_read_ready(cx),
            Self::Tcp(socket) if socket.has_unread() => Poll::Ready(Ok(())),
            Self::Tcp(socket) => socket.tcp().poll_read_ready(cx),
            Self::Tls(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Ready when something can be written.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_write_ready(cx),
            Self::Tcp(socket) => socket.tcp().poll_write_ready(cx),
            Self::Tls(socket) => socket.tcp().poll_write_ready(cx),
        }
    }

    /// Ends the connection in both directions, whoever still holds the socket. What has been sent arrives.
    pub fn shut(&self) {
        // It may have ended already.
        let _ = match self {
            Self::Unix(socket) => shutdown(socket, Shutdown::Both),
            Self::Tcp(socket) => shutdown(socket.tcp(), Shutdown::Both),
            Self::Tls(socket) => {
                socket.say_goodbye();
                shutdown(socket.tcp(), Shutdown::Both)
            }
        };
    }

    /// Reads what is there: the count of bytes, 0 at the end.
    pub fn receive(&self, buf: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => {
                let mut bytes = None;
                let read = socket.try_io(Interest::READABLE, || {
                    let got = receive(socket, buf, descriptors)?;
                    bytes = Some(got.bytes);
                    // A short read has emptied the socket; saying so spares the read that would only find that out.
                    if got.drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                bytes.map_or_else(|| read.map(|()| 0), Ok)
            }
            Self::Tcp(socket) => socket.receive(buf),
            Self::Tls(socket) => socket.receive(buf),
        }
    }
}

/// Descriptors go through unix sockets only.
fn no_descriptors() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Transmit for Socket {
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.transmit(bytes),
            Self::Tcp(socket) => socket.transmit(bytes),
            Self::Tls(socket) => socket.transmit(bytes),
        }
    }

    fn transmit_ready(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.transmit_ready(bytes),
            Self::Tcp(socket) => socket.transmit(bytes),
            Self::Tls(socket) => socket.transmit(bytes),
        }
    }

    fn transmit_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.transmit_descriptor(descriptor),
            Self::Tcp(_) | Self::Tls(_) => no_descriptors(),
        }
    }

    fn holds_back(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp(socket) => socket.holds_back(),
            Self::Tls(socket) => socket.holds_back(),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            Self::Unix(_) => Ok(()),
            Self::Tcp(socket) => socket.flush(),
            Self::Tls(socket) => socket.flush(),
        }
    }
}
