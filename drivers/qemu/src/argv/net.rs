//! Network cards: a `-netdev` for the host's end, a `-device` for the guest's.

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::net::InterfaceType;
use virtwire_conf::domain::os::BootDevice;
use virtwire_protocol::VirtError;

use super::machine::boot_index;
use super::{Device, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

pub(crate) fn interfaces(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for (index, interface) in domain.devices.interfaces.iter().enumerate() {
        if interface.type_ != InterfaceType::User {
            let text =
                format_args!("interfaces of type '{}' cannot be started yet", interface.type_.as_str());
            return Err(QEMU.config_unsupported(text));
        }
        let name = alias(&interface.info);
        let host = format!("host{name}");
        line.json("-netdev", &json!({"type": "user", "id": host}));
        let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or("rtl8139");
        let driver = if model == "virtio" { "virtio-net-pci" } else { model };
        let by_kind = if index == 0 { boot_index(domain, BootDevice::Network) } else { None };
        let boot = interface.info.boot.as_ref().map(|boot| boot.order.0.get()).or(by_kind);
        let mac = interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac_text(mac.0));
        Device::new(driver)
            .with("netdev", host)
            .with("id", name)
            .with_if("mac", mac)
            .with_if("bootindex", boot)
            .at(domain, &interface.info)
            .rom(&interface.info)
            .add(line);
    }
    Ok(())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
