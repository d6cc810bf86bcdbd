//! Rules of what is looked for in packets, as arguments of iptables(8) and ip6tables(8).
//!
//! A packet to the guest goes through one chain; one from the guest through another if it goes further, through a third
//! if it is for the host. A rule sees packets the way that it is about; in the chains of the other way it is turned round,
//! so that the answers pass.

use virtwire_conf::nwfilter::{RuleAction, RuleDirection};

use super::said::Form::{Decimal, Text};
use super::said::With::{End, Mask, Nothing};
use super::said::{Part, Said, part};
use super::{Args, Chain, words};
use crate::Result;

/// Protocols: its name for iptables, and whether it is above IPv6.
const PROTOCOLS: &[(&str, &str, bool)] = &[
    ("tcp", "tcp", false),
    ("udp", "udp", false),
    ("udplite", "udplite", false),
    ("sctp", "sctp", false),
    ("esp", "esp", false),
    ("ah", "ah", false),
    ("icmp", "icmp", false),
    ("igmp", "igmp", false),
    ("all", "all", false),
    ("tcp-ipv6", "tcp", true),
    ("udp-ipv6", "udp", true),
    ("udplite-ipv6", "udplite", true),
    ("sctp-ipv6", "sctp", true),
    ("esp-ipv6", "esp", true),
    ("ah-ipv6", "ah", true),
    ("icmpv6", "icmpv6", true),
    ("all-ipv6", "all", true),
];

const SOURCE: Part = part("srcipaddr", Mask("srcipmask", None), ["--source", "--destination"], Text);
const SOURCES: Part = part("srcipfrom", End("srcipto", '-'), ["--src-range", "--dst-range"], Text);
const TARGET: Part = part("dstipaddr", Mask("dstipmask", None), ["--destination", "--source"], Text);
const TARGETS: Part = part("dstipfrom", End("dstipto", '-'), ["--dst-range", "--src-range"], Text);
const DSCP: Part = part("dscp", Nothing, ["--dscp"; 2], Decimal);
const OPTION: Part = part("option", Nothing, ["--tcp-option"; 2], Decimal);
const LIMIT: Part = part("connlimit-above", Nothing, ["--connlimit-above"; 2], Decimal);
const PORTS: &[Part] = &[
    part("srcportstart", End("srcportend", ':'), ["--sport", "--dport"], Decimal),
    part("dstportstart", End("dstportend", ':'), ["--dport", "--sport"], Decimal),
];

/// Whether a protocol is above IPv6; `None` if a rule about it is not for iptables.
pub(super) fn is_ipv6(protocol: &str) -> Option<bool> {
    PROTOCOLS.iter().find(|(name, ..)| *name == protocol).map(|(_, _, ipv6)| *ipv6)
}

/// The arguments for each chain that a rule has a part in.
///
/// # Errors
/// A variable is not of its attribute's type.
pub(super) fn rows(said: &Said<'_>) -> Result<Vec<(Chain, Args)>> {
    let mut all = Vec::new();
    for chain in [Chain::FromGuest, Chain::ToGuest, Chain::ToHost] {
        all.extend(row(said, chain)?.map(|args| (chain, args)));
    }
    Ok(all)
}

