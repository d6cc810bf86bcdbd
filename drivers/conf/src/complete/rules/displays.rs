//! What a guest shows, plays and is typed at.

use virtwire_protocol::ErrorDomain;

use super::small::{is_special, misplaced};
use super::{Around, Result};
use crate::complete::board;
use crate::domain::Domain;
use crate::domain::device::Address;
use crate::domain::display::{
    Audio, AudioStream, AudioType, Connected, Graphics, GraphicsType, Input, InputBus, InputType, ListenType,
    Sound, SoundModel, Video, VideoBackend, VideoType,
};
use crate::domain::tune::MemorySource;
use crate::{OnOff, YesNo};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// Characters of a password that VNC looks at.
const VNC_SECRET: usize = 8;

/// What shows once each device can be.
pub(super) fn together(domain: &Domain) -> Result {
    let primary =
        |video: &&Video| video.model.as_ref().is_some_and(|model| model.primary == Some(YesNo::Yes));
    refuse! {
        domain.devices.videos.iter().filter(primary).count() > 1 =>
            DOMAIN.config_unsupported("Only one primary video device is supported");
    }
    Ok(())
}

/// Ways of SDL for sound.
const SDL_DRIVERS: [&str; 4] = ["esd", "alsa", "arts", "pulseaudio"];

fn audio_as_written(audio: &Audio) -> Result {
    let driver = audio.driver.as_deref().filter(|_| audio.type_ == AudioType::Sdl);
    let silent = |stream: &Option<AudioStream>| stream.as_ref().is_some_and(|it| it.voices == Some(0));
    let streams = [("input", silent(&audio.input)), ("output", silent(&audio.output))];
    let silent = streams.into_iter().find(|(_, silent)| *silent).map(|(name, _)| name);
    refuse! {
        driver.is_some_and(|driver| !SDL_DRIVERS.contains(&driver)) => XML.xml_error(
            "Invalid value for attribute 'driver' in element 'audio': '{}'.", driver.unwrap_or_default());
        silent.is_some() => XML.xml_error(
            "Invalid value for attribute 'voices' in element '{}': Zero is not permitted",
            silent.unwrap_or_default());
    }
    let streams = [&audio.input, &audio.output].into_iter().flatten();
    streams.into_iter().try_for_each(stream)
}

/// What shows of input devices as they are read.
pub(super) fn inputs(domain: &Domain) -> Result {
    for it in &domain.devices.inputs {
        let nameless = it.source.as_ref().is_some_and(|source| source.dev.is_none());
        refuse! {
            it.type_ == InputType::Evdev && nameless => DOMAIN.xml_error("Missing evdev path for input device");
            it.bus == Some(InputBus::Usb) && !matches!(it.info.address, None | Some(Address::Usb(_))) =>
                DOMAIN.xml_error("Invalid address for a USB device");
        }
    }
    Ok(())
}

/// What shows of screens as they are read.
pub(super) fn screens(domain: &Domain) -> Result {
    let silent = |screen: &Graphics| {
        matches!(screen.type_, GraphicsType::Sdl | GraphicsType::Spice | GraphicsType::Dbus)
            && screen.gl.as_ref().is_some_and(|gl| gl.enable.is_none())
    };
    refuse! {
        domain.devices.graphics.iter().any(silent) =>
            XML.xml_error("Missing required attribute 'enable' in element 'gl'");
    }
    Ok(())
}

/// What shows of ways for sound as they are read.
pub(super) fn audios(domain: &Domain) -> Result {
    domain.devices.audios.iter().try_for_each(audio_as_written)
}

