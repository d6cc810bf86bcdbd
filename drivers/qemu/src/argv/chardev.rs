//! Serial ports and channels: a `-chardev` for the host end, a `-device` for the guest's.

use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::{CharMode, CharType, Chardev};
use virtwire_conf::domain::device::Address;
use virtwire_protocol::VirtError;

use super::{Device, alias};
use crate::command::{CommandLine, escape};
use crate::error::QEMU;

pub(super) fn serials(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for serial in &domain.devices.serials {
        let name = alias(&serial.info);
        host_end(line, name, &serial.chardev)?;
        let target = serial.target.as_ref();
        let model =
            target.and_then(|t| t.model.as_ref()).and_then(|m| m.name.as_deref()).unwrap_or("isa-serial");
        let port = target.and_then(|target| target.port).unwrap_or_default();
        let device = Device::new(model).with("chardev", format!("char{name}")).with("id", name);
        match model {
            "isa-serial" => device.with("index", port).add(line),
            _ => device.at(domain, &serial.info).add(line),
        }
    }
    Ok(())
}

/// Channels and consoles of virtio-serial controllers.
pub(super) fn channels(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for channel in domain.devices.channels.iter().filter(|channel| channel.is_virtio()) {
        let (name, port) = (alias(&channel.info), channel.info.address.as_ref());
        host_end(line, name, &channel.chardev)?;
        let named = channel.target.as_ref().and_then(|target| target.name.clone());
        port_of(Device::new("virtserialport"), port)
            .with("chardev", format!("char{name}"))
            .with("id", name)
            .with_if("name", named)
            .add(line);
    }
    for console in domain.devices.consoles.iter().filter(|console| console.is_virtio()) {
        let (name, port) = (alias(&console.info), console.info.address.as_ref());
        host_end(line, name, &console.chardev)?;
        let device = port_of(Device::new("virtconsole"), port);
        device.with("chardev", format!("char{name}")).with("id", name).add(line);
    }
    Ok(())
}

fn port_of(device: Device, address: Option<&Address>) -> Device {
    match address {
        Some(Address::VirtioSerial(at)) => {
            device.with("bus", format!("virtio-serial{}.0", at.controller)).with("nr", at.port)
        }
        _ => device,
    }
}

pub(super) fn host_end(line: &mut CommandLine, name: &str, chardev: &Chardev) -> Result<(), VirtError> {
    let source = chardev.source.first();
    let path = source.and_then(|source| source.path.as_deref());
    let path = || escape(path.unwrap_or_default());
    let text = match chardev.type_ {
        CharType::Pty => format!("pty,id=char{name}"),
        CharType::Null => format!("null,id=char{name}"),
        CharType::Stdio => format!("stdio,id=char{name}"),
        CharType::Vc => format!("vc,id=char{name}"),
        CharType::Dev => format!("serial,id=char{name},path={}", path()),
        CharType::Pipe => format!("pipe,id=char{name},path={}", path()),
        CharType::File => {
            let append = source.and_then(|source| source.append);
            let append = append.map_or_else(String::new, |append| format!(",append={}", append.as_str()));
            format!("file,id=char{name},path={}{append}", path())
        }
        CharType::Unix => {
            let connects = source.and_then(|source| source.mode) == Some(CharMode::Connect);
            let server = if connects { "" } else { ",server=on,wait=off" };
            format!("socket,id=char{name},path={}{server}", path())
        }
        CharType::Tcp => {
            let part = |part: Option<&String>| part.map(String::as_str).unwrap_or_default().to_owned();
            let (host, service) =
                (part(source.and_then(|s| s.host.as_ref())), part(source.and_then(|s| s.service.as_ref())));
            let binds = source.and_then(|source| source.mode) == Some(CharMode::Bind);
            let server = if binds { ",server=on,wait=off" } else { "" };
            format!("socket,id=char{name},host={},port={}{server}", escape(&host), escape(&service))
        }
        other => {
            let text = format_args!("unsupported chardev '{}'", other.as_str());
            return Err(QEMU.config_unsupported(text));
        }
    };
    line.option("-chardev", text);
    Ok(())
}
