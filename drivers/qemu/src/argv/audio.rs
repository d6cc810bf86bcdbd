//! What the guest is heard by: audio backends and sound cards.

use serde_json::{Map, Value};
use virtwire_conf::domain::display::{Audio, AudioStream, AudioType, GraphicsType, Sound, SoundModel};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::{Device, Json, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

/// The id of a backend, as devices know it.
fn id(number: u32) -> String {
    format!("audio{number}")
}

/// The backend that a device names, else the first.
pub(super) fn backend_of(domain: &Domain, named: Option<u32>) -> Option<String> {
    named.or_else(|| domain.devices.audios.first().map(|audio| audio.id)).map(id)
}

/// Every `-audiodev`.
pub(super) fn backends(line: &mut CommandLine, domain: &Domain) {
    domain.devices.audios.iter().for_each(|audio| backend(audio).add(line));
}

fn backend(audio: &Audio) -> Json {
    let driver = match audio.type_ {
        AudioType::File => "wav",
        AudioType::Pulseaudio => "pa",
        other => other.as_str(),
    };
    let truth = |answer: Option<YesNo>| answer.map(|answer| answer == YesNo::Yes);
    Json::begin("-audiodev", "id", id(audio.id))
        .with("driver", driver)
        .with_if("timer-period", audio.timer_period.filter(|period| *period > 0))
        .with_if("path", audio.path.clone())
        .with_if("server", audio.server_name.clone())
        .with_if("try-mmap", truth(audio.try_m_map))
        .with_if("exclusive", truth(audio.exclusive))
        .with_if("dsp-policy", audio.dsp_policy)
        .with_if(
            "in",
            audio.input.as_ref().map(|side| stream(audio.type_, side)).filter(|side| !side.is_empty()),
        )
        .with_if(
            "out",
            audio.output.as_ref().map(|side| stream(audio.type_, side)).filter(|side| !side.is_empty()),
        )
}

/// One direction of a backend.
fn stream(kind: AudioType, side: &AudioStream) -> Map<String, Value> {
    let truth = |answer: Option<YesNo>| answer.map(|answer| Value::Bool(answer == YesNo::Yes));
    let number = |number: Option<u32>| number.filter(|number| *number > 0).map(Value::from);
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let settings = side.settings.as_ref();
    let polls = if kind == AudioType::Oss { truth(side.try_poll) } else { None };
    let members = [
        ("mixing-engine", truth(side.mixing_engine)),
        ("fixed-settings", truth(side.fixed_settings)),
        ("voices", number(side.voices)),
        ("buffer-length", number(side.buffer_length)),
        ("frequency", number(settings.and_then(|settings| settings.frequency))),
        ("channels", number(settings.and_then(|settings| settings.channels))),
        ("format", settings.and_then(|settings| text(&settings.format))),
        ("server-name", text(&side.server_name)),
        ("client-name", text(&side.client_name)),
        ("connect-ports", text(&side.connect_ports)),
        ("exact-name", truth(side.exact_name)),
        ("dev", text(&side.dev)),
        ("buffer-count", number(side.buffer_count)),
        ("try-poll", polls),
        ("name", text(&side.name)),
        ("stream-name", text(&side.stream_name)),
        ("latency", number(side.latency)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The backend of the speaker that the machine has by itself.
pub(super) fn speaker(domain: &Domain) -> Option<String> {
    let speaker = domain.devices.sounds.iter().find(|sound| sound.model == SoundModel::Pcspk)?;
    backend_of(domain, speaker.audio.as_ref().map(|audio| audio.id))
}

/// Sound cards.
pub(super) fn cards(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    domain.devices.sounds.iter().try_for_each(|sound| card(line, domain, sound))
}

fn card(line: &mut CommandLine, domain: &Domain, sound: &Sound) -> Result<(), VirtError> {
    let (name, address) = (alias(&sound.info), sound.info.address.as_ref());
    let backend = backend_of(domain, sound.audio.as_ref().map(|audio| audio.id));
    let none = || QEMU.internal_error("unable to find audio backend for sound device");
    let backend = backend.ok_or_else(none)?;
    // High Definition Audio has the sound on devices of its own bus.
    let is_hda = matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich9);
    let options = sound.driver.as_ref().map(|driver| &driver.virtio);
    let device = match sound.model {
        SoundModel::Pcspk => return Ok(()),
        SoundModel::Es1370 => Device::new("ES1370"),
        SoundModel::Ac97 => Device::new("AC97"),
        SoundModel::Sb16 => Device::new("sb16"),
        SoundModel::Ich6 => Device::new("intel-hda"),
        SoundModel::Ich9 => Device::new("ich9-intel-hda"),
        SoundModel::Usb => Device::new("usb-audio"),
        SoundModel::Virtio => Device::virtio("virtio-sound", address, None, options),
        SoundModel::Ich7 => return Err(QEMU.config_unsupported("sound card model 'ich7' is not supported")),
    };
    let multi =
        sound.multichannel.map(|multi| multi == YesNo::Yes).filter(|_| sound.model == SoundModel::Usb);
    let streams = (sound.model == SoundModel::Virtio).then(|| sound.streams.unwrap_or(2));
    device
        .with("id", name)
        .with_if("audiodev", (!is_hda).then(|| backend.clone()))
        .with_if("multi", multi)
        .with_if("streams", streams)
        .at(domain, &sound.info)
        .add(line);
    if is_hda {
        codecs(line, sound, &backend);
    }
    Ok(())
}

fn codecs(line: &mut CommandLine, sound: &Sound, backend: &str) {
    let name = alias(&sound.info);
    let named: Vec<&str> = sound.codec.iter().map(|codec| codec.type_.as_str()).collect();
    let kinds = if named.is_empty() { vec!["duplex"] } else { named };
    for (number, kind) in kinds.into_iter().enumerate() {
        Device::new(format!("hda-{kind}"))
            .with("id", format!("{name}-codec{number}"))
            .with("bus", format!("{name}.0"))
            .with("cad", number)
            .with("audiodev", backend)
            .add(line);
    }
}

/// The backend that viewers of the guest's screen hear.
pub(super) fn of_screen(domain: &Domain, kind: GraphicsType, named: Option<u32>) -> Option<String> {
    match kind {
        GraphicsType::Vnc => backend_of(domain, named),
        _ => named.map(id),
    }
}
