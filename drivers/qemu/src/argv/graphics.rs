//! Where the guest is seen and heard: graphics and audio backends.

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::display::{Graphics, GraphicsType, ListenType};
use virtwire_protocol::VirtError;

use crate::command::CommandLine;
use crate::error::QEMU;

pub(super) fn graphics(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for audio in &domain.devices.audios {
        let id = format!("audio{}", audio.id);
        line.json("-audiodev", &json!({"id": id, "driver": audio.type_.as_str()}));
    }
    if domain.devices.audios.is_empty() {
        line.json("-audiodev", &json!({"id": "audio1", "driver": "none"}));
    }
    for graphics in &domain.devices.graphics {
        match graphics.type_ {
            GraphicsType::Vnc => line.option("-vnc", vnc(graphics)),
            other => {
                let text = format_args!("graphics of type '{}' cannot be started yet", other.as_str());
                return Err(QEMU.config_unsupported(text));
            }
        }
    }
    Ok(())
}

/// The first port of VNC; displays count from it.
const VNC_BASE: i32 = 5900;

fn vnc(graphics: &Graphics) -> String {
    let listen = graphics.listens.first();
    let socket = graphics.socket.as_ref().or(listen.and_then(|listen| listen.socket.as_ref()));
    let place = match socket {
        Some(socket) => format!("unix:{}", crate::command::escape(socket)),
        None if listen.is_some_and(|listen| listen.type_ == ListenType::None) => "none".to_owned(),
        None => {
            let address =
                listen.and_then(|listen| listen.address.as_deref()).or(graphics.listen_attr.as_deref());
            let address = address.unwrap_or("127.0.0.1");
            let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            format!("{address}:{}", graphics.port.unwrap_or(VNC_BASE) - VNC_BASE)
        }
    };
    let password = if graphics.passwd.is_some() { ",password=on" } else { "" };
    format!("{place}{password},audiodev=audio1")
}
