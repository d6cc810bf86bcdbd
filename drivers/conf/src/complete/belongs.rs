//! Parts that only some kinds of a device have: the others don't keep them.

use super::forms;
use crate::domain::chardev::{ChannelTargetType, CharMode, CharSource, CharType, Protocol};
use crate::domain::device::DeviceInfo;
use crate::domain::disk::{Filesystem, FilesystemSource, FilesystemType};
use crate::domain::display::{Audio, AudioStream, AudioType, Graphics, ListenType, VideoType};
use crate::domain::misc::{
    Controller, ControllerType, Memballoon, MemballoonModel, Memory, MemoryModel, MemorySourceDef,
    MemoryTarget,
};
use crate::domain::os::{Clock, ClockBasis, ClockOffset};
use crate::domain::{Devices, Domain};
use crate::table::KiB;

/// Drops all that.
pub(super) fn keep_own(domain: &mut Domain) {
    domain.clock.iter_mut().for_each(clock);
    let devices = &mut domain.devices;
    devices.controllers.iter_mut().for_each(controller);
    devices.memories.iter_mut().for_each(memory);
    devices.audios.iter_mut().for_each(audio);
    devices.filesystems.iter_mut().for_each(filesystem);
    devices.memballoon.iter_mut().for_each(balloon);
    devices.graphics.iter_mut().for_each(screen);
    channels(devices);
    for model in devices
        .videos
        .iter_mut()
        .filter(|video| video.model.as_ref().is_some_and(|model| model.type_ == VideoType::None))
    {
        model.driver = None;
        model.info = DeviceInfo { alias: model.info.alias.take(), ..DeviceInfo::default() };
    }
}

fn controller(controller: &mut Controller) {
    use ControllerType::{Pci, Usb, VirtioSerial, Xenbus};
    let kind = controller.type_;
    controller.ports.take_if(|_| !matches!(kind, VirtioSerial | Usb));
    controller.vectors.take_if(|_| kind != VirtioSerial);
    controller.max_grant_frames.take_if(|_| kind != Xenbus);
    controller.max_event_channels.take_if(|_| kind != Xenbus);
    if kind != Pci {
        controller.pci_model = None;
        controller.target = None;
    }
    let model = controller.model.as_deref();
    controller.pcihole64.take_if(|_| kind != Pci || !matches!(model, Some("pci-root" | "pcie-root")));
    controller.info.master.take_if(|_| kind == Usb && model == Some("none"));
}

fn memory(memory: &mut Memory) {
    use MemoryModel::{Dimm, Nvdimm, SgxEpc, VirtioMem, VirtioPmem};
    let model = memory.model;
    if let Some(source) = &mut memory.source {
        let whole = std::mem::take(source);
        *source = match model {
            Dimm | VirtioMem => MemorySourceDef { path: None, alignsize: None, pmem: false, ..whole },
            Nvdimm => MemorySourceDef { nodemask: None, pagesize: None, ..whole },
            VirtioPmem => MemorySourceDef { path: whole.path, ..MemorySourceDef::default() },
            SgxEpc => MemorySourceDef { nodemask: whole.nodemask, ..MemorySourceDef::default() },
        };
    }
    if let Some(target) = &mut memory.target {
        let whole = std::mem::take(target);
        let (label, readonly) = (whole.label.clone(), whole.readonly);
        let module = MemoryTarget { size: whole.size, node: whole.node, ..MemoryTarget::default() };
        *target = match model {
            Dimm | SgxEpc => module,
            Nvdimm => MemoryTarget { label, readonly, ..module },
            VirtioPmem => MemoryTarget { address: whole.address, ..module },
            VirtioMem => {
                let requested = whole.requested.or(Some(KiB(0)));
                MemoryTarget { label: None, readonly: false, requested, ..whole }
            }
        };
    }
}

/// Each way for sound has words of its own.
fn audio(audio: &mut Audio) {
    use AudioType::{Alsa, Coreaudio, File, Jack, Oss, Pipewire, Pulseaudio, Sdl};
    let kind = audio.type_;
    audio.path.take_if(|_| kind != File);
    audio.server_name.take_if(|_| kind != Pulseaudio);
    audio.runtime_dir.take_if(|_| kind != Pipewire);
    audio.driver.take_if(|_| kind != Sdl);
    audio.try_m_map.take_if(|_| kind != Oss);
    audio.exclusive.take_if(|_| kind != Oss);
    audio.dsp_policy.take_if(|_| kind != Oss);
    for stream in [&mut audio.input, &mut audio.output].into_iter().flatten() {
        let whole = std::mem::take(stream);
        let plain = AudioStream {
            mixing_engine: whole.mixing_engine,
            fixed_settings: whole.fixed_settings,
            voices: whole.voices,
            buffer_length: whole.buffer_length,
            settings: whole.settings,
            ..AudioStream::default()
        };
        *stream = match kind {
            Alsa => AudioStream { dev: whole.dev, ..plain },
            Coreaudio | Sdl => AudioStream { buffer_count: whole.buffer_count, ..plain },
            Jack => AudioStream {
                server_name: whole.server_name,
                client_name: whole.client_name,
                connect_ports: whole.connect_ports,
                exact_name: whole.exact_name,
                ..plain
            },
            Oss => AudioStream {
                dev: whole.dev,
                buffer_count: whole.buffer_count,
                try_poll: whole.try_poll,
                ..plain
            },
            Pulseaudio | Pipewire => AudioStream {
                name: whole.name,
                stream_name: whole.stream_name,
                latency: whole.latency,
                ..plain
            },
            _ => plain,
        };
    }
}