pub(super) fn screen(around: &Around<'_>, screen: &Graphics) -> Result {
    let kind = screen.type_;
    for listen in &screen.listens {
        let network = listen.network.as_deref().is_some_and(|name| !name.is_empty());
        let socket = matches!(kind, GraphicsType::Vnc | GraphicsType::Spice);
        refuse! {
            listen.type_ != ListenType::Socket && listen.socket.is_some() =>
                DOMAIN.xml_error("'socket' attribute is valid only for listen type 'socket'");
            listen.type_ != ListenType::Network && listen.network.is_some() =>
                DOMAIN.xml_error("'network' attribute is valid only for listen type 'network'");
            listen.type_ == ListenType::Socket && !socket => DOMAIN.config_unsupported(
                "listen type 'socket' is not available for graphics type '{}'", kind.as_str());
            listen.type_ == ListenType::None && !socket => DOMAIN.config_unsupported(
                "listen type 'none' is not available for graphics type '{}'", kind.as_str());
            listen.type_ == ListenType::Network && !network =>
                DOMAIN.xml_error("'network' attribute is required for listen type 'network'");
        }
    }
    let wanted = screen.audio.as_ref().map(|audio| audio.id).filter(|_| kind == GraphicsType::Vnc);
    let unknown = wanted.filter(|id| around.domain.devices.audios.iter().all(|audio| audio.id != *id));
    refuse! {
        unknown.is_some() => DOMAIN.xml_error("no audio device with ID {}", unknown.unwrap_or_default());
    }
    let keeps = matches!(screen.connected, None | Some(Connected::Keep));
    let own = screen.p2p == Some(YesNo::Yes) && screen.address.is_some();
    let until = screen.passwd_valid_to.as_deref();
    let date = |text: &str| {
        let digits = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b });
        digits.eq(b"0000-00-00T00:00:00".iter().copied())
    };
    refuse! {
        kind == GraphicsType::Vnc && screen.passwd.is_some() && !keeps =>
            DOMAIN.config_unsupported("VNC supports connected='keep' only");
        kind == GraphicsType::Dbus && own => DOMAIN.xml_error("D-Bus p2p with an address is not supported");
        screen.passwd.is_some() && until.is_some_and(|text| !date(text)) => DOMAIN.internal_error(
            "cannot parse password validity time '{}', expect YYYY-MM-DDTHH:MM:SS", until.unwrap_or_default());
    }
    Ok(())
}

pub(super) fn card(around: &Around<'_>, video: &Video) -> Result {
    let Some(model) = &video.model else { return Ok(()) };
    let options = video.driver.clone().unwrap_or_default();
    let user = options.name == Some(VideoBackend::Vhostuser);
    let virtio = model.type_ == VideoType::Virtio;
    let accelerated = model.acceleration.as_ref();
    let all = &around.domain.devices.videos;
    let several = all.len() > 1;
    let none = |video: &Video| video.model.as_ref().is_some_and(|model| model.type_ == VideoType::None);
    refuse! {
        several && all.iter().any(none) => DOMAIN.config_unsupported(
            "a 'none' video type must be the only video device defined for the domain");
        user && !virtio => DOMAIN.config_unsupported("'vhostuser' driver is only supported with 'virtio' device");
        model.type_ != VideoType::Qxl && model.ram.is_some() =>
            DOMAIN.config_unsupported("ram attribute only supported for video type qxl");
        model.type_ != VideoType::Qxl && model.vram64.is_some() =>
            DOMAIN.config_unsupported("vram64 attribute only supported for video type qxl");
        model.type_ != VideoType::Qxl && model.vgamem.is_some() =>
            DOMAIN.config_unsupported("vgamem attribute only supported for video type qxl");
        accelerated.is_some_and(|a| a.rendernode.is_some()) && !user =>
            DOMAIN.config_unsupported("unsupported rendernode accel attribute without 'vhostuser'");
        model.blob.is_some() && !virtio =>
            DOMAIN.config_unsupported("video type '{}' does not support blob resources", model.type_.as_str());
    }
    misplaced(&options.virtio, virtio)
}

pub(super) fn audio(around: &Around<'_>, audio: &Audio) -> Result {
    refuse! {
        around.domain.devices.audios.iter().filter(|other| other.id == audio.id).count() > 1 =>
            DOMAIN.xml_error("audio ID {} is used multiple times", audio.id);
        audio.dsp_policy.is_some_and(|policy| policy < 0) => DOMAIN.xml_error(
            "cannot parse 'dspPolicy' value '{}'", audio.dsp_policy.unwrap_or_default());
        audio.id == 0 => XML.xml_error("Invalid value for attribute 'id' in element 'audio': Zero is not permitted");
    }
    Ok(())
}

fn stream(stream: &AudioStream) -> Result {
    let fixed = stream.fixed_settings == Some(YesNo::Yes);
    refuse! {
        fixed && stream.mixing_engine != Some(YesNo::Yes) =>
            DOMAIN.config_unsupported("fixed audio settings requires mixing engine");
        stream.settings.is_some() && !fixed =>
            DOMAIN.config_unsupported("audio settings specified without fixed settings flag");
    }
    Ok(())
}

