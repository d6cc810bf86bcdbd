//! Where a guest's screens are seen: ports that nobody has, addresses and sockets that the definition leaves open.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtwire_conf::domain::display::{Graphics, GraphicsType, ListenType};
use virtwire_conf::{Domain, YesNo};

use crate::dirs::Dirs;
use crate::error::{QEMU, Result, file};
use crate::policy::{self, Policy};

/// SPICE's ports on the command line of a guest that does not run, as libvirt makes them up.
const UNUSED_SPICE: [u16; 2] = [5901, 5902];

/// Ports that guests have which are being started or run, by the number of the guest.
#[derive(Debug, Default)]
pub(crate) struct Ports(Mutex<BTreeMap<u16, i32>>);

impl Ports {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<u16, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first of a range that is free, for a guest.
    fn take(&self, id: i32, name: &str, range: &RangeInclusive<u16>) -> Result<u16> {
        let mut taken = self.taken();
        let mut free = range.clone().filter(|port| !taken.contains_key(port));
        let port = free.find(|port| is_free(*port)).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            QEMU.internal_error(format_args!(
                "Unable to find an unused port in range '{name}' ({first}-{last})"
            ))
        })?;
        taken.insert(port, id);
        Ok(port)
    }

    /// Gives up those of a guest.
    pub(crate) fn free(&self, id: i32) {
        self.taken().retain(|_, owner| *owner != id);
    }
}

/// Whether nobody listens at a port, at any address.
fn is_free(port: u16) -> bool {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        // It is for both.
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok(),
    }
}

/// Places the screens of a run.
///
/// # Errors
/// No port is free, or there is nothing to draw with.
pub(crate) fn place(domain: &mut Domain, dirs: &Dirs, policy: &Policy, ports: &Ports) -> Result<()> {
    let id = domain.id.unwrap_or(-1);
    let (dir, bus) = (dirs.domain(id, &domain.name), dirs.screen_bus(id, &domain.name));
    for screen in &mut domain.devices.graphics {
        place_rendering(screen)?;
        let usual = match screen.type_ {
            GraphicsType::Vnc => Some(&policy.vnc),
            GraphicsType::Spice => Some(&policy.spice),
            _ => None,
        };
        if usual.is_some_and(|usual| usual.in_socket) {
            prefer_socket(screen);
        }
        place_socket(screen, &dir, &bus);
        let Some(usual) = usual.filter(|_| is_at_port(screen)) else { continue };
        match screen.type_ {
            GraphicsType::Vnc => vnc_ports(screen, id, policy, ports)?,
            _ => spice_ports(screen, id, policy, ports)?,
        }
        if screen.port.or(screen.tls_port).is_some_and(|port| port > 0) {
            place_address(screen, usual);
        }
    }
    Ok(())
}

/// Whether a screen is seen at a port.
fn is_at_port(screen: &Graphics) -> bool {
    let first = screen.listens.first();
    let listens =
        first.is_none_or(|listen| matches!(listen.type_, ListenType::Address | ListenType::Network));
    screen.socket.is_none() && listens
}

/// A screen whose address is open is seen through a socket.
fn prefer_socket(screen: &mut Graphics) {
    if let Some(first) = screen.listens.first_mut()
        && first.type_ == ListenType::Address
        && first.address.is_none()
    {
        first.type_ = ListenType::Socket;
        (screen.port, screen.tls_port, screen.autoport) = (None, None, None);
    }
}

fn is_open(port: Option<i32>) -> bool {
    port.is_none_or(|port| port < 0)
}

fn vnc_ports(screen: &mut Graphics, id: i32, policy: &Policy, ports: &Ports) -> Result<()> {
    if is_open(screen.port) {
        screen.port = Some(ports.take(id, "vnc", &policy.displays)?.into());
    }
    if screen.websocket == Some(-1) {
        screen.websocket = Some(ports.take(id, "webSocket", &policy.websockets)?.into());
    }
    Ok(())
}

