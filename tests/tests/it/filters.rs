//! Network filters in force: the rules that the kernel has are those that libvirtd makes, and come and go with what
//! they are for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

use virtwire_tests::daemon::Daemon;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::{self, Program};
use virtwire_tests::repo;

use crate::qemu::{SYSTEM, until};

/// A host with a daemon, in a network namespace of its own.
struct Host(Daemon);

impl Host {
    /// Runs a program in the daemon's network namespace.
    #[track_caller]
    fn inside(&self, words: &[&str]) -> String {
        let pid = self.0.daemon_pid().to_string();
        let done = process::run(Command::new("nsenter").args(["-t", &pid, "-n"]).args(words));
        assert!(done.status.success(), "{words:?}: {}", done.text);
        done.text
    }

    /// All rules of the packet filters. Which number an interface has is no matter.
    #[track_caller]
    fn rules(&self) -> Vec<String> {
        let mut all = Vec::new();
        for program in ["ebtables-save", "iptables-save", "ip6tables-save"] {
            all.push(program.to_owned());
            let text = numberless(&self.inside(&[program]));
            all.extend(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned));
        }
        all
    }

    fn has(&self, rule: &str) -> bool {
        self.rules().iter().any(|known| known.contains(rule))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.folder().join(name);
        fs::write(&path, text).expect("a document is written");
        path.to_string_lossy().into_owned()
    }

    /// What virsh says, whether it works or not.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let folder = self.0.folder().to_string_lossy().into_owned();
        let text = numberless(&self.0.virsh(SYSTEM, words).text.replace(&folder, ""));
        // What comes by standard output is empty where it comes by the other.
        text.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
    }

    #[track_caller]
    fn bindings(&self) -> String {
        self.says(&["nwfilter-binding-list"])
    }

    /// Defines filters, binds a port, and takes all away again: what virsh says and what the kernel has.
    fn tries(&self, filters: &[&str], binding: &str) -> Vec<String> {
        let mut define = String::new();
        let mut undefine = String::new();
        for (at, filter) in filters.iter().enumerate() {
            define += &format!("nwfilter-define {}; ", self.file(&format!("filter{at}.xml"), filter));
            let name = filter.split_once("name='").and_then(|(_, rest)| rest.split('\'').next());
            undefine.insert_str(0, &format!("nwfilter-undefine {}; ", name.expect("a filter has a name")));
        }
        let bind = format!("nwfilter-binding-create {}", self.file("binding.xml", binding));
        let mut all = vec![self.says(&[&format!("{define}{bind}")])];
        all.extend(self.rules());
        all.push(self.says(&[&format!(
            "nwfilter-binding-dumpxml {PORT}; nwfilter-binding-delete {PORT}; {undefine}"
        )]));
        all.extend(self.rules());
        all
    }
}

/// Does the same at both hosts.
fn at_once<T: Send>(hosts: [Host; 2], what: impl Fn(&Host) -> T + Sync) -> [(Host, T); 2] {
    let what = &what;
    thread::scope(|scope| {
        let begun = hosts.map(|host| {
            scope.spawn(move || {
                let done = what(&host);
                (host, done)
            })
        });
        begun.map(|done| done.join().expect("it ends"))
    })
}

fn numberless(text: &str) -> String {
    let mut parts = text.split("vnet");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str("vnetN");
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    all
}

const PORT: &str = "tap7";

fn binding(filter: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|(name, value)| format!("<parameter name='{name}' value='{value}'/>"))
        .collect();
    format!(
        "<filterbinding><owner><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid></owner>
         <portdev name='{PORT}'/><mac address='52:54:00:00:00:01'/>
         <filterref filter='{filter}'>{parameters}</filterref></filterbinding>"
    )
}

/// The filters below `tests/nwfilter`, and those of libvirt's package, each with a binding.
fn cases(stock: &Path) -> Vec<(PathBuf, Vec<String>, String)> {
    let files = |folder: &Path| {
        let mut all: Vec<PathBuf> =
            fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        all.retain(|path| path.extension().is_some_and(|ending| ending == "xml"));
        all.sort();
        all
    };
    let mut all = Vec::new();
    for file in files(&repo::file("nwfilter")) {
        let text = fs::read_to_string(&file).expect("documents");
        let mut documents: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
        let binding = documents.pop().expect("the last is a binding");
        all.push((file, documents, binding));
    }
    for file in files(stock) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let server = if name.contains("v6") { "fe80::2" } else { "10.0.0.2" };
        let parameters = [
            ("DHCPSERVER", server),
            ("GATEWAY_MAC", "52:54:00:00:00:02"),
            ("IP", "10.0.0.1"),
            ("IPV6", "fe80::1"),
        ];
        all.push((file, Vec::new(), binding(&name, &parameters)));
    }
    all
}

