//! Devices of the host, taken from the host's drivers and given back. Giving one to a guest takes VFIO.

use std::path::Path;

use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::caps::host::has_iommu;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};

/// Where the kernel gives devices away.
const VFIO: &str = "/dev/vfio/vfio";

/// A device by name, if it is one that could be given away.
fn pci(name: &NonnullString) -> Result<()> {
    match name.to_str_lossy().starts_with("pci_") {
        true => Ok(()),
        false => Err(ErrorDomain::DOMAIN.invalid_arg(format_args!("device {name} is not a PCI device"))),
    }
}

fn not_served() -> virtwire_protocol::VirtError {
    QEMU.operation_unsupported("devices are not taken from the host's drivers yet")
}

pub(crate) async fn detach(driver: &Qemu, args: NodeDeviceDettachArgs) -> Result<()> {
    let args = NodeDeviceDetachFlagsArgs { name: args.name, driver_name: None, flags: 0 };
    detach_flags(driver, args).await
}

pub(crate) async fn detach_flags(_: &Qemu, args: NodeDeviceDetachFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuNodeDeviceDetachFlags")?;
    if !has_iommu() || !Path::new(VFIO).exists() {
        let text = "VFIO device assignment is currently not supported on this system";
        return Err(QEMU.argument_unsupported(text));
    }
    pci(&args.name)?;
    Err(not_served())
}

pub(crate) async fn reattach(_: &Qemu, args: NodeDeviceReAttachArgs) -> Result<()> {
    pci(&args.name)?;
    Err(not_served())
}

pub(crate) async fn reset(_: &Qemu, args: NodeDeviceResetArgs) -> Result<()> {
    pci(&args.name)?;
    Err(not_served())
}
