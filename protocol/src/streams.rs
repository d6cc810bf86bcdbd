//! A stream as its client sees it: what may be sent next, and what a frame from the daemon means.
//!
//! A stream begins with the reply to its call, though data may come before that. Whoever has nothing more to send
//! says so with an empty frame of status ok, or gives up with one of status error; the daemon confirms either with
//! an empty frame of status ok. It ends its own data with an empty frame of status continue.

use crate::codec::{self, DecodeError};
use crate::error::VirtError;
use crate::net::{MessageError, MessageHeader, MessageStatus, MessageType, StreamHole};

/// Where the client stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Has said that it is done, and waits for the daemon to confirm it.
    Closing,
    Over,
}

/// The client's side of one stream.
#[derive(Debug, Default)]
pub struct ClientStream {
    phase: Phase,
    /// The daemon has sent all its data.
    drained: bool,
}

/// What a frame from the daemon means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDaemon<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many bytes of zeros.
    Hole(u64),
    /// No more data will come.
    End,
    /// The end is confirmed: the stream is over.
    Over,
    /// The stream has failed, and is over.
    Failed(VirtError),
    /// Nothing: data for a client that has said it is done.
    Nothing,
}

impl ClientStream {
    /// Whether data may be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether neither side has anything more to say.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the daemon has sent all its data.
    pub fn is_drained(&self) -> bool {
        self.drained || self.is_over()
    }

    /// The client says that it is done, or that it gives up; `false` if it has done so before.
    pub fn close(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.phase = Phase::Closing;
        }
        was_open
    }

    /// Takes a frame of this stream. An error leaves the stream over.
    pub fn receive<'a>(
        &mut self,
        header: &MessageHeader,
        payload: &'a [u8],
    ) -> Result<FromDaemon<'a>, DecodeError> {
        let meaning = match (header.r#type, header.status) {
            (MessageType::STREAM_HOLE, _) => {
                codec::decode::<StreamHole>(payload).and_then(|hole| match u64::try_from(hole.length) {
                    Ok(length) => Ok(FromDaemon::Hole(length)),
                    Err(_) => Err(DecodeError::Discriminant(hole.length as i32)),
                })
            }
            (_, MessageStatus::CONTINUE) if payload.is_empty() => Ok(FromDaemon::End),
            (_, MessageStatus::CONTINUE) => Ok(FromDaemon::Data(payload)),
            (_, MessageStatus::OK) => Ok(FromDaemon::Over),
            _ => codec::decode::<MessageError>(payload).map(|error| FromDaemon::Failed(error.into())),
        };
        match meaning {
            Ok(FromDaemon::Data(_) | FromDaemon::Hole(_)) if !self.is_open() || self.drained => {
                return Ok(FromDaemon::Nothing);
            }
            Ok(FromDaemon::End) => self.drained = true,
            Ok(FromDaemon::Data(_) | FromDaemon::Hole(_) | FromDaemon::Nothing) => {}
            Ok(FromDaemon::Over | FromDaemon::Failed(_)) | Err(_) => self.phase = Phase::Over,
        }
        meaning
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn header(r#type: MessageType, status: MessageStatus) -> MessageHeader {
        MessageHeader { prog: crate::remote::PROGRAM.number, vers: 1, proc: 209, r#type, serial: 5, status }
    }

    const DATA: (MessageType, MessageStatus) = (MessageType::STREAM, MessageStatus::CONTINUE);
    const OK: (MessageType, MessageStatus) = (MessageType::STREAM, MessageStatus::OK);
    const ERROR: (MessageType, MessageStatus) = (MessageType::STREAM, MessageStatus::ERROR);
    const HOLE: (MessageType, MessageStatus) = (MessageType::STREAM_HOLE, MessageStatus::CONTINUE);

    fn receive<'a>(
        stream: &mut ClientStream,
        (kind, status): (MessageType, MessageStatus),
        payload: &'a [u8],
    ) -> Result<FromDaemon<'a>, DecodeError> {
        stream.receive(&header(kind, status), payload)
    }

    #[test]
    fn a_download_ends_twice() {
        let mut stream = ClientStream::default();
        let hole = codec::encode(&StreamHole { length: 4096, flags: 0 }).unwrap();
        assert_eq!(receive(&mut stream, DATA, b"abc"), Ok(FromDaemon::Data(b"abc")));
        assert_eq!(receive(&mut stream, HOLE, &hole), Ok(FromDaemon::Hole(4096)));
        assert_eq!(receive(&mut stream, DATA, b""), Ok(FromDaemon::End));
        assert!(stream.is_drained() && stream.is_open());
        assert!(stream.close() && !stream.close());
        assert_eq!(receive(&mut stream, OK, b""), Ok(FromDaemon::Over));
        assert!(stream.is_over());
    }

    #[test]
    fn data_after_the_client_has_given_up_is_nothing() {
        let mut stream = ClientStream::default();
        stream.close();
        assert_eq!(receive(&mut stream, DATA, b"queued before"), Ok(FromDaemon::Nothing));
        assert_eq!(receive(&mut stream, OK, b""), Ok(FromDaemon::Over));
    }

    #[test]
    fn an_error_ends_it_and_so_does_nonsense() {
        let error = MessageError {
            code: 38,
            domain: 38,
            message: Some("no space".into()),
            int1: 28,
            ..Default::default()
        };
        let mut stream = ClientStream::default();
        let payload = codec::encode(&error).unwrap();
        let Ok(FromDaemon::Failed(error)) = receive(&mut stream, ERROR, &payload) else { panic!("no error") };
        assert_eq!((error.code, error.int1), (ErrorCode::SYSTEM_ERROR, 28));
        assert!(stream.is_over());

        let hole = codec::encode(&StreamHole { length: -1, flags: 0 }).unwrap();
        for (kind, payload) in [(ERROR, &b"?"[..]), (HOLE, &hole), (HOLE, b"")] {
            let mut stream = ClientStream::default();
            assert!(receive(&mut stream, kind, payload).is_err(), "{kind:?}");
            assert!(stream.is_over());
        }
    }
}
