//! What a connection runs over, as libvirt's administration sees it.

mod dname;
mod tls;

use virtwire_driver_api::Peer;
pub(crate) use virtwire_socket::{Socket, TcpSocket};

pub use dname::subject;
pub(crate) use tls::Acceptor;

/// libvirt's number of the transport (`VIR_CLIENT_TRANS_…`).
pub(crate) fn number(socket: &Socket) -> u32 {
    match socket {
        Socket::Unix(_) => 0,
        Socket::Tcp(_) => 1,
        Socket::Tls(_) => 2,
    }
}

/// The process at the other end of a unix socket.
pub(crate) fn peer(socket: &Socket) -> Option<Peer> {
    let Socket::Unix(socket) = socket else { return None };
    let cred = socket.peer_cred().ok()?;
    Some(Peer { pid: cred.pid().unwrap_or_default(), uid: cred.uid(), gid: cred.gid() })
}
