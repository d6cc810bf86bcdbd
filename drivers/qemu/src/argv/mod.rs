//! From a definition to QEMU's command line, in libvirt's order and spelling.
//!
//! One function per group of options, called in the order of the line. A device kind that is not here is refused by
//! name before anything is started.

mod chardev;
pub(crate) mod devices;
pub(crate) mod disks;
mod machine;

use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::{Map, Value};
use virtwire_conf::Domain;
use virtwire_conf::domain::device::{Address, DeviceInfo};
use virtwire_protocol::VirtError;

use crate::command::CommandLine;
use crate::error::QEMU;

/// What the line needs to know besides the definition.
pub struct Context<'a> {
    /// The guest's directory: keys and sockets.
    pub dir: &'a Path,
    /// Where the monitor listens: a descriptor for a real start, else the path is shown.
    pub monitor: Option<OwnedFd>,
    /// Whether the guest's CPUs are the host's (`host` needs KVM).
    pub kvm: bool,
}

/// The whole command line.
///
/// # Errors
/// A device that this driver cannot give to QEMU.
pub fn build(domain: &Domain, context: Context<'_>) -> Result<CommandLine, VirtError> {
    unsupported(domain)?;
    let mut line = CommandLine::default();
    line.option("-name", format!("guest={},debug-threads=on", crate::command::escape(&domain.name)));
    line.flag("-S");
    machine::begin(&mut line, domain, &context);
    machine::monitor(&mut line, context);
    machine::clock_and_boot(&mut line, domain);
    devices::controllers(&mut line, domain)?;
    disks::disks(&mut line, domain)?;
    devices::interfaces(&mut line, domain)?;
    chardev::serials(&mut line, domain)?;
    chardev::channels(&mut line, domain)?;
    devices::inputs(&mut line, domain)?;
    devices::graphics(&mut line, domain)?;
    devices::videos(&mut line, domain)?;
    devices::watchdogs(&mut line, domain);
    devices::balloon(&mut line, domain)?;
    devices::rngs(&mut line, domain)?;
    line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    line.option("-msg", "timestamp=on");
    if let Some(more) = &domain.qemu_commandline {
        for arg in &more.arg {
            line.word(&arg.value);
        }
    }
    Ok(line)
}

/// Refuses by name what would otherwise be left out in silence.
fn unsupported(domain: &Domain) -> Result<(), VirtError> {
    let devices = &domain.devices;
    let counts = [
        ("filesystem", devices.filesystems.len()),
        ("smartcard", devices.smartcards.len()),
        ("parallel", devices.parallels.len()),
        ("tpm", devices.tpms.len()),
        ("sound", devices.sounds.len()),
        ("hostdev", devices.hostdevs.len()),
        ("redirdev", devices.redirdevs.len()),
        ("shmem", devices.shmems.len()),
        ("memory", devices.memories.len()),
        ("crypto", devices.cryptos.len()),
        ("lease", devices.leases.len()),
        ("vsock", usize::from(devices.vsock.is_some())),
        ("iommu", usize::from(devices.iommu.is_some())),
    ];
    match counts.iter().find(|(_, count)| *count > 0) {
        Some((kind, _)) => {
            Err(QEMU.config_unsupported(format_args!("guests with a {kind} device cannot be started yet")))
        }
        None => Ok(()),
    }
}

/// A `-device` in the making: its properties in the order in which they are added.
pub(crate) struct Device(Map<String, Value>);

impl Device {
    pub(crate) fn new(driver: &str) -> Self {
        Self(Map::from_iter([("driver".to_owned(), driver.into())]))
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_if<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Its place: `bus` and `addr` of a PCI device, `bus` and `port` of a USB one.
    pub(crate) fn at(self, domain: &Domain, address: Option<&Address>) -> Result<Self, VirtError> {
        match address {
            Some(Address::Pci(pci)) => {
                let number = |part: Option<u64>| part.unwrap_or_default();
                let bus = number(pci.bus.map(|hex| hex.0));
                let (slot, function) =
                    (number(pci.slot.map(|hex| hex.0)), number(pci.function.map(|hex| hex.0)));
                let place = match function {
                    0 => format!("{slot:#x}"),
                    function => format!("{slot:#x}.{function:#x}"),
                };
                let multifunction = (pci.multifunction == Some(virtwire_conf::OnOff::On)).then_some(true);
                let device = self.with("bus", bus_name(domain, bus));
                Ok(device.with_if("multifunction", multifunction).with("addr", place))
            }
            Some(Address::Usb(usb)) => {
                let bus = if usb.bus == 0 { "usb.0".to_owned() } else { format!("usb{}.0", usb.bus) };
                Ok(self.with("bus", bus).with_if("port", usb.port.clone()))
            }
            Some(_) | None => Ok(self),
        }
    }

    pub(crate) fn add(self, line: &mut CommandLine) {
        line.json("-device", &Value::Object(self.0));
    }
}

/// QEMU's name of a PCI bus: the root has the machine's, others that of their controller.
fn bus_name(domain: &Domain, bus: u64) -> String {
    let root = if is_q35(domain) { "pcie.0" } else { "pci.0" };
    if bus == 0 { root.to_owned() } else { format!("pci.{bus}") }
}

/// Whether the machine is a Q35.
pub(crate) fn is_q35(domain: &Domain) -> bool {
    let machine = domain.os.type_.as_ref().and_then(|os| os.machine.as_deref());
    machine.is_some_and(|machine| machine == "q35" || machine.starts_with("pc-q35"))
}

/// A device's alias; every device has one before a line is built.
pub(crate) fn alias(info: &DeviceInfo) -> &str {
    info.alias.as_ref().map_or("", |alias| alias.name.as_str())
}
