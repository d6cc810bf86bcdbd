//! Where guests come in: what `qemu.conf` says, and the ports.

use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;

use super::params::{Asked, flag, name};
use crate::error::{QEMU, Result};
use crate::policy::Tls;
use crate::ports::{Lease, Ports};
use crate::settings::Settings;

/// The ports that guests come in at, unless `qemu.conf` says others.
const PORTS: RangeInclusive<u16> = 49152..=49215;

/// QEMU's name of a connection that it is given.
pub(super) const CONNECTION: &str = "migrate";

/// What `qemu.conf` says of guests that come in.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The address that is listened on (`migration_address`).
    address: Option<String>,
    /// This host, as others know it (`migration_host`).
    host: Option<String>,
    /// `migration_port_min` to `migration_port_max`.
    ports: RangeInclusive<u16>,
    /// For migrations over TLS.
    pub(super) keys: Tls,
    /// Whether there are no others (`migrate_tls_force`).
    tls_only: bool,
    /// Those that are taken of them.
    taken: Ports,
}

impl Default for Entrance {
    fn default() -> Self {
        Self {
            address: None,
            host: None,
            ports: PORTS,
            keys: Tls::default(),
            tls_only: false,
            taken: Ports::default(),
        }
    }
}

impl Entrance {
    /// As `qemu.conf` says.
    ///
    /// # Errors
    /// It says something that is none of that.
    pub(crate) fn of(settings: &Settings) -> io::Result<Self> {
        let host = settings.text("migration_host")?;
        if host.as_deref().is_some_and(is_local) {
            return Err(settings.wrong("migration_host", "a name that means this host to others"));
        }
        let first = settings.port("migration_port_min")?.unwrap_or(*PORTS.start());
        let last = settings.port("migration_port_max")?.unwrap_or(*PORTS.end());
        if first > last {
            return Err(
                settings.wrong("migration_port_max", &format!("{first} (migration_port_min) or more"))
            );
        }
        let address = settings.text("migration_address")?;
        let keys = Tls::of(settings, "migrate", true)?;
        let tls_only = settings.flag("migrate_tls_force")?.unwrap_or(false);
        Ok(Self { address, host, ports: first..=last, keys, tls_only, ..Self::default() })
    }

    /// Guests may come and go as is asked.
    ///
    /// # Errors
    /// The administrator has them go by TLS only.
    pub(super) fn check(&self, asked: &Asked) -> Result<()> {
        if self.tls_only && !asked.has(flag::TLS) {
            let text = "this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag";
            return Err(QEMU.operation_invalid(text));
        }
        Ok(())
    }

    /// Takes a free port.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn port(&self) -> Result<Lease> {
        self.taken.take("migration", &self.ports)
    }
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
    /// Where content of disks goes, if a client says so.
    ///
    /// # Errors
    /// What it says is neither a host nor a socket.
    pub(super) fn of_disks(asked: &Asked) -> Result<Option<Self>> {
        let Some(uri) = asked.text(name::DISKS_URI) else { return Ok(None) };
        match uri.split_once(':').map_or("", |(scheme, _)| scheme) {
            "tcp" if matches!(uri.get(4..), Some("" | "//")) => {
                Err(QEMU
                    .invalid_arg(format_args!("URI with tcp scheme did not provide a server part: {uri}")))
            }
            "tcp" | "unix" => Self::parse(&uri).map(Some),
            scheme => Err(QEMU.invalid_arg(format_args!("Unsupported scheme in disks URI: {scheme}"))),
        }
    }

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
pub(super) fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Where a guest comes in.
#[derive(Debug)]
pub(super) enum Door {
    /// At a socket in the file system.
    Socket(String),
    /// A stream of the source's daemon.
    Tunnel,
    /// At an address, and a port that the source knows.
    Known(String, u16),
    /// At an address, and a port that the source is told of, as what is said before the port.
    Leased(String, Lease, String),
}