fn filesystem(shared: &mut Filesystem) {
    shared.source = shared.source.take().map(|whole| source(shared.type_, whole));
}

/// What is shared is in one place.
pub(super) fn source(kind: FilesystemType, whole: FilesystemSource) -> FilesystemSource {
    use FilesystemType::{Bind, Block, File, Mount, Ram, Template, Volume};
    let none = FilesystemSource::default();
    match kind {
        Mount if whole.socket.is_some() => FilesystemSource { socket: whole.socket, ..none },
        Mount | Bind => FilesystemSource { dir: whole.dir, ..none },
        File => FilesystemSource { file: whole.file, ..none },
        Block => FilesystemSource { dev: whole.dev, ..none },
        Template => FilesystemSource { name: whole.name, ..none },
        Ram => FilesystemSource { usage: whole.usage, units: whole.units, ..none },
        Volume => FilesystemSource { pool: whole.pool, volume: whole.volume, ..none },
    }
}

/// Whether what is shared is behind another's socket, who decides about all else.
pub(super) fn is_served(shared: &Filesystem) -> bool {
    shared.source.as_ref().is_some_and(|source| source.socket.is_some())
}

/// No balloon is nowhere, and one that isn't asked says nothing of times.
fn balloon(balloon: &mut Memballoon) {
    balloon.stats.take_if(|stats| stats.period == 0);
    if balloon.model == MemballoonModel::None {
        balloon.info = DeviceInfo::default();
    }
}

/// Who listens nowhere has no address.
fn screen(screen: &mut Graphics) {
    for listen in
        screen.listens.iter_mut().filter(|it| matches!(it.type_, ListenType::Socket | ListenType::None))
    {
        listen.address = None;
    }
    if screen.listens.first().is_some_and(|first| first.type_ == ListenType::Socket) {
        screen.websocket = None;
    }
    screen.passwd_valid_to.take_if(|_| screen.passwd.is_none());
}

fn channels(devices: &mut Devices) {
    for target in devices.channels.iter_mut().filter_map(|channel| channel.target.as_mut()) {
        if target.type_ != Some(ChannelTargetType::Guestfwd) {
            target.address = None;
            target.port = None;
        }
    }
    let ends = devices.serials.iter_mut().map(|d| &mut d.chardev);
    let ends = ends.chain(devices.parallels.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.consoles.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.channels.iter_mut().map(|d| &mut d.chardev));
    ends.for_each(|end| datagrams(end.type_, &mut end.source));
    for card in &mut devices.smartcards {
        keep_end(card.type_.unwrap_or_default(), &mut card.source, &mut card.protocol);
    }
    for backend in devices.rngs.iter_mut().filter_map(|rng| rng.backend.as_mut()) {
        keep_end(backend.type_.unwrap_or_default(), &mut backend.source, &mut backend.protocol);
    }
}

/// The host's end of something that is no character device to the guest: files of it have no labels.
fn keep_end(kind: CharType, sources: &mut Vec<CharSource>, protocol: &mut Option<Protocol>) {
    for source in sources.iter_mut() {
        forms::keep_for(kind, source);
        source.seclabel.clear();
    }
    datagrams(kind, sources);
    match kind {
        CharType::Pty | CharType::Null | CharType::Vc | CharType::Stdio | CharType::Spicevmc => {
            sources.clear()
        }
        CharType::Tcp => {
            protocol.get_or_insert_default();
            sources.iter_mut().for_each(|source| _ = source.mode.get_or_insert(CharMode::Connect));
        }
        _ => {}
    }
}

/// Of a socket for datagrams the own end comes first.
fn datagrams(kind: CharType, sources: &mut [CharSource]) {
    if kind == CharType::Udp {
        sources.iter_mut().for_each(|source| _ = source.mode.get_or_insert(CharMode::Connect));
        sources.sort_by_key(|source| source.mode != Some(CharMode::Bind));
    }
}

/// Each kind of clock is set in its own way.
fn clock(clock: &mut Clock) {
    let whole = std::mem::take(clock);
    let moved = whole.adjustment.as_deref().is_some_and(|text| text != "reset");
    let none = Clock { offset: whole.offset, timer: whole.timer, ..Clock::default() };
    *clock = match whole.offset {
        // A clock that is moved is one that goes its own way.
        ClockOffset::Utc | ClockOffset::Localtime if moved => {
            let local = whole.offset == ClockOffset::Localtime;
            let basis = if local { ClockBasis::Localtime } else { ClockBasis::Utc };
            let seconds = whole.adjustment.and_then(|text| text.parse::<i64>().ok());
            let adjustment = seconds.map(|seconds| seconds.to_string());
            Clock { offset: ClockOffset::Variable, adjustment, basis: Some(basis), ..none }
        }
        ClockOffset::Utc | ClockOffset::Localtime => Clock { adjustment: whole.adjustment, ..none },
        ClockOffset::Variable => {
            let known = whole.adjustment.and_then(|text| text.parse::<i64>().ok());
            let adjustment = Some(known.unwrap_or(0).to_string());
            Clock { adjustment, basis: whole.basis.or(Some(ClockBasis::Utc)), ..none }
        }
        ClockOffset::Timezone => Clock { timezone: whole.timezone, ..none },
        ClockOffset::Absolute => Clock { start: whole.start, ..none },
    };
}
