//! Rules of what is looked for in frames, as arguments of ebtables(8).

use virtwire_conf::nwfilter::{RuleAction, RuleDirection};

use super::said::Form::{Decimal, Hexadecimal, Text};
use super::said::With::{End, Mask, Nothing};
use super::said::{Part, Said, part};
use super::{Args, Way, words};
use crate::{NWFILTER, Result};

/// Where bridges that speak the spanning tree protocol hear each other (IEEE 802.1D).
const BRIDGES: &str = "01:80:c2:00:00:00";

const MACS: &[Part] = &[
    part("srcmacaddr", Mask("srcmacmask", None), ["-s", "-d"], Text),
    part("dstmacaddr", Mask("dstmacmask", None), ["-d", "-s"], Text),
];

const MAC: &[Part] = &[part("protocolid", Nothing, ["-p"; 2], Hexadecimal)];

const VLAN: &[Part] = &[
    part("vlanid", Nothing, ["--vlan-id"; 2], Decimal),
    part("encap-protocol", Nothing, ["--vlan-encap"; 2], Decimal),
];

const STP: &[Part] = &[
    part("type", Nothing, ["--stp-type"; 2], Decimal),
    part("flags", Nothing, ["--stp-flags"; 2], Decimal),
    part("root-priority", End("root-priority-hi", ':'), ["--stp-root-pri"; 2], Decimal),
    part("root-address", Mask("root-address-mask", None), ["--stp-root-addr"; 2], Text),
    part("root-cost", End("root-cost-hi", ':'), ["--stp-root-cost"; 2], Decimal),
    part("sender-priority", End("sender-priority-hi", ':'), ["--stp-sender-prio"; 2], Decimal),
    part("sender-address", Mask("sender-address-mask", None), ["--stp-sender-addr"; 2], Text),
    part("port", End("port-hi", ':'), ["--stp-port"; 2], Decimal),
    part("age", End("age-hi", ':'), ["--stp-msg-age"; 2], Decimal),
    part("max-age", End("max-age-hi", ':'), ["--stp-max-age"; 2], Decimal),
    part("hello-time", End("hello-time-hi", ':'), ["--stp-hello-time"; 2], Decimal),
    part("forward-delay", End("forward-delay-hi", ':'), ["--stp-forward-delay"; 2], Decimal),
];

const ARP: &[Part] = &[
    part("hwtype", Nothing, ["--arp-htype"; 2], Decimal),
    part("opcode", Nothing, ["--arp-opcode"; 2], Decimal),
    part("protocoltype", Nothing, ["--arp-ptype"; 2], Hexadecimal),
    part("arpsrcipaddr", Mask("arpsrcipmask", Some("32")), ["--arp-ip-src", "--arp-ip-dst"], Text),
    part("arpdstipaddr", Mask("arpdstipmask", Some("32")), ["--arp-ip-dst", "--arp-ip-src"], Text),
    part("arpsrcmacaddr", Nothing, ["--arp-mac-src", "--arp-mac-dst"], Text),
    part("arpdstmacaddr", Nothing, ["--arp-mac-dst", "--arp-mac-src"], Text),
];

const IP: &[Part] = &[
    part("srcipaddr", Mask("srcipmask", None), ["--ip-source", "--ip-destination"], Text),
    part("dstipaddr", Mask("dstipmask", None), ["--ip-destination", "--ip-source"], Text),
    part("protocol", Nothing, ["--ip-protocol"; 2], Decimal),
    part("srcportstart", End("srcportend", ':'), ["--ip-source-port", "--ip-destination-port"], Decimal),
    part("dstportstart", End("dstportend", ':'), ["--ip-destination-port", "--ip-source-port"], Decimal),
    part("dscp", Nothing, ["--ip-tos"; 2], Hexadecimal),
];

const IPV6: &[Part] = &[
    part("srcipaddr", Mask("srcipmask", None), ["--ip6-source", "--ip6-destination"], Text),
    part("dstipaddr", Mask("dstipmask", None), ["--ip6-destination", "--ip6-source"], Text),
    part("protocol", Nothing, ["--ip6-protocol"; 2], Decimal),
    part("srcportstart", End("srcportend", ':'), ["--ip6-source-port", "--ip6-destination-port"], Decimal),
    part("dstportstart", End("dstportend", ':'), ["--ip6-destination-port", "--ip6-source-port"], Decimal),
];

