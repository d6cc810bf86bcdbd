//! What a connection runs over: a unix socket, TCP, or TLS on TCP.

mod dname;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use virtwire_driver_api::Peer;
use virtwire_socket::{Transmit, receive};

pub(crate) use tls::{Acceptor, TlsSocket};

/// A connected socket.
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// libvirt's number of the transport (`VIR_CLIENT_TRANS_…`).
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::Unix(_) => 0,
            Self::Tcp(_) => 1,
            Self::Tls(_) => 2,
        }
    }

    /// The process at the other end of a unix socket.
    pub(crate) fn peer(&self) -> Option<Peer> {
        let Self::Unix(socket) = self else { return None };
        let cred = socket.peer_cred().ok()?;
        Some(Peer { pid: cred.pid().unwrap_or_default(), uid: cred.uid(), gid: cred.gid() })
    }

    /// The address at the other end of a network connection.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(socket) => socket.peer_addr().ok(),
            Self::Tls(socket) => socket.tcp().peer_addr().ok(),
        }
    }

    /// The distinguished name of the client's certificate.
    pub(crate) fn dname(&self) -> Option<&str> {
        match self {
            Self::Tls(socket) => socket.dname(),
            Self::Unix(_) | Self::Tcp(_) => None,
        }
    }

    /// Ready when something can be read.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_read_ready(cx),
            Self::Tcp(socket) => socket.poll_read_ready(cx),
            Self::Tls(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Ready when something can be written.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_write_ready(cx),
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Tls(socket) => socket.tcp().poll_write_ready(cx),
        }
    }

    /// Reads what is there: the count of bytes, 0 at the end.
    pub(crate) fn receive(&self, buf: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
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
