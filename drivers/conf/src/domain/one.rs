//! One device by itself, as it is attached, updated and detached.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::device::DeviceInfo;
use super::{Devices, chardev, disk, display, misc, net};
use crate::FormatOptions;
use crate::table::{Element, write_document};
use crate::xml::Document;

/// Where a definition keeps its devices of one kind: a list, or a place for one.
trait Place<T> {
    fn each(&self) -> std::slice::Iter<'_, T>;
    fn last_one(&mut self) -> Option<&mut T>;
    fn put(&mut self, device: T);
    fn remove_at(&mut self, index: usize);
    fn put_at(&mut self, index: usize, device: T);
}

impl<T> Place<T> for Vec<T> {
    fn each(&self) -> std::slice::Iter<'_, T> {
        self.iter()
    }

    fn last_one(&mut self) -> Option<&mut T> {
        self.last_mut()
    }

    fn put(&mut self, device: T) {
        self.push(device);
    }

    fn remove_at(&mut self, index: usize) {
        self.remove(index);
    }

    fn put_at(&mut self, index: usize, device: T) {
        self[index] = device;
    }
}

impl<T> Place<T> for Option<T> {
    fn each(&self) -> std::slice::Iter<'_, T> {
        self.as_slice().iter()
    }

    fn last_one(&mut self) -> Option<&mut T> {
        self.as_mut()
    }

    fn put(&mut self, device: T) {
        *self = Some(device);
    }

    fn remove_at(&mut self, _index: usize) {
        *self = None;
    }

    fn put_at(&mut self, _index: usize, device: T) {
        *self = Some(device);
    }
}

fn is_named(info: Option<&DeviceInfo>, name: &str) -> bool {
    info.and_then(|info| info.alias.as_ref()).is_some_and(|alias| alias.name == name)
}

macro_rules! devices {
    ($($variant:ident($table:ty) = $name:literal in $list:ident $($info:ident)?,)*) => {
        /// A device of any kind.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "one at a time, and soon moved into a definition")]
        pub enum Device {
            $(#[doc = concat!("`<", $name, ">`")] $variant($table),)*
        }

        impl Device {
            /// Reads a device; the name of the root element says which kind it is.
            ///
            /// # Errors
            /// Malformed text, an unknown kind, or bad content.
            pub fn parse(xml: &str) -> Result<Self, VirtError> {
                let document = Document::parse(xml, ErrorDomain::DOMAIN)?;
                let root = document.root();
                match root.name() {
                    $($name => <$table>::read(root).map(Self::$variant),)*
                    name => {
                        let text = format_args!("unknown device type '{name}'");
                        Err(ErrorDomain::DOMAIN.config_unsupported(text))
                    }
                }
            }

            /// The name of its element.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// The device as text.
            pub fn to_xml(&self, options: &FormatOptions) -> String {
                match self {
                    $(Self::$variant(device) => write_document($name, device, options),)*
                }
            }

            /// Its address, name and place in the boot order.
            pub fn info(&self) -> Option<&DeviceInfo> {
                match self {
                    $(Self::$variant(_device) => info!(_device $($info)?),)*
                }
            }

            /// The same, to be changed.
            pub fn info_mut(&mut self) -> Option<&mut DeviceInfo> {
                match self {
                    $(Self::$variant(_device) => info_mut!(_device $($info)?),)*
                }
            }

            /// Puts it behind those of its kind.
            pub fn put(self, devices: &mut Devices) {
                match self {
                    $(Self::$variant(device) => devices.$list.put(device),)*
                }
            }

            /// The last of its kind.
            pub fn newest(&self, devices: &Devices) -> Option<Self> {
                match self {
                    $(Self::$variant(_) => devices.$list.each().last().cloned().map(Self::$variant),)*
                }
            }

            /// Address, name and place in the boot order of the last of its kind.
            pub fn newest_info<'d>(&self, devices: &'d mut Devices) -> Option<&'d mut DeviceInfo> {
                match self {
                    $(Self::$variant(_) => {
                        let _device = devices.$list.last_one()?;
                        info_mut!(_device $($info)?)
                    })*
                }
            }

            /// Those of its kind, in order.
            pub fn siblings(&self, devices: &Devices) -> Vec<Self> {
                match self {
                    $(Self::$variant(_) => devices.$list.each().cloned().map(Self::$variant).collect(),)*
                }
            }

            /// Takes the one at `index` among those of its kind out of a definition.
            pub fn take(&self, devices: &mut Devices, index: usize) {
                match self {
                    $(Self::$variant(_) => devices.$list.remove_at(index),)*
                }
            }

            /// Puts it in the place of the one at `index` among those of its kind.
            pub fn replace(self, devices: &mut Devices, index: usize) {
                match self {
                    $(Self::$variant(device) => devices.$list.put_at(index, device),)*
                }
            }
        }

        impl Devices {
            /// Addresses, names and places in the boot order of all devices.
            pub fn infos(&self) -> Vec<&DeviceInfo> {
                let mut all = Vec::new();
                $(all.extend(self.$list.each().filter_map(|_device| info!(_device $($info)?)));)*
                all
            }

            /// The device of this name.
            pub fn named(&self, name: &str) -> Option<Device> {
                $(
                    let is = |_device: &&$table| is_named(info!(_device $($info)?), name);
                    if let Some(device) = self.$list.each().find(is) {
                        return Some(Device::$variant(device.clone()));
                    }
                )*
                None
            }

            /// Takes the device of this name out.
            pub fn take_named(&mut self, name: &str) -> Option<Device> {
                $(
                    let is = |_device: &$table| is_named(info!(_device $($info)?), name);
                    if let Some(at) = self.$list.each().position(is) {
                        let device = self.$list.each().nth(at).cloned().map(Device::$variant);
                        self.$list.remove_at(at);
                        return device;
                    }
                )*
                None
            }

            /// The same, to be changed.
            pub(crate) fn infos_mut(&mut self) -> Vec<&mut DeviceInfo> {
                let mut all = Vec::new();
                $(all.extend(self.$list.iter_mut().filter_map(|_device| info_mut!(_device $($info)?)));)*
                all
            }
        }
    };
}

