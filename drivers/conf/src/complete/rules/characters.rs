//! Serial ports, consoles, channels, and what is behind them.

use virtwire_protocol::ErrorDomain;

use super::{Around, Chipset, Result, small};
use crate::YesNo;
use crate::complete::check;
use crate::domain::chardev::{
    Channel, CharMode, CharSource, CharType, Chardev, Console, ConsoleTargetType, Parallel, Redirdev, Rng,
    RngBackend, RngModel, Serial, SerialTargetType, Smartcard,
};
use crate::domain::device::Address;
use crate::domain::display::GraphicsType;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows of a host's end as it is read.
fn read(end: &Chardev, virtio: bool) -> Result {
    refuse! {
        end.type_ == CharType::Spicevmc && !virtio =>
            DOMAIN.config_unsupported("spicevmc device type only supports virtio");
    }
    halves(end.type_, &end.source)
}

pub(super) fn read_serial(serial: &Serial) -> Result {
    read(&serial.chardev, false)
}

pub(super) fn read_parallel(parallel: &Parallel) -> Result {
    read(&parallel.chardev, false)
}

pub(super) fn read_console(console: &Console) -> Result {
    read(&console.chardev, false)
}

pub(super) fn read_channel(channel: &Channel) -> Result {
    check::channel(channel)?;
    read(&channel.chardev, channel.is_virtio())
}

pub(super) fn read_smartcard(card: &Smartcard) -> Result {
    small::smartcard(card)?;
    halves(card.type_.unwrap_or_default(), &card.source)
}

pub(super) fn read_redirdev(redirdev: &Redirdev) -> Result {
    halves(redirdev.chardev.type_, &redirdev.chardev.source)?;
    small::on_usb(&redirdev.info)
}

/// What shows of a source of randomness as it is read.
pub(super) fn read_rng(rng: &Rng) -> Result {
    let silent = |backend: &RngBackend| backend.model == RngModel::Egd && backend.type_.is_none();
    refuse! {
        rng.backend.is_none() => DOMAIN.xml_error("only one RNG backend is supported");
        rng.backend.as_ref().is_some_and(silent) => DOMAIN.xml_error("missing EGD backend type");
    }
    rng.backend.iter().try_for_each(|backend| halves(backend.type_.unwrap_or_default(), &backend.source))
}

/// There is one source, but datagrams come from somewhere and go somewhere; who connects again says when.
fn halves(kind: CharType, sources: &[CharSource]) -> Result {
    let again = sources.iter().filter_map(|source| source.reconnect.as_ref());
    let when = again.into_iter().any(|again| again.enabled == Some(YesNo::Yes) && again.timeout.is_none());
    refuse! {
        sources.len() > 1 && kind != CharType::Udp =>
            DOMAIN.xml_error("only one source element is allowed for character device");
        when => XML.xml_error("Missing required attribute 'timeout' in element 'reconnect'");
    }
    Ok(())
}

/// What a host end must say, by its kind.
fn source(kind: CharType, sources: &[CharSource]) -> Result {
    let first = sources.first();
    let has = |part: fn(&CharSource) -> bool| first.is_some_and(part);
    let missing = |what: &str| {
        Err(DOMAIN.internal_error(format_args!("Missing source {what} attribute for char device")))
    };
    let late = |source: &CharSource| {
        source.mode == Some(CharMode::Bind) && source.reconnect.as_ref().is_some_and(|r| r.enabled.is_some())
    };
    match kind {
        CharType::File | CharType::Dev | CharType::Pipe | CharType::Unix if !has(|s| s.path.is_some()) => {
            return missing("path");
        }
        CharType::Nmdm if has(|s| s.master.is_some() != s.slave.is_some()) => {
            let text = "Should define both master and slave path attributes for nmdm device";
            return Err(DOMAIN.internal_error(text));
        }
        CharType::Tcp if !has(|s| s.host.is_some()) => return missing("host"),
        CharType::Tcp if !has(|s| s.service.is_some()) => return missing("service"),
        CharType::Udp if sources.iter().all(|s| s.service.is_none()) => return missing("service"),
        CharType::Spiceport | CharType::Dbus if !has(|s| s.channel.is_some()) => {
            return Err(DOMAIN.config_unsupported("Missing source channel attribute for char device"));
        }
        _ => {}
    }
    refuse! {
        matches!(kind, CharType::Tcp | CharType::Unix) && sources.iter().any(late) =>
            DOMAIN.internal_error("chardev reconnect is possible only for connect mode");
    }
    sources.iter().flat_map(|source| &source.seclabel).try_for_each(check::relabelled)
}

