//! Frames: a length word, a header, a payload, and descriptors behind it.
//!
//! [`FrameBuffer`] takes bytes as they come and gives whole frames; it owns no socket.

use std::fmt;
use std::ops::Range;

use crate::codec::{self, Encode, EncodeError, Reader};
use crate::keepalive;
use crate::net::{
    MessageHeader, MessageStatus, MessageType, VIR_NET_MESSAGE_HEADER_MAX, VIR_NET_MESSAGE_LEN_MAX,
    VIR_NET_MESSAGE_MAX, VIR_NET_MESSAGE_NUM_FDS_MAX,
};

/// Bytes of the length word.
const WORD: usize = VIR_NET_MESSAGE_LEN_MAX as usize;
/// Bytes of the length word and the header.
pub const HEAD: usize = WORD + VIR_NET_MESSAGE_HEADER_MAX as usize;
/// The largest length word: it counts itself, the limit does not.
pub const FRAME_MAX: usize = VIR_NET_MESSAGE_MAX as usize + WORD;
/// Most bytes of a stream's data in one frame: what older peers can take.
pub const STREAM_DATA_MAX: usize = crate::net::VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX as usize;

/// Bytes that nobody could have meant. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A length word that is shorter than a header or larger than allowed here.
    Length(u32),
    /// More descriptors than a message may carry, or a frame too short to say how many.
    Descriptors(u32),
    /// A descriptor was announced and did not come, or came unannounced.
    Unmatched,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "frame of {length} bytes"),
            Self::Descriptors(count) => write!(f, "frame with {count} descriptors"),
            Self::Unmatched => f.write_str("descriptors that do not match their frame"),
        }
    }
}

impl std::error::Error for FrameError {}

/// One whole frame, inside its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: MessageHeader,
    /// What follows the header; without the count of descriptors.
    pub payload: &'a [u8],
    /// How many descriptors came with it.
    pub descriptors: usize,
}

/// Bytes from a socket, cut into frames.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// What has come and not been taken.
    filled: Range<usize>,
    /// The largest length word that is accepted now.
    max: usize,
}

/// How much room a read gets at least.
const READ: usize = 4096;

impl Default for FrameBuffer {
    fn default() -> Self {
        Self { bytes: Vec::new(), filled: 0..0, max: FRAME_MAX }
    }
}

impl FrameBuffer {
    /// Sets the largest frame accepted from now on.
    pub fn limit(&mut self, max: usize) {
        self.max = max.min(FRAME_MAX);
    }

    /// Room for the next read. It grows with what has arrived, never with what was announced.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled.is_empty() {
            self.filled = 0..0;
            // A large frame should not stay a large buffer.
            if self.bytes.len() > 64 * READ {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.len() - self.filled.end < READ {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            let room = (self.filled.len() * 2).max(2 * READ);
            if self.bytes.len() < room {
                self.bytes.resize(room, 0);
            }
        }
        &mut self.bytes[self.filled.end..]
    }

    /// Says that `count` bytes of [`space`](Self::space) have been written.
    pub fn filled(&mut self, count: usize) {
        self.filled.end = (self.filled.end + count).min(self.bytes.len());
    }

    /// Takes bytes as they come.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Whether part of a frame is waiting for the rest.
    pub fn is_partial(&self) -> bool {
        !self.filled.is_empty()
    }

    /// The next whole frame; `None` while more bytes are needed.
    //= libvirt docs/kbase/internals/rpc.rst, "Packet framing"
    //# This length includes the 4-bytes of the length word itself.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let rest = self.bytes.get(self.filled.clone()).unwrap_or_default();
        let Some(word) = rest.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*word);
        let end = length as usize;
        if end < HEAD || end > self.max {
            return Err(FrameError::Length(length));
        }
        let Some(frame) = rest.get(WORD..end) else { return Ok(None) };
        let mut reader = Reader::new(frame);
        let header = header(&mut reader).map_err(|_| FrameError::Length(length))?;
        let descriptors = if carries_descriptors(header.r#type) {
            let count = reader.u32().map_err(|_| FrameError::Descriptors(0))?;
            if count > VIR_NET_MESSAGE_NUM_FDS_MAX {
                return Err(FrameError::Descriptors(count));
            }
            count as usize
        } else {
            0
        };
        // A carrier byte per descriptor follows the frame; the length word does not count them.
        let carried = end + descriptors;
        if rest.len() < carried {
            return Ok(None);
        }
        let payload = frame.len() - reader.remaining() + self.filled.start + WORD..self.filled.start + end;
        self.filled.start += carried;
        Ok(Some(Frame { header, payload: &self.bytes[payload], descriptors }))
    }
}

/// Whether messages of this type say how many descriptors follow.
pub fn carries_descriptors(kind: MessageType) -> bool {
    matches!(kind, MessageType::CALL_WITH_FDS | MessageType::REPLY_WITH_FDS)
}

