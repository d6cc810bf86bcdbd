//! Parameters of a URI that are for the client alone; the daemon never sees them.

use std::path::PathBuf;

use super::UriError;

/// What a URI says to the client behind its `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The socket, on the host where the daemon runs; `None` means the usual one.
    pub socket: Option<PathBuf>,
    /// Which daemon it is.
    pub mode: Mode,
    /// GnuTLS's priority string for TLS.
    pub tls_priority: Option<String>,
    /// Where CA, certificate and key of the client are.
    pub pkipath: Option<PathBuf>,
    /// Neither the daemon's certificate nor its host's SSH key is verified.
    pub no_verify: bool,
    /// The program that is run instead of `ssh`, or by transport `ext`.
    pub command: Option<String>,
    /// The program that is run as `nc` on the other host.
    pub netcat: Option<String>,
    /// How `ssh` reaches the daemon's socket.
    pub proxy: Proxy,
    /// The private key that `ssh` is to use.
    pub keyfile: Option<PathBuf>,
    /// The file of hosts that `ssh` knows.
    pub known_hosts: Option<PathBuf>,
    /// What is to happen about unknown hosts.
    pub known_hosts_verify: HostKeys,
    /// `ssh` must not ask for anything.
    pub no_tty: bool,
    /// `auth.conf`, where it is not in the usual place.
    pub authfile: Option<PathBuf>,
}

/// Which daemon a URI means, its parameter `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `auto`: the one that has a socket, libvirtd first.
    #[default]
    Auto,
    /// `legacy`: libvirtd.
    Legacy,
    /// `direct`: the driver's own, such as virtqemud.
    Direct,
}

/// How `ssh` reaches the daemon's socket, the parameter `proxy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// `auto`: by `virt-ssh-helper` where it is installed, else by `nc`.
    #[default]
    Auto,
    /// `netcat`: by `nc`.
    Netcat,
    /// `native`: by `virt-ssh-helper`.
    Native,
}

/// What is to happen about hosts whose key is not known, the parameter `known_hosts_verify`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKeys {
    /// As `ssh` is configured.
    #[default]
    Configured,
    /// `normal`: only known keys will do.
    Normal,
    /// `auto`: new hosts are added, changed keys refused.
    Auto,
    /// `ignore`: any key will do.
    Ignore,
}

/// Parameters that libvirt keeps to itself, and that mean nothing here.
const WITHOUT_MEANING: &[&str] = &["auth", "no_sanity", "sshauth"];

/// What a word of a parameter means.
fn choice<T: Copy>(
    name: &'static str,
    value: &str,
    choices: &[(&str, T)],
    may_be: &'static str,
) -> Result<T, UriError> {
    let chosen = choices.iter().find(|(word, _)| *word == value).map(|(_, chosen)| *chosen);
    chosen.ok_or_else(|| UriError::Parameter(name, value.to_owned(), may_be))
}

fn switch(name: &'static str, value: &str) -> Result<bool, UriError> {
    choice(name, value, &[("0", false), ("1", true)], "0 or 1")
}

const MODES: &[(&str, Mode)] = &[("auto", Mode::Auto), ("legacy", Mode::Legacy), ("direct", Mode::Direct)];

impl Mode {
    /// The mode of this name.
    pub(super) fn named(name: &'static str, value: &str) -> Result<Self, UriError> {
        choice(name, value, MODES, "auto, legacy or direct")
    }
}

impl Parameters {
    /// Reads what follows the `?`. Gives the parameter `name` and what is for the daemon as well.
    pub(super) fn parse(query: &str) -> Result<(Self, Option<String>, String), UriError> {
        const PROXIES: &[(&str, Proxy)] =
            &[("auto", Proxy::Auto), ("netcat", Proxy::Netcat), ("native", Proxy::Native)];
        const KEYS: &[(&str, HostKeys)] =
            &[("normal", HostKeys::Normal), ("auto", HostKeys::Auto), ("ignore", HostKeys::Ignore)];
        let (mut this, mut name, mut for_daemon) = (Self::default(), None, Vec::new());
        for parameter in query.split(['&', ';']).filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = unescape(value);
            match key {
                "name" => name = Some(value),
                "socket" => this.socket = Some(value.into()),
                "mode" => this.mode = Mode::named("mode", &value)?,
                "tls_priority" => this.tls_priority = Some(value),
                "pkipath" => this.pkipath = Some(value.into()),
                "no_verify" => this.no_verify = switch("no_verify", &value)?,
                "command" => this.command = Some(value),
                "netcat" => this.netcat = Some(value),
                "proxy" => this.proxy = choice("proxy", &value, PROXIES, "auto, netcat or native")?,
                "keyfile" => this.keyfile = Some(value.into()),
                "known_hosts" => this.known_hosts = Some(value.into()),
                "known_hosts_verify" => {
                    this.known_hosts_verify =
                        choice("known_hosts_verify", &value, KEYS, "normal, auto or ignore")?;
                }
                "no_tty" => this.no_tty = switch("no_tty", &value)?,
                _ if WITHOUT_MEANING.contains(&key) => {}
                _ => {
                    for_daemon.push(parameter);
                    if key == "authfile" {
                        this.authfile = Some(value.into());
                    }
                }
            }
        }
        Ok((this, name, for_daemon.join("&")))
    }
}

/// `%2F` → `/`; what is no escape stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_libvirt_says() {
        let query = "proxy=native&known_hosts_verify=auto&no_tty=1&no_verify=0&netcat=/bin/nc&authfile=/a";
        let (got, name, rest) = Parameters::parse(query).unwrap();
        assert_eq!((got.proxy, got.known_hosts_verify), (Proxy::Native, HostKeys::Auto));
        assert_eq!((got.no_tty, got.no_verify), (true, false));
        assert_eq!((got.netcat.as_deref(), got.authfile), (Some("/bin/nc"), Some("/a".into())));
        assert_eq!((name, rest.as_str()), (None, "authfile=/a"));
    }

    #[test]
    fn other_words_are_refused_with_those_that_are_not() {
        for (query, text) in [
            ("mode=odd", "'odd' is no value of URI parameter 'mode', which is auto, legacy or direct"),
            ("proxy=x", "'x' is no value of URI parameter 'proxy', which is auto, netcat or native"),
            ("no_verify=yes", "'yes' is no value of URI parameter 'no_verify', which is 0 or 1"),
        ] {
            assert_eq!(Parameters::parse(query).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn escapes() {
        for (text, plain) in [("%2Frun", "/run"), ("a%20b", "a b"), ("50%", "50%"), ("%zz%4", "%zz%4")] {
            assert_eq!(unescape(text), plain);
        }
    }
}
