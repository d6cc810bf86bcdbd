//! Interfaces in switches of Open vSwitch: the switch is told the same by either daemon. A script stands in for the switch.

use std::fs;
use std::process::Command;

use regex_lite::Regex;
use virtwire_tests::compare::canonical;
use virtwire_tests::daemon::Daemon;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process;

use crate::qemu::SYSTEM;

/// Writes down what it is told; knows a queue of the port of one guest, and no switch called `broken`.
const SWITCH: &str = r#"
mkdir /var/lib/libvirt/programs
cat >/var/lib/libvirt/programs/ovs-vsctl <<'END'
#!/bin/sh
echo "$*" >>/var/lib/libvirt/said
case "$*" in
    *" broken "*) echo "ovs-vsctl: no bridge named broken" >&2; exit 1 ;;
    *"find queue"*counted*) printf 'q1\n\nq2\n' ;;
    *"find qos"*counted* | *"list port counted"*) echo r1 ;;
esac
END
chmod +x /var/lib/libvirt/programs/ovs-vsctl
for name in sw0 sw1 broken; do ip link add $name type bridge; done
export PATH=/var/lib/libvirt/programs:$PATH
"#;

const NETWORK: &str = "<network><name>switched</name><forward mode='bridge'/><bridge name='sw0'/>
  <virtualport type='openvswitch'><parameters profileid='all'/></virtualport>
  <portgroup name='one' default='yes'/><portgroup name='two'><vlan><tag id='22'/></vlan></portgroup></network>";

/// Interfaces, as a guest has them from the beginning.
const INTERFACES: &str = "
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='sw0'/>
  <virtualport type='openvswitch'><parameters interfaceid='22222222-2222-2222-2222-222222222222' profileid='p'/></virtualport>
  <vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='43'/></vlan><target dev='first'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='sw0'/>
  <virtualport type='openvswitch'/><target dev='counted'/>
  <bandwidth><inbound average='1000' peak='2000' burst='512'/><outbound average='128' burst='256'/></bandwidth></interface>
<interface type='network'><mac address='52:54:00:00:00:03'/><source network='switched' portgroup='two'/>
  <virtualport><parameters interfaceid='22222222-2222-2222-2222-222222222223'/></virtualport>
  <target dev='third'/></interface>";

fn domain(interfaces: &str) -> String {
    format!(
        "<domain type='qemu'><name>plugged</name><uuid>11111111-1111-1111-1111-111111111111</uuid>
         <memory unit='MiB'>32</memory><os><type machine='q35'>hvm</type></os>
         <devices>{interfaces}</devices></domain>"
    )
}

fn plugged(bridge: &str, more: &str) -> String {
    format!(
        "<interface type='bridge'><mac address='52:54:00:00:00:05'/><source bridge='{bridge}'/>
         <virtualport type='openvswitch'><parameters interfaceid='22222222-2222-2222-2222-222222222225'/></virtualport>
         {more}<target dev='later'/></interface>"
    )
}