fn end(end: &Chardev) -> Result {
    source(end.type_, &end.source)
}

pub(super) fn serial(_around: &Around<'_>, serial: &Serial) -> Result {
    end(&serial.chardev)
}

pub(super) fn parallel(_around: &Around<'_>, parallel: &Parallel) -> Result {
    end(&parallel.chardev)
}

pub(super) fn console(_around: &Around<'_>, console: &Console) -> Result {
    end(&console.chardev)
}

/// A channel's socket may be the driver's to choose.
pub(super) fn channel(_around: &Around<'_>, channel: &Channel) -> Result {
    let chosen = channel.chardev.type_ == CharType::Unix && channel.chardev.source.is_empty();
    if chosen { Ok(()) } else { end(&channel.chardev) }
}

/// D-Bus has one name for all of them.
pub(super) fn redirdev(_around: &Around<'_>, redirdev: &Redirdev) -> Result {
    if redirdev.chardev.type_ == CharType::Dbus { Ok(()) } else { end(&redirdev.chardev) }
}

pub(super) fn smartcard(_around: &Around<'_>, card: &Smartcard) -> Result {
    refuse! {
        !matches!(card.info.address, None | Some(Address::Ccid(_))) =>
            DOMAIN.config_unsupported("Controllers must use the 'ccid' address type");
    }
    card.type_.map_or(Ok(()), |kind| source(kind, &card.source))
}

pub(super) fn rng(_around: &Around<'_>, rng: &Rng) -> Result {
    let backend = rng.backend.iter().filter_map(|backend| Some((backend.type_?, &backend.source)));
    backend.into_iter().try_for_each(|(kind, sources)| source(kind, sources))
}

pub(super) fn rng_qemu(around: &Around<'_>, rng: &Rng) -> Result {
    let kind = rng.backend.as_ref().and_then(|backend| backend.type_);
    kind.map_or(Ok(()), |kind| of_qemu(around, kind))
}

/// What goes by way of a screen of SPICE needs one.
fn of_qemu(around: &Around<'_>, kind: CharType) -> Result {
    let spice = around.domain.devices.graphics.iter().any(|screen| screen.type_ == GraphicsType::Spice);
    refuse! {
        matches!(kind, CharType::Spicevmc | CharType::Spiceport) && !spice =>
            QEMU.config_unsupported("chardev '{}' not supported without spice graphics", kind.as_str());
    }
    Ok(())
}

pub(super) fn serial_qemu(around: &Around<'_>, serial: &Serial) -> Result {
    let debug = serial.target.as_ref().and_then(|target| target.type_) == Some(SerialTargetType::IsaDebug);
    refuse! {
        debug && around.chipset.is_foreign() =>
            DOMAIN.config_unsupported("isa-debug serial type only valid on x86 architecture");
    }
    of_qemu(around, serial.chardev.type_)?;
    port_of(around, serial)
}

/// A serial port: which device of which kind, what address it has, and the boards that have it, if not all.
struct Port {
    model: &'static str,
    kind: SerialTargetType,
    address: Option<&'static str>,
    boards: &'static [Chipset],
}

const fn port(
    model: &'static str,
    kind: SerialTargetType,
    address: Option<&'static str>,
    boards: &'static [Chipset],
) -> Port {
    Port { model, kind, address, boards }
}

