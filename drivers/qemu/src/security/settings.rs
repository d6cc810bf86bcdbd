//! What `qemu.conf` says of owners.

use std::io;
use std::path::Path;

use virtwire_protocol::config_file::{Value, parse};

/// The settings, with libvirt's values for what is not set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Who guests run as.
    pub(super) user: Option<String>,
    /// The group they run in.
    pub(super) group: Option<String>,
    /// Who emulators of TPMs run as.
    pub(super) swtpm_user: Option<String>,
    /// The group they run in.
    pub(super) swtpm_group: Option<String>,
    /// Whether files of a guest are given to it.
    pub(super) dynamic_ownership: bool,
    /// Whether former owners are written down.
    pub(super) remember_owner: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            swtpm_user: None,
            swtpm_group: None,
            dynamic_ownership: true,
            remember_owner: true,
        }
    }
}

impl Settings {
    /// Reads a file; one that is not there sets nothing.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|what| io::Error::other(format!("{}:{what}", path.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for set in parse(text).map_err(|error| error.to_string())? {
            let wrong = |expected: &str| format!("{}: '{}' must be {expected}", set.line, set.key);
            let flag = || match set.value {
                Value::Number(number @ (0 | 1)) => Ok(number == 1),
                _ => Err(wrong("0 or 1")),
            };
            let name = || match &set.value {
                // An empty name sets nothing.
                Value::Text(text) => Ok(Some(text.clone()).filter(|name| !name.is_empty())),
                _ => Err(wrong("a string")),
            };
            match set.key.as_str() {
                "user" => settings.user = name()?,
                "group" => settings.group = name()?,
                "swtpm_user" => settings.swtpm_user = name()?,
                "swtpm_group" => settings.swtpm_group = name()?,
                "dynamic_ownership" => settings.dynamic_ownership = flag()?,
                "remember_owner" => settings.remember_owner = flag()?,
                _ => {}
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_libvirt_has_it() {
        let text = "# user = \"x\"\nuser = \"qemu\"\ngroup = ''\nremember_owner = 0\nnamespaces = []\n";
        let expected = Settings { user: Some("qemu".into()), remember_owner: false, ..Settings::default() };
        assert_eq!(Settings::parse(text), Ok(expected));
        assert_eq!(
            Settings::parse("\ndynamic_ownership = 2").unwrap_err(),
            "2: 'dynamic_ownership' must be 0 or 1"
        );
    }
}