#[test]
fn filters_come_to_the_rules_that_libvirtd_makes() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Ebtables]) {
        return;
    }
    let hosts = [Host(Daemon::libvirtd()), Host(Daemon::private_virtwired())];
    let cases = cases(&hosts[0].0.folder().join("etc/nwfilter"));
    assert!(cases.len() > 30, "{}", cases.len());
    let run = |host: &Host| {
        host.inside(&["ip", "tuntap", "add", PORT, "mode", "tap"]);
        let tries = cases.iter().map(|(_, filters, binding)| {
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            host.tries(&filters, binding)
        });
        tries.collect::<Vec<_>>()
    };
    let [(_, real), (_, own)] = at_once(hosts, run);
    for ((case, real), own) in cases.iter().zip(real).zip(own) {
        let file = case.0.display();
        assert!(own.iter().any(|line| line.starts_with("-A ") && line.contains(PORT)), "{file}: {own:#?}");
        let differs = real.iter().zip(&own).find(|(real, own)| real != own);
        assert_eq!((differs, real.len()), (None, own.len()), "{file}");
    }
}

/// An interface of a guest.
fn interface(mac: u8, filter: &str) -> String {
    let filter = match filter {
        "" => String::new(),
        "clean-traffic" => {
            "<filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.9'/></filterref>".to_owned()
        }
        name => format!("<filterref filter='{name}'/>"),
    };
    format!(
        "<interface type='bridge'><mac address='52:54:00:00:00:0{mac}'/><source bridge='br9'/>
         <model type='virtio'/>{filter}</interface>"
    )
}

fn guest(interfaces: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
         <memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>
         <features><acpi/></features><devices>{interfaces}</devices></domain>"
    )
}

const REDEFINED: &str = "11111111-2222-3333-4444-666666666666";

/// A filter as it is defined, then anew.
fn redefined(rule: &str) -> String {
    format!(
        "<filter name='own'><uuid>{REDEFINED}</uuid><rule action='drop' direction='in'>{rule}</rule></filter>"
    )
}

/// What the host says and has along a guest's life.
fn life(host: &Host) -> Vec<String> {
    let mut all = Vec::new();
    let mut step = |words: &[&str]| {
        all.push(words.join(" ").replace(&*host.0.folder().to_string_lossy(), ""));
        all.push(host.says(words));
        all.push(host.bindings());
        all.extend(host.rules());
    };
    let file = |name: &str, text: &str| host.file(name, text);
    host.inside(&["ip", "link", "add", "br9", "type", "bridge"]);
    host.inside(&["ip", "link", "set", "br9", "up"]);
    let own = file("own.xml", &redefined("<mac protocolid='0x9000'/>"));
    let plain = file("a.xml", &guest(&interface(1, "clean-traffic")));
    let arp = file("arp.xml", &interface(2, "allow-arp"));
    let none = file("none.xml", &interface(3, "no-such"));
    let update = |filter: &str| file(&format!("update-{filter}.xml"), &interface(1, filter));
    step(&["nwfilter-define", &own]);
    step(&["define", &plain]);
    step(&["start", "a"]);
    step(&["attach-device", "a", &arp]);
    step(&["attach-device", "a", &none]);
    step(&["update-device", "a", &update("own")]);
    step(&["nwfilter-undefine", "own"]);
    step(&["nwfilter-define", &file("again.xml", &redefined("<tcp dstportstart='7'/>"))]);
    step(&["nwfilter-define", &file("bad.xml", &redefined("<tcp srcipaddr='$NONE'/>"))]);
    step(&[
        "nwfilter-define",
        &file("worse.xml", &redefined("<tcp srcportstart='0' dstportstart='$NONE[1]'/>")),
    ]);
    step(&["nwfilter-dumpxml", "own"]);
    step(&["update-device", "a", &update("no-such")]);
    step(&["update-device", "a", &update("")]);
    step(&["nwfilter-undefine", "own"]);
    step(&["update-device", "a", &update("clean-traffic")]);
    host.says(&["detach-interface", "a", "bridge", "--mac", "52:54:00:00:00:02"]);
    // There is no system that lets it go, but at a reset the machine does.
    host.says(&["reset", "a"]);
    until("the interface goes", || {
        let bindings = host.bindings();
        if bindings.contains("allow-arp") { Err(bindings) } else { Ok(()) }
    });
    step(&["destroy", "a"]);
    step(&["start", "a"]);
    let pid = fs::read_to_string(host.0.folder().join("run/qemu/a.pid")).expect("it runs");
    // That of QEMU in the daemon's namespace.
    let daemon = host.0.daemon_pid().to_string();
    process::run(Command::new("nsenter").args(["-t", &daemon, "-p", "-m", "kill", "-9", pid.trim()]));
    until("the guest is gone", || {
        let state = host.says(&["domstate", "a"]);
        let bindings = host.bindings();
        if state.contains("shut off") && !bindings.contains("vnet") { Ok(()) } else { Err(state + &bindings) }
    });
    step(&["domstate", "a"]);
    step(&["define", &file("two.xml", &guest(&(interface(1, "clean-traffic") + &interface(3, "no-such"))))]);
    step(&["start", "a"]);
    all
}

