//! One entry of a virtual network that comes, changes or goes.

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::complete::network::{
    check_dns_host, check_forward, check_host, check_range, check_srv, check_txt, is_ipv6,
};
use crate::network::{DhcpHost, DhcpRange, DnsHost, DnsSrv, DnsTxt, ForwardDevice, NetworkIp, Portgroup};
use crate::table::{Element, Mac};
use crate::xml::{Document, Node};
use crate::{Network, YesNo};

const NETWORK: ErrorDomain = ErrorDomain::NETWORK;

type Result<T = (), E = VirtError> = std::result::Result<T, E>;

/// `virNetworkUpdateCommand`
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Modify,
    Delete,
    AddLast,
    AddFirst,
    /// One that does not exist, which is said behind all that is wrong with the entry.
    Other(u32),
}

/// `virNetworkUpdateSection`: its name in errors, and the element that it takes; none for what describes a network as a
/// whole and cannot be changed.
const SECTIONS: [(&str, Option<&str>); 13] = [
    ("none", None),
    ("bridge", None),
    ("domain", None),
    ("ip", None),
    ("ip-dhcp-host", Some("host")),
    ("ip-dhcp-range", Some("range")),
    ("forward", None),
    ("forward interface", Some("interface")),
    ("forward pf", None),
    ("portgroup", Some("portgroup")),
    ("dns-host", Some("host")),
    ("dns-txt", Some("txt")),
    ("dns-srv", Some("srv")),
];

impl Network {
    /// The network with one entry of `section` changed. `index` says of which `<ip>`, -1 of the one that fits best.
    ///
    /// # Errors
    /// An entry that is not there, or is there already; one that is bad by itself or makes the network so; a section or
    /// a command that does not exist.
    pub fn update(&self, command: u32, section: u32, index: i32, xml: &str) -> Result<Self> {
        let found =
            usize::try_from(section).ok().filter(|section| *section > 0).and_then(|n| SECTIONS.get(n));
        let Some((name, element)) = found else {
            return Err(NETWORK.operation_unsupported("can't update unrecognized section of network"));
        };
        let network = &self.name;
        let document = Document::parse(xml, NETWORK)?;
        let root = document.root();
        let Some(element) = element else {
            let text = format_args!("can't update '{name}' section of network '{network}'");
            return Err(NETWORK.operation_unsupported(text));
        };
        if root.name() != *element {
            return Err(NETWORK.xml_error(format_args!(
                "unexpected element <{}>, expecting <{element}>, while updating network '{network}'",
                root.name()
            )));
        }
        let command = match command {
            1 => Command::Modify,
            2 => Command::Delete,
            3 => Command::AddLast,
            4 => Command::AddFirst,
            other => Command::Other(other),
        };
        let mut changed = self.clone();
        match *name {
            "ip-dhcp-host" => changed.update_host(command, index, root)?,
            "ip-dhcp-range" => changed.update_range(command, index, root)?,
            "forward interface" => changed.update_interface(command, root)?,
            "portgroup" => changed.update_portgroup(command, root)?,
            "dns-host" => changed.update_dns_host(command, root)?,
            "dns-txt" => changed.update_txt(command, root)?,
            _ => changed.update_srv(command, root)?,
        }
        changed.forward.iter().try_for_each(|forward| check_forward(forward, network))?;
        Ok(changed)
    }

    /// The address whose DHCP server is meant.
    fn addressed(&self, index: i32) -> Result<usize> {
        let busy = |ip: &NetworkIp| {
            ip.dhcp.as_ref().is_some_and(|dhcp| !dhcp.ranges.is_empty() || !dhcp.hosts.is_empty())
        };
        let all = &self.ips;
        let best = || all.iter().position(busy).or(all.iter().position(|ip| !is_ipv6(ip))).or(Some(0));
        let (found, place) = match usize::try_from(index) {
            Ok(index) => (Some(index), format!(" at index {index}")),
            Err(_) => (best(), String::new()),
        };
        found.filter(|at| *at < all.len()).ok_or_else(|| {
            NETWORK.operation_invalid(format_args!(
                "couldn't update dhcp host entry - no <ip> element found{place} in network '{}'",
                self.name
            ))
        })
    }

