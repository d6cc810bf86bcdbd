//! Streams of a recorded conversation: as much as was sent then is sent again.

use virtwire_conformance::peer::PeerError;
use virtwire_protocol::codec;
use virtwire_protocol::frame::STREAM_DATA_MAX;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};

use super::Connection;
use super::case::{Piece, failed};

/// Streams whose length is a matter of time: what a guest says, and what its screen shows at a moment.
const TALKS: &[&str] = &["DOMAIN_OPEN_CONSOLE", "DOMAIN_OPEN_CHANNEL", "DOMAIN_SCREENSHOT"];

/// What came to the client, and how it ended. How much comes before an abort, or of a talk, is chance.
pub(super) fn shown(procedure: &str, bytes: usize, end: &str) -> String {
    if TALKS.contains(&procedure) || end == "aborted" {
        end.to_owned()
    } else {
        format!("{bytes} bytes, {end}")
    }
}

impl Connection {
    /// Plays the client's side of a stream to its end; the bytes that came, and how it ended.
    pub(super) fn stream(
        &mut self,
        procedure: &str,
        serial: u64,
        bytes: (usize, usize),
        sent: &[Piece],
        end: &str,
    ) -> Result<(usize, String), PeerError> {
        let Some(call) = self.streams.remove(&serial) else { return Ok((0, "no stream".to_owned())) };
        let frame = |r#type, status| MessageHeader { r#type, status, ..call.clone() };
        let whole = [Piece::Data(bytes.0)];
        let sent: &[Piece] = match sent {
            // What was said depends on what was heard.
            _ if TALKS.contains(&procedure) => &[],
            [] if bytes.0 > 0 => &whole,
            sent => sent,
        };
        for piece in sent {
            self.piece(&call, *piece)?;
        }
        let close = match end {
            "aborted" => MessageStatus::ERROR,
            _ => MessageStatus::OK,
        };
        let close = frame(MessageType::STREAM, close);
        // Whoever only listens does so to the end.
        let mut closed = !sent.is_empty() || end == "aborted";
        if closed {
            self.peer.send(&close, &[])?;
        }
        let mut came = 0;
        loop {
            let next = self.flowed.get_mut(&call.serial).and_then(|frames| frames.pop_front());
            let frame = match next {
                Some(frame) => frame,
                None => self.peer.receive()?,
            };
            if frame.header.serial != call.serial
                || !matches!(frame.header.r#type, MessageType::STREAM | MessageType::STREAM_HOLE)
            {
                self.put_aside(frame);
                continue;
            }
            match (frame.header.r#type, frame.header.status) {
                (MessageType::STREAM_HOLE, _) => {}
                (_, MessageStatus::OK) => {
                    let end = if close.status == MessageStatus::OK { "finished" } else { "aborted" };
                    return Ok((came, end.to_owned()));
                }
                (_, MessageStatus::ERROR) => {
                    return Ok((came, frame.error()?.map(failed).unwrap_or_default()));
                }
                _ if frame.payload.is_empty() && !closed => {
                    closed = true;
                    self.peer.send(&close, &[])?;
                }
                _ => came += frame.payload.len(),
            }
        }
    }

    fn piece(&mut self, call: &MessageHeader, piece: Piece) -> Result<(), PeerError> {
        let header = |r#type| MessageHeader { r#type, status: MessageStatus::CONTINUE, ..call.clone() };
        match piece {
            Piece::Data(length) => {
                let bytes = vec![1; length];
                let mut parts = bytes.chunks(STREAM_DATA_MAX);
                parts.try_for_each(|part| self.peer.send(&header(MessageType::STREAM), part))
            }
            Piece::Hole(length) => {
                let hole = codec::encode(&StreamHole { length, flags: 0 }).unwrap_or_default();
                self.peer.send(&header(MessageType::STREAM_HOLE), &hole)
            }
        }
    }
}
