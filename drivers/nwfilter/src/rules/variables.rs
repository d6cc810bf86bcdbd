//! Variables of rules: which of their values a rule means, and all the ways to choose them.

use std::collections::BTreeMap;

use virtwire_conf::nwfilter::Rule;

use super::MOST;
use crate::{NWFILTER, Result};

/// The values of variables, by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

/// One choice: what each variable is, by how the rule says it (`$A`, `$A[@1]`).
pub(super) type Choice<'a> = BTreeMap<&'a str, &'a str>;

/// A variable as a rule says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access<'a> {
    text: &'a str,
    name: &'a str,
    which: Which,
}

/// Which of a variable's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// The one at this place, from 0.
    At(usize),
    /// Each, in step with others of the same iterator.
    Each(u32),
}

impl<'a> Access<'a> {
    /// `None` where the text is no variable. One that nobody can have meant has no values.
    fn of(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('$')?;
        let (name, which) = match rest.split_once('[') {
            None => (rest, Some(Which::Each(0))),
            Some((name, inner)) => {
                let inner = inner.strip_suffix(']').unwrap_or_default();
                let which = match inner.strip_prefix('@') {
                    Some(id) => id.parse().ok().map(Which::Each),
                    None => inner.parse().ok().map(Which::At),
                };
                (name, which)
            }
        };
        Some(Self { text, name, which: which.unwrap_or(Which::At(usize::MAX)) })
    }

    /// As it is called where it is missing.
    pub(super) fn shown(&self) -> &'a str {
        self.text.strip_prefix('$').unwrap_or(self.text)
    }

    pub(super) fn is_missing(&self, lists: &Lists) -> bool {
        let count = lists.get(self.name).map_or(0, Vec::len);
        match self.which {
            Which::At(at) => at >= count,
            Which::Each(_) => count == 0,
        }
    }

    fn values<'l>(&self, lists: &'l Lists) -> &'l [String] {
        let all = lists.get(self.name).map(Vec::as_slice).unwrap_or_default();
        match self.which {
            Which::At(at) => all.get(at).map(std::slice::from_ref).unwrap_or_default(),
            Which::Each(_) => all,
        }
    }
}

/// The variables of a rule, each once.
pub(super) fn of(rule: &Rule) -> Vec<Access<'_>> {
    let mut all: Vec<Access<'_>> = Vec::new();
    let attributes = rule.matches.0.iter().flat_map(|(_, attributes)| attributes);
    for (_, value) in attributes.filter(|(name, _)| name != "comment") {
        all.extend(Access::of(value).filter(|new| all.iter().all(|known| known.text != new.text)));
    }
    all
}

/// All choices that a rule means, none twice. Variables with the same iterator go together, the others apart; the one
/// without a number goes on fastest, then the first that is named.
///
/// # Errors
/// Lists that go together are of different lengths, or there are too many choices.
pub(super) fn choices<'a>(rule: &'a Rule, lists: &'a Lists) -> Result<Vec<Choice<'a>>> {
    let mut variables = of(rule);
    variables.sort_by_key(|access| access.which != Which::Each(0));
    let mut all = vec![Choice::new()];
    let mut done: Vec<u32> = Vec::new();
    for access in &variables {
        let Which::Each(id) = access.which else {
            for choice in &mut all {
                choice.extend(access.values(lists).first().map(|value| (access.text, value.as_str())));
            }
            continue;
        };
        if done.contains(&id) {
            continue;
        }
        done.push(id);
        let together: Vec<_> = variables.iter().filter(|other| other.which == access.which).collect();
        let count = access.values(lists).len();
        if together.iter().any(|other| other.values(lists).len() != count) {
            let text = "Cardinality of list items must be the same for processing them in parallel";
            return Err(NWFILTER.internal_error(text));
        }
        let mut steps: Vec<Vec<(&str, &str)>> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for at in 0..count {
            let values = together
                .iter()
                .filter_map(|access| Some((access.text, access.values(lists).get(at)?.as_str())));
            let step: Vec<_> = values.collect();
            if seen.insert(step.clone()) {
                steps.push(step);
            }
        }
        if all.len().saturating_mul(steps.len()) > MOST {
            return Err(super::too_many());
        }
        let with = |step: &Vec<(&'a str, &'a str)>, choice: &Choice<'a>| {
            choice.iter().map(|(text, value)| (*text, *value)).chain(step.iter().copied()).collect()
        };
        all = steps.iter().flat_map(|step| all.iter().map(move |choice| with(step, choice))).collect();
    }
    Ok(all)
}
