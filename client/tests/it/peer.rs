//! A daemon's end of a socket pair: takes frames, sends frames, decides nothing.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use virtwire_client::protocol::codec::{self, Decode, Encode};
use virtwire_client::protocol::frame::{self, FrameBuffer};
use virtwire_client::protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_client::protocol::remote::{
    AuthListRet, AuthType, ConnectOpenArgs, ConnectSupportsFeatureRet, PROGRAM, Procedure,
};
use virtwire_client::{Connection, Options};
use virtwire_socket::{receive, transmit_descriptor};

pub(crate) struct Peer {
    socket: UnixStream,
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
}

/// What a client has sent.
pub(crate) struct Taken {
    pub(crate) header: MessageHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Taken {
    pub(crate) fn args<T: for<'a> Decode<'a>>(&self) -> T {
        codec::decode(&self.payload).expect("arguments of the procedure's type")
    }
}

/// An open connection and its other end.
pub(crate) async fn connected() -> (Connection, Peer) {
    connected_with(Options::default()).await
}

pub(crate) async fn connected_with(options: Options) -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let (connection, ()) =
        tokio::join!(Connection::over_with(ours, "test:///default", options), peer.let_in());
    (connection.unwrap(), peer)
}

impl Peer {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: FrameBuffer::default(), descriptors: VecDeque::new() }
    }

    /// Answers what a client asks when it opens a connection.
    pub(crate) async fn let_in(&mut self) {
        let yes = ConnectSupportsFeatureRet { supported: 1 };
        let call = self.expect(Procedure::AUTH_LIST).await;
        self.reply(&call, &AuthListRet { types: vec![AuthType::NONE] }).await;
        let call = self.expect(Procedure::CONNECT_SUPPORTS_FEATURE).await;
        self.reply(&call, &yes).await;
        let call = self.expect(Procedure::CONNECT_OPEN).await;
        assert_eq!(call.args::<ConnectOpenArgs>().name.unwrap(), "test:///default");
        self.reply(&call, &()).await;
        for _ in 0..2 {
            let call = self.expect(Procedure::CONNECT_SUPPORTS_FEATURE).await;
            self.reply(&call, &yes).await;
        }
    }

    /// The next frame; `None` when the client has gone.
    pub(crate) async fn next(&mut self) -> Option<Taken> {
        loop {
            if let Some(frame) = self.buffer.next_frame().expect("a frame") {
                let (header, payload) = (frame.header.clone(), frame.payload.to_vec());
                let descriptors = self.descriptors.drain(..frame.descriptors).collect();
                return Some(Taken { header, payload, descriptors });
            }
            self.socket.readable().await.unwrap();
            let got = self.socket.try_io(Interest::READABLE, || {
                receive(&self.socket, self.buffer.space(), &mut self.descriptors)
            });
            match got {
                Ok(received) if received.bytes == 0 => return None,
                Ok(received) => self.buffer.filled(received.bytes),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn expect(&mut self, procedure: Procedure) -> Taken {
        let taken = self.next().await.expect("a frame, not the end");
        assert_eq!((taken.header.prog, Procedure(taken.header.proc)), (PROGRAM.number, procedure));
        taken
    }

    /// A frame of a stream: its type, its status, its payload.
    pub(crate) async fn expect_stream(&mut self) -> (MessageType, MessageStatus, Vec<u8>) {
        let taken = self.next().await.expect("a frame, not the end");
        (taken.header.r#type, taken.header.status, taken.payload)
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// A frame with the header of `call`, but for type and status.
    pub(crate) async fn send(
        &mut self,
        call: &Taken,
        r#type: MessageType,
        status: MessageStatus,
        value: &impl Encode,
    ) {
        let header = MessageHeader { r#type, status, ..call.header.clone() };
        self.raw(&frame::encode(&header, 0, value).unwrap()).await;
    }

    pub(crate) async fn reply(&mut self, call: &Taken, value: &impl Encode) {
        self.send(call, MessageType::REPLY, MessageStatus::OK, value).await;
    }

    /// A reply with a descriptor behind it.
    pub(crate) async fn reply_with_descriptor(&mut self, call: &Taken, descriptor: impl AsFd) {
        let header = MessageHeader { r#type: MessageType::REPLY_WITH_FDS, ..call.header.clone() };
        self.raw(&frame::encode(&header, 1, &()).unwrap()).await;
        transmit_descriptor(&self.socket, descriptor.as_fd()).unwrap();
    }

    /// Bytes of a stream.
    pub(crate) async fn data(&mut self, call: &Taken, bytes: &[u8]) {
        let status = MessageStatus::CONTINUE;
        let header = MessageHeader { r#type: MessageType::STREAM, status, ..call.header.clone() };
        self.raw(&frame::encode_bytes(&header, bytes).unwrap()).await;
    }

    /// The end of a stream.
    pub(crate) async fn confirm(&mut self, call: &Taken) {
        self.send(call, MessageType::STREAM, MessageStatus::OK, &()).await;
    }

    /// An event.
    pub(crate) async fn event(&mut self, procedure: Procedure, value: &impl Encode) {
        let header = MessageHeader {
            prog: PROGRAM.number,
            vers: PROGRAM.version,
            proc: procedure.0,
            r#type: MessageType::MESSAGE,
            serial: 1,
            status: MessageStatus::OK,
        };
        self.raw(&frame::encode(&header, 0, value).unwrap()).await;
    }
}
