//! XDR (RFC 4506) as libvirt uses it: a bounded cursor for reading, plain appends for writing.
//!
//! Everything a peer sends is read through [`Reader`]. Each step may fail with a [`DecodeError`]; none can panic or
//! allocate more than a small multiple of the bytes that have arrived.

use std::borrow::Cow;
use std::fmt;

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The message ends before the value does.
    Truncated {
        /// Bytes wanted.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// A count is over its limit.
    TooLong {
        /// The most that is allowed.
        limit: u32,
        /// What was announced.
        got: u32,
    },
    /// A union's discriminant has no arm.
    Discriminant(i32),
    /// Bytes are left over.
    Trailing(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { need, have } => write!(f, "{need} bytes wanted, {have} left"),
            Self::TooLong { limit, got } => write!(f, "{got} announced, {limit} allowed"),
            Self::Discriminant(value) => write!(f, "no case {value}"),
            Self::Trailing(count) => write!(f, "{count} bytes left over"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A value that the wire cannot carry: a list or string over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The most that is allowed.
    pub limit: u32,
    /// What there is.
    pub got: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to send, {} allowed", self.got, self.limit)
    }
}

impl std::error::Error for EncodeError {}

/// A value that can be written.
pub trait Encode {
    /// Exactly how many bytes [`encode`](Self::encode) appends.
    fn encoded_len(&self) -> usize;
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A value that can be read, owned or borrowed from the message.
pub trait Decode<'a>: Sized {
    /// Reads the value and leaves the reader behind it.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// Nothing at all: the arguments of many procedures, the results of others.
impl Encode for () {
    fn encoded_len(&self) -> usize {
        0
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Decode<'_> for () {
    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// The value alone.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends the value, growing `out` once.
pub fn encode_into<T: Encode>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.reserve(value.encoded_len());
    value.encode(out)
}

/// Reads a value that takes up all of `bytes`.
pub fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// [`xdr_codec::Unpack`] over the bounded reader.
#[cfg(feature = "xdr-codec")]
pub(crate) fn unpack<'a, T: Decode<'a>>(reader: &mut Reader<'a>) -> xdr_codec::Result<(T, usize)> {
    let before = reader.remaining();
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let value = T::decode(reader).map_err(invalid)?;
    Ok((value, before - reader.remaining()))
}

/// As an opaque: xdr-codec's own strings are UTF-8, those of the wire need not be.
#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for XdrString {
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        xdr_codec::pack_opaque_flex(&self.0, None, out)
    }
}

/// A cursor over one message.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $get:ident $put:ident $ty:ty, $wire:ty;)*) => {
        impl Reader<'_> {
            $($(#[$doc])*
            #[inline]
            pub fn $get(&mut self) -> Result<$ty, DecodeError> {
                // Narrow types keep the low bits, as C's cast does.
                Ok(<$wire>::from_be_bytes(self.block()?) as $ty)
            })*
        }
        $($(#[$doc])*
        #[inline]
        pub fn $put(out: &mut Vec<u8>, value: $ty) {
            out.extend_from_slice(&(value as $wire).to_be_bytes());
        })*
    };
}

numbers! {
    /// `int`
    i32 put_i32 i32, i32;
    /// `unsigned int`
    u32 put_u32 u32, u32;
    /// `hyper`
    i64 put_i64 i64, i64;
    /// `unsigned hyper`
    u64 put_u64 u64, u64;
    /// `double`
    f64 put_f64 f64, f64;
    /// `unsigned char`: four bytes on the wire.
    uchar put_uchar u8, u32;
    /// `short`: four bytes on the wire.
    short put_short i16, i32;
    /// `unsigned short`: four bytes on the wire.
    ushort put_ushort u16, u32;
}

/// `char`: a byte of text, sign-extended to four bytes on the wire.
#[inline]
pub fn put_char(out: &mut Vec<u8>, value: u8) {
    put_i32(out, i32::from(value as i8));
}