    fn update_host(&mut self, command: Command, index: i32, node: Node<'_>) -> Result {
        let at = self.addressed(index)?;
        let (name, ip) = (self.name.clone(), &mut self.ips[at]);
        let mut host = DhcpHost::read(node)?;
        check_host(&mut host, &ip.clone(), &name, command == Command::Delete)?;
        if host.ip.as_ref().is_some_and(|address| address.contains(':') != is_ipv6(ip)) {
            let text = "the address family of a host entry IP must match the address family of the dhcp element's parent";
            return Err(NETWORK.operation_invalid(text));
        }
        let hosts = &mut ip.dhcp.get_or_insert_default().hosts;
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let mac = |host: &DhcpHost| host.mac.as_deref().and_then(Mac::parse_text);
        let any = |old: &DhcpHost| {
            (mac(&host).is_some() && mac(old) == mac(&host))
                || same(&old.name, &host.name)
                || same(&old.ip, &host.ip)
        };
        let all = |old: &DhcpHost| {
            (host.mac.is_none() || mac(old) == mac(&host))
                && (host.name.is_none() || old.name == host.name)
                && (host.ip.is_none() || old.ip == host.ip)
        };
        let found = hosts.iter().position(|old| if command == Command::Delete { all(old) } else { any(old) });
        let part = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}='{value}'"));
        let parts = [part("mac", &host.mac), part("name", &host.name), part("ip", &host.ip)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let said = Said {
            exists: || {
                let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "(null)".to_owned());
                format!(
                    "there is an existing dhcp host entry in network '{name}' that matches \"<host mac='{}' name='{}' ip='{}'/>\"",
                    said(&host.mac),
                    said(&host.name),
                    said(&host.ip)
                )
            },
            missing: || match command {
                Command::Modify => {
                    let shown = parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(" ");
                    format!("couldn't locate an existing dhcp host entry with {shown} in network '{name}'")
                }
                _ => format!("couldn't locate a matching dhcp host entry in network '{name}'"),
            },
        };
        apply(hosts, command, found, host.clone(), said)
    }

    fn update_range(&mut self, command: Command, index: i32, node: Node<'_>) -> Result {
        let at = self.addressed(index)?;
        let (name, ip) = (self.name.clone(), &mut self.ips[at]);
        let mut range = DhcpRange::read(node)?;
        fixed(command, "dhcp ranges")?;
        check_range(&mut range, &ip.clone(), &name)?;
        let ranges = &mut ip.dhcp.get_or_insert_default().ranges;
        let found = ranges.iter().position(|old| old.start == range.start && old.end == range.end);
        let shown = format!(
            "<range start='{}' end='{}'/>",
            range.start.as_deref().unwrap_or_default(),
            range.end.as_deref().unwrap_or_default()
        );
        let said = Said {
            exists: || {
                format!("there is an existing dhcp range entry in network '{name}' that matches \"{shown}\"")
            },
            missing: || format!("couldn't locate a matching dhcp range entry in network '{name}'"),
        };
        apply(ranges, command, found, range, said)
    }

    fn update_interface(&mut self, command: Command, node: Node<'_>) -> Result {
        fixed(command, "forward interface entries")?;
        let new = ForwardDevice::read(node)?;
        let Some(dev) = new.dev.clone() else {
            return Err(NETWORK.xml_error("missing dev attribute in <interface> element"));
        };
        let name = &self.name;
        let forward = self.forward.get_or_insert_default();
        let found = forward.interface.iter().position(|old| old.dev == new.dev);
        let said = Said {
            exists: || {
                format!(
                    "there is an existing interface entry in network '{name}' that matches \"<interface dev='{dev}'>\""
                )
            },
            missing: || {
                format!(
                    "couldn't find an interface entry in network '{name}' matching <interface dev='{dev}'>"
                )
            },
        };
        apply(&mut forward.interface, command, found, new, said)?;
        forward.dev = forward.interface.first().and_then(|first| first.dev.clone());
        Ok(())
    }

    fn update_portgroup(&mut self, command: Command, node: Node<'_>) -> Result {
        let new = Portgroup::read(node)?;
        let Some(label) = new.name.clone() else {
            return Err(NETWORK.xml_error("Missing required name attribute in portgroup"));
        };
        let name = &self.name;
        let found = self.portgroups.iter().position(|old| old.name == new.name);
        let is_default = |group: &Portgroup| group.default == Some(YesNo::Yes);
        let other = self.portgroups.iter().any(|old| is_default(old) && old.name != new.name);
        let said = Said {
            exists: || {
                format!(
                    "there is an existing portgroup entry in network '{name}' that matches \"<portgroup name='{label}'>\""
                )
            },
            missing: || {
                format!(
                    "couldn't find a portgroup entry in network '{name}' matching <portgroup name='{label}'>"
                )
            },
        };
        let clash = command != Command::Delete && is_default(&new) && other;
        let missing = command == Command::Modify && found.is_none();
        let exists = matches!(command, Command::AddFirst | Command::AddLast) && found.is_some();
        if clash && !missing && !exists {
            return Err(NETWORK.operation_invalid(format_args!(
                "a different portgroup entry in network '{name}' is already set as the default. Only one default is allowed."
            )));
        }
        apply(&mut self.portgroups, command, found, new, said)
    }

    fn update_dns_host(&mut self, command: Command, node: Node<'_>) -> Result {
        let mut new = DnsHost::read(node)?;
        let name = &self.name;
        check_dns_host(&mut new, name, matches!(command, Command::Modify | Command::Delete))?;
        let hosts = &mut self.dns.get_or_insert_default().hosts;
        let named = |old: &DnsHost| {
            command == Command::Delete && old.hostname.iter().any(|name| new.hostname.contains(name))
        };
        let fits = |old: &DnsHost| (new.ip.is_some() && old.ip == new.ip) || named(old);
        let found = one_of(hosts, fits, || {
            format!("multiple matching DNS HOST records were found in network {name}")
        })?;
        let said = Said {
            exists: || {
                format!(
                    "there is already at least one DNS HOST record with a matching field in network {name}"
                )
            },
            missing: || format!("couldn't locate a matching DNS HOST record in network {name}"),
        };
        apply(hosts, command, found, new.clone(), said)
    }

    fn update_txt(&mut self, command: Command, node: Node<'_>) -> Result {
        let new = DnsTxt::read(node)?;
        let name = &self.name;
        check_txt(&new, name, command == Command::Delete)?;
        let txts = &mut self.dns.get_or_insert_default().txts;
        let found = txts.iter().position(|old| old.name == new.name);
        let label = new.name.clone().unwrap_or_default();
        let said = Said {
            exists: || format!("there is already a DNS TXT record with name '{label}' in network {name}"),
            missing: || format!("couldn't locate a matching DNS TXT record in network {name}"),
        };
        apply(txts, command, found, new, said)
    }

    fn update_srv(&mut self, command: Command, node: Node<'_>) -> Result {
        fixed(command, "DNS SRV records")?;
        let new = DnsSrv::read(node)?;
        let name = &self.name;
        check_srv(&new, name, command == Command::Delete)?;
        let srvs = &mut self.dns.get_or_insert_default().srvs;
        let fits = |old: &DnsSrv| {
            let (port, priority, weight) = (new.port, new.priority, new.weight);
            (new.service.is_none() || old.service == new.service)
                && (new.protocol.is_none() || old.protocol == new.protocol)
                && (new.domain.is_none() || old.domain == new.domain)
                && (new.target.is_none() || old.target == new.target)
                && (port.is_none() || old.port == port)
                && (priority.is_none() || old.priority == priority)
                && (weight.is_none() || old.weight == weight)
        };
        let many =
            || format!("multiple DNS SRV records matching all specified fields were found in network {name}");
        let found = match command {
            Command::Delete => one_of(srvs, fits, many)?,
            _ => srvs.iter().position(fits),
        };
        let said = Said {
            exists: || {
                format!(
                    "there is already at least one DNS SRV record matching all specified fields in network {name}"
                )
            },
            missing: || format!("couldn't locate a matching DNS SRV record in network {name}"),
        };
        apply(srvs, command, found, new.clone(), said)
    }
}

