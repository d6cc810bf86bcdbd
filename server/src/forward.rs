//! virtproxyd's role: one socket under libvirtd's name, whose clients are carried to the daemon of the hypervisor that
//! they open. What they say from then on is passed on frame by frame, descriptors with it, and so are the answers.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::UnixStream;
use virtwire_protocol::codec::{self, Decode, Encode, EncodeError};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::frame::{self, Frame, FrameBuffer, FrameError};
use virtwire_protocol::net::{MessageHeader, MessageStatus};
use virtwire_protocol::remote::{
    self, AuthListRet, AuthType, ConnectOpenArgs, ConnectSetIdentityArgs, Procedure,
};
use virtwire_socket::Outgoing;

use crate::access::{Identity, stated};
use crate::serve;
use crate::session::Session;
use crate::transport::Socket;

/// The daemons by the scheme of the URIs that they serve. The first whose socket is there serves clients who name none.
const DAEMONS: [(&str, &str); 12] = [
    ("qemu", "virtqemud"),
    ("lxc", "virtlxcd"),
    ("xen", "virtxend"),
    ("vbox", "virtvboxd"),
    ("bhyve", "virtbhyved"),
    ("ch", "virtchd"),
    ("interface", "virtinterfaced"),
    ("network", "virtnetworkd"),
    ("nodedev", "virtnodedevd"),
    ("nwfilter", "virtnwfilterd"),
    ("secret", "virtsecretd"),
    ("storage", "virtstoraged"),
];

/// The socket of the daemon that serves a URI.
pub(crate) fn socket(dir: &Path, uri: &str, read_only: bool) -> Result<PathBuf, VirtError> {
    let ending = if read_only { "-sock-ro" } else { "-sock" };
    let path = |daemon: &str| dir.join(format!("{daemon}{ending}"));
    let found = if uri.is_empty() {
        DAEMONS.iter().map(|(_, daemon)| path(daemon)).find(|path| path.exists())
    } else {
        let scheme = uri.split(':').next().unwrap_or_default();
        DAEMONS.iter().find(|(known, _)| *known == scheme).map(|(_, daemon)| path(daemon))
    };
    found.ok_or_else(|| ErrorDomain::NONE.no_connect(if uri.is_empty() { "(null)" } else { uri }))
}

/// A payload as it came.
struct Raw<'a>(&'a [u8]);

impl Encode for Raw<'_> {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}

/// The daemon behind this one, on a connection of one client's own.
pub(crate) struct Upstream {
    out: Outgoing<Socket>,
}

/// Why the connection to the daemon behind ends.
enum Ended {
    Closed,
    Frame,
}

impl From<FrameError> for Ended {
    fn from(_: FrameError) -> Self {
        Self::Frame
    }
}

impl Upstream {
    /// Connects, opens what the client wants to have opened, and says who the client is. An error is the other daemon's
    /// own.
    pub(crate) async fn open(
        path: &Path,
        args: &ConnectOpenArgs,
        client: &Identity,
    ) -> Result<(Self, FrameBuffer), VirtError> {
        let lost = |error: std::io::Error| {
            let text = format_args!("Failed to connect socket to '{}'", path.display());
            VirtError::system(ErrorDomain::RPC, &error, text)
        };
        let socket = UnixStream::connect(path).await.map_err(lost)?;
        let mut buffer = FrameBuffer::default();
        let auth: AuthListRet = call(&socket, &mut buffer, Procedure::AUTH_LIST, &()).await?;
        if auth.types != [AuthType::NONE] {
            return Err(ErrorDomain::RPC.auth_failed("the daemon behind this one wants a login"));
        }
        call::<()>(&socket, &mut buffer, Procedure::CONNECT_OPEN, args).await?;
        let identity = ConnectSetIdentityArgs { params: stated::parameters(client), flags: 0 };
        call::<()>(&socket, &mut buffer, Procedure::CONNECT_SET_IDENTITY, &identity).await?;
        Ok((Self { out: Outgoing::new(Socket::Unix(socket)) }, buffer))
    }

    /// Passes a frame of the client's on.
    pub(crate) fn pass(&self, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) {
        if let Ok(bytes) = frame::encode(&frame.header, frame.descriptors, &Raw(frame.payload)) {
            self.out.send(bytes, descriptors);
        }
    }

    /// Bytes that wait to be passed on.
    pub(crate) fn backlog(&self) -> usize {
        self.out.backlog()
    }

