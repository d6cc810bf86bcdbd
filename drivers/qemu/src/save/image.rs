//! The file that a guest's memory is in. It is libvirt's: [`HEADER`] bytes, the definition and a cookie, each with a
//! zero behind it, room up to the end that the header tells, and QEMU's own stream.

use std::fs::File;
use std::io::Read;

use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;

use super::{Format, Stream};
use crate::error::{QEMU, Result};
use crate::named;

/// What a file begins with once it is whole, and until then.
pub(super) const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
pub(super) const PART: &[u8; 16] = b"LibvirtQemudPart";
/// The layout that is written; older ones can be read too.
const VERSION: u32 = 2;
/// The length of the header in bytes: the magic and 19 numbers.
pub(super) const HEADER: usize = 92;
/// Room behind the definition, so that it may grow.
pub(super) const ROOM: usize = 64 << 10;
/// The longest definition that is read.
const LONGEST: u32 = 16 << 20;

/// What is before QEMU's stream.
pub(crate) struct Image {
    pub(super) xml: String,
    pub(super) cookie: String,
    /// Whether the guest is to run when it is restored.
    pub(crate) running: bool,
    /// Where the stream begins.
    pub(super) length: u64,
    /// How the stream is in it.
    pub(crate) format: Format,
}

impl Image {
    /// The bytes before the stream, marked as whole or not.
    pub(super) fn bytes(&self, magic: &[u8; 16]) -> Vec<u8> {
        let data = [self.xml.as_bytes(), &[0], self.cookie.as_bytes(), &[0]].concat();
        let length = (self.length as usize).saturating_sub(HEADER).max(data.len());
        let cookie = if self.cookie.is_empty() { 0 } else { self.xml.len() + 1 };
        let numbers = [VERSION, length as u32, self.running.into(), self.format.number(), cookie as u32];
        let mut bytes = magic.to_vec();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.resize(HEADER, 0);
        bytes.extend(data);
        bytes.resize(HEADER + length, 0);
        bytes
    }

    /// Reads a file up to where the stream begins.
    ///
    /// # Errors
    /// It is none of libvirt's, or one that was not finished.
    pub(crate) fn read(path: &str) -> Result<(Self, Stream)> {
        let cannot = |error| {
            VirtError::system(ErrorDomain::QEMU, &error, format_args!("Failed to open file '{path}'"))
        };
        let mut file = named::options().read(true).open(path).map_err(cannot)?;
        let failed = |what| QEMU.operation_failed(what);
        let mut head = [0; HEADER];
        file.read_exact(&mut head).map_err(|_| failed("failed to read qemu header"))?;
        let (magic, numbers) = head.split_at(MAGIC.len());
        let number = |at: usize| {
            let bytes = numbers.get(4 * at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        if magic == PART {
            return Err(failed("save image is incomplete"));
        }
        if magic != MAGIC {
            return Err(failed("image magic is incorrect"));
        }
        let [version, length, running, format, cookie] = [0, 1, 2, 3, 4].map(number);
        if version > VERSION {
            let text = format_args!("image version is not supported ({version} > {VERSION})");
            return Err(QEMU.operation_failed(text));
        }
        let unknown = || QEMU.operation_failed(format_args!("invalid compressed save format {format}"));
        let format = Format::of_number(format).ok_or_else(unknown)?;
        if length == 0 || length > LONGEST {
            return Err(QEMU.operation_failed(format_args!("invalid header data length: {length}")));
        }
        let mut data = vec![0; length as usize];
        file.read_exact(&mut data).map_err(|_| failed("failed to read domain XML"))?;
        let string = |at: usize| {
            let bytes = data.get(at..).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let cookie = if cookie == 0 { String::new() } else { string(cookie as usize) };
        let length = HEADER as u64 + u64::from(length);
        let image = Self { xml: string(0), cookie, running: running != 0, length, format };
        let stream = image.stream(file, None);
        Ok((image, stream))
    }

    /// The stream of a file that stands behind these bytes.
    pub(super) fn stream(&self, file: File, channels: Option<u32>) -> Stream {
        Stream { file, format: self.format, offset: self.length, channels }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use virtwire_store::Scratch;

    use super::*;

    fn image() -> Image {
        Image {
            xml: "<domain/>".into(),
            cookie: "<cookie/>".into(),
            running: true,
            length: 200,
            format: Format::Xz,
        }
    }

    #[test]
    fn what_is_written_is_read_and_the_stream_begins_behind_it() {
        let dir = Scratch::new();
        let path = dir.path().join("saved");
        fs::write(&path, [image().bytes(MAGIC), b"QEVM".to_vec()].concat()).unwrap();
        let (read, mut stream) = Image::read(path.to_str().unwrap()).unwrap();
        assert_eq!((read.xml.as_str(), read.cookie.as_str(), read.running), ("<domain/>", "<cookie/>", true));
        let mut rest = String::new();
        stream.file.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), read.length, read.format), ("QEVM", 200, Format::Xz));
    }

    #[test]
    fn every_cut_and_what_is_no_image_is_refused() {
        let dir = Scratch::new();
        let path = dir.path().join("saved");
        let whole = image().bytes(MAGIC);
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(Image::read(path.to_str().unwrap()).is_err(), "cut at {cut}");
        }
        fs::write(&path, image().bytes(PART)).unwrap();
        assert!(Image::read(path.to_str().unwrap()).is_err(), "not finished");
        let mut long = whole.clone();
        long[20..24].fill(0xff);
        fs::write(&path, long).unwrap();
        assert!(Image::read(path.to_str().unwrap()).is_err(), "more than there can be");
    }
}
