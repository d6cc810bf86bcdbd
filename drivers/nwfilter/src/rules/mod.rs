//! What a filter means for one port: rules for the host's packet filters. No I/O.

mod link;
mod said;
#[cfg(test)]
mod tests;
mod transport;
mod tree;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use virtwire_conf::Nwfilter;
use virtwire_conf::domain::net::FilterParameter;
use virtwire_protocol::error::VirtError;

use self::said::Said;
pub(crate) use self::variables::Lists;
use crate::{NWFILTER, Result};

/// The most rules and references that a filter may come to at one port. libvirtd knows no limit, and would go on for hours.
const MOST: usize = 10_000;

/// The chain of filters that have none of their own.
const ROOT: &str = "root";

/// The variable of a port's own address on the link.
pub(crate) const MAC: &str = "MAC";
/// That of its addresses, which can be learned.
const IP: &str = "IP";
/// How they are learned.
const LEARNING: &str = "CTRL_IP_LEARNING";
/// Those who may hand them out.
const SERVERS: &str = "DHCPSERVER";

/// One of the host's packet filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// ebtables(8)
    Link,
    /// iptables(8)
    Four,
    /// ip6tables(8)
    Six,
}

/// Arguments of a program.
type Args = Vec<String>;

/// A rule: the chain to whose end it goes, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) chain: String,
    pub(crate) args: Args,
}

/// The rules of one port.
pub(crate) type Rules = BTreeMap<Layer, Vec<Row>>;

/// What a filter comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How the port's address is learned, if nobody has said what it is.
    pub(crate) learn: Option<Learn>,
    /// Rules: where the address is not known, those that go until it is.
    pub(crate) rules: Rules,
}

/// How the address of a port is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learn {
    /// From any of its packets.
    Any,
    /// From what a DHCP server gives it.
    Dhcp,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    FromGuest,
    ToGuest,
}

impl Way {
    /// The chain that all frames of a port go through, and the letter of the others.
    fn root(self, port: &str) -> String {
        format!("libvirt-{}-{port}", self.letter())
    }

    fn letter(self) -> char {
        match self {
            Self::FromGuest => 'I',
            Self::ToGuest => 'O',
        }
    }
}

/// A chain of iptables' that a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    FromGuest,
    ToGuest,
    ToHost,
}

/// The chains of one port of iptables, with the chains that lead into them.
pub(crate) const PORT_CHAINS: [(&str, &str); 3] =
    [("FO", "libvirt-out"), ("FI", "libvirt-in"), ("HI", "libvirt-host-in")];

/// Where what a port's rules let pass ends.
pub(crate) const LAST: &str = "libvirt-in-post";

impl Chain {
    fn name(self, port: &str) -> String {
        let prefix = match self {
            Self::FromGuest => "FI",
            Self::ToGuest => "FO",
            Self::ToHost => "HI",
        };
        format!("{prefix}-{port}")
    }
}

fn words(args: &[&str]) -> Args {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn row(chain: String, args: Args) -> Row {
    Row { chain, args }
}

fn too_many() -> VirtError {
    NWFILTER.internal_error(format_args!("Cannot instantiate filter: it comes to more than {MOST} rules"))
}

/// The values that parameters give to variables.
pub(crate) fn lists(parameters: &[FilterParameter]) -> Lists {
    let mut lists = Lists::new();
    for parameter in parameters {
        lists.entry(parameter.name.clone()).or_default().push(parameter.value.clone());
    }
    lists
}

/// The rules of a filter, with all that it refers to, for a port, with the addresses that were learned of it.
///
/// # Errors
/// A filter or a variable is missing, or the rules are none that can be.
pub(crate) fn of<'a>(
    find: impl Fn(&str) -> Option<&'a Nwfilter>,
    filter: &str,
    port: &str,
    mut lists: Lists,
    learned: &[Ipv4Addr],
) -> Result<Outcome> {
    let items = tree::items(&find, filter, &lists)?;
    let mut missing: Vec<&str> = Vec::new();
    for item in &items {
        for variable in variables::of(item.rule) {
            if variable.is_missing(&item.lists) && !missing.contains(&variable.shown()) {
                missing.push(variable.shown());
            }
        }
    }
    let learn = if missing.contains(&IP) { learning(filter, &lists)? } else { None };
    if learn.is_some() {
        missing.retain(|name| *name != IP);
    }
    if !missing.is_empty() {
        let what = "Cannot instantiate filter due to unresolvable variables or unavailable list elements";
        return Err(NWFILTER.internal_error(format_args!("{what}: {}", missing.join(", "))));
    }
    let items = match learn {
        None => items,
        Some(how) if learned.is_empty() => {
            let rules = match how {
                Learn::Any => while_any(port, &lists),
                Learn::Dhcp => while_dhcp(port, &lists),
            };
            return Ok(Outcome { learn, rules });
        }
        Some(_) => {
            lists.insert(IP.to_owned(), learned.iter().map(Ipv4Addr::to_string).collect());
            tree::items(&find, filter, &lists)?
        }
    };
    let mut count = 0;
    let mut all = Collected::default();
    for item in &items {
        for choice in variables::choices(item.rule, &item.lists)? {
            all.add(&Said { rule: item.rule, choice: &choice }, item.filter, port)?;
            count += 1;
            if count > MOST {
                return Err(too_many());
            }
        }
    }
    Ok(Outcome { learn, rules: all.rules(port) })
}

