//! A picture for those who ask a guest for one: a PNG written by hand, so that no library is needed.

use virtwire_driver_api::{StreamEnd, ToClient};
use virtwire_protocol::remote as wire;

use crate::error::{Result, check_flags};
use crate::host::Host;

/// Width and height in pixels, of the text screen that a PC starts with.
const SIZE: (u32, u32) = (720, 400);

/// The largest block that deflate can store uncompressed.
const STORED_MAX: usize = 0xffff;

/// The picture is the same whatever the guest shows, and even if there is no such guest.
pub(crate) fn shot(
    _: &mut Host,
    args: wire::DomainScreenshotArgs,
    stream: StreamEnd,
) -> Result<wire::DomainScreenshotRet> {
    check_flags(args.flags, 0, "testDomainScreenshot")?;
    // Both fit the stream's queue, so nothing waits here.
    let _ = stream.outgoing.try_send(ToClient::Data(png()));
    let _ = stream.outgoing.try_send(ToClient::End);
    Ok(wire::DomainScreenshotRet { mime: Some("image/png".into()) })
}

/// A black screen, one bit a pixel.
fn png() -> Vec<u8> {
    let (width, height) = SIZE;
    let line = 1 + width.div_ceil(8) as usize;
    let pixels = vec![0u8; line * height as usize];

    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([1, 0, 0, 0, 0]);

    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"IDAT", &zlib(&pixels));
    chunk(&mut png, *b"IEND", &[]);
    png
}

/// Length, kind, data, checksum of kind and data.
fn chunk(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend(kind);
    out.extend(data);
    let sum = crc32(&out[start..]);
    out.extend(sum.to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951).
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(STORED_MAX).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = block.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(data).to_be_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn the_picture_has_its_size_and_end() {
        let png = png();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\xd0\0\0\x01\x90"));
        assert!(png.ends_with(b"IEND\xae\x42\x60\x82"));
        assert!(png.len() < 64 * 1024);
    }
}
