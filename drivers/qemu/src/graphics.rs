//! Screens: who comes and goes, and clients that are connected without a port of the host's, over a socket that one of
//! them hands over.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde_json::json;
use virtwire_conf::domain::display::GraphicsType;
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{AddClient, Closefd, Getfd};
use virtwire_qmp::events::ScreenEnd;

use crate::blockjob::say;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Guest;

/// `VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH`
const SKIP_AUTH: u32 = 1;

/// QEMU's name of the socket.
const NAME: &str = "graphicsfd";

pub(crate) async fn open(driver: &Qemu, args: DomainOpenGraphicsArgs, fds: Vec<OwnedFd>) -> Result<()> {
    check_flags(args.flags, SKIP_AUTH, "qemuDomainOpenGraphics")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Some(socket) = fds.into_iter().next() else { return Ok(()) };
    connect(&guest, args.idx, socket, args.flags).await
}

pub(crate) async fn open_fd(driver: &Qemu, args: DomainOpenGraphicsFdArgs) -> Result<Vec<OwnedFd>> {
    check_flags(args.flags, SKIP_AUTH, "qemuDomainOpenGraphicsFD")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    guest.live()?;
    let cannot = |error| VirtError::system(QEMU, &error, "unable to create socket pair");
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    connect(&guest, args.idx, theirs.into(), args.flags).await?;
    Ok(vec![ours.into()])
}

/// `VIR_DOMAIN_GRAPHICS_RELOAD_TYPE_VNC`, and those below: any.
const RELOAD_VNC: u32 = 1;

/// Has QEMU read the certificates of screens anew.
pub(crate) async fn reload(driver: &Qemu, args: DomainGraphicsReloadArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainGraphicsReload")?;
    if args.r#type > RELOAD_VNC {
        return Err(QEMU.invalid_arg(format_args!("type must be less than {}", RELOAD_VNC + 1)));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let is_vnc = live.domain.devices.graphics.iter().any(|screen| screen.type_ == GraphicsType::Vnc);
    if args.r#type < RELOAD_VNC && !is_vnc {
        return Ok(());
    }
    say(&live.monitor, "display-reload", json!({"type": "vnc", "tls-certs": true})).await
}

/// Hands a socket to QEMU, to whose other end a client of the screen is.
async fn connect(guest: &Guest, index: u32, socket: OwnedFd, flags: u32) -> Result<()> {
    let live = guest.live()?;
    let none = || QEMU.internal_error(format_args!("No graphics backend with index {index}"));
    let screen = live.domain.devices.graphics.get(index as usize).ok_or_else(none)?;
    let protocol = match screen.type_ {
        GraphicsType::Vnc => "vnc",
        GraphicsType::Spice => "spice",
        GraphicsType::Dbus => "@dbus-display",
        other => {
            let text = format_args!(
                "Can only open VNC, SPICE or D-Bus p2p graphics backends, not {}",
                other.as_str()
            );
            return Err(QEMU.internal_error(text));
        }
    };
    let fdname = NAME.to_owned();
    let named = Getfd { fdname: fdname.clone() };
    live.monitor.execute_with_fds(&named, vec![socket]).await.map_err(monitor)?;
    let skipauth = Some(flags & SKIP_AUTH != 0);
    let add = AddClient { protocol: protocol.to_owned(), fdname: fdname.clone(), skipauth };
    let added = live.monitor.execute(&add).await.map_err(monitor);
    if added.is_err() {
        // QEMU has kept it.
        let _ = live.monitor.execute(&Closefd { fdname }).await;
    }
    added.map(drop)
}

/// What a screen's client does (`VIR_DOMAIN_EVENT_GRAPHICS_…`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Connect = 0,
    Initialize = 1,
    Disconnect = 2,
}

/// The event of a screen's client.
pub(crate) fn told(dom: NonnullDomain, phase: Phase, server: &ScreenEnd, client: &ScreenEnd) -> Event {
    let end = |end: &ScreenEnd| DomainEventGraphicsAddress {
        family: family(&end.family),
        node: end.host.as_str().into(),
        service: end.service.as_str().into(),
    };
    let who = [("x509dname", &client.x509_dname), ("saslUsername", &client.sasl_username)];
    let subject = who.into_iter().filter_map(|(kind, name)| {
        Some(DomainEventGraphicsIdentity { r#type: kind.into(), name: name.as_deref()?.into() })
    });
    let msg = DomainEventGraphicsMsg {
        dom,
        phase: phase as i32,
        local: end(server),
        remote: end(client),
        auth_scheme: server.auth.as_deref().unwrap_or_default().into(),
        subject: subject.collect(),
    };
    Event::DomainGraphics(DomainEventCallbackGraphicsMsg { callback_id: 0, msg })
}

/// `VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_…`
fn family(name: &str) -> i32 {
    ["ipv4", "ipv6", "unix"].iter().position(|known| *known == name).unwrap_or_default() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_the_names_that_it_has() {
        let server = ScreenEnd { family: "ipv6".into(), auth: Some("vnc".into()), ..ScreenEnd::default() };
        let client =
            ScreenEnd { family: "x".into(), sasl_username: Some("ann".into()), ..ScreenEnd::default() };
        let dom = NonnullDomain { name: "a".into(), uuid: [0; 16], id: 1 };
        let Event::DomainGraphics(event) = told(dom, Phase::Initialize, &server, &client) else {
            panic!("another event");
        };
        let msg = event.msg;
        assert_eq!((msg.phase, msg.local.family, msg.remote.family), (1, 1, 0));
        assert_eq!((msg.auth_scheme.to_string(), msg.subject.len()), ("vnc".to_owned(), 1));
        assert_eq!(msg.subject[0].name, "ann");
    }
}
