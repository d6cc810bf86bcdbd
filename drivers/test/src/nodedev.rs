//! Devices of the host: itself, and Fibre Channel adapters that can have virtual ports.

use std::string::String; // the protocol has one of its own

use virtwire_conf::nodedev::{Capability, FcHost, ScsiHostCapability};
use virtwire_conf::{FormatOptions, NodeDevice, ParseOptions};
use virtwire_driver_api::{NODE_DEVICE_FLAGS, NodeDeviceDriver, node_device_passes, serve};
use virtwire_protocol::remote::{self as wire, Event, *};
use virtwire_protocol::{ErrorDomain, XdrString};

use crate::driver::TestConnection;
use crate::error::{Result, TEST, check_flags, unknown_cause};
use crate::host::Host;
use crate::registry::Object;

/// Errors about definitions come from the code that all device drivers share.
const NODEDEV: ErrorDomain = ErrorDomain::NODEDEV;

/// The adapter that virtual ports are made after.
const MODEL_OF_VPORTS: &str = "scsi_host11";
/// The name that the first virtual port gets; the next ones count on.
const FIRST_VPORT: u32 = 12;

/// A device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    name: String,
    definition: NodeDevice,
}

impl Object for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_active(&self) -> bool {
        true
    }
}

impl Device {
    /// A device.
    pub(crate) fn new(definition: NodeDevice) -> Self {
        Self { name: definition.name.clone().unwrap_or_default(), definition }
    }

    fn wire(&self) -> wire::NonnullNodeDevice {
        wire::NonnullNodeDevice { name: self.name().into() }
    }

    /// What it is, on the surface.
    fn kinds(&self) -> Vec<&'static str> {
        self.definition.capabilities.iter().map(kind).collect()
    }

    /// What it is, all the way down.
    fn all_kinds(&self) -> Vec<&'static str> {
        let below = self.scsi_host().map(|host| host.capabilities.as_slice()).unwrap_or_default();
        self.definition.capabilities.iter().chain(below).map(kind).collect()
    }

    fn scsi_host(&self) -> Option<&ScsiHostCapability> {
        self.definition.capabilities.iter().find_map(|capability| match capability {
            Capability::ScsiHost(host) => Some(host),
            _ => None,
        })
    }

    fn fc_host(&self) -> Option<&FcHost> {
        self.scsi_host()?.capabilities.iter().find_map(|capability| match capability {
            Capability::FcHost(host) => Some(host),
            _ => None,
        })
    }

    fn has_vports(&self) -> bool {
        self.all_kinds().contains(&"vports")
    }
}

/// What libvirt calls a capability when it lists or filters.
fn kind(capability: &Capability) -> &'static str {
    match capability {
        Capability::System(_) => "system",
        Capability::Pci(_) => "pci",
        Capability::Net(_) => "net",
        Capability::Scsi(_) => "scsi",
        Capability::ScsiHost(_) => "scsi_host",
        Capability::FcHost(_) => "fc_host",
        Capability::VportOps(_) => "vports",
        Capability::Storage(_) => "storage",
        _ => "other",
    }
}

impl Host {
    fn device(&self, name: &XdrString) -> Result<&Device> {
        let name = name.to_str_lossy();
        let found = self.devices.by_name(&name);
        found.ok_or_else(|| TEST.no_node_device(format_args!("no node device with matching name '{name}'")))
    }
}

fn list_all(host: &mut Host, args: ConnectListAllNodeDevicesArgs) -> Result<ConnectListAllNodeDevicesRet> {
    check_flags(args.flags, NODE_DEVICE_FLAGS, "testConnectListAllNodeDevices")?;
    let wanted = |device: &&Device| node_device_passes(args.flags, &device.all_kinds(), (true, true));
    let devices: Vec<_> = host.devices.iter().filter(wanted).map(Device::wire).collect();
    let ret = devices.len() as u32;
    Ok(ConnectListAllNodeDevicesRet {
        devices: if args.need_results == 0 { Vec::new() } else { devices },
        ret,
    })
}

/// Devices of one kind, or all.
fn of_kind<'h>(host: &'h Host, cap: Option<&XdrString>) -> impl Iterator<Item = &'h Device> {
    let cap = cap.map(ToString::to_string);
    host.devices
        .iter()
        .filter(move |device| cap.as_ref().is_none_or(|cap| device.all_kinds().contains(&cap.as_str())))
}

fn count(host: &mut Host, args: NodeNumOfDevicesArgs) -> Result<NodeNumOfDevicesRet> {
    check_flags(args.flags, 0, "testNodeNumOfDevices")?;
    Ok(NodeNumOfDevicesRet { num: of_kind(host, args.cap.as_ref()).count() as i32 })
}

fn names(host: &mut Host, args: NodeListDevicesArgs) -> Result<NodeListDevicesRet> {
    check_flags(args.flags, 0, "testNodeListDevices")?;
    let max = usize::try_from(args.maxnames).unwrap_or(0);
    let names = of_kind(host, args.cap.as_ref()).map(|device| device.name().into()).take(max).collect();
    Ok(NodeListDevicesRet { names })
}

fn by_name(host: &mut Host, args: NodeDeviceLookupByNameArgs) -> Result<NodeDeviceLookupByNameRet> {
    Ok(NodeDeviceLookupByNameRet { dev: host.device(&args.name)?.wire() })
}

