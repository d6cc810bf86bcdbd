//! A host with running guests goes from libvirtd to virtwired and back, under stock virsh.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use virtwire_tests::daemon::Daemon;
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process;

use crate::migration::answers;
use crate::qemu::{SYSTEM, until};

/// Disks of all kinds of nodes, what has a place on the host, and devices that the machine has by itself.
fn definition(name: &str) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='KiB'>32768</memory>
  <vcpu current='1'>2</vcpu>
  <iothreads>1</iothreads>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/libvirt/images/{name}.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' copy_on_read='on'/>
      <source file='/var/lib/libvirt/images/{name}.qcow2'/>
      <target dev='sdb' bus='sata'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <controller type='usb' model='qemu-xhci'/>
    <interface type='network'>
      <source network='inner'/>
      <model type='virtio'/>
      <filterref filter='clean-traffic'><parameter name='IP' value='10.9.8.7'/></filterref>
    </interface>
    <interface type='network'><source network='outer'/><model type='virtio'/></interface>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' autoport='yes' passwd='secret'/>
    <watchdog model='itco' action='pause'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"
    )
}

const NETWORKS: [(&str, &str); 2] = [
    ("inner", "<network><name>inner</name><bridge name='vwtest0'/></network>"),
    ("outer", "<network><name>outer</name><forward mode='bridge'/><bridge name='vwtest0'/></network>"),
];
const POOL: &str =
    "<pool type='dir'><name>images</name><target><path>/var/lib/libvirt/images</path></target></pool>";
const SECRET: &str = "<secret><uuid>11111111-2222-3333-4444-555555555555</uuid></secret>";
const SECRET_UUID: &str = "11111111-2222-3333-4444-555555555555";

/// A host with its daemons.
pub(crate) struct Host(pub(crate) Daemon);

impl Host {
    /// Defines a document by a command of virsh.
    fn define(&self, command: &str, xml: &str) {
        let file = self.0.folder().join("document.xml");
        fs::write(&file, xml).expect("the document is written");
        self.0.virsh_ok(SYSTEM, &[command, &file.to_string_lossy()]);
    }

    /// Makes a guest's images, defines it and starts it.
    fn start(&self, name: &str) {
        let images = self.0.folder().join("lib/images");
        guest::write_image(&images.join(format!("{name}.img"))).expect("the image is written");
        let image = images.join(format!("{name}.qcow2"));
        process::run(Command::new("qemu-img").args(["create", "-qf", "qcow2"]).arg(image).arg("1M"));
        self.define("define", &definition(name));
        self.ok(&["start", name]);
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        self.0.virsh_ok(SYSTEM, words)
    }

