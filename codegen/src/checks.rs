//! What a daemon refuses by itself, before it asks a driver: rules on arguments, from the lines of `checks.txt` that
//! begin with `check`. The head of that file explains their words.

use std::collections::HashMap;

use crate::ast::Scalar;
use crate::diagnostic::{Diagnostic, Name, Position, Result};
use crate::model::{Field, Type};
use crate::names::snake;

/// A rule on one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where the table says so.
    pub position: Position,
    /// The argument's name in the definition file.
    pub field: String,
    /// What the error calls it.
    pub name: String,
    /// What must hold.
    pub rule: Rule,
    /// When it must hold.
    pub when: Vec<When>,
    /// The error's text, where the rule has none of its own.
    pub text: Option<String>,
}

/// What must hold for an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the head of checks.txt explains each by its name")]
pub enum Rule {
    Positive,
    NonNegative,
    NonZero,
    NonNull,
    Null,
    NonEmpty,
    OneLine,
    Is(i64),
    Below(i64),
    Clear(i64),
    Max(i64),
    Count,
    Unsigned,
    Most(i64),
    /// Another field, and the largest product of both.
    Product(String, i64),
    Overflow(i64),
    /// Two flags: names and bits.
    Excludes((String, i64), (String, i64)),
    /// A flag, and what it is nothing without.
    Requires((String, i64), (String, i64)),
}

/// When a rule counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The field has one of these values.
    Is(String, Vec<i64>),
    /// The field has none of these values.
    IsNot(String, Vec<i64>),
    /// The field is there.
    Present(String),
    /// The field has none of these bits.
    NoneOf(String, i64),
}

/// The rules, as a diagnostic lists them.
const RULES: &str = "positive, nonnegative, nonzero, nonnull, null, nonempty, oneline, is:N, below:N, clear:BITS, \
    max:N, count, unsigned, most:N, product:FIELD,N, overflow:N, excludes:A,B or requires:A,B";

impl Check {
    /// Reads what follows the procedure's name; `end` is where the line ends.
    pub(crate) fn parse(
        flags: &HashMap<String, i64>,
        mut words: impl Iterator<Item = Name>,
        end: &Position,
    ) -> Result<Self> {
        let field = words.next().ok_or_else(|| Diagnostic::new(end, "an argument", "the end of the line"))?;
        let rule = words.next().ok_or_else(|| Diagnostic::new(end, "a rule", "the end of the line"))?;
        let (of, name) = field.text.split_once('=').unwrap_or((&field.text, &field.text));
        let mut check = Self {
            position: field.position.clone(),
            field: of.to_owned(),
            name: name.to_owned(),
            rule: read_rule(flags, &rule)?,
            when: Vec::new(),
            text: None,
        };
        while let Some(word) = words.next() {
            if word.text == "--" {
                check.text = Some(words.map(|word| word.text).collect::<Vec<_>>().join(" "));
                break;
            }
            let expected = "if=FIELD[:VALUES], unless=FIELD:VALUES, unless-any=FIELD:BITS or '--'";
            let wrong = || Diagnostic::new(&word.position, expected, format!("'{}'", word.text));
            check.when.push(condition(&word.text).ok_or_else(wrong)?);
        }
        let own = matches!(
            check.rule,
            Rule::OneLine | Rule::Is(_) | Rule::Below(_) | Rule::Clear(_) | Rule::Most(_) | Rule::Product(..)
        );
        if own && check.text.is_none() {
            return Err(Diagnostic::new(end, "'--' and the error's text", "the end of the line"));
        }
        Ok(check)
    }

