//! Where guests come in: what `qemu.conf` says, and the ports.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use virtwire_protocol::config_file::{Value, parse};

use super::params::{Asked, name};
use crate::error::{QEMU, Result};

/// The ports that guests come in at, unless `qemu.conf` says others.
const PORTS: RangeInclusive<u16> = 49152..=49215;

/// What `qemu.conf` says of guests that come in.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The address that is listened on (`migration_address`).
    address: Option<String>,
    /// This host, as others know it (`migration_host`).
    host: Option<String>,
    /// `migration_port_min` to `migration_port_max`.
    ports: RangeInclusive<u16>,
    /// Ports that are about to be used.
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

impl Default for Entrance {
    fn default() -> Self {
        Self { address: None, host: None, ports: PORTS, taken: Arc::default() }
    }
}

impl Entrance {
    /// Reads a file; one that is not there says nothing.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|what| io::Error::other(format!("{}:{what}", path.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut entrance = Self::default();
        let (mut first, mut last) = (*PORTS.start(), *PORTS.end());
        for set in parse(text).map_err(|error| error.to_string())? {
            let wrong = |expected: &str| format!("{}: '{}' must be {expected}", set.line, set.key);
            let name = || match &set.value {
                Value::Text(text) => Ok(Some(text.clone()).filter(|name| !name.is_empty())),
                _ => Err(wrong("a string")),
            };
            let port = || match set.value {
                Value::Number(number) => u16::try_from(number).ok().filter(|port| *port > 0),
                _ => None,
            };
            let port = || port().ok_or_else(|| wrong("a port"));
            match set.key.as_str() {
                "migration_address" => entrance.address = name()?,
                "migration_host" => {
                    let host = name()?;
                    if host.as_deref().is_some_and(is_local) {
                        return Err(wrong("a name that means this host to others"));
                    }
                    entrance.host = host;
                }
                "migration_port_min" => first = port()?,
                "migration_port_max" => last = port()?,
                _ => {}
            }
        }
        if first > last {
            return Err(format!("migration_port_min {first} is above migration_port_max {last}"));
        }
        entrance.ports = first..=last;
        Ok(entrance)
    }

    /// Takes a free port.
    ///
    /// # Errors
    /// There is none.
    fn port(&self) -> Result<Lease> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.ports.clone().find(|port| !taken.contains(port) && is_free(*port));
        let Some(port) = free else {
            let (first, last) = (self.ports.start(), self.ports.end());
            return Err(QEMU.internal_error(format_args!(
                "Unable to find an unused port in range 'migration' ({first}-{last})"
            )));
        };
        taken.insert(port);
        Ok(Lease { port, taken: Arc::clone(&self.taken) })
    }
}

/// A port that nobody else takes for as long as there is this.
#[derive(Debug)]
pub(crate) struct Lease {
    port: u16,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.port);
    }
}

/// Whether nobody listens at a port, by either protocol.
fn is_free(port: u16) -> bool {
    ["0.0.0.0", "::"].iter().all(|address| match TcpListener::bind((*address, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrInUse,
    })
}

/// Whether a name means the host that says it, whichever that is.
fn is_local(host: &str) -> bool {
    host.starts_with("localhost") || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Where a guest goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A host, and its port where that is known.
    Tcp(String, Option<u16>),
    /// A socket in the file system.
    Unix(String),
}

impl Goal {
    /// Reads a URI: `tcp://host:port`, `tcp:host:port`, `unix:///path`.
    ///
    /// # Errors
    /// It is none of these.
    pub(super) fn parse(uri: &str) -> Result<Self> {
        let bad = |what: &str| QEMU.invalid_arg(format_args!("{what} in migration URI: {uri}"));
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| bad("missing scheme"))?;
        match scheme {
            "unix" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.starts_with('/') { Ok(Self::Unix(path.to_owned())) } else { Err(bad("missing path")) }
            }
            "tcp" => {
                let place = rest.strip_prefix("//").unwrap_or(rest);
                let place = place.split(['/', '?']).next().unwrap_or_default();
                let after = place.rfind(']').map_or(0, |at| at + 1);
                let (host, port) = match place.get(after..).and_then(|rest| rest.rfind(':')) {
                    Some(at) => {
                        let (host, port) = place.split_at(after + at);
                        let port = port[1..].parse().ok().filter(|port| *port > 0);
                        (host, Some(port.ok_or_else(|| bad("malformed port"))?))
                    }
                    None => (place, None),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                if host.is_empty() { Err(bad("missing host")) } else { Ok(Self::Tcp(host.to_owned(), port)) }
            }
            scheme => {
                let text = format_args!("unsupported scheme {scheme} in migration URI {uri}");
                Err(QEMU.argument_unsupported(text))
            }
        }
    }
}