    /// Ends the daemon, so that the other one comes.
    #[track_caller]
    pub(crate) fn hand_over(&self, to: &str) {
        process::run(Command::new("kill").arg(self.0.daemon_pid().to_string()));
        until("the other daemon comes", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", self.0.daemon_pid())).unwrap_or_default();
            let answer = self.0.virsh(SYSTEM, &["list"]);
            if name.trim() == to && answer.status.success() { Ok(()) } else { Err(answer.text) }
        });
    }

    /// All that a daemon shows that must not change, command by command.
    fn shown(&self) -> Vec<(String, String)> {
        self.ok(&["pool-refresh", "images"]);
        let mut commands: Vec<String> = Vec::new();
        for name in ["first", "second"] {
            for command in [
                "dumpxml NAME --security-info",
                "dumpxml NAME --inactive --security-info",
                "domiflist NAME",
                "domblklist NAME --details",
                "vcpucount NAME",
                "vncdisplay NAME",
                "ttyconsole NAME",
                "blkdeviotune NAME vda",
                "domjobinfo NAME",
                "snapshot-list NAME",
            ] {
                commands.push(command.replace("NAME", name));
            }
        }
        for command in [
            "domstate first --reason",
            "nwfilter-binding-list",
            "list --all --autostart --managed-save",
            "list --all --title",
            "managedsave-dumpxml second",
            "net-list --all",
            "net-dumpxml inner",
            "net-port-list inner",
            "net-port-list outer",
            "pool-list --all",
            "vol-list images",
            "secret-list",
            &format!("secret-get-value {SECRET_UUID}"),
        ] {
            commands.push(command.to_owned());
        }
        let show = |command: String| {
            let words: Vec<&str> = command.split(' ').collect();
            // An error may stand before what else is printed or behind it.
            let text = self.0.virsh(SYSTEM, &words).text.trim().to_owned();
            (command, text)
        };
        commands.into_iter().map(show).collect()
    }

    /// Uses a running guest: its console, its monitor, its life, its devices.
    fn use_it(&self, name: &str) {
        answers(&self.0, name);
        let status = self.ok(&["qemu-monitor-command", name, "--hmp", "info status"]);
        assert!(status.contains("VM status: running"), "{status}");
        self.ok(&["blkdeviotune", name, "vda", "--total-iops-sec", "500", "--live"]);
        let tuned = self.ok(&["blkdeviotune", name, "vda"]);
        assert!(
            tuned.lines().any(|line| line.split_whitespace().eq(["total_iops_sec", ":", "500"])),
            "{tuned}"
        );
        self.ok(&["blkdeviotune", name, "vda", "--total-iops-sec", "0", "--live"]);
        let image = self.0.folder().join("lib/images/more.img");
        fs::write(&image, vec![0; guest::IMAGE_SIZE]).expect("the image is written");
        let path = "/var/lib/libvirt/images/more.img";
        self.ok(&["attach-disk", name, path, "sdd", "--targetbus", "usb", "--live"]);
        self.ok(&["detach-disk", name, "sdd", "--live"]);
        until("the disk is gone", || {
            let disks = self.ok(&["domblklist", name]);
            if disks.contains("sdd") { Err(disks) } else { Ok(()) }
        });
        self.ok(&["suspend", name]);
        self.ok(&["resume", name]);
        let stats = self.ok(&["domstats", name, "--interface", "--vcpu", "--block"]);
        for part in ["net.0.rx.bytes=", "vcpu.0.time=", "block.0.backingIndex="] {
            assert!(stats.contains(part), "{part} in {stats}");
        }
    }

    /// What QEMU can do, as it stands in a guest's status file.
    fn flags(&self, name: &str) -> BTreeSet<String> {
        let path = self.0.folder().join(format!("run/qemu/{name}.xml"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines()
            .filter(|line| line.trim_start().starts_with("<flag "))
            .map(|line| line.trim().replace('"', "'"))
            .collect()
    }
}

#[track_caller]
fn assert_same(before: &[(String, String)], after: &[(String, String)]) {
    for ((command, before), (_, after)) in before.iter().zip(after) {
        assert_eq!(after, before, "{command}");
    }
}

#[test]
fn a_host_goes_from_libvirtd_to_virtwired_and_back_while_guests_run() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    let host = Host(Daemon::in_turn());
    for (name, xml) in NETWORKS {
        host.define("net-define", xml);
        host.ok(&["net-start", name]);
    }
    host.define("pool-define", POOL);
    host.ok(&["pool-start", "images"]);
    host.define("secret-define", SECRET);
    host.ok(&["secret-set-value", SECRET_UUID, "--base64", "YWJj"]);
    host.start("first");
    host.ok(&["autostart", "first"]);
    host.start("second");
    host.ok(&["managedsave", "second"]);

    let before = host.shown();
    host.hand_over("virtwired");
    assert_same(&before, &host.shown());
    host.use_it("first");
    // Memory that libvirtd has saved.
    host.ok(&["start", "second"]);
    assert_eq!(host.ok(&["domstate", "second", "--reason"]).trim(), "running (restored)");
    host.use_it("second");
    host.start("third");
    assert_eq!(host.flags("third"), host.flags("first"));
    host.start("fourth");
    host.ok(&["managedsave", "fourth"]);

    let before = host.shown();
    host.hand_over("libvirtd");
    assert_same(&before, &host.shown());
    for name in ["first", "second", "third"] {
        host.use_it(name);
    }
    // Memory that virtwired has saved.
    host.ok(&["start", "fourth"]);
    assert_eq!(host.ok(&["domstate", "fourth", "--reason"]).trim(), "running (restored)");
    host.ok(&["destroy", "second"]);
    host.ok(&["shutdown", "third"]);
    until("the guest powers off", || {
        let state = host.ok(&["domstate", "third", "--reason"]);
        if state.trim() == "shut off (shutdown)" { Ok(()) } else { Err(state) }
    });

    host.hand_over("virtwired");
    host.use_it("fourth");
    host.ok(&["shutdown", "fourth"]);
    until("the guest powers off", || {
        let state = host.ok(&["domstate", "fourth", "--reason"]);
        if state.trim() == "shut off (shutdown)" { Ok(()) } else { Err(state) }
    });
    host.ok(&["destroy", "first"]);
    // Nothing is left behind in the images' attributes: they can be given to other guests.
    for name in ["first", "second"] {
        host.ok(&["start", name]);
    }
}
