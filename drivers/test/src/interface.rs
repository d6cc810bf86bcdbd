//! Interfaces of the host, with changes that can be taken back.

use std::string::String; // the protocol has one of its own

use virtwire_conf::{FormatOptions, ParseOptions};
use virtwire_driver_api::{InterfaceDriver, passes, serve};
use virtwire_protocol::remote::{self as wire, *};

use crate::driver::TestConnection;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::registry::Object;

/// An interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    name: String,
    definition: virtwire_conf::Interface,
    active: bool,
}

impl Object for Interface {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_active(&self) -> bool {
        self.active
    }
}

impl Interface {
    /// An interface, up or down.
    pub(crate) fn new(definition: virtwire_conf::Interface, active: bool) -> Self {
        Self { name: definition.name.clone().unwrap_or_default(), definition, active }
    }

    fn mac(&self) -> &str {
        self.definition.mac.as_ref().and_then(|mac| mac.address.as_deref()).unwrap_or_default()
    }

    fn wire(&self) -> wire::NonnullInterface {
        wire::NonnullInterface { name: self.name().into(), mac: self.mac().into() }
    }
}

impl Host {
    fn interface_mut(&mut self, name: &virtwire_protocol::XdrString) -> Result<&mut Interface> {
        let name = name.to_str_lossy();
        let found = self.interfaces.by_name_mut(&name);
        found.ok_or_else(|| TEST.no_interface(format_args!("no interface with matching name '{name}'")))
    }
}

fn list_all(host: &mut Host, args: ConnectListAllInterfacesArgs) -> Result<ConnectListAllInterfacesRet> {
    const INACTIVE: u32 = 1;
    const ACTIVE: u32 = 2;
    check_flags(args.flags, INACTIVE | ACTIVE, "testConnectListAllInterfaces")?;
    let found =
        host.interfaces.iter().filter(|interface| passes(args.flags, ACTIVE, INACTIVE, interface.active));
    let ifaces: Vec<_> = found.map(Interface::wire).collect();
    let ret = ifaces.len() as u32;
    Ok(ConnectListAllInterfacesRet { ifaces: if args.need_results == 0 { Vec::new() } else { ifaces }, ret })
}

fn count_active(host: &mut Host) -> Result<ConnectNumOfInterfacesRet> {
    Ok(ConnectNumOfInterfacesRet { num: host.interfaces.count(true) })
}

fn count_inactive(host: &mut Host) -> Result<ConnectNumOfDefinedInterfacesRet> {
    Ok(ConnectNumOfDefinedInterfacesRet { num: host.interfaces.count(false) })
}

fn active(host: &mut Host, args: ConnectListInterfacesArgs) -> Result<ConnectListInterfacesRet> {
    Ok(ConnectListInterfacesRet {
        names: host.interfaces.names(true, args.maxnames).map(Into::into).collect(),
    })
}

fn inactive(
    host: &mut Host,
    args: ConnectListDefinedInterfacesArgs,
) -> Result<ConnectListDefinedInterfacesRet> {
    Ok(ConnectListDefinedInterfacesRet {
        names: host.interfaces.names(false, args.maxnames).map(Into::into).collect(),
    })
}

fn by_name(host: &mut Host, args: InterfaceLookupByNameArgs) -> Result<InterfaceLookupByNameRet> {
    Ok(InterfaceLookupByNameRet { iface: host.interface_mut(&args.name)?.wire() })
}

fn by_mac(host: &mut Host, args: InterfaceLookupByMacStringArgs) -> Result<InterfaceLookupByMacStringRet> {
    let mac = args.mac.to_string();
    let mut found = host.interfaces.iter().filter(|interface| interface.mac().eq_ignore_ascii_case(&mac));
    match (found.next(), found.next()) {
        (Some(interface), None) => Ok(InterfaceLookupByMacStringRet { iface: interface.wire() }),
        (Some(_), Some(_)) => Err(TEST.multiple_interfaces("")),
        (None, _) => Err(TEST.no_interface(format_args!("no interface with matching mac '{mac}'"))),
    }
}