/// What is said of an entry that is there already, and of one that is not.
struct Said<E, M> {
    exists: E,
    missing: M,
}

/// Entries of some kinds only come and go.
fn fixed(command: Command, what: &str) -> Result {
    if command == Command::Modify {
        return Err(
            NETWORK.operation_unsupported(format_args!("{what} cannot be modified, only added or deleted"))
        );
    }
    Ok(())
}

/// The one entry that fits.
fn one_of<T>(list: &[T], fits: impl Fn(&T) -> bool, many: impl Fn() -> String) -> Result<Option<usize>> {
    let mut found = list.iter().enumerate().filter(|(_, entry)| fits(entry)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        _ => Err(NETWORK.operation_invalid(many())),
    }
}

fn apply<T>(
    list: &mut Vec<T>,
    command: Command,
    found: Option<usize>,
    new: T,
    said: Said<impl Fn() -> String, impl Fn() -> String>,
) -> Result {
    match (command, found) {
        (Command::Modify, Some(at)) => list[at] = new,
        (Command::Delete, Some(at)) => drop(list.remove(at)),
        (Command::Modify | Command::Delete, None) => {
            return Err(NETWORK.operation_invalid((said.missing)()));
        }
        (Command::AddFirst | Command::AddLast, Some(_)) => {
            return Err(NETWORK.operation_invalid((said.exists)()));
        }
        (Command::AddFirst, None) => list.insert(0, new),
        (Command::AddLast, None) => list.push(new),
        (Command::Other(command), _) => {
            let text = format_args!("unrecognized network update command code {command}");
            return Err(NETWORK.operation_unsupported(text));
        }
    }
    Ok(())
}
