//! Video cards.

use virtwire_conf::domain::display::{Video, VideoBackend, VideoModel, VideoType};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::device::is_on;
use super::{Context, Device, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

/// KiB of memory that a card has where nothing is said.
const MEMORY: u32 = 16 << 10;

pub(super) fn videos(
    line: &mut CommandLine,
    domain: &Domain,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    for (place, video) in domain.devices.videos.iter().enumerate() {
        let Some(model) = video.model.as_ref().filter(|model| model.type_ != VideoType::None) else {
            continue;
        };
        let primary = model.primary.map_or(place == 0, |primary| primary == YesNo::Yes);
        if video.driver.as_ref().and_then(|driver| driver.name) == Some(VideoBackend::Vhostuser) {
            return Err(QEMU.operation_failed("Unable to find a satisfying vhost-user-gpu"));
        }
        // Those with the registers of a VGA are of boards that had one.
        let vga = primary
            && !matches!(context.caps.arch.as_str(), "aarch64" | "arm" | "ppc64" | "s390x" | "loongarch64");
        let vga = if model.type_ == VideoType::Virtio { vga } else { primary };
        let device = driver(video, model, vga)?.with("id", alias(&video.info));
        let size = model.resolution.as_ref();
        memory(device, model)
            .with_if("xres", size.map(|size| size.x))
            .with_if("yres", size.map(|size| size.y))
            .at(domain, &video.info)
            .add(line);
    }
    Ok(())
}

/// The card's driver; the first card is one that firmware can use.
fn driver(video: &Video, model: &VideoModel, primary: bool) -> Result<Device, VirtError> {
    let options = video.driver.as_ref().map(|driver| &driver.virtio);
    Ok(match (model.type_, primary) {
        (VideoType::Vga, _) => Device::new("VGA"),
        (VideoType::Cirrus, _) => Device::new("cirrus-vga"),
        (VideoType::Vmvga, _) => Device::new("vmware-svga"),
        (VideoType::Bochs, _) => Device::new("bochs-display"),
        (VideoType::Ramfb, _) => Device::new("ramfb"),
        (VideoType::Qxl, true) => Device::new("qxl-vga"),
        (VideoType::Qxl, false) => Device::new("qxl"),
        (VideoType::Virtio, true) => Device::new("virtio-vga").virtio_options(options),
        (VideoType::Virtio, false) => {
            Device::virtio("virtio-gpu", video.info.address.as_ref(), None, options)
        }
        (other, _) => {
            let text = format_args!("domain configuration does not support video model '{}'", other.as_str());
            return Err(QEMU.config_unsupported(text));
        }
    })
}

fn memory(device: Device, model: &VideoModel) -> Device {
    let bytes = |kib: Option<u32>| u64::from(kib.unwrap_or(MEMORY)) * 1024;
    let mebibytes = |kib: Option<u32>| kib.unwrap_or(MEMORY) / 1024;
    match model.type_ {
        VideoType::Vga | VideoType::Vmvga => device.with("vgamem_mb", mebibytes(model.vram)),
        VideoType::Bochs => device.with("vgamem", bytes(model.vram)),
        VideoType::Virtio => {
            device.with("max_outputs", model.heads.unwrap_or(1)).with_if("blob", model.blob.map(is_on))
        }
        VideoType::Qxl => device
            .with("max_outputs", model.heads.unwrap_or(1))
            .with("ram_size", u64::from(model.ram.unwrap_or(65536)) * 1024)
            .with("vram_size", u64::from(model.vram.unwrap_or(65536)) * 1024)
            .with("vram64_size_mb", model.vram64.unwrap_or(0) / 1024)
            .with("vgamem_mb", mebibytes(model.vgamem)),
        _ => device,
    }
}