fn row(said: &Said<'_>, chain: Chain) -> Result<Option<Args>> {
    let rule = said.rule;
    let name = said.protocol().unwrap_or_default();
    let Some((_, protocol, _)) = PROTOCOLS.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
    // As a rule for both ways sees packets, they go to the guest.
    let is_turned = (rule.direction == RuleDirection::Out) == (chain == Chain::ToGuest);
    let side = usize::from(is_turned);
    let is_typed = protocol.starts_with("icmp") && said.has("type");
    let is_limited = said.has(LIMIT.name);
    let is_accepted = rule.action == RuleAction::Accept;
    let is_both = rule.direction == RuleDirection::Inout;
    let state = said.constant("state").map(|(state, _)| state).filter(|_| rule.statematch.is_none());
    // An echo is no reply; counted are those who begin; who says what state it is about means one way.
    if is_turned && (is_typed || is_limited || state.is_some() && !is_both) || is_typed && is_both {
        return Ok(None);
    }
    let states = match state {
        _ if is_limited && is_accepted => None,
        Some("NONE") => None,
        Some(state) => Some((state, None)),
        None if !is_accepted || is_both || rule.statematch.is_some() => None,
        None if is_typed => Some(("NEW,ESTABLISHED", None)),
        None if is_turned => Some(("ESTABLISHED", Some("Reply"))),
        None => Some(("NEW,ESTABLISHED", Some("Original"))),
    };

    let mut args = words(&["-p", protocol]);
    let mac = said.get("srcmacaddr", Text)?;
    if let Some((mac, not)) = mac.as_ref().filter(|_| !is_turned) {
        args.extend(words(&["-m", "mac"]));
        option(&mut args, "--mac-source", mac.clone().into_owned(), *not);
    }
    let before = args.len();
    for (one, range) in [(&SOURCE, &SOURCES), (&TARGET, &TARGETS)] {
        if let Some((value, not)) = said.whole(one)? {
            option(&mut args, one.options[side], value, not);
        } else if let Some((value, not)) = said.whole(range)? {
            args.extend(words(&["-m", "iprange"]));
            option(&mut args, range.options[side], value, not);
        }
    }
    if let Some((value, not)) = said.whole(&DSCP)? {
        args.extend(words(&["-m", "dscp"]));
        option(&mut args, DSCP.options[side], value, not);
    }
    if let Some((flags, not)) = said.constant("flags").filter(|_| *protocol == "tcp")
        && let Some((mask, set)) = flags.split_once('/')
    {
        option(&mut args, "--tcp-flags", mask.to_owned(), not);
        args.push(set.to_owned());
    }
    for part in PORTS {
        if let Some((value, not)) = said.whole(part)? {
            option(&mut args, part.options[side], value, not);
        }
    }
    if let Some((value, not)) = said.whole(&OPTION)? {
        option(&mut args, OPTION.options[side], value, not);
    }
    if let Some((kind, not)) = said.get("type", Decimal)?.filter(|_| is_typed) {
        let code = said.get("code", Decimal)?.map(|(code, _)| format!("/{code}")).unwrap_or_default();
        let name = if *protocol == "icmp" { "--icmp-type" } else { "--icmpv6-type" };
        option(&mut args, name, format!("{kind}{code}"), not);
    }
    if mac.is_some() && is_turned && args.len() == before {
        // Whose frame it was is all that the rule looks at, and that the answer does not say.
        return Ok(None);
    }

    if let Some((states, way)) = states {
        args.extend(words(&["-m", "conntrack", "--ctstate", states]));
        args.extend(way.map(|way| words(&["-m", "conntrack", "--ctdir", way])).unwrap_or_default());
    }
    if let Some((set, _)) = said.get("ipset", Text)?
        && let Some((flags, _)) = said.constant("ipsetflags")
    {
        let turned = |flag| if flag == "src" { "dst" } else { "src" };
        let flags: Vec<&str> =
            flags.split(',').map(|flag| if is_turned { turned(flag) } else { flag }).collect();
        args.extend(words(&["-m", "set", "--match-set", &set, &flags.join(",")]));
    }
    if let Some((value, not)) = said.whole(&LIMIT)? {
        args.extend(words(&["-m", "connlimit"]));
        option(&mut args, LIMIT.options[side], value, not);
    }
    if let Some(comment) = said.comment() {
        args.extend(words(&["-m", "comment", "--comment", &comment]));
    }
    let target = match rule.action {
        RuleAction::Accept if chain == Chain::ToGuest => "ACCEPT",
        RuleAction::Accept | RuleAction::Return => "RETURN",
        RuleAction::Drop => "DROP",
        RuleAction::Reject => "REJECT",
        RuleAction::Continue => "CONTINUE",
    };
    args.extend(words(&["-j", target]));
    Ok(Some(args))
}

fn option(args: &mut Args, name: &str, value: String, not: bool) {
    args.extend(not.then(|| "!".to_owned()));
    args.extend([name.to_owned(), value]);
}
