//! Devices other than disks: what all drivers fill in.

use std::collections::BTreeSet;

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{belongs, companions, drives, forms, nwfilter};
use crate::domain::Domain;
use crate::domain::chardev::{
    CharMode, CharType, Chardev, Console, ConsoleTarget, ConsoleTargetType, ParallelTarget, Protocol, Serial,
    SerialTarget, SerialTargetType,
};
use crate::domain::device::{Address, CcidAddress, UsbMaster};
use crate::domain::disk::{AccessMode, FilesystemType};
use crate::domain::display::SoundModel;
use crate::domain::display::{
    Graphics, GraphicsType, InputBus, InputType, Listen, ListenType, Video, VideoModel, VideoType,
};
use crate::domain::misc::{Controller, ControllerType, HostdevType};
use crate::domain::net::{Coalesce, Interface, InterfaceType};
use crate::table::{AnyBase, Hex, Mac, Value};
use crate::{OnOff, YesNo};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// Before the driver's own part.
pub(super) fn begin(domain: &mut Domain) -> Result<(), VirtError> {
    forms::keep_own(domain);
    belongs::keep_own(domain);
    controllers(domain)?;
    for interface in &mut domain.devices.interfaces {
        complete_interface(interface)?;
    }
    characters(domain)?;
    for graphics in &mut domain.devices.graphics {
        complete_graphics(graphics)?;
    }
    for hostdev in &mut domain.devices.hostdevs {
        hostdev.managed.get_or_insert(YesNo::No);
        if hostdev.type_ == HostdevType::Mdev && hostdev.model.as_deref() == Some("vfio-pci") {
            hostdev.display.get_or_insert(OnOff::Off);
        }
        if let Some(source) = hostdev.source.as_mut().filter(|_| hostdev.type_ == HostdevType::Pci) {
            let address = source.address.get_or_insert_default();
            address.domain.get_or_insert_default();
            address.bus.get_or_insert_with(|| "0".to_owned());
            address.slot.get_or_insert_default();
            address.function.get_or_insert_default();
        }
        let address = hostdev.source.as_mut().and_then(|source| source.address.as_mut());
        if let Some(bus) = address.and_then(|address| address.bus.as_mut())
            && hostdev.type_ == HostdevType::Usb
            && let Ok(Some(number)) = AnyBase::parse(bus)
        {
            *bus = number.show().into_owned();
        }
        let address = hostdev.source.as_mut().and_then(|source| source.address.as_mut());
        if let Some(bus) = address.and_then(|address| address.bus.as_mut())
            && hostdev.type_ == HostdevType::Pci
            && let Ok(Some(number)) = Hex::<2>::parse(bus)
        {
            *bus = number.show().into_owned();
        }
        if let Some(source) = hostdev.source.as_mut().filter(|s| s.protocol.as_deref() == Some("iscsi")) {
            source.name = source.name.take().map(drives::with_lun);
            for host in &mut source.host {
                host.port.get_or_insert_with(|| "3260".to_owned());
            }
        }
    }
    let devices = &mut domain.devices;
    for sound in devices.sounds.iter_mut().filter(|s| s.model == SoundModel::Virtio) {
        sound.streams.get_or_insert(2);
    }
    for (slot, smartcard) in (0..).zip(&mut devices.smartcards) {
        if smartcard.type_ != Some(CharType::Tcp) {
            smartcard.protocol = None;
        }
        smartcard.info.address.get_or_insert(Address::Ccid(CcidAddress { controller: 0, slot }));
    }
    for filesystem in domain.devices.filesystems.iter_mut().filter(|f| f.type_ == FilesystemType::Mount) {
        if !belongs::is_served(filesystem) {
            filesystem.accessmode.get_or_insert(AccessMode::Passthrough);
        }
    }
    console_compat(domain);
    drives::begin(domain)
}