/// An address as it stands before a port.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Where a guest comes in.
#[derive(Debug)]
pub(super) struct Door {
    /// In QEMU's words.
    pub(super) incoming: String,
    /// What the source is to be told, where it does not know.
    pub(super) told: Option<String>,
    pub(super) lease: Option<Lease>,
}

impl Door {
    /// Opens one, as the client asks or as `qemu.conf` says.
    ///
    /// # Errors
    /// No port is free, or what is asked for cannot be.
    pub(super) fn open(entrance: &Entrance, own_name: &str, asked: &Asked) -> Result<Self> {
        let uri = asked.text(name::URI);
        let port = match uri.as_deref().map(Goal::parse).transpose()? {
            Some(Goal::Unix(path)) => {
                return Ok(Self { incoming: format!("unix:{path}"), told: None, lease: None });
            }
            Some(Goal::Tcp(_, port)) => port,
            None => None,
        };
        let address = asked.text(name::LISTEN_ADDRESS).or_else(|| entrance.address.clone());
        let address = address.unwrap_or_else(|| usual_address().to_owned());
        let address = bracketed(address.trim_start_matches('[').trim_end_matches(']'));
        let lease = if port.is_none() { Some(entrance.port()?) } else { None };
        let number = port.or(lease.as_ref().map(|lease| lease.port)).unwrap_or_default();
        let told = match (&uri, port) {
            (_, Some(_)) => None,
            (Some(uri), None) => Some(format!("{}:{number}", uri.trim_end_matches('/'))),
            (None, None) => {
                let name = entrance.host.as_deref().unwrap_or(own_name);
                if is_local(name) {
                    let text =
                        "hostname on destination resolved to localhost, but migration requires an FQDN";
                    return Err(QEMU.internal_error(text));
                }
                Some(format!("tcp:{}:{number}", bracketed(name)))
            }
        };
        Ok(Self { incoming: format!("tcp:{address}:{number}"), told, lease })
    }
}

/// Every address of this host.
fn usual_address() -> &'static str {
    if TcpListener::bind(("::", 0)).is_ok() { "::" } else { "0.0.0.0" }
}

#[cfg(test)]
mod tests {
    use virtwire_protocol::remote::TypedParam;

    use super::*;

    #[test]
    fn goals_are_told_from_what_is_none() {
        let tcp = |host: &str, port| Ok(Goal::Tcp(host.to_owned(), port));
        assert_eq!(Goal::parse("tcp://a.b:49160"), tcp("a.b", Some(49160)));
        assert_eq!(Goal::parse("tcp:a"), tcp("a", None));
        assert_eq!(Goal::parse("tcp://[::1]:7"), tcp("::1", Some(7)));
        assert_eq!(Goal::parse("tcp://[::1]"), tcp("::1", None));
        assert_eq!(Goal::parse("unix:///x/y"), Ok(Goal::Unix("/x/y".to_owned())));
        for bad in ["", "tcp", "tcp:", "tcp://:7", "tcp://a:0", "tcp://a:70000", "unix:x", "rdma://a"] {
            assert!(Goal::parse(bad).is_err(), "{bad}");
        }
    }

    fn door(entrance: &Entrance, params: Vec<TypedParam>) -> Door {
        Door::open(entrance, "here", &Asked::new(params, 0, "f").unwrap()).unwrap()
    }

    #[test]
    fn the_source_is_told_what_it_does_not_know() {
        let entrance = Entrance::parse("migration_port_min = 49300\nmigration_port_max = 49309").unwrap();
        let listen = || TypedParam::new(name::LISTEN_ADDRESS, "127.0.0.1");
        let first = door(&entrance, vec![listen()]);
        let port = first.lease.as_ref().unwrap().port;
        assert_eq!(first.incoming, format!("tcp:127.0.0.1:{port}"));
        assert_eq!(first.told, Some(format!("tcp:here:{port}")));
        let second = door(&entrance, vec![listen(), TypedParam::new(name::URI, "tcp://there")]);
        let other = second.lease.as_ref().unwrap().port;
        assert_ne!(other, port, "a port is nobody else's");
        assert_eq!(second.told, Some(format!("tcp://there:{other}")));
        drop(first);
        assert!(!entrance.taken.lock().unwrap().contains(&port));
        let given = door(&entrance, vec![TypedParam::new(name::URI, "tcp://there:7")]);
        assert_eq!((given.told, given.incoming.ends_with(":7")), (None, true));
    }

    #[test]
    fn settings_are_checked() {
        for bad in ["migration_port_min = 70000", "migration_port_max = 5", "migration_host = 'localhost'"] {
            assert!(Entrance::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Entrance::parse("migration_host = 'h'").unwrap().host.as_deref(), Some("h"));
    }
}
