//! Network filters: which attributes each protocol has, what they may say, and how they are shown.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Flavor, ParseOptions};
use crate::domain::net::FilterParameter;
use crate::nwfilter::{BindingDevice, Entry, Matches, Rule};
use crate::table::{Mac, c_number, schema};
use crate::{Nwfilter, NwfilterBinding, NwfilterBindingStatus};

const NWFILTER: ErrorDomain = ErrorDomain::NWFILTER;

type Result<T = (), E = VirtError> = std::result::Result<T, E>;

/// What an attribute may say; gives the value as it is shown.
type Kind = fn(&str) -> Option<String>;

/// Attributes of a protocol in the order in which they are shown.
type Attributes = &'static [(&'static str, Kind)];

const BOTH_MACS: Attributes =
    &[("srcmacaddr", mac), ("srcmacmask", mac_mask), ("dstmacaddr", mac), ("dstmacmask", mac_mask)];
const ONE_MAC: Attributes = &[("srcmacaddr", mac)];
const ADDRESSES: Attributes =
    &[("srcipaddr", ipv4), ("srcipmask", mask4), ("dstipaddr", ipv4), ("dstipmask", mask4)];
const ADDRESSES6: Attributes =
    &[("srcipaddr", ipv6), ("srcipmask", mask6), ("dstipaddr", ipv6), ("dstipmask", mask6)];
const RANGES: Attributes = &[("srcipfrom", ipv4), ("srcipto", ipv4), ("dstipfrom", ipv4), ("dstipto", ipv4)];
const RANGES6: Attributes = &[("srcipfrom", ipv6), ("srcipto", ipv6), ("dstipfrom", ipv6), ("dstipto", ipv6)];
const COMMON: Attributes = &[("dscp", up_to::<63>), ("connlimit-above", decimal), ("state", state)];
const PORTS: Attributes =
    &[("srcportstart", word), ("srcportend", word), ("dstportstart", word), ("dstportend", word)];
const CODES: Attributes = &[("type", byte), ("code", byte)];
const CODE_RANGES: Attributes = &[("type", byte), ("typeend", byte), ("code", byte), ("codeend", byte)];
const ARP: Attributes = &[
    ("hwtype", word),
    ("protocoltype", word),
    ("opcode", opcode),
    ("arpsrcmacaddr", mac),
    ("arpdstmacaddr", mac),
    ("arpsrcipaddr", ipv4),
    ("arpsrcipmask", mask4),
    ("arpdstipaddr", ipv4),
    ("arpdstipmask", mask4),
    ("gratuitous", boolean),
];
const STP: Attributes = &[
    ("type", byte),
    ("flags", byte),
    ("root-priority", word),
    ("root-priority-hi", word),
    ("root-address", mac),
    ("root-address-mask", mac_mask),
    ("root-cost", number),
    ("root-cost-hi", number),
    ("sender-priority", word),
    ("sender-priority-hi", word),
    ("sender-address", mac),
    ("sender-address-mask", mac_mask),
    ("port", word),
    ("port-hi", word),
    ("age", word),
    ("age-hi", word),
    ("max-age", word),
    ("max-age-hi", word),
    ("hello-time", word),
    ("hello-time-hi", word),
    ("forward-delay", word),
    ("forward-delay-hi", word),
];
const PROTOCOL: Attributes = &[("protocol", protocol)];
const DSCP: Attributes = &[("dscp", up_to::<63>)];
const COMMENT: Attributes = &[("comment", text)];