/// After the driver's own part.
pub(super) fn finish(domain: &mut Domain) -> Result<(), VirtError> {
    for input in &mut domain.devices.inputs {
        let ps2 = matches!(input.type_, InputType::Mouse | InputType::Keyboard);
        match input.type_ {
            InputType::Evdev => {}
            InputType::Passthrough => {
                input.bus.get_or_insert(InputBus::Virtio);
            }
            _ => {
                input.bus.get_or_insert(if ps2 { InputBus::Ps2 } else { InputBus::Usb });
            }
        }
        input.bus.take_if(|bus| *bus == InputBus::None);
    }
    if domain.devices.videos.is_empty() && !domain.devices.graphics.is_empty() {
        domain.devices.videos.push(Video { model: Some(VideoModel::default()), ..Video::default() });
    }
    Ok(())
}

/// Numbers for controllers that have none: the next free one of their kind.
fn controllers(domain: &mut Domain) -> Result<(), VirtError> {
    let mut sorted: Vec<Controller> = Vec::with_capacity(domain.devices.controllers.len());
    let mut all = std::mem::take(&mut domain.devices.controllers);
    for n in 0..all.len() {
        let type_ = all[n].type_;
        if all[n].index.is_none() {
            let taken: BTreeSet<i32> =
                all.iter().filter(|c| c.type_ == type_).filter_map(|c| c.index).collect();
            // Companions share the number of their master.
            let companion = type_ == ControllerType::Usb && all[n].info.master.is_some();
            let shared = taken.last().copied().filter(|_| companion).or_else(|| joined(&all[..n], &all[n]));
            all[n].index = shared.or_else(|| (0..).find(|index| !taken.contains(index)));
        }
    }
    for mut controller in all {
        let first = match controller.model.as_deref() {
            Some("ich9-uhci1") => Some(0),
            Some("ich9-uhci2") => Some(2),
            Some("ich9-uhci3") => Some(4),
            _ => None,
        };
        if let Some(startport) = first {
            controller.info.master.get_or_insert(UsbMaster { startport });
        }
        drives::insert_controller(&mut sorted, controller);
    }
    domain.devices.controllers = sorted;
    Ok(())
}

/// A controller of ICH9 right behind others of it has their number, unless one of its model has it.
fn joined(before: &[Controller], controller: &Controller) -> Option<i32> {
    let own = |c: &Controller| {
        c.type_ == ControllerType::Usb
            && c.model.as_deref().is_some_and(|model| companions::function(model).is_some())
    };
    let last = before.last().filter(|last| own(controller) && own(last))?;
    let taken = before.iter().any(|c| own(c) && c.index == last.index && c.model == controller.model);
    last.index.filter(|_| !taken)
}

