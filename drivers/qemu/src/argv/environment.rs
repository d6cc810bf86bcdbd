//! The environment in which QEMU runs.

use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::domain::display::{Audio, AudioType, GraphicsType};
use virtwire_conf::domain::os::ClockOffset;

use crate::policy::Policy;

/// Names and values: QEMU's own directories, then what the definition asks for.
pub(crate) fn environment(domain: &Domain, dir: &Path, policy: &Policy) -> Vec<(String, String)> {
    let below = |name: &str| dir.join(name).display().to_string();
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let own = [
        ("LC_ALL", "C".to_owned()),
        ("PATH", path),
        ("HOME", dir.display().to_string()),
        ("XDG_DATA_HOME", below(".local/share")),
        ("XDG_CACHE_HOME", below(".cache")),
        ("XDG_CONFIG_HOME", below(".config")),
    ];
    let mut all: Vec<(String, String)> = Vec::new();
    // What is said again is meant.
    let mut set = |name: &str, value: &str| match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => all.push((name.to_owned(), value.to_owned())),
    };
    own.iter().for_each(|(name, value)| set(name, value));
    let clock = domain.clock.as_ref();
    if let Some(zone) =
        clock.filter(|clock| clock.offset == ClockOffset::Timezone).and_then(|c| c.timezone.as_deref())
    {
        set("TZ", zone);
    }
    domain.devices.audios.iter().filter_map(audio).for_each(|(name, value)| set(name, value));
    for screen in &domain.devices.graphics {
        let screens = match screen.type_ {
            GraphicsType::Vnc => &policy.vnc,
            GraphicsType::Spice => &policy.spice,
            _ => continue,
        };
        if let Some(dir) = screens.sasl_dir.as_deref().filter(|_| screens.sasl) {
            set("SASL_CONF_PATH", dir);
        }
    }
    for screen in domain.devices.graphics.iter().filter(|screen| screen.type_ == GraphicsType::Sdl) {
        if let Some(authority) = &screen.xauth {
            set("XAUTHORITY", authority);
        }
        if let Some(display) = &screen.display {
            set("DISPLAY", display);
        }
    }
    for variable in domain.qemu_commandline.iter().flat_map(|more| &more.env) {
        set(&variable.name, variable.value.as_deref().unwrap_or_default());
    }
    all
}

/// What a sound system's library reads.
fn audio(audio: &Audio) -> Option<(&'static str, &str)> {
    match audio.type_ {
        AudioType::Sdl => Some(("SDL_AUDIODRIVER", audio.driver.as_deref()?)),
        AudioType::Pipewire => Some(("PIPEWIRE_RUNTIME_DIR", audio.runtime_dir.as_deref()?)),
        _ => None,
    }
}
