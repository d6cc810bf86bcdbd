//! Where the guest's screen is seen.

use virtwire_conf::domain::display::{Gl, Graphics, GraphicsType, Listen, ListenType};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::tls::Credentials;
use super::{Context, audio, spice};
use crate::command::{CommandLine, Options};
use crate::error::QEMU;
use crate::policy::{FIRST_DISPLAY, Policy, Screens};

/// QEMU would open a window where nothing is said.
pub(super) fn none(line: &mut CommandLine, domain: &Domain) {
    if domain.devices.graphics.is_empty() {
        line.option("-display", "none");
    }
}

/// The certificates of VNC, and the password of their key.
const VNC_CERTIFICATES: &str = "vnc-tls-creds0";
const VNC_SECRET: &str = "vnc-tls-creds0-secret0";

pub(super) fn graphics(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let Policy { vnc: of_vnc, spice: of_spice, .. } = context.policy;
    for screen in &domain.devices.graphics {
        let options = match screen.type_ {
            GraphicsType::Vnc => {
                if of_vnc.tls.enabled {
                    let credentials = Credentials { tls: &of_vnc.tls, vault: &context.vault };
                    credentials.add(line, VNC_CERTIFICATES, VNC_SECRET, true)?;
                }
                line.option("-vnc", vnc(domain, screen, of_vnc));
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
                line.option("-spice", spice::spice(screen, of_spice)?);
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

fn vnc(domain: &Domain, screen: &Graphics, policy: &Screens) -> Options {
    let password = screen.passwd.as_ref().or(policy.password.as_ref());
    let power = screen.power_control.map(|power| if power == YesNo::Yes { "on" } else { "off" });
    let named = screen.audio.as_ref().map(|audio| audio.id);
    place(screen)
        .with_if("websocket", screen.websocket.filter(|port| *port != 0))
        .with_if("share", screen.share_policy.map(|policy| policy.as_str()))
        .with_if("password", password.map(|_| "on"))
        .with_if("tls-creds", policy.tls.enabled.then_some(VNC_CERTIFICATES))
        .with_if("sasl", policy.sasl.then_some("on"))
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
    let first = i32::from(FIRST_DISPLAY);
    let display = screen.port.unwrap_or(first) - first;
    Options::new(&if address.contains(':') {
        format!("[{address}]:{display}")
    } else {
        format!("{address}:{display}")
    })
}
