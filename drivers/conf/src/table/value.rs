//! Single values: text, numbers, sizes, addresses, sets of processors.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use uuid::Uuid;
use virtwire_protocol::remote::REMOTE_CPUMAP_MAX;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Element, Result};
use crate::xml::{Node, Writer};

/// A value that is one piece of text.
pub trait Value: Sized {
    /// Reads it. `None` is for words that mean as much as nothing at all.
    ///
    /// # Errors
    /// Why the text is no such value.
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad>;

    /// Its text.
    fn show(&self) -> Cow<'_, str>;
}

/// Why a text is not a value of its type.
#[derive(Debug)]
pub enum Bad {
    /// Not one of the words.
    Keyword,
    /// Not a number of this kind ("integer", "non-negative integer").
    Number(&'static str),
    /// Zero where it has no meaning.
    Zero,
    /// Something with an error of its own.
    Other(Box<VirtError>),
}

impl From<VirtError> for Bad {
    fn from(error: VirtError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl Value for String {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        Ok(Some(text.to_owned()))
    }

    fn show(&self) -> Cow<'_, str> {
        self.as_str().into()
    }
}

/// White space before and a sign are allowed, as `strtoul` does.
fn number(text: &str) -> &str {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    match text.strip_prefix('+') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
        _ => text,
    }
}

macro_rules! numbers {
    ($($ty:ty: $kind:literal;)*) => {$(
        impl Value for $ty {
            fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
                number(text).parse().map(Some).map_err(|_| Bad::Number($kind))
            }

            fn show(&self) -> Cow<'_, str> {
                self.to_string().into()
            }
        }
    )*};
}

numbers! {
    u8: "non-negative integer";
    u16: "non-negative integer";
    u32: "non-negative integer";
    u64: "non-negative integer";
    i32: "integer";
    i64: "integer";
}

/// A number that cannot be zero; one by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Positive(pub NonZeroU32);

impl Positive {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Positive {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl Value for Positive {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        match u32::parse(text)? {
            Some(value) => NonZeroU32::new(value).map(Self).ok_or(Bad::Zero).map(Some),
            None => Ok(None),
        }
    }

    fn show(&self) -> Cow<'_, str> {
        self.get().to_string().into()
    }
}

/// A number of 32 bits read in any base C knows (0x…, 0…, decimal) and shown in hexadecimal with `DIGITS` digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Hex<const DIGITS: usize>(pub u64);

/// Reads a number in the bases C knows.
pub(crate) fn c_number(text: &str) -> Option<u64> {
    let text = number(text);
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))
}

impl<const DIGITS: usize> Value for Hex<DIGITS> {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        let value = c_number(text).filter(|value| u32::try_from(*value).is_ok());
        value.map(|value| Some(Self(value))).ok_or(Bad::Number("non-negative integer"))
    }

    fn show(&self) -> Cow<'_, str> {
        format!("0x{:0DIGITS$x}", self.0).into()
    }
}

/// A number that is read in the bases C knows and shown in ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct AnyBase(pub u32);

impl std::fmt::Display for AnyBase {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, out)
    }
}

impl Value for AnyBase {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        let value = c_number(text).and_then(|value| u32::try_from(value).ok());
        value.map(|value| Some(Self(value))).ok_or(Bad::Number("non-negative integer"))
    }

    fn show(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

/// A number of 64 bits that is read and shown like [`Hex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Wide(pub u64);

impl Value for Wide {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        c_number(text).map(|value| Some(Self(value))).ok_or(Bad::Number("non-negative integer"))
    }

    fn show(&self) -> Cow<'_, str> {
        format!("0x{:x}", self.0).into()
    }
}

impl Value for Uuid {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        parse_uuid(text).map(Some).ok_or(Bad::Keyword)
    }

    fn show(&self) -> Cow<'_, str> {
        self.hyphenated().to_string().into()
    }
}

