//! The figures of running guests: each that libvirtd gives is there, by its name.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use virtwire_tests::daemon::Daemon;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process;

use crate::qemu::SYSTEM;

const NAME: &str = "counted";

/// A guest with a chain of images, an empty drive, a disk of each bus, and interfaces with and without a name on the host.
fn definition(kind: &str) -> String {
    format!(
        "<domain type='{kind}'><name>{NAME}</name><memory unit='MiB'>64</memory><vcpu current='2'>3</vcpu>
  <iothreads>1</iothreads><os><type machine='q35'>hvm</type></os><devices>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
    <source file='/var/lib/libvirt/images/top.qcow2'/><target dev='vda' bus='virtio'/></disk>
  <disk type='file' device='disk'><driver name='qemu' type='raw'/>
    <source file='/var/lib/libvirt/images/raw.img'/><target dev='sda' bus='sata'/></disk>
  <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
  <interface type='ethernet'><target dev='counted0'/><model type='virtio'/></interface>
  <interface type='user'><model type='virtio'/></interface>
  <memballoon model='virtio'/></devices></domain>"
    )
}

/// The images of the guest, as the daemon finds them.
fn write_images(daemon: &Daemon) {
    let folder = daemon.folder().join("lib/images");
    let make = |words: &[&str]| {
        let made = process::run(Command::new("qemu-img").arg("create").args(words).current_dir(&folder));
        assert!(made.status.success(), "{}", made.text);
    };
    make(&["-f", "qcow2", "base.qcow2", "8M"]);
    make(&["-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"]);
    make(&["-f", "raw", "raw.img", "1M"]);
}

/// The names of what `virsh domstats` prints.
fn names(daemon: &Daemon, options: &[&str]) -> BTreeSet<String> {
    let text = daemon.virsh_ok(SYSTEM, &[&["domstats", NAME], options].concat());
    text.lines().filter_map(|line| Some(line.trim().split_once('=')?.0.to_owned())).collect()
}

fn figures_have_the_names_of_libvirtd(kind: &str) {
    let daemons = [Daemon::libvirtd(), Daemon::private_virtwired()];
    for daemon in &daemons {
        write_images(daemon);
        let file = daemon.folder().join("guest.xml");
        fs::write(&file, definition(kind)).expect("the definition is written");
        daemon.virsh_ok(SYSTEM, &["create", &file.to_string_lossy()]);
    }
    for options in [&[][..], &["--backing"], &["--vcpu", "--vm", "--enforce"], &["--interface"]] {
        let [real, own] = daemons.each_ref().map(|daemon| names(daemon, options));
        assert_eq!(own, real, "domstats {options:?}");
        assert!(!real.is_empty());
    }
    for daemon in &daemons {
        daemon.virsh_ok(SYSTEM, &["destroy", NAME]);
    }
}

#[test]
fn figures_have_the_names_of_libvirtd_under_tcg() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        figures_have_the_names_of_libvirtd("qemu");
    }
}

#[test]
fn figures_have_the_names_of_libvirtd_under_kvm() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu, Peer::Kvm]) {
        figures_have_the_names_of_libvirtd("kvm");
    }
}
