//! Connection URIs, `driver[+transport]://[user@][host][:port]/path[?parameters]`: where they lead, and what the
//! daemon is told of them.

mod error;
mod file;
mod parameters;
mod sockets;

use std::path::PathBuf;

pub use error::UriError;
pub use file::ClientConfig;
pub use parameters::{HostKeys, Mode, Parameters, Proxy};
pub(crate) use sockets::{config_dir, home, is_root};

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the daemon is asked to open: no transport, no host, no parameters of the client. Empty lets it choose.
    pub name: String,
    /// `qemu`, `test`, `remote`, …
    pub driver: String,
    /// How to get there.
    pub transport: Transport,
    /// Who is to log in there.
    pub user: Option<String>,
    /// The host; `None` where the URI names none.
    pub host: Option<String>,
    /// The port, where it is not the usual one.
    pub port: Option<u16>,
    /// Whose daemon it is.
    pub scope: Scope,
    /// What is for the client alone.
    pub parameters: Parameters,
    /// Whether no daemon is meant: the test hypervisor, and neither a transport, a host nor a socket. Where there is one
    /// in this process ([`embed`](crate::embed)) it is meant, as with libvirt's own library; else the host's daemon is asked.
    pub in_process: bool,
}

/// The way to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A unix socket on this host.
    Unix,
    /// TCP as it is, port 16509 if none is named.
    Tcp,
    /// TLS on TCP, port 16514 if none is named.
    Tls,
    /// The system's `ssh`; `libssh` and `libssh2` are taken for the same.
    Ssh,
    /// Whatever command the parameter `command` names.
    Ext,
}

/// Transports by their names.
const TRANSPORTS: &[(&str, Transport)] = &[
    ("unix", Transport::Unix),
    ("tcp", Transport::Tcp),
    ("tls", Transport::Tls),
    ("ssh", Transport::Ssh),
    ("libssh", Transport::Ssh),
    ("libssh2", Transport::Ssh),
    ("ext", Transport::Ext),
];

/// Whose daemon a URI means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host's.
    System,
    /// The user's own. Root has none and uses the host's.
    Session,
}

impl Target {
    /// Reads a URI as it stands; aliases and defaults are [`ClientConfig::resolve`]'s. An empty one means the host's
    /// daemon for root and the user's own for others, and whatever it opens by itself.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let malformed = || UriError::Malformed(uri.to_owned());
        if uri.is_empty() {
            return Ok(Self {
                name: String::new(),
                driver: "remote".into(),
                transport: Transport::Unix,
                user: None,
                host: None,
                port: None,
                scope: if is_root() { Scope::System } else { Scope::Session },
                parameters: Parameters::default(),
                in_process: false,
            });
        }
        let (scheme, rest) = uri.split_once("://").ok_or_else(malformed)?;
        let (driver, transport) = scheme.split_once('+').map_or((scheme, None), |(d, t)| (d, Some(t)));
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        if driver.is_empty() || !driver.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(malformed());
        }
        let (user, host, port) = authority_parts(authority).ok_or_else(malformed)?;
        let named = transport.is_some();
        let transport = match transport {
            Some(name) => {
                let known = TRANSPORTS.iter().find(|(known, _)| *known == name);
                known.ok_or_else(|| UriError::Transport(name.to_owned()))?.1
            }
            None if host.is_some() => Transport::Tls,
            None => Transport::Unix,
        };
        let (parameters, name, for_daemon) = Parameters::parse(query)?;
        match transport {
            Transport::Unix if host.is_some() => return Err(UriError::HostOfUnix(uri.to_owned())),
            Transport::Ext if parameters.command.is_none() => return Err(UriError::NoCommand),
            _ => {}
        }
        // A host alone means no path either.
        if path.is_empty() && host.is_none() {
            return Err(malformed());
        }
        let name = match name {
            Some(name) => name,
            None if driver == "remote" => String::new(),
            None if for_daemon.is_empty() => format!("{driver}://{path}"),
            None => format!("{driver}://{path}?{for_daemon}"),
        };
        let scope = if path == "/session" { Scope::Session } else { Scope::System };
        let in_process = driver == "test" && !named && host.is_none() && parameters.socket.is_none();
        let driver = driver.to_owned();
        Ok(Self { name, driver, transport, user, host, port, scope, parameters, in_process })
    }

    /// The host that the URI names, or this one.
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("localhost")
    }

    /// The socket to connect to on this host.
    pub(crate) fn socket(&self, read_only: bool) -> PathBuf {
        let named = self.parameters.socket.clone();
        named.unwrap_or_else(|| sockets::usual(&self.driver, self.scope, self.parameters.mode, read_only))
    }

    /// The socket that `nc` is to connect to on the other host.
    pub(crate) fn remote_socket(&self, read_only: bool) -> PathBuf {
        let named = self.parameters.socket.clone();
        named.unwrap_or_else(|| sockets::elsewhere(&self.driver, self.parameters.mode, read_only))
    }

    /// The socket of the daemon's administration.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        let named = self.parameters.socket.clone();
        named.unwrap_or_else(|| sockets::admin(&self.driver, self.scope))
    }
}

