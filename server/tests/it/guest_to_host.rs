//! What a guest could do to its host, with real guests under QEMU: disks that say that they are something else, output
//! without end, links where the guest's process may write, secrets where others could read.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::UnixStream;
use virtwire_protocol::net::MessageType;
use virtwire_protocol::remote::*;

use crate::host::{Host, is_root, run};
use crate::network::programs;
use crate::peer::Peer;

/// Nobody may see it but who asks for it on a read-write connection.
const PASSWORD: &str = "kennwort";

fn host(name: &str) -> Option<Host> {
    programs(&["virsh", "qemu-system-x86_64"]).then(|| Host::new(name))
}

fn uri() -> &'static str {
    if is_root() { "qemu:///system" } else { "qemu:///session" }
}

async fn virsh(host: &Host, words: &[&str]) -> Result<String, String> {
    let socket = host.dir.join("libvirt-sock");
    let uri = uri().replace(":///", "+unix:///") + &format!("?socket={}", socket.display());
    let mut virsh = Command::new("virsh");
    virsh.args(["-q", "-c", &uri]).args(words);
    run(virsh).await
}

/// A disk that a BIOS boots: it writes to the serial port for ever.
fn babbler() -> Vec<u8> {
    // mov dx, 0x3f8; mov al, 'x'; out dx, al; jmp to the out
    let mut disk = vec![0xba, 0xf8, 0x03, 0xb0, b'x', 0xee, 0xeb, 0xfd];
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(1 << 20, 0);
    disk
}

/// A disk that a guest has made look like an image on top of a file of the host's.
fn impostor() -> Vec<u8> {
    let backing = b"/etc/passwd";
    let mut disk = Vec::new();
    disk.extend(b"QFI\xfb");
    for word in [3u32, 0, 104, backing.len() as u32, 16, 0, 1 << 20] {
        disk.extend(word.to_be_bytes());
    }
    disk.resize(104, 0);
    disk.extend(backing);
    disk.resize(1 << 20, 0);
    disk
}

fn guest(dir: &Path, password: &str) -> String {
    let disk = |name: &str, target: &str| {
        let path = dir.join(name);
        format!(
            "<disk type='file' device='disk'><source file='{}'/><target dev='{target}' bus='ide'/></disk>",
            path.display()
        )
    };
    format!(
        "<domain type='qemu'><name>evil</name><memory unit='MiB'>32</memory><os>\
         <type arch='x86_64' machine='pc'>hvm</type></os><devices>{}{}<serial type='pty'/><console type='pty'/>\
         <graphics type='vnc' socket='{}' passwd='{password}'/></devices></domain>",
        disk("babbler.img", "hda"),
        disk("impostor.img", "hdb"),
        dir.join("screens/vnc").display()
    )
}

/// The guest runs; the process of its QEMU.
async fn start(host: &Host) -> u32 {
    start_with(host, PASSWORD).await
}

