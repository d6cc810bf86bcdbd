//! Filters and outputs as libvirt writes them: `1:qemu 3:server`, `3:stderr 1:file:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::glob;

/// How serious a message is. The number is libvirt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Everything.
    Debug = 1,
    /// What happens.
    Info = 2,
    /// What should not have happened.
    Warning = 3,
    /// What went wrong.
    Error = 4,
}

impl Priority {
    /// The priority of this number.
    pub fn new(number: u32) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|known| *known as u32 == number)
    }

    pub(super) fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }

    pub(super) fn level(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// What syslog and the journal call it.
    pub(super) fn syslog(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warning => 4,
            Self::Error => 3,
        }
    }
}

fn priority(text: &str) -> Option<Priority> {
    Priority::new(text.parse().ok()?)
}

fn invalid(detail: impl fmt::Display) -> VirtError {
    ErrorDomain::NONE.invalid_arg(detail)
}

/// Which sources are logged from which priority on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<(Priority, String)>);

impl Filters {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the first filter that matches a source says.
    pub(super) fn priority(&self, source: &str) -> Option<Priority> {
        self.0.iter().find(|(_, pattern)| glob::matches(pattern, source)).map(|(priority, _)| *priority)
    }

    pub(super) fn least(&self) -> Option<Priority> {
        self.0.iter().map(|(priority, _)| *priority).min()
    }
}

impl FromStr for Filters {
    type Err = VirtError;

    fn from_str(text: &str) -> Result<Self, VirtError> {
        let mut filters: Vec<(Priority, String)> = Vec::new();
        for filter in text.split_ascii_whitespace() {
            let (level, name) = filter
                .split_once(':')
                .ok_or_else(|| invalid(format_args!("Malformed format for filter '{filter}'")))?;
            let level = priority(level)
                .ok_or_else(|| invalid(format_args!("Invalid priority '{level}' for filter '{filter}'")))?;
            // A plus asked for stack traces once.
            let name = name.strip_prefix('+').unwrap_or(name);
            if name.is_empty() {
                return Err(invalid("Invalid match string ''"));
            }
            filters.push((level, format!("*{name}*")));
        }
        Ok(Self(filters))
    }
}

/// As libvirt writes them: each with a space behind it.
impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(priority, pattern)| write!(f, "{}:{pattern} ", *priority as u32))
    }
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Stderr,
    File(PathBuf),
    Syslog(String),
    Journald,
}

/// All outputs, each with the least priority it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs(pub(super) Vec<(Priority, Destination)>);

impl Outputs {
    pub(super) fn stderr(priority: Priority) -> Self {
        Self(vec![(priority, Destination::Stderr)])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Outputs {
    type Err = VirtError;

    fn from_str(text: &str) -> Result<Self, VirtError> {
        let mut outputs: Vec<(Priority, Destination)> = Vec::new();
        for output in text.split_ascii_whitespace() {
            let (level, rest) = output
                .split_once(':')
                .ok_or_else(|| invalid(format_args!("Malformed format for log output '{output}'")))?;
            let level = priority(level).ok_or_else(|| {
                invalid(format_args!("Invalid log priority '{level}' for log output '{output}'"))
            })?;
            let (name, detail) = match rest.split_once(':') {
                Some((name, detail)) => (name, Some(detail)),
                None => (rest, None),
            };
            let destination = match (name, detail) {
                ("stderr", None) => Destination::Stderr,
                ("journald", None) => Destination::Journald,
                ("file", Some(path)) => {
                    Destination::File(std::path::absolute(path).unwrap_or_else(|_| path.into()))
                }
                ("syslog", Some(name)) => Destination::Syslog(name.to_owned()),
                ("stderr" | "journald" | "file" | "syslog", _) => {
                    return Err(invalid(format_args!(
                        "Log output '{output}' does not meet the format requirements for destination type '{name}'"
                    )));
                }
                _ => {
                    return Err(invalid(format_args!(
                        "Invalid log destination '{name}' for log output '{output}'"
                    )));
                }
            };
            outputs.retain(|(_, known)| *known != destination);
            outputs.push((level, destination));
        }
        Ok(Self(outputs))
    }
}

impl fmt::Display for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(priority, destination)| {
            let priority = *priority as u32;
            match destination {
                Destination::Stderr => format!("{priority}:stderr"),
                Destination::Journald => format!("{priority}:journald"),
                Destination::File(path) => format!("{priority}:file:{}", path.display()),
                Destination::Syslog(name) => format!("{priority}:syslog:{name}"),
            }
        });
        f.write_str(&shown.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_as_libvirt_shows_them() {
        for (text, shown) in [
            ("", ""),
            ("1:qemu", "1:*qemu* "),
            ("1:+qemu", "1:*qemu* "),
            ("1:qemu  3:rpc", "1:*qemu* 3:*rpc* "),
        ] {
            assert_eq!(text.parse::<Filters>().unwrap().to_string(), shown);
        }
        for (text, error) in [
            ("9:foo", "invalid argument: Invalid priority '9' for filter '9:foo'"),
            (":x", "invalid argument: Invalid priority '' for filter ':x'"),
            ("1:", "invalid argument: Invalid match string ''"),
            ("foo", "invalid argument: Malformed format for filter 'foo'"),
        ] {
            assert_eq!(text.parse::<Filters>().unwrap_err().message, error);
        }
    }

    #[test]
    fn the_first_filter_that_matches_decides() {
        let filters: Filters = "1:qemu 4:virtwire".parse().unwrap();
        assert_eq!(filters.priority("virtwire_driver_qemu::monitor"), Some(Priority::Debug));
        assert_eq!(filters.priority("virtwire_conf"), Some(Priority::Error));
        assert_eq!(filters.priority("tokio"), None);
    }

    #[test]
    fn outputs_as_libvirt_shows_them() {
        let text = "1:stderr 3:file:/var/log/x.log 2:syslog:virtwired 4:journald";
        assert_eq!(text.parse::<Outputs>().unwrap().to_string(), text);
        assert_eq!("3:stderr 1:stderr".parse::<Outputs>().unwrap().to_string(), "1:stderr");
        for (text, error) in [
            ("5:stderr", "Invalid log priority '5' for log output '5:stderr'"),
            ("x", "Malformed format for log output 'x'"),
            ("1:bogus:xx", "Invalid log destination 'bogus' for log output '1:bogus:xx'"),
            (
                "1:file",
                "Log output '1:file' does not meet the format requirements for destination type 'file'",
            ),
            (
                "1:stderr:x",
                "Log output '1:stderr:x' does not meet the format requirements for destination type 'stderr'",
            ),
        ] {
            assert_eq!(text.parse::<Outputs>().unwrap_err().message, format!("invalid argument: {error}"));
        }
    }
}
