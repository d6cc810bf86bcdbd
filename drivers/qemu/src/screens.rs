//! Where a guest's screens are seen: ports that nobody has, addresses and sockets that the definition leaves open.

use std::ops::RangeInclusive;
use std::path::Path;

use virtwire_conf::domain::display::{Graphics, GraphicsType, ListenType};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::{ErrorDomain, VirtError};

use crate::dirs::Dirs;
use crate::error::{QEMU, Result};
use crate::policy::{self, FIRST_DISPLAY, Policy};
use crate::ports::{Lease, Ports};

/// SPICE's ports on the command line of a guest that does not run, as libvirt makes them up.
const UNUSED_SPICE: [i32; 2] = [5901, 5902];

/// Places the screens of a run, or of a guest that does not run (by its number) and takes no port from anybody. Returns
/// the ports that they have.
///
/// # Errors
/// No port is free, or there is nothing to draw with.
pub(crate) fn place(domain: &mut Domain, dirs: &Dirs, policy: &Policy, ports: &Ports) -> Result<Vec<Lease>> {
    let mut leases = Vec::new();
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
        let mut take = |name: &str, range: &RangeInclusive<u16>, unused: i32| {
            if id < 0 {
                return Ok(unused);
            }
            let lease = ports.take(name, range)?;
            let port = lease.port();
            leases.push(lease);
            Ok(port.into())
        };
        match screen.type_ {
            GraphicsType::Vnc => vnc_ports(screen, policy, &mut take)?,
            _ => spice_ports(screen, policy, &mut take)?,
        }
        if screen.port.or(screen.tls_port).is_some_and(|port| port > 0) {
            place_address(screen, usual);
        }
    }
    Ok(leases)
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

/// How a port of a range, by its name, is had; the last is what libvirt says where none is.
type Take<'a> = &'a mut dyn FnMut(&str, &RangeInclusive<u16>, i32) -> Result<i32>;

fn vnc_ports(screen: &mut Graphics, policy: &Policy, take: Take<'_>) -> Result<()> {
    if screen.autoport != Some(YesNo::No) && is_open(screen.port) {
        screen.port = Some(take("vnc", &policy.displays, FIRST_DISPLAY.into())?);
    }
    if screen.websocket == Some(-1) {
        screen.websocket = Some(take("webSocket", &policy.websockets, -1)?);
    }
    Ok(())
}

fn spice_ports(screen: &mut Graphics, policy: &Policy, take: Take<'_>) -> Result<()> {
    if screen.autoport != Some(YesNo::Yes) {
        return Ok(());
    }
    let (plain, encrypted) = ways(screen, policy.spice.tls.enabled);
    let both = [(&mut screen.port, plain), (&mut screen.tls_port, encrypted)];
    for ((port, is_needed), unused) in both.into_iter().zip(UNUSED_SPICE) {
        if is_needed && is_open(*port) {
            *port = Some(take("spice", &policy.displays, unused)?);
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
    let cannot =
        |e| VirtError::system(ErrorDomain::NONE, &e, format_args!("cannot open directory '{RENDERING}'"));
    let all = all.map_err(cannot)?;
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
