//! dnsmasq, which gives guests names and addresses: what it is told, by a definition, and its process.

use std::fmt::{Display, Write};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::Command;
use virtwire_conf::network::{
    Dhcp, DhcpHost, DhcpLease, DhcpRange, DnsSrv, ForwardMode, LeaseUnit, NetworkIp,
};
use virtwire_conf::{Network as Definition, YesNo};
use virtwire_protocol::error::VirtError;
use virtwire_store as store;

use crate::subnet::{self, Subnet};
use crate::{NETWORK, Places, Result};

const PROGRAM: &str = "dnsmasq";

/// How many seconds it may take to end.
const PATIENCE: i64 = 5;

/// Its files: libvirt's names, so that either daemon finds what the other has started.
pub(crate) struct Files {
    conf: PathBuf,
    hosts: PathBuf,
    names: PathBuf,
    pid: PathBuf,
    /// What addresses it has given.
    pub(crate) leases: PathBuf,
    /// The same, where libvirtd has started it.
    pub(crate) status: PathBuf,
}

impl Files {
    pub(crate) fn of(places: &Places, name: &str, bridge: &str) -> Self {
        let file = |ending: &str| places.state.join(format!("{name}.{ending}"));
        Self {
            conf: file("conf"),
            hosts: file("hostsfile"),
            names: file("addnhosts"),
            leases: file("leases"),
            pid: places.run.join(format!("{name}.pid")),
            status: places.state.join(format!("{bridge}.status")),
        }
    }

    /// Writes what the definition says.
    ///
    /// # Errors
    /// It cannot be said, or not be written.
    pub(crate) fn write(&self, net: &Definition) -> Result<()> {
        let hosts: String = dhcp(net).flat_map(|(_, dhcp)| &dhcp.hosts).map(host_line).collect();
        let names: String = net
            .dns
            .iter()
            .flat_map(|dns| &dns.hosts)
            .map(|host| {
                let names: String = host.hostname.iter().map(|name| format!("{name}\t")).collect();
                format!("{}\t{names}\n", host.ip.as_deref().unwrap_or_default())
            })
            .collect();
        for (path, text) in [(&self.conf, self.text(net)?), (&self.hosts, hosts), (&self.names, names)] {
            let cannot = |error| {
                VirtError::system(NETWORK, &error, format_args!("couldn't write '{}'", path.display()))
            };
            // dnsmasq reads the latter two with the rights of nobody.
            fs::write(path, text).map_err(cannot)?;
        }
        Ok(())
    }

    fn text(&self, net: &Definition) -> Result<String> {
        let mut conf = Conf::default();
        let name = &net.name;
        conf.0 = format!("# Made for the network {name}; `virsh net-edit {name}` changes it.\n");
        let bridge = net.bridge.as_ref().and_then(|bridge| bridge.name.as_deref()).unwrap_or_default();
        conf.say("strict-order");
        conf.names(net)?;
        conf.set("pid-file", self.pid.display());
        conf.say("except-interface=lo\nbind-dynamic");
        conf.set("interface", bridge);
        if mode(net) == ForwardMode::None {
            // There is no way out: no router, no servers.
            conf.say("dhcp-option=3\nno-resolv\nra-param=*,0,0");
        }
        conf.records(net);
        conf.addresses(net)?;
        if dhcp(net).next().is_some() {
            conf.set("dhcp-hostsfile", self.hosts.display());
        }
        if has_dns(net) {
            conf.set("addn-hosts", self.names.display());
        }
        conf.router(net)?;
        for option in net.dnsmasq_options.iter().flat_map(|options| &options.option) {
            conf.say(&option.value);
        }
        Ok(conf.0)
    }

