//! Guests that libvirtd takes over when it comes after this daemon, and that it leaves to this one: what its status files say
//! besides state and definition.

mod devices;
mod flags;

use std::path::Path;

use virtwire_conf::table::Element;
use virtwire_conf::xml::{Node, Raw, Writer};
use virtwire_conf::{Domain, FormatOptions};

use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::probe::QemuCaps;
use crate::security::Dac;

pub(crate) use devices::{told, understood};

/// Elements of a status file that are written anew each time; all others stay what they were at the guest's start.
const CHANGING: &[&str] = &[
    "taint",
    "monitor",
    "job",
    "vcpus",
    "devices",
    "nodename",
    "fdset",
    "blockjobs",
    "agentTimeout",
    "backups",
    "domain",
];

impl Qemu {
    /// What is written down of a guest that was defined as `stored` and starts: what QEMU can do, where its files are, and
    /// the processor that was asked for.
    pub(crate) async fn beside(&self, stored: &Domain, domain: &Domain) -> String {
        let program = domain.devices.emulator.as_deref().unwrap_or_default();
        let Ok(caps) = self.caps_of(Path::new(program)).await else { return String::new() };
        let remembers = self.shared.security.as_ref().is_some_and(Dac::remembers);
        beside(&caps, stored, domain, &self.shared.dirs, remembers)
    }
}

fn beside(caps: &QemuCaps, stored: &Domain, domain: &Domain, dirs: &Dirs, remembers: bool) -> String {
    let options = FormatOptions::default();
    let mut out = Writer::new(&options);
    out.open("qemuCaps");
    for flag in flags::of(caps) {
        out.open("flag");
        out.attribute("name", flag);
        out.close("flag");
    }
    out.close("qemuCaps");
    let (id, name) = (domain.id.unwrap_or(-1), &domain.name);
    let mut place = |element: &str, path: &Path| {
        out.open(element);
        out.attribute("path", &path.display().to_string());
        out.close(element);
    };
    place("libDir", &dirs.domain(id, name));
    place("channelTargetDir", &dirs.domain_channels(id, name));
    place("memoryBackingDir", &dirs.domain_memory(id, name));
    if let Some(cpu) = &stored.cpu {
        out.open("cpu");
        cpu.write(&mut out);
        out.close("cpu");
    }
    if remembers {
        out.empty("rememberOwner");
    }
    out.finish()
}

/// What another daemon has written down of a guest and this one has no use for.
pub(crate) fn kept(status: Node<'_>) -> String {
    let others = status.children().filter(|child| !CHANGING.contains(&child.name()));
    others.map(|child| Raw::read(child).to_xml() + "\n").collect()
}

/// What of a run changes and is neither state, nor work, nor definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// `VIR_DOMAIN_TAINT_…`, by bit.
    pub(crate) taint: u32,
    /// The last number of an image.
    pub(crate) nodes: u32,
    /// The next number of a set of descriptors.
    pub(crate) sets: u32,
    /// How long the agent may take (`virDomainAgentSetResponseTimeout`).
    pub(crate) agent: i32,
}

/// libvirt's names of taints, by their numbers (`virDomainTaintFlags`).
const TAINTS: [&str; 14] = [
    "custom-argv",
    "custom-monitor",
    "high-privileges",
    "shell-scripts",
    "disk-probing",
    "external-launch",
    "host-cpu",
    "hook-script",
    "cdrom-passthrough",
    "custom-dtb",
    "custom-ga-command",
    "custom-hypervisor-feature",
    "deprecated-config",
    "custom-device",
];

impl Counters {
    /// The elements of a status file.
    pub(crate) fn write(&self) -> String {
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        for (_, name) in TAINTS.iter().enumerate().filter(|(bit, _)| self.taint & (1 << bit) != 0) {
            out.open("taint");
            out.attribute("flag", name);
            out.close("taint");
        }
        for (element, index) in [("nodename", self.nodes), ("fdset", self.sets)] {
            out.open(element);
            out.attribute("index", &index.to_string());
            out.close(element);
        }
        out.leaf("agentTimeout", &self.agent.to_string());
        out.finish()
    }

    /// Those of a status file; what is not there is `usual`.
    pub(crate) fn read(status: Node<'_>, usual: Self) -> Self {
        let taints = status.children().filter(|child| child.name() == "taint");
        let bits =
            taints.filter_map(|taint| TAINTS.iter().position(|name| taint.attribute("flag") == Some(name)));
        let index = |name: &str| status.child(name)?.attribute("index")?.parse().ok();
        let agent = status.child("agentTimeout").and_then(|timeout| timeout.text().parse().ok());
        Self {
            taint: bits.fold(0, |taint, bit| taint | 1 << bit),
            nodes: index("nodename").unwrap_or(usual.nodes),
            sets: index("fdset").unwrap_or(usual.sets),
            agent: agent.unwrap_or(usual.agent),
        }
    }
}
