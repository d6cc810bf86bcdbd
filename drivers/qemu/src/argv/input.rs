//! USB hubs, input devices, smart cards and redirected USB devices.

use virtwire_conf::Domain;
use virtwire_conf::YesNo;
use virtwire_conf::domain::chardev::{
    CharType, Chardev, Redirdev, Redirfilter, Smartcard, SmartcardMode, UsbDevFilter,
};
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::display::{Input, InputBus, InputType};
use virtwire_conf::domain::misc::ControllerType;
use virtwire_protocol::VirtError;

use super::chardev::HostEnd;
use super::device::controller;
use super::{Context, Json, alias};
use crate::command::CommandLine;

pub(super) fn hubs(line: &mut CommandLine, domain: &Domain) {
    for hub in &domain.devices.hubs {
        Json::new("usb-hub").with("id", alias(&hub.info)).at(domain, &hub.info).add(line);
    }
}

/// PS/2 devices are the machine's own; others are plugged in.
pub(super) fn input(line: &mut CommandLine, domain: &Domain, input: &Input) {
    match (input.type_, input.bus) {
        (InputType::Evdev, _) => evdev(input).add(line),
        (kind, Some(InputBus::Usb)) => {
            let driver = match kind {
                InputType::Tablet => "usb-tablet",
                InputType::Keyboard => "usb-kbd",
                _ => "usb-mouse",
            };
            Json::new(driver).with("id", alias(&input.info)).at(domain, &input.info).add(line);
        }
        (_, Some(InputBus::Virtio)) => virtio_input(input).at(domain, &input.info).add(line),
        _ => {}
    }
}

/// A device of the host's whose events the guest's own devices get.
fn evdev(input: &Input) -> Json {
    let source = input.source.as_ref();
    let grab_all = source.and_then(|source| source.grab.as_deref()).map(|grab| grab == "all");
    Json::object("input-linux", alias(&input.info))
        .with_if("evdev", source.and_then(|source| source.dev.clone()))
        .switch("repeat", source.and_then(|source| source.repeat))
        .with_if("grab_all", grab_all)
        .with_if("grab-toggle", source.and_then(|source| source.grab_toggle.clone()))
}

fn virtio_input(input: &Input) -> Json {
    let base = match input.type_ {
        InputType::Tablet => "virtio-tablet",
        InputType::Keyboard => "virtio-keyboard",
        InputType::Passthrough => "virtio-input-host",
        InputType::Mouse | InputType::Evdev => "virtio-mouse",
    };
    let options = input.driver.as_ref().map(|driver| &driver.virtio);
    let device = Json::virtio(base, input.info.address.as_ref(), input.model, options);
    let evdev = input.source.as_ref().and_then(|source| source.evdev.clone());
    device.with("id", alias(&input.info)).with_if("evdev", evdev)
}

/// Where certificates of smart cards are, if nothing is said.
const NSS_DATABASE: &str = "/etc/pki/nssdb";

pub(super) fn smart_cards(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    for card in &domain.devices.smartcards {
        let device = smart_card(line, card, context)?.with("id", alias(&card.info));
        let device = match &card.info.address {
            Some(Address::Ccid(at)) => {
                let bus = controller(domain, ControllerType::Ccid, at.controller.into()).unwrap_or("ccid0");
                device.with("bus", format!("{bus}.0"))
            }
            _ => device,
        };
        device.add(line);
    }
    Ok(())
}

fn smart_card(line: &mut CommandLine, card: &Smartcard, context: &Context<'_>) -> Result<Json, VirtError> {
    let emulated = Json::new("ccid-card-emulated");
    Ok(match card.mode {
        SmartcardMode::Host => emulated.with("backend", "nss-emulated"),
        SmartcardMode::HostCertificates => {
            let names = ["cert1", "cert2", "cert3"].into_iter().zip(&card.certificate);
            let device = emulated.with("backend", "certificates");
            names
                .fold(device, |device, (name, value)| device.with(name, value.as_str()))
                .with("db", card.database.as_deref().unwrap_or(NSS_DATABASE))
        }
        SmartcardMode::Passthrough => {
            let name = alias(&card.info);
            let chardev = Chardev {
                type_: card.type_.unwrap_or(CharType::Pty),
                source: card.source.clone(),
                protocol: card.protocol.clone(),
                log: card.log.clone(),
                ..Chardev::default()
            };
            HostEnd::from(&chardev).add(line, name, context.chardevs())?;
            Json::new("ccid-card-passthru").with("chardev", format!("char{name}"))
        }
    })
}

pub(super) fn redirected(
    line: &mut CommandLine,
    domain: &Domain,
    redirdev: &Redirdev,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let name = alias(&redirdev.info);
    HostEnd::from(&redirdev.chardev).add(line, name, context.chardevs())?;
    Json::new("usb-redir")
        .with("chardev", format!("char{name}"))
        .with("id", name)
        .with_if("filter", domain.devices.redirfilter.as_ref().map(filter))
        .with_if("bootindex", redirdev.info.boot.as_ref().map(|boot| boot.order.get()))
        .at(domain, &redirdev.info)
        .add(line);
    Ok(())
}

fn filter(filter: &Redirfilter) -> String {
    filter.usbdev.iter().map(rule).collect::<Vec<_>>().join("|")
}

/// `class:vendor:product:version:allow`, -1 for whatever it is.
fn rule(rule: &UsbDevFilter) -> String {
    let any = |part: &Option<String>| part.clone().unwrap_or_else(|| "-1".to_owned());
    // The version is written in decimal and told in BCD.
    let version = rule.version.as_deref().and_then(|version| version.split_once('.'));
    let version =
        version.map_or_else(|| "-1".to_owned(), |(major, minor)| format!("0x{major:0>2}{minor:0>2}"));
    let allow = u8::from(rule.allow == YesNo::Yes);
    format!("{}:{}:{}:{version}:{allow}", any(&rule.class), any(&rule.vendor), any(&rule.product))
}
