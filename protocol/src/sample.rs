//! Sample values: the generated [`Sample`] implementations draw them from a [`Pick`].

use crate::codec::{self, Decode, DecodeError, Encode, EncodeError, Reader, XdrString};

/// A source of values. Seed 0 gives every list two items and every optional a value.
#[derive(Clone, Debug)]
pub struct Pick {
    state: u64,
    canonical: bool,
}

impl Pick {
    /// The same seed draws the same values.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, canonical: seed == 0 }
    }

    /// xorshift64*: good enough to reach every shape.
    fn draw(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `count`, 0 if that is 0.
    pub fn below(&mut self, count: usize) -> usize {
        self.draw().checked_rem(count as u64).unwrap_or(0) as usize
    }

    /// One of `values`.
    pub fn one_of(&mut self, values: &[i32]) -> i32 {
        let index = self.below(values.len());
        values.get(index).copied().unwrap_or_default()
    }

    /// `char`
    pub fn char(&mut self) -> u8 {
        self.draw() as u8
    }

    /// `unsigned char`
    pub fn uchar(&mut self) -> u8 {
        self.draw() as u8
    }

    /// `short`
    pub fn short(&mut self) -> i16 {
        self.draw() as i16
    }

    /// `unsigned short`
    pub fn ushort(&mut self) -> u16 {
        self.draw() as u16
    }

    /// `int`
    pub fn i32(&mut self) -> i32 {
        self.draw() as i32
    }

    /// `unsigned int`
    pub fn u32(&mut self) -> u32 {
        self.draw() as u32
    }

    /// `hyper`
    pub fn i64(&mut self) -> i64 {
        self.draw() as i64
    }

    /// `unsigned hyper`
    pub fn u64(&mut self) -> u64 {
        self.draw()
    }

    /// `double`, never NaN, so that values can be compared.
    pub fn f64(&mut self) -> f64 {
        self.draw() as i32 as f64 / 8.0
    }

    /// `bool`
    pub fn bool(&mut self) -> bool {
        self.draw() & 1 == 1
    }

    /// How long the next list is.
    fn count(&mut self, limit: u32) -> usize {
        let count = if self.canonical { 2 } else { self.below(4) };
        count.min(limit as usize)
    }

    /// `string<limit>`
    pub fn string(&mut self, limit: u32) -> XdrString {
        let len = if self.canonical { 5 } else { self.below(9) }.min(limit as usize);
        (0..len).map(|_| b'a' + self.below(26) as u8).collect::<Vec<_>>().into()
    }

    /// `opaque<limit>`
    pub fn opaque(&mut self, limit: u32) -> Vec<u8> {
        (0..self.count(limit)).map(|_| self.uchar()).collect()
    }

    /// `opaque[N]`
    pub fn fixed<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.uchar())
    }

    /// `T *`
    pub fn optional<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.canonical || self.bool()).then(|| value(self))
    }

    /// `T name<limit>`
    pub fn list<T>(&mut self, limit: u32, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.count(limit)).map(|_| item(self)).collect()
    }
}

/// A type of which samples can be drawn.
pub trait Sample {
    /// A value.
    fn sample(pick: &mut Pick) -> Self;
}

/// Draws a value and encodes it.
pub type Draw = fn(&mut Pick) -> Result<Vec<u8>, EncodeError>;

/// Unpacks a value; the count of bytes read, and the value encoded again.
#[cfg(feature = "xdr-codec")]
pub type Unpack = fn(&[u8]) -> xdr_codec::Result<(usize, Vec<u8>)>;

/// A limit within a field of a struct or an arm of a union.
#[derive(Clone, Copy, Debug)]
pub struct FieldLimit {
    /// The field's name.
    pub field: &'static str,
    /// The most it may hold.
    pub limit: u32,
    /// Appends all that comes before the count, of a value drawn from the pick.
    pub before: fn(&mut Pick, &mut Vec<u8>) -> Result<(), EncodeError>,
    /// Encodes a value that holds one more.
    pub over: Draw,
}

/// What a test needs of one type.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its XDR name.
    pub name: &'static str,
    /// Draws a value and encodes it.
    pub encode: Draw,
    /// Draws a value and says how long it will be.
    pub encoded_len: fn(&mut Pick) -> usize,
    /// Decodes all of the bytes and encodes the value again.
    pub recode: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
    /// Draws a value and packs it by xdr-codec.
    #[cfg(feature = "xdr-codec")]
    pub pack: fn(&mut Pick) -> xdr_codec::Result<Vec<u8>>,
    /// Unpacks by xdr-codec's trait: what it says it has read, and the value encoded again.
    #[cfg(feature = "xdr-codec")]
    pub unpack: Unpack,
    /// Its limits.
    pub limits: &'static [FieldLimit],
}

impl Row {
    /// The row of `T`.
    #[cfg(feature = "xdr-codec")]
    pub fn of<T>(name: &'static str, limits: &'static [FieldLimit]) -> Self
    where
        T: Sample
            + Encode
            + for<'a> Decode<'a>
            + xdr_codec::Pack<Vec<u8>>
            + for<'a> xdr_codec::Unpack<Reader<'a>>,
    {
        Self {
            name,
            encode: |pick| codec::encode(&T::sample(pick)),
            encoded_len: |pick| T::sample(pick).encoded_len(),
            recode: recode::<T>,
            pack: |pick| {
                let mut out = Vec::new();
                T::sample(pick).pack(&mut out)?;
                Ok(out)
            },
            unpack: |bytes| {
                let (value, read) = T::unpack(&mut Reader::new(bytes))?;
                Ok((read, codec::encode(&value).unwrap_or_default()))
            },
            limits,
        }
    }

    /// The row of `T`.
    #[cfg(not(feature = "xdr-codec"))]
    pub fn of<T>(name: &'static str, limits: &'static [FieldLimit]) -> Self
    where
        T: Sample + Encode + for<'a> Decode<'a>,
    {
        Self {
            name,
            encode: |pick| codec::encode(&T::sample(pick)),
            encoded_len: |pick| T::sample(pick).encoded_len(),
            recode: recode::<T>,
            limits,
        }
    }
}

fn recode<T: Encode + for<'a> Decode<'a>>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    // A decoded value is within its limits, so that encoding it again cannot fail.
    Ok(codec::encode(&codec::decode::<T>(bytes)?).unwrap_or_default())
}

/// The rows of every type of every program.
pub fn all() -> Vec<Row> {
    [
        crate::net::samples::samples(),
        crate::remote::samples::samples(),
        crate::qemu::samples::samples(),
        crate::lxc::samples::samples(),
        crate::admin::samples::samples(),
        crate::keepalive::samples::samples(),
        crate::lock::samples::samples(),
        crate::log::samples::samples(),
    ]
    .concat()
}
