//! What a switch is told of a port.

use virtwire_protocol::ErrorDomain;

use super::Result;
use crate::domain::net::{Interface, InterfaceType, VirtualPort, VirtualPortParameters};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const NET: ErrorDomain = ErrorDomain::NET;
const NONE: ErrorDomain = ErrorDomain::NONE;

/// Each type, the parameters that it needs, and those that it knows besides.
const TYPES: [(&str, &[&str], &[&str]); 4] = [
    ("802.1Qbg", &["managerid", "typeid", "typeidversion"], &["instanceid"]),
    ("802.1Qbh", &["profileid"], &["instanceid"]),
    ("openvswitch", &[], &["interfaceid", "profileid"]),
    ("midonet", &["interfaceid"], &[]),
];

/// The highest numbers that fit where they are sent.
const LAST_BYTE: u32 = 0xff;
const LAST_TYPE: u32 = 0x00ff_ffff;

/// A profile's name and its end.
const PROFILE_ROOM: usize = 40;

/// The parameters that are said.
fn said(parameters: Option<&VirtualPortParameters>) -> Vec<&'static str> {
    let Some(of) = parameters else { return Vec::new() };
    let all = [
        ("managerid", of.managerid.is_some()),
        ("typeid", of.typeid.is_some()),
        ("typeidversion", of.typeidversion.is_some()),
        ("instanceid", of.instanceid.is_some()),
        ("profileid", of.profileid.is_some()),
        ("interfaceid", of.interfaceid.is_some()),
    ];
    all.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
}

/// What shows as it is read.
pub(super) fn read(interface: &Interface) -> Result {
    let Some(port) = &interface.virtualport else { return Ok(()) };
    let kind = interface.type_;
    let network = kind == InterfaceType::Network;
    let switched =
        matches!(kind, InterfaceType::Bridge | InterfaceType::Direct | InterfaceType::Hostdev) || network;
    refuse! {
        !switched =>
            DOMAIN.config_unsupported("<virtualport> element unsupported for <interface type='{kind}'>");
        port.type_.is_none() && !network => NONE.xml_error("missing required virtualport type");
    }
    check(port, network)
}

/// A network says the rest of a port that is `open`.
fn check(port: &VirtualPort, open: bool) -> Result {
    let name = port.type_.as_deref();
    let known = name.and_then(|name| TYPES.iter().find(|(known, ..)| *known == name));
    let said = said(port.parameters.as_ref());
    let none = VirtualPortParameters::default();
    let of = port.parameters.as_ref().unwrap_or(&none);
    let shown = name.unwrap_or_default();
    let (needs, knows) = known.map_or((&[][..], &[][..]), |(_, needs, knows)| (*needs, *knows));
    let missing = needs.iter().find(|name| !said.contains(name) && !open);
    let extra = said.iter().find(|name| known.is_some() && !needs.contains(name) && !knows.contains(name));
    refuse! {
        name.is_some() && known.is_none() => NONE.config_unsupported("unknown virtualport type {shown}");
        of.managerid.is_some_and(|id| id > LAST_BYTE) => NONE.xml_error("value of managerid out of range");
        of.typeid.is_some_and(|id| id > LAST_TYPE) => NONE.xml_error("value for typeid out of range");
        of.typeidversion.is_some_and(|version| version > LAST_BYTE) =>
            NONE.xml_error("value of typeidversion out of range");
        of.profileid.as_ref().is_some_and(|profile| profile.len() >= PROFILE_ROOM) =>
            NONE.xml_error("profileid parameter too long");
        missing.is_some() => NET.xml_error(
            "missing {} in <virtualport type='{shown}'>", missing.copied().unwrap_or_default());
        extra.is_some() => NET.xml_error(
            "extra {} unsupported in <virtualport type='{shown}'>", extra.copied().unwrap_or_default());
    }
    Ok(())
}
