//! What a switch is told of a port: by the interface, the network and the group of ports together.

use std::fmt::Display;

use virtwire_conf::domain::net::{VirtualPort, VirtualPortParameters};
use virtwire_conf::network_port::PlugType;
use virtwire_protocol::error::ErrorDomain;

use crate::{NETWORK, Result};

const NET: ErrorDomain = ErrorDomain::NET;

/// What interface, network and group say of a port.
///
/// # Errors
/// One says otherwise than another.
pub(crate) fn merged(
    own: Option<VirtualPort>,
    more: [Option<&VirtualPort>; 2],
) -> Result<Option<VirtualPort>> {
    let mut port = own;
    more.into_iter().try_for_each(|more| merge(&mut port, more))?;
    // An interface that leaves the type open has numbers for ports of each type.
    if let Some(VirtualPort { type_: Some(kind), parameters: Some(parameters) }) = &mut port {
        match kind.starts_with("802.1") {
            true => parameters.interfaceid = None,
            false => parameters.instanceid = None,
        }
    }
    Ok(port)
}

fn merge(port: &mut Option<VirtualPort>, more: Option<&VirtualPort>) -> Result<()> {
    let Some(more) = more else { return Ok(()) };
    let Some(port) = port else {
        *port = Some(more.clone());
        return Ok(());
    };
    one(&mut port.type_, &more.type_, "types", String::clone)?;
    let Some(more) = &more.parameters else { return Ok(()) };
    let port: &mut VirtualPortParameters = port.parameters.get_or_insert_default();
    one(&mut port.managerid, &more.managerid, "managerids", u32::to_string)?;
    one(&mut port.typeid, &more.typeid, "typeids", u32::to_string)?;
    one(&mut port.typeidversion, &more.typeidversion, "typeidversions", u32::to_string)?;
    one(&mut port.instanceid, &more.instanceid, "instanceids", quoted)?;
    one(&mut port.interfaceid, &more.interfaceid, "interfaceids", quoted)?;
    one(&mut port.profileid, &more.profileid, "profileids", quoted)
}

fn quoted(value: &impl Display) -> String {
    format!("'{value}'")
}

fn one<T: Clone + PartialEq>(
    own: &mut Option<T>,
    more: &Option<T>,
    what: &str,
    shown: fn(&T) -> String,
) -> Result<()> {
    match (own.as_ref(), more) {
        (Some(own), Some(more)) if own != more => Err(NET.xml_error(format_args!(
            "attempt to merge virtualports with mismatched {what} ({} and {})",
            shown(own),
            shown(more)
        ))),
        (None, Some(more)) => {
            *own = Some(more.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether what a port is plugged into knows such ports.
///
/// # Errors
/// It does not.
pub(crate) fn check(port: Option<&VirtualPort>, plug: PlugType, network: &str) -> Result<()> {
    let Some(port) = port else { return Ok(()) };
    let kind = port.type_.as_deref().unwrap_or("none");
    let (known, what): (&[&str], _) = match plug {
        PlugType::Bridge => (&["openvswitch", "midonet"], "bridge"),
        PlugType::Direct => (&["802.1Qbg", "802.1Qbh"], "macvtap"),
        _ => return Ok(()),
    };
    if known.contains(&kind) {
        return Ok(());
    }
    Err(NETWORK.config_unsupported(format_args!(
        "<virtualport type='{kind}'> not supported for network '{network}' which uses a {what} device"
    )))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn port(kind: Option<&str>, profile: Option<&str>) -> VirtualPort {
        let parameters = VirtualPortParameters {
            profileid: profile.map(str::to_owned),
            ..VirtualPortParameters::default()
        };
        VirtualPort { type_: kind.map(str::to_owned), parameters: Some(parameters) }
    }

    #[test]
    fn each_says_what_the_others_leave_open() {
        let (net, group) = (port(Some("openvswitch"), None), port(None, Some("y")));
        let known = merged(Some(port(None, Some("x"))), [Some(&net), None]).unwrap();
        assert_eq!(known, Some(port(Some("openvswitch"), Some("x"))));
        let error = merged(known.clone(), [None, Some(&group)]).unwrap_err();
        assert!(error.message.ends_with("mismatched profileids ('x' and 'y')"), "{error}");
        let error = merged(known, [Some(&port(Some("802.1Qbh"), None)), None]).unwrap_err();
        assert!(error.message.ends_with("mismatched types (openvswitch and 802.1Qbh)"), "{error}");
    }

    #[test]
    fn a_port_has_the_numbers_of_its_type() {
        let numbers = || {
            let mut open = port(None, None);
            let parameters = open.parameters.get_or_insert_default();
            (parameters.instanceid, parameters.interfaceid) = (Some(Uuid::nil()), Some(Uuid::nil()));
            open
        };
        let said = |kind| {
            let merged = merged(Some(numbers()), [Some(&port(Some(kind), None)), None]).unwrap();
            let parameters = merged.and_then(|port| port.parameters).unwrap_or_default();
            (parameters.instanceid.is_some(), parameters.interfaceid.is_some())
        };
        assert_eq!(said("openvswitch"), (false, true));
        assert_eq!(said("802.1Qbg"), (true, false));
    }

    #[test]
    fn a_bridge_knows_switches_ports_and_a_device_those_of_its_own() {
        let checked = |kind, plug| check(Some(&port(kind, None)), plug, "n").map_err(|error| error.message);
        checked(Some("openvswitch"), PlugType::Bridge).unwrap();
        checked(Some("802.1Qbg"), PlugType::Direct).unwrap();
        let text = "<virtualport type='none'> not supported for network 'n' which uses a bridge device";
        assert!(checked(None, PlugType::Bridge).unwrap_err().ends_with(text));
        assert!(checked(Some("openvswitch"), PlugType::Direct).is_err());
    }
}