/// How an address is learned; `None` if it is not.
fn learning(filter: &str, lists: &Lists) -> Result<Option<Learn>> {
    match lists.get(LEARNING).and_then(|values| values.first()).map_or("any", String::as_str) {
        "any" => Ok(Some(Learn::Any)),
        "dhcp" => Ok(Some(Learn::Dhcp)),
        "none" => Ok(None),
        other => {
            let text = format_args!("filter '{filter}' learning value '{other}' invalid.");
            Err(NWFILTER.parse_failed(text))
        }
    }
}

/// Rules as they were found, each with its priority.
#[derive(Default)]
struct Collected {
    /// Those of the chain that a port's frames begin in, for each way.
    roots: Vec<(i32, Way, Args)>,
    /// Those of others, with the chain.
    chains: Vec<(i32, String, Args)>,
    /// The priority of each chain.
    priorities: BTreeMap<String, i32>,
    /// Those about packets; of filters with a chain of their own come after all others.
    packets: Vec<Packets>,
    /// Those who have a say in these, even where nothing comes of it.
    layers: BTreeSet<Layer>,
}

/// A rule about packets.
struct Packets {
    layer: Layer,
    place: (bool, i32),
    chain: Chain,
    args: Args,
}

impl Collected {
    fn add(&mut self, said: &Said<'_>, filter: &Nwfilter, port: &str) -> Result<()> {
        let priority = said.rule.priority.unwrap_or(500);
        let chain = filter.chain.as_deref().unwrap_or(ROOT);
        if let Some(is_ipv6) = said.protocol().and_then(transport::is_ipv6) {
            let layer = if is_ipv6 { Layer::Six } else { Layer::Four };
            let rows = transport::rows(said)?;
            self.layers.insert(layer);
            let place = (chain != ROOT, priority);
            self.packets.extend(rows.into_iter().map(|(chain, args)| Packets { layer, place, chain, args }));
            return Ok(());
        }
        for (way, args) in link::rows(said)?.unwrap_or_default() {
            if chain == ROOT {
                self.roots.push((priority, way, args));
            } else {
                // Of filters with the same chain, the last says where it comes.
                self.priorities.insert(chain.to_owned(), filter.priority.unwrap_or_default());
                let name = format!("{}-{port}-{chain}", way.letter());
                self.chains.push((priority, name, args));
            }
        }
        Ok(())
    }

