//! The guest's ends of character devices: serial and parallel ports, channels, consoles.

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::{
    Channel, ChannelTargetType, CharType, Console, ConsoleTargetType, Parallel, Serial, SerialTargetType,
};
use virtwire_conf::domain::device::Address;
use virtwire_protocol::VirtError;

use super::chardev::HostEnd;
use super::device::controller;
use super::{Context, Device, Json, alias};
use crate::command::CommandLine;
use virtwire_conf::domain::misc::ControllerType;

/// Serial and parallel ports.
pub(super) fn ports(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) -> Result<(), VirtError> {
    domain.devices.serials.iter().try_for_each(|serial| self::serial(line, domain, serial, context))?;
    domain.devices.parallels.iter().try_for_each(|parallel| self::parallel(line, parallel, context))
}

pub(super) fn parallel(
    line: &mut CommandLine,
    parallel: &Parallel,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let name = alias(&parallel.info);
    let end = HostEnd::from(&parallel.chardev).add(line, name, context.chardevs())?;
    Device::new("isa-parallel").with("chardev", end).with("id", name).add(line);
    Ok(())
}

pub(super) fn serial(
    line: &mut CommandLine,
    domain: &Domain,
    serial: &Serial,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let name = alias(&serial.info);
    let end = HostEnd::from(&serial.chardev).add(line, name, context.chardevs())?;
    let target = serial.target.as_ref();
    let model = target.and_then(|target| target.model.as_ref()).and_then(|model| model.name.as_deref());
    // A board's own ports are where the board has them; so are those without a name.
    let own = target.and_then(|target| target.type_) == Some(SerialTargetType::SystemSerial);
    let Some(model) = model.filter(|_| !own) else {
        line.option("-serial", format!("chardev:{end}"));
        return Ok(());
    };
    let index = target.and_then(|target| target.port).unwrap_or_default();
    Device::new(model)
        .with("chardev", end)
        .with("id", name)
        .with_if("index", (model == "isa-serial").then_some(index))
        .at(domain, &serial.info)
        .add(line);
    Ok(())
}

/// A channel: a port of a virtio-serial controller, or a door in QEMU's own network.
pub(super) fn channel(
    line: &mut CommandLine,
    domain: &Domain,
    channel: &Channel,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let Some(target) = &channel.target else { return Ok(()) };
    let name = alias(&channel.info);
    match target.type_ {
        Some(ChannelTargetType::Guestfwd) => {
            let end = HostEnd::from(&channel.chardev).add(line, name, context.chardevs())?;
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            let door = format!("tcp:{}:{}-chardev:{end}", part(&target.address), part(&target.port));
            Json::begin("-netdev", "type", "user")
                .with("guestfwd", json!([{"str": door}]))
                .with("id", name)
                .add(line);
        }
        Some(ChannelTargetType::Virtio) => {
            let end = HostEnd::from(&channel.chardev).add(line, name, context.chardevs())?;
            let agent =
                (channel.chardev.type_ == CharType::Spicevmc).then(|| "com.redhat.spice.0".to_owned());
            port("virtserialport", domain, channel.info.address.as_ref())
                .with("chardev", end)
                .with("id", name)
                .with_if("name", target.name.clone().or(agent))
                .add(line);
        }
        Some(ChannelTargetType::Xen) | None => {}
    }
    Ok(())
}

/// A console, unless it is a serial port seen once more.
pub(super) fn console(
    line: &mut CommandLine,
    domain: &Domain,
    console: &Console,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let driver = match console.target.as_ref().and_then(|target| target.type_) {
        Some(ConsoleTargetType::Virtio) => "virtconsole",
        Some(ConsoleTargetType::Sclp) => "sclpconsole",
        Some(ConsoleTargetType::Sclplm) => "sclplmconsole",
        _ => return Ok(()),
    };
    let name = alias(&console.info);
    let end = HostEnd::from(&console.chardev).add(line, name, context.chardevs())?;
    port(driver, domain, console.info.address.as_ref()).with("chardev", end).with("id", name).add(line);
    Ok(())
}

/// A port of a virtio-serial controller.
fn port(driver: &str, domain: &Domain, address: Option<&Address>) -> Device {
    let device = Device::new(driver);
    match address {
        Some(Address::VirtioSerial(at)) => {
            let number = u64::from(at.controller);
            let bus = controller(domain, ControllerType::VirtioSerial, number).unwrap_or("virtio-serial0");
            device.with("bus", format!("{bus}.0")).with("nr", at.port)
        }
        _ => device,
    }
}