/// Protocols, each with its attributes in groups.
const PROTOCOLS: &[(&str, &[Attributes])] = &[
    ("mac", &[BOTH_MACS, &[("protocolid", ether)], COMMENT]),
    ("vlan", &[BOTH_MACS, &[("vlanid", up_to::<4095>), ("encap-protocol", ether)], COMMENT]),
    ("stp", &[&[("srcmacaddr", mac), ("srcmacmask", mac_mask)], STP, COMMENT]),
    ("arp", &[BOTH_MACS, ARP, COMMENT]),
    ("rarp", &[BOTH_MACS, ARP, COMMENT]),
    ("ip", &[BOTH_MACS, ADDRESSES, PROTOCOL, PORTS, DSCP, COMMENT]),
    ("ipv6", &[BOTH_MACS, ADDRESSES6, PROTOCOL, PORTS, CODE_RANGES, COMMENT]),
    ("tcp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, PORTS, &[("option", byte), ("flags", flags)], COMMENT]),
    ("udp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, PORTS, COMMENT]),
    ("udplite", &[ONE_MAC, ADDRESSES, RANGES, COMMON, COMMENT]),
    ("esp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, COMMENT]),
    ("ah", &[ONE_MAC, ADDRESSES, RANGES, COMMON, COMMENT]),
    ("sctp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, PORTS, COMMENT]),
    ("icmp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, CODES, COMMENT]),
    ("igmp", &[ONE_MAC, ADDRESSES, RANGES, COMMON, COMMENT]),
    ("all", &[ONE_MAC, ADDRESSES, RANGES, COMMON, &[("ipset", set), ("ipsetflags", set_flags)], COMMENT]),
    (
        "tcp-ipv6",
        &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, PORTS, &[("option", byte), ("flags", flags)], COMMENT],
    ),
    ("udp-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, PORTS, COMMENT]),
    ("udplite-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, COMMENT]),
    ("esp-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, COMMENT]),
    ("ah-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, COMMENT]),
    ("sctp-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, PORTS, COMMENT]),
    ("icmpv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, CODES, COMMENT]),
    ("all-ipv6", &[ONE_MAC, ADDRESSES6, RANGES6, COMMON, COMMENT]),
];

/// Beginnings of chains' names, and the priority that a chain has unless told otherwise.
const CHAINS: &[(&str, i32)] = &[
    ("mac", -800),
    ("vlan", -750),
    ("stp", -810),
    ("arp", -500),
    ("rarp", -400),
    ("ipv4", -700),
    ("ipv6", -600),
];

/// What of a chain's name goes with an interface's into one of ebtables.
const LONGEST_CHAIN: usize = 12;

impl Nwfilter {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result {
        if matches!(options.flavor, Flavor::Plain) {
            return Ok(());
        }
        if self.name.is_empty() {
            return Err(NWFILTER.internal_error("filter has no name"));
        }
        self.uuid.get_or_insert_with(Uuid::new_v4);
        let chain = self.chain.get_or_insert_with(|| "root".to_owned()).clone();
        let fits = |(prefix, _): &&(&str, i32)| {
            chain.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        refuse! {
            chain.len() > LONGEST_CHAIN => NWFILTER.invalid_arg("Name of chain is longer than {LONGEST_CHAIN} characters");
        }
        let known = CHAINS.iter().find(fits);
        if chain != "root" && known.is_none() {
            let names: Vec<&str> = CHAINS.iter().map(|(name, _)| *name).collect();
            return Err(NWFILTER.invalid_arg(format_args!(
                "Invalid chain name '{chain}'. Please use a chain name called 'root' or any of the following prefixes: {}",
                names.join(", ")
            )));
        }
        if let Some(priority) = self.priority.filter(|priority| !RANGE.contains(priority)) {
            return Err(NWFILTER
                .invalid_arg(format_args!("Priority '{priority}' is outside valid range of [-1000,1000]")));
        }
        self.priority = self.priority.or(known.map(|(_, priority)| *priority)).filter(|p| *p != 0);
        for entry in &mut self.entries.0 {
            match entry {
                Entry::Rule(rule) => complete_rule(rule, options.validate)?,
                Entry::Ref(reference) => complete_parameters(&mut reference.parameter),
            }
        }
        Ok(())
    }
}

/// Priorities of rules and chains.
const RANGE: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Parameters of a filter: those whose name and value are of the characters that these have, by name.
pub(super) fn complete_parameters(parameters: &mut Vec<FilterParameter>) {
    let plain = |text: &str, more: &[char]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(&c))
    };
    parameters.retain(|p| plain(&p.name, &[]) && plain(&p.value, &['.', ':']));
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
}

fn complete_rule(rule: &mut Rule, validate: bool) -> Result {
    rule.priority = Some(rule.priority.filter(|priority| RANGE.contains(priority)).unwrap_or(500));
    let stateless = matches!(rule.statematch.as_deref(), Some("0" | "false"));
    rule.statematch = stateless.then(|| "false".to_owned());
    let found = rule.matches.0.iter().find_map(|(tag, _)| PROTOCOLS.iter().find(|(name, _)| name == tag));
    let Some((name, groups)) = found else {
        rule.matches = Matches::default();
        return Ok(());
    };
    // What the elements of one protocol say adds up; what is to match and what is not is shown apart.
    let mut values: BTreeMap<&str, (String, bool)> = BTreeMap::new();
    for (_, attributes) in rule.matches.0.iter().filter(|(tag, _)| tag == name) {
        let get =
            |key: &str| attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let inverted = matches!(get("match"), Some("no" | "false"));
        let known =
            |name: &str| name == "match" || groups.iter().copied().flatten().any(|(key, _)| *key == name);
        if validate && !attributes.iter().all(|(name, _)| known(name)) {
            return Err(schema::invalid("nwfilter", "filter", Some("rule")));
        }
        // Of several that are wrong, libvirt tells the last.
        let mut illegal = None;
        for (key, kind) in groups.iter().copied().flatten() {
            let Some(value) = get(key) else { continue };
            match variable(value).or_else(|| kind(value)) {
                Some(shown) => drop(values.insert(key, (shown, inverted))),
                None => illegal = Some((key, value)),
            }
        }
        if let Some((key, value)) = illegal {
            return Err(NWFILTER.internal_error(format_args!("{key} has illegal value {value}")));
        }
    }
    let negated: Vec<&str> = values.iter().filter(|(_, (_, not))| *not).map(|(key, _)| *key).collect();
    for (key, (_, not)) in &mut values {
        if let Some(base) = base(name, key) {
            *not = negated.iter().any(|key| *key == base);
        }
    }
    check_ports(name, &values)?;
    let part = |inverted: bool| {
        let all = groups.iter().copied().flatten();
        let fitting =
            all.filter_map(|(key, _)| values.get(key).filter(|(_, i)| *i == inverted).map(|v| (key, v)));
        fitting.map(|(key, (value, _))| ((*key).to_owned(), value.clone())).collect::<Vec<_>>()
    };
    let (plain, mut inverted) = (part(false), part(true));
    let mut shown = Vec::new();
    if !plain.is_empty() || inverted.is_empty() {
        shown.push(((*name).to_owned(), plain));
    }
    if !inverted.is_empty() {
        inverted.insert(0, ("match".to_owned(), "no".to_owned()));
        shown.push(((*name).to_owned(), inverted));
    }
    rule.matches = Matches(shown);
    Ok(())
}

/// With what an attribute that is a mask or an end is negated, where it is not by itself.
fn base(protocol: &str, key: &str) -> Option<String> {
    const ENDINGS: [(&str, &str); 8] = [
        ("-mask", ""),
        ("-hi", ""),
        ("macmask", "macaddr"),
        ("ipmask", "ipaddr"),
        ("ipto", "ipfrom"),
        ("portend", "portstart"),
        ("typeend", "type"),
        ("codeend", "type"),
    ];
    if key == "code" && matches!(protocol, "icmp" | "icmpv6") {
        return Some("type".to_owned());
    }
    let is_by_itself = match protocol {
        "arp" | "rarp" => true,
        "ip" | "ipv6" => key.ends_with("macmask") || key.ends_with("portend"),
        _ => false,
    };
    let found =
        ENDINGS.iter().find_map(|(ending, begin)| Some(format!("{}{begin}", key.strip_suffix(ending)?)));
    found.filter(|_| !is_by_itself)
}

/// Only some protocols have ports.
fn check_ports(name: &str, values: &BTreeMap<&str, (String, bool)>) -> Result {
    let protocol = values.get("protocol").map(|(value, _)| value.as_str());
    let has = matches!(protocol, Some("tcp" | "udp" | "33" | "0x21" | "sctp"));
    let shown = match name {
        "ip" => "IP",
        "ipv6" => "IPv6",
        _ => return Ok(()),
    };
    refuse! {
        !has && PORTS.iter().any(|(key, _)| values.contains_key(key)) => NWFILTER.internal_error(
            "{shown} rule with port specification requires protocol specification with protocol to be either one of tcp(6), udp(17), dccp(33), or sctp(132)"
        );
    }
    Ok(())
}

/// A variable, with which of its values: `$A[1]`, `$A[@2]`; the first iterator is the one that is meant anyway.
fn variable(value: &str) -> Option<String> {
    value.starts_with('$').then(|| {
        let plain: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        plain.strip_suffix("[@0]").map(str::to_owned).unwrap_or(plain)
    })
}

fn mac(value: &str) -> Option<String> {
    Mac::parse_text(value).map(|mac| mac.to_string())
}

/// Ones, then noughts.
fn mac_mask(value: &str) -> Option<String> {
    let mask = Mac::parse_text(value)?;
    let bits = mask.0.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << 16;
    (bits.leading_ones() == bits.count_ones()).then(|| mask.to_string())
}

fn ipv4(value: &str) -> Option<String> {
    value.parse::<Ipv4Addr>().ok().map(|address| address.to_string())
}

fn ipv6(value: &str) -> Option<String> {
    value.parse::<Ipv6Addr>().ok().map(|address| address.to_string())
}

/// The number of bits, however it is said.
fn mask4(value: &str) -> Option<String> {
    let bits = match value.parse::<Ipv4Addr>() {
        Ok(mask) => Some(u32::from(mask).leading_ones()).filter(|ones| u32::from(mask).count_ones() == *ones),
        Err(_) => value.parse().ok().filter(|bits| *bits <= 32),
    };
    bits.map(|bits| bits.to_string())
}

fn mask6(value: &str) -> Option<String> {
    let bits = match value.parse::<Ipv6Addr>() {
        Ok(mask) => {
            Some(u128::from(mask).leading_ones()).filter(|ones| u128::from(mask).count_ones() == *ones)
        }
        Err(_) => value.parse().ok().filter(|bits| *bits <= 128),
    };
    bits.map(|bits| bits.to_string())
}

/// A number, shown in the base in which it was said.
fn based(value: &str, max: u64) -> Option<(u64, String)> {
    let hexadecimal = value.starts_with("0x") || value.starts_with("0X");
    let number = if hexadecimal { c_number(value)? } else { value.parse().ok()? };
    let shown = if hexadecimal { format!("0x{number:x}") } else { number.to_string() };
    (number <= max).then_some((number, shown))
}

fn up_to<const MAX: u64>(value: &str) -> Option<String> {
    based(value, MAX).map(|(_, shown)| shown)
}

fn byte(value: &str) -> Option<String> {
    up_to::<0xff>(value)
}

fn word(value: &str) -> Option<String> {
    up_to::<0xffff>(value)
}

fn number(value: &str) -> Option<String> {
    up_to::<0xffff_ffff>(value)
}

fn decimal(value: &str) -> Option<String> {
    value.parse::<u16>().ok().map(|number| number.to_string())
}

/// A number of which some have names.
fn named(value: &str, names: Names, range: std::ops::RangeInclusive<u64>) -> Option<String> {
    if let Some((name, _)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(value)) {
        return Some((*name).to_owned());
    }
    let (number, shown) = based(value, *range.end()).filter(|(number, _)| range.contains(number))?;
    Some(names.iter().find(|(_, known)| *known == number).map_or(shown, |(name, _)| (*name).to_owned()))
}

/// Numbers that have names.
type Names = &'static [(&'static str, u64)];

const ETHER: Names = &[("arp", 0x806), ("rarp", 0x8035), ("ipv4", 0x800), ("ipv6", 0x86dd), ("vlan", 0x8100)];

const IP: Names = &[
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("esp", 50),
    ("ah", 51),
    ("icmp", 1),
    ("igmp", 2),
    ("icmpv6", 58),
    ("sctp", 132),
];

const OPCODES: Names = &[
    ("Request", 1),
    ("Reply", 2),
    ("Request_Reverse", 3),
    ("Reply_Reverse", 4),
    ("DRARP_Request", 5),
    ("DRARP_Reply", 6),
    ("DRARP_Error", 7),
    ("InARP_Request", 8),
    ("ARP_NAK", 9),
];

/// What number the value of an attribute is; `None` if it is none.
pub(crate) fn number_of(attribute: &str, value: &str) -> Option<u64> {
    let names = match attribute {
        "protocolid" | "encap-protocol" => ETHER,
        "protocol" => IP,
        "opcode" => OPCODES,
        _ => &[],
    };
    let known = names.iter().find(|(name, _)| *name == value).map(|(_, number)| *number);
    known.or_else(|| based(value, u64::MAX).map(|(number, _)| number))
}

/// A protocol above Ethernet; smaller numbers are lengths.
fn ether(value: &str) -> Option<String> {
    named(value, ETHER, 0x600..=0xffff)
}

/// A protocol above IP.
fn protocol(value: &str) -> Option<String> {
    named(value, IP, 0..=0xff)
}

fn opcode(value: &str) -> Option<String> {
    named(value, OPCODES, 0..=0xffff)
}

/// States of connections.
fn state(value: &str) -> Option<String> {
    words(value, &["NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"])
}

/// Which flags to look at, and which of them are set.
fn flags(value: &str) -> Option<String> {
    let names = ["FIN", "SYN", "RST", "PSH", "URG", "ACK", "ALL", "NONE"];
    let (mask, set) = value.split_once('/')?;
    Some(format!("{}/{}", words(mask, &names)?, words(set, &names)?))
}

fn set_flags(value: &str) -> Option<String> {
    words(value, &["src", "dst"]).filter(|shown| shown.split(',').count() <= 6)
}

/// A list of known words, spelled as they are known.
fn words(value: &str, known: &[&str]) -> Option<String> {
    let word = |word: &str| known.iter().copied().find(|known| known.eq_ignore_ascii_case(word));
    value.split(',').map(word).collect::<Option<Vec<_>>>().map(|words| words.join(","))
}

fn set(value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '+' | '-');
    (!value.is_empty() && value.chars().all(plain)).then(|| value.to_owned())
}

/// As much of a text as is kept.
fn text(value: &str) -> Option<String> {
    const LONGEST: usize = 256;
    let mut value = value.to_owned();
    while value.len() > LONGEST {
        value.pop();
    }
    Some(value)
}

fn boolean(value: &str) -> Option<String> {
    Some(matches!(value, "1" | "true" | "yes").to_string())
}

impl NwfilterBinding {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result {
        let owner = self.owner.as_ref();
        let name = |device: &Option<BindingDevice>| device.as_ref().is_some_and(|it| it.name.is_some());
        let parts = [
            (name(&self.portdev), "port dev name"),
            (self.mac.as_ref().is_some_and(|mac| mac.address.is_some()), "MAC address"),
            (self.filterref.as_ref().is_some_and(|filter| filter.filter.is_some()), "filter reference"),
            (owner.is_some_and(|owner| owner.name.is_some()), "owner name"),
            (owner.is_some_and(|owner| owner.uuid.is_some()), "owner UUID"),
        ];
        if let Some((_, what)) = parts.iter().find(|(there, _)| !there) {
            if options.validate {
                return Err(schema::invalid("nwfilterbinding", "filterbinding", None));
            }
            return Err(NWFILTER.internal_error(format_args!("filter binding has no {what}")));
        }
        if let Some(filter) = &mut self.filterref {
            complete_parameters(&mut filter.parameter);
        }
        Ok(())
    }
}

impl NwfilterBindingStatus {
    #[allow(clippy::unnecessary_wraps, reason = "all definitions are completed alike")]
    pub(crate) fn complete(&mut self, _options: &ParseOptions) -> Result {
        Ok(())
    }
}
