//! USB devices and their interfaces.

use virtwire_conf::nodedev::{Identifier, UsbCapability, UsbDeviceCapability};

use crate::sysfs::Facts;

pub(crate) fn device(facts: &Facts<'_>) -> Option<UsbDeviceCapability> {
    let number = |key| facts.property(key).and_then(|number| number.parse().ok());
    let text = |key: &str| facts.property(key).map(str::to_owned);
    let identifier = |id: &str, name| {
        let id = u16::from_str_radix(facts.property(id)?, 16).ok()?;
        Some(Identifier { id: Some(format!("0x{id:04x}")), name })
    };
    Some(UsbDeviceCapability {
        bus: number("BUSNUM"),
        device: number("DEVNUM"),
        product: Some(identifier("ID_MODEL_ID", text("ID_MODEL_FROM_DATABASE"))?),
        vendor: Some(identifier("ID_VENDOR_ID", text("ID_VENDOR_FROM_DATABASE"))?),
    })
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
