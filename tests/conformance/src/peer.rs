//! A client of raw frames over a blocking socket, with patience that ends.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtwire_protocol::codec::{self, Decode, DecodeError, Encode};
use virtwire_protocol::frame::{self, FrameBuffer, FrameError};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::Program;
use virtwire_protocol::remote::{self, ConnectOpenArgs, Procedure};
use virtwire_socket::receive;

/// Bytes of the length word and the header.
const HEAD: usize = 28;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a conversation cannot go on.
#[derive(Debug)]
pub enum PeerError {
    /// The peer has closed the connection.
    Closed,
    /// No answer came in time.
    Silent,
    /// A call that had to succeed was refused.
    Refused(String),
    /// What came is no frame.
    Frame(FrameError),
    /// What came does not decode.
    Decode(DecodeError),
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::Frame(error) => error.fmt(f),
            Self::Decode(error) => write!(f, "does not decode: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PeerError {}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<FrameError> for PeerError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

/// One frame that came.
#[derive(Debug)]
pub struct Received {
    /// Its header.
    pub header: MessageHeader,
    /// Its payload.
    pub payload: Vec<u8>,
    /// The descriptors behind it.
    pub descriptors: Vec<OwnedFd>,
}

impl Received {
    /// The value of a reply or message.
    pub fn decode<T: for<'a> Decode<'a>>(&self) -> Result<T, PeerError> {
        match self.error()? {
            Some(error) => Err(PeerError::Refused(text(&error))),
            None => codec::decode(&self.payload).map_err(PeerError::Decode),
        }
    }

    /// The error it carries.
    pub fn error(&self) -> Result<Option<MessageError>, PeerError> {
        if self.header.status != MessageStatus::ERROR {
            return Ok(None);
        }
        codec::decode(&self.payload).map(Some).map_err(PeerError::Decode)
    }

    /// The code of the error it carries; 0 for success.
    pub fn code(&self) -> Result<i32, PeerError> {
        Ok(self.error()?.map_or(0, |error| error.code))
    }
}

/// An error's text.
pub fn text(error: &MessageError) -> String {
    error.message.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A connection.
#[derive(Debug)]
pub struct Peer {
    socket: UnixStream,
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
    serial: u32,
}

impl Peer {
    /// Connects and says nothing.
    pub fn connect(path: &Path) -> Result<Self, PeerError> {
        Ok(Self::over(UnixStream::connect(path)?))
    }

    /// On a socket that is connected.
    pub fn over(socket: UnixStream) -> Self {
        Self { socket, buffer: FrameBuffer::default(), descriptors: VecDeque::new(), serial: 0 }
    }

    /// Authenticates and opens a hypervisor.
    pub fn open(&mut self, uri: &str) -> Result<(), PeerError> {
        self.call(Procedure::AUTH_LIST, &())?.decode::<remote::AuthListRet>()?;
        let args = ConnectOpenArgs { name: Some(uri.into()), flags: 0 };
        self.call(Procedure::CONNECT_OPEN, &args)?.decode()
    }

    /// The header of the next call.
    pub fn header(&mut self, program: &Program, procedure: i32) -> MessageHeader {
        let serial = self.serial;
        self.serial = self.serial.wrapping_add(1);
        MessageHeader {
            prog: program.number,
            vers: program.version,
            proc: procedure,
            r#type: MessageType::CALL,
            serial,
            status: MessageStatus::OK,
        }
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        self.socket.write_all(bytes)?;
        Ok(())
    }

    /// Sends a frame around a payload.
    pub fn send(&mut self, header: &MessageHeader, payload: &[u8]) -> Result<(), PeerError> {
        let frame = frame::encode_bytes(header, payload).map_err(|e| PeerError::Refused(e.to_string()))?;
        self.write(&frame)
    }

    /// Sends a frame around a payload, and these descriptors; none is an ordinary frame.
    pub fn send_with(
        &mut self,
        header: &MessageHeader,
        payload: &[u8],
        descriptors: &[OwnedFd],
    ) -> Result<(), PeerError> {
        if descriptors.is_empty() {
            return self.send(header, payload);
        }
        let frame = frame::encode_bytes(header, payload).map_err(|e| PeerError::Refused(e.to_string()))?;
        // Their number stands between the header and everything else.
        let (head, rest) = frame.split_at(HEAD.min(frame.len()));
        let count = (descriptors.len() as u32).to_be_bytes();
        self.write(&[head, &count, rest.get(count.len()..).unwrap_or_default()].concat())?;
        descriptors.iter().try_for_each(|descriptor| self.send_descriptor(descriptor))
    }

    /// Sends one carrier byte with a descriptor.
    pub fn send_descriptor(&mut self, descriptor: &OwnedFd) -> Result<(), PeerError> {
        virtwire_socket::transmit_descriptor(&self.socket, descriptor.as_fd())?;
        Ok(())
    }

    /// The next frame.
    pub fn receive(&mut self) -> Result<Received, PeerError> {
        self.receive_within(PATIENCE)
    }

    /// The next frame, or [`PeerError::Silent`] if none comes in this time.
    pub fn receive_within(&mut self, patience: Duration) -> Result<Received, PeerError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(frame) = self.buffer.next_frame()? {
                if frame.descriptors > self.descriptors.len() {
                    return Err(PeerError::Frame(FrameError::Unmatched));
                }
                return Ok(Received {
                    header: frame.header,
                    payload: frame.payload.to_vec(),
                    descriptors: self.descriptors.drain(..frame.descriptors).collect(),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| PeerError::Silent)?;
            if poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)).map_err(io::Error::from)?
                == 0
            {
                return Err(PeerError::Silent);
            }
            match receive(&self.socket, self.buffer.space(), &mut self.descriptors) {
                Ok(got) if got.bytes == 0 => return Err(PeerError::Closed),
                Ok(got) => self.buffer.filled(got.bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The reply to a call; events and stream frames before it are passed over.
    pub fn reply(&mut self, call: &MessageHeader) -> Result<Received, PeerError> {
        loop {
            let frame = self.receive()?;
            let reply = matches!(frame.header.r#type, MessageType::REPLY | MessageType::REPLY_WITH_FDS);
            if reply && frame.header.serial == call.serial {
                return Ok(frame);
            }
        }
    }

    /// Calls a procedure of the main program.
    pub fn call<T: Encode>(&mut self, procedure: Procedure, args: &T) -> Result<Received, PeerError> {
        let payload = codec::encode(args).map_err(|error| PeerError::Refused(error.to_string()))?;
        self.call_raw(&remote::PROGRAM, procedure.0, &payload)
    }

    /// Calls a procedure and takes its result.
    pub fn ask<T: Encode, R: for<'a> Decode<'a>>(
        &mut self,
        procedure: Procedure,
        args: &T,
    ) -> Result<R, PeerError> {
        self.call(procedure, args)?.decode()
    }

    /// Calls a procedure with these bytes.
    pub fn call_raw(
        &mut self,
        program: &Program,
        procedure: i32,
        payload: &[u8],
    ) -> Result<Received, PeerError> {
        let header = self.header(program, procedure);
        self.send(&header, payload)?;
        self.reply(&header)
    }
}
