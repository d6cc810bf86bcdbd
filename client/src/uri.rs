//! Connection URIs, `driver[+transport]://[host]/path[?parameters]`: which socket they mean, and what the daemon is
//! told of them.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a URI cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It is not of the form `driver:///path`.
    Malformed(String),
    /// Its transport is not known here; only `unix` is.
    Transport(String),
    /// A value of a parameter that means nothing.
    Parameter(&'static str, String),
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(uri) => write!(f, "'{uri}' is not of the form driver:///path"),
            Self::Transport(transport) => write!(f, "transport '{transport}' is not supported"),
            Self::Parameter(name, value) => write!(f, "'{value}' is no value of URI parameter '{name}'"),
        }
    }
}

impl std::error::Error for UriError {}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the daemon is asked to open: no transport, no host, no parameters of the client. Empty lets it choose.
    pub name: String,
    /// `qemu`, `test`, `remote`, …
    pub driver: String,
    /// The socket that the URI names; `None` means the usual one.
    pub socket: Option<PathBuf>,
    /// Whose daemon it is.
    pub scope: Scope,
    /// Which daemon it is.
    pub mode: Mode,
}

/// Whose daemon a URI means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host's.
    System,
    /// The user's own. Root has none and uses the host's.
    Session,
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

/// Parameters that are for the client alone; the daemon never sees them.
const CLIENT_PARAMETERS: &[&str] = &[
    "auth",
    "command",
    "keyfile",
    "known_hosts",
    "known_hosts_verify",
    "mode",
    "name",
    "netcat",
    "no_sanity",
    "no_tty",
    "no_verify",
    "pkipath",
    "proxy",
    "socket",
    "sshauth",
    "tls_priority",
];

/// The daemons of single drivers: scheme and name.
const DAEMONS: &[(&str, &str)] = &[
    ("bhyve", "virtbhyved"),
    ("ch", "virtchd"),
    ("interface", "virtinterfaced"),
    ("lxc", "virtlxcd"),
    ("network", "virtnetworkd"),
    ("nodedev", "virtnodedevd"),
    ("nwfilter", "virtnwfilterd"),
    ("qemu", "virtqemud"),
    ("secret", "virtsecretd"),
    ("storage", "virtstoraged"),
    ("vbox", "virtvboxd"),
    ("vz", "virtvzd"),
    ("xen", "virtxend"),
];

impl Target {
    /// Reads a URI. An empty one means the host's daemon, and whatever it opens by itself.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let malformed = || UriError::Malformed(uri.to_owned());
        if uri.is_empty() {
            return Ok(Self {
                name: String::new(),
                driver: "remote".into(),
                socket: None,
                scope: Scope::System,
                mode: Mode::Auto,
            });
        }
        let (scheme, rest) = uri.split_once("://").ok_or_else(malformed)?;
        let (driver, transport) = scheme.split_once('+').map_or((scheme, None), |(d, t)| (d, Some(t)));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = place.split_at(place.find('/').ok_or_else(malformed)?);
        if driver.is_empty() || !driver.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(malformed());
        }
        match transport {
            Some("unix") | None if host.is_empty() => {}
            Some("unix") => return Err(malformed()),
            other => return Err(UriError::Transport(other.unwrap_or("tls").to_owned())),
        }

        let (mut socket, mut name, mut mode, mut for_daemon) = (None, None, Mode::Auto, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = unescape(value);
            match key {
                "socket" => socket = Some(PathBuf::from(value)),
                "name" => name = Some(value),
                "mode" => {
                    mode = match value.as_str() {
                        "auto" => Mode::Auto,
                        "legacy" => Mode::Legacy,
                        "direct" => Mode::Direct,
                        _ => return Err(UriError::Parameter("mode", value)),
                    }
                }
                _ if CLIENT_PARAMETERS.contains(&key) => {}
                _ => for_daemon.push(parameter),
            }
        }
        let name = match name {
            Some(name) => name,
            None if driver == "remote" => String::new(),
            None if for_daemon.is_empty() => format!("{driver}://{path}"),
            None => format!("{driver}://{path}?{}", for_daemon.join("&")),
        };
        let scope = if path == "/session" { Scope::Session } else { Scope::System };
        Ok(Self { name, driver: driver.to_owned(), socket, scope, mode })
    }

    /// The socket to connect to.
    pub(crate) fn socket(&self, read_only: bool) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        let dir = runtime_dir(self.scope);
        // A user's own daemon has no read-only socket: the flag in CONNECT_OPEN says it.
        let ending = if read_only && dir == Path::new(SYSTEM_DIR) { "sock-ro" } else { "sock" };
        let legacy = dir.join(format!("libvirt-{ending}"));
        let direct = DAEMONS
            .iter()
            .find(|(driver, _)| *driver == self.driver)
            .map(|(_, daemon)| dir.join(format!("{daemon}-{ending}")));
        match (self.mode, direct) {
            (Mode::Legacy, _) | (_, None) => legacy,
            (Mode::Direct, Some(direct)) => direct,
            (Mode::Auto, Some(direct)) if !legacy.exists() && direct.exists() => direct,
            (Mode::Auto, Some(_)) => legacy,
        }
    }

    /// The socket of the daemon's administration.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| runtime_dir(self.scope).join("libvirt-admin-sock"))
    }
}

