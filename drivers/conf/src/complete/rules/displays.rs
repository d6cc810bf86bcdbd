//! What a guest shows, plays and is typed at.

use virtwire_protocol::ErrorDomain;

use super::small::{is_special, misplaced};
use super::{Around, Result};
use crate::YesNo;
use crate::domain::Domain;
use crate::domain::display::{
    Audio, AudioStream, AudioType, Graphics, GraphicsType, Input, InputBus, InputType, ListenType, Sound,
    SoundModel, Video, VideoBackend, VideoType,
};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

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

/// Everything in this file that no driver could do.
pub(super) fn check(domain: &Domain) -> Result {
    let devices = &domain.devices;
    devices.graphics.iter().try_for_each(screen)?;
    devices.videos.iter().try_for_each(card)?;
    devices.audios.iter().try_for_each(audio)?;
    devices.inputs.iter().try_for_each(input)?;
    devices.sounds.iter().try_for_each(sound)
}

fn screen(screen: &Graphics) -> Result {
    let kind = screen.type_;
    for listen in &screen.listens {
        let network = listen.network.as_deref().is_some_and(|name| !name.is_empty());
        let socket = matches!(kind, GraphicsType::Vnc | GraphicsType::Spice);
        refuse! {
            listen.type_ == ListenType::Socket && !socket => DOMAIN.config_unsupported(
                "listen type 'socket' is not available for graphics type '{}'", kind.as_str());
            listen.type_ == ListenType::None && kind != GraphicsType::Spice => DOMAIN.config_unsupported(
                "listen type 'none' is not available for graphics type '{}'", kind.as_str());
            listen.type_ == ListenType::Network && !network =>
                DOMAIN.xml_error("'network' attribute is required for listen type 'network'");
        }
    }
    let until = screen.passwd_valid_to.as_deref();
    let date = |text: &str| {
        let digits = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b });
        digits.eq(b"0000-00-00T00:00:00".iter().copied())
    };
    refuse! {
        screen.passwd.is_some() && until.is_some_and(|text| !date(text)) => DOMAIN.internal_error(
            "cannot parse password validity time '{}', expect YYYY-MM-DDTHH:MM:SS", until.unwrap_or_default());
    }
    Ok(())
}

fn card(video: &Video) -> Result {
    let Some(model) = &video.model else { return Ok(()) };
    let options = video.driver.clone().unwrap_or_default();
    let user = options.name == Some(VideoBackend::Vhostuser);
    let virtio = model.type_ == VideoType::Virtio;
    let accelerated = model.acceleration.as_ref();
    refuse! {
        user && !virtio => DOMAIN.config_unsupported("'vhostuser' driver is only supported with 'virtio' device");
        model.type_ != VideoType::Qxl && model.ram.is_some() =>
            DOMAIN.xml_error("ram attribute only supported for video type qxl");
        model.type_ != VideoType::Qxl && model.vram64.is_some() =>
            DOMAIN.xml_error("vram64 attribute only supported for video type qxl");
        accelerated.is_some_and(|a| a.rendernode.is_some()) && !user =>
            DOMAIN.config_unsupported("unsupported rendernode accel attribute without 'vhostuser'");
        model.blob.is_some() && !virtio =>
            DOMAIN.config_unsupported("blob is not supported by video type '{}'", model.type_.as_str());
    }
    misplaced(&options.virtio, virtio)
}

fn audio(audio: &Audio) -> Result {
    refuse! {
        audio.id == 0 => XML.xml_error("Invalid value for attribute 'id' in element 'audio': Zero is not permitted");
    }
    let streams = [&audio.input, &audio.output].into_iter().flatten();
    streams.into_iter().try_for_each(stream)
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

fn input(input: &Input) -> Result {
    let virtio = input.bus == Some(InputBus::Virtio);
    refuse! {
        input.model.is_some() && !virtio => DOMAIN.config_unsupported(
            "only bus 'virtio' is supported for input model '{}'",
            input.model.unwrap_or_default().as_str()
        );
    }
    Ok(())
}

fn sound(sound: &Sound) -> Result {
    let options = sound.driver.clone().unwrap_or_default();
    refuse! {
        // No bus takes it.
        sound.model == SoundModel::Ich7 => DOMAIN.internal_error(
            "Cannot automatically add a new PCI bus for a device with connect flags 00"
        );
        sound.audio.as_ref().is_some_and(|audio| audio.id == 0) => XML.xml_error(
            "Invalid value for attribute 'id' in element 'audio': Zero is not permitted");
    }
    misplaced(&options.virtio, sound.model == SoundModel::Virtio || sound.driver.is_none())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let devices = &around.domain.devices;
    let shown = |kind| devices.graphics.iter().any(|screen| screen.type_ == kind);
    for screen in &devices.graphics {
        let kind = screen.type_;
        let unknown = matches!(kind, GraphicsType::Rdp | GraphicsType::Desktop);
        refuse! {
            unknown => QEMU.config_unsupported("{} graphics are not supported with this QEMU", kind.as_str());
        }
    }
    for input in &devices.inputs {
        refuse! {
            input.type_ == InputType::Passthrough && is_special(input.model) => QEMU.config_unsupported(
                "virtio (non-)transitional models are not supported for input type=passthrough");
        }
    }
    for video in devices.videos.iter().filter_map(|video| video.model.as_ref()) {
        let many = video.heads.is_some_and(|heads| heads > 1);
        let size = video.resolution.as_ref();
        refuse! {
            many && !matches!(video.type_, VideoType::Qxl | VideoType::Virtio | VideoType::None) =>
                QEMU.config_unsupported("video type '{}' doesn't support multiple 'heads'", video.type_.as_str());
            size.is_some_and(|size| size.x == 0 || size.y == 0) =>
                DOMAIN.config_unsupported("video resolution values must be greater than 0");
        }
    }
    for audio in &devices.audios {
        refuse! {
            audio.type_ == AudioType::Spice && !shown(GraphicsType::Spice) =>
                QEMU.config_unsupported("Spice audio is not supported without spice graphics");
        }
    }
    Ok(())
}
