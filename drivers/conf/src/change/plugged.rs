//! Devices of the definition of a run.

use virtwire_protocol::VirtError;

use super::{DOMAIN, alike, room_for_memory};
use crate::complete::{Newest, ParseOptions, drives};
use crate::domain::Domain;
use crate::domain::device::Address;
use crate::domain::misc::{Controller, ControllerType};
use crate::domain::one::Device;

/// A device as a running guest has it.
#[derive(Debug)]
pub struct Plugged {
    /// The device.
    pub device: Device,
    /// Controllers that it sits on and that are not there yet.
    pub controllers: Vec<Controller>,
}

impl Domain {
    /// A device with its defaults, and whether QEMU could have it.
    ///
    /// # Errors
    /// It could not.
    pub fn with_defaults(&self, device: &Device, options: &ParseOptions) -> Result<Device, VirtError> {
        if let Device::Memory(memory) = device {
            room_for_memory(self, memory)?;
        }
        let completed = self.completed(device, options)?;
        completed.checked(options, Newest::Added(device.kind()))?;
        Ok(completed.device)
    }

    /// What a device is in this definition, that of a run: complete and with a place of its own.
    ///
    /// # Errors
    /// There is no room for it in a machine that has been built.
    pub fn plugged(&self, device: &Device, options: &ParseOptions) -> Result<Plugged, VirtError> {
        if let Some(Address::VirtioSerial(at)) = device.info().and_then(|info| info.address.as_ref())
            && !self.has_controller(ControllerType::VirtioSerial, at.controller)
        {
            let index = at.controller;
            return Err(DOMAIN.xml_error(format_args!("virtio serial controller {index} is missing")));
        }
        let mut domain = self.clone();
        device.clone().put(&mut domain.devices);
        domain.complete(options)?;
        if domain.devices.hubs.len() > self.devices.hubs.len() && !matches!(device, Device::Hub(_)) {
            return Err(DOMAIN.xml_error("No free USB ports"));
        }
        let known = |new: &Controller| {
            let same = |old: &Controller| (old.type_, old.index) == (new.type_, new.index);
            self.devices.controllers.iter().any(same)
        };
        let is_itself =
            |new: &Controller| matches!(device, Device::Controller(own) if own.type_ == new.type_);
        let new = domain.devices.controllers.iter().filter(|new| !known(new) && !is_itself(new));
        let controllers: Vec<_> = new.cloned().collect();
        if controllers.iter().any(|new| new.type_ == ControllerType::Pci) {
            return Err(DOMAIN.internal_error("No more available PCI slots"));
        }
        let siblings = device.siblings(&domain.devices);
        let is_it = |other: &Device| match (device, other) {
            (Device::Disk(_), _) => alike(device, other),
            (Device::Controller(own), Device::Controller(other)) => own.type_ == other.type_ && !known(other),
            _ => false,
        };
        let found = siblings.iter().find(|other| is_it(other)).or(siblings.last());
        let mut device = found.cloned().ok_or_else(|| DOMAIN.internal_error("the device was lost"))?;
        if let Device::Console(console) = &mut device {
            // QEMU chooses its port.
            console.info.address = None;
        }
        Ok(Plugged { device, controllers })
    }

    fn has_controller(&self, kind: ControllerType, index: u32) -> bool {
        let is = |other: &Controller| {
            other.type_ == kind && other.index.and_then(|index| u32::try_from(index).ok()) == Some(index)
        };
        self.devices.controllers.iter().any(is)
    }

    /// Adds a device that a running guest has been given, to its place among those of its kind.
    pub fn put_plugged(&mut self, device: Device) {
        if let Device::Controller(controller) = device {
            return drives::insert_controller(&mut self.devices.controllers, controller);
        }
        device.put(&mut self.devices);
        drives::sort(self);
    }

    /// Whether it has this device already, whatever its address.
    pub fn holds(&self, device: &Device) -> bool {
        device.siblings(&self.devices).iter().any(|other| alike(device, other))
    }

    /// Which of its kind a device is that a client describes.
    ///
    /// # Errors
    /// It cannot be completed.
    pub fn find(&self, device: &Device, options: &ParseOptions) -> Result<Option<usize>, VirtError> {
        Ok(self.completed(device, options)?.position(self, false))
    }
}
