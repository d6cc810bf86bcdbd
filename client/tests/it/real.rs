//! The same client against the real libvirtd, where it is installed and may be run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use virtwire_client::*;

use crate::daemon::directory;
use crate::objects::built;

/// libvirtd in namespaces of its own, with a login by SASL on its read-write socket. It ends with its standard input.
struct Libvirtd {
    dir: PathBuf,
    process: Child,
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Libvirtd {
    /// `None`, with a word about it, where something that it needs is missing.
    async fn start() -> Option<Self> {
        for (program, argument) in
            [("libvirtd", "--version"), ("saslpasswd2", "-v"), ("qemu-system-x86_64", "--version")]
        {
            if Command::new(program).arg(argument).output().is_err() {
                virtwire_skip::without_program(format_args!("no {program}"));
                return None;
            }
        }
        if !succeeds(Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"])) {
            virtwire_skip::without_program("namespaces need root");
            return None;
        }
        let dir = directory();
        let path = |name: &str| dir.join(name);
        std::fs::create_dir_all(path("etc")).unwrap();
        for (file, text) in [
            ("etc/libvirtd.conf", "auth_unix_rw = \"sasl\"\n"),
            ("etc/qemu.conf", "stdio_handler = \"file\"\n"),
        ] {
            std::fs::write(path(file), text).unwrap();
        }
        std::fs::create_dir_all(path("run")).unwrap();
        std::fs::create_dir_all(path("sasl")).unwrap();
        let users = path("run/users.db");
        let sasl = format!("mech_list: scram-sha-256\nsasldb_path: {}\n", users.display());
        std::fs::write(path("sasl/libvirt.conf"), sasl).unwrap();
        let add = "printf %s pencil | saslpasswd2 -p -a libvirt -f \"$0\" anna";
        assert!(succeeds(Command::new("sh").args(["-c", add]).arg(&users)));

        let script = format!("{}/../tests/private-daemon.sh", env!("CARGO_MANIFEST_DIR"));
        let process = Command::new("bash")
            .arg(script)
            .arg(&dir)
            .args(["libvirtd", "--pid-file", "/run/libvirt/daemon.pid"])
            .env("SASL_CONF_PATH", path("sasl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { dir, process };
        this.ready().await;
        Some(this)
    }

    /// Waits until it lets somebody in.
    async fn ready(&self) {
        let began = std::time::Instant::now();
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        while Connection::open(&format!("qemu+unix:///system?socket={}", self.socket("libvirt-sock-ro")))
            .await
            .is_err()
        {
            assert!(began.elapsed() < Duration::from_secs(60), "libvirtd does not get ready");
            pause.tick().await;
        }
    }

    fn socket(&self, name: &str) -> String {
        self.dir.join("run").join(name).display().to_string()
    }

    async fn open(&self, password: &str) -> Result<Connect, Error> {
        let credentials = Some(Credentials::fixed("anna", password));
        let uri = format!("qemu+unix:///system?socket={}", self.socket("libvirt-sock"));
        let deadline = Some(Duration::from_secs(60));
        Connect::open_with(&uri, Options { credentials, deadline, ..Options::default() }).await
    }
}

/// One daemon for all of it: it takes seconds to start.
#[tokio::test]
async fn the_real_libvirtd() {
    let Some(daemon) = Libvirtd::start().await else { return };
    let refused = daemon.open("pen").await.unwrap_err();
    assert_eq!(refused.remote().unwrap().code, protocol::ErrorCode::AUTH_FAILED);
    let connect = daemon.open("pencil").await.unwrap();
    assert_eq!(connect.hypervisor().await.unwrap(), "QEMU");
    a_guest(&connect).await;
    a_volume(&connect, &daemon.dir).await;
    through_a_program(&daemon).await;
    connect.close().await.unwrap();
}

/// A guest whose firmware speaks on its serial console.
async fn a_guest(connect: &Connect) {
    let xml = "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>
        <os><type arch='x86_64'>hvm</type><bios useserial='yes'/></os><devices><serial type='pty'/></devices></domain>";
    let domain = connect.define_domain(xml, DomainDefineFlags::empty()).await.unwrap();
    let mut events = domain.lifecycle_events().await.unwrap();
    domain.start(DomainCreateFlags::PAUSED).await.unwrap();
    let console = domain.console(None, DomainConsoleFlags::empty()).await.unwrap();
    domain.resume().await.unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("SeaBIOS") {
        match console.recv().await.unwrap() {
            Some(Chunk::Data(bytes)) => said.extend(bytes),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    console.abort().await.unwrap();
    let wanted = DomainStatsTypes::STATE | DomainStatsTypes::VCPU | DomainStatsTypes::CPU_TOTAL;
    let figures =
        connect.domain_stats(std::slice::from_ref(&domain), wanted, DomainStatsFlags::empty()).await.unwrap();
    assert_eq!((figures[0].vcpus.len(), figures[0].state.state), (1, Some(1)));
    assert!(figures[0].cpu.time.unwrap() > 0);
    domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&Lifecycle::Stopped) {
        seen.push(events.next().await.unwrap().what);
    }
    assert!(seen.contains(&Lifecycle::Started) && seen.contains(&Lifecycle::Resumed), "{seen:?}");
    domain.undefine(DomainUndefineFlags::empty()).await.unwrap();
}

/// Content up, and down again, with its holes.
async fn a_volume(connect: &Connect, dir: &Path) {
    // The daemon sees its own directory where libvirt has its libraries.
    std::fs::create_dir_all(dir.join("lib/pool")).unwrap();
    let xml = "<pool type='dir'><name>p</name><target><path>/var/lib/libvirt/pool</path></target></pool>";
    let pool = connect.create_storage_pool(xml, StoragePoolCreateFlags::empty()).await.unwrap();
    let xml = "<volume><name>v</name><capacity>3145728</capacity><allocation>0</allocation></volume>";
    let volume = pool.create_volume(xml, StorageVolCreateFlags::empty()).await.unwrap();
    let content: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
    let mut up = volume.upload(1 << 20, 1 << 20, StorageVolUploadFlags::empty()).await.unwrap().into_io();
    up.write_all(&content).await.unwrap();
    up.shutdown().await.unwrap();

    let sparse = volume.download(0, 0, StorageVolDownloadFlags::SPARSE_STREAM).await.unwrap();
    let (mut holes, mut data) = (0, Vec::new());
    while let Some(chunk) = sparse.recv().await.unwrap() {
        match chunk {
            Chunk::Data(bytes) => data.extend(bytes),
            Chunk::Hole(length) => holes += length,
        }
    }
    sparse.finish().await.unwrap();
    assert!(data == content && holes == 2 << 20, "{} bytes and {holes} of holes", data.len());
    let mut whole = Vec::new();
    let down = volume.download(0, 0, StorageVolDownloadFlags::empty()).await.unwrap();
    down.into_io().read_to_end(&mut whole).await.unwrap();
    assert_eq!(whole.len(), 3 << 20);
    assert!(whole[1 << 20..2 << 20] == content && whole[..1 << 20].iter().all(|byte| *byte == 0));
    example(connect, dir, &content).await;
    volume.delete(StorageVolDeleteFlags::empty()).await.unwrap();
    pool.destroy().await.unwrap();
}

/// The example that copies a volume, with its login from a file.
async fn example(connect: &Connect, dir: &Path, content: &[u8]) {
    let login = "[credentials-a]\nauthname=anna\npassword=pencil\n[auth-libvirt-localhost]\ncredentials=a\n";
    std::fs::write(dir.join("auth.conf"), login).unwrap();
    let copy = dir.join("copy");
    let mut command = Command::new(built("download"));
    command.arg(connect.uri()).arg("/var/lib/libvirt/pool/v").arg(&copy);
    command.env("LIBVIRT_AUTH_FILE", dir.join("auth.conf"));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let copied = std::fs::read(copy).unwrap();
    assert!(copied.len() == 3 << 20 && copied[1 << 20..2 << 20] == *content, "{} bytes", copied.len());
}

/// libvirt's own helper, as `ssh` would run it.
async fn through_a_program(daemon: &Libvirtd) {
    if Command::new("virt-ssh-helper").arg("--version").output().is_err() {
        return virtwire_skip::without_program("no virt-ssh-helper");
    }
    let helper = daemon.dir.join("helper");
    let socket = daemon.socket("libvirt-sock-ro");
    let text = format!("#!/bin/sh\nexec virt-ssh-helper -r 'qemu:///system?socket={socket}'\n");
    std::fs::write(&helper, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&helper, mode).unwrap();
    let connect = Connect::open(&format!("qemu+ext:///system?command={}", helper.display())).await.unwrap();
    assert_eq!(connect.hypervisor().await.unwrap(), "QEMU");
    connect.close().await.unwrap();
}