const PORTS: &[Port] = {
    use SerialTargetType::{
        IsaDebug, IsaSerial, PciSerial, SclpSerial, SpaprVioSerial, SystemSerial, UsbSerial,
    };
    &[
        port("isa-serial", IsaSerial, Some("isa"), &[Chipset::I440fx, Chipset::Q35, Chipset::Other]),
        port("isa-debugcon", IsaDebug, Some("isa"), &[Chipset::I440fx, Chipset::Q35, Chipset::Other]),
        port("usb-serial", UsbSerial, Some("usb"), &[]),
        port("pci-serial", PciSerial, Some("pci"), &[]),
        port("spapr-vty", SpaprVioSerial, Some("spapr-vio"), &[Chipset::Pseries]),
        port("pl011", SystemSerial, None, &[Chipset::ArmVirt]),
        port("16550a", SystemSerial, None, &[Chipset::RiscvVirt, Chipset::LoongVirt]),
        port("sclpconsole", SclpSerial, None, &[Chipset::Ccw]),
        port("sclplmconsole", SclpSerial, None, &[Chipset::Ccw]),
    ]
};

/// Each port is of a kind, and where that is.
fn port_of(around: &Around<'_>, serial: &Serial) -> Result {
    let Some(target) = &serial.target else { return Ok(()) };
    let kind = target.type_.unwrap_or_default();
    let model = target.model.as_ref().and_then(|model| model.name.as_deref()).unwrap_or_default();
    let port = PORTS.iter().find(|port| port.model == model);
    let own = PORTS.iter().find(|port| port.kind == kind).and_then(|port| port.address);
    let at = serial.info.address.as_ref().map(Address::kind);
    let elsewhere = at.is_some() && at != own;
    refuse! {
        port.is_some_and(|port| port.kind != kind) => QEMU.config_unsupported(
            "Target model '{model}' requires target type '{}'",
            port.map(|port| port.kind).unwrap_or_default().as_str());
        elsewhere && own.is_some() => QEMU.config_unsupported(
            "Target type '{kind}' requires address type '{}'", own.unwrap_or_default());
        elsewhere => QEMU.config_unsupported("Target type '{kind}' cannot have an associated address");
        port.is_some_and(|port| !port.boards.is_empty() && !port.boards.contains(&around.chipset)) =>
            QEMU.config_unsupported(
                "Serial device with target type '{kind}' and target model '{model}' not compatible with guest architecture or machine type"
            );
    }
    Ok(())
}

pub(super) fn parallel_qemu(around: &Around<'_>, parallel: &Parallel) -> Result {
    refuse! {
        matches!(around.chipset, Chipset::Ccw | Chipset::Pseries) =>
            QEMU.config_unsupported("parallel ports are not supported");
    }
    of_qemu(around, parallel.chardev.type_)
}

pub(super) fn channel_qemu(around: &Around<'_>, channel: &Channel) -> Result {
    of_qemu(around, channel.chardev.type_)
}

pub(super) fn redirdev_qemu(around: &Around<'_>, redirdev: &Redirdev) -> Result {
    of_qemu(around, redirdev.chardev.type_)
}

/// QEMU has one reader, and it holds one card.
pub(super) fn smartcard_qemu(around: &Around<'_>, card: &Smartcard) -> Result {
    let first = match &card.info.address {
        Some(Address::Ccid(at)) => at.controller == 0 && at.slot == 0,
        _ => around.whole(),
    };
    refuse! {
        around.domain.devices.smartcards.len() > 1 || !first =>
            QEMU.config_unsupported("this QEMU binary lacks multiple smartcard support");
    }
    of_qemu(around, card.type_.unwrap_or_default())
}

pub(super) fn console_qemu(around: &Around<'_>, console: &Console) -> Result {
    of_qemu(around, console.chardev.type_)?;
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
