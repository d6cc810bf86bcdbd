//! Cuts the byte stream into lines, without I/O.

use crate::error::ProtocolError;

/// The longest line accepted, in bytes. The largest reply of QEMU 10.0, `query-qmp-schema`, has 0.2 MiB.
pub const LINE_MAX: usize = 16 << 20;

/// Takes bytes however they were cut; whole lines come out.
pub(crate) struct LineReader {
    /// The longest line accepted.
    limit: usize,
    buf: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no newline.
    scanned: usize,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::with_limit(LINE_MAX)
    }
}

impl LineReader {
    /// Lines of at most `limit` bytes.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { limit, buf: Vec::new(), start: 0, scanned: 0 }
    }

    /// The buffer to append to. Lines already taken are forgotten first.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.buf.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        &mut self.buf
    }

    /// The next whole line without its newline, `None` while more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, ProtocolError> {
        let found = self.buf.iter().skip(self.scanned).position(|&byte| byte == b'\n');
        let end = match found {
            Some(offset) => self.scanned + offset,
            None => self.buf.len(),
        };
        if end - self.start > self.limit {
            return Err(ProtocolError::LineTooLong { limit: self.limit });
        }
        if found.is_none() {
            self.scanned = end;
            return Ok(None);
        }
        let line = self.buf.get(self.start..end).unwrap_or_default();
        self.start = end + 1;
        self.scanned = self.start;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut LineReader) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| reader.next().unwrap().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn any_cut_gives_the_same_lines() {
        let text = b"{}\r\n\n{\"a\": 1}\nrest";
        for size in 1..text.len() {
            let mut reader = LineReader::default();
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                reader.buffer().extend_from_slice(chunk);
                lines.extend(all(&mut reader));
            }
            assert_eq!(lines, [&b"{}\r"[..], b"", b"{\"a\": 1}"], "cut every {size} bytes");
        }
    }

    #[test]
    fn the_longest_line_passes_and_one_more_byte_does_not() {
        let mut reader = LineReader::default();
        reader.buffer().resize(LINE_MAX, b' ');
        assert_eq!(reader.next(), Ok(None));
        reader.buffer().push(b'\n');
        assert_eq!(reader.next().unwrap().map(<[u8]>::len), Some(LINE_MAX));

        reader.buffer().resize(LINE_MAX + 1, b' ');
        assert_eq!(reader.next(), Err(ProtocolError::LineTooLong { limit: LINE_MAX }));
    }
}
