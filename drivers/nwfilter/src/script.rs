//! What the host's packet filters are told so that a port has certain rules and no others: one transaction for each of
//! them, derived from what is there. No I/O.

use std::collections::BTreeSet;

use crate::rules::{LAST, Layer, PORT_CHAINS, Row};

/// Lines for a `-restore` program, each with the command that it stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) lines: Vec<String>,
}

impl Script {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// What was said at a line, counted from 1.
    pub(crate) fn at(&self, line: usize) -> Option<&str> {
        self.lines.get(line.checked_sub(1)?).map(String::as_str)
    }
}

/// The table that a layer's rules are in.
fn table(layer: Layer) -> &'static str {
    match layer {
        Layer::Link => "nat",
        Layer::Four | Layer::Six => "filter",
    }
}

/// Takes the rules of a port out of what is there, as the `-save` program told it, and puts others in their place.
/// `None` if there is nothing to do.
pub(crate) fn replace(layer: Layer, present: &str, port: &str, rows: &[Row]) -> Option<Script> {
    let present = Present::of(present, table(layer));
    let mut script = Script::default();
    script.say(format!("*{}", table(layer)));
    match layer {
        Layer::Link => take_link(&mut script, &present, port, rows),
        Layer::Four | Layer::Six => take_packets(&mut script, &present, port),
    }
    if !rows.is_empty() {
        match layer {
            Layer::Link => put_link(&mut script, port, rows),
            Layer::Four | Layer::Six => put_packets(&mut script, &present, port),
        }
        for row in rows {
            let args: Vec<String> = row.args.iter().map(|arg| quoted(arg)).collect();
            script.say(format!("-A {} {}", row.chain, args.join(" ")));
        }
    }
    if script.lines.len() == 1 {
        return None;
    }
    script.say("COMMIT");
    Some(script)
}

/// A table as it was saved.
struct Present<'a> {
    chains: BTreeSet<&'a str>,
    /// Chain and the rest of the rule.
    rules: Vec<(&'a str, &'a str)>,
}

impl<'a> Present<'a> {
    fn of(saved: &'a str, table: &str) -> Self {
        let mut present = Self { chains: BTreeSet::new(), rules: Vec::new() };
        let lines = saved.lines().skip_while(|line| line.strip_prefix('*') != Some(table)).skip(1);
        for line in lines.take_while(|line| !line.starts_with('*') && *line != "COMMIT") {
            if let Some(rest) = line.strip_prefix(':') {
                present.chains.extend(rest.split(' ').next());
            } else if let Some((chain, rest)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' '))
            {
                present.rules.push((chain, rest));
            }
        }
        present
    }

    /// Where the rules of a chain lead.
    fn targets(&self, chain: &'a str) -> impl Iterator<Item = &'a str> {
        self.rules.iter().filter(move |(of, _)| *of == chain).filter_map(|(_, rule)| target(rule))
    }

    fn is_used(&self, chain: &str) -> bool {
        self.rules.iter().any(|(_, rule)| target(rule) == Some(chain))
    }
}

fn target(rule: &str) -> Option<&str> {
    let words: Vec<&str> = rule.split(' ').collect();
    words.windows(2).find(|pair| matches!(pair[0], "-j" | "-g")).map(|pair| pair[1])
}

/// The letters of a port's chains: in force, and those that libvirtd gives to new ones before they are.
const LETTERS: [char; 4] = ['I', 'O', 'J', 'P'];

fn take_link(script: &mut Script, present: &Present<'_>, port: &str, rows: &[Row]) {
    let roots = LETTERS.map(|letter| (letter, format!("libvirt-{letter}-{port}")));
    for (chain, rule) in &present.rules {
        let words: Vec<&str> = rule.split(' ').collect();
        let [_, of, "-j", root] = words.as_slice() else { continue };
        if matches!(*chain, "PREROUTING" | "POSTROUTING")
            && *of == port
            && roots.iter().any(|(_, r)| r == root)
        {
            script.say(format!("-D {chain} {rule}"));
        }
    }
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    for (letter, root) in &roots {
        let Some(root) = present.chains.get(root.as_str()) else { continue };
        gone.insert(root);
        let prefix = format!("{letter}-{port}-");
        gone.extend(present.targets(root).filter(|chain| chain.starts_with(&prefix)));
    }
    // What a failure has left behind leads nowhere.
    let is_left = |chain: &&str| {
        LETTERS.iter().any(|letter| chain.starts_with(&format!("{letter}-{port}-")))
            && !present.is_used(chain)
    };
    gone.extend(present.chains.iter().copied().filter(is_left));
    let new: BTreeSet<&str> = rows.iter().map(|row| row.chain.as_str()).collect();
    gone.extend(present.chains.iter().copied().filter(|chain| new.contains(chain) && chain.contains(port)));
    forget(script, &gone);
}

fn put_link(script: &mut Script, port: &str, rows: &[Row]) {
    let mut made: BTreeSet<&str> = BTreeSet::new();
    for row in rows.iter().filter(|row| row.chain.contains(port)) {
        if made.insert(&row.chain) {
            script.say(format!(":{} ACCEPT", row.chain));
        }
    }
}