fn complete_interface(interface: &mut Interface) -> Result<(), VirtError> {
    let kind = interface.type_;
    let source = interface.source.as_ref();
    let missing = |what: &str| {
        Err(DOMAIN.xml_error(format_args!("interface type='{kind}' requires a '{what}' element")))
    };
    let without = |attribute: &str| {
        let text = format_args!("Missing required attribute '{attribute}' in element 'source'");
        Err(ErrorDomain::XML.xml_error(text))
    };
    let needs_source = matches!(
        kind,
        InterfaceType::Network
            | InterfaceType::Bridge
            | InterfaceType::Direct
            | InterfaceType::Hostdev
            | InterfaceType::Internal
            | InterfaceType::Vdpa
            | InterfaceType::Vds
            | InterfaceType::Server
            | InterfaceType::Client
            | InterfaceType::Mcast
            | InterfaceType::Udp
    );
    refuse! {
        kind == InterfaceType::Hostdev && source.is_none_or(|source| source.pci.is_none()) =>
            DOMAIN.config_unsupported("unknown host device source address type '(null)'");
        kind == InterfaceType::Vhostuser && !forms::passt(interface) && source.is_none_or(|s| s.path.is_none()) =>
            QEMU.xml_error("Missing required attribute 'path' in element 'source'");
    }
    let Some(source) = source else {
        if needs_source {
            return missing("source");
        }
        mac(interface);
        return Ok(());
    };
    match kind {
        InterfaceType::Network if source.network.is_none() => return without("network"),
        InterfaceType::Bridge if source.bridge.is_none() => return without("bridge"),
        InterfaceType::Direct if source.dev.is_none() => return without("dev"),
        InterfaceType::Internal if source.name.is_none() => return without("name"),
        InterfaceType::Vdpa if source.dev.is_none() => return without("dev"),
        InterfaceType::Vds if source.switchid.is_none() => return without("switchid"),
        InterfaceType::Client | InterfaceType::Mcast | InterfaceType::Udp if source.address.is_none() => {
            return without("address");
        }
        InterfaceType::Server | InterfaceType::Client | InterfaceType::Mcast | InterfaceType::Udp
            if source.port.is_none() =>
        {
            return without("port");
        }
        _ => {}
    }
    mac(interface);
    identify(interface);
    if let Some(source) = interface.source.as_mut().filter(|_| kind == InterfaceType::Direct) {
        source.mode.get_or_insert_with(|| "vepa".to_owned());
    }
    if kind == InterfaceType::Vhostuser {
        interface.filterref = None;
        if let Some(source) = interface.source.as_mut().filter(|source| source.path.is_some()) {
            source.type_.get_or_insert_with(|| "unix".to_owned());
            source.mode.get_or_insert_with(|| "client".to_owned());
        }
    }
    interface.filterref.iter_mut().for_each(|filter| nwfilter::complete_parameters(&mut filter.parameter));
    let still = |c: &Coalesce| c.rx.as_ref().and_then(|rx| rx.frames.as_ref()?.max).unwrap_or(0) == 0;
    interface.coalesce = interface.coalesce.take().filter(|c| !still(c));
    Ok(())
}

/// A port of a switch has the names by which the switch knows it; of what type it is, a network may say.
fn identify(interface: &mut Interface) {
    let Some(port) = &mut interface.virtualport else { return };
    let kind = port.type_.as_deref();
    let (instance, own) =
        (matches!(kind, None | Some("802.1Qbg")), matches!(kind, None | Some("openvswitch")));
    if instance || own {
        let parameters = port.parameters.get_or_insert_default();
        if instance {
            parameters.instanceid.get_or_insert_with(uuid::Uuid::new_v4);
        }
        if own {
            parameters.interfaceid.get_or_insert_with(uuid::Uuid::new_v4);
        }
    }
}

fn mac(interface: &mut Interface) {
    let mac = interface.mac.get_or_insert_default();
    mac.address.get_or_insert_with(|| Mac::random([0x52, 0x54, 0x00]));
}

/// Sources that a kind of host end must have, and port numbers.
fn characters(domain: &mut Domain) -> Result<(), VirtError> {
    let devices = &mut domain.devices;
    let ends = devices.serials.iter_mut().map(|d| &mut d.chardev);
    let ends = ends.chain(devices.parallels.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.consoles.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.channels.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.redirdevs.iter_mut().map(|d| &mut d.chardev));
    for chardev in ends {
        complete_chardev(chardev);
    }
    for (n, serial) in (0..).zip(&mut devices.serials) {
        serial.target.get_or_insert_with(SerialTarget::default).port.get_or_insert(n);
    }
    for (n, parallel) in (0..).zip(&mut devices.parallels) {
        parallel.target.get_or_insert_with(ParallelTarget::default).port.get_or_insert(n);
    }
    for (n, console) in (0..).zip(&mut devices.consoles) {
        let target = console.target.get_or_insert_with(ConsoleTarget::default);
        target.type_.get_or_insert(ConsoleTargetType::Serial);
        target.port = Some(n);
    }
    Ok(())
}

/// The first console may be a serial port, and no other.
pub(super) fn check_consoles(domain: &Domain) -> Result<(), VirtError> {
    let serial = |console: &Console| {
        console.target.as_ref().and_then(|target| target.type_) == Some(ConsoleTargetType::Serial)
    };
    refuse! {
        domain.devices.consoles.iter().skip(1).any(serial) =>
            DOMAIN.config_unsupported("Only the first console can be a serial port");
    }
    Ok(())
}

