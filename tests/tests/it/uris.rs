//! Which URIs a daemon of root's has, and what they lead to: the same with either daemon.

use std::fs;
use std::path::Path;

use virtwire_tests::compare::canonical;
use virtwire_tests::daemon::Daemon;
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};

use crate::qemu::{SESSION, SYSTEM};

/// Both daemons, by the same means, unless something that they need is not here.
fn daemons() -> Option<[Daemon; 2]> {
    let needs = [Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu];
    peers::here(&needs).then(|| [Daemon::libvirtd(), Daemon::private_virtwired()])
}

#[test]
fn the_session_of_root_is_the_system() {
    for daemon in daemons().iter().flatten() {
        let (name, definition) = ("found", daemon.folder().join("guest.xml"));
        fs::write(&definition, guest::domain_xml(name, Path::new("/none")))
            .expect("the definition is written");
        daemon.virsh_ok(SESSION, &["define", &definition.to_string_lossy()]);
        assert_eq!(daemon.virsh_ok(SYSTEM, &["list", "--all", "--name"]).trim(), name);
        daemon.virsh_ok(SYSTEM, &["undefine", name]);
        assert_eq!(daemon.virsh_ok(SESSION, &["list", "--all", "--name"]).trim(), "");
    }
}

#[test]
fn each_family_has_a_uri_that_leads_to_nothing_else() {
    let commands: &[&[&str]] = &[
        &["version"],
        &["capabilities"],
        &["list", "--all"],
        &["net-list", "--all"],
        &["pool-list", "--all"],
        &["secret-list"],
        &["nwfilter-list"],
        &["nodedev-list", "--cap", "system"],
        &["event", "--all", "--timeout", "1"],
        &["net-event", "lifecycle", "--timeout", "1"],
        &["pool-event", "lifecycle", "--timeout", "1"],
    ];
    let said = |daemon: &Daemon| {
        let families = ["network", "storage", "secret", "nodedev", "nwfilter", "interface"];
        let asked = families
            .iter()
            .flat_map(|family| commands.iter().map(move |command| (format!("{family}:///system"), *command)));
        let wrong = ["network:///session", "storage:///", "secret:///default"];
        let refused = wrong.iter().map(|uri| ((*uri).to_owned(), commands[0]));
        let mut said = Vec::new();
        for (uri, command) in asked.chain(refused) {
            let text = daemon.virsh(&uri, command).text;
            let text = canonical(&text.replace(&daemon.folder().display().to_string(), "FOLDER"));
            // An empty line on one of virsh's outputs comes before or behind what is on the other.
            let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            said.push(format!("{uri} {command:?}\n{}", lines.join("\n")));
        }
        said
    };
    let Some(daemons) = daemons() else { return };
    let [real, own] = daemons.each_ref().map(said);
    for (real, own) in real.iter().zip(&own) {
        assert_eq!(real, own);
    }
    assert!(real.iter().any(|text| text.contains("nwfilter:///system") && text.contains("clean-traffic")));
}