    /// Starts it.
    ///
    /// # Errors
    /// It is not installed, or refuses.
    pub(crate) async fn start(&self, bridge: &str) -> Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--conf-file={}", self.conf.display()));
        command.arg(format!("--dhcp-leasefile={}", self.leases.display()));
        command.env("VIR_BRIDGE_NAME", bridge);
        let done = command.output().await.map_err(|error| {
            VirtError::system(NETWORK, &error, format_args!("Cannot find '{PROGRAM}' in path"))
        })?;
        if done.status.success() {
            return Ok(());
        }
        Err(NETWORK.internal_error(format_args!(
            "Child process ({PROGRAM} --conf-file={}) unexpected {}: {}",
            self.conf.display(),
            done.status,
            String::from_utf8_lossy(&done.stderr).trim_end(),
        )))
    }

    /// The process, if it still is the one that reads this configuration.
    fn process(&self) -> Option<Pid> {
        let pid = fs::read_to_string(&self.pid).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = line.split(|byte| *byte == 0);
        let own = format!("--conf-file={}", self.conf.display());
        arguments.any(|argument| argument == own.as_bytes()).then(|| Pid::from_raw(pid))?
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.process().is_some()
    }

    /// What it has been told when it was started.
    pub(crate) fn content(&self) -> Option<String> {
        fs::read_to_string(&self.conf).ok()
    }

    /// Ends it, and waits until its ports are free.
    pub(crate) async fn end(&self) {
        let Some(pid) = self.process() else { return };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if kill_process(pid, Signal::TERM).is_ok() {
            let waited = tokio::task::spawn_blocking(move || {
                let limit = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
                poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))
            });
            let _ = waited.await;
        }
    }

    /// Ends it, for good.
    pub(crate) async fn stop(&self) {
        self.end().await;
        for path in [&self.pid, &self.conf, &self.hosts, &self.names, &self.leases, &self.status] {
            let _ = store::remove(path);
        }
    }

    /// Makes it read hosts and names again. Ranges and records it only reads when it starts.
    pub(crate) fn reload(&self) {
        if let Some(pid) = self.process() {
            let _ = kill_process(pid, Signal::HUP);
        }
    }
}

/// Whether a network has something that dnsmasq could serve.
pub(crate) fn is_wanted(net: &Definition) -> bool {
    !net.ips.is_empty() && (has_dns(net) || dhcp(net).next().is_some())
}

/// How guests get out.
pub(crate) fn mode(net: &Definition) -> ForwardMode {
    net.forward.as_ref().map_or(ForwardMode::None, |forward| forward.mode)
}

fn has_dns(net: &Definition) -> bool {
    net.dns.as_ref().is_none_or(|dns| dns.enable != Some(YesNo::No))
}

/// What of a network gives addresses to guests.
pub(crate) fn dhcp(net: &Definition) -> impl Iterator<Item = (&NetworkIp, &Dhcp)> {
    let given = |dhcp: &Dhcp| !(dhcp.ranges.is_empty() && dhcp.hosts.is_empty());
    net.ips.iter().filter_map(move |ip| Some((ip, ip.dhcp.as_ref().filter(|dhcp| given(dhcp))?)))
}

/// A configuration in the making.
#[derive(Default)]
struct Conf(String);

impl Conf {
    fn say(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn set(&mut self, key: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key}={value}");
    }

    /// Who is asked for names, and which are known here.
    fn names(&mut self, net: &Definition) -> Result<()> {
        if !has_dns(net) {
            self.say("port=0");
        }
        let forwarders = net.dns.iter().flat_map(|dns| &dns.forwarders);
        let mut everything = false;
        for forwarder in forwarders {
            let address = forwarder.addr.as_deref();
            match &forwarder.domain {
                Some(domain) => self.set("server", format_args!("/{domain}/{}", address.unwrap_or("#"))),
                None => {
                    everything = true;
                    self.set("server", address.unwrap_or_default());
                }
            }
        }
        if everything {
            self.say("no-resolv");
        }
        if let Some(domain) = &net.domain
            && let Some(name) = &domain.name
        {
            if domain.local_only == Some(YesNo::Yes) {
                self.set("local", format_args!("/{name}/"));
            }
            self.set("domain", name);
            self.say("expand-hosts");
        }
        for (subnet, ip) in subnet::all(&net.ips)? {
            if ip.local_ptr == Some(YesNo::Yes) {
                self.set("local", format_args!("/{}/", subnet.reverse()?));
            }
        }
        if net.dns.as_ref().is_some_and(|dns| dns.forward_plain_names == Some(YesNo::No)) {
            self.say("domain-needed\nlocal=//");
        }
        Ok(())
    }