fn complete_chardev(chardev: &mut Chardev) {
    if chardev.type_ == CharType::Unix {
        chardev.source.retain(|s| s.path.is_some());
    }
    if chardev.type_ != CharType::Tcp {
        chardev.protocol = None;
    }
    match chardev.type_ {
        CharType::Tcp => {
            chardev.protocol.get_or_insert_with(Protocol::default);
            chardev.source.iter_mut().for_each(|s| _ = s.mode.get_or_insert(CharMode::Connect));
        }
        CharType::Unix => {
            chardev.source.iter_mut().for_each(|s| _ = s.mode.get_or_insert(CharMode::Connect));
        }
        CharType::Pty | CharType::Null | CharType::Vc | CharType::Stdio | CharType::Spicevmc => {
            // What belongs to one run is not stored.
            chardev.source.clear();
            chardev.tty = None;
        }
        _ => {}
    }
}

/// A console that is a serial port has one to be; a guest with a serial port has a console on it.
fn console_compat(domain: &mut Domain) {
    let devices = &mut domain.devices;
    let serial_console =
        |console: &Console| console.target.as_ref().and_then(|t| t.type_) == Some(ConsoleTargetType::Serial);
    if domain.os.type_.as_ref().is_none_or(|t| t.name != "hvm") {
        return;
    }
    // What is plugged in is no console of the board's.
    let plugged = |serial: &Serial| {
        let kind = serial.target.as_ref().and_then(|target| target.type_);
        matches!(
            kind,
            Some(SerialTargetType::UsbSerial | SerialTargetType::PciSerial | SerialTargetType::IsaDebug)
        )
    };
    match devices.consoles.first().filter(|c| serial_console(c)) {
        Some(console) if devices.serials.is_empty() => {
            let target = SerialTarget { port: Some(0), ..SerialTarget::default() };
            let chardev = console.chardev.clone();
            devices.serials.push(Serial { chardev, target: Some(target), info: console.info.clone() });
        }
        None if devices.serials.first().is_some_and(|serial| !plugged(serial)) => {
            let target = ConsoleTarget { type_: Some(ConsoleTargetType::Serial), port: Some(0) };
            devices.consoles.insert(0, Console { target: Some(target), ..Console::default() });
            for (n, target) in (0..).zip(devices.consoles.iter_mut().filter_map(|c| c.target.as_mut())) {
                target.port = Some(n);
            }
        }
        _ => {}
    }
    // The first such console is the first serial port seen from the other side.
    if let (Some(console), Some(serial)) =
        (devices.consoles.first_mut().filter(|c| serial_console(c)), devices.serials.first())
    {
        console.chardev = serial.chardev.clone();
        console.info = serial.info.clone();
        if let (Some(target), Some(of)) = (&mut console.target, &serial.target) {
            target.port = of.port;
        }
    }
}