/// User, host and port, where there are any.
type Authority = (Option<String>, Option<String>, Option<u16>);

/// `[user@][host][:port]`; the host may be an IPv6 address in brackets.
fn authority_parts(text: &str) -> Option<Authority> {
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            if !after.is_empty() && !after.starts_with(':') {
                return None;
            }
            (host, after.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    // What begins with a dash would be an option to ssh.
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return None;
    }
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    if host.is_empty() && (user.is_some() || port.is_some()) {
        return None;
    }
    let some = |text: &str| Some(parameters::unescape(text)).filter(|text| !text.is_empty());
    Some((user.and_then(some), some(host), port))
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
            ("qemu+ssh://root@far:2222/session?keyfile=/k", "qemu:///session"),
            ("qemu://far/system?pkipath=/p;tls_priority=NORMAL", "qemu:///system"),
            ("remote:///", ""),
            ("remote://far", ""),
            ("remote+unix:///system?name=qemu:///session", "qemu:///session"),
            ("", ""),
        ] {
            assert_eq!(Target::parse(uri).unwrap().name, name, "{uri}");
        }
    }

    #[test]
    fn the_test_hypervisor_is_in_the_process_where_no_daemon_is_named() {
        for (uri, expected) in [
            ("test:///default", true),
            ("test:///srv/node.xml", true),
            ("test+unix:///default", false),
            ("test:///default?socket=/run/x", false),
            ("test://far/default", false),
            ("qemu:///system", false),
        ] {
            assert_eq!(Target::parse(uri).unwrap().in_process, expected, "{uri}");
        }
    }

    #[test]
    fn ways_hosts_users_and_ports() {
        for (uri, transport, user, host, port) in [
            ("qemu:///system", Transport::Unix, None, None, None),
            ("qemu://far/system", Transport::Tls, None, Some("far"), None),
            ("qemu+tcp://far:1/system", Transport::Tcp, None, Some("far"), Some(1)),
            ("qemu+tcp:///system", Transport::Tcp, None, None, None),
            ("qemu+tls://[::1]:2/system", Transport::Tls, None, Some("::1"), Some(2)),
            ("qemu+ssh://me%40x@far/system", Transport::Ssh, Some("me@x"), Some("far"), None),
            ("qemu+libssh2://far/system", Transport::Ssh, None, Some("far"), None),
            ("qemu+ext:///system?command=/bin/x", Transport::Ext, None, None, None),
        ] {
            let target = Target::parse(uri).unwrap();
            let got = (target.transport, target.user.as_deref(), target.host.as_deref(), target.port);
            assert_eq!(got, (transport, user, host, port), "{uri}");
        }
        assert_eq!(Target::parse("qemu+tcp:///system").unwrap().host(), "localhost");
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
        for (uri, socket) in [
            ("libvirtd:///system", "/run/libvirt/libvirt-admin-sock"),
            ("virtqemud:///system", "/run/libvirt/virtqemud-admin-sock"),
            ("virtlogd:///system", "/run/libvirt/virtlogd-admin-sock"),
        ] {
            assert_eq!(Target::parse(uri).unwrap().admin_socket(), PathBuf::from(socket), "{uri}");
        }
        assert_eq!(Target::parse("qemu:///session").unwrap().scope, Scope::Session);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let malformed = |uri: &str| UriError::Malformed(uri.into());
        for (uri, error) in [
            ("qemu", malformed("qemu")),
            ("qemu:/system", malformed("qemu:/system")),
            ("qemu://", malformed("qemu://")),
            ("://x/", malformed("://x/")),
            ("qemu+tcp://:80/", malformed("qemu+tcp://:80/")),
            ("qemu+tcp://far:0/", malformed("qemu+tcp://far:0/")),
            ("qemu+tcp://far:99999/", malformed("qemu+tcp://far:99999/")),
            ("qemu+tcp://[::1/", malformed("qemu+tcp://[::1/")),
            ("qemu+ssh://-oProxyCommand=x/", malformed("qemu+ssh://-oProxyCommand=x/")),
            ("qemu+unix://host/system", UriError::HostOfUnix("qemu+unix://host/system".into())),
            ("qemu+vsock://host/system", UriError::Transport("vsock".into())),
            ("qemu+ext:///system", UriError::NoCommand),
        ] {
            assert_eq!(Target::parse(uri), Err(error), "{uri}");
        }
    }
}