impl Door {
    /// Opens one, as the client asks or as `qemu.conf` says.
    ///
    /// # Errors
    /// No port is free, or what is asked for cannot be.
    pub(super) fn open(entrance: &Entrance, own_name: &str, asked: &Asked) -> Result<Self> {
        let uri = asked.text(name::URI);
        let port = match uri.as_deref().map(Goal::parse).transpose()? {
            Some(Goal::Unix(path)) => return Ok(Self::Socket(path)),
            Some(Goal::Tcp(_, port)) => port,
            None => None,
        };
        let address = bracketed(&listen_address(entrance, asked));
        if let Some(port) = port {
            return Ok(Self::Known(address, port));
        }
        let told = match uri {
            Some(uri) => uri.trim_end_matches('/').to_owned(),
            None => {
                let name = entrance.host.as_deref().unwrap_or(own_name);
                if is_local(name) {
                    let text =
                        "hostname on destination resolved to localhost, but migration requires an FQDN";
                    return Err(QEMU.internal_error(text));
                }
                format!("tcp:{}", bracketed(name))
            }
        };
        Ok(Self::Leased(address, entrance.port()?, told))
    }

    /// In QEMU's words.
    pub(super) fn incoming(&self) -> String {
        match self {
            Self::Socket(path) => format!("unix:{path}"),
            Self::Tunnel => format!("fd:{CONNECTION}"),
            Self::Known(address, port) => format!("tcp:{address}:{port}"),
            Self::Leased(address, lease, _) => format!("tcp:{address}:{}", lease.port()),
        }
    }

    /// What the source is to be told, where it does not know.
    pub(super) fn told(&self) -> Option<String> {
        match self {
            Self::Leased(_, lease, before) => Some(format!("{before}:{}", lease.port())),
            Self::Socket(_) | Self::Tunnel | Self::Known(..) => None,
        }
    }
}

/// The address that is listened on.
pub(super) fn listen_address(entrance: &Entrance, asked: &Asked) -> String {
    let address = asked.text(name::LISTEN_ADDRESS).or_else(|| entrance.address.clone());
    let address = address.unwrap_or_else(|| usual_address().to_owned());
    address.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// Every address of this host.
fn usual_address() -> &'static str {
    if TcpListener::bind(("::", 0)).is_ok() { "::" } else { "0.0.0.0" }
}

#[cfg(test)]
mod tests {
    use virtwire_protocol::remote::TypedParam;

    use super::*;
    use crate::settings::given;

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

    fn port_of(door: &Door) -> u16 {
        match door {
            Door::Leased(_, lease, _) => lease.port(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_source_is_told_what_it_does_not_know() {
        let entrance =
            Entrance::of(&given("migration_port_min = 49300\nmigration_port_max = 49309")).unwrap();
        let listen = || TypedParam::new(name::LISTEN_ADDRESS, "127.0.0.1");
        let first = door(&entrance, vec![listen()]);
        let port = port_of(&first);
        assert_eq!(first.incoming(), format!("tcp:127.0.0.1:{port}"));
        assert_eq!(first.told(), Some(format!("tcp:here:{port}")));
        let second = door(&entrance, vec![listen(), TypedParam::new(name::URI, "tcp://there")]);
        let other = port_of(&second);
        assert_ne!(other, port, "a port is nobody else's");
        assert_eq!(second.told(), Some(format!("tcp://there:{other}")));
        drop(first);
        assert_eq!(port_of(&door(&entrance, vec![listen()])), port, "it has been given up");
        let given = door(&entrance, vec![TypedParam::new(name::URI, "tcp://there:7")]);
        assert_eq!((given.told(), given.incoming().ends_with(":7")), (None, true));
    }

    #[test]
    fn settings_are_checked() {
        for bad in ["migration_port_min = 70000", "migration_port_max = 5", "migration_host = 'localhost'"] {
            assert!(Entrance::of(&given(bad)).is_err(), "{bad}");
        }
        assert_eq!(Entrance::of(&given("migration_host = 'h'")).unwrap().host.as_deref(), Some("h"));
    }
}
