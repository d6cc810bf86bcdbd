//! What is known to differ, each with its reason, in one file: `= what is played` begins a section, a line of it is
//! `what -- reason`, `#` begins a comment.

use std::fs;

use crate::repo;

/// A difference that is meant or not yet gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// How the name of the difference, or the id of the case, begins.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Where they are.
pub const FILE: &str = "deviations.txt";
/// The section of recorded conversations.
pub const CAPTURES: &str = "captures";

/// The deviations of a section.
///
/// # Errors
/// If the file can't be read, has no such section, or a line has no reason.
pub fn read(section: &str) -> Result<Vec<Deviation>, String> {
    let text = fs::read_to_string(repo::file(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
    section_of(&text, section)
}

fn section_of(text: &str, section: &str) -> Result<Vec<Deviation>, String> {
    let mut lines = text.lines().skip_while(|line| line.strip_prefix("= ") != Some(section));
    lines.next().ok_or_else(|| format!("no section {section}"))?;
    let lines = lines.take_while(|line| !line.starts_with("= "));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(deviation).collect()
}

fn deviation(line: &str) -> Result<Deviation, String> {
    let (what, reason) = line.split_once(" -- ").ok_or(format!("{line}: no reason"))?;
    Ok(Deviation { what: what.trim().to_owned(), reason: reason.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{deviation, section_of};

    #[test]
    fn a_deviation_has_a_reason() {
        let found = deviation("virDomainX: the value -- it is a clock").unwrap();
        assert_eq!((found.what.as_str(), found.reason.as_str()), ("virDomainX: the value", "it is a clock"));
        assert!(deviation("virDomainX: the value").is_err());
    }

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "= one\n\na -- b\n= two\n# no\nc -- d\ne -- f\n";
        assert_eq!(section_of(text, "one").unwrap().len(), 1);
        assert_eq!(section_of(text, "two").unwrap().len(), 2);
        assert!(section_of(text, "three").is_err());
    }
}