/// `bool`, and the flag of an optional.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    put_u32(out, u32::from(value));
}

/// Several words at once.
#[inline]
pub fn put_words<const N: usize>(out: &mut Vec<u8>, words: [u32; N]) {
    out.extend_from_slice(words.map(u32::to_be_bytes).as_flattened());
}

/// The count of a list.
#[inline]
pub fn put_count(out: &mut Vec<u8>, count: usize, limit: u32) -> Result<(), EncodeError> {
    match u32::try_from(count) {
        Ok(count) if count <= limit => {
            put_u32(out, count);
            Ok(())
        }
        _ => Err(EncodeError { limit, got: count }),
    }
}

/// `string<limit>` and `opaque<limit>`
#[inline]
pub fn put_opaque(out: &mut Vec<u8>, bytes: &[u8], limit: u32) -> Result<(), EncodeError> {
    put_count(out, bytes.len(), limit)?;
    put_fixed(out, bytes);
    Ok(())
}

/// `opaque[n]`
#[inline]
pub fn put_fixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

/// What `len` bytes of a string or opaque take on the wire, count and padding included.
#[inline]
pub fn opaque_len(len: usize) -> usize {
    4 + len + padding(len)
}

#[inline]
fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that have not been read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All that has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error unless everything has been read.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    #[inline]
    fn take(&mut self, need: usize) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::Truncated { need, have: self.rest.len() };
        let (head, rest) = self.rest.split_at_checked(need).ok_or(short)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn block<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let short = DecodeError::Truncated { need: N, have: self.rest.len() };
        let (head, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A reader of the next `len` bytes.
    #[inline]
    pub fn part(&mut self, len: usize) -> Result<Self, DecodeError> {
        self.take(len).map(Self::new)
    }

    /// `bool`: any value but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u32()? != 0)
    }

    /// `char`: a byte of text, four bytes on the wire.
    #[inline]
    pub fn char(&mut self) -> Result<u8, DecodeError> {
        self.uchar()
    }

    /// `opaque[N]`
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let value = self.block()?;
        self.take(padding(N))?;
        Ok(value)
    }

    #[inline]
    fn count(&mut self, limit: u32) -> Result<usize, DecodeError> {
        let got = self.u32()?;
        if got > limit {
            return Err(DecodeError::TooLong { limit, got });
        }
        Ok(got as usize)
    }

    /// `opaque<limit>`, in place.
    #[inline]
    pub fn opaque_ref(&mut self, limit: u32) -> Result<&'a [u8], DecodeError> {
        let len = self.count(limit)?;
        let bytes = self.take(len)?;
        self.take(padding(len))?;
        Ok(bytes)
    }

    /// `opaque<limit>`
    #[inline]
    pub fn opaque(&mut self, limit: u32) -> Result<Vec<u8>, DecodeError> {
        self.opaque_ref(limit).map(<[u8]>::to_vec)
    }

    /// `string<limit>`, in place.
    #[inline]
    pub fn str(&mut self, limit: u32) -> Result<XdrStr<'a>, DecodeError> {
        self.opaque_ref(limit).map(XdrStr)
    }

    /// `string<limit>`
    #[inline]
    pub fn string(&mut self, limit: u32) -> Result<XdrString, DecodeError> {
        self.str(limit).map(|text| XdrString(text.0.to_vec()))
    }

    /// `T *`: the flag may be any non-zero value.
    #[inline]
    pub fn optional<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool()? { value(self).map(Some) } else { Ok(None) }
    }

    /// `T name[N]`
    pub fn array<T: Default, const N: usize>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<[T; N], DecodeError> {
        let mut error = None;
        let array = std::array::from_fn(|_| match error {
            Some(_) => T::default(),
            None => item(self).unwrap_or_else(|e| {
                error = Some(e);
                T::default()
            }),
        });
        error.map_or(Ok(array), Err)
    }

    /// `T name<limit>`. The announced count is checked against the bytes left before anything is allocated; `least`
    /// is the smallest item.
    #[inline]
    pub fn list<T>(
        &mut self,
        limit: u32,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(limit)?;
        let need = count.saturating_mul(least);
        if need > self.rest.len() {
            return Err(DecodeError::Truncated { need, have: self.rest.len() });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// `xdr_codec::Unpack` wants its source to be readable; our types never use this.
#[cfg(feature = "xdr-codec")]
impl std::io::Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.rest.read(buf)
    }
}

