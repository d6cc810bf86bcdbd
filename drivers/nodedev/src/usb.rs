//! USB devices and their interfaces.

use virtwire_conf::nodedev::{Identifier, UsbCapability, UsbDeviceCapability};

use crate::sysfs::Facts;

pub(crate) fn device(facts: &Facts<'_>) -> UsbDeviceCapability {
    let number = |key| facts.property(key).and_then(|number| number.parse().ok());
    let text = |key: &str| facts.property(key).map(str::to_owned);
    let identifier = |id: Option<String>, name| Some(Identifier { id: id.map(|id| format!("0x{id}")), name });
    UsbDeviceCapability {
        bus: number("BUSNUM"),
        device: number("DEVNUM"),
        product: identifier(text("ID_MODEL_ID"), text("ID_MODEL_FROM_DATABASE")),
        vendor: identifier(text("ID_VENDOR_ID"), text("ID_VENDOR_FROM_DATABASE")),
    }
}

pub(crate) fn interface(facts: &Facts<'_>) -> UsbCapability {
    let number = |name| u32::from_str_radix(&facts.attribute(name)?, 16).ok();
    UsbCapability {
        number: number("bInterfaceNumber"),
        class: number("bInterfaceClass"),
        subclass: number("bInterfaceSubClass"),
        protocol: number("bInterfaceProtocol"),
        description: None,
    }
}
