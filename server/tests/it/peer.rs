//! A client that sends and receives whole frames, and the daemon it talks to.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use virtwire_protocol::codec::{self, Decode, Encode};
use virtwire_protocol::frame::{self, FrameBuffer};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures;
use virtwire_protocol::remote::{AuthListRet, ConnectOpenArgs, Procedure};
use virtwire_protocol::{VirtError, remote};
use virtwired::{Access, Limits, Program, Service};

use crate::toy::Toy;

/// Nothing here takes long; a test that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// One frame from the daemon.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: MessageHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Received {
    pub(crate) fn decode<T: for<'a> Decode<'a>>(&self) -> T {
        assert_eq!(self.header.status, MessageStatus::OK, "an error: {:?}", self.error());
        codec::decode(&self.payload).unwrap()
    }

    pub(crate) fn error(&self) -> (i32, i32, String) {
        assert_eq!(self.header.status, MessageStatus::ERROR);
        let error: MessageError = codec::decode(&self.payload).unwrap();
        (error.code, error.domain, error.message.map(|text| text.to_string()).unwrap_or_default())
    }
}

/// The client's end of a connection to a daemon with the toy driver.
pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
    pub(crate) toy: Arc<Toy>,
    pub(crate) served: JoinHandle<()>,
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
    serial: u32,
}

impl Peer {
    /// Connected, nothing said yet.
    pub(crate) fn new(access: Access, limits: Limits) -> Self {
        let toy = Toy::new();
        let service = Service::new(vec![toy.clone()], limits);
        Self::at(&service, toy, access)
    }

    /// Connected to a daemon that has other clients as well.
    pub(crate) fn at(service: &Service, toy: Arc<Toy>, access: Access) -> Self {
        let service = service.clone();
        let (socket, other) = UnixStream::pair().unwrap();
        let served = tokio::spawn(async move { service.serve(other, Program::Remote, access).await });
        Self { toy, served, ..Self::on(socket) }
    }

    /// Connected to a daemon's socket; the toy is nobody's.
    pub(crate) fn on(socket: UnixStream) -> Self {
        let served = tokio::spawn(async {});
        let (buffer, descriptors) = (FrameBuffer::default(), VecDeque::new());
        Self { socket, toy: Toy::new(), served, buffer, descriptors, serial: 0 }
    }

    /// Asks how to authenticate; nothing is needed.
    pub(crate) async fn authenticate(&mut self) {
        let auth: AuthListRet = self.call(Procedure::AUTH_LIST, &()).await.decode();
        assert_eq!(auth.types, [remote::AuthType::NONE]);
    }

    /// Authenticated and open.
    pub(crate) async fn open_with(access: Access, limits: Limits) -> Self {
        let mut peer = Self::new(access, limits);
        peer.open_toy().await;
        peer
    }

    /// Authenticates and opens.
    pub(crate) async fn open_toy(&mut self) {
        self.authenticate().await;
        let args = ConnectOpenArgs { name: Some("toy:///".into()), flags: 0 };
        self.call(Procedure::CONNECT_OPEN, &args).await.decode::<()>();
    }

    pub(crate) async fn open() -> Self {
        Self::open_with(Access::ReadWrite, Limits::default()).await
    }

    pub(crate) fn header(&mut self, procedure: i32) -> MessageHeader {
        let serial = self.serial;
        self.serial += 1;
        MessageHeader {
            prog: remote::PROGRAM.number,
            vers: 1,
            proc: procedure,
            r#type: MessageType::CALL,
            serial,
            status: MessageStatus::OK,
        }
    }

    /// Sends a call and returns its header.
    pub(crate) async fn send<T: Encode>(&mut self, procedure: Procedure, args: &T) -> MessageHeader {
        let header = self.header(procedure.0);
        self.write(&frame::encode(&header, 0, args).unwrap()).await;
        header
    }

    /// Sends a call with descriptors.
    pub(crate) async fn send_with(
        &mut self,
        procedure: Procedure,
        args: &impl Encode,
        descriptors: &[OwnedFd],
    ) {
        let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..self.header(procedure.0) };
        self.write(&frame::encode(&header, descriptors.len(), args).unwrap()).await;
        for descriptor in descriptors {
            virtwire_socket::transmit_descriptor(&self.socket, descriptor.as_fd()).unwrap();
        }
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.socket.writable().await.unwrap();
            match self.socket.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // The daemon may have closed the connection; what it said before can still be read.
                Err(_) => return,
            }
        }
    }

    /// The next frame; `None` when the daemon has closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Received> {
        tokio::time::timeout(PATIENCE, self.receive_soon()).await.expect("an answer")
    }

    async fn receive_soon(&mut self) -> Option<Received> {
        loop {
            if let Some(frame) = self.buffer.next_frame().unwrap() {
                return Some(Received {
                    header: frame.header,
                    payload: frame.payload.to_vec(),
                    descriptors: self.descriptors.drain(..frame.descriptors).collect(),
                });
            }
            self.socket.readable().await.unwrap();
            let (socket, buffer, descriptors) = (&self.socket, &mut self.buffer, &mut self.descriptors);
            match socket.try_io(tokio::io::Interest::READABLE, || {
                virtwire_socket::receive(socket, buffer.space(), descriptors)
            }) {
                Ok(got) if got.bytes == 0 => return None,
                Ok(got) => buffer.filled(got.bytes),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Calls and returns the reply; there must be no frame before it.
    pub(crate) async fn call<T: Encode>(&mut self, procedure: Procedure, args: &T) -> Received {
        let header = self.send(procedure, args).await;
        let reply = self.receive().await.expect("a reply");
        assert_eq!((reply.header.serial, reply.header.proc), (header.serial, header.proc));
        reply
    }

    /// Whether the daemon still answers.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.send(Procedure::CONNECT_GET_LIB_VERSION, &()).await;
        self.receive().await.is_some()
    }

    /// A stream frame for the call of this header.
    pub(crate) async fn stream(&mut self, call: &MessageHeader, status: MessageStatus, data: &[u8]) {
        let header = MessageHeader { r#type: MessageType::STREAM, status, ..call.clone() };
        self.write(&frame::encode_bytes(&header, data).unwrap()).await;
    }
}

/// What a procedure answers where nobody serves it.
pub(crate) fn no_support(name: &str) -> VirtError {
    let info: &procedures::ProcedureInfo = remote::PROGRAM.procedure_by_name(name).unwrap();
    info.no_support()
}
