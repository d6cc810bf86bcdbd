//! The host's USB devices that a definition names by what they are.

use std::fs;
use std::path::{Path, PathBuf};

use virtwire_conf::Domain;
use virtwire_conf::domain::misc::{HostAddress, Hostdev, HostdevMode, HostdevType};
use virtwire_conf::table::AnyBase;

use crate::error::{QEMU, Result, file};

/// Where the kernel shows them.
const DEVICES: &str = "/sys/bus/usb/devices";

/// Says of each USB device of the host where it is. One that is not there and may be missing is left out.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` for a device that is not there, `VIR_ERR_OPERATION_FAILED` if there are several.
pub(crate) fn find_all(domain: &mut Domain) -> Result<()> {
    find_below(Path::new(DEVICES), &mut domain.devices.hostdevs)
}

fn find_below(devices: &Path, hostdevs: &mut Vec<Hostdev>) -> Result<()> {
    let mut missing = Vec::new();
    for (at, hostdev) in hostdevs.iter_mut().enumerate() {
        let Some((vendor, product)) = wanted(hostdev) else { continue };
        let Some(source) = &mut hostdev.source else { continue };
        let found = search(devices, vendor, product)?;
        match found[..] {
            [(bus, device)] => {
                let address = source.address.get_or_insert_default();
                *address = HostAddress {
                    bus: Some(bus.to_string()),
                    device: Some(AnyBase(device)),
                    ..address.clone()
                };
            }
            [] if source.startup_policy.as_deref().is_some_and(|policy| policy == "optional") => {
                missing.push(at);
            }
            [] => {
                let text = format_args!("Did not find USB device {vendor:04x}:{product:04x}");
                return Err(QEMU.internal_error(text));
            }
            _ => {
                return Err(QEMU.operation_failed(format_args!(
                    "Multiple USB devices for {vendor:x}:{product:x}, use <address> to specify one"
                )));
            }
        }
    }
    missing.into_iter().rev().for_each(|at| drop(hostdevs.remove(at)));
    Ok(())
}

/// Whether a device of the host is where a definition says that it is.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` where there is none.
pub(crate) fn check_place(hostdev: &Hostdev) -> Result<()> {
    let Some(path) = node(hostdev) else { return Ok(()) };
    std::fs::read_dir(DEVICES).map_err(|e| file(&e, format_args!("cannot open directory '{DEVICES}'")))?;
    let at = hostdev.source.as_ref().and_then(|source| source.address.as_ref());
    let (bus, device) = at.map(|at| (at.bus.clone(), at.device)).unwrap_or_default();
    match path.exists() {
        true => Ok(()),
        false => Err(QEMU.internal_error(format_args!(
            "Did not find USB device bus:{} device:{}",
            bus.unwrap_or_default(),
            device.unwrap_or_default()
        ))),
    }
}

/// Vendor and product of a device that is not said to be anywhere.
fn wanted(hostdev: &Hostdev) -> Option<(u64, u64)> {
    let source = hostdev.source.as_ref()?;
    let is_placed = source.address.as_ref().is_some_and(|at| at.bus.is_some() && at.device.is_some());
    let is_usb = hostdev.mode == HostdevMode::Subsystem && hostdev.type_ == HostdevType::Usb;
    (is_usb && !is_placed).then(|| Some((source.vendor.as_ref()?.id.0, source.product.as_ref()?.id.0)))?
}

/// Bus and number of all devices of this kind.
fn search(devices: &Path, vendor: u64, product: u64) -> Result<Vec<(u32, u32)>> {
    let cannot = |e| file(&e, format_args!("cannot open directory '{}'", devices.display()));
    let all = fs::read_dir(devices).map_err(cannot)?.flatten();
    let mut found: Vec<_> = all.filter_map(|entry| place_of(&entry.path(), vendor, product)).collect();
    found.sort_unstable();
    Ok(found)
}

fn place_of(device: &Path, vendor: u64, product: u64) -> Option<(u32, u32)> {
    let read = |name: &str| fs::read_to_string(device.join(name)).ok();
    let id = |name: &str| u64::from_str_radix(read(name)?.trim(), 16).ok();
    let number = |name: &str| read(name)?.trim().parse().ok();
    (id("idVendor")? == vendor && id("idProduct")? == product).then_some(())?;
    Some((number("busnum")?, number("devnum")?))
}

/// The file of a device, by which QEMU opens it.
pub(crate) fn node(hostdev: &Hostdev) -> Option<PathBuf> {
    let at = hostdev.source.as_ref()?.address.as_ref()?;
    let is_usb = hostdev.mode == HostdevMode::Subsystem && hostdev.type_ == HostdevType::Usb;
    let bus: u32 = at.bus.as_deref().filter(|_| is_usb)?.parse().ok()?;
    Some(format!("/dev/bus/usb/{bus:03}/{:03}", at.device?.0).into())
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;
    use virtwire_store::Scratch;

    use super::*;

    fn guest(source: &str) -> Domain {
        let xml = format!(
            "<domain type='test'><name>g</name><memory>8192</memory><os><type>hvm</type></os><devices>
             <hostdev mode='subsystem' type='usb'>{source}</hostdev></devices></domain>"
        );
        Domain::parse(&xml, &ParseOptions::default()).unwrap()
    }

    const BY_KIND: &str = "<source><vendor id='0x046d'/><product id='0xc077'/></source>";

    #[test]
    fn devices_are_found_by_what_they_are() {
        let scratch = Scratch::new();
        let dir = scratch.path();
        let plug = |name: &str, ids: [&str; 2], place: [u32; 2]| {
            let device = dir.join(name);
            fs::create_dir(&device).unwrap();
            for (file, text) in [("idVendor", ids[0].to_owned()), ("idProduct", ids[1].to_owned())]
                .into_iter()
                .chain([("busnum", place[0].to_string()), ("devnum", place[1].to_string())])
            {
                fs::write(device.join(file), format!("{text}\n")).unwrap();
            }
        };
        let find = |source: &str| {
            let mut hostdevs = guest(source).devices.hostdevs;
            find_below(dir, &mut hostdevs).map(|()| hostdevs.iter().filter_map(node).collect::<Vec<_>>())
        };
        plug("1-1", ["046d", "c05a"], [1, 2]);
        // An interface of a device has no such files.
        fs::create_dir(dir.join("1-1:1.0")).unwrap();
        let missing = find(BY_KIND).unwrap_err().message;
        assert_eq!(missing, "internal error: Did not find USB device 046d:c077");
        let optional = BY_KIND.replace("<source>", "<source startupPolicy='optional'>");
        assert_eq!(find(&optional).unwrap(), Vec::<PathBuf>::new());
        plug("1-2", ["046d", "c077"], [1, 15]);
        assert_eq!(find(BY_KIND).unwrap(), [PathBuf::from("/dev/bus/usb/001/015")]);
        plug("2-1", ["046d", "c077"], [2, 3]);
        let several = find(BY_KIND).unwrap_err().message;
        assert_eq!(
            several,
            "operation failed: Multiple USB devices for 46d:c077, use <address> to specify one"
        );
        let placed =
            "<source><vendor id='0x046d'/><product id='0xc077'/><address bus='2' device='3'/></source>";
        assert_eq!(find(placed).unwrap(), [PathBuf::from("/dev/bus/usb/002/003")]);
    }
}
