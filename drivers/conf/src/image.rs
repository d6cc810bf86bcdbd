//! What the first bytes of a disk image tell.

use std::path::{Path, PathBuf};

/// How much of an image is looked at: up to where an ISO 9660 file system names itself.
pub const HEAD: u64 = 40 << 10;

/// What an image is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The format, `raw` if it is none that is known.
    pub format: &'static str,
    /// Bytes that a guest sees, where the format says it.
    pub capacity: Option<u64>,
    /// The image behind it, and that one's format.
    pub backing: Option<(PathBuf, Option<String>)>,
    /// What only qcow2 has.
    pub qcow2: Option<Qcow2>,
    /// How the content is encrypted, `luks`.
    pub encryption: Option<&'static str>,
    /// Bytes before the content of a raw image that is encrypted.
    pub header: u64,
}

/// What only qcow2 has.
#[derive(Debug, PartialEq, Eq)]
pub struct Qcow2 {
    /// The lowest version of QEMU that reads it, `0.10` or `1.1`.
    pub compat: &'static str,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Counts of references may be behind.
    pub lazy_refcounts: bool,
    /// Clusters have parts.
    pub extended_l2: bool,
}

/// Where a format's size stands, and its unit.
type Size = Option<(usize, fn([u8; 8]) -> u64, u64)>;

/// Formats by their magic bytes and where these are.
const FORMATS: &[(&str, usize, &[u8], Size)] = &[
    ("qcow2", 0, b"QFI\xfb\0\0\0\x03", Some((24, u64::from_be_bytes, 1))),
    ("qcow2", 0, b"QFI\xfb\0\0\0\x02", Some((24, u64::from_be_bytes, 1))),
    ("qcow", 0, b"QFI\xfb\0\0\0\x01", Some((24, u64::from_be_bytes, 1))),
    ("qed", 0, b"QED\0", Some((48, u64::from_le_bytes, 1))),
    ("vmdk", 0, b"KDMV", Some((12, u64::from_le_bytes, 512))),
    ("vdi", 64, b"\x7f\x10\xda\xbe", Some((0x170, u64::from_le_bytes, 1))),
    ("vpc", 0, b"conectix", Some((48, u64::from_be_bytes, 1))),
    ("bochs", 0, b"Bochs Virtual HD Image", None),
    ("iso", 32769, b"CD001", None),
];

const LUKS: &[u8] = b"LUKS\xba\xbe\0\x01";

/// Reads the first [`HEAD`] bytes of an image in `dir`; less is enough where the image is shorter.
pub fn read(head: &[u8], dir: &Path) -> Image {
    let is = |&&(_, at, magic, _): &&(&str, usize, &[u8], Size)| {
        head.get(at..).is_some_and(|rest| rest.starts_with(magic))
    };
    if head.starts_with(LUKS) {
        // The header (LUKS On-Disk Format Specification 1) counts in sectors.
        let header = number(head, 104).map_or(0, |sectors| u64::from(sectors) * 512);
        return Image { format: "raw", encryption: Some("luks"), header, ..Image::default() };
    }
    let Some((format, _, _, size)) = FORMATS.iter().find(is) else {
        return Image { format: "raw", ..Image::default() };
    };
    let capacity = size.and_then(|(at, number, unit)| {
        let bytes = head.get(at..at + 8)?.try_into().ok()?;
        number(bytes).checked_mul(unit)
    });
    let mut image = Image { format, capacity, ..Image::default() };
    if *format == "qcow2" {
        image.qcow2 = Some(qcow2(head));
        // `crypt_method`
        image.encryption = number(head, 32).filter(|method| *method == 2).map(|_| "luks");
        image.backing = backing(head).map(|(path, format)| (dir.join(path), format));
    }
    image
}

fn number(head: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn qcow2(head: &[u8]) -> Qcow2 {
    let version = number(head, 4);
    // Feature words are eight bytes; the bits used are in the last four.
    let bit =
        |at: usize, bit: u32| version == Some(3) && number(head, at + 4).unwrap_or_default() >> bit & 1 == 1;
    Qcow2 {
        compat: if version == Some(3) { "1.1" } else { "0.10" },
        cluster_size: 1_u64.checked_shl(number(head, 20).unwrap_or_default()).unwrap_or_default(),
        lazy_refcounts: bit(80, 0),
        extended_l2: bit(72, 4),
    }
}

/// The name of the backing image and, from the header's extensions, its format.
fn backing(head: &[u8]) -> Option<(PathBuf, Option<String>)> {
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    let text = |at: usize, len: usize| {
        let bytes = head.get(at..at.checked_add(len)?)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    let (at, len) = (number(head, 12)? as usize, number(head, 16)? as usize);
    if number(head, 8)? != 0 || at == 0 || len == 0 {
        return None;
    }
    let name = text(at, len)?;
    let mut place = if number(head, 4) == Some(3) { number(head, 100)? as usize } else { 72 };
    let mut format = None;
    while let (Some(kind), Some(len)) =
        (number(head, place), place.checked_add(4).and_then(|at| number(head, at)))
    {
        match kind {
            0 => break,
            BACKING_FORMAT => format = text(place + 8, len as usize),
            _ => {}
        }
        place = place.saturating_add(8).saturating_add((len as usize).div_ceil(8) * 8);
    }
    Some((name.into(), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 3 with a backing image and its format.
    fn header() -> Vec<u8> {
        let mut head = vec![0_u8; 512];
        head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        head[15] = 200;
        head[19] = 4;
        head[23] = 16;
        head[29] = 0x80;
        head[87] = 1;
        head[103] = 104;
        head[104..108].copy_from_slice(&0xe279_2aca_u32.to_be_bytes());
        head[111] = 3;
        head[112..115].copy_from_slice(b"raw");
        head[200..204].copy_from_slice(b"base");
        head
    }

    #[test]
    fn a_qcow2_header_is_read() {
        let image = read(&header(), Path::new("/pool"));
        assert_eq!((image.format, image.capacity), ("qcow2", Some(8 << 20)));
        assert_eq!(image.backing, Some(("/pool/base".into(), Some("raw".to_owned()))));
        let qcow2 = image.qcow2.unwrap();
        assert_eq!((qcow2.compat, qcow2.cluster_size, qcow2.lazy_refcounts), ("1.1", 65536, true));
    }

    #[test]
    fn encryption_is_seen() {
        let mut head = header();
        head[35] = 2;
        assert_eq!(read(&head, Path::new("/")).encryption, Some("luks"));
        let mut head = vec![0; 592];
        head[..8].copy_from_slice(LUKS);
        head[106] = 0x10;
        let image = read(&head, Path::new("/"));
        assert_eq!((image.format, image.encryption, image.header), ("raw", Some("luks"), 2 << 20));
    }

    #[test]
    fn every_truncation_and_every_wrong_byte_is_survived() {
        let whole = header();
        for cut in 0..whole.len() {
            read(&whole[..cut], Path::new("/"));
            let mut wrong = whole.clone();
            wrong[cut] = 0xff;
            read(&wrong, Path::new("/"));
        }
    }
}
