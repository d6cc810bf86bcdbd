//! Devices of the host, taken from the host's drivers and given back. Giving one to a guest takes VFIO.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use virtwire_driver_api::CallCx;
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::caps::host::has_iommu;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};

/// Where the kernel gives devices away.
const VFIO: &str = "/dev/vfio/vfio";
/// Where the kernel shows PCI.
const PCI: &str = "/sys/bus/pci";
/// The driver for devices that are given away.
const STUB: &str = "vfio-pci";

/// A PCI device in the kernel's tree.
struct Device {
    bus: PathBuf,
    /// `0000:00:1f.2`
    address: String,
}

impl Device {
    /// The device of a name like `pci_0000_00_1f_2`.
    ///
    /// # Errors
    /// `VIR_ERR_INVALID_ARG` for what is no PCI device.
    fn named(bus: &Path, name: &str) -> Result<Self> {
        let parts: Option<Vec<_>> = name.strip_prefix("pci_").map(|rest| rest.split('_').collect());
        match parts.as_deref() {
            Some([domain, bus_number, slot, function]) => {
                let address = format!("{domain}:{bus_number}:{slot}.{function}");
                Ok(Self { bus: bus.to_owned(), address })
            }
            _ => Err(ErrorDomain::DOMAIN.invalid_arg(format_args!("device {name} is not a PCI device"))),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bus.join("devices").join(&self.address).join(name)
    }

    /// The driver that has it.
    fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.file("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// Says which driver may have it, and has the kernel look for one.
    fn rebind(&self, driver: &str) -> io::Result<()> {
        fs::write(self.file("driver_override"), format!("{driver}\n"))?;
        if self.driver().is_some() {
            fs::write(self.file("driver/unbind"), &self.address)?;
        }
        fs::write(self.bus.join("drivers_probe"), &self.address)
    }

    /// Takes it from the host's driver.
    fn detach(&self) -> io::Result<()> {
        match self.driver().as_deref() {
            Some(STUB) => Ok(()),
            _ => self.rebind(STUB),
        }
    }

    /// Gives it back to the host, if it was taken from it.
    fn reattach(&self) -> io::Result<()> {
        match self.driver().as_deref() {
            Some(STUB) => self.rebind(""),
            _ => Ok(()),
        }
    }

    /// Resets it, in the way that the kernel knows for it.
    fn reset(&self) -> Result<()> {
        let (path, address) = (self.file("reset"), &self.address);
        if !path.exists() {
            return Err(ErrorDomain::NONE.internal_error(format_args!(
                "Unable to reset PCI device {address}: no FLR, PM reset or bus reset available"
            )));
        }
        let failed = |error| self.failed(&error, "reset");
        fs::write(path, "1").map_err(failed)
    }

    fn failed(&self, error: &io::Error, what: &str) -> VirtError {
        VirtError::system(ErrorDomain::NONE, error, format_args!("cannot {what} PCI device {}", self.address))
    }
}

/// A device by its name, if it is there and could be given away.
async fn find(driver: &Qemu, name: &NonnullString) -> Result<Device> {
    if let Some(devices) = &driver.companions().node_device {
        let cx = CallCx { internal: true, ..CallCx::default() };
        devices.node_device_lookup_by_name(&cx, NodeDeviceLookupByNameArgs { name: name.clone() }).await?;
    }
    Device::named(Path::new(PCI), &name.to_str_lossy())
}

pub(crate) async fn detach(driver: &Qemu, args: NodeDeviceDettachArgs) -> Result<()> {
    let args = NodeDeviceDetachFlagsArgs { name: args.name, driver_name: None, flags: 0 };
    detach_flags(driver, args).await
}

pub(crate) async fn detach_flags(driver: &Qemu, args: NodeDeviceDetachFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuNodeDeviceDetachFlags")?;
    if !has_iommu() || !Path::new(VFIO).exists() {
        let text = "VFIO device assignment is currently not supported on this system";
        return Err(QEMU.argument_unsupported(text));
    }
    let wanted = args.driver_name.as_ref().map(|name| name.to_str_lossy());
    if let Some(other) = wanted.filter(|name| name != "vfio" && name != STUB) {
        return Err(QEMU.invalid_arg(format_args!("unknown driver name '{other}'")));
    }
    let device = find(driver, &args.name).await?;
    device.detach().map_err(|error| device.failed(&error, "detach"))
}

pub(crate) async fn reattach(driver: &Qemu, args: NodeDeviceReAttachArgs) -> Result<()> {
    let device = find(driver, &args.name).await?;
    device.reattach().map_err(|error| device.failed(&error, "reattach"))
}

pub(crate) async fn reset(driver: &Qemu, args: NodeDeviceResetArgs) -> Result<()> {
    find(driver, &args.name).await?.reset()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use virtwire_store::Scratch;

    use super::*;

    /// A kernel's tree with one device, which `driver` has.
    fn tree(driver: Option<&str>) -> (Scratch, Device) {
        let scratch = Scratch::new();
        let device = Device::named(scratch.path(), "pci_0000_09_03_0").unwrap();
        fs::create_dir_all(device.file("")).unwrap();
        if let Some(driver) = driver {
            let dir = scratch.path().join("drivers").join(driver);
            fs::create_dir_all(&dir).unwrap();
            symlink(dir, device.file("driver")).unwrap();
        }
        (scratch, device)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_device_is_taken_from_its_driver() {
        let (scratch, device) = tree(Some("e1000e"));
        device.detach().unwrap();
        assert_eq!(read(&device.file("driver_override")), "vfio-pci\n");
        assert_eq!(read(&scratch.path().join("drivers/e1000e/unbind")), "0000:09:03.0");
        assert_eq!(read(&scratch.path().join("drivers_probe")), "0000:09:03.0");
    }

    #[test]
    fn only_what_was_taken_is_given_back() {
        let (scratch, device) = tree(Some("vfio-pci"));
        device.reattach().unwrap();
        assert_eq!(read(&device.file("driver_override")), "\n");
        assert_eq!(read(&scratch.path().join("drivers/vfio-pci/unbind")), "0000:09:03.0");
        for driver in [Some("e1000e"), None] {
            let (_scratch, device) = tree(driver);
            device.reattach().unwrap();
            assert!(!device.file("driver_override").exists(), "{driver:?}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_reset_is_refused() {
        let (_scratch, device) = tree(None);
        let refused = device.reset().unwrap_err().message;
        assert_eq!(
            refused,
            "internal error: Unable to reset PCI device 0000:09:03.0: no FLR, PM reset or bus reset available"
        );
        fs::write(device.file("reset"), "").unwrap();
        device.reset().unwrap();
        assert_eq!(read(&device.file("reset")), "1");
        let other = Device::named(Path::new("/"), "net_lo_00").err().map(|error| error.message);
        assert_eq!(other.as_deref(), Some("invalid argument: device net_lo_00 is not a PCI device"));
    }
}
