//! What the line says of one device: for one that comes to a guest while it runs, and to know what is behind it.

use virtwire_conf::Domain;
use virtwire_conf::domain::device::DeviceInfo;
use virtwire_conf::domain::misc::WatchdogModel;
use virtwire_conf::domain::one::Device;
use virtwire_protocol::VirtError;

use super::{Context, controllers, filesystem, hostdev, input, modules, net, peripherals, serial, storage};
use crate::command::CommandLine;
use crate::plug::HostEnd;

/// What a device has of the host that is made for it, and not found in the definition.
#[derive(Default)]
pub(crate) struct Made {
    /// The host's end of an interface.
    pub(crate) end: Option<HostEnd>,
    /// The number of the node that a SCSI device of the host's gets.
    pub(crate) number: u32,
}

fn order(info: &DeviceInfo) -> Option<u32> {
    info.boot.as_ref().map(|boot| boot.order.get())
}

/// All options of a device, in the order of the line. A device that the machine has by itself has none.
///
/// # Errors
/// QEMU cannot have it.
pub(crate) fn one(
    line: &mut CommandLine,
    domain: &Domain,
    device: &Device,
    context: &Context<'_>,
    made: Made,
) -> Result<(), VirtError> {
    match device {
        Device::Watchdog(watchdog) if watchdog.model != WatchdogModel::Itco => {
            peripherals::watchdog(line, domain, watchdog)
        }
        Device::Shmem(shmem) => peripherals::shared_memory(line, domain, shmem),
        Device::Input(device) => input::input(line, domain, device),
        Device::Crypto(crypto) => peripherals::crypto(line, domain, crypto),
        Device::Filesystem(fs) => filesystem::filesystem(line, domain, fs, context),
        _ => return refusable(line, domain, device, context, made),
    }
    Ok(())
}

/// Those of devices that QEMU may not be able to have.
fn refusable(
    line: &mut CommandLine,
    domain: &Domain,
    device: &Device,
    context: &Context<'_>,
    made: Made,
) -> Result<(), VirtError> {
    match device {
        Device::Disk(disk) => storage::disk(line, domain, (disk, order(&disk.info)), context),
        Device::Interface(net) => net::interface(line, domain, (net, None), made.end),
        Device::Controller(controller) => controllers::controller(line, domain, controller),
        Device::Hostdev(device) => hostdev::hostdev(line, domain, (device, made.number), context),
        Device::Memory(module) => modules::module(line, domain, module, context),
        Device::Rng(rng) => peripherals::rng(line, domain, rng, context),
        Device::Serial(port) => serial::serial(line, domain, port, context),
        Device::Parallel(port) => serial::parallel(line, port, context),
        Device::Channel(channel) => serial::channel(line, domain, channel, context),
        Device::Console(console) => serial::console(line, domain, console, context),
        Device::Redirdev(device) => input::redirected(line, domain, device, context),
        Device::Vsock(vsock) => peripherals::vsock(line, domain, vsock),
        _ => Ok(()),
    }
}
