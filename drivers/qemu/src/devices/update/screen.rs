//! Of a screen, the password can change, and until when it holds.

use std::sync::Arc;

use chrono::NaiveDateTime;
use virtwire_conf::YesNo;
use virtwire_conf::domain::display::{Connected, Graphics, GraphicsType, Listen, ListenType};
use virtwire_qmp::commands::{ExpirePassword, SetPassword};
use virtwire_qmp::{Monitor, QmpError};

use super::fields::{Field, differing, shown};
use crate::affect::edit_live;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::Guest;
use crate::policy::Policy;

const FIXED: &[Field<Graphics>] = &[
    ("port", |screen| match screen.autoport {
        Some(YesNo::Yes) => "auto".to_owned(),
        _ => shown(&screen.port),
    }),
    ("keymap", |screen| shown(&screen.keymap)),
];

/// Where a screen is seen; its way in, and the address or network.
fn listens(screen: &Graphics) -> Vec<(ListenType, Option<String>)> {
    let place = |listen: &Listen| match listen.type_ {
        ListenType::Address => listen.address.clone(),
        ListenType::Network => listen.network.clone(),
        ListenType::Socket => listen.socket.clone(),
        ListenType::None => None,
    };
    screen.listens.iter().map(|listen| (listen.type_, place(listen))).collect()
}

/// Whether a password could be given so.
///
/// # Errors
/// `VIR_ERR_CONFIG_UNSUPPORTED`
pub(super) fn check(screen: &Graphics) -> Result<()> {
    let stays = screen.connected.is_none_or(|connected| connected == Connected::Keep);
    if screen.type_ != GraphicsType::Vnc {
        return Ok(());
    }
    let length = screen.passwd.as_ref().map_or(0, String::len);
    if length > LONGEST_PASSWORD {
        return Err(QEMU.config_unsupported(format_args!(
            "VNC password is {length} characters long, only {LONGEST_PASSWORD} permitted"
        )));
    }
    match stays {
        true => Ok(()),
        false => Err(QEMU.config_unsupported("VNC supports connected='keep' only")),
    }
}

/// The bytes of a password that VNC knows.
const LONGEST_PASSWORD: usize = 8;

/// Whether a screen is still seen in the same ways.
///
/// # Errors
/// `VIR_ERR_OPERATION_UNSUPPORTED`
pub(super) fn keeps_ways(old: &Graphics, new: &Graphics) -> Result<()> {
    let (before, after, kind) = (listens(old), listens(new), old.type_);
    if after.len() > 1 && before.len() != after.len() {
        let text = format_args!("cannot change the number of listen addresses on '{kind}' graphics");
        return Err(QEMU.operation_unsupported(text));
    }
    match before.iter().zip(&after).any(|(before, after)| before.0 != after.0) {
        true => {
            let text = format_args!("cannot change the type of listen address on '{kind}' graphics");
            Err(QEMU.operation_unsupported(text))
        }
        false => Ok(()),
    }
}

pub(super) async fn update(driver: &Qemu, guest: &Arc<Guest>, old: &Graphics, new: Graphics) -> Result<()> {
    let kind = old.type_;
    let refused = |text: String| Err(QEMU.operation_unsupported(text));
    if !matches!(kind, GraphicsType::Vnc | GraphicsType::Spice) {
        let text = format_args!("unable to change config on '{kind}' graphics type");
        return Err(QEMU.config_unsupported(text));
    }
    for ((way, place), (_, new_place)) in listens(old).into_iter().zip(listens(&new)) {
        if place != new_place {
            let what = match way {
                ListenType::Socket => "socket",
                ListenType::Network => "network",
                _ => "address",
            };
            return refused(format!("cannot change listen {what} setting on '{kind}' graphics"));
        }
    }
    match differing(FIXED, old, &new) {
        Some("port") => return refused(format!("cannot change port settings on {kind} graphics")),
        Some(field) => return refused(format!("cannot change {field} setting on {kind} graphics")),
        None => {}
    }
    let password =
        |screen: &Graphics| (screen.passwd.clone(), screen.passwd_valid_to.clone(), screen.connected);
    if password(old) == password(&new) {
        return Ok(());
    }
    set_password(&guest.live()?.monitor, &new, &driver.shared.policy).await.map_err(monitor)?;
    edit_live(driver, guest, |domain| {
        if let Some(known) = domain.devices.graphics.iter_mut().find(|known| known.type_ == kind) {
            known.passwd = new.passwd;
            known.passwd_valid_to = new.passwd_valid_to;
            known.connected = new.connected;
        }
    });
    Ok(())
}

/// Tells QEMU the password of a screen that has one, and until when it holds. An empty one lets nobody in.
///
/// # Errors
/// QEMU's.
pub(crate) async fn set_password(
    qemu: &Monitor,
    screen: &Graphics,
    policy: &Policy,
) -> std::result::Result<(), QmpError> {
    let usual = match screen.type_ {
        GraphicsType::Vnc => policy.vnc.password.as_ref(),
        GraphicsType::Spice => policy.spice.password.as_ref(),
        _ => None,
    };
    let Some(password) = screen.passwd.as_ref().or(usual).cloned() else { return Ok(()) };
    let protocol = screen.type_.as_str().to_owned();
    let time = match screen.passwd_valid_to.as_deref() {
        _ if password.is_empty() => "now".to_owned(),
        Some(until) => seconds(until).map_or_else(|| "now".to_owned(), |seconds| seconds.to_string()),
        None => "never".to_owned(),
    };
    let connected = screen.connected.map_or("keep", |connected| connected.as_str()).to_owned();
    let set = SetPassword { protocol: protocol.clone(), password, connected: Some(connected) };
    qemu.execute(&set).await?;
    qemu.execute(&ExpirePassword { protocol, time }).await?;
    Ok(())
}

/// Seconds since 1970 of a moment as definitions have it, in UTC.
fn seconds(moment: &str) -> Option<i64> {
    let moment = NaiveDateTime::parse_from_str(moment, "%Y-%m-%dT%H:%M:%S").ok()?;
    Some(moment.and_utc().timestamp())
}
