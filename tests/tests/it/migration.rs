//! Guests that stock virsh gives from virtwired to libvirtd and back while they run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::folder::Folder;
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::{self, PATIENCE, Program};

use crate::qemu::{SYSTEM, console, until};

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
    let common = common()?;
    Some(Hosts { real: Daemon::libvirtd(), own: Daemon::elsewhere(), common, count: 0 })
}

/// The folder, unless something that the hosts need is not here.
fn common() -> Option<Folder> {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return None;
    }
    let common = Folder::new();
    // QEMU listens there, and runs as a user of its own.
    fs::set_permissions(&*common, Permissions::from_mode(0o777)).expect("everybody may write there");
    Some(common)
}

/// Keys of a host that is called `peer`, and who vouches for them.
const KEYS: &str = "
    set -e
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca-cert.pem -days 2 -subj /CN=ca
    printf '%s\\n' subjectAltName=DNS:peer basicConstraints=CA:FALSE extendedKeyUsage=serverAuth,clientAuth \\
        keyUsage=digitalSignature,keyEncipherment >ext
    for name in server client; do
        openssl req -newkey rsa:2048 -nodes -keyout $name-key.pem -out $name.csr -subj /CN=peer
        openssl x509 -req -in $name.csr -CA ca-cert.pem -CAkey ca.key -CAcreateserial -out $name-cert.pem -days 2 \\
            -extfile ext
    done";
/// What has guests go by TLS, with those keys.
const BY_TLS: &str =
    "stdio_handler = \"file\"\nmigrate_tls_force = 1\nmigrate_tls_x509_cert_dir = \"/etc/libvirt/pki\"\n";

#[test]
fn guests_go_to_libvirtd_and_come_back_by_tls_alone() {
    let Some(common) = common() else { return };
    let made = process::run(Command::new("sh").args(["-c", KEYS]).current_dir(&*common));
    assert!(made.status.success(), "{}", made.text);
    let names = ["ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem"];
    let keys = names.map(|name| {
        let text = fs::read_to_string(common.join(name)).expect("the key can be read");
        (format!("pki/{name}"), text)
    });
    let mut files = vec![("qemu.conf", BY_TLS)];
    files.extend(keys.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let (real, own) = (Daemon::libvirtd_with(&files), Daemon::elsewhere_with(&files));
    let mut hosts = Hosts { real, own, common, count: 0 };
    let (image, definition) = (hosts.common.join("guest.img"), hosts.common.join("guest.xml"));
    guest::write_image(&image).expect("the image is written");
    fs::write(&definition, guest::domain_xml(NAME, &image)).expect("the definition is written");
    hosts.own.virsh_ok(SYSTEM, &["create", &definition.to_string_lossy()]);
    answers(&hosts.own, NAME);
    let there = hosts.real.uri(SYSTEM);
    let plain = hosts.own.virsh(SYSTEM, &["migrate", "--live", "--unsafe", NAME, &there]);
    assert!(plain.text.contains("allows migration only with VIR_MIGRATE_TLS flag"), "{}", plain.text);
    for way in [&[][..], &["--p2p"]] {
        let how = [&["--unsafe", "--tls", "--tls-destination", "peer"], way].concat();
        hosts.migrate(false, &how);
        hosts.migrate(true, &how);
    }
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
        self.go(from_real, &[&["--migrateuri", &socket], how].concat());
    }

    /// The same, where virsh is not told a place.
    #[track_caller]
    fn go(&self, from_real: bool, how: &[&str]) {
        let (source, target) = self.from(from_real);
        let there = target.uri(SYSTEM);
        let mut words = vec!["migrate", "--live", NAME, &there];
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
    for real in [false, true] {
        hosts.go(real, &["--unsafe", "--p2p", "--tunnelled"]);
        let (source, _) = hosts.from(real);
        assert!(!source.virsh_ok(SYSTEM, &["list", "--all", "--name"]).contains(NAME));
    }
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

/// Has a guest go slowly through a tunnel, and does something meanwhile. Returns what virsh says of it then.
#[track_caller]
fn cut_short(source: &Daemon, target: &Daemon, meanwhile: impl FnOnce()) -> String {
    source.virsh_ok(SYSTEM, &["migrate-setspeed", NAME, "1"]);
    let there = target.uri(SYSTEM);
    let words = ["migrate", "--live", "--unsafe", "--p2p", "--tunnelled", NAME, &there];
    let mut migrates = Program::start(virsh(&source.uri(SYSTEM)).args(words));
    let begin = Instant::now();
    while !source.virsh(SYSTEM, &["domjobinfo", NAME]).text.contains("Data processed") {
        assert!(
            begin.elapsed() < PATIENCE && migrates.is_running(),
            "it is not sent: {}",
            migrates.printed()
        );
    }
    meanwhile();
    migrates.finish().text
}

#[test]
fn guests_stay_whose_tunnel_does_not_hold() {
    let Some(common) = common() else { return };
    let (image, definition) = (common.join("guest.img"), common.join("guest.xml"));
    guest::write_image(&image).expect("the image is written");
    fs::write(&definition, guest::domain_xml(NAME, &image)).expect("the definition is written");
    let (source, target) = (Daemon::elsewhere(), Daemon::again(false));
    source.virsh_ok(SYSTEM, &["create", &definition.to_string_lossy()]);
    answers(&source, NAME);
    let said = cut_short(&source, &target, || drop(source.virsh_ok(SYSTEM, &["domjobabort", NAME])));
    assert!(said.contains("job 'migration out' canceled by client"), "{said}");
    assert_eq!(target.virsh_ok(SYSTEM, &["list", "--all", "--name"]).trim(), "");
    answers(&source, NAME);
    let said = cut_short(&source, &target, || {
        let killed = process::run(Command::new("kill").args(["-9", &target.daemon_pid().to_string()]));
        assert!(killed.status.success(), "{}", killed.text);
    });
    assert!(said.contains("client socket is closed"), "{said}");
    answers(&source, NAME);
    until("nothing of it is left", || {
        let listed = target.virsh(SYSTEM, &["list", "--all", "--name"]);
        if listed.status.success() && listed.text.trim().is_empty() { Ok(()) } else { Err(listed.text) }
    });
}