    fn records(&mut self, net: &Definition) {
        let Some(dns) = &net.dns else { return };
        for txt in &dns.txts {
            let (name, value) = (txt.name.as_deref(), txt.value.as_deref());
            self.set(
                "txt-record",
                format_args!("{},{}", name.unwrap_or_default(), value.unwrap_or_default()),
            );
        }
        dns.srvs.iter().for_each(|srv| self.set("srv-host", service(srv)));
    }

    /// Which addresses are given, and what else is told with them.
    fn addresses(&mut self, net: &Definition) -> Result<()> {
        let mut most = 0;
        for (subnet, ip) in subnet::all(&net.ips)? {
            if let Some(root) = ip.tftp.as_ref().and_then(|tftp| tftp.root.as_deref()) {
                self.say("enable-tftp");
                self.set("tftp-root", root);
            }
            let Some(dhcp) = ip.dhcp.as_ref() else { continue };
            for range in &dhcp.ranges {
                most += size(range);
                let (start, end) = (range.start.as_deref(), range.end.as_deref());
                let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
                let lease = range.lease.as_ref().map(|lease| format!(",{}", time(lease)));
                self.set(
                    "dhcp-range",
                    format_args!("{start},{end},{}{}", subnet.mask(), lease.unwrap_or_default()),
                );
            }
            if dhcp.ranges.is_empty() && !dhcp.hosts.is_empty() {
                let length =
                    if subnet.address.is_ipv6() { format!(",{}", subnet.prefix) } else { String::new() };
                self.set("dhcp-range", format_args!("{},static{length}", subnet.address));
            }
            if subnet.address.is_ipv4() && !(dhcp.ranges.is_empty() && dhcp.hosts.is_empty()) {
                self.say("dhcp-no-override\ndhcp-authoritative");
            }
            if let Some(bootp) = &dhcp.bootp {
                let server = bootp.server.as_deref().map(|server| format!(",,{server}"));
                let file = bootp.file.as_deref().unwrap_or_default();
                self.set("dhcp-boot", format_args!("{file}{}", server.unwrap_or_default()));
            }
        }
        if most > 0 {
            self.set("dhcp-lease-max", most);
        }
        Ok(())
    }

    /// Guests find an IPv6 router by what it says of itself; where it gives no addresses, it only does that.
    fn router(&mut self, net: &Definition) -> Result<()> {
        let all = subnet::all(&net.ips)?;
        let six: Vec<_> = all.iter().filter(|(subnet, _)| subnet.address.is_ipv6()).collect();
        if dhcp(net).any(|(ip, _)| six.iter().any(|(_, other)| std::ptr::eq(*other, ip))) {
            self.say("enable-ra");
        } else {
            six.iter()
                .for_each(|(subnet, _)| self.set("dhcp-range", format_args!("{},ra-only", subnet.address)));
        }
        Ok(())
    }
}

/// `_service._protocol.domain,target,port,priority,weight`, as far as it is said.
fn service(srv: &DnsSrv) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut record = format!("_{}._{}", text(&srv.service), text(&srv.protocol));
    if let Some(domain) = &srv.domain {
        record += &format!(".{domain}");
    }
    let Some(target) = srv.target.as_deref().filter(|target| *target != ".") else { return record };
    record += &format!(",{target}");
    for number in [srv.port, srv.priority, srv.weight].into_iter().map_while(|number| number) {
        record += &format!(",{number}");
    }
    record
}

/// How many addresses are in a range.
fn size(range: &DhcpRange) -> u128 {
    let address = |text: &Option<String>| match text.as_deref()?.parse().ok()? {
        IpAddr::V4(address) => Some(u128::from(address.to_bits())),
        IpAddr::V6(address) => Some(address.to_bits()),
    };
    let ends = address(&range.start).zip(address(&range.end));
    ends.map_or(0, |(start, end)| end.saturating_sub(start).saturating_add(1))
}

fn time(lease: &DhcpLease) -> String {
    let unit = match lease.unit {
        _ if lease.expiry == 0 => return "infinite".to_owned(),
        Some(LeaseUnit::Seconds) => 's',
        Some(LeaseUnit::Hours) => 'h',
        Some(LeaseUnit::Minutes) | None => 'm',
    };
    format!("{}{unit}", lease.expiry)
}

