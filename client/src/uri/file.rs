//! `libvirt.conf`: aliases and defaults of URIs.

use std::io;
use std::path::Path;
use std::time::Duration;

use virtwire_protocol::config_file::{self, Assignment, Value};

use super::{Mode, UriError, config_dir};

/// What `libvirt.conf` says. A file that is not there says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// `uri_aliases`: name and URI.
    pub uri_aliases: Vec<(String, String)>,
    /// `uri_default`: what is opened if no URI is given.
    pub uri_default: Option<String>,
    /// `tls_priority`, if the URI has none.
    pub tls_priority: Option<String>,
    /// `remote_mode`, if the URI has no `mode`.
    pub remote_mode: Mode,
    /// `keepalive_interval` and `keepalive_count`.
    pub keepalive: Option<(Duration, u32)>,
}

impl ClientConfig {
    /// Reads `/etc/libvirt/libvirt.conf` for root, `~/.config/libvirt/libvirt.conf` for others.
    pub fn load() -> Result<Self, UriError> {
        Self::read(&config_dir().join("libvirt.conf"))
    }

    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, UriError> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).map_err(|why| UriError::Configuration(file.to_owned(), why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(UriError::Configuration(file.to_owned(), error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut this = Self::default();
        let (mut interval, mut count) = (None, 5);
        for assignment in config_file::parse(text).map_err(|error| error.to_string())? {
            let Assignment { line, key, value } = assignment;
            let wrong = |what: &str| format!("{line}: {key} is not {what}");
            match (key.as_str(), value) {
                ("uri_aliases", Value::List(items)) => {
                    for item in items {
                        let pair = match &item {
                            Value::Text(text) => text.split_once('=').filter(|(name, _)| is_alias(name)),
                            _ => None,
                        };
                        let (name, uri) = pair.ok_or_else(|| wrong("a list of \"alias=uri\""))?;
                        this.uri_aliases.push((name.to_owned(), uri.to_owned()));
                    }
                }
                ("uri_aliases", _) => return Err(wrong("a list of \"alias=uri\"")),
                ("uri_default", Value::Text(text)) => this.uri_default = Some(text),
                ("tls_priority", Value::Text(text)) => this.tls_priority = Some(text),
                ("remote_mode", Value::Text(text)) => {
                    this.remote_mode =
                        Mode::named("remote_mode", &text).map_err(|_| wrong("auto, legacy or direct"))?;
                }
                ("uri_default" | "tls_priority" | "remote_mode", _) => return Err(wrong("a string")),
                ("keepalive_interval", Value::Number(seconds)) => {
                    // -1 never pings.
                    interval = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
                }
                ("keepalive_count", Value::Number(number)) => {
                    count = u32::try_from(number).map_err(|_| wrong("a count"))?;
                }
                ("keepalive_interval" | "keepalive_count", _) => return Err(wrong("a number")),
                _ => {}
            }
        }
        this.keepalive = interval.map(|seconds| (Duration::from_secs(seconds), count));
        Ok(this)
    }

    /// The URI that is meant: an empty one by `LIBVIRT_DEFAULT_URI` and `uri_default`, a word by `uri_aliases`.
    pub fn resolve(&self, uri: &str) -> Result<String, UriError> {
        self.resolve_with(uri, std::env::var("LIBVIRT_DEFAULT_URI").ok())
    }

    fn resolve_with(&self, uri: &str, default: Option<String>) -> Result<String, UriError> {
        let default = default.filter(|uri| !uri.is_empty()).or_else(|| self.uri_default.clone());
        let uri = if uri.is_empty() { default.unwrap_or_default() } else { uri.to_owned() };
        if uri.is_empty() || !is_alias(&uri) {
            return Ok(uri);
        }
        let found = self.uri_aliases.iter().find(|(name, _)| *name == uri).map(|(_, uri)| uri.clone());
        found.ok_or(UriError::Alias(uri))
    }
}

/// Whether it can be an alias: letters, digits, `_`, `-` and `.`.
fn is_alias(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        uri_aliases = [ \"far=qemu+ssh://root@far/system\", \"near=qemu:///session\" ]
        uri_default = \"near\"
        keepalive_interval = 3
        remote_mode = \"direct\"
    ";

    #[test]
    fn an_alias_a_default_and_a_uri() {
        let config = ClientConfig::parse(FILE).unwrap();
        let resolve = |uri: &str, default: Option<&str>| config.resolve_with(uri, default.map(str::to_owned));
        assert_eq!(resolve("far", None).unwrap(), "qemu+ssh://root@far/system");
        assert_eq!(resolve("", None).unwrap(), "qemu:///session");
        assert_eq!(resolve("", Some("far")).unwrap(), "qemu+ssh://root@far/system");
        assert_eq!(resolve("test:///default", Some("far")).unwrap(), "test:///default");
        assert_eq!(resolve("nowhere", None), Err(UriError::Alias("nowhere".into())));
        assert_eq!(config.keepalive, Some((Duration::from_secs(3), 5)));
        assert_eq!(config.remote_mode, Mode::Direct);
        assert_eq!(ClientConfig::default().resolve_with("", None).unwrap(), "");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, what) in [
            ("uri_aliases = \"x\"", "1: uri_aliases is not a list of \"alias=uri\""),
            ("\nuri_aliases = [ \"x y=z\" ]", "2: uri_aliases is not a list of \"alias=uri\""),
            ("uri_default = 5", "1: uri_default is not a string"),
            ("remote_mode = \"odd\"", "1: remote_mode is not auto, legacy or direct"),
            ("uri_default", "1: expecting an assignment"),
        ] {
            assert_eq!(ClientConfig::parse(text).unwrap_err(), what);
        }
        let absent = ClientConfig::read(Path::new("/nowhere/libvirt.conf")).unwrap();
        assert_eq!(absent, ClientConfig::default());
    }
}