fn complete_graphics(graphics: &mut Graphics) -> Result<(), VirtError> {
    let listens = matches!(graphics.type_, GraphicsType::Vnc | GraphicsType::Spice | GraphicsType::Rdp);
    if !listens {
        return Ok(());
    }
    listen(graphics)?;
    let socket = graphics.listens.first().is_some_and(|l| l.type_ == ListenType::Socket);
    let none = graphics.listens.first().is_some_and(|l| l.type_ == ListenType::None);
    if socket || none {
        graphics.port = None;
        graphics.tls_port = None;
        graphics.autoport = None;
        return Ok(());
    }
    match graphics.type_ {
        GraphicsType::Vnc => {
            let open = if matches!(graphics.port, None | Some(-1)) { YesNo::Yes } else { YesNo::No };
            let auto = *graphics.autoport.get_or_insert(open) == YesNo::Yes;
            graphics.port =
                if auto { Some(-1) } else { graphics.port.filter(|port| !matches!(port, -1 | 0)) };
        }
        GraphicsType::Spice => {
            let auto = graphics.autoport == Some(YesNo::Yes)
                || (graphics.port == Some(-1) && graphics.tls_port == Some(-1));
            if auto {
                graphics.autoport = Some(YesNo::Yes);
                graphics.port = None;
                graphics.tls_port = None;
            } else {
                graphics.port.get_or_insert(0);
                graphics.autoport = Some(YesNo::No);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The attribute `listen` and the first `<listen>` say the same.
fn listen(graphics: &mut Graphics) -> Result<(), VirtError> {
    if let Some(socket) = graphics.socket.clone().filter(|_| graphics.type_ == GraphicsType::Vnc) {
        let first = graphics.listens.first().filter(|first| first.type_ == ListenType::Socket);
        let other = first.and_then(|first| first.socket.as_ref()).filter(|other| **other != socket);
        refuse! {
            other.is_some() => DOMAIN.config_unsupported(
                "graphics 'socket' attribute '{socket}' must match 'socket' attribute of first listen element (found '{}')",
                other.cloned().unwrap_or_default()
            );
        }
        let listen = Listen { type_: ListenType::Socket, socket: Some(socket), ..Listen::default() };
        match graphics.listens.first_mut() {
            Some(first) => *first = listen,
            None => graphics.listens.push(listen),
        }
    }
    let silent = graphics.port.is_none() && graphics.tls_port.is_none() && graphics.autoport.is_none();
    if graphics.listens.is_empty()
        && graphics.type_ == GraphicsType::Spice
        && silent
        && graphics.listen_attr.is_none()
    {
        graphics.listens.push(Listen { type_: ListenType::None, ..Listen::default() });
    }
    if graphics.listens.is_empty() {
        let address = graphics.listen_attr.clone();
        graphics.listens.push(Listen { type_: ListenType::Address, address, ..Listen::default() });
    }
    let first = &mut graphics.listens[0];
    if first.type_ == ListenType::Address && first.address.as_deref() == Some("") {
        first.address = None;
    }
    match first.type_ {
        ListenType::Address => {
            if let (Some(attribute), Some(address)) = (&graphics.listen_attr, &first.address)
                && attribute != address
            {
                return Err(DOMAIN.config_unsupported(format_args!(
                    "graphics 'listen' attribute '{attribute}' must match 'address' attribute of first listen element (found '{address}')"
                )));
            }
            graphics.listen_attr = first.address.clone();
        }
        ListenType::Network => {
            graphics.listen_attr = None;
            first.address = None;
        }
        ListenType::Socket => {
            graphics.listen_attr = None;
            graphics.socket = first.socket.clone().filter(|_| graphics.type_ == GraphicsType::Vnc);
        }
        ListenType::None => graphics.listen_attr = None,
    }
    Ok(())
}

/// What a video card has unless told otherwise.
pub(super) fn complete_videos(domain: &mut Domain, default: VideoType) {
    // The primary one comes first.
    let primary = |video: &Video| video.model.as_ref().is_some_and(|model| model.primary == Some(YesNo::Yes));
    let videos = &mut domain.devices.videos;
    if let Some(place) = videos.iter().position(primary) {
        videos[..=place].rotate_right(1);
    }
    for (n, video) in videos.iter_mut().enumerate() {
        let model = video.model.get_or_insert_default();
        if model.type_ == VideoType::Default {
            model.type_ = default;
        }
        match model.type_ {
            VideoType::Cirrus | VideoType::Vga | VideoType::Vmvga | VideoType::Bochs => {
                model.vram.get_or_insert(16384);
            }
            VideoType::Qxl => {
                model.ram.get_or_insert(65536);
                model.vram.get_or_insert(65536);
                model.vgamem.get_or_insert(16384);
            }
            _ => {}
        }
        if model.type_ != VideoType::None {
            model.heads.get_or_insert(1);
            for size in [&mut model.ram, &mut model.vram].into_iter().flatten() {
                *size = size.checked_next_power_of_two().unwrap_or(*size);
            }
            model.primary = model.primary.filter(|p| *p == YesNo::Yes);
            if n == 0 {
                model.primary = Some(YesNo::Yes);
            }
        }
    }
}
