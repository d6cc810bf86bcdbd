//! Guests that see no other devices of the host than their own, under either daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use virtwire_tests::daemon::Daemon;
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process;

use crate::qemu::{SYSTEM, until};
use crate::takeover::Host;

/// What every guest sees, as far as the host has it.
const ALWAYS: [&str; 8] = ["full", "kvm", "null", "ptmx", "random", "urandom", "userfaultfd", "zero"];

/// A block device of the host's.
struct Loop(String);

impl Loop {
    #[track_caller]
    fn of(image: &Path) -> Self {
        fs::write(image, vec![0; 1 << 20]).expect("the image is written");
        let made = process::run(Command::new("losetup").args(["--find", "--show"]).arg(image));
        assert!(made.status.success(), "{}", made.text);
        Self(made.text.trim().to_owned())
    }

    fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        process::run(Command::new("losetup").args(["--detach", &self.0]));
    }
}

/// Starts a guest.
#[track_caller]
fn start(host: &Daemon, name: &str) {
    let (image, definition) = (host.folder().join("lib/images/guest.img"), host.folder().join("guest.xml"));
    guest::write_image(&image).expect("the image is written");
    let xml = guest::domain_xml(name, Path::new("/var/lib/libvirt/images/guest.img"));
    fs::write(&definition, xml).expect("the definition is written");
    host.virsh_ok(SYSTEM, &["create", &definition.to_string_lossy()]);
}

/// The process that a guest's QEMU is here: the daemons may know it by another number.
#[track_caller]
fn process_of(name: &str) -> PathBuf {
    let word = format!("guest={name},");
    let found = process::command_lines().find(|(_, line)| line.iter().any(|own| own.starts_with(&word)));
    PathBuf::from(format!("/proc/{}", found.expect("QEMU runs").0))
}

/// `/dev` as a guest's QEMU sees it.
#[track_caller]
fn dev(name: &str) -> PathBuf {
    process_of(name).join("root").join("dev")
}

/// The names of what is in it.
#[track_caller]
fn names(dev: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dev).expect("its devices can be looked at");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn guests_see_their_own_devices_and_no_others() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    const NAME: &str = "alone";
    let host = Host(Daemon::in_turn());
    let device = Loop::of(&host.0.folder().join("loop.img"));
    host.hand_over("virtwired");
    start(&host.0, NAME);
    let dev = dev(NAME);
    let devices = |names: BTreeSet<String>| {
        let is_dir = |name: &String| dev.join(name).is_dir();
        names.into_iter().filter(|name| !is_dir(name)).collect::<Vec<_>>()
    };
    let there = |name: &&&str| Path::new("/dev").join(name).exists();
    let expected: Vec<_> = ALWAYS.iter().filter(there).map(|name| (*name).to_owned()).collect();
    assert_eq!(devices(names(&dev)), expected);
    assert!(names(&dev.join("pts")).contains("ptmx"), "terminals are the host's");

    let node = dev.join(device.name());
    let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).ok();
    let before = owner(Path::new(&device.0));
    let user = owner(&process_of(NAME).join("cmdline"));
    let attach = ["attach-disk", NAME, &device.0, "sdb", "--targetbus", "usb", "--sourcetype", "block"];
    let gone = || {
        until("the device is seen no more", || match node.exists() {
            true => Err(format!("{:?}", names(&dev))),
            false => Ok(()),
        });
    };
    host.0.virsh_ok(SYSTEM, &attach);
    assert_eq!(owner(&node), user, "it is QEMU's there");
    assert_eq!(owner(Path::new(&device.0)), before, "and nobody else's here");
    host.0.virsh_ok(SYSTEM, &["detach-disk", NAME, "sdb"]);
    gone();

    host.0.virsh_ok(SYSTEM, &attach);
    host.hand_over("libvirtd");
    host.0.virsh_ok(SYSTEM, &["detach-disk", NAME, "sdb"]);
    host.0.virsh_ok(SYSTEM, &attach);
    assert_eq!(owner(&node), user, "libvirtd knows which devices the guest sees");
    host.hand_over("virtwired");
    host.0.virsh_ok(SYSTEM, &["detach-disk", NAME, "sdb"]);
    gone();
    host.0.virsh_ok(SYSTEM, &["destroy", NAME]);
    assert_eq!(owner(Path::new(&device.0)), before);
}

#[test]
fn guests_see_what_the_settings_say() {
    if !peers::here(&[Peer::Root, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    let host = Daemon::elsewhere_with(&[("qemu.conf", "namespaces = [ ]\n")]);
    start(&host, "sees-all");
    let on = |path: &Path| fs::metadata(path).expect("it is there").dev();
    assert_eq!(on(&dev("sees-all")), on(Path::new("/dev")), "all of the host's");
    drop(host);
    let listed = "cgroup_device_acl = [ \"/dev/null\", \"/dev/zero\", \"/dev/urandom\", \"/dev/ptmx\" ]\n";
    let host = Daemon::elsewhere_with(&[("qemu.conf", listed)]);
    start(&host, "sees-some");
    let seen = names(&dev("sees-some"));
    let expected = ["null", "ptmx", "urandom", "zero"];
    assert!(expected.iter().all(|name| seen.contains(*name)) && !seen.contains("full"), "{seen:?}");
}