pub(super) fn input(around: &Around<'_>, input: &Input) -> Result {
    let (kind, bus) = (input.type_, input.bus);
    let virtio = bus == Some(InputBus::Virtio);
    let of_old = matches!(kind, InputType::Mouse | InputType::Keyboard);
    let whole = around.domain.os.type_.as_ref().is_some_and(|kind| kind.name == "hvm");
    let ports = around.domain.features.as_ref().and_then(|features| features.ps2.as_ref());
    let without = ports.is_some_and(|ports| ports.state == OnOff::Off);
    refuse! {
        whole && bus == Some(InputBus::Ps2) && !of_old => DOMAIN.internal_error(
            "ps2 bus does not support {} input device", kind.as_str());
        bus == Some(InputBus::Ps2) && without =>
            DOMAIN.config_unsupported("ps2 bus inputs require the ps2 feature not to be disabled");
        whole && bus == Some(InputBus::Xen) => DOMAIN.internal_error("unsupported input bus xen");
        kind == InputType::Evdev && !matches!(bus, None | Some(InputBus::None)) =>
            DOMAIN.config_unsupported("input evdev doesn't support bus element");
        kind == InputType::Passthrough && !matches!(bus, None | Some(InputBus::Virtio)) => DOMAIN.config_unsupported(
            "only bus 'virtio' is supported for 'passthrough' input devices");
        input.model.is_some() && !virtio => DOMAIN.config_unsupported(
            "only bus 'virtio' is supported for input model '{}'",
            input.model.unwrap_or_default().as_str()
        );
    }
    Ok(())
}

pub(super) fn sound(around: &Around<'_>, sound: &Sound) -> Result {
    let options = sound.driver.clone().unwrap_or_default();
    let id = sound.audio.as_ref().map(|audio| audio.id);
    let unknown = id.filter(|id| around.domain.devices.audios.iter().all(|audio| audio.id != *id));
    refuse! {
        // No bus takes it.
        sound.model == SoundModel::Ich7 => DOMAIN.internal_error(
            "Cannot automatically add a new PCI bus for a device with connect flags 00"
        );
        sound.streams == Some(0) => XML.xml_error(
            "Invalid value for attribute 'streams' in element 'sound': Zero is not permitted");
        sound.audio.as_ref().is_some_and(|audio| audio.id == 0) => XML.xml_error(
            "Invalid value for attribute 'id' in element 'audio': Zero is not permitted");
        unknown.is_some() => DOMAIN.xml_error("no audio device with ID {}", unknown.unwrap_or_default());
    }
    misplaced(&options.virtio, sound.model == SoundModel::Virtio || sound.driver.is_none())
}

/// What QEMU does not show.
pub(super) fn screen_qemu(around: &Around<'_>, screen: &Graphics) -> Result {
    let kind = screen.type_;
    let all = &around.domain.devices.graphics;
    let drawn =
        all.len() < 2 || all.iter().any(|it| matches!(it.type_, GraphicsType::Vnc | GraphicsType::Spice));
    let secret = screen.passwd.as_ref().map_or(0, String::len);
    let wanted = screen.audio.as_ref().map(|audio| audio.id);
    let audio = around.domain.devices.audios.iter().find(|audio| Some(audio.id) == wanted);
    refuse! {
        kind == GraphicsType::EglHeadless && !drawn => QEMU.config_unsupported(
            "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types");
        kind == GraphicsType::Vnc && secret > VNC_SECRET => QEMU.config_unsupported(
            "VNC password is {secret} characters long, only {VNC_SECRET} permitted");
        matches!(kind, GraphicsType::Rdp | GraphicsType::Desktop) =>
            QEMU.config_unsupported("{} graphics are not supported with this QEMU", kind.as_str());
        kind == GraphicsType::Spice && !around.has("chardev-spicevmc") =>
            QEMU.config_unsupported("spice graphics are not supported with this QEMU");
        kind == GraphicsType::Dbus && audio.is_some_and(|audio| audio.type_ != AudioType::Dbus) =>
            QEMU.config_unsupported("The associated audio is not of 'dbus' kind.");
    }
    Ok(())
}

/// What QEMU is not typed at.
pub(super) fn input_qemu(around: &Around<'_>, input: &Input) -> Result {
    let ports = !around.chipset.is_foreign() && board::has_ps2(around.domain);
    refuse! {
        input.bus == Some(InputBus::Ps2) && !ports => QEMU.config_unsupported("ps2 is not supported by this QEMU binary");
        input.type_ != InputType::Evdev && is_special(input.model) => QEMU.config_unsupported(
            "virtio (non-)transitional models are not supported for input type={}", input.type_.as_str());
    }
    Ok(())
}

