//! Packet filter rules of a network, in libvirt's own chains, through iptables.
//!
//! Each network's rules go to the top of their chains in one transaction per family. Those to be removed are found by
//! what the kernel has, so that it does not matter which daemon put them there.

use std::fmt::Write;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use virtwire_conf::network::{ForwardMode, ForwardNat};
use virtwire_conf::{Network as Definition, YesNo};
use virtwire_protocol::error::VirtError;

use crate::subnet::{self, Subnet};
use crate::{NETWORK, Result, dnsmasq};

/// A table, a chain of libvirt's, and the chain of the kernel that begins with a jump to it. Those that come later are
/// jumped to first.
const CHAINS: &[(&str, &str, &str)] = &[
    ("filter", "LIBVIRT_INP", "INPUT"),
    ("filter", "LIBVIRT_OUT", "OUTPUT"),
    ("filter", "LIBVIRT_FWO", "FORWARD"),
    ("filter", "LIBVIRT_FWI", "FORWARD"),
    ("filter", "LIBVIRT_FWX", "FORWARD"),
    ("nat", "LIBVIRT_PRT", "POSTROUTING"),
    ("mangle", "LIBVIRT_PRT", "POSTROUTING"),
];

/// One of iptables' two families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn program(self, what: &str) -> String {
        match self {
            Self::V4 => format!("iptables-{what}"),
            Self::V6 => format!("ip6tables-{what}"),
        }
    }

    fn holds(self, subnet: &Subnet) -> bool {
        subnet.address.is_ipv4() == (self == Self::V4)
    }
}

/// A rule of a chain.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    table: &'static str,
    chain: &'static str,
    text: String,
}