/// What virsh prints and what the switch is told, step by step.
fn told(real: bool) -> Vec<String> {
    let daemon = Daemon::prepared(real, SWITCH);
    let file = |name: &str, text: &str| {
        let path = daemon.folder().join(name);
        fs::write(&path, text).expect("a file is written");
        path.display().to_string()
    };
    let network = file("network.xml", NETWORK);
    let guest = file("guest.xml", &domain(INTERFACES));
    let broken = file("broken.xml", &domain(&plugged("broken", "")));
    let card = file("card.xml", &plugged("sw1", "<vlan trunk='yes'><tag id='5'/></vlan>"));
    let other = file("other.xml", &plugged("sw1", "<vlan trunk='yes'><tag id='6'/><tag id='8'/></vlan>"));
    let isolated = file("isolated.xml", &plugged("sw1", "<port isolated='yes'/>"));
    let steps: &[&[&str]] = &[
        &["net-create", &network],
        &["create", &broken],
        &["create", &guest],
        &["dumpxml", "plugged", "--xpath", "//interface"],
        &["attach-device", "plugged", &card],
        &["attach-device", "plugged", &isolated],
        &["update-device", "plugged", &other],
        &["domiflist", "plugged"],
        &["domiftune", "plugged", "counted", "--inbound", "50", "--outbound", "10"],
        &["domiftune", "plugged", "counted", "--inbound", "0"],
        &["domiftune", "plugged", "later", "--inbound", "100,200,300"],
        &["domiftune", "plugged", "later"],
        &["detach-interface", "plugged", "bridge", "--mac", "52:54:00:00:00:05"],
        &["destroy", "plugged"],
        &["net-destroy", "switched"],
    ];
    let log = daemon.folder().join("lib/said");
    let made_up = Regex::new(r"\bvnet\d+").expect("a pattern");
    steps
        .iter()
        .map(|step| {
            let printed = daemon.virsh(SYSTEM, step).text;
            let said = fs::read_to_string(&log).unwrap_or_default();
            let _ = fs::remove_file(&log);
            // One port at a time or all of one kind: that is the daemon's affair.
            let mut said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
            said.sort_unstable();
            said.dedup();
            // An empty line on one of virsh's outputs comes before or behind what is on the other.
            let printed: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
            let text = canonical(&format!("{step:?}\n{}\n{}", printed.join("\n"), said.join("\n")));
            made_up.replace_all(&text, "vnetN").into_owned()
        })
        .collect()
}

#[test]
fn a_switch_is_told_the_same_by_either_daemon() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    let [real, own] = [true, false].map(told);
    for (real, own) in real.iter().zip(&own) {
        assert_eq!(own, real);
    }
    let all = own.join("\n");
    for part in [
        "add-port sw0 first",
        "tag=22",
        "create qos type=linux-htb",
        "destroy queue q2",
        "no bridge named broken",
    ] {
        assert!(all.contains(part), "{part}");
    }
}

#[test]
fn an_interface_that_cannot_be_moved_stays_in_its_switch() {
    if !peers::here(&[Peer::Root, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    let daemon = Daemon::prepared(false, SWITCH);
    let file = |name: &str, text: &str| {
        let path = daemon.folder().join(name);
        fs::write(&path, text).expect("a file is written");
        path.display().to_string()
    };
    let update = |bridge: &str| {
        let text = plugged(bridge, "");
        let plain = Regex::new("<virtualport.*</virtualport>").expect("a pattern");
        let text = if bridge == "sw1" { plain.replace(&text, "").into_owned() } else { text };
        daemon.virsh(SYSTEM, &["update-device", "plugged", &file("card.xml", &text)]).text
    };
    let told = || {
        let log = daemon.folder().join("lib/said");
        let said = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let ports = said.lines().filter_map(|line| line.split("-- ").find(|part| part.contains("-port ")));
        ports.map(|part| part.trim().trim_start_matches("--may-exist ").to_owned()).collect::<Vec<_>>()
    };
    let pid = daemon.pid().to_string();
    let is_in_sw1 = || {
        let words = ["-t", &pid, "-n", "ip", "-o", "link", "show", "later"];
        process::run(Command::new("nsenter").args(words)).text.contains(" master sw1 ")
    };
    daemon.virsh_ok(SYSTEM, &["create", &file("guest.xml", &domain(&plugged("sw0", "")))]);
    assert_eq!(told(), ["add-port sw0 later"]);
    assert!(update("broken").contains("no bridge named broken"));
    assert_eq!(told(), ["--if-exists del-port later", "add-port broken later", "add-port sw0 later"]);
    assert!(daemon.virsh_ok(SYSTEM, &["domiflist", "plugged"]).contains("sw0"));
    // Into a bridge of the kernel's, not back where that cannot be, and back.
    update("sw1");
    assert_eq!((told(), is_in_sw1()), (vec!["--if-exists del-port later".to_owned()], true));
    assert!(update("broken").contains("no bridge named broken"));
    assert_eq!((told(), is_in_sw1()), (vec!["add-port broken later".to_owned()], true));
    update("sw0");
    assert_eq!((told(), is_in_sw1()), (vec!["add-port sw0 later".to_owned()], false));
    daemon.virsh_ok(SYSTEM, &["destroy", "plugged"]);
}