fn take_packets(script: &mut Script, present: &Present<'_>, port: &str) {
    let hooks: Vec<&str> = PORT_CHAINS.iter().map(|(_, chain)| *chain).chain([LAST]).collect();
    for (chain, rule) in &present.rules {
        let words: Vec<&str> = rule.split(' ').collect();
        let is_own = words
            .windows(2)
            .any(|pair| matches!(pair[0], "--physdev-in" | "--physdev-out") && pair[1] == port);
        if hooks.contains(chain) && is_own {
            script.say(format!("-D {chain} {rule}"));
        }
    }
    let own: Vec<String> =
        ["FI", "FO", "HI", "FJ", "FP", "HJ"].iter().map(|prefix| format!("{prefix}-{port}")).collect();
    let gone = own.iter().filter_map(|chain| present.chains.get(chain.as_str()).copied()).collect();
    forget(script, &gone);
}

/// The first rules of the kernel's chains.
const FIRST: [(&str, usize, &str); 4] = [
    ("FORWARD", 1, "libvirt-in"),
    ("FORWARD", 2, "libvirt-out"),
    ("FORWARD", 3, LAST),
    ("INPUT", 1, "libvirt-host-in"),
];

fn put_packets(script: &mut Script, present: &Present<'_>, port: &str) {
    for (_, _, chain) in FIRST {
        if !present.chains.contains(chain) {
            script.say(format!(":{chain} - [0:0]"));
        }
    }
    for (hook, _, chain) in FIRST {
        if present.targets(hook).any(|target| target == chain) {
            script.say(format!("-D {hook} -j {chain}"));
        }
    }
    for (hook, place, chain) in FIRST {
        script.say(format!("-I {hook} {place} -j {chain}"));
    }
    for (prefix, _) in PORT_CHAINS {
        script.say(format!(":{prefix}-{port} - [0:0]"));
    }
}

fn forget(script: &mut Script, chains: &BTreeSet<&str>) {
    for what in ["-F", "-X"] {
        for chain in chains {
            script.say(format!("{what} {chain}"));
        }
    }
}

/// An argument as the `-restore` programs read it back.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/,!+@".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    let mut text = String::from("\"");
    for c in arg.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[(&str, &[&str])]) -> Vec<Row> {
        let row = |(chain, args): &(&str, &[&str])| Row {
            chain: (*chain).to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        all.iter().map(row).collect()
    }

    const SAVED: &str = "# Generated
*nat
:PREROUTING ACCEPT
:I-tap7-arp ACCEPT
:I-tap7-x-mac ACCEPT
:J-tap7-ipv4 ACCEPT
:libvirt-I-tap7 ACCEPT
:libvirt-I-tap7-x ACCEPT
-A PREROUTING -i tap7 -j libvirt-I-tap7
-A PREROUTING -i tap7-x -j libvirt-I-tap7-x
-A I-tap7-arp -j ACCEPT
-A libvirt-I-tap7 -p ARP -j I-tap7-arp
-A libvirt-I-tap7-x -j I-tap7-x-mac
";

    #[test]
    fn what_a_port_had_goes_and_what_it_has_comes_at_once() {
        let new = rows(&[
            ("libvirt-I-tap7", &["-j", "DROP"]),
            ("PREROUTING", &["-i", "tap7", "-j", "libvirt-I-tap7"]),
        ]);
        let script = replace(Layer::Link, SAVED, "tap7", &new).unwrap();
        assert_eq!(
            script.lines,
            [
                "*nat",
                "-D PREROUTING -i tap7 -j libvirt-I-tap7",
                "-F I-tap7-arp",
                "-F J-tap7-ipv4",
                "-F libvirt-I-tap7",
                "-X I-tap7-arp",
                "-X J-tap7-ipv4",
                "-X libvirt-I-tap7",
                ":libvirt-I-tap7 ACCEPT",
                "-A libvirt-I-tap7 -j DROP",
                "-A PREROUTING -i tap7 -j libvirt-I-tap7",
                "COMMIT",
            ]
        );
        assert_eq!(replace(Layer::Link, SAVED, "tap8", &[]), None);
        assert_eq!(script.at(3), Some("-F I-tap7-arp"));
    }

    #[test]
    fn the_chains_of_all_ports_are_made_once_and_come_first() {
        let new = rows(&[("FI-tap7", &["-p", "all", "-j", "DROP"])]);
        let fresh = replace(Layer::Four, "", "tap7", &new).unwrap().text();
        assert!(
            fresh.contains(":libvirt-in - [0:0]\n") && fresh.contains("-I FORWARD 3 -j libvirt-in-post\n")
        );
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:libvirt-in - [0:0]\n:FI-tap7 - [0:0]\n-A FORWARD -j libvirt-in\n\
                     -A libvirt-in -m physdev --physdev-in tap7 -g FI-tap7\n\
                     -A libvirt-in -m physdev --physdev-in tap70 -g FI-tap70\nCOMMIT\n";
        let script = replace(Layer::Four, saved, "tap7", &new).unwrap().text();
        assert!(
            script
                .contains("-D libvirt-in -m physdev --physdev-in tap7 -g FI-tap7\n-F FI-tap7\n-X FI-tap7\n"),
            "{script}"
        );
        assert!(!script.contains("tap70") && !script.contains(":libvirt-in -"), "{script}");
        assert!(script.contains("-D FORWARD -j libvirt-in\n"), "{script}");
    }

    #[test]
    fn no_argument_becomes_more_than_one() {
        let new = rows(&[("FI-tap7", &["--comment", "a \"b\" \\ 'c'\n-A INPUT -j ACCEPT", "-j", "DROP"])]);
        let script = replace(Layer::Four, "", "tap7", &new).unwrap();
        let line = script.lines.iter().find(|line| line.contains("comment")).unwrap();
        assert_eq!(line, "-A FI-tap7 --comment \"a \\\"b\\\" \\\\ 'c'-A INPUT -j ACCEPT\" -j DROP");
    }
}