/// What a network needs, the last one being the first that a packet meets.
fn rules(net: &Definition, family: Family) -> Result<Vec<Rule>> {
    let bridge = net.bridge.as_ref().and_then(|bridge| bridge.name.as_deref()).unwrap_or_default();
    let subnets: Vec<Subnet> = subnet::all(&net.ips)?
        .into_iter()
        .map(|(subnet, _)| subnet)
        .filter(|subnet| family.holds(subnet))
        .collect();
    let mode = dnsmasq::mode(net);
    // IPv6 is only let through where somebody asked for it.
    if mode == ForwardMode::Open
        || (family == Family::V6 && subnets.is_empty() && net.ipv6 != Some(YesNo::Yes))
    {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    let mut add = |table, chain, text: String| all.push(Rule { table, chain, text });
    let services: &[(&str, u16, u16)] = match family {
        Family::V4 => &[("tcp", 67, 68), ("udp", 67, 68), ("tcp", 53, 53), ("udp", 53, 53)],
        Family::V6 if subnets.is_empty() => &[],
        Family::V6 => &[("tcp", 53, 53), ("udp", 53, 53), ("udp", 547, 546)],
    };
    let tftp = net.ips.iter().any(|ip| ip.tftp.is_some()) && family == Family::V4;
    for (protocol, to, from) in services.iter().chain(tftp.then_some(&("udp", 69, 69))) {
        add("filter", "LIBVIRT_INP", format!("-i {bridge} -p {protocol} --dport {to} -j ACCEPT"));
        add("filter", "LIBVIRT_OUT", format!("-o {bridge} -p {protocol} --dport {from} -j ACCEPT"));
    }
    add("filter", "LIBVIRT_FWO", format!("-i {bridge} -j REJECT"));
    add("filter", "LIBVIRT_FWI", format!("-o {bridge} -j REJECT"));
    add("filter", "LIBVIRT_FWX", format!("-i {bridge} -o {bridge} -j ACCEPT"));
    let forward = net.forward.as_ref();
    let nat = forward.and_then(|forward| forward.nat.as_ref());
    let out = |flag| {
        forward.and_then(|forward| forward.dev.as_ref()).map_or(String::new(), |dev| format!(" {flag} {dev}"))
    };
    let translated = mode == ForwardMode::Nat
        && (family == Family::V4 || nat.is_some_and(|nat| nat.ipv6 == Some(YesNo::Yes)));
    if matches!(mode, ForwardMode::Nat | ForwardMode::Route) {
        for subnet in &subnets {
            let known = if translated { " -m conntrack --ctstate RELATED,ESTABLISHED" } else { "" };
            add("filter", "LIBVIRT_FWO", format!("-s {subnet} -i {bridge}{} -j ACCEPT", out("-o")));
            add("filter", "LIBVIRT_FWI", format!("-d {subnet}{} -o {bridge}{known} -j ACCEPT", out("-i")));
            if translated {
                translations(subnet, &out("-o"), nat, family)
                    .into_iter()
                    .for_each(|text| add("nat", "LIBVIRT_PRT", text));
            }
        }
    }
    if family == Family::V4
        && dnsmasq::dhcp(net).any(|(ip, _)| Subnet::of(ip).is_some_and(|subnet| family.holds(&subnet)))
    {
        // Guests whose DHCP client looks at checksums that a virtual device left out.
        add("mangle", "LIBVIRT_PRT", format!("-o {bridge} -p udp --dport 68 -j CHECKSUM --checksum-fill"));
    }
    Ok(all)
}

/// How the guests' addresses are hidden behind the host's.
fn translations(subnet: &Subnet, out: &str, nat: Option<&ForwardNat>, family: Family) -> Vec<String> {
    let addresses = nat.and_then(|nat| nat.address.as_ref());
    let ports = nat.and_then(|nat| nat.port.as_ref());
    let source = addresses.map(|range| match (range.start.as_deref(), range.end.as_deref()) {
        (Some(start), Some(end)) if start != end => format!("{start}-{end}"),
        (start, end) => start.or(end).unwrap_or_default().to_owned(),
    });
    let elsewhere = format!("-s {subnet} ! -d {subnet}{out}");
    let target = |ports: Option<(u32, u32)>| match (&source, ports) {
        (Some(source), Some((first, last))) => format!("SNAT --to-source {source}:{first}-{last}"),
        (Some(source), None) => format!("SNAT --to-source {source}"),
        (None, Some((first, last))) => format!("MASQUERADE --to-ports {first}-{last}"),
        (None, None) => "MASQUERADE".to_owned(),
    };
    let range = ports.map(|ports| (ports.start, ports.end));
    let (everybody, local) = match family {
        Family::V4 => (Some("255.255.255.255/32"), "224.0.0.0/24"),
        Family::V6 => (None, "ff02::/16"),
    };
    let mut all = vec![format!("{elsewhere} -j {}", target(None))];
    for protocol in ["udp", "tcp"] {
        all.push(format!("{elsewhere} -p {protocol} -j {}", target(range)));
    }
    for kept in everybody.into_iter().chain([local]) {
        all.push(format!("-s {subnet}{out} -d {kept} -j RETURN"));
    }
    all
}

/// Puts the rules of a network in place.
///
/// # Errors
/// iptables is not installed, or refuses.
pub(crate) async fn add(net: &Definition) -> Result<()> {
    for family in Family::ALL {
        let rules = rules(net, family)?;
        if !rules.is_empty() {
            let present = save(family).await?;
            restore(family, &additions(&present, &rules)).await?;
        }
    }
    Ok(())
}

/// Takes them away, whoever put them there; what is not there is fine.
pub(crate) async fn remove(net: &Definition) {
    for family in Family::ALL {
        let Ok(present) = save(family).await else { continue };
        let script = removals(&present, net, family);
        if !script.is_empty()
            && let Err(error) = restore(family, &script).await
        {
            tracing::warn!(network = net.name, %error, "packet filter rules are left behind");
        }
    }
}

/// What `iptables-restore` is told so that `rules` are there, with the chains that are missing in `present`.
fn additions(present: &str, rules: &[Rule]) -> String {
    let mut script = String::new();
    for table in ["filter", "nat", "mangle"] {
        // Writing to a string cannot fail.
        let _ = writeln!(script, "*{table}");
        let own = table_of(present, table);
        for (_, chain, hook) in CHAINS.iter().filter(|(of, ..)| *of == table) {
            if !own.lines().any(|line| line.starts_with(&format!(":{chain} "))) {
                let _ = writeln!(script, ":{chain} - [0:0]");
            }
            if !own.lines().any(|line| line == format!("-A {hook} -j {chain}")) {
                let _ = writeln!(script, "-I {hook} -j {chain}");
            }
        }
        for rule in rules.iter().filter(|rule| rule.table == table) {
            let _ = writeln!(script, "-I {} {}", rule.chain, rule.text);
        }
        script.push_str("COMMIT\n");
    }
    script
}

/// What takes away those rules of `present` that are this network's.
fn removals(present: &str, net: &Definition, family: Family) -> String {
    let bridge = net.bridge.as_ref().and_then(|bridge| bridge.name.as_deref()).unwrap_or_default();
    let subnets: Vec<String> = net
        .ips
        .iter()
        .filter_map(Subnet::of)
        .filter(|subnet| family.holds(subnet))
        .map(|subnet| subnet.to_string())
        .collect();
    let is_own = |rule: &str, table: &str| {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let says = |flag: &str, value: &str| words.windows(2).any(|pair| pair == [flag, value]);
        says("-i", bridge)
            || says("-o", bridge)
            || (table == "nat" && subnets.iter().any(|subnet| says("-s", subnet)))
    };
    let mut script = String::new();
    for table in ["filter", "nat", "mangle"] {
        let rules = table_of(present, table).lines().filter_map(|line| line.strip_prefix("-A "));
        let own: Vec<&str> =
            rules.filter(|rule| rule.starts_with("LIBVIRT_") && is_own(rule, table)).collect();
        if !own.is_empty() {
            let lines: String = own.iter().map(|rule| format!("-D {rule}\n")).collect();
            let _ = write!(script, "*{table}\n{lines}COMMIT\n");
        }
    }
    script
}

/// The part of `iptables-save`'s output that is about one table.
fn table_of<'a>(saved: &'a str, table: &str) -> &'a str {
    let begin = saved.find(&format!("*{table}\n")).unwrap_or(saved.len());
    let rest = &saved[begin..];
    &rest[..rest.find("COMMIT\n").unwrap_or(rest.len())]
}