    fn rules(mut self, port: &str) -> Rules {
        let mut rules = Rules::new();
        let mut link = Vec::new();
        for way in [Way::FromGuest, Way::ToGuest] {
            // A chain comes before rules of the same priority.
            let mut root: Vec<(i32, bool, Args)> = Vec::new();
            for (chain, priority) in &self.priorities {
                let name = format!("{}-{port}-{chain}", way.letter());
                if self.chains.iter().any(|(_, known, _)| *known == name) {
                    let mut args = link::into_chain(chain);
                    args.extend(["-j".to_owned(), name]);
                    root.push((*priority, false, args));
                }
            }
            let own = self.roots.iter().filter(|(_, of, _)| *of == way);
            root.extend(own.map(|(priority, _, args)| (*priority, true, args.clone())));
            root.sort_by_key(|(priority, is_rule, _)| (*priority, *is_rule));
            let is_used = !root.is_empty();
            link.extend(root.into_iter().map(|(_, _, args)| row(way.root(port), args)));
            link.extend(is_used.then(|| hook(way, port)));
        }
        self.chains.sort_by_key(|(priority, ..)| *priority);
        link.extend(self.chains.into_iter().map(|(_, name, args)| row(name, args)));
        if !link.is_empty() {
            rules.insert(Layer::Link, link);
        }
        rules.extend(self.layers.into_iter().map(|layer| (layer, hooks(port))));
        self.packets.sort_by_key(|rule| rule.place);
        for Packets { layer, chain, args, .. } in self.packets {
            rules.entry(layer).or_default().push(row(chain.name(port), args));
        }
        rules
    }
}

/// How a port's frames come to its chains.
fn hook(way: Way, port: &str) -> Row {
    let (chain, option) = match way {
        Way::FromGuest => ("PREROUTING", "-i"),
        Way::ToGuest => ("POSTROUTING", "-o"),
    };
    row(chain.to_owned(), words(&[option, port, "-j", &way.root(port)]))
}

/// How a port's packets come to its chains.
fn hooks(port: &str) -> Vec<Row> {
    let to = |chain: &str, args: &[&str], end: &[&str]| {
        row(chain.to_owned(), words(&[&["-m", "physdev"], args, end].concat()))
    };
    let mut all: Vec<Row> = PORT_CHAINS
        .iter()
        .map(|(prefix, chain)| {
            let end = format!("{prefix}-{port}");
            match *prefix {
                "FO" => to(chain, &["--physdev-is-bridged", "--physdev-out", port], &["-g", &end]),
                _ => to(chain, &["--physdev-in", port], &["-g", &end]),
            }
        })
        .collect();
    all.push(to(LAST, &["--physdev-in", port], &["-j", "ACCEPT"]));
    all
}

/// What goes before any packet has told a port's address: all of the kinds that can.
fn while_any(port: &str, lists: &Lists) -> Rules {
    let mac = lists.get(MAC).and_then(|macs| macs.first()).cloned().unwrap_or_default();
    let from: [&[&str]; 4] = [
        &["-s", "!", &mac, "-j", "DROP"],
        &["-p", "IPv4", "-j", "ACCEPT"],
        &["-p", "ARP", "-j", "ACCEPT"],
        &["-j", "DROP"],
    ];
    let way = Way::FromGuest;
    let mut all: Vec<Row> = from.iter().map(|args| row(way.root(port), words(args))).collect();
    all.push(hook(way, port));
    Rules::from([(Layer::Link, all)])
}

/// What goes before a DHCP server has given a port its address: DHCP.
fn while_dhcp(port: &str, lists: &Lists) -> Rules {
    let mac = lists.get(MAC).and_then(|macs| macs.first()).cloned().unwrap_or_default();
    let udp = ["-p", "ipv4", "--ip-protocol", "udp"];
    let drop = ["-j", "DROP"];
    let from = Way::FromGuest.root(port);
    let asks = [&["-s", &mac][..], &udp, &["--ip-sport", "68", "--ip-dport", "67", "-j", "ACCEPT"]].concat();
    let mut all = vec![row(from.clone(), words(&asks)), row(from, words(&drop)), hook(Way::FromGuest, port)];
    let to = Way::ToGuest.root(port);
    let anybody = Vec::new();
    let servers = lists.get(SERVERS).unwrap_or(&anybody);
    let sources: Vec<Vec<&str>> = match servers.as_slice() {
        [] => vec![Vec::new()],
        known => known.iter().map(|server| vec!["--ip-src", server.as_str()]).collect(),
    };
    for source in &sources {
        for target in [mac.as_str(), "ff:ff:ff:ff:ff:ff"] {
            let ports = ["--ip-sport", "67", "--ip-dport", "68", "-j", "ACCEPT"];
            let args = [&["-d", target][..], &udp, source, &ports].concat();
            all.push(row(to.clone(), words(&args)));
        }
    }
    all.extend([row(to, words(&drop)), hook(Way::ToGuest, port)]);
    Rules::from([(Layer::Link, all)])
}