/// Text from the wire. The wire allows any bytes; what it means as UTF-8 is asked when it matters. As for libvirt's
/// daemon and clients, which are C, the text ends at the first NUL.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XdrString(Vec<u8>);

/// [`XdrString`] inside its message.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct XdrStr<'a>(pub &'a [u8]);

/// What C makes of the bytes of a string.
fn c_text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl XdrString {
    /// The bytes as on the wire, without the padding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(c_text(&self.0)).ok()
    }

    /// The text, with U+FFFD for what is not UTF-8.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(c_text(&self.0))
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl<'a> XdrStr<'a> {
    /// The bytes as on the wire, without the padding.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text, with U+FFFD for what is not UTF-8.
    pub fn to_str_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(c_text(self.0))
    }
}

impl From<&str> for XdrString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&String> for XdrString {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for XdrString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for XdrString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl PartialEq<str> for XdrString {
    fn eq(&self, other: &str) -> bool {
        c_text(&self.0) == other.as_bytes()
    }
}

impl PartialEq<&str> for XdrString {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for XdrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_str_lossy())
    }
}

impl fmt::Debug for XdrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}

impl fmt::Display for XdrStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_str_lossy())
    }
}

impl fmt::Debug for XdrStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_not_allocated_before_its_bytes_are_there() {
        // 16384 announced, 8 bytes sent.
        let bytes = [0, 0, 0x40, 0, 1, 2, 3, 4];
        let got = Reader::new(&bytes).list(16384, 4, Reader::u32);
        assert_eq!(got, Err(DecodeError::Truncated { need: 65536, have: 4 }));
        let got = Reader::new(&bytes).list(10, 4, Reader::u32);
        assert_eq!(got, Err(DecodeError::TooLong { limit: 10, got: 16384 }));
    }

    #[test]
    fn strings_are_padded() {
        let mut out = Vec::new();
        put_opaque(&mut out, b"abcde", 5).unwrap();
        assert_eq!(out, [0, 0, 0, 5, b'a', b'b', b'c', b'd', b'e', 0, 0, 0]);
        assert_eq!(out.len(), opaque_len(5));
        assert_eq!(Reader::new(&out).string(5).unwrap(), "abcde");
        assert_eq!(Reader::new(&out[..9]).string(5), Err(DecodeError::Truncated { need: 3, have: 0 }));
        assert_eq!(put_opaque(&mut out, b"abcdef", 5), Err(EncodeError { limit: 5, got: 6 }));
    }

    #[test]
    fn a_nul_ends_the_text_but_not_the_bytes() {
        let text = Reader::new(&[0, 0, 0, 3, b'a', 0, b'b', 0]).string(9).unwrap();
        assert_eq!(
            (text.to_str(), text.to_str_lossy().as_ref(), text.as_bytes()),
            (Some("a"), "a", &b"a\0b"[..])
        );
        assert_eq!(text, "a");
    }

    #[test]
    fn narrow_numbers_take_four_bytes() {
        let mut out = Vec::new();
        put_char(&mut out, 0xff);
        put_uchar(&mut out, 0xff);
        put_short(&mut out, -2);
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        let mut reader = Reader::new(&out);
        assert_eq!((reader.char(), reader.uchar(), reader.short()), (Ok(0xff), Ok(0xff), Ok(-2)));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn an_optional_is_there_for_any_flag_but_zero() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0, 0, 7]).optional(Reader::u32), Ok(Some(7)));
        assert_eq!(Reader::new(&[0, 0, 0, 0]).optional(Reader::u32), Ok(None));
    }
}
