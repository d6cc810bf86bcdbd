//! Which function serves which procedure.

use std::sync::Arc;

use virtwire_conf::nodedev::Capability;
use virtwire_conf::{FormatOptions, NodeDevice, ParseOptions, QemuHost};
use virtwire_driver_api::{NODE_DEVICE_FLAGS, NodeDeviceDriver, check_flags, node_device_passes, serve};
use virtwire_protocol::XdrString;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

use crate::{NODEDEV, NodeDevices, Result, kind, net};

serve! {
    NodeDeviceDriver for NodeDevices {
        connect_list_all_node_devices = list_all;
        node_num_of_devices = count;
        node_list_devices = names;
        node_device_lookup_by_name = by_name;
        node_device_lookup_scsi_host_by_wwn = by_wwn;
        node_device_get_xml_desc = xml_desc;
        node_device_get_parent = parent;
        node_device_num_of_caps = count_caps;
        node_device_list_caps = caps;
        node_device_is_active = is_active;
        node_device_is_persistent = is_persistent;
        node_device_get_autostart = autostart;
        node_device_set_autostart = set_autostart;
        node_device_create_xml = create_xml;
        node_device_define_xml = define_xml;
        node_device_destroy = destroy;
        node_device_undefine = undefine;
        node_device_create = create;
        node_device_update = update;
    }
}

async fn list_all(
    devices: &NodeDevices,
    args: ConnectListAllNodeDevicesArgs,
) -> Result<ConnectListAllNodeDevicesRet> {
    check_flags(NODEDEV, args.flags, NODE_DEVICE_FLAGS, "nodeConnectListAllNodeDevices")?;
    let wanted = |device: &&NodeDevice| {
        node_device_passes(args.flags, &kind::words(device), (kind::is_kept(device), true))
    };
    let found: Vec<_> = devices
        .with(|all| all.values().map(|device| &device.definition).filter(wanted).map(handle).collect())
        .await;
    let ret = found.len() as u32;
    Ok(ConnectListAllNodeDevicesRet { devices: if args.need_results == 0 { Vec::new() } else { found }, ret })
}

fn handle(device: &NodeDevice) -> NonnullNodeDevice {
    NonnullNodeDevice { name: device.name.as_deref().unwrap_or_default().into() }
}

/// The names of the devices of one kind, or of all.
async fn of_kind(devices: &NodeDevices, cap: Option<&XdrString>) -> Vec<XdrString> {
    let cap = cap.map(XdrString::to_str_lossy);
    let wanted = |device: &NodeDevice| cap.as_ref().is_none_or(|cap| kind::words(device).contains(&&**cap));
    let named = |all: &std::collections::BTreeMap<String, crate::Device>| {
        all.iter()
            .filter(|(_, device)| wanted(&device.definition))
            .map(|(name, _)| name.as_str().into())
            .collect()
    };
    devices.with(named).await
}