/// As `virUUIDParse`: 32 hexadecimal digits with hyphens between bytes anywhere, white space around.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let mut bytes = [0; 16];
    let mut rest = text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    for byte in &mut bytes {
        rest = rest.trim_start_matches('-');
        let pair = rest.get(..2).filter(|p| p.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
        rest = &rest[2..];
    }
    rest.is_empty().then(|| Uuid::from_bytes(bytes))
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// An address that begins with `prefix` and ends at random.
    pub fn random(prefix: [u8; 3]) -> Self {
        let random = Uuid::new_v4();
        let [a, b, c, ..] = *random.as_bytes();
        let [x, y, z] = prefix;
        Self([x, y, z, a, b, c])
    }

    /// Reads six groups of up to two hexadecimal digits between colons.
    pub fn parse_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut groups = text.split(':');
        for byte in &mut bytes {
            let group = groups.next().filter(|g| matches!(g.len(), 1..=2))?;
            *byte = u8::from_str_radix(group, 16).ok().filter(|_| !group.starts_with('+'))?;
        }
        groups.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Value for Mac {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        let domain = ErrorDomain::DOMAIN;
        let mac = Self::parse_text(text)
            .ok_or_else(|| domain.xml_error(format_args!("unable to parse mac address '{text}'")))?;
        if mac.0[0] & 1 == 1 {
            let found = format_args!("expected unicast mac address, found multicast '{text}'");
            return Err(domain.xml_error(found).into());
        }
        Ok(Some(mac))
    }

    fn show(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

/// A set of processors or nodes: sorted ranges, first to last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Cpuset(pub Vec<(u32, u32)>);

impl Cpuset {
    /// Numbers from here on are refused.
    const MAX: u32 = 1024;

    /// Reads `0-3,^2,8`.
    pub fn parse_text(text: &str) -> Option<Self> {
        let mut set = vec![false; Self::MAX as usize];
        for part in text.split(',') {
            let part = part.trim();
            let (part, member) = part.strip_prefix('^').map_or((part, true), |rest| (rest, false));
            let (first, last) = match part.split_once('-') {
                Some((first, last)) if member => (first.trim().parse().ok()?, last.trim().parse().ok()?),
                Some(_) => return None,
                None => part.parse().map(|n: u32| (n, n)).ok()?,
            };
            if first > last || last >= Self::MAX {
                return None;
            }
            set[first as usize..=last as usize].fill(member);
        }
        Some(Self::of((0..Self::MAX).filter(|n| set[*n as usize])))
    }

    /// The set of these numbers, which ascend.
    fn of(numbers: impl Iterator<Item = u32>) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        Self(ranges)
    }

    /// The first `count` numbers.
    pub fn first(count: u32) -> Self {
        Self(count.checked_sub(1).map(|last| (0, last)).into_iter().collect())
    }

    /// Leaves out what is not among the first `count` numbers.
    pub(crate) fn truncate(&mut self, count: u32) {
        self.0.retain(|(first, _)| *first < count);
        self.0.iter_mut().for_each(|(_, last)| *last = (*last).min(count.saturating_sub(1)));
    }

    /// The set that a map on the wire stands for: a bit for each number, the lowest bit of the first byte for 0.
    pub fn from_map(map: &[u8]) -> Self {
        let numbers = map.iter().zip(0_u32..);
        Self::of(numbers.flat_map(|(byte, at)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit)
        }))
    }

    /// The set as such a map of `bytes` bytes, or of as many as the wire carries (`REMOTE_CPUMAP_MAX`).
    pub fn to_map(&self, bytes: usize) -> Vec<u8> {
        let mut map = vec![0; bytes.min(REMOTE_CPUMAP_MAX as usize)];
        for number in self.iter() {
            if let Some(byte) = map.get_mut(number as usize / 8) {
                *byte |= 1 << (number % 8);
            }
        }
        map
    }

    /// The members.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl fmt::Display for Cpuset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl Value for Cpuset {
    fn parse(text: &str) -> std::result::Result<Option<Self>, Bad> {
        let bad = || ErrorDomain::NONE.invalid_arg(format_args!("Failed to parse bitmap '{text}'")).into();
        Self::parse_text(text).map(Some).ok_or_else(bad)
    }

    fn show(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

/// Bytes in one `unit`; `default` where the document names none.
///
/// # Errors
/// `VIR_ERR_INVALID_ARG` for a unit that does not exist.
pub(crate) fn unit(unit: Option<&str>, default: u64) -> Result<u64> {
    let Some(unit) = unit else { return Ok(default) };
    let lower = unit.to_ascii_lowercase();
    let (letter, step) = match lower.as_bytes() {
        b"" => return Ok(default),
        b"b" | b"byte" | b"bytes" => return Ok(1),
        [letter] | [letter, b'i', b'b'] => (*letter, 1024u64),
        [letter, b'b'] => (*letter, 1000u64),
        _ => (0, 0),
    };
    match b"kmgtpe".iter().position(|c| *c == letter) {
        Some(power) => Ok(step.pow(power as u32 + 1)),
        None => Err(ErrorDomain::NONE.invalid_arg(format_args!("unknown suffix '{unit}'"))),
    }
}

/// An amount of memory in KiB, with a unit in XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KiB(pub u64);

/// What errors call a node: its path from below the root.
fn place_of(node: Node<'_>) -> String {
    match node.parent().filter(|p| p.parent().is_some()) {
        Some(parent) => format!("./{}/{}[1]", parent.name(), node.name()),
        None => format!("./{}[1]", node.name()),
    }
}

/// Bytes that a node's text and its attribute `unit` stand for.
fn scaled(node: Node<'_>, place: &str, default: u64) -> Result<u64> {
    let text = node.text();
    if text.is_empty() {
        return Ok(0);
    }
    let number = u64::parse(&text).ok().flatten().ok_or_else(|| {
        ErrorDomain::XML.xml_error(format_args!("Invalid value '{text}' for element or attribute '{place}'"))
    })?;
    let name = node.attribute("unit");
    number.checked_mul(unit(name, default)?).ok_or_else(|| {
        ErrorDomain::NONE.overflow(format_args!("value too large: {number}{}", name.unwrap_or_default()))
    })
}

impl Element for KiB {
    fn read(node: Node<'_>) -> Result<Self> {
        scaled(node, &place_of(node), 1024).map(|bytes| Self(bytes.div_ceil(1024)))
    }

    fn is_nothing(node: Node<'_>) -> bool {
        node.text().is_empty()
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.attribute("unit", "KiB");
        out.text(&self.0.to_string());
    }
}

/// An amount of bytes, with a unit in XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

impl Element for Bytes {
    fn read(node: Node<'_>) -> Result<Self> {
        scaled(node, &place_of(node), 1).map(Self)
    }

    fn is_nothing(node: Node<'_>) -> bool {
        node.text().is_empty()
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.attribute("unit", "bytes");
        out.text(&self.0.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_sets_are_two_ways_to_say_one_thing() {
        let set = Cpuset(vec![(0, 0), (2, 2), (7, 8)]);
        assert_eq!(Cpuset::from_map(&[0b1000_0101, 0b0000_0001]), set);
        assert_eq!(set.to_map(2), [0b1000_0101, 1]);
        assert_eq!(Cpuset::first(16).to_map(1), [0xff]);
        assert_eq!(Cpuset::first(0), Cpuset(vec![]));
        assert_eq!(set.to_map(usize::MAX).len(), REMOTE_CPUMAP_MAX as usize);
    }

    #[test]
    fn sets_are_shown_as_ranges() {
        let shown = |text| Cpuset::parse_text(text).map(|set| set.to_string());
        assert_eq!(shown("3,1,2,8-9").as_deref(), Some("1-3,8-9"));
        assert_eq!(shown("0-7,^2,^7").as_deref(), Some("0-1,3-6"));
        for bad in ["", "x", "3-1", "-1", "1024", "0-4294967296", "1,,2", "^1-2"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn units_are_powers_of_1000_or_1024() {
        for (name, bytes) in
            [("b", 1), ("KB", 1000), ("k", 1024), ("KiB", 1024), ("MB", 1_000_000), ("g", 1 << 30)]
        {
            assert_eq!(unit(Some(name), 7).unwrap(), bytes, "{name}");
        }
        assert_eq!(unit(None, 7).unwrap(), 7);
        assert_eq!(unit(Some("zz"), 7).unwrap_err().message, "invalid argument: unknown suffix 'zz'");
    }

    #[test]
    fn uuids_are_read_with_and_without_hyphens() {
        let expected = parse_uuid("3f1b3d2e-5a0c-4b1e-9c55-0d6e8f3a7b01");
        assert!(expected.is_some());
        assert_eq!(parse_uuid(" 3F1B3D2E5A0C4B1E9C550D6E8F3A7B01\n"), expected);
        for bad in [
            "",
            "3f1b3d2e-5a0c-4b1e-9c55-0d6e8f3a7b0",
            "3f1b3d2e-5a0c-4b1e-9c55-0d6e8f3a7b011",
            "3f1b3d2e-5a0c-4b1e-9c55-0d6e8f3a7bé",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_of_cards_are_six_groups() {
        assert_eq!(
            Mac::parse_text("52:54:0:A:b:cC").map(|m| m.to_string()).as_deref(),
            Some("52:54:00:0a:0b:cc")
        );
        for bad in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:00:00",
            "52:54:00:00:00:000",
            "52-54-00-00-00-00",
            "+1:0:0:0:0:0",
        ] {
            assert_eq!(Mac::parse_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        assert_eq!(c_number("0x1F"), Some(31));
        assert_eq!(c_number(" 017"), Some(15));
        assert_eq!(c_number("+9"), Some(9));
        for bad in ["", "0x", "08", "-1", "1 ", "0x-1", "99999999999999999999"] {
            assert_eq!(c_number(bad), None, "{bad}");
        }
        assert_eq!(Hex::<4>(0x1af).show(), "0x01af");
    }
}
