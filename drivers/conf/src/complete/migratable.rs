//! What a definition says to hosts that may be older: nothing that they would add by themselves.

use super::board::{Chipset, chipset};
use super::qemu::usual_audio;
use crate::domain::Domain;
use crate::domain::display::{Audio, AudioType, GraphicsType, InputBus, InputType, ListenType};
use crate::domain::misc::{Controller, ControllerType, Watchdog, WatchdogModel};

impl Domain {
    /// The definition for `VIR_DOMAIN_XML_MIGRATABLE`.
    #[must_use]
    pub fn migratable(&self) -> Self {
        let mut domain = self.clone();
        let i440fx = chipset(self) == Chipset::I440fx;
        let devices = &mut domain.devices;
        let usb = devices.controllers.iter().filter(|c| c.type_ == ControllerType::Usb).count();
        let pci = devices.controllers.iter().filter(|c| c.type_ == ControllerType::Pci).count();
        let is_default = |c: &Controller| {
            let model = c.model.as_deref().unwrap_or_default();
            c.index == Some(0)
                && c.info.alias.is_none()
                && c.pcihole64.is_none()
                && match c.type_ {
                    ControllerType::Usb => i440fx && usb == 1 && model == "piix3-uhci",
                    ControllerType::Pci => pci == 1 && model == "pci-root",
                    _ => false,
                }
        };
        devices.controllers.retain(|c| !is_default(c));
        devices.inputs.retain(|i| !(i.type_ == InputType::Keyboard && i.bus == Some(InputBus::Ps2)));
        if let [audio] = devices.audios.as_slice()
            && *audio == (Audio { id: 1, type_: AudioType::None, ..Audio::default() })
            && usual_audio(&devices.graphics) == Some(AudioType::None)
        {
            devices.audios.clear();
        }
        let added = Watchdog { model: WatchdogModel::Itco, ..Watchdog::default() };
        devices.watchdogs.retain(|w| w.model != added.model || w.action != added.action);
        for graphics in devices.graphics.iter_mut().filter(|g| g.type_ == GraphicsType::Vnc) {
            if graphics.socket.is_some() {
                graphics.listens.retain(|l| l.type_ != ListenType::Socket);
            }
        }
        domain
    }
}
