//! What is known to differ, each with its reason: a line `what: reason`, `#` begins a comment.

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

/// The deviations of a file of this crate.
///
/// # Errors
/// If it can't be read, or a line has no reason.
pub fn read(file: &str) -> Result<Vec<Deviation>, String> {
    let text = fs::read_to_string(repo::file(file)).map_err(|e| format!("{file}: {e}"))?;
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(deviation).collect()
}

fn deviation(line: &str) -> Result<Deviation, String> {
    let (what, reason) = line.split_once(" -- ").ok_or(format!("{line}: no reason"))?;
    Ok(Deviation { what: what.trim().to_owned(), reason: reason.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::deviation;

    #[test]
    fn a_deviation_has_a_reason() {
        let found = deviation("virDomainX: the value -- it is a clock").unwrap();
        assert_eq!((found.what.as_str(), found.reason.as_str()), ("virDomainX: the value", "it is a clock"));
        assert!(deviation("virDomainX: the value").is_err());
    }
}
