//! What a connection runs over: a unix socket, TCP, or TLS on TCP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::{TlsSocket, Transmit, receive};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// The only one that carries descriptors.
    Unix(UnixStream),
    /// Bytes as they are.
    Tcp(TcpStream),
    /// Bytes that nobody else reads.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// The address at the other end of a network connection.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(socket) => socket.peer_addr().ok(),
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

    /// Ready when something can be read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_read_ready(cx),
            Self::Tcp(socket) => socket.poll_read_ready(cx),
            Self::Tls(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Ready when something can be written.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_write_ready(cx),
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Tls(socket) => socket.tcp().poll_write_ready(cx),
        }
    }

    /// Ends the connection in both directions, whoever still holds the socket. What has been sent arrives.
    pub fn shut(&self) {
        // It may have ended already.
        let _ = match self {
            Self::Unix(socket) => shutdown(socket, Shutdown::Both),
            Self::Tcp(socket) => shutdown(socket, Shutdown::Both),
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
            Self::Tcp(socket) => socket.try_read(buf),
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
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Tls(socket) => socket.transmit(bytes),
        }
    }

    fn transmit_ready(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.transmit_ready(bytes),
            Self::Tcp(socket) => socket.try_write(bytes),
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
            Self::Unix(_) | Self::Tcp(_) => false,
            Self::Tls(socket) => socket.holds_back(),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => Ok(()),
            Self::Tls(socket) => socket.flush(),
        }
    }
}
