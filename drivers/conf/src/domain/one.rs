//! One device by itself, as it is attached, updated and detached.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{chardev, disk, display, misc, net};
use crate::FormatOptions;
use crate::table::{Element, write_document};
use crate::xml::Document;

macro_rules! devices {
    ($($variant:ident($table:ty) = $name:literal,)*) => {
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
                        Err(ErrorDomain::DOMAIN.xml_error(text))
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
        }
    };
}

devices! {
    Disk(disk::Disk) = "disk",
    Controller(misc::Controller) = "controller",
    Lease(disk::Lease) = "lease",
    Filesystem(disk::Filesystem) = "filesystem",
    Interface(net::Interface) = "interface",
    Smartcard(chardev::Smartcard) = "smartcard",
    Serial(chardev::Serial) = "serial",
    Parallel(chardev::Parallel) = "parallel",
    Console(chardev::Console) = "console",
    Channel(chardev::Channel) = "channel",
    Input(display::Input) = "input",
    Tpm(misc::Tpm) = "tpm",
    Graphics(display::Graphics) = "graphics",
    Sound(display::Sound) = "sound",
    Audio(display::Audio) = "audio",
    Video(display::Video) = "video",
    Hostdev(misc::Hostdev) = "hostdev",
    Redirdev(chardev::Redirdev) = "redirdev",
    Hub(misc::Hub) = "hub",
    Watchdog(misc::Watchdog) = "watchdog",
    Memballoon(misc::Memballoon) = "memballoon",
    Rng(chardev::Rng) = "rng",
    Panic(misc::Panic) = "panic",
    Shmem(misc::Shmem) = "shmem",
    Memory(misc::Memory) = "memory",
    Crypto(misc::Crypto) = "crypto",
    Iommu(misc::Iommu) = "iommu",
    Vsock(misc::Vsock) = "vsock",
    Pstore(misc::Pstore) = "pstore",
}