fn spice_ports(screen: &mut Graphics, id: i32, policy: &Policy, ports: &Ports) -> Result<()> {
    if screen.autoport != Some(YesNo::Yes) {
        return Ok(());
    }
    let (plain, encrypted) = ways(screen, policy.spice.tls.enabled);
    let both = [(&mut screen.port, plain), (&mut screen.tls_port, encrypted)];
    for ((port, is_needed), unused) in both.into_iter().zip(UNUSED_SPICE) {
        if is_needed && is_open(*port) {
            let free = if id < 0 { unused } else { ports.take(id, "spice", &policy.displays)? };
            *port = Some(free.into());
        }
    }
    Ok(())
}

/// Whether SPICE's channels go over a port in the clear, and over an encrypted one.
fn ways(screen: &Graphics, has_tls: bool) -> (bool, bool) {
    /// All that SPICE has; those that are not named go as all do.
    const CHANNELS: usize = 9;
    let usual = screen.default_mode.as_deref().unwrap_or("any");
    let named = screen.channel.iter().map(|channel| channel.mode.as_str());
    let open = screen.channel.len() < CHANNELS || screen.channel.iter().any(|one| one.mode == "any");
    let mut modes: Vec<_> = named.filter(|mode| *mode != "any").collect();
    modes.extend(open.then_some(usual));
    let any = modes.contains(&"any");
    (any || modes.contains(&"insecure"), any && has_tls || modes.contains(&"secure"))
}

/// A screen that does not say at which address is seen at the usual one.
fn place_address(screen: &mut Graphics, usual: &policy::Screens) {
    let address = usual.listen.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
    let address = screen.listen_attr.get_or_insert(address).clone();
    for listen in screen.listens.iter_mut().filter(|listen| listen.type_ == ListenType::Address) {
        listen.address.get_or_insert_with(|| address.clone());
    }
}

/// Where the kernel has graphics processors.
const RENDERING: &str = "/dev/dri";

/// A screen that is rendered by a graphics processor gets the first there is.
fn place_rendering(screen: &mut Graphics) -> Result<()> {
    let enabled = screen.gl.as_ref().is_some_and(|gl| gl.enable == Some(YesNo::Yes));
    let renders = match screen.type_ {
        GraphicsType::EglHeadless => true,
        GraphicsType::Spice | GraphicsType::Dbus => enabled,
        _ => false,
    };
    if !renders || screen.gl.as_ref().is_some_and(|gl| gl.rendernode.is_some()) {
        return Ok(());
    }
    let all = std::fs::read_dir(RENDERING);
    let all = all.map_err(|e| file(&e, format_args!("cannot open directory '{RENDERING}'")))?;
    let nodes = all.flatten().filter(|node| node.file_name().to_string_lossy().starts_with("renderD"));
    let first = nodes.map(|node| node.path().display().to_string()).min();
    let first = first.ok_or_else(|| QEMU.internal_error("Unable to find a DRM render node"))?;
    screen.gl.get_or_insert_default().rendernode = Some(first);
    Ok(())
}

/// Sockets of screens that have no place of their own get one.
fn place_socket(screen: &mut Graphics, dir: &Path, bus: &Path) {
    match screen.type_ {
        GraphicsType::Vnc => {
            let listen = screen.listens.first_mut().filter(|listen| listen.type_ == ListenType::Socket);
            if let Some(listen) = listen {
                let socket = listen.socket.get_or_insert_with(|| dir.join("vnc.sock").display().to_string());
                screen.socket = Some(socket.clone());
            }
        }
        GraphicsType::Spice => {
            let listen = screen.listens.first_mut().filter(|listen| listen.type_ == ListenType::Socket);
            listen.into_iter().for_each(|listen| {
                listen.socket.get_or_insert_with(|| dir.join("spice.sock").display().to_string());
            });
        }
        GraphicsType::Dbus if screen.p2p != Some(YesNo::Yes) => {
            screen.address.get_or_insert_with(|| format!("unix:path={}", bus.display()));
        }
        _ => {}
    }
}
