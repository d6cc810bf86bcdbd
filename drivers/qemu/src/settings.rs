//! A file of settings in libvirt's syntax (`qemu.conf`, `virtlogd.conf`): read once, asked by key. Of a key that is set
//! twice the last counts; keys that nobody asks for are others'.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use virtwire_protocol::config_file::{Assignment, Value, parse};

/// What a file sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    path: PathBuf,
    all: Vec<Assignment>,
}

impl Settings {
    /// Reads a file; one that is not there sets nothing.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// What the text of a file sets.
    ///
    /// # Errors
    /// It cannot be understood.
    pub(crate) fn parse(path: &Path, text: &str) -> io::Result<Self> {
        let all = parse(text).map_err(|what| io::Error::other(format!("{}:{what}", path.display())))?;
        Ok(Self { path: path.to_owned(), all })
    }

    /// What a value that is set must be, and is not.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> io::Error {
        let line = self.find(key).map(|set| set.line).unwrap_or_default();
        let text = format!("{}:{line}: '{key}' must be {expected}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn find(&self, key: &str) -> Option<&Assignment> {
        self.all.iter().rfind(|set| set.key == key)
    }

    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let Some(set) = self.find(key) else { return Ok(None) };
        read(&set.value).map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// A text; an empty one sets nothing.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn text(&self, key: &str) -> io::Result<Option<String>> {
        Ok(self.any_text(key)?.filter(|text| !text.is_empty()))
    }

    /// A text; an empty one is one too.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn any_text(&self, key: &str) -> io::Result<Option<String>> {
        self.value(key, "a string", text_of)
    }

    /// The keys that are set, each with its line.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, usize)> {
        self.all.iter().map(|set| (set.key.as_str(), set.line))
    }

    /// Several texts.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn texts(&self, key: &str) -> io::Result<Option<Vec<String>>> {
        self.value(key, "a list of strings", |value| match value {
            Value::List(all) => all.iter().map(text_of).collect(),
            _ => None,
        })
    }

    /// A text, or several.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn one_or_more(&self, key: &str) -> io::Result<Option<Vec<String>>> {
        self.value(key, "a string or a list of strings", |value| match value {
            Value::List(all) => all.iter().map(text_of).collect(),
            one => text_of(one).map(|text| vec![text]),
        })
    }

    /// A switch: 0 or 1.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn flag(&self, key: &str) -> io::Result<Option<bool>> {
        self.value(key, "0 or 1", |value| match value {
            Value::Number(number @ (0 | 1)) => Some(*number == 1),
            _ => None,
        })
    }

    /// A number that is not below zero.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn number(&self, key: &str) -> io::Result<Option<u64>> {
        self.value(key, "a number", number_of)
    }

    /// A port.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn port(&self, key: &str) -> io::Result<Option<u16>> {
        self.value(key, "a port", |value| u16::try_from(number_of(value)?).ok().filter(|port| *port > 0))
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Settings of a text, for tests.
#[cfg(test)]
pub(crate) fn given(text: &str) -> Settings {
    Settings::parse(Path::new("x.conf"), text).expect("a text that can be understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let settings = given("# a\nflag = 2\nname = 'n'\nname = ''\nall = [ 'a', 3 ]\nport = 70000\n");
        let said = |error: io::Error| error.to_string();
        assert_eq!(said(settings.flag("flag").unwrap_err()), "x.conf:2: 'flag' must be 0 or 1");
        assert_eq!(said(settings.texts("all").unwrap_err()), "x.conf:5: 'all' must be a list of strings");
        assert_eq!(said(settings.port("port").unwrap_err()), "x.conf:6: 'port' must be a port");
        assert_eq!(settings.text("name").unwrap(), None, "the last counts, and an empty text is none");
        assert_eq!(settings.number("flag").unwrap(), Some(2));
        assert_eq!(settings.number("other").unwrap(), None);
        assert!(Settings::parse(Path::new("x"), "nonsense").is_err());
    }
}