/// Leases, screens and audio backends are nothing that the guest could find anywhere.
macro_rules! info {
    ($device:ident) => {
        Some(&$device.info)
    };
    ($device:ident placeless) => {
        None::<&DeviceInfo>
    };
}

macro_rules! info_mut {
    ($device:ident) => {
        Some(&mut $device.info)
    };
    ($device:ident placeless) => {
        None
    };
}

devices! {
    Disk(disk::Disk) = "disk" in disks,
    Controller(misc::Controller) = "controller" in controllers,
    Lease(disk::Lease) = "lease" in leases placeless,
    Filesystem(disk::Filesystem) = "filesystem" in filesystems,
    Interface(net::Interface) = "interface" in interfaces,
    Smartcard(chardev::Smartcard) = "smartcard" in smartcards,
    Serial(chardev::Serial) = "serial" in serials,
    Parallel(chardev::Parallel) = "parallel" in parallels,
    Console(chardev::Console) = "console" in consoles,
    Channel(chardev::Channel) = "channel" in channels,
    Input(display::Input) = "input" in inputs,
    Tpm(misc::Tpm) = "tpm" in tpms,
    Graphics(display::Graphics) = "graphics" in graphics placeless,
    Sound(display::Sound) = "sound" in sounds,
    Audio(display::Audio) = "audio" in audios placeless,
    Video(display::Video) = "video" in videos,
    Hostdev(misc::Hostdev) = "hostdev" in hostdevs,
    Redirdev(chardev::Redirdev) = "redirdev" in redirdevs,
    Hub(misc::Hub) = "hub" in hubs,
    Watchdog(misc::Watchdog) = "watchdog" in watchdogs,
    Memballoon(misc::Memballoon) = "memballoon" in memballoon,
    Nvram(misc::NvramDevice) = "nvram" in nvram,
    Rng(chardev::Rng) = "rng" in rngs,
    Panic(misc::Panic) = "panic" in panics,
    Shmem(misc::Shmem) = "shmem" in shmems,
    Memory(misc::Memory) = "memory" in memories,
    Crypto(misc::Crypto) = "crypto" in cryptos,
    Iommu(misc::Iommu) = "iommu" in iommu,
    Vsock(misc::Vsock) = "vsock" in vsock,
    Pstore(misc::Pstore) = "pstore" in pstore,
}