fn most(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

async fn count(devices: &NodeDevices, args: NodeNumOfDevicesArgs) -> Result<NodeNumOfDevicesRet> {
    check_flags(NODEDEV, args.flags, 0, "nodeNumOfDevices")?;
    Ok(NodeNumOfDevicesRet { num: of_kind(devices, args.cap.as_ref()).await.len() as i32 })
}

async fn names(devices: &NodeDevices, args: NodeListDevicesArgs) -> Result<NodeListDevicesRet> {
    check_flags(NODEDEV, args.flags, 0, "nodeListDevices")?;
    let mut names = of_kind(devices, args.cap.as_ref()).await;
    names.truncate(most(args.maxnames));
    Ok(NodeListDevicesRet { names })
}

async fn by_name(
    devices: &NodeDevices,
    args: NodeDeviceLookupByNameArgs,
) -> Result<NodeDeviceLookupByNameRet> {
    let found = devices.get(&args.name.to_str_lossy()).await?;
    Ok(NodeDeviceLookupByNameRet { dev: handle(&found.definition) })
}

/// Looks for the port of a Fibre Channel adapter.
async fn by_wwn(
    devices: &NodeDevices,
    args: NodeDeviceLookupScsiHostByWwnArgs,
) -> Result<NodeDeviceLookupScsiHostByWwnRet> {
    check_flags(NODEDEV, args.flags, 0, "nodeDeviceLookupSCSIHostByWWN")?;
    let (wwnn, wwpn) = (args.wwnn.to_str_lossy(), args.wwpn.to_str_lossy());
    let port = |within: &Capability| {
        matches!(within, Capability::FcHost(port)
            if port.wwnn.as_deref() == Some(&*wwnn) && port.wwpn.as_deref() == Some(&*wwpn))
    };
    let is = |capability: &Capability| matches!(capability, Capability::ScsiHost(host) if host.capabilities.iter().any(port));
    let found = devices
        .with(|all| {
            let mut all = all.values().map(|device| &device.definition);
            all.find(|device| device.capabilities.iter().any(is)).map(handle)
        })
        .await;
    // libvirt says nothing of what is wrong.
    let nothing = || ErrorDomain::NONE.internal_error("");
    let dev = found.ok_or_else(|| VirtError { message: UNKNOWN.to_owned(), ..nothing() })?;
    Ok(NodeDeviceLookupScsiHostByWwnRet { dev })
}

async fn xml_desc(devices: &NodeDevices, args: NodeDeviceGetXmlDescArgs) -> Result<NodeDeviceGetXmlDescRet> {
    const INACTIVE: u32 = 1;
    check_flags(NODEDEV, args.flags, INACTIVE, "nodeDeviceGetXMLDesc")?;
    let mut device = devices.fresh(&args.name.to_str_lossy()).await?;
    if args.flags & INACTIVE != 0 && !kind::is_kept(&device) {
        return Err(NODEDEV.operation_invalid(format_args!("node device '{}' is not persistent", args.name)));
    }
    for capability in &mut device.capabilities {
        if let Capability::Net(net) = capability {
            net.feature = net::features(net.interface.as_deref().unwrap_or_default()).await;
        }
    }
    Ok(NodeDeviceGetXmlDescRet { xml: device.to_xml(&FormatOptions::default()).into() })
}

async fn parent(devices: &NodeDevices, args: NodeDeviceGetParentArgs) -> Result<NodeDeviceGetParentRet> {
    let parent = devices.get(&args.name.to_str_lossy()).await?.definition.parent;
    Ok(NodeDeviceGetParentRet { parent_name: parent.map(Into::into) })
}

async fn count_caps(devices: &NodeDevices, args: NodeDeviceNumOfCapsArgs) -> Result<NodeDeviceNumOfCapsRet> {
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    Ok(NodeDeviceNumOfCapsRet { num: kind::words(&device).len() as i32 })
}

async fn caps(devices: &NodeDevices, args: NodeDeviceListCapsArgs) -> Result<NodeDeviceListCapsRet> {
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    let names = kind::words(&device).into_iter().take(most(args.maxnames)).map(Into::into).collect();
    Ok(NodeDeviceListCapsRet { names })
}

async fn is_active(devices: &NodeDevices, args: NodeDeviceIsActiveArgs) -> Result<NodeDeviceIsActiveRet> {
    devices.get(&args.name.to_str_lossy()).await?;
    Ok(NodeDeviceIsActiveRet { active: 1 })
}

async fn is_persistent(
    devices: &NodeDevices,
    args: NodeDeviceIsPersistentArgs,
) -> Result<NodeDeviceIsPersistentRet> {
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    Ok(NodeDeviceIsPersistentRet { persistent: kind::is_kept(&device).into() })
}

async fn autostart(
    devices: &NodeDevices,
    args: NodeDeviceGetAutostartArgs,
) -> Result<NodeDeviceGetAutostartRet> {
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    Ok(NodeDeviceGetAutostartRet { autostart: kind::is_kept(&device).into() })
}

async fn set_autostart(devices: &NodeDevices, args: NodeDeviceSetAutostartArgs) -> Result<()> {
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    Err(match device.capabilities.first() {
        Some(Capability::Mdev(_)) => NODEDEV.operation_invalid("cannot set autostart for transient device"),
        _ => NODEDEV.operation_unsupported("Unsupported device type"),
    })
}

/// What can be made, defined and taken away is a part of another device, and no host here is told to.
fn not_a_part() -> VirtError {
    NODEDEV.config_unsupported("Unsupported device type")
}

/// Refuses to make or define a device, after what is asked for.
async fn refused(devices: &NodeDevices, xml: &XdrString, validate: bool, made: bool) -> VirtError {
    let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(validate);
    let asked = match NodeDevice::parse(&xml.to_str_lossy(), &options) {
        Ok(asked) => asked,
        Err(error) => return error,
    };
    let parent = match asked.parent.as_deref() {
        Some(name) => devices.get(name).await.ok().map(|parent| parent.definition),
        None => None,
    };
    let name = asked.parent.as_deref().unwrap_or_default();
    match (asked.capabilities.first(), parent) {
        (Some(Capability::Mdev(_)), _) if asked.parent.is_none() => {
            NODEDEV.config_unsupported("missing parent device")
        }
        (Some(Capability::Mdev(_)), None) => {
            NODEDEV.config_unsupported(format_args!("invalid parent device '{name}'"))
        }
        (Some(Capability::Mdev(_)), Some(parent)) if !kind::words(&parent).contains(&"mdev_types") => {
            NODEDEV.parse_failed(format_args!("Unable to find address for parent device '{name}'"))
        }
        (Some(Capability::ScsiHost(host)), parent) if made => {
            let port = host.capabilities.iter().any(|within| matches!(within, Capability::FcHost(_)));
            match parent {
                _ if !port => NODEDEV.internal_error("Device is not a fibre channel HBA"),
                None => NODEDEV.internal_error("Could not find parent device for 'new device'"),
                Some(parent) if !kind::words(&parent).contains(&"vports") => NODEDEV
                    .internal_error(format_args!("Parent device {name} is not capable of vport operations")),
                Some(_) => not_a_part(),
            }
        }
        _ => not_a_part(),
    }
}

/// What libvirt answers where a function has failed without a word.
const UNKNOWN: &str = "An error occurred, but the cause is unknown";
/// `VIR_NODE_DEVICE_CREATE_XML_VALIDATE`, `VIR_NODE_DEVICE_DEFINE_XML_VALIDATE`
const VALIDATE: u32 = 1;

async fn create_xml(devices: &NodeDevices, args: NodeDeviceCreateXmlArgs) -> Result<NodeDeviceCreateXmlRet> {
    check_flags(NODEDEV, args.flags, VALIDATE, "nodeDeviceCreateXML")?;
    Err(refused(devices, &args.xml_desc, args.flags & VALIDATE != 0, true).await)
}

async fn define_xml(devices: &NodeDevices, args: NodeDeviceDefineXmlArgs) -> Result<NodeDeviceDefineXmlRet> {
    check_flags(NODEDEV, args.flags, VALIDATE, "nodeDeviceDefineXML")?;
    Err(refused(devices, &args.xml_desc, args.flags & VALIDATE != 0, false).await)
}

async fn destroy(devices: &NodeDevices, args: NodeDeviceDestroyArgs) -> Result<()> {
    devices.get(&args.name.to_str_lossy()).await?;
    Err(not_a_part())
}

async fn undefine(devices: &NodeDevices, args: NodeDeviceUndefineArgs) -> Result<()> {
    check_flags(NODEDEV, args.flags, 0, "nodeDeviceUndefine")?;
    let device = devices.get(&args.name.to_str_lossy()).await?.definition;
    if kind::is_kept(&device) {
        return Err(not_a_part());
    }
    Err(NODEDEV.operation_invalid(format_args!("Node device '{}' is not defined", args.name)))
}

async fn create(devices: &NodeDevices, args: NodeDeviceCreateArgs) -> Result<()> {
    check_flags(NODEDEV, args.flags, 0, "nodeDeviceCreate")?;
    devices.get(&args.name.to_str_lossy()).await?;
    Err(NODEDEV.operation_invalid("Device is already active"))
}

/// `VIR_NODE_DEVICE_UPDATE_AFFECT_LIVE`, `…_CONFIG`
const AFFECTED: u32 = 1 | 2;

async fn update(devices: &NodeDevices, args: NodeDeviceUpdateArgs) -> Result<()> {
    check_flags(NODEDEV, args.flags, AFFECTED, "nodeDeviceUpdate")?;
    devices.get(&args.name.to_str_lossy()).await?;
    let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(true);
    NodeDevice::parse(&args.xml_desc.to_str_lossy(), &options)?;
    Err(not_a_part())
}