#[test]
fn filters_come_and_go_with_a_guest_as_with_libvirtd() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu, Peer::Ebtables]) {
        return;
    }
    let hosts = [Host(Daemon::libvirtd()), Host(Daemon::private_virtwired())];
    let [(_, real), (host, own)] = at_once(hosts, life);
    let differs = real.iter().zip(&own).find(|(real, own)| real != own);
    assert_eq!((differs, real.len()), (None, own.len()));
    assert!(!host.has("vnet"), "nothing is left behind");
}

#[test]
fn a_daemon_that_comes_again_puts_filters_in_force_again() {
    if !peers::here(&[Peer::Root, Peer::Virsh, Peer::Qemu, Peer::Ebtables]) {
        return;
    }
    let host = Host(Daemon::again(false));
    host.inside(&["ip", "link", "add", "br9", "type", "bridge"]);
    host.inside(&["ip", "tuntap", "add", PORT, "mode", "tap"]);
    let bound = host.file("binding.xml", &binding("allow-ipv4", &[]));
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-create", &bound]);
    let guest = host.file("a.xml", &guest(&interface(1, "clean-traffic")));
    host.0.virsh_ok(SYSTEM, &["create", &guest]);
    let before = (host.bindings(), host.rules());
    assert!(host.has("--ip-src 10.0.0.9") && host.has("I-tap7-ipv4"), "{:#?}", before.1);
    let holder = host.0.pid().to_string();
    let daemon = host.0.daemon_pid();
    // The rules are lost as well.
    host.inside(&["ebtables", "-t", "nat", "-F"]);
    host.inside(&["ebtables", "-t", "nat", "-X"]);
    process::run(Command::new("kill").args(["-9", &daemon.to_string()]));
    until("the daemon comes again", || {
        let answer = host.0.virsh(SYSTEM, &["list"]);
        let is_new = host.0.daemon_pid() != daemon && host.0.daemon_pid().to_string() != holder;
        if is_new && answer.status.success() { Ok(()) } else { Err(answer.text) }
    });
    assert_eq!((host.bindings(), host.rules()), before);
    host.0.virsh_ok(SYSTEM, &["destroy", "a"]);
    assert!(!host.has("vnet"), "{:#?}", host.rules());
}

/// The guest that `clients/tap.py` is.
struct Guest(Program);

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 9];

impl Guest {
    fn new(host: &Host) -> Self {
        let pid = host.0.daemon_pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", peers::PYTHON]).arg(repo::file("clients/tap.py")).arg(PORT);
        let mut program = Program::start(&mut command);
        program.wait_for("up");
        Self(program)
    }

    /// Sends a frame with UDP: who does, from which address, from which port to which, and what.
    fn send(&mut self, whose: &str, from: [u8; 4], ports: (u16, u16), data: &[u8]) {
        let (to, source) = if whose == "guest" { (NEIGHBOUR, GUEST) } else { (GUEST, NEIGHBOUR) };
        let length = 8 + data.len() as u16;
        let mut frame = [to, source].concat();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 1, 0, 0, 64, 17, 0, 0]);
        frame.extend(from);
        frame.extend([10, 0, 0, 1]);
        frame.extend([ports.0, ports.1, length, 0].map(u16::to_be_bytes).concat());
        frame.extend(data);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.type_text(&format!("{whose} {hex}\n"));
        self.0.wait_for("sent");
    }
}

