//! The command against the real libvirtd, where it is installed and may be run: a guest, its console and events, a volume.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::{run, says, virtwire};

/// libvirtd in namespaces of its own. It ends with its standard input.
pub(crate) struct Libvirtd {
    pub(crate) dir: PathBuf,
    process: Child,
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Libvirtd {
    /// `None`, with a word about it, where something that it needs is missing. As a host of this number it has a name and
    /// a UUID of its own.
    pub(crate) fn start(host: u8) -> Option<Self> {
        for program in ["libvirtd", "qemu-system-x86_64"] {
            if Command::new(program).arg("--version").output().is_err() {
                virtwire_skip::without_program(format_args!("no {program}"));
                return None;
            }
        }
        let namespaces =
            Command::new("unshare").args(["--mount", "--net", "--pid", "--uts", "--fork", "true"]).output();
        if !namespaces.is_ok_and(|output| output.status.success()) {
            virtwire_skip::without_program("namespaces need root");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("virtwire-real-{}-{host}", std::process::id()));
        std::fs::create_dir_all(dir.join("lib/pool")).unwrap();
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        let qemu =
            "stdio_handler = \"file\"\nuser = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n";
        std::fs::write(dir.join("etc/qemu.conf"), qemu).unwrap();
        let conf =
            format!("auth_unix_rw = \"none\"\nhost_uuid = \"{host:08}-1111-4222-8333-444444444444\"\n");
        std::fs::write(dir.join("etc/libvirtd.conf"), conf).unwrap();
        let process = Command::new("unshare")
            .args(["--uts", "sh", "-c", "hostname \"$0\"; exec bash \"$@\"", &format!("host{host}")])
            .arg(format!("{}/../../tests/private-daemon.sh", env!("CARGO_MANIFEST_DIR")))
            .arg(&dir)
            .args(["libvirtd", "--pid-file", "/run/libvirt/daemon.pid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { dir, process };
        let began = Instant::now();
        while !run(&["info", "-c", &this.uri()]).status.success() {
            assert!(began.elapsed() < Duration::from_secs(60), "libvirtd does not get ready");
        }
        Some(this)
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.dir.join("run/libvirt-sock").display())
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A command that goes on, and what it says.
    fn goes_on(&self, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
        let mut child = virtwire()
            .args(arguments)
            .args(["-c", &self.uri()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    }
}

/// What a command says, as it comes.
fn read(mut from: BufReader<ChildStdout>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut some = [0; 512];
        while let Ok(count @ 1..) = from.read(&mut some) {
            if sender.send(some[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    said
}

/// Its firmware says on the serial line that a key leads to the menu, and waits a minute for it.
const GUEST: &str = "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>
    <os><type arch='x86_64'>hvm</type><bootmenu enable='yes' timeout='60000'/><bios useserial='yes'/></os>
    <devices><serial type='pty'/></devices></domain>";
const POOL: &str =
    "<pool type='dir'><name>p</name><target><path>/var/lib/libvirt/pool</path></target></pool>";
const VOLUME: &str = "<volume><name>v</name><capacity>3145728</capacity><allocation>0</allocation></volume>";

/// One daemon for all of it: it takes seconds to start.
#[test]
fn the_real_libvirtd() {
    let Some(daemon) = Libvirtd::start(0) else { return };
    let uri = daemon.uri();
    let call = |procedure: &str, arguments: &[&str]| {
        says(&[&["call", procedure, "-c", &uri], arguments].concat());
    };

    let xml = format!("xml=@{}", daemon.file("guest.xml", GUEST.as_bytes()));
    call("domain-define-xml", &[&xml]);
    let (mut events, mut seen) = daemon.goes_on(&["events", "g", "--json"]);
    // The first start shows that events are watched: it is seen, or the guest is started again.
    let mut line = String::new();
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| seen.read_line(&mut line).unwrap());
        while !watched.is_finished() {
            says(&["start", "g", "-c", &uri]);
            says(&["suspend", "g", "-c", &uri]);
            says(&["destroy", "g", "-c", &uri]);
        }
    });
    assert!(line.contains("\"event\":\"domain_lifecycle\"") && line.contains("\"name\":\"g\""), "{line}");
    events.kill().unwrap();
    events.wait().unwrap();

    says(&["start", "g", "-c", &uri]);
    let (mut console, shown) = daemon.goes_on(&["console", "g"]);
    let (said, began, mut text) = (read(shown), Instant::now(), Vec::new());
    while !String::from_utf8_lossy(&text).contains("Select boot device") {
        match said.recv_timeout(Duration::from_secs(1)) {
            Ok(some) => text.extend(some),
            // The firmware forgets what was typed before it listens.
            Err(_) => console.stdin.as_mut().unwrap().write_all(b"\x1b").unwrap(),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}", String::from_utf8_lossy(&text));
    }
    // A guest that ends under an open console can bring libvirtd itself to a standstill.
    console.stdin.as_mut().unwrap().write_all(b"\x1d").unwrap();
    assert!(console.wait().unwrap().success());
    says(&["destroy", "g", "-c", &uri]);

    let pool = format!("xml=@{}", daemon.file("pool.xml", POOL.as_bytes()));
    call("storage-pool-create-xml", &[&pool]);
    let volume = format!("xml=@{}", daemon.file("volume.xml", VOLUME.as_bytes()));
    call("storage-vol-create-xml", &["pool=p", &volume]);
    let mut content = vec![0; 3 << 20];
    content[1 << 20..2 << 20].fill(7);
    let (there, back) = (daemon.file("there", &content), daemon.file("back", b""));
    says(&["upload", "p/v", &there, "-c", &uri]);
    says(&["download", "/var/lib/libvirt/pool/v", &back, "-c", &uri]);
    assert!(std::fs::read(&back).unwrap() == content, "the copy differs");
    assert!(says(&["list", "volumes", "-c", &uri]).contains("p     v"));
}