    /// An error where the arguments have no such field, or one that the rule cannot be asked of.
    pub(crate) fn fits(&self, fields: &[Field]) -> Result<()> {
        let find = |name: &str| {
            fields.iter().find(|field| field.xdr == name).ok_or_else(|| {
                Diagnostic::new(
                    &self.position,
                    format!("arguments with a field '{name}'"),
                    "a procedure without",
                )
            })
        };
        let wrong = |expected| Err(Diagnostic::new(&self.position, expected, format!("'{}'", self.field)));
        let ty = &find(&self.field)?.ty;
        if let Rule::Product(other, _) = &self.rule
            && !is_number(&find(other)?.ty)
        {
            return wrong("a number to multiply with");
        }
        match self.rule {
            Rule::NonNull if is_number(ty) || is_list(ty) || is_optional(ty) => {}
            Rule::Null if is_optional(ty) => {}
            Rule::NonEmpty | Rule::OneLine if is_text(ty) => {}
            Rule::Positive | Rule::NonZero if is_number(ty) || is_list(ty) => {}
            Rule::NonNull => return wrong("a number, a list or something that may be absent"),
            Rule::Null => return wrong("something that may be absent"),
            Rule::NonEmpty | Rule::OneLine => return wrong("a text"),
            Rule::Positive | Rule::NonZero => return wrong("a number or a list"),
            _ if is_number(ty) => {}
            _ => return wrong("a number"),
        }
        for when in &self.when {
            let (name, fine): (_, fn(&Type) -> bool) = match when {
                When::Is(name, _) | When::IsNot(name, _) | When::NoneOf(name, _) => (name, is_number),
                When::Present(name) => (name, is_optional),
            };
            if !fine(&find(name)?.ty) {
                return wrong("a condition that fits the type of its field");
            }
        }
        Ok(())
    }

    /// The error's text; `{}` stands for the value.
    pub fn text(&self, api: &str) -> String {
        let name = &self.name;
        if let Some(text) = &self.text {
            return text.clone();
        }
        match &self.rule {
            Rule::Positive => format!("{name} in {api} must be greater than zero"),
            Rule::NonNegative => format!("{name} in {api} must be zero or greater"),
            Rule::NonZero => format!("{name} in {api} must not be zero"),
            Rule::NonNull => format!("{name} in {api} must not be NULL"),
            Rule::Null => format!("{name} in {api} must be NULL"),
            Rule::NonEmpty => format!("string {name} in {api} must not be empty"),
            Rule::Max(_) => format!("{name} too large"),
            Rule::Count | Rule::Unsigned => format!("{name} must be non-negative"),
            Rule::Overflow(_) => "input too large: {}".to_owned(),
            Rule::Excludes((a, _), (b, _)) => format!("Flags '{a}' and '{b}' are mutually exclusive"),
            Rule::Requires((a, _), (b, _)) => format!("Flag '{b}' is required by flag '{a}'"),
            Rule::OneLine
            | Rule::Is(_)
            | Rule::Below(_)
            | Rule::Clear(_)
            | Rule::Most(_)
            | Rule::Product(..) => String::new(),
        }
    }

    /// The field's name in Rust.
    pub fn rust(&self) -> String {
        snake(&self.field)
    }
}

fn read_rule(flags: &HashMap<String, i64>, word: &Name) -> Result<Rule> {
    let (rule, value) = word.text.split_once(':').unwrap_or((&word.text, ""));
    let wrong = |expected: &str| Diagnostic::new(&word.position, expected, format!("'{}'", word.text));
    let number = || value.parse().map_err(|_| wrong("a number behind ':'"));
    let two = || -> Result<_> {
        let flag = |name: &str| {
            let bits = flags.get(name).ok_or_else(|| wrong("flags that the tables know"))?;
            Ok((name.to_owned(), *bits))
        };
        let (a, b) = value.split_once(',').ok_or_else(|| wrong("two flags behind ':'"))?;
        Ok((flag(a)?, flag(b)?))
    };
    Ok(match rule {
        "positive" => Rule::Positive,
        "nonnegative" => Rule::NonNegative,
        "nonzero" => Rule::NonZero,
        "nonnull" => Rule::NonNull,
        "null" => Rule::Null,
        "nonempty" => Rule::NonEmpty,
        "oneline" => Rule::OneLine,
        "is" => Rule::Is(number()?),
        "below" => Rule::Below(number()?),
        "clear" => Rule::Clear(number()?),
        "max" => Rule::Max(number()?),
        "count" => Rule::Count,
        "unsigned" => Rule::Unsigned,
        "most" => Rule::Most(number()?),
        "product" => {
            let (field, most) =
                value.split_once(',').ok_or_else(|| wrong("a field and a number behind ':'"))?;
            Rule::Product(field.to_owned(), most.parse().map_err(|_| wrong("a number behind ','"))?)
        }
        "overflow" => Rule::Overflow(number()?),
        "excludes" => two().map(|(a, b)| Rule::Excludes(a, b))?,
        "requires" => two().map(|(a, b)| Rule::Requires(a, b))?,
        _ => return Err(wrong(RULES)),
    })
}

