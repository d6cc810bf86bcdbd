//! How a daemon's own trace reaches whoever watches: a program of Virtwire's on the administration socket.
//!
//! Its number is none of libvirt's, so that `virt-admin` never meets it, and a daemon that lacks it answers as to any
//! unknown program. There is one call, [`ATTACH`], without arguments or result. From then on the daemon sends messages
//! ([`RECORD`]), the content of each a [`Seen`] as JSON, its secrets hidden before it left the daemon. It ends with the
//! connection.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;
use virtwire_protocol::codec;
use virtwire_protocol::frame::{self, Frame, FrameBuffer};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus, MessageType};

use crate::seen::Seen;

/// The program: `vwtr`.
pub const PROGRAM: u32 = 0x7677_7472;
/// Its version.
pub const VERSION: u32 = 1;
/// The call that asks for records.
pub const ATTACH: i32 = 1;
/// The message that has one.
pub const RECORD: i32 = 2;

/// The header of a message of this program.
fn header(proc: i32, r#type: MessageType, serial: u32) -> MessageHeader {
    MessageHeader { prog: PROGRAM, vers: VERSION, proc, r#type, serial, status: MessageStatus::OK }
}

/// The frame that tells what was seen; `None` if it is too large for one.
pub fn record(seen: &Seen) -> Option<Vec<u8>> {
    let text = serde_json::to_vec(seen).ok()?;
    frame::encode_bytes(&header(RECORD, MessageType::MESSAGE, 0), &text).ok()
}

/// What a daemon tells, as it comes.
#[derive(Debug)]
pub struct Attachment {
    socket: UnixStream,
    buffer: FrameBuffer,
}

impl Attachment {
    /// Asks the daemon behind an administration socket to tell what happens.
    ///
    /// # Errors
    /// The socket cannot be reached, or the daemon refuses: [`io::ErrorKind::Unsupported`] is one that is not ours.
    pub async fn open(socket: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(socket).await?;
        let mut this = Self { socket, buffer: FrameBuffer::default() };
        let call = frame::encode_bytes(&header(ATTACH, MessageType::CALL, 1), &[]).map_err(invalid)?;
        this.write(&call).await?;
        loop {
            let Some((reply, error)) = this.next_frame(answer).await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match error {
                _ if (reply.r#type, reply.serial) != (MessageType::REPLY, 1) => {}
                None => return Ok(this),
                Some(text) => return Err(io::Error::new(io::ErrorKind::Unsupported, text)),
            }
        }
    }

    /// The next thing that was seen; `None` when the daemon has ended the connection.
    ///
    /// # Errors
    /// The connection breaks, or what comes is no record.
    pub async fn next(&mut self) -> io::Result<Option<Seen>> {
        loop {
            match self.next_frame(seen).await? {
                None => return Ok(None),
                Some(Ok(Some(seen))) => return Ok(Some(seen)),
                Some(Ok(None)) => {}
                Some(Err(error)) => return Err(invalid(error)),
            }
        }
    }

    async fn next_frame<T>(&mut self, read: fn(&Frame<'_>) -> T) -> io::Result<Option<T>> {
        loop {
            if let Some(frame) = self.buffer.next_frame().map_err(invalid)? {
                return Ok(Some(read(&frame)));
            }
            self.socket.readable().await?;
            match self.socket.try_read(self.buffer.space()) {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A header, and the text of the error if it is one.
fn answer(frame: &Frame<'_>) -> (MessageHeader, Option<String>) {
    let failed = frame.header.status == MessageStatus::ERROR;
    let error = failed.then(|| codec::decode::<MessageError>(frame.payload).unwrap_or_default());
    let text = error.map(|error| error.message.map(|text| text.to_string()).unwrap_or_default());
    (frame.header.clone(), text)
}

/// What a record says; other frames, such as the daemon's pings, say nothing.
fn seen(frame: &Frame<'_>) -> Result<Option<Seen>, serde_json::Error> {
    let MessageHeader { prog, proc, r#type, .. } = frame.header;
    if (prog, proc, r#type) != (PROGRAM, RECORD, MessageType::MESSAGE) {
        return Ok(None);
    }
    serde_json::from_slice(frame.payload).map(Some)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
