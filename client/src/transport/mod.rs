//! From a URI to a connected socket.

mod certificates;
mod command;
mod embedded;
mod tls;
mod tls_error;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};
use virtwire_socket::{Socket, TcpSocket};

use crate::Error;
use crate::uri::{Target, Transport};

pub(crate) use command::Helper;
pub use command::HelperError;
pub use embedded::{Embedded, embed};
pub use tls_error::TlsError;

/// Port of TCP as it is.
const TCP_PORT: u16 = 16509;
/// Port of TLS.
const TLS_PORT: u16 = 16514;

/// A connected socket, and the program behind it if there is one.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) helper: Option<Helper>,
}

impl Wire {
    /// Whether descriptors can go through it.
    pub(crate) fn carries_descriptors(&self) -> bool {
        self.helper.is_none() && matches!(self.socket, Socket::Unix(_))
    }
}

impl Wire {
    /// Whether nobody on the way can read and change what goes through it.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self.socket, Socket::Tcp(_))
    }
}

impl From<UnixStream> for Wire {
    fn from(socket: UnixStream) -> Self {
        Self { socket: Socket::Unix(socket), helper: None }
    }
}

/// Connects to where a URI leads.
pub(crate) async fn connect(target: &Target, read_only: bool) -> Result<Wire, Error> {
    let plain = |socket| Wire { socket, helper: None };
    match target.transport {
        Transport::Unix => match target.in_process.then(|| embedded::connect(read_only)).flatten() {
            Some(embedded) => embedded,
            None => unix(&target.socket(read_only)).await,
        },
        Transport::Tcp => Ok(plain(Socket::Tcp(TcpSocket::new(tcp(target, TCP_PORT).await?)))),
        Transport::Tls => {
            let tcp = tcp(target, TLS_PORT).await?;
            Ok(plain(Socket::Tls(Box::new(tls::connect(tcp, target).await?))))
        }
        Transport::Ssh | Transport::Ext => command::connect(target, read_only),
    }
}

/// Connects to a socket of this host.
pub(crate) async fn unix(path: &Path) -> Result<Wire, Error> {
    let failed = |error: io::Error| Error::Connect(path.display().to_string(), Arc::new(error));
    Ok(UnixStream::connect(path).await.map_err(failed)?.into())
}

async fn tcp(target: &Target, usual: u16) -> Result<TcpStream, Error> {
    let (host, port) = (target.host(), target.port.unwrap_or(usual));
    let failed = |error: io::Error| Error::Connect(format!("{host}, port {port}"), Arc::new(error));
    let socket = TcpStream::connect((host, port)).await.map_err(failed)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