fn get_xml_desc(host: &mut Host, args: NodeDeviceGetXmlDescArgs) -> Result<NodeDeviceGetXmlDescRet> {
    const INACTIVE: u32 = 1;
    check_flags(args.flags, INACTIVE, "testNodeDeviceGetXMLDesc")?;
    let device = host.device(&args.name)?;
    Ok(NodeDeviceGetXmlDescRet { xml: device.definition.to_xml(&FormatOptions::default()).into() })
}

fn parent(host: &mut Host, args: NodeDeviceGetParentArgs) -> Result<NodeDeviceGetParentRet> {
    let parent = host.device(&args.name)?.definition.parent.clone();
    Ok(NodeDeviceGetParentRet { parent_name: parent.map(Into::into) })
}

fn count_caps(host: &mut Host, args: NodeDeviceNumOfCapsArgs) -> Result<NodeDeviceNumOfCapsRet> {
    Ok(NodeDeviceNumOfCapsRet { num: host.device(&args.name)?.kinds().len() as i32 })
}

fn caps(host: &mut Host, args: NodeDeviceListCapsArgs) -> Result<NodeDeviceListCapsRet> {
    let max = usize::try_from(args.maxnames).unwrap_or(0);
    let names = host.device(&args.name)?.kinds().into_iter().map(Into::into).take(max).collect();
    Ok(NodeDeviceListCapsRet { names })
}

fn is_active(host: &mut Host, args: NodeDeviceIsActiveArgs) -> Result<NodeDeviceIsActiveRet> {
    host.device(&args.name)?;
    Ok(NodeDeviceIsActiveRet { active: 1 })
}

fn is_persistent(host: &mut Host, args: NodeDeviceIsPersistentArgs) -> Result<NodeDeviceIsPersistentRet> {
    host.device(&args.name)?;
    Ok(NodeDeviceIsPersistentRet { persistent: 1 })
}

/// Makes a virtual port: a device like the one the host has from the start, with the names it was asked for.
fn create_xml(host: &mut Host, args: NodeDeviceCreateXmlArgs) -> Result<NodeDeviceCreateXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(args.flags, VALIDATE, "testNodeDeviceCreateXML")?;
    let mut asked = NodeDevice::parse(&args.xml_desc.to_str_lossy(), &ParseOptions::test())?;
    asked.name = Some("new device".into());
    let asked = Device::new(asked);
    let fc = asked.fc_host().ok_or_else(|| NODEDEV.internal_error("Device is not a fibre channel HBA"))?;
    let (Some(wwnn), Some(wwpn)) = (fc.wwnn.clone(), fc.wwpn.clone()) else { return Err(unknown_cause()) };
    let parent = asked.definition.parent.clone().unwrap_or_default();
    let parent = host
        .devices
        .by_name(&parent)
        .ok_or_else(|| NODEDEV.internal_error("Could not find parent device for 'new device'"))?;
    if !parent.has_vports() {
        let text = format_args!("Parent device {} is not capable of vport operations", parent.name());
        return Err(NODEDEV.internal_error(text));
    }
    let mut definition = host.devices.by_name(MODEL_OF_VPORTS).ok_or_else(unknown_cause)?.definition.clone();
    definition.parent = Some(parent.name().to_owned());
    for capability in &mut definition.capabilities {
        let Capability::ScsiHost(scsi) = capability else { continue };
        for capability in &mut scsi.capabilities {
            if let Capability::FcHost(fc) = capability {
                (fc.wwnn, fc.wwpn) = (Some(wwnn.clone()), Some(wwpn.clone()));
            }
        }
    }
    let free = |n: &u32| host.devices.by_name(&format!("scsi_host{n}")).is_none();
    definition.name = (FIRST_VPORT..).find(free).map(|n| format!("scsi_host{n}"));
    let device = Device::new(definition);
    let dev = device.wire();
    host.devices.insert(device);
    host.emit(event(&dev.name, Lifecycle::Created));
    Ok(NodeDeviceCreateXmlRet { dev })
}

/// `virNodeDeviceEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Created = 0,
    Deleted = 1,
}

fn event(name: &XdrString, what: Lifecycle) -> Event {
    Event::NodeDeviceLifecycle(wire::NodeDeviceEventLifecycleMsg {
        callback_id: 0,
        dev: wire::NonnullNodeDevice { name: name.clone() },
        event: what as i32,
        detail: 0,
    })
}

/// Takes a Fibre Channel adapter away whose parent is there; whatever else is asked for stays, without complaint.
fn destroy(host: &mut Host, args: NodeDeviceDestroyArgs) -> Result<()> {
    let device = host.device(&args.name)?;
    let parent = device.definition.parent.as_ref().and_then(|parent| host.devices.by_name(parent));
    if device.fc_host().is_some() && parent.is_some() {
        host.devices.remove(&args.name.to_str_lossy());
        host.emit(event(&args.name, Lifecycle::Deleted));
    }
    Ok(())
}

serve! {
    NodeDeviceDriver for TestConnection by run {
        connect_list_all_node_devices = list_all;
        node_num_of_devices = count;
        node_list_devices = names;
        node_device_lookup_by_name = by_name;
        node_device_get_xml_desc = get_xml_desc;
        node_device_get_parent = parent;
        node_device_num_of_caps = count_caps;
        node_device_list_caps = caps;
        node_device_is_active = is_active;
        node_device_is_persistent = is_persistent;
        node_device_create_xml = create_xml;
        node_device_destroy = destroy;
    }
}
