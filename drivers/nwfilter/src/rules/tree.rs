//! A filter with all that it refers to.

use std::rc::Rc;

use virtwire_conf::Nwfilter;
use virtwire_conf::nwfilter::{Entry, Rule};

use super::variables::Lists;
use super::{MOST, too_many};
use crate::{NWFILTER, Result};

/// How deep filters may refer to others.
const DEEPEST: usize = 100;

/// A rule where it stands.
pub(super) struct Item<'a> {
    pub(super) rule: &'a Rule,
    /// The filter that it is of.
    pub(super) filter: &'a Nwfilter,
    pub(super) lists: Rc<Lists>,
}

/// All rules of a filter in the order of the documents. What whoever refers says of a variable goes before what the filter
/// that is referred to would have.
///
/// # Errors
/// A filter is not known, or there is no end of them.
pub(super) fn items<'a>(
    find: &impl Fn(&str) -> Option<&'a Nwfilter>,
    root: &str,
    lists: &Lists,
) -> Result<Vec<Item<'a>>> {
    let lookup = |name: &str| {
        find(name)
            .ok_or_else(|| NWFILTER.internal_error(format_args!("referenced filter '{name}' is missing")))
    };
    let mut all = Vec::new();
    let filter = lookup(root)?;
    let mut open = vec![(filter, filter.entries.0.iter(), Rc::new(lists.clone()))];
    let mut steps = 0;
    while let Some((filter, entries, lists)) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        steps += 1;
        if steps > MOST {
            return Err(too_many());
        }
        match entry {
            Entry::Rule(rule) => all.push(Item { rule, filter, lists: Rc::clone(lists) }),
            Entry::Ref(reference) => {
                let mut own = Lists::new();
                for parameter in &reference.parameter {
                    own.entry(parameter.name.clone()).or_default().push(parameter.value.clone());
                }
                let lists = if own.keys().all(|name| lists.contains_key(name)) {
                    Rc::clone(lists)
                } else {
                    own.extend(lists.iter().map(|(name, values)| (name.clone(), values.clone())));
                    Rc::new(own)
                };
                let filter = lookup(&reference.filter)?;
                open.push((filter, filter.entries.0.iter(), lists));
                if open.len() > DEEPEST {
                    return Err(too_many());
                }
            }
        }
    }
    Ok(all)
}