/// What QEMU's cards are not.
pub(super) fn card_qemu(around: &Around<'_>, video: &Video) -> Result {
    let Some(model) = &video.model else { return Ok(()) };
    let many = model.heads.is_some_and(|heads| heads != 1);
    let size = model.resolution.as_ref();
    let accelerated = model.acceleration.clone().unwrap_or_default();
    let sized = matches!(model.type_, VideoType::Vga | VideoType::Qxl | VideoType::Virtio | VideoType::Bochs);
    let backing = around.domain.memory_backing.as_ref().and_then(|backing| backing.source.as_ref()?.type_);
    let yes = |answer: Option<YesNo>| answer == Some(YesNo::Yes);
    refuse! {
        yes(accelerated.accel2d) => QEMU.config_unsupported("qemu does not support the accel2d setting");
        yes(accelerated.accel3d) && model.type_ != VideoType::Virtio =>
            QEMU.config_unsupported("3d acceleration is supported only with 'virtio' video device");
        model.vgamem.is_some_and(|size| !size.is_power_of_two()) =>
            QEMU.config_unsupported("value for 'vgamem' must be power of two");
        model.blob == Some(OnOff::On) && backing != Some(MemorySource::Memfd) => QEMU.config_unsupported(
            "'blob' support for virtio-gpu devices requires a memfd memory backend");
        size.is_some() && !sized => QEMU.xml_error("model resolution is not supported");
        many && !matches!(model.type_, VideoType::Qxl | VideoType::Virtio | VideoType::None) =>
            QEMU.config_unsupported("video type '{}' doesn't support multiple 'heads'", model.type_.as_str());
        size.is_some_and(|size| size.x == 0 || size.y == 0) =>
            DOMAIN.config_unsupported("video resolution values must be greater than 0");
    }
    card_of(around, video)
}

/// Video cards and the QEMU devices that they are, first and otherwise; none for those that only come first.
const CARDS: &[(VideoType, &[&str], bool)] = &[
    (VideoType::Vga, &["VGA"], false),
    (VideoType::Cirrus, &["cirrus-vga"], false),
    (VideoType::Vmvga, &["vmware-svga"], false),
    (VideoType::Ramfb, &["ramfb"], false),
    (VideoType::Qxl, &["qxl-vga", "qxl"], true),
    (VideoType::Virtio, &["virtio-gpu-pci", "virtio-gpu-device", "vhost-user-gpu"], true),
    (VideoType::Bochs, &["bochs-display"], true),
];

/// Whether QEMU has a card, and can have it there.
fn card_of(around: &Around<'_>, video: &Video) -> Result {
    let Some(model) = &video.model else { return Ok(()) };
    let kind = model.type_;
    let videos = &around.domain.devices.videos;
    // One that is being added is the last, and never the first.
    let first = videos.first().filter(|_| !around.is_new("video") || videos.len() > 1);
    let first = first.is_some_and(|first| std::ptr::eq(first, video));
    let (devices, anywhere) = match CARDS.iter().find(|(card, ..)| *card == kind) {
        Some((_, devices, anywhere)) => (*devices, *anywhere),
        None if kind == VideoType::None => return Ok(()),
        None => (&["-"][..], true),
    };
    let own = video.driver.as_ref().and_then(|driver| driver.name) != Some(VideoBackend::Vhostuser);
    let accelerated = own && model.acceleration.as_ref().and_then(|a| a.accel3d) == Some(YesNo::Yes);
    refuse! {
        !devices.iter().any(|device| around.has(device)) =>
            QEMU.config_unsupported("domain configuration does not support video model '{kind}'");
        !first && !anywhere => QEMU.config_unsupported("video type '{kind}' is only valid as primary video device");
        accelerated && kind == VideoType::Virtio && !around.has("virtio-gpu-gl-pci") =>
            QEMU.config_unsupported("3d acceleration is not supported by this QEMU binary");
    }
    Ok(())
}

/// What QEMU does not play.
pub(super) fn audio_qemu(around: &Around<'_>, audio: &Audio) -> Result {
    let spice = around.domain.devices.graphics.iter().any(|screen| screen.type_ == GraphicsType::Spice);
    refuse! {
        audio.type_ == AudioType::Spice && !spice =>
            QEMU.config_unsupported("Spice audio is not supported without spice graphics");
    }
    Ok(())
}
