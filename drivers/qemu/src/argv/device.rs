//! Options in JSON: devices, objects, block nodes.

use serde_json::{Map, Value};
use virtwire_conf::domain::device::{Address, DeviceInfo, VirtioOptions};
use virtwire_conf::domain::disk::VirtioModel;
use virtwire_conf::domain::misc::{Controller, ControllerType};
use virtwire_conf::{Domain, OnOff, YesNo};

use crate::command::CommandLine;

/// An option in JSON in the making: its members in the order in which they are added.
pub(crate) struct Json {
    option: &'static str,
    members: Map<String, Value>,
    /// What an s390 knows it by, on PCI.
    zpci: Option<(u64, u64)>,
}

impl Json {
    /// A `-device`.
    pub(crate) fn new(driver: impl Into<Value>) -> Self {
        Self::begin("-device", "driver", driver)
    }

    /// An `-object`: what the host does for the guest.
    pub(crate) fn object(kind: &str, id: impl Into<Value>) -> Self {
        Self::begin("-object", "qom-type", kind).with("id", id)
    }

    /// A `-blockdev`.
    pub(crate) fn node(driver: &str) -> Self {
        Self::begin("-blockdev", "driver", driver)
    }

    /// An option whose first member says what it is.
    pub(crate) fn begin(option: &'static str, name: &str, kind: impl Into<Value>) -> Self {
        Self { option, ..Self::part() }.with(name, kind)
    }

    /// A part of an option.
    pub(crate) fn part() -> Self {
        Self { option: "", members: Map::new(), zpci: None }
    }

    /// A virtio device. The name of its driver says where it sits and which virtio it speaks; what all of them can be
    /// told comes next.
    pub(crate) fn virtio(
        base: &str,
        address: Option<&Address>,
        model: Option<VirtioModel>,
        options: Option<&VirtioOptions>,
    ) -> Self {
        let bus = match address {
            Some(Address::Ccw(_)) => "-ccw",
            Some(Address::VirtioMmio(_)) => "-device",
            Some(Address::VirtioS390(_)) => "-s390",
            _ => "-pci",
        };
        let version = match model {
            Some(VirtioModel::VirtioTransitional) => "-transitional",
            Some(VirtioModel::VirtioNonTransitional) => "-non-transitional",
            Some(VirtioModel::Virtio) | None => "",
        };
        Self::new(format!("{base}{bus}{version}")).virtio_options(options)
    }

    /// What all virtio devices can be told.
    pub(crate) fn virtio_options(self, options: Option<&VirtioOptions>) -> Self {
        let Some(options) = options else { return self };
        self.switch("iommu_platform", options.iommu)
            .switch("ats", options.ats)
            .switch("packed", options.packed)
            .switch("page-per-vq", options.page_per_vq)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_if<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A number that says nothing where it is zero.
    pub(crate) fn with_some<T: Into<Value> + Default + PartialEq>(
        self,
        name: &str,
        value: Option<T>,
    ) -> Self {
        self.with_if(name, value.filter(|value| *value != T::default()))
    }

    /// A switch as JSON has it.
    pub(crate) fn switch(self, name: &str, value: Option<OnOff>) -> Self {
        self.with_if(name, value.map(is_on))
    }

    /// All members of a part.
    pub(crate) fn and(mut self, part: Self) -> Self {
        self.members.extend(part.members);
        self
    }

    /// Its place, in the words of its bus.
    pub(crate) fn at(self, domain: &Domain, info: &DeviceInfo) -> Self {
        let acpi_index = info.acpi.as_ref().and_then(|acpi| acpi.index);
        self.on(domain, info.address.as_ref()).with_some("acpi-index", acpi_index)
    }

    fn on(mut self, domain: &Domain, address: Option<&Address>) -> Self {
        let number = |part: Option<u64>| part.unwrap_or_default();
        match address {
            Some(Address::Pci(pci)) => {
                self.zpci = pci.zpci.as_ref().and_then(|zpci| Some((zpci.uid?.0, zpci.fid?.0)));
                let (slot, function) =
                    (number(pci.slot.map(|hex| hex.0)), number(pci.function.map(|hex| hex.0)));
                let place = match function {
                    0 => format!("{slot:#x}"),
                    function => format!("{slot:#x}.{function:#x}"),
                };
                self.with("bus", pci_bus(domain, number(pci.bus.map(|hex| hex.0))))
                    .switch("multifunction", pci.multifunction)
                    .with("addr", place)
            }
            Some(Address::Usb(usb)) => {
                self.with("bus", usb_bus(domain, usb.bus)).with_if("port", usb.port.clone())
            }
            Some(Address::SpaprVio(vio)) => self.with_if("reg", vio.reg.map(|reg| reg.0)),
            Some(Address::Ccw(ccw)) => {
                let part = |part: Option<u64>| format!("{:x}", number(part));
                let (cssid, ssid) = (part(ccw.cssid.map(|hex| hex.0)), part(ccw.ssid.map(|hex| hex.0)));
                self.with("devno", format!("{cssid}.{ssid}.{:04x}", number(ccw.devno.map(|hex| hex.0))))
            }
            Some(Address::Isa(isa)) => {
                self.with_if("iobase", isa.iobase.map(|base| base.0)).with_if("irq", isa.irq.map(|irq| irq.0))
            }
            Some(Address::Dimm(dimm)) => {
                let base = dimm.base.map(|base| base.0).filter(|base| *base > 0);
                self.with("slot", dimm.slot).with_if("addr", base)
            }
            Some(_) | None => self,
        }
    }

    /// Its option ROM.
    pub(crate) fn rom(self, info: &DeviceInfo) -> Self {
        let Some(rom) = &info.rom else { return self };
        if rom.enabled == Some(YesNo::No) {
            return self.with("rombar", 0).with("romfile", "");
        }
        let bar = rom.bar.map(|bar| u8::from(is_on(bar)));
        self.with_if("rombar", bar).with_if("romfile", rom.file.clone())
    }

    pub(crate) fn add(self, line: &mut CommandLine) {
        if let Some((uid, fid)) = self.zpci {
            let target = self.members.get("id").cloned().unwrap_or_default();
            let twin = Self::new("zpci").with("uid", uid).with("fid", fid).with("target", target);
            twin.with("id", format!("zpci{uid}")).add(line);
        }
        line.json(self.option, &Value::Object(self.members));
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self::Object(json.members)
    }
}

/// QEMU's name of a PCI bus: that of the controller; the root's is the machine's to give.
fn pci_bus(domain: &Domain, bus: u64) -> String {
    if bus == 0 {
        let express = domain.devices.controllers.iter().any(|c| c.model.as_deref() == Some("pcie-root"));
        return if express { "pcie.0" } else { "pci.0" }.to_owned();
    }
    controller(domain, ControllerType::Pci, bus).map_or_else(|| format!("pci.{bus}"), str::to_owned)
}

/// QEMU's name of a USB bus, which is the controller's first.
pub(crate) fn usb_bus(domain: &Domain, bus: u32) -> String {
    format!("{}.0", controller(domain, ControllerType::Usb, bus.into()).unwrap_or("usb"))
}

/// The alias of a controller.
pub(crate) fn controller(domain: &Domain, kind: ControllerType, index: u64) -> Option<&str> {
    let is = |controller: &&Controller| {
        controller.type_ == kind && controller.index.and_then(|n| u64::try_from(n).ok()) == Some(index)
    };
    domain.devices.controllers.iter().find(is).map(|controller| alias(&controller.info))
}

pub(crate) fn is_on(state: OnOff) -> bool {
    state == OnOff::On
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