/// Where the host's daemon has its sockets.
const SYSTEM_DIR: &str = "/run/libvirt";

/// Where the daemon of this scope has its sockets.
fn runtime_dir(scope: Scope) -> PathBuf {
    if scope == Scope::System || rustix::process::geteuid().is_root() {
        return SYSTEM_DIR.into();
    }
    let dir = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = || dir("XDG_CACHE_HOME").or_else(|| Some(dir("HOME")?.join(".cache")));
    dir("XDG_RUNTIME_DIR").or_else(cache).unwrap_or_default().join("libvirt")
}

/// `%2F` → `/`; what is no escape stays as it is.
fn unescape(text: &str) -> String {
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
    fn the_daemon_is_told_what_concerns_it() {
        for (uri, name) in [
            ("qemu:///system", "qemu:///system"),
            ("qemu+unix:///system?socket=/run/x", "qemu:///system"),
            ("test+unix:///default?socket=/a%20b&mode=legacy", "test:///default"),
            ("qemu:///embed?root=%2Fsrv&no_tty=1&log=2", "qemu:///embed?root=%2Fsrv&log=2"),
            ("remote:///", ""),
            ("remote+unix:///system?name=qemu:///session", "qemu:///session"),
            ("", ""),
        ] {
            assert_eq!(Target::parse(uri).unwrap().name, name, "{uri}");
        }
    }

    #[test]
    fn sockets_are_where_libvirt_has_them() {
        for (uri, read_only, socket) in [
            ("qemu:///system?mode=legacy", false, "/run/libvirt/libvirt-sock"),
            ("qemu:///system?mode=legacy", true, "/run/libvirt/libvirt-sock-ro"),
            ("qemu:///system?mode=direct", false, "/run/libvirt/virtqemud-sock"),
            ("test:///default?mode=direct", false, "/run/libvirt/libvirt-sock"),
            ("qemu+unix:///session?socket=%2Ftmp%2Fa", true, "/tmp/a"),
        ] {
            assert_eq!(Target::parse(uri).unwrap().socket(read_only), PathBuf::from(socket), "{uri}");
        }
        assert_eq!(Target::parse("qemu:///session").unwrap().scope, Scope::Session);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let malformed = |uri: &str| UriError::Malformed(uri.into());
        let transport = |name: &str| UriError::Transport(name.into());
        for (uri, error) in [
            ("qemu", malformed("qemu")),
            ("qemu:/system", malformed("qemu:/system")),
            ("://x/", malformed("://x/")),
            ("qemu+unix://host/system", malformed("qemu+unix://host/system")),
            ("qemu+ssh://host/system", transport("ssh")),
            ("qemu://host/system", transport("tls")),
            ("qemu:///system?mode=odd", UriError::Parameter("mode", "odd".into())),
        ] {
            assert_eq!(Target::parse(uri), Err(error), "{uri}");
        }
    }
}
