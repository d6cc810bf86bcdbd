//! Where daemons have their sockets, and users their files.

use std::path::{Path, PathBuf};

use super::{Mode, Scope};

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

/// Where the host's daemon has its sockets.
const SYSTEM_DIR: &str = "/run/libvirt";

fn daemon(driver: &str) -> Option<&'static str> {
    DAEMONS.iter().find(|(scheme, _)| *scheme == driver).map(|(_, daemon)| *daemon)
}

/// The usual socket of a driver's daemon on this host.
pub(super) fn usual(driver: &str, scope: Scope, mode: Mode, read_only: bool) -> PathBuf {
    let dir = runtime_dir(scope);
    // A user's own daemon has no read-only socket: the flag in CONNECT_OPEN says it.
    let ending = if read_only && dir == Path::new(SYSTEM_DIR) { "sock-ro" } else { "sock" };
    let legacy = dir.join(format!("libvirt-{ending}"));
    let direct = daemon(driver).map(|daemon| dir.join(format!("{daemon}-{ending}")));
    match (mode, direct) {
        (Mode::Legacy, _) | (_, None) => legacy,
        (Mode::Direct, Some(direct)) => direct,
        (Mode::Auto, Some(direct)) if !legacy.exists() && direct.exists() => direct,
        (Mode::Auto, Some(_)) => legacy,
    }
}

/// The usual socket on a host that cannot be looked at.
pub(super) fn elsewhere(driver: &str, mode: Mode, read_only: bool) -> PathBuf {
    let ending = if read_only { "sock-ro" } else { "sock" };
    let name = match (mode, daemon(driver)) {
        (Mode::Direct, Some(daemon)) => daemon,
        _ => "libvirt",
    };
    // The name that hosts with an old file system layout have as well.
    Path::new("/var/run/libvirt").join(format!("{name}-{ending}"))
}

/// The socket of a daemon's administration; the URI's scheme is the daemon's name.
pub(super) fn admin(driver: &str, scope: Scope) -> PathBuf {
    let name = if driver.starts_with("virt") { driver } else { "libvirt" };
    runtime_dir(scope).join(format!("{name}-admin-sock"))
}

/// Where the daemon of this scope has its sockets.
fn runtime_dir(scope: Scope) -> PathBuf {
    if scope == Scope::System || is_root() {
        return SYSTEM_DIR.into();
    }
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")));
    variable("XDG_RUNTIME_DIR").or_else(cache).unwrap_or_default().join("libvirt")
}

/// Where the user has libvirt's configuration files; root has the host's.
pub(crate) fn config_dir() -> PathBuf {
    if is_root() {
        return "/etc/libvirt".into();
    }
    let config = || Some(home()?.join(".config"));
    variable("XDG_CONFIG_HOME").or_else(config).unwrap_or_default().join("libvirt")
}

/// The user's own directory.
pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME")
}

/// Whether the user is root, who has no daemon of his own.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