/// The same, with another password for its screen.
async fn start_with(host: &Host, password: &str) -> u32 {
    // Guests of the system have a user of their own.
    let screens = host.dir.join("screens");
    fs::create_dir(&screens).unwrap();
    fs::set_permissions(&screens, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(host.dir.join("babbler.img"), babbler()).unwrap();
    fs::write(host.dir.join("impostor.img"), impostor()).unwrap();
    let xml = host.dir.join("guest.xml");
    fs::write(&xml, guest(&host.dir, password)).unwrap();
    virsh(host, &["create", &xml.display().to_string()]).await.unwrap();
    host.guests().first().expect("the guest's process").as_raw_nonzero().get().unsigned_abs()
}

/// All files and folders below a folder; links are not followed.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(below(&entry.path()));
        }
        all.push(entry.path());
    }
    all
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn class_guest_to_host_a_disk_is_what_its_definition_says_whatever_the_guest_has_written() {
    let Some(mut host) = host("impostor") else { return };
    host.virtwired("", &[]);
    let pid = start(&host).await;
    let line = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    // What has no format of its own above the file is raw.
    assert_eq!(line.matches("\"driver\":\"file\"").count(), 2, "{line}");
    assert!(!line.contains("qcow2"), "{line}");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: Vec<_> = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(open.contains(&host.dir.join("impostor.img")), "{open:?}");
    assert!(!open.contains(&PathBuf::from("/etc/passwd")), "{open:?}");
    virsh(&host, &["destroy", "evil"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn class_guest_to_host_output_without_end_costs_no_memory_and_no_other_client() {
    let Some(mut host) = host("babbler") else { return };
    let daemon = host.virtwired("", &[]);
    start(&host).await;
    let connect = async || {
        let mut peer = Peer::on(UnixStream::connect(host.dir.join("libvirt-sock")).await.unwrap());
        peer.authenticate().await;
        let open = ConnectOpenArgs { name: Some(uri().into()), flags: 0 };
        peer.call(Procedure::CONNECT_OPEN, &open).await.decode::<()>();
        peer
    };
    let (mut watcher, mut other) = (connect().await, connect().await);
    let by_name = DomainLookupByNameArgs { name: "evil".into() };
    let dom =
        watcher.call(Procedure::DOMAIN_LOOKUP_BY_NAME, &by_name).await.decode::<DomainLookupByNameRet>().dom;
    let console = DomainOpenConsoleArgs { dom, dev_name: None, flags: 0 };
    watcher.call(Procedure::DOMAIN_OPEN_CONSOLE, &console).await.decode::<()>();
    // It flows; from here on nobody reads it.
    let mut seen = 0;
    while seen < 64 << 10 {
        let packet = watcher.receive().await.expect("the console goes on");
        assert_eq!(packet.header.r#type, MessageType::STREAM);
        seen += packet.payload.len();
    }
    let before = resident(daemon);
    for _ in 0..300 {
        let info = DomainLookupByNameArgs { name: "evil".into() };
        other.call(Procedure::DOMAIN_LOOKUP_BY_NAME, &info).await.decode::<DomainLookupByNameRet>();
    }
    virsh(&host, &["destroy", "evil"]).await.unwrap();
    let after = resident(daemon);
    assert!(after <= before + 8, "{before} MiB, then {after} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn class_start_up_environment_a_guest_has_none_of_the_daemons_variables() {
    let Some(mut host) = host("environment") else { return };
    host.virtwired("", &[("LD_LIBRARY_PATH", "/nowhere"), ("DAEMONS_TOKEN", PASSWORD)]);
    let pid = start(&host).await;
    let environment = String::from_utf8(fs::read(format!("/proc/{pid}/environ")).unwrap()).unwrap();
    let variables: Vec<_> =
        environment.split_terminator('\0').filter_map(|entry| entry.split_once('=')).collect();
    assert!(variables.iter().any(|(name, _)| *name == "PATH"), "{variables:?}");
    let foreign = |(name, value): &&(&str, &str)| name.starts_with("LD_") || value.contains(PASSWORD);
    assert_eq!(variables.iter().find(foreign), None);
    virsh(&host, &["destroy", "evil"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn class_guest_to_host_links_in_a_guests_folders_lead_nowhere() {
    let Some(mut host) = host("links") else { return };
    host.virtwired("", &[]);
    start(&host).await;
    let precious = host.dir.join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let root = host.dir.join("root");
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-evil"));
    let own: Vec<_> = below(&root).into_iter().filter(|path| path.is_dir() && named(path)).collect();
    assert!(!own.is_empty(), "{:?}", below(&root));
    for folder in &own {
        symlink(&precious, folder.join("folder")).unwrap();
        symlink(precious.join("file"), folder.join("link")).unwrap();
        symlink("/", folder.join("everything")).unwrap();
    }
    virsh(&host, &["destroy", "evil"]).await.unwrap();
    assert!(own.iter().all(|folder| !folder.exists()), "{own:?}");
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
}

/// Whether a viewer (RFB 3.8) who knows this password gets in.
fn sees_the_screen(socket: &Path, password: &str) -> bool {
    let mut vnc = StdStream::connect(socket).unwrap();
    let mut read = |bytes: &mut [u8], answer: &[u8]| {
        vnc.read_exact(bytes).unwrap();
        vnc.write_all(answer).unwrap();
    };
    read(&mut [0; 12], b"RFB 003.008\n");
    let mut types = [0; 2];
    // One type, VNC's own.
    read(&mut types, &[2]);
    assert_eq!(types, [1, 2]);
    let mut challenge = [0; 16];
    read(&mut challenge, &[]);
    let mut key = [0; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(key, byte)| *key = byte.reverse_bits());
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = socket.with_extension("challenge");
    fs::write(&file, challenge).unwrap();
    let openssl = Command::new("openssl")
        .args(["enc", "-des-ecb", "-nopad", "-provider", "legacy", "-provider", "default", "-K", &key, "-in"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(openssl.stdout.len(), 16, "{}", String::from_utf8_lossy(&openssl.stderr));
    vnc.write_all(&openssl.stdout).unwrap();
    let mut verdict = [0; 4];
    vnc.read_exact(&mut verdict).unwrap();
    verdict == [0; 4]
}

#[tokio::test(flavor = "multi_thread")]
async fn class_passwords_an_empty_password_of_a_screen_lets_nobody_in() {
    if !programs(&["openssl"]) {
        return;
    }
    for (password, tried, seen) in [(PASSWORD, PASSWORD, true), (PASSWORD, "", false), ("", "", false)] {
        let Some(mut host) = host("screen") else { return };
        host.virtwired("", &[]);
        start_with(&host, password).await;
        let socket = host.dir.join("screens/vnc");
        let sees = tokio::task::spawn_blocking(move || sees_the_screen(&socket, tried)).await.unwrap();
        assert_eq!(sees, seen, "'{tried}' for '{password}'");
        virsh(&host, &["destroy", "evil"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_secret_shown_a_password_is_in_no_command_line_log_or_file_for_others() {
    let Some(mut host) = host("password") else { return };
    host.virtwired("log_level = 1\nlog_outputs = \"1:stderr\"\n", &[]);
    let pid = start(&host).await;
    let line = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    assert!(line.contains("-vnc") && !line.contains(PASSWORD), "{line}");
    assert!(!virsh(&host, &["dumpxml", "evil"]).await.unwrap().contains(PASSWORD));
    assert!(virsh(&host, &["dumpxml", "evil", "--security-info"]).await.unwrap().contains(PASSWORD));
    let holds =
        |path: &PathBuf| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(PASSWORD));
    let holding: Vec<_> =
        below(&host.dir.join("root")).into_iter().filter(|path| path.is_file() && holds(path)).collect();
    // The status file is how the next daemon finds the guest again.
    assert!(!holding.is_empty());
    for path in &holding {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        assert!(!path.ends_with("evil.log"), "{}", path.display());
    }
    virsh(&host, &["destroy", "evil"]).await.unwrap();
}