async fn save(family: Family) -> Result<String> {
    let program = family.program("save");
    let done = Command::new(&program).output().await.map_err(|error| missing(&error, &program))?;
    if !done.status.success() {
        return Err(failed(&program, &done));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

async fn restore(family: Family, script: &str) -> Result<()> {
    let program = family.program("restore");
    let mut command = Command::new(&program);
    command.args(["--noflush", "--wait"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| missing(&error, &program))?;
    if let Some(mut input) = child.stdin.take() {
        // If it has ended already, its status says why.
        let _ = input.write_all(script.as_bytes()).await;
    }
    let done = child.wait_with_output().await.map_err(|error| missing(&error, &program))?;
    if done.status.success() { Ok(()) } else { Err(failed(&program, &done)) }
}

fn missing(error: &std::io::Error, program: &str) -> VirtError {
    VirtError::system(NETWORK, error, format_args!("Cannot find '{program}' in path"))
}

fn failed(program: &str, done: &std::process::Output) -> VirtError {
    let text = String::from_utf8_lossy(&done.stderr);
    NETWORK.internal_error(format_args!("Failed to apply firewall rules {program}: {}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    fn network(inner: &str) -> Definition {
        let xml = format!("<network><name>a</name><bridge name='virbr7'/>{inner}</network>");
        Definition::parse(&xml, &ParseOptions::default()).unwrap()
    }

    fn texts(net: &Definition, family: Family, chain: &str) -> Vec<String> {
        let rules = rules(net, family).unwrap();
        rules.into_iter().rev().filter(|rule| rule.chain == chain).map(|rule| rule.text).collect()
    }

    #[test]
    fn guests_behind_nat_reach_the_world_and_only_its_answers_reach_them() {
        let net = network(
            "<forward mode='nat' dev='eth9'><nat><address start='1.2.3.4' end='1.2.3.9'/><port start='500' end='999'/></nat>\
             </forward><ip address='10.9.7.1' prefix='24'><dhcp><range start='10.9.7.2' end='10.9.7.9'/></dhcp></ip>",
        );
        assert_eq!(
            texts(&net, Family::V4, "LIBVIRT_FWI"),
            [
                "-d 10.9.7.0/24 -i eth9 -o virbr7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-o virbr7 -j REJECT"
            ]
        );
        assert_eq!(
            texts(&net, Family::V4, "LIBVIRT_PRT"),
            [
                "-o virbr7 -p udp --dport 68 -j CHECKSUM --checksum-fill",
                "-s 10.9.7.0/24 -o eth9 -d 224.0.0.0/24 -j RETURN",
                "-s 10.9.7.0/24 -o eth9 -d 255.255.255.255/32 -j RETURN",
                "-s 10.9.7.0/24 ! -d 10.9.7.0/24 -o eth9 -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:500-999",
                "-s 10.9.7.0/24 ! -d 10.9.7.0/24 -o eth9 -p udp -j SNAT --to-source 1.2.3.4-1.2.3.9:500-999",
                "-s 10.9.7.0/24 ! -d 10.9.7.0/24 -o eth9 -j SNAT --to-source 1.2.3.4-1.2.3.9",
            ]
        );
        assert_eq!(rules(&net, Family::V6).unwrap(), []);
    }

    #[test]
    fn an_open_network_has_no_rules_and_an_isolated_one_lets_nobody_through() {
        let address = "<ip address='10.9.7.1' prefix='24'/>";
        assert_eq!(rules(&network(&format!("<forward mode='open'/>{address}")), Family::V4).unwrap(), []);
        assert_eq!(texts(&network(address), Family::V4, "LIBVIRT_FWO"), ["-i virbr7 -j REJECT"]);
    }

    #[test]
    fn chains_are_made_once_and_rules_found_again() {
        let net = network("<forward mode='nat'/><ip address='10.9.7.1' prefix='24'/>");
        let rules = rules(&net, Family::V4).unwrap();
        let first = additions("", &rules);
        assert!(first.contains(":LIBVIRT_INP - [0:0]\n-I INPUT -j LIBVIRT_INP\n"), "{first}");
        let saved = "*filter\n:LIBVIRT_INP - [0:0]\n-A INPUT -j LIBVIRT_INP\n-A LIBVIRT_INP -i virbr7 -j ACCEPT\n\
                     -A LIBVIRT_INP -i virbr70 -j ACCEPT\n-A INPUT -i virbr7 -j ACCEPT\nCOMMIT\n\
                     *nat\n-A LIBVIRT_PRT -s 10.9.7.0/24 -d 224.0.0.0/24 -j RETURN\nCOMMIT\n";
        let second = additions(saved, &rules);
        assert!(!second.contains("LIBVIRT_INP - ") && !second.contains("-I INPUT "), "{second}");
        assert_eq!(
            removals(saved, &net, Family::V4),
            "*filter\n-D LIBVIRT_INP -i virbr7 -j ACCEPT\nCOMMIT\n\
             *nat\n-D LIBVIRT_PRT -s 10.9.7.0/24 -d 224.0.0.0/24 -j RETURN\nCOMMIT\n"
        );
    }
}
