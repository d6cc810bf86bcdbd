//! What a rule says, with the values that its variables have in one choice.

use std::borrow::Cow;
use std::net::IpAddr;

use virtwire_conf::nwfilter::{Matches, Rule};
use virtwire_conf::table::Mac;

use super::variables::Choice;
use crate::{NWFILTER, Result};

/// What iptables keeps of a comment, in bytes.
const LONGEST_COMMENT: usize = 255;

/// A rule and one choice of its variables.
pub(super) struct Said<'a> {
    pub(super) rule: &'a Rule,
    pub(super) choice: &'a Choice<'a>,
}

/// How the value of an attribute is written, unless it is a variable's: that is as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Decimal,
    Hexadecimal,
}

/// What belongs to an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum With {
    Nothing,
    /// Another that ends a range, after this.
    End(&'static str, char),
    /// A mask, or what it is if there is none.
    Mask(&'static str, Option<&'static str>),
}

/// An attribute, what belongs to it, and its option: as the rule sees packets, and as those see them that go the other way.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) with: With,
    pub(super) options: [&'static str; 2],
    pub(super) form: Form,
}

/// A row of a table of parts.
pub(super) const fn part(name: &'static str, with: With, options: [&'static str; 2], form: Form) -> Part {
    Part { name, with, options, form }
}

impl<'a> Said<'a> {
    /// What a rule looks for; nothing, where it goes for all packets.
    pub(super) fn protocol(&self) -> Option<&'a str> {
        self.rule.matches.0.first().map(|(name, _)| name.as_str())
    }

    /// The value as it stands in the document, and whether it is what shall not be.
    fn raw(&self, name: &str) -> Option<(&'a str, bool)> {
        self.rule.matches.0.iter().find_map(|(_, attributes)| {
            let get = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            Some((get(name)?.as_str(), get("match").is_some_and(|value| value == "no")))
        })
    }

    /// A value that is no variable's.
    pub(super) fn constant(&self, name: &str) -> Option<(&'a str, bool)> {
        self.raw(name).filter(|(value, _)| !value.starts_with('$'))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// What is to be remembered beside the rule, of at most 256 bytes.
    pub(super) fn comment(&self) -> Option<String> {
        let (text, _) = self.raw("comment")?;
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        while text.len() > LONGEST_COMMENT {
            text.pop();
        }
        (!text.is_empty()).then_some(text)
    }

    /// The value of an attribute, and whether it is what shall not be.
    ///
    /// # Errors
    /// A variable is not of the attribute's type.
    pub(super) fn get(&self, name: &str, form: Form) -> Result<Option<(Cow<'a, str>, bool)>> {
        let Some((value, not)) = self.raw(name) else { return Ok(None) };
        if value.starts_with('$') {
            let value = self.choice.get(value).copied().unwrap_or_default();
            if !fits(name, value) {
                let text = format_args!("Cannot instantiate filter: {name} has illegal value {value}");
                return Err(NWFILTER.internal_error(text));
            }
            return Ok(Some((value.into(), not)));
        }
        let number = || Matches::number(name, value);
        let value = match form {
            Form::Text => value.into(),
            Form::Decimal => number().map_or(value.into(), |number| number.to_string().into()),
            Form::Hexadecimal => number().map_or(value.into(), |number| format!("0x{number:x}").into()),
        };
        Ok(Some((value, not)))
    }

    /// The value of a part with what belongs to it.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub(super) fn whole(&self, part: &Part) -> Result<Option<(String, bool)>> {
        let Some((mut value, not)) = self.get(part.name, part.form)? else { return Ok(None) };
        match part.with {
            With::Nothing => {}
            With::End(name, between) => {
                if let Some((end, _)) = self.get(name, part.form)? {
                    value = format!("{value}{between}{end}").into();
                }
            }
            With::Mask(name, usual) => {
                let mask = self.get(name, Form::Text)?.map(|(mask, _)| mask).or(usual.map(Cow::from));
                if let Some(mask) = mask {
                    value = format!("{value}/{mask}").into();
                }
            }
        }
        Ok(Some((value.into_owned(), not)))
    }
}

/// Whether a variable may stand for an attribute. A name where an address belongs would be looked up in the network.
fn fits(name: &str, value: &str) -> bool {
    let is_address = || value.parse::<IpAddr>().is_ok();
    match name {
        _ if name.ends_with("ipaddr") || name.ends_with("ipfrom") || name.ends_with("ipto") => is_address(),
        _ if name.ends_with("ipmask") => value.parse::<u8>().is_ok() || is_address(),
        _ if name.contains("mac") || name.contains("-address") => Mac::parse_text(value).is_some(),
        _ => !value.is_empty() && !value.starts_with(['-', '!']),
    }
}
