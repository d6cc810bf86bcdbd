//! The order in which devices are looked at: each by itself, first as what it is, then as what QEMU makes of it.

use super::{
    Around, Result, boards, characters, controllers, disks, displays, filesystems, hostdevs, memory, net,
    small, throttle,
};

/// Screens and ways for sound are nothing that the guest could find anywhere.
macro_rules! about {
    ($check:ident, $around:ident, $device:ident) => {
        small::$check($around, &$device.info)?
    };
    ($check:ident, $around:ident, $device:ident placeless) => {};
    ($check:ident, $around:ident, $device:ident lent) => {
        if stringify!($check) == "about_qemu" {
            small::about_qemu($around, &$device.info)?
        }
    };
}

macro_rules! in_order {
    ($($kind:literal in $list:ident $($where:ident)?: [$($of_itself:path),*] then [$($of_qemu:path),*];)*) => {
        /// Whether each device can be.
        pub(super) fn check(around: &Around<'_>) -> Result {
            $(for device in around.domain.devices.$list.iter() {
                about!(about, around, device $($where)?);
                $($of_itself(around, device)?;)*
                about!(about_qemu, around, device $($where)?);
                $($of_qemu(around, device)?;)*
            })*
            Ok(())
        }

        /// Whether each device can be, whoever makes it.
        pub(super) fn check_itself(around: &Around<'_>) -> Result {
            $(for _device in around.domain.devices.$list.iter() {
                about!(about, around, _device $($where)?);
                $($of_itself(around, _device)?;)*
            })*
            Ok(())
        }

        /// Whether one device of a kind can be.
        pub(super) fn check_one(around: &Around<'_>, kind: &str, at: usize) -> Result {
            match kind {
                $($kind => if let Some(device) = around.domain.devices.$list.as_slice().get(at) {
                    about!(about, around, device $($where)?);
                    $($of_itself(around, device)?;)*
                    about!(about_qemu, around, device $($where)?);
                    $($of_qemu(around, device)?;)*
                })*
                _ => {}
            }
            Ok(())
        }
    };
}

in_order! {
    "disk" in disks: [disks::check] then [disks::check_qemu, throttle::check_qemu];
    "interface" in interfaces: [net::check] then [net::check_qemu];
    "sound" in sounds: [displays::sound] then [];
    "hostdev" in hostdevs lent: [hostdevs::check] then [hostdevs::check_qemu];
    "video" in videos: [displays::card] then [displays::card_qemu];
    "controller" in controllers: [controllers::check] then [controllers::check_qemu];
    "smartcard" in smartcards: [characters::smartcard] then [characters::smartcard_qemu];
    "serial" in serials: [characters::serial] then [characters::serial_qemu];
    "parallel" in parallels: [characters::parallel] then [characters::parallel_qemu];
    "channel" in channels: [characters::channel] then [characters::channel_qemu];
    "console" in consoles: [characters::console] then [characters::console_qemu];
    "input" in inputs: [displays::input] then [displays::input_qemu];
    "filesystem" in filesystems: [filesystems::check] then [filesystems::check_qemu];
    "watchdog" in watchdogs: [] then [small::watchdog];
    "memballoon" in memballoon: [] then [boards::balloon];
    "rng" in rngs: [characters::rng] then [characters::rng_qemu];
    "nvram" in nvram: [] then [small::nvram];
    "shmem" in shmems: [small::shmem] then [small::shmem_qemu, boards::shmem];
    "tpm" in tpms: [] then [small::tpm];
    "memory" in memories: [memory::module] then [memory::module_qemu];
    "redirdev" in redirdevs: [characters::redirdev] then [characters::redirdev_qemu];
    "hub" in hubs: [] then [];
    "iommu" in iommu: [small::iommu] then [small::iommu_qemu];
    "vsock" in vsock: [] then [];
    "crypto" in cryptos: [] then [small::crypto];
    "pstore" in pstore: [small::pstore] then [small::pstore_qemu];
    "graphics" in graphics placeless: [displays::screen] then [displays::screen_qemu];
    "audio" in audios placeless: [displays::audio] then [displays::audio_qemu];
}