/// A packet of DHCP: whether a server answers, of which kind, and about which address for how many seconds.
fn dhcp(is_answer: bool, kind: u8, address: [u8; 4], seconds: u8) -> Vec<u8> {
    let mut message = vec![if is_answer { 2 } else { 1 }, 1, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    let (own, given) = if is_answer { ([0; 4], address) } else { (address, [0; 4]) };
    message.extend([own, given, [0; 4], [0; 4]].concat());
    message.extend(GUEST);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind, 51, 4, 0, 0, 0, seconds, 255]);
    message
}

fn wait_for(host: &Host, rule: &str, is_there: bool) {
    until(rule, || if host.has(rule) == is_there { Ok(()) } else { Err(format!("{:#?}", host.rules())) });
}

#[test]
fn the_address_of_a_guest_is_learned_from_its_first_packet() {
    if !peers::here(&[Peer::Root, Peer::Virsh, Peer::Python, Peer::Ebtables]) {
        return;
    }
    let host = Host(Daemon::private_virtwired());
    let mut guest = Guest::new(&host);
    let bound = host.file("binding.xml", &binding("clean-traffic", &[]));
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-create", &bound]);
    assert!(host.has("-A libvirt-I-tap7 -p ARP -j ACCEPT") && host.has("-A libvirt-I-tap7 -j DROP"));
    guest.send("host", [10, 0, 0, 4], (1, 2), b"not it");
    guest.send("guest", [0, 0, 0, 0], (68, 67), &dhcp(false, 1, [0; 4], 0));
    guest.send("guest", [10, 0, 0, 5], (1, 2), b"it");
    wait_for(&host, "I-tap7-ipv4-ip -p IPv4 --ip-src 10.0.0.5 -j RETURN", true);
    // It is the first that holds.
    guest.send("guest", [10, 0, 0, 6], (1, 2), b"another");
    let filter = host.file("own.xml", "<filter name='own'/>");
    host.0.virsh_ok(SYSTEM, &["nwfilter-define", &filter]);
    assert!(!host.has("10.0.0.6") && !host.has("10.0.0.4"));
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-delete", PORT]);
    assert!(!host.has(PORT), "{:#?}", host.rules());
}

#[test]
fn a_guest_has_the_addresses_that_dhcp_gave_it_for_as_long() {
    if !peers::here(&[Peer::Root, Peer::Virsh, Peer::Python, Peer::Ebtables]) {
        return;
    }
    let host = Host(Daemon::private_virtwired());
    let mut guest = Guest::new(&host);
    let parameters = [("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.1")];
    let bound = host.file("binding.xml", &binding("clean-traffic", &parameters));
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-create", &bound]);
    let source = |last: u8| format!("I-tap7-ipv4-ip -p IPv4 --ip-src 10.0.0.{last} -j RETURN");
    guest.send("guest", [10, 0, 0, 1], (67, 68), &dhcp(true, 5, [10, 0, 0, 9], 60));
    guest.send("host", [10, 0, 0, 1], (67, 68), &dhcp(true, 2, [10, 0, 0, 8], 60));
    guest.send("host", [10, 0, 0, 1], (67, 68), &dhcp(true, 5, [10, 0, 0, 7], 60));
    wait_for(&host, &source(7), true);
    assert!(!host.has(&source(9)) && !host.has(&source(8)), "only an answer of a server counts");
    guest.send("host", [10, 0, 0, 1], (67, 68), &dhcp(true, 5, [10, 0, 0, 6], 2));
    wait_for(&host, &source(6), true);
    wait_for(&host, &source(6), false);
    assert!(host.has(&source(7)));
    // It is kept for the next time.
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-delete", PORT]);
    let kept = fs::read_to_string(host.0.folder().join("run/network/nwfilter.leases")).expect("leases");
    let owner = "11111111-2222-3333-4444-555555555555-52:54:00:00:00:01";
    assert!(kept.contains(&format!(" {owner} 10.0.0.7 ")), "{kept}");
    host.0.virsh_ok(SYSTEM, &["nwfilter-binding-create", &bound]);
    assert!(host.has(&source(7)));
    guest.send("guest", [10, 0, 0, 7], (68, 67), &dhcp(false, 7, [10, 0, 0, 7], 0));
    wait_for(&host, &source(7), false);
}
