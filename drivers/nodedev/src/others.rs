//! The host itself, and the kinds of devices with little to say.

use uuid::Uuid;
use virtwire_conf::nodedev::{
    ApCapability, CcwCapability, ChannelAddress, Drm, FirmwareInfo, Hardware, ScsiGeneric, SystemCapability,
    VdpaCapability,
};
use virtwire_conf::table::Hex;

use crate::mdev;
use crate::sysfs::{Facts, Places, text};

/// The machine, as its firmware describes it; where it does not, the machine has no number either.
pub(crate) fn system(places: &Places, uuid: Uuid) -> SystemCapability {
    let dmi = places.sys.join("devices/virtual/dmi/id");
    let line =
        |name: &str| text(&dmi.join(name)).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    SystemCapability {
        product: line("product_name"),
        hardware: Some(Hardware {
            vendor: line("sys_vendor"),
            version: line("product_version"),
            serial: line("product_serial"),
            uuid: Some(if dmi.exists() { uuid } else { Uuid::nil() }),
        }),
        firmware: Some(FirmwareInfo {
            vendor: line("bios_vendor"),
            version: line("bios_version"),
            release_date: line("bios_date"),
        }),
    }
}

/// `card0`, `renderD128`, `controlD64`
pub(crate) fn drm(facts: &Facts<'_>) -> Option<Drm> {
    const KINDS: [(&str, &str); 3] = [("card", "primary"), ("controlD", "control"), ("renderD", "render")];
    let name = facts.name();
    let of = |(prefix, _): &&(&str, &str)| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    let kind = KINDS.iter().find(of).map(|(_, kind)| (*kind).to_owned());
    Some(Drm { type_: Some(kind?) })
}

pub(crate) fn scsi_generic(facts: &Facts<'_>) -> Option<ScsiGeneric> {
    Some(ScsiGeneric { char_: Some(facts.file()?.to_owned()) })
}

pub(crate) fn vdpa(facts: &Facts<'_>) -> VdpaCapability {
    let child = crate::sysfs::entries(&facts.path);
    let names = child.iter().filter_map(|path| crate::sysfs::file_name(path));
    let file = names.filter(|name| name.starts_with("vhost-vdpa")).map(|name| format!("/dev/{name}")).next();
    VdpaCapability { chardev: file }
}

/// `0.0.1234`
fn channel(name: &str) -> Option<[u64; 3]> {
    let mut parts = name.split('.').map(|part| u64::from_str_radix(part, 16).ok());
    let mut next = || parts.next().flatten();
    Some([next()?, next()?, next()?])
}

pub(crate) fn ccw(facts: &Facts<'_>) -> Option<CcwCapability> {
    let [cssid, ssid, devno] = channel(&facts.name())?;
    let state = facts.number::<u32>("online").map(|online| if online == 1 { "online" } else { "offline" });
    Some(CcwCapability {
        cssid: Some(Hex(cssid)),
        ssid: Some(Hex(ssid)),
        devno: Some(Hex(devno)),
        state: state.map(str::to_owned),
        ..CcwCapability::default()
    })
}

pub(crate) fn css(facts: &Facts<'_>) -> Option<CcwCapability> {
    /// The others are of no use to a guest.
    const DRIVERS: [&str; 2] = ["io_subchannel", "vfio_ccw"];
    DRIVERS.contains(&facts.property("DRIVER")?).then_some(())?;
    let [cssid, ssid, devno] = channel(&facts.name())?;
    let address = facts.attribute("dev_busid").and_then(|name| channel(&name));
    Some(CcwCapability {
        cssid: Some(Hex(cssid)),
        ssid: Some(Hex(ssid)),
        devno: Some(Hex(devno)),
        channel_dev_addr: address.map(|[cssid, ssid, devno]| ChannelAddress {
            cssid: Some(Hex(cssid)),
            ssid: Some(Hex(ssid)),
            devno: Some(Hex(devno)),
        }),
        capabilities: mdev::within(facts),
        ..CcwCapability::default()
    })
}

/// `card0a`
pub(crate) fn ap_card(facts: &Facts<'_>) -> Option<ApCapability> {
    let adapter = u32::from_str_radix(facts.name().strip_prefix("card")?, 16).ok()?;
    Some(ApCapability { ap_adapter: Some(format!("0x{adapter:02x}")), ..ApCapability::default() })
}

/// `0a.0015`
pub(crate) fn ap_queue(facts: &Facts<'_>) -> Option<ApCapability> {
    let name = facts.name();
    let (adapter, domain) = name.split_once('.')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let (adapter, domain) = (number(adapter)?, number(domain)?);
    Some(ApCapability {
        ap_adapter: Some(format!("0x{adapter:02x}")),
        ap_domain: Some(format!("0x{domain:04x}")),
        ..ApCapability::default()
    })
}

pub(crate) fn ap_matrix(facts: &Facts<'_>) -> ApCapability {
    ApCapability { capabilities: mdev::within(facts), ..ApCapability::default() }
}