    /// Ends the connection.
    pub(crate) fn abort(&self) {
        self.out.abort();
        self.out.socket().shut();
    }

    /// Passes on until one of the two ends.
    pub(crate) async fn carry(self: Arc<Self>, session: Arc<Session>, mut buffer: FrameBuffer) {
        let mut descriptors = VecDeque::new();
        loop {
            let socket = self.out.socket();
            let goes_on = tokio::select! {
                ended = std::future::poll_fn(|cx| self.poll_flush(cx)) => {
                    if !ended {
                        self.out.flush();
                        // The client may be read again.
                        session.wake();
                    }
                    if ended { Err(Ended::Closed) } else { Ok(()) }
                }
                ready = async {
                    session.room().await;
                    std::future::poll_fn(|cx| socket.poll_read_ready(cx)).await
                } => match ready.and_then(|()| self.read(&mut buffer, &mut descriptors)) {
                    Ok(true) => answer(&session, &mut buffer, &mut descriptors),
                    Ok(false) | Err(_) => Err(Ended::Closed),
                },
            };
            if goes_on.is_err() {
                break;
            }
        }
        self.abort();
        session.close();
    }

    /// Ready with `false` when something can be written, with `true` when nothing more is to be.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let pending = self.out.poll_pending(cx.waker());
        if self.out.is_done() {
            return Poll::Ready(true);
        }
        if !pending {
            return Poll::Pending;
        }
        self.out.socket().poll_write_ready(cx).map(|ready| ready.is_err())
    }

    /// Reads what is there. `false` at the end.
    fn read(&self, buffer: &mut FrameBuffer, descriptors: &mut VecDeque<OwnedFd>) -> std::io::Result<bool> {
        match self.out.socket().receive(buffer.space(), descriptors) {
            Ok(0) => Ok(false),
            Ok(count) => {
                buffer.filled(count);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Passes whole frames of the other daemon's to the client.
fn answer(
    session: &Session,
    buffer: &mut FrameBuffer,
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<(), Ended> {
    while let Some(frame) = buffer.next_frame()? {
        if frame.descriptors > descriptors.len() {
            return Err(Ended::Frame);
        }
        let with: Vec<_> = descriptors.drain(..frame.descriptors).collect();
        let bytes = frame::encode(&frame.header, frame.descriptors, &Raw(frame.payload));
        session.send(bytes.map_err(|_| Ended::Frame)?, with);
    }
    Ok(())
}

/// A call of the proxy's own, before anything of the client's is passed on.
async fn call<T: for<'a> Decode<'a>>(
    socket: &UnixStream,
    buffer: &mut FrameBuffer,
    procedure: Procedure,
    args: &impl Encode,
) -> Result<T, VirtError> {
    let failed = || ErrorDomain::RPC.rpc("the daemon behind this one does not answer");
    let header = MessageHeader {
        prog: remote::PROGRAM.number,
        vers: 1,
        proc: procedure.0,
        ..MessageHeader::default()
    };
    let mut rest = &frame::encode(&header, 0, args).map_err(|_| failed())?[..];
    while !rest.is_empty() {
        socket.writable().await.map_err(|_| failed())?;
        match socket.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(failed()),
        }
    }
    loop {
        if let Some(frame) = buffer.next_frame().map_err(|_| failed())? {
            return if frame.header.status == MessageStatus::OK {
                codec::decode(frame.payload).map_err(|_| failed())
            } else {
                Err(codec::decode(frame.payload).map_or_else(|_| failed(), serve::error))
            };
        }
        socket.readable().await.map_err(|_| failed())?;
        match socket.try_read(buffer.space()) {
            Ok(0) => return Err(failed()),
            Ok(count) => buffer.filled(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(failed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_names_the_daemon() {
        let dir = Path::new("/nowhere");
        for (uri, read_only, path) in [
            ("qemu:///system", false, "/nowhere/virtqemud-sock"),
            ("qemu:///system", true, "/nowhere/virtqemud-sock-ro"),
            ("network:///system", false, "/nowhere/virtnetworkd-sock"),
        ] {
            assert_eq!(socket(dir, uri, read_only).unwrap(), Path::new(path));
        }
        for (uri, shown) in [("", "(null)"), ("../x:///", "../x:///"), ("esx://host", "esx://host")] {
            let error = socket(dir, uri, false).unwrap_err();
            assert!(error.message.contains(shown), "{}", error.message);
        }
    }
}
