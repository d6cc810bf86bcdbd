//! Guests that stock virsh gives from virtwired to libvirtd and back while they run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use virtwire_tests::daemon::Daemon;
use virtwire_tests::folder::Folder;
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::PATIENCE;

use crate::qemu::{SYSTEM, console};

const NAME: &str = "travels";

/// A host of each kind, and a folder that both see: they have no network in common.
struct Hosts {
    real: Daemon,
    own: Daemon,
    common: Folder,
    /// Migrations that were begun.
    count: u32,
}

/// The hosts, unless something that they need is not here.
fn hosts() -> Option<Hosts> {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return None;
    }
    let common = Folder::new();
    // QEMU listens there, and runs as a user of its own.
    fs::set_permissions(&*common, Permissions::from_mode(0o777)).expect("everybody may write there");
    Some(Hosts { real: Daemon::libvirtd(), own: Daemon::elsewhere(), common, count: 0 })
}

impl Hosts {
    /// Both, the one where a guest is first.
    fn from(&self, real: bool) -> (&Daemon, &Daemon) {
        if real { (&self.real, &self.own) } else { (&self.own, &self.real) }
    }

    /// A new place for a socket.
    fn socket(&mut self) -> String {
        self.count += 1;
        let path: PathBuf = self.common.join(format!("{}.sock", self.count));
        format!("unix://{}", path.display())
    }

    /// Has virsh take the guest from one host to the other, and talks to it there.
    #[track_caller]
    fn migrate(&mut self, from_real: bool, how: &[&str]) {
        let socket = self.socket();
        let (source, target) = self.from(from_real);
        let there = target.uri(SYSTEM);
        let mut words = vec!["migrate", "--live", NAME, &there, "--migrateuri", &socket];
        words.extend(how);
        source.virsh_ok(SYSTEM, &words);
        assert_eq!(target.virsh_ok(SYSTEM, &["domstate", NAME, "--reason"]).trim(), "running (migrated)");
        answers(target, NAME);
    }
}

/// Types on the guest's console until it answers: what was typed before it listens, or before virsh has opened the console
/// that it says is open, is lost.
#[track_caller]
pub(crate) fn answers(host: &Daemon, name: &str) {
    let mut console = console(host, SYSTEM, name);
    let begin = Instant::now();
    while !console.printed().contains("ABC") {
        assert!(begin.elapsed() < PATIENCE, "it does not answer: {}", console.printed());
        console.type_text("abc");
        host.virsh_ok(SYSTEM, &["domstate", name]);
    }
}

#[test]
fn guests_go_to_libvirtd_and_come_back() {
    let Some(mut hosts) = hosts() else { return };
    let (image, definition) = (hosts.common.join("guest.img"), hosts.common.join("guest.xml"));
    guest::write_image(&image).expect("the image is written");
    fs::write(&definition, guest::domain_xml(NAME, &image)).expect("the definition is written");
    hosts.own.virsh_ok(SYSTEM, &["create", &definition.to_string_lossy()]);
    answers(&hosts.own, NAME);
    for how in [&["--unsafe"][..], &["--unsafe", "--p2p", "--persistent", "--undefinesource"]] {
        hosts.migrate(false, how);
        let gone = hosts.own.virsh(SYSTEM, &["domstate", NAME]);
        assert!(gone.text.contains("failed to get domain 'travels'"), "{}", gone.text);
        hosts.migrate(true, how);
        assert!(!hosts.real.virsh_ok(SYSTEM, &["list", "--all", "--name"]).contains(NAME));
    }
    assert_eq!(hosts.own.virsh_ok(SYSTEM, &["list", "--name", "--persistent"]).trim(), NAME);
}

/// A disk that boots, with something behind that.
fn content() -> Vec<u8> {
    let mut disk = guest::boot_sector().to_vec();
    disk.extend((disk.len()..guest::IMAGE_SIZE).map(|at| (at / 7 % 256) as u8));
    disk
}

#[test]
fn disks_go_with_guests_to_libvirtd_and_come_back() {
    let Some(mut hosts) = hosts() else { return };
    let images = [&hosts.own, &hosts.real].map(|host| host.folder().join("lib/images/guest.img"));
    let definition = hosts.common.join("guest.xml");
    // Where each host has a folder of its own.
    let disk = Path::new("/var/lib/libvirt/images/guest.img");
    fs::write(&definition, guest::domain_xml(NAME, disk)).expect("the definition is written");
    fs::write(&images[0], content()).expect("the image is written");
    hosts.own.virsh_ok(SYSTEM, &["create", &definition.to_string_lossy()]);
    answers(&hosts.own, NAME);
    for (from_real, way) in [(false, &[][..]), (true, &["--p2p"])] {
        let there = &images[usize::from(!from_real)];
        fs::write(there, vec![0; guest::IMAGE_SIZE]).expect("the image is made");
        let place = hosts.socket();
        let mut how = vec!["--copy-storage-all", "--disks-uri", &place];
        how.extend(way);
        hosts.migrate(from_real, &how);
        assert!(fs::read(there).expect("the image can be read") == content(), "all of it has come");
    }
}
