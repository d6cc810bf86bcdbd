//! Video cards.

use virtwire_conf::Domain;
use virtwire_conf::domain::display::VideoType;
use virtwire_protocol::VirtError;

use super::{Device, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

pub(super) fn videos(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for (index, video) in domain.devices.videos.iter().enumerate() {
        let Some(model) = &video.model else { continue };
        let name = alias(&video.info);
        let memory = |kib: Option<u32>| kib.unwrap_or(16384) / 1024;
        let device = match model.type_ {
            VideoType::None => continue,
            VideoType::Vga => Device::new("VGA").with("id", name).with("vgamem_mb", memory(model.vram)),
            VideoType::Cirrus => Device::new("cirrus-vga").with("id", name),
            VideoType::Bochs => {
                let bytes = u64::from(model.vram.unwrap_or(16384)) * 1024;
                Device::new("bochs-display").with("id", name).with("vgamem", bytes)
            }
            VideoType::Virtio => {
                let driver = if index == 0 { "virtio-vga" } else { "virtio-gpu-pci" };
                Device::new(driver).with("id", name).with("max_outputs", model.heads.unwrap_or(1))
            }
            VideoType::Qxl => {
                let driver = if index == 0 { "qxl-vga" } else { "qxl" };
                Device::new(driver)
                    .with("id", name)
                    .with("max_outputs", model.heads.unwrap_or(1))
                    .with("ram_size", u64::from(model.ram.unwrap_or(65536)) * 1024)
                    .with("vram_size", u64::from(model.vram.unwrap_or(65536)) * 1024)
                    .with("vram64_size_mb", memory(model.vram64.or(Some(0))))
                    .with("vgamem_mb", memory(model.vgamem))
            }
            other => {
                let text = format_args!("video cards of type '{}' cannot be started yet", other.as_str());
                return Err(QEMU.config_unsupported(text));
            }
        };
        device.at(domain, &video.info).add(line);
    }
    Ok(())
}