fn get_xml_desc(host: &mut Host, args: InterfaceGetXmlDescArgs) -> Result<InterfaceGetXmlDescRet> {
    check_flags(args.flags, 0, "testInterfaceGetXMLDesc")?;
    let interface = host.interface_mut(&args.iface.name)?;
    Ok(InterfaceGetXmlDescRet { xml: interface.definition.to_xml(&FormatOptions::default()).into() })
}

fn define_xml(host: &mut Host, args: InterfaceDefineXmlArgs) -> Result<InterfaceDefineXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(args.flags, VALIDATE, "testInterfaceDefineXML")?;
    let definition = virtwire_conf::Interface::parse(&args.xml.to_str_lossy(), &ParseOptions::test())?;
    let name = definition.name.clone().unwrap_or_default();
    let interface = match host.interfaces.by_name_mut(&name) {
        Some(old) => {
            old.definition = definition;
            old.wire()
        }
        None => {
            let new = Interface::new(definition, false);
            let wire = new.wire();
            host.interfaces.insert(new);
            wire
        }
    };
    Ok(InterfaceDefineXmlRet { iface: interface })
}

fn undefine(host: &mut Host, args: InterfaceUndefineArgs) -> Result<()> {
    host.interface_mut(&args.iface.name)?;
    host.interfaces.remove(&args.iface.name.to_str_lossy());
    Ok(())
}

/// Brings an interface up or down; it must not be so already.
fn set_active(host: &mut Host, name: &virtwire_protocol::XdrString, active: bool) -> Result<()> {
    let interface = host.interface_mut(name)?;
    if interface.active == active {
        return Err(TEST.operation_invalid(""));
    }
    interface.active = active;
    Ok(())
}

fn create(host: &mut Host, args: InterfaceCreateArgs) -> Result<()> {
    check_flags(args.flags, 0, "testInterfaceCreate")?;
    set_active(host, &args.iface.name, true)
}

fn destroy(host: &mut Host, args: InterfaceDestroyArgs) -> Result<()> {
    check_flags(args.flags, 0, "testInterfaceDestroy")?;
    set_active(host, &args.iface.name, false)
}

fn is_active(host: &mut Host, args: InterfaceIsActiveArgs) -> Result<InterfaceIsActiveRet> {
    Ok(InterfaceIsActiveRet { active: host.interface_mut(&args.iface.name)?.active.into() })
}

fn change_begin(host: &mut Host, args: InterfaceChangeBeginArgs) -> Result<()> {
    check_flags(args.flags, 0, "testInterfaceChangeBegin")?;
    if host.interfaces_before.is_some() {
        return Err(TEST.operation_invalid("there is another transaction running."));
    }
    host.interfaces_before = Some(host.interfaces.clone());
    Ok(())
}

fn change_commit(host: &mut Host, args: InterfaceChangeCommitArgs) -> Result<()> {
    check_flags(args.flags, 0, "testInterfaceChangeCommit")?;
    match host.interfaces_before.take() {
        Some(_) => Ok(()),
        None => Err(TEST.operation_invalid("no transaction running, nothing to be committed.")),
    }
}

fn change_rollback(host: &mut Host, args: InterfaceChangeRollbackArgs) -> Result<()> {
    check_flags(args.flags, 0, "testInterfaceChangeRollback")?;
    match host.interfaces_before.take() {
        Some(before) => {
            host.interfaces = before;
            Ok(())
        }
        None => Err(TEST.operation_invalid("no transaction running, nothing to rollback.")),
    }
}

serve! {
    InterfaceDriver for TestConnection by run {
        connect_list_all_interfaces = list_all;
        connect_num_of_interfaces = count_active;
        connect_list_interfaces = active;
        connect_num_of_defined_interfaces = count_inactive;
        connect_list_defined_interfaces = inactive;
        interface_lookup_by_name = by_name;
        interface_lookup_by_mac_string = by_mac;
        interface_get_xml_desc = get_xml_desc;
        interface_define_xml = define_xml;
        interface_undefine = undefine;
        interface_create = create;
        interface_destroy = destroy;
        interface_is_active = is_active;
        interface_change_begin = change_begin;
        interface_change_commit = change_commit;
        interface_change_rollback = change_rollback;
    }
}
