//! Where the guest's screen is seen.

use virtwire_conf::domain::display::{Gl, Graphics, GraphicsType, Listen, ListenType};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::{audio, spice};
use crate::command::{CommandLine, Options};
use crate::error::QEMU;

/// The first port of VNC; displays count from it.
const VNC_BASE: i32 = 5900;

/// QEMU would open a window where nothing is said.
pub(super) fn none(line: &mut CommandLine, domain: &Domain) {
    if domain.devices.graphics.is_empty() {
        line.option("-display", "none");
    }
}

pub(super) fn graphics(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for screen in &domain.devices.graphics {
        let options = match screen.type_ {
            GraphicsType::Vnc => {
                line.option("-vnc", vnc(domain, screen));
                if let Some(keymap) = &screen.keymap {
                    line.option("-k", keymap);
                }
                continue;
            }
            GraphicsType::Sdl => {
                if screen.fullscreen == Some(YesNo::Yes) {
                    line.flag("-full-screen");
                }
                Options::new("sdl").with_if("gl", gl(screen))
            }
            GraphicsType::EglHeadless => {
                Options::new("egl-headless").with_if("rendernode", rendernode(screen))
            }
            GraphicsType::Dbus => dbus(domain, screen),
            GraphicsType::Spice => {
                line.option("-spice", spice::spice(screen)?);
                if let Some(keymap) = &screen.keymap {
                    line.option("-k", keymap);
                }
                continue;
            }
            GraphicsType::Rdp => {
                return Err(QEMU.config_unsupported("rdp graphics are not supported with this QEMU"));
            }
            GraphicsType::Desktop => {
                return Err(QEMU.config_unsupported("unsupported graphics type 'desktop'"));
            }
        };
        line.option("-display", options);
    }
    Ok(())
}

fn gl(screen: &Graphics) -> Option<&'static str> {
    let enabled = screen.gl.as_ref().and_then(|gl| gl.enable)?;
    Some(if enabled == YesNo::Yes { "on" } else { "off" })
}

pub(super) fn rendernode(screen: &Graphics) -> Option<&String> {
    screen.gl.as_ref().and_then(|gl: &Gl| gl.rendernode.as_ref())
}

fn dbus(domain: &Domain, screen: &Graphics) -> Options {
    let options = if screen.p2p == Some(YesNo::Yes) {
        Options::new("dbus").with("p2p", "on")
    } else {
        Options::new("dbus").with_if("addr", screen.address.as_ref())
    };
    let named = screen.audio.as_ref().map(|audio| audio.id);
    options
        .with_if("gl", gl(screen))
        .with_if("rendernode", rendernode(screen))
        .with_if("audiodev", audio::of_screen(domain, screen.type_, named))
}

fn vnc(domain: &Domain, screen: &Graphics) -> Options {
    let power = screen.power_control.map(|power| if power == YesNo::Yes { "on" } else { "off" });
    let named = screen.audio.as_ref().map(|audio| audio.id);
    place(screen)
        .with_if("websocket", screen.websocket.filter(|port| *port != 0))
        .with_if("share", screen.share_policy.map(|policy| policy.as_str()))
        .with_if("password", screen.passwd.as_ref().map(|_| "on"))
        .with_if("power-control", power)
        .with_if("audiodev", audio::of_screen(domain, screen.type_, named))
}

/// Where VNC listens.
fn place(screen: &Graphics) -> Options {
    let listen = screen.listens.first();
    let named = |part: fn(&Listen) -> &Option<String>| listen.and_then(|listen| part(listen).as_deref());
    let socket = screen.socket.as_deref().or_else(|| named(|listen| &listen.socket));
    if let Some(socket) = socket {
        return Options::new("").with("vnc", format!("unix:{socket}"));
    }
    if listen.is_some_and(|listen| listen.type_ == ListenType::None) {
        return Options::new("none");
    }
    let address = named(|listen| &listen.address).or(screen.listen_attr.as_deref()).unwrap_or("127.0.0.1");
    let display = screen.port.unwrap_or(VNC_BASE) - VNC_BASE;
    Options::new(&if address.contains(':') {
        format!("[{address}]:{display}")
    } else {
        format!("{address}:{display}")
    })
}