fn header(reader: &mut Reader<'_>) -> Result<MessageHeader, codec::DecodeError> {
    codec::Decode::decode(reader)
}

/// A whole frame around one value. `descriptors` counts the descriptors that will follow; the type in the header
/// says whether it is written.
pub fn encode<T: Encode + ?Sized>(
    header: &MessageHeader,
    descriptors: usize,
    value: &T,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(HEAD + 4 + value.encoded_len());
    begin(&mut out, header, descriptors);
    value.encode(&mut out)?;
    finish(&mut out)?;
    Ok(out)
}

/// The header of a keepalive message, which has no serial and no payload.
pub const fn keepalive(procedure: keepalive::Procedure) -> MessageHeader {
    MessageHeader {
        prog: keepalive::PROGRAM.number,
        vers: keepalive::PROGRAM.version,
        proc: procedure.0,
        r#type: MessageType::MESSAGE,
        serial: 0,
        status: MessageStatus::OK,
    }
}

/// A whole frame around bytes: stream data, or a payload that is encoded already.
pub fn encode_bytes(header: &MessageHeader, payload: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(HEAD + payload.len());
    begin(&mut out, header, 0);
    out.extend_from_slice(payload);
    finish(&mut out)?;
    Ok(out)
}

fn begin(out: &mut Vec<u8>, header: &MessageHeader, descriptors: usize) {
    codec::put_u32(out, 0);
    for word in [header.prog, header.vers, header.proc as u32, header.r#type.0 as u32, header.serial] {
        codec::put_u32(out, word);
    }
    codec::put_i32(out, header.status.0);
    if carries_descriptors(header.r#type) {
        codec::put_u32(out, descriptors as u32);
    }
}

/// Writes the length word once the length is known.
fn finish(out: &mut [u8]) -> Result<(), EncodeError> {
    let length = out.len();
    if length > FRAME_MAX {
        return Err(EncodeError { limit: FRAME_MAX as u32, got: length });
    }
    if let Some(word) = out.first_chunk_mut() {
        *word = (length as u32).to_be_bytes();
    }
    Ok(())
}

/// The header of the answer to `call`.
pub fn reply_to(call: &MessageHeader, status: MessageStatus) -> MessageHeader {
    MessageHeader { r#type: MessageType::REPLY, status, ..call.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(proc: i32) -> MessageHeader {
        MessageHeader {
            prog: 0x2000_8086,
            vers: 1,
            proc,
            r#type: MessageType::CALL,
            serial: 7,
            status: MessageStatus::OK,
        }
    }

    #[test]
    fn frames_survive_any_cut() {
        let bytes = [encode_bytes(&call(1), b"abcd").unwrap(), encode_bytes(&call(2), b"").unwrap()].concat();
        for cut in 0..bytes.len() {
            let mut buffer = FrameBuffer::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.feed(part);
                while let Some(frame) = buffer.next_frame().unwrap() {
                    seen.push((frame.header.proc, frame.payload.to_vec()));
                }
            }
            assert_eq!(seen, [(1, b"abcd".to_vec()), (2, Vec::new())], "cut at {cut}");
            assert!(!buffer.is_partial());
        }
    }

    #[test]
    fn the_length_word_is_judged_before_anything_else() {
        for (length, fine) in [(0, false), (27, false), (28, true), (33_554_436, true), (33_554_437, false)] {
            let mut buffer = FrameBuffer::default();
            buffer.feed(&u32::to_be_bytes(length));
            assert_eq!(buffer.next_frame(), if fine { Ok(None) } else { Err(FrameError::Length(length)) });
        }
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut buffer = FrameBuffer::default();
        buffer.feed(&u32::to_be_bytes(33_554_436));
        assert!(buffer.next_frame().is_ok());
        assert!(buffer.space().len() <= 4 * READ);
    }

    #[test]
    fn carrier_bytes_are_not_counted() {
        let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..call(3) };
        let mut bytes = encode(&header, 2, &()).unwrap();
        assert_eq!(bytes.len(), 32);
        bytes.extend([0, 0]);
        let mut buffer = FrameBuffer::default();
        buffer.feed(&bytes[..33]);
        assert_eq!(buffer.next_frame(), Ok(None));
        buffer.feed(&bytes[33..]);
        let frame = buffer.next_frame().unwrap().unwrap();
        assert_eq!((frame.descriptors, frame.payload), (2, &[][..]));
        assert!(!buffer.is_partial());
    }

    #[test]
    fn more_than_32_descriptors_end_the_connection() {
        let header = MessageHeader { r#type: MessageType::CALL_WITH_FDS, ..call(3) };
        let mut buffer = FrameBuffer::default();
        buffer.feed(&encode(&header, 33, &()).unwrap());
        assert_eq!(buffer.next_frame(), Err(FrameError::Descriptors(33)));
    }
}
