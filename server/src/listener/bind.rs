//! Sockets that are created, and sockets that are handed over.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};

/// A listening socket, with mode and group set before anybody can connect.
pub(crate) fn unix(path: &Path, mode: u32, group: Option<u32>, backlog: u32) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        fs::remove_file(path)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before `listen`, so the mode is never wider than meant.
    std::os::unix::fs::chown(path, None, group)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, length(backlog))?;
    UnixListener::from_std(socket.into())
}

/// The length of a queue, as the kernel wants it.
fn length(backlog: u32) -> i32 {
    backlog.try_into().unwrap_or(i32::MAX)
}

/// A listening TCP socket; on all addresses, of both families where the host has both, if none is given.
pub(crate) fn tcp(address: Option<&str>, port: &str, backlog: u32) -> io::Result<TcpListener> {
    let number: u16 = port
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("'{port}' is no port")))?;
    let bind = |address: &str| std::net::TcpListener::bind((address, number));
    let listener = match address {
        Some(address) => bind(address),
        None => bind("::").or_else(|_| bind("0.0.0.0")),
    };
    let place = address.unwrap_or("*");
    let listener =
        listener.map_err(|error| io::Error::new(error.kind(), format!("{place}:{port}: {error}")))?;
    // It listens already, with a queue of another length.
    rustix::net::listen(&listener, length(backlog))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The id of a group by name or number.
pub(super) fn group(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    crate::users::group_id(name).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid argument: Failed to parse group '{name}'"),
        )
    })
}

/// Sockets that the service manager has created (`LISTEN_FDS`), each with the name of its unit.
pub(super) struct Handed {
    unix: Vec<(String, std::os::unix::net::UnixListener)>,
    any: bool,
}

impl Handed {
    /// Those of this process; nobody else gets them.
    pub(super) fn take() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut fds = ListenFd::from_env();
        let mut unix = Vec::new();
        for (index, name) in (0..fds.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
            if let Ok(Some(listener)) = fds.take_unix_listener(index) {
                unix.push((name.to_owned(), listener));
            }
        }
        Self { unix, any: fds.len() > 0 }
    }

    /// Whether there were any.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// The unix socket whose unit has libvirt's name with this ending (`libvirtd-ro.socket`, `virtqemud-ro.socket`),
    /// or that listens at this path.
    pub(super) fn unix(&mut self, ending: &str, path: &Path) -> io::Result<Option<UnixListener>> {
        let fits = |name: &str| {
            let unit = name.strip_suffix(".socket");
            let daemons = ["libvirtd", "virtqemud", "virtproxyd", "virtwired"];
            unit.is_some_and(|unit| daemons.iter().any(|daemon| unit.strip_prefix(daemon) == Some(ending)))
        };
        let here = |listener: &std::os::unix::net::UnixListener| {
            listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
        };
        let Some(index) = self.unix.iter().position(|(name, listener)| fits(name) || here(listener)) else {
            return Ok(None);
        };
        let (_, listener) = self.unix.remove(index);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Some)
    }
}