fn condition(word: &str) -> Option<When> {
    let (key, value) = word.split_once('=')?;
    let (field, values) = match value.split_once(':') {
        Some((field, values)) => (field, Some(values)),
        None => (value, None),
    };
    let field = field.to_owned();
    let values = values.map(|values| values.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>());
    match (key, values) {
        ("if", None) => Some(When::Present(field)),
        ("if", Some(Ok(values))) => Some(When::Is(field, values)),
        ("unless", Some(Ok(values))) => Some(When::IsNot(field, values)),
        ("unless-any", Some(Ok(bits))) => Some(When::NoneOf(field, *bits.first()?)),
        _ => None,
    }
}

fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Scalar(Scalar::Int { .. } | Scalar::Hyper { .. }))
}

fn is_list(ty: &Type) -> bool {
    matches!(ty, Type::Array { .. } | Type::Opaque { .. })
}

pub(crate) fn is_optional(ty: &Type) -> bool {
    matches!(ty, Type::Optional(_))
}

fn is_text(ty: &Type) -> bool {
    match ty {
        Type::String { .. } => true,
        Type::Optional(of) => matches!(**of, Type::String { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Facts, Source, resolve};

    /// What is said of a procedure `SET` with arguments of several kinds.
    fn error(check: &str) -> String {
        let text = "struct virLockSpaceProtocolSetArgs { int number; string text<>; };
            enum virLockSpaceProtocolProcedure { VIR_LOCK_SPACE_PROTOCOL_PROC_SET = 1 };";
        let facts = format!("flag A 1\nlock SET api=virSet\n{check}");
        let model = |facts: &Facts| resolve::model(&[Source { file: "lock.x", text }], facts);
        match Facts::parse("f", &facts).and_then(|facts| model(&facts)) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (check, wrong) in [
            ("check lock SET number positive", "fine"),
            ("check lock SET", "f:3:15: in SET: expected an argument, found the end of the line"),
            ("check lock SET number", "f:3:22: in SET: expected a rule, found the end of the line"),
            (
                "check lock SET number excludes:A,B",
                "f:3:23: in SET: expected flags that the tables know, found 'excludes:A,B'",
            ),
            (
                "check lock SET number below:3",
                "f:3:30: in SET: expected '--' and the error's text, found the end of the line",
            ),
            (
                "check lock SET other positive",
                "f:3:16: in VIR_LOCK_SPACE_PROTOCOL_PROC_SET: expected arguments with a field 'other', found a procedure without",
            ),
            (
                "check lock SET text positive",
                "f:3:16: in VIR_LOCK_SPACE_PROTOCOL_PROC_SET: expected a number or a list, found 'text'",
            ),
            (
                "check lock SET number positive when=x",
                "f:3:32: in SET: expected if=FIELD[:VALUES], unless=FIELD:VALUES, unless-any=FIELD:BITS or '--', \
                 found 'when=x'",
            ),
            ("check lock GET number positive", "f:3:12: expected a procedure that has a line, found 'GET'"),
        ] {
            assert_eq!(error(check), wrong);
        }
    }
}
