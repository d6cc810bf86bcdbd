//! Texts of a type: XML Schema's (part 2), as far as schemas of libvirt's ask for them.

use regex_lite::Regex;

use super::Id;

/// A type of text, with what it is narrowed to.
#[derive(Debug)]
pub(super) struct Data {
    kind: Kind,
    patterns: Vec<Regex>,
    low: Option<i128>,
    high: Option<i128>,
    most: Option<usize>,
    /// What is none although it would be.
    pub(super) except: Id,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any text.
    Text,
    /// Whole numbers from the first to the second.
    Whole(i128, i128),
    Fraction,
    /// Date, time, and perhaps a time zone.
    Moment,
    /// A name without colons.
    Name,
}

const MOMENT: &str =
    r"-?[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?";
const NAME: &str = r"[A-Za-z_][A-Za-z0-9_.\-]*";

const KINDS: &[(&str, Kind)] = &[
    ("string", Kind::Text),
    ("token", Kind::Text),
    ("anyURI", Kind::Text),
    ("NCName", Kind::Name),
    ("dateTime", Kind::Moment),
    ("double", Kind::Fraction),
    ("integer", Kind::Whole(i128::MIN, i128::MAX)),
    ("positiveInteger", Kind::Whole(1, i128::MAX)),
    ("nonNegativeInteger", Kind::Whole(0, i128::MAX)),
    ("long", Kind::Whole(i64::MIN as i128, i64::MAX as i128)),
    ("int", Kind::Whole(i32::MIN as i128, i32::MAX as i128)),
    ("short", Kind::Whole(i16::MIN as i128, i16::MAX as i128)),
    ("byte", Kind::Whole(i8::MIN as i128, i8::MAX as i128)),
    ("unsignedLong", Kind::Whole(0, u64::MAX as i128)),
    ("unsignedInt", Kind::Whole(0, u32::MAX as i128)),
    ("unsignedShort", Kind::Whole(0, u16::MAX as i128)),
    ("unsignedByte", Kind::Whole(0, u8::MAX as i128)),
];

impl Data {
    /// The type called `name`, narrowed by `params` (name and value).
    pub(super) fn new<'p>(
        name: &str,
        params: impl Iterator<Item = (&'p str, &'p str)>,
        except: Id,
    ) -> Result<Self, String> {
        let kind = KINDS.iter().find(|(known, _)| *known == name);
        let (_, kind) = kind.ok_or_else(|| format!("unknown type '{name}'"))?;
        let mut data = Self { kind: *kind, patterns: Vec::new(), low: None, high: None, most: None, except };
        match kind {
            Kind::Moment => data.patterns.push(regex(MOMENT)?),
            Kind::Name => data.patterns.push(regex(NAME)?),
            _ => {}
        }
        for (param, value) in params {
            let bad = |_| format!("bad value '{value}' of '{param}'");
            match param {
                "pattern" => data.patterns.push(regex(value)?),
                "minInclusive" => data.low = Some(value.parse().map_err(bad)?),
                "maxInclusive" => data.high = Some(value.parse().map_err(bad)?),
                "maxLength" => data.most = Some(value.parse().map_err(bad)?),
                _ => return Err(format!("unknown parameter '{param}'")),
            }
        }
        Ok(data)
    }

    /// Whether `text` is of the type, but for what is excepted.
    pub(super) fn takes(&self, text: &str) -> bool {
        let is_of_kind = match self.kind {
            Kind::Whole(low, high) => {
                let (low, high) = (low.max(self.low.unwrap_or(low)), high.min(self.high.unwrap_or(high)));
                text.trim().parse::<i128>().is_ok_and(|number| (low..=high).contains(&number))
            }
            Kind::Fraction => text.trim().parse::<f64>().is_ok(),
            Kind::Text | Kind::Moment | Kind::Name => true,
        };
        is_of_kind
            && self.most.is_none_or(|most| text.chars().count() <= most)
            && self.patterns.iter().all(|pattern| pattern.is_match(text))
    }
}

/// An expression in the syntax of XML Schema: of the whole text, and `^` and `$` are characters like others.
fn regex(text: &str) -> Result<Regex, String> {
    let mut out = String::from("^(?:");
    let mut characters = text.chars();
    let (mut in_class, mut at_start) = (false, false);
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(characters.next());
            }
            '[' if in_class => out.push_str("\\["),
            '^' if !(in_class && at_start) => out.push_str("\\^"),
            '$' => out.push_str("\\$"),
            '&' | '~' if in_class => out.extend(['\\', c]),
            _ => out.push(c),
        }
        at_start = c == '[' && !in_class;
        in_class = (in_class || c == '[') && c != ']';
    }
    out.push_str(")$");
    Regex::new(&out).map_err(|error| format!("pattern '{text}': {error}"))
}
