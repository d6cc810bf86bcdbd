//! Serial ports, consoles, channels, and what is behind them.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::domain::Domain;
use crate::domain::chardev::{ChannelTargetType, CharSource, CharType, Console, ConsoleTargetType};
use crate::domain::display::GraphicsType;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// What a host end must say, by its kind.
pub(in super::super) fn source(kind: CharType, sources: &[CharSource]) -> Result {
    let first = sources.first();
    let has = |part: fn(&CharSource) -> bool| first.is_some_and(part);
    let missing = |what: &str| {
        Err(DOMAIN.config_unsupported(format_args!("Missing source {what} attribute for char device")))
    };
    match kind {
        CharType::Spiceport | CharType::Dbus if !has(|source| source.channel.is_some()) => missing("channel"),
        _ => Ok(()),
    }
}

/// Everything in this file that no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    let devices = &domain.devices;
    let virtio = |at: &crate::domain::chardev::Channel| {
        at.target.as_ref().and_then(|target| target.type_) == Some(ChannelTargetType::Virtio)
    };
    let serials = devices.serials.iter().map(|serial| (&serial.chardev, false));
    let parallels = devices.parallels.iter().map(|parallel| (&parallel.chardev, false));
    let channels = devices.channels.iter().map(|channel| (&channel.chardev, virtio(channel)));
    let all = serials.chain(parallels).chain(channels);
    for (end, virtio) in all {
        refuse! {
            end.type_ == CharType::Spicevmc && !virtio =>
                DOMAIN.config_unsupported("spicevmc device type only supports virtio");
        }
        source(end.type_, &end.source)?;
    }
    let serial = |console: &&Console| {
        console.target.as_ref().and_then(|target| target.type_) == Some(ConsoleTargetType::Serial)
    };
    refuse! {
        devices.consoles.iter().skip(1).any(|console| serial(&console)) =>
            DOMAIN.config_unsupported("Only the first console can be a serial port");
    }
    let consoles = devices.consoles.iter().map(|console| &console.chardev);
    let redirected = devices.redirdevs.iter().map(|redirdev| &redirdev.chardev);
    let redirected = redirected.filter(|end| end.type_ != CharType::Dbus);
    consoles.chain(redirected).try_for_each(|end| source(end.type_, &end.source))
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    let spice = devices.graphics.iter().any(|screen| screen.type_ == GraphicsType::Spice);
    let serials = devices.serials.iter().map(|serial| &serial.chardev);
    let channels = devices.channels.iter().map(|channel| &channel.chardev);
    let consoles = devices.consoles.iter().map(|console| &console.chardev);
    let parallels = devices.parallels.iter().map(|parallel| &parallel.chardev);
    let redirected = devices.redirdevs.iter().map(|redirdev| &redirdev.chardev);
    let cards = devices.smartcards.iter().filter_map(|card| card.type_);
    let ends = serials.chain(channels).chain(consoles).chain(parallels).chain(redirected);
    for kind in ends.map(|end| end.type_).chain(cards) {
        let of_spice = matches!(kind, CharType::Spicevmc | CharType::Spiceport);
        refuse! {
            of_spice && !spice =>
                QEMU.config_unsupported("chardev '{}' not supported without spice graphics", kind.as_str());
        }
    }
    devices.consoles.iter().try_for_each(|it| console(around, it))
}

fn console(around: &Around<'_>, console: &Console) -> Result {
    let target = console.target.as_ref().and_then(|target| target.type_).unwrap_or_default();
    let device = match target {
        ConsoleTargetType::Sclp => Some("sclpconsole"),
        ConsoleTargetType::Sclplm => Some("sclplmconsole"),
        _ => None,
    };
    let lacking = device.filter(|device| !around.has(device));
    refuse! {
        lacking.is_some() =>
            QEMU.config_unsupported("{} is not supported in this QEMU binary", lacking.unwrap_or_default());
        !matches!(target, ConsoleTargetType::Serial | ConsoleTargetType::Virtio | ConsoleTargetType::Sclp | ConsoleTargetType::Sclplm) =>
            QEMU.config_unsupported("unsupported console target type {}", target.as_str());
    }
    Ok(())
}