/// What a guest of its own gets.
fn host_line(host: &DhcpHost) -> String {
    let ip = host.ip.as_deref();
    let lease = host.lease.as_ref().map(time);
    let is_six = ip.is_some_and(|ip| ip.contains(':'));
    let bracketed = ip.map(|ip| if is_six { format!("[{ip}]") } else { ip.to_owned() });
    let id = host.id.as_ref().map(|id| format!("id:{id}"));
    let (mac, name) = (host.mac.clone(), host.name.clone());
    let parts = if is_six { [mac, id, name, bracketed, lease] } else { [mac, id, bracketed, name, lease] };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{}\n", parts.join(","))
}

/// The network's addresses that this one is among.
pub(crate) fn subnet_of(net: &Definition, address: IpAddr) -> Option<Subnet> {
    let all = net.ips.iter().filter_map(Subnet::of);
    let same = |subnet: &Subnet| Subnet { address, ..*subnet }.to_string() == subnet.to_string();
    all.filter(|subnet| subnet.address.is_ipv4() == address.is_ipv4()).find(same)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use virtwire_conf::ParseOptions;

    use super::*;

    /// What dnsmasq is told of a network, without what is the same for all.
    fn told(inner: &str) -> Vec<String> {
        let xml = format!("<network><name>a</name>{inner}<bridge name='virbr7'/></network>");
        let net = Definition::parse(&xml, &ParseOptions::default()).unwrap();
        let text = Files::of(&Places::below(Path::new("/x")), "a", "virbr7").text(&net).unwrap();
        let same =
            ["strict-order", "pid-file", "except-interface", "bind-dynamic", "interface", "#", "addn-hosts"];
        let lines = text.lines().filter(|line| !same.iter().any(|same| line.starts_with(same)));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn an_isolated_network_is_no_way_out() {
        assert_eq!(
            told(
                "<ip address='10.9.2.1' prefix='24'><dhcp><range start='10.9.2.10' end='10.9.2.20'/></dhcp></ip>"
            ),
            [
                "dhcp-option=3",
                "no-resolv",
                "ra-param=*,0,0",
                "dhcp-range=10.9.2.10,10.9.2.20,255.255.255.0",
                "dhcp-no-override",
                "dhcp-authoritative",
                "dhcp-lease-max=11",
                "dhcp-hostsfile=/x/state/a.hostsfile",
            ]
        );
    }

    #[test]
    fn names_records_and_routers() {
        assert_eq!(
            told(
                "<forward mode='nat'/><domain name='ex.test' localOnly='yes'/><dns forwardPlainNames='no'>\
                 <forwarder domain='only.test'/><forwarder addr='9.9.9.9'/><txt name='t' value='v w'/>\
                 <srv service='s' protocol='udp'/><srv service='q' protocol='tcp' domain='d' target='h' port='5'/></dns>\
                 <ip address='10.10.1.1' prefix='16' localPtr='yes'/><ip family='ipv6' address='fd00::1' prefix='64'/>"
            ),
            [
                "server=/only.test/#",
                "server=9.9.9.9",
                "no-resolv",
                "local=/ex.test/",
                "domain=ex.test",
                "expand-hosts",
                "local=/10.10.in-addr.arpa/",
                "domain-needed",
                "local=//",
                "txt-record=t,v w",
                "srv-host=_s._udp",
                "srv-host=_q._tcp.d,h,5",
                "dhcp-range=fd00::1,ra-only",
            ]
        );
    }

    #[test]
    fn hosts_have_their_own_addresses() {
        let host = DhcpHost {
            mac: Some("52:54:00:00:00:01".to_owned()),
            name: Some("n".to_owned()),
            ip: Some("10.9.2.9".to_owned()),
            lease: Some(DhcpLease::default()),
            ..DhcpHost::default()
        };
        assert_eq!(host_line(&host), "52:54:00:00:00:01,10.9.2.9,n,infinite\n");
        let six = DhcpHost {
            id: Some("0:1".to_owned()),
            mac: None,
            ip: Some("fd00::9".to_owned()),
            lease: None,
            ..host
        };
        assert_eq!(host_line(&six), "id:0:1,n,[fd00::9]\n");
    }
}