/// Protocols: what is looked for of each, besides the addresses of the frame.
const PROTOCOLS: &[(&str, &[&str], &[Part])] = &[
    ("mac", &[], MAC),
    ("vlan", &["-p", "0x8100"], VLAN),
    ("stp", &["-d", BRIDGES], STP),
    ("arp", &["-p", "0x806"], ARP),
    ("rarp", &["-p", "0x8035"], ARP),
    ("ip", &["-p", "ipv4"], IP),
    ("ipv6", &["-p", "ipv6"], IPV6),
];

/// What leads into the chains whose names begin so.
const CHAINS: &[(&str, &[&str])] = &[
    ("mac", &[]),
    ("vlan", &["-p", "0x8100"]),
    ("stp", &["-d", BRIDGES]),
    ("arp", &["-p", "0x0806"]),
    ("rarp", &["-p", "0x8035"]),
    ("ipv4", &["-p", "0x0800"]),
    ("ipv6", &["-p", "0x86dd"]),
];

/// What packets belong into a chain.
pub(super) fn into_chain(chain: &str) -> Args {
    let known = CHAINS.iter().find(|(prefix, _)| chain.starts_with(prefix));
    known.map(|(_, args)| words(args)).unwrap_or_default()
}

/// The arguments for each way that a rule is about; `None` if it is not for ebtables.
///
/// # Errors
/// A variable is not of its attribute's type, or the rule cannot be for both ways.
pub(super) fn rows(said: &Said<'_>) -> Result<Option<Vec<(Way, Args)>>> {
    let name = said.protocol();
    let protocol = match name {
        None => None,
        Some(name) => match PROTOCOLS.iter().find(|(known, ..)| *known == name) {
            None => return Ok(None),
            known => known,
        },
    };
    if name == Some("stp") && said.rule.direction == RuleDirection::Inout && said.has("srcmacaddr") {
        let text = "STP filtering in inout direction with source MAC address set is not supported";
        return Err(NWFILTER.internal_error(text));
    }
    let target = match said.rule.action {
        RuleAction::Accept => "ACCEPT",
        RuleAction::Drop | RuleAction::Reject => "DROP",
        RuleAction::Return => "RETURN",
        RuleAction::Continue => "CONTINUE",
    };
    // As a rule for both ways sees packets, they go to the guest.
    let ways: &[(Way, usize)] = match said.rule.direction {
        RuleDirection::In => &[(Way::ToGuest, 0)],
        RuleDirection::Out => &[(Way::FromGuest, 0)],
        RuleDirection::Inout => &[(Way::FromGuest, 1), (Way::ToGuest, 0)],
    };
    let one = |(way, side): &(Way, usize)| {
        let mut args = Vec::new();
        if let Some((name, fixed, parts)) = protocol {
            say(said, MACS, *side, &mut args)?;
            args.extend(words(fixed));
            say(said, parts, *side, &mut args)?;
            match *name {
                "arp" | "rarp" => args.extend(gratuitous(said)),
                "ipv6" => args.extend(icmp(said)?),
                _ => {}
            }
        }
        args.extend(words(&["-j", target]));
        Ok((*way, args))
    };
    ways.iter().map(one).collect::<Result<_>>().map(Some)
}

fn say(said: &Said<'_>, parts: &[Part], side: usize, args: &mut Args) -> Result<()> {
    for part in parts {
        if let Some((value, not)) = said.whole(part)? {
            args.push(part.options[side].to_owned());
            args.extend(not.then(|| "!".to_owned()));
            args.push(value);
        }
    }
    Ok(())
}

/// Whether somebody tells the neighbours of itself.
fn gratuitous(said: &Said<'_>) -> Args {
    match said.constant("gratuitous") {
        Some(("true", false)) => words(&["--arp-gratuitous"]),
        Some(("true", true)) => words(&["!", "--arp-gratuitous"]),
        _ => Vec::new(),
    }
}

/// Types and codes of ICMPv6, which come as two ranges.
fn icmp(said: &Said<'_>) -> Result<Args> {
    if !said.has("type") && !said.has("code") {
        return Ok(Vec::new());
    }
    let mut not = false;
    let mut range = |first: &str, last: &str| -> Result<String> {
        let Some((from, is_not)) = said.get(first, Decimal)? else { return Ok("0:255".to_owned()) };
        not |= is_not;
        let to = said.get(last, Decimal)?.map_or_else(|| from.clone(), |(to, _)| to);
        Ok(format!("{from}:{to}"))
    };
    let value = format!("{}/{}", range("type", "typeend")?, range("code", "codeend")?);
    let mut args = words(&["--ip6-icmp-type"]);
    args.extend(not.then(|| "!".to_owned()));
    args.push(value);
    Ok(args)
}
