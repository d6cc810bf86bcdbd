//! `<domainCapabilities>`: what a guest may have, by program, architecture, machine type and kind of virtualization.

use std::fmt::Write as _;

use super::Chosen;
use super::cpus::GuestCpus;
use crate::probe::{QemuCaps, find_in_path};

/// When a value is offered.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// The program has this kind of device.
    Device(&'static str),
    /// The machine has this.
    Machine(fn(&str) -> bool),
    /// The host has this program. A row of nothing but such values is not there without it.
    Program(&'static str),
}

use When::{Always, Device, Machine, Program};

/// `<enum name=…>` with its values.
type Row = (&'static str, &'static [(&'static str, When)]);

/// Device elements in their order. One that has no device behind any value of its first row is not supported.
const DEVICES: &[(&str, &[Row])] = &[
    (
        "disk",
        &[
            ("diskDevice", &[("disk", Always), ("cdrom", Always), ("floppy", Always), ("lun", Always)]),
            (
                "bus",
                &[
                    ("ide", Machine(has_ide)),
                    ("fdc", Always),
                    ("scsi", Always),
                    ("virtio", Always),
                    ("usb", Device("usb-storage")),
                    ("sata", Device("ich9-ahci")),
                ],
            ),
            ("model", VIRTIO_MODELS),
        ],
    ),
    (
        "graphics",
        &[(
            "type",
            &[
                ("sdl", Always),
                ("vnc", Always),
                ("spice", Device("chardev-spicevmc")),
                ("egl-headless", Always),
                ("dbus", Always),
            ],
        )],
    ),
    (
        "video",
        &[(
            "modelType",
            &[
                ("vga", Device("VGA")),
                ("cirrus", Device("cirrus-vga")),
                ("vmvga", Device("vmware-svga")),
                ("qxl", Device("qxl")),
                ("virtio", Device("virtio-gpu-pci")),
                ("none", Always),
                ("bochs", Device("bochs-display")),
                ("ramfb", Device("ramfb")),
            ],
        )],
    ),
    (
        "hostdev",
        &[
            ("mode", &[("subsystem", Always)]),
            (
                "startupPolicy",
                &[("default", Always), ("mandatory", Always), ("requisite", Always), ("optional", Always)],
            ),
            ("subsysType", &[("usb", Always), ("pci", Always), ("scsi", Always)]),
            ("capsType", &[]),
            ("pciBackend", &[]),
        ],
    ),
    (
        "rng",
        &[
            ("model", VIRTIO_MODELS),
            ("backendModel", &[("random", Always), ("egd", Always), ("builtin", Always)]),
        ],
    ),
    (
        "filesystem",
        &[(
            "driverType",
            &[("path", Always), ("handle", Always), ("virtiofs", Device("vhost-user-fs-device"))],
        )],
    ),
    (
        "tpm",
        &[
            ("model", &[("tpm-tis", Device("tpm-tis")), ("tpm-crb", Device("tpm-crb"))]),
            (
                "backendModel",
                &[("passthrough", Always), ("emulator", Program("swtpm")), ("external", Program("swtpm"))],
            ),
            ("backendVersion", &[("1.2", Program("swtpm")), ("2.0", Program("swtpm"))]),
        ],
    ),
    ("redirdev", &[("bus", &[("usb", Device("usb-redir"))])]),
    ("channel", &[("type", &[("pty", Always), ("unix", Always), ("spicevmc", Device("chardev-spicevmc"))])]),
    (
        "crypto",
        &[
            ("model", &[("virtio", Device("virtio-crypto-device"))]),
            ("type", &[("qemu", Always)]),
            ("backendModel", &[("builtin", Always)]),
        ],
    ),
    ("interface", &[("backendType", &[("default", Always), ("passt", Always)])]),
    (
        "panic",
        &[("model", &[("isa", Device("pvpanic")), ("hyperv", Always), ("pvpanic", Device("pvpanic-pci"))])],
    ),
];

const VIRTIO_MODELS: &[(&str, When)] =
    &[("virtio", Always), ("virtio-transitional", Always), ("virtio-non-transitional", Always)];

fn has_ide(machine: &str) -> bool {
    machine == "pc" || machine.starts_with("pc-i440fx-")
}

fn has_ps2(machine: &str) -> bool {
    machine == "isapc" || has_ide(machine) || machine.starts_with("pc-q35-")
}

/// The document.
pub(super) fn to_xml(chosen: &Chosen, cpus: &GuestCpus, physical_bits: u32, host_arch: &str) -> String {
    let caps = &chosen.caps;
    let mut out = Text::default();
    out.line(0, "<domainCapabilities>");
    out.line(1, format_args!("<path>{}</path>", caps.program.display()));
    out.line(1, format_args!("<domain>{}</domain>", chosen.virt()));
    out.line(1, format_args!("<machine>{}</machine>", chosen.machine.name));
    out.line(1, format_args!("<arch>{}</arch>", chosen.arch));
    out.line(1, format_args!("<vcpu max='{}'/>", chosen.max_vcpus()));
    out.line(1, "<iothreads supported='yes'/>");
    out.line(1, "<os supported='yes'>");
    out.line(2, "<enum name='firmware'/>");
    out.line(2, "<loader supported='yes'>");
    for (name, values) in
        [("type", &["rom", "pflash"][..]), ("readonly", &["yes", "no"]), ("secure", &["no"])]
    {
        out.values(3, name, values);
    }
    out.line(2, "</loader>");
    out.line(1, "</os>");
    cpu(&mut out, chosen, cpus, physical_bits, host_arch);
    out.line(1, "<memoryBacking supported='yes'>");
    out.values(2, "sourceType", &["file", "anonymous", "memfd"]);
    out.line(1, "</memoryBacking>");
    devices(&mut out, caps, &chosen.machine.name);
    features(&mut out, caps, &chosen.machine.name);
    out.line(0, "</domainCapabilities>");
    out.0
}

fn cpu(out: &mut Text, chosen: &Chosen, cpus: &GuestCpus, physical_bits: u32, host_arch: &str) {
    out.line(1, "<cpu>");
    if chosen.kvm {
        out.line(2, "<mode name='host-passthrough' supported='yes'>");
        let native = chosen.arch == host_arch;
        out.values(3, "hostPassthroughMigratable", if native { &["on", "off"][..] } else { &["off"] });
        out.line(2, "</mode>");
    } else {
        out.line(2, "<mode name='host-passthrough' supported='no'/>");
    }
    out.line(2, "<mode name='maximum' supported='yes'>");
    out.values(3, "maximumMigratable", &["on", "off"]);
    out.line(2, "</mode>");
    match cpus.host_model() {
        Some(host) => {
            out.line(2, "<mode name='host-model' supported='yes'>");
            out.line(3, format_args!("<model fallback='forbid'>{}</model>", host.model));
            if let Some(vendor) = host.vendor {
                out.line(3, format_args!("<vendor>{vendor}</vendor>"));
            }
            if chosen.kvm {
                out.line(3, format_args!("<maxphysaddr mode='passthrough' limit='{physical_bits}'/>"));
            }
            for (policy, names) in [("require", &host.require), ("disable", &host.disable)] {
                for name in names {
                    out.line(3, format_args!("<feature policy='{policy}' name='{name}'/>"));
                }
            }
            out.line(2, "</mode>");
        }
        None => out.line(2, "<mode name='host-model' supported='no'/>"),
    }
    out.line(2, "<mode name='custom' supported='yes'>");
    for (definition, usable) in cpus.usable() {
        let name = &usable.name;
        let whole = definition.unavailable_features.as_ref().is_none_or(Vec::is_empty);
        let word = if whole { "yes" } else { "no" };
        let deprecated = if definition.deprecated { " deprecated='yes'" } else { "" };
        let table = virtwire_cpu::X86::table();
        let vendor = table.model(name).and_then(|model| model.vendor).unwrap_or("unknown");
        let canonical =
            definition.alias_of.as_ref().map(|name| format!(" canonical='{name}'")).unwrap_or_default();
        let attributes = format!("usable='{word}'{deprecated} vendor='{vendor}'{canonical}");
        out.line(3, format_args!("<model {attributes}>{name}</model>"));
        if !whole {
            out.line(3, format_args!("<blockers model='{name}'>"));
            let mut names = table.names(&usable.blockers);
            names.sort_unstable();
            for name in names {
                out.line(4, format_args!("<feature name='{name}'/>"));
            }
            out.line(3, "</blockers>");
        }
    }
    out.line(2, "</mode>");
    out.line(1, "</cpu>");
}

fn devices(out: &mut Text, caps: &QemuCaps, machine: &str) {
    out.line(1, "<devices>");
    let offered = |when: When| match when {
        Always => true,
        Device(kind) => caps.has_device(kind),
        Machine(has) => has(machine),
        Program(name) => find_in_path(name).is_some(),
    };
    for (element, rows) in DEVICES {
        let first = rows.first().map_or(&[][..], |(_, values)| values);
        if !first.iter().any(|(_, when)| offered(*when)) {
            out.line(2, format_args!("<{element} supported='no'/>"));
            continue;
        }
        out.line(2, format_args!("<{element} supported='yes'>"));
        for (name, values) in *rows {
            let absent = |(_, when): &(_, When)| matches!(when, Program(_)) && !offered(*when);
            if !values.is_empty() && values.iter().all(absent) {
                continue;
            }
            let values = values.iter().filter(|(_, when)| offered(*when)).map(|(value, _)| *value);
            out.values(3, name, &values.collect::<Vec<_>>());
        }
        out.line(2, format_args!("</{element}>"));
    }
    out.line(1, "</devices>");
}

fn features(out: &mut Text, caps: &QemuCaps, machine: &str) {
    let word = |supported: bool| if supported { "yes" } else { "no" };
    out.line(1, "<features>");
    for (name, supported) in [
        ("gic", false),
        ("vmcoreinfo", caps.has_device("vmcoreinfo")),
        ("genid", caps.has_device("vmgenid")),
        ("backingStoreInput", true),
        ("backup", true),
        ("async-teardown", true),
        ("ps2", has_ps2(machine)),
        ("sev", false),
        ("sgx", false),
    ] {
        out.line(2, format_args!("<{name} supported='{}'/>", word(supported)));
    }
    out.line(2, "<hyperv supported='yes'>");
    out.values(3, "features", &["spinlocks", "vendor_id"]);
    out.line(2, "</hyperv>");
    out.line(2, "<launchSecurity supported='no'/>");
    out.line(1, "</features>");
}

/// Lines of a document. Writing to a string can't fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{:width$}{text}", "", width = 2 * depth);
    }

    fn values(&mut self, depth: usize, name: &str, values: &[&str]) {
        if values.is_empty() {
            return self.line(depth, format_args!("<enum name='{name}'/>"));
        }
        self.line(depth, format_args!("<enum name='{name}'>"));
        for value in values {
            self.line(depth + 1, format_args!("<value>{value}</value>"));
        }
        self.line(depth, "</enum>");
    }
}
